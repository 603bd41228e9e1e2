//! The commands of a running volume: what can be asked of it, as one type.
//!
//! The command line builds a [`Command`], the control socket carries it, a volume takes it. A new command is a variant
//! with its name in [`Command::NAMES`] here, a handler in the volume, and a row of help in the command line.
//!
//! Must not know: HTTP, sockets, clap, how a volume works. Invariant: the text form of a command (`{"stun":{"for":"30s"}}`;
//! over the socket the name is in the path) reads back as the same command.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::protocol::{
    ArmReply, ControlRefusal, DiscardReply, GrowReply, ReleaseReply, ResumeReply, StatusReply, StopReply, StunReply,
    WaitHeldReply,
};
use crate::units::{Bytes, parse_duration};

/// How many held operations `status` lists unless the command says otherwise.
const HELD_SHOWN: usize = 100;
/// The most held operations that `status` lists.
const HELD_SHOWN_MAX: usize = 100_000;
/// How long a stun waits for operations that began before it, unless the command says otherwise.
pub const SETTLE: Duration = Duration::from_secs(5);
/// How long `wait-held` waits unless the command says otherwise.
pub const WAIT_HELD: Duration = Duration::from_secs(30);

/// A command to a running volume. Each is answered after its effect.
///
/// The variants without options have braces so that every command is written the same way: `{"arm":{}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Tells what the volume is and does now, and which operations it holds.
    Status {
        /// The most held operations that the answer lists, the oldest first.
        #[serde(default = "held_shown", deserialize_with = "read_limit")]
        limit: usize,
    },
    /// Changes volume options. Either all of the changes hold, or none.
    Set(OptionChanges),
    /// Switches injection on.
    Arm {},
    /// Switches injection off. Held operations stay held until their time.
    Disarm {},
    /// Stuns the volume: every operation on it is held.
    Stun {
        /// How long. `None`: until `resume`, or as long as the longest hold allows.
        #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
        #[serde(serialize_with = "write_optional_time", deserialize_with = "read_stun_time")]
        duration: Option<Duration>,
        /// How long the answer waits for operations that began before the stun.
        #[serde(default = "settle", skip_serializing_if = "is_settle")]
        #[serde(serialize_with = "write_time", deserialize_with = "read_settle")]
        settle: Duration,
    },
    /// Ends the stun.
    Resume {},
    /// Ends all injection and lets every held operation go.
    Release {},
    /// Hands grains that no file uses back to the pool.
    Discard {},
    /// Gives the pool a new size.
    Grow {
        /// The new size.
        #[serde(serialize_with = "write_size", deserialize_with = "read_pool")]
        pool: Bytes,
    },
    /// Waits until the volume holds at least `count` operations.
    WaitHeld {
        /// The number of held operations to wait for.
        count: u64,
        /// How long the command waits at most.
        #[serde(default = "wait_held", skip_serializing_if = "is_wait_held")]
        #[serde(serialize_with = "write_time", deserialize_with = "read_within")]
        within: Duration,
    },
    /// Ends the volume cleanly. The answer comes when the end has begun.
    Stop {},
}

/// What a volume answers. Its JSON is the body of the reply over the control socket.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each is the answer to the command of that name")]
pub enum Reply {
    Status(Box<StatusReply>),
    /// The configuration that holds now.
    Set(Value),
    /// The answer to `arm` and `disarm`.
    Arm(ArmReply),
    Stun(StunReply),
    Resume(ResumeReply),
    Release(ReleaseReply),
    Discard(DiscardReply),
    Grow(GrowReply),
    WaitHeld(WaitHeldReply),
    Stop(StopReply),
}

impl Command {
    /// The names of all commands, in the order of the variants.
    pub const NAMES: [&str; 11] =
        ["status", "set", "arm", "disarm", "stun", "resume", "release", "discard", "grow", "wait-held", "stop"];

    /// The stun that the command line asks for without options.
    pub const fn stun(duration: Option<Duration>) -> Self {
        Self::Stun { duration, settle: SETTLE }
    }

    /// The command `name` with `options`.
    ///
    /// # Errors
    /// [`ControlRefusal::Invalid`] if there is no such command, or if an option is unknown or cannot be used.
    pub fn read(name: &str, options: Map<String, Value>) -> Result<Self, ControlRefusal> {
        let command = Map::from_iter([(name.to_owned(), Value::Object(options))]);
        serde_json::from_value(Value::Object(command)).map_err(|error| ControlRefusal::Invalid(error.to_string()))
    }

    /// The command's name and its options: the inverse of [`Command::read`].
    pub fn write(&self) -> (String, Map<String, Value>) {
        // Every variant is a map from its name to a map of its options; a test walks them all.
        let Ok(Value::Object(command)) = serde_json::to_value(self) else { return Default::default() };
        match command.into_iter().next() {
            Some((name, Value::Object(options))) => (name, options),
            other => (other.unwrap_or_default().0, Map::new()),
        }
    }

    /// Whether the answer may take as long as the volume likes: it comes when the last operation concerned is out.
    pub const fn may_wait(&self) -> bool {
        match self {
            Self::Stun { .. }
            | Self::Resume {}
            | Self::Release {}
            | Self::Disarm {}
            | Self::Grow { .. }
            | Self::Set(_)
            | Self::WaitHeld { .. } => true,
            Self::Status { .. } | Self::Arm {} | Self::Discard {} | Self::Stop {} => false,
        }
    }
}

/// Volume options to change: names as on the command line, with `_`, and their values. At least one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct OptionChanges(Map<String, Value>);

impl OptionChanges {
    /// The changes by option name, with `_`.
    pub fn into_inner(self) -> Map<String, Value> {
        self.0
    }
}

/// Why options cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionChangesError {
    /// There are none.
    #[error("nothing to set; send an object of options such as {{\"first_write\":\"20ms\"}}")]
    Empty,
    /// One option has two values.
    #[error("option '{0}' is given twice")]
    Twice(String),
}

impl TryFrom<Map<String, Value>> for OptionChanges {
    type Error = OptionChangesError;

    /// Takes option names in any of the forms `first-write`, `first_write` and `--first-write`.
    fn try_from(changes: Map<String, Value>) -> Result<Self, OptionChangesError> {
        if changes.is_empty() {
            return Err(OptionChangesError::Empty);
        }
        let mut named = Map::new();
        for (key, value) in changes {
            let name = key.trim_start_matches("--").replace('-', "_");
            if named.insert(name, value).is_some() {
                return Err(OptionChangesError::Twice(key));
            }
        }
        Ok(Self(named))
    }
}

// ---- the text form of options ----

const fn held_shown() -> usize {
    HELD_SHOWN
}

const fn settle() -> Duration {
    SETTLE
}

fn is_settle(settle: &Duration) -> bool {
    *settle == SETTLE
}

const fn wait_held() -> Duration {
    WAIT_HELD
}

fn is_wait_held(within: &Duration) -> bool {
    *within == WAIT_HELD
}

fn read_limit<'de, D: Deserializer<'de>>(source: D) -> Result<usize, D::Error> {
    match usize::deserialize(source)? {
        limit if limit > HELD_SHOWN_MAX => {
            Err(D::Error::custom(format!("limit: {limit} is too many, at most {HELD_SHOWN_MAX}")))
        }
        limit => Ok(limit),
    }
}

fn read_time<'de, D: Deserializer<'de>>(source: D, option: &str) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(source)?).map_err(|error| D::Error::custom(format!("{option}: {error}")))
}

fn read_stun_time<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Duration>, D::Error> {
    match read_time(source, "for")? {
        Duration::ZERO => Err(D::Error::custom("for: a stun of 0 never begins; write a time such as 30s")),
        duration => Ok(Some(duration)),
    }
}

fn read_settle<'de, D: Deserializer<'de>>(source: D) -> Result<Duration, D::Error> {
    read_time(source, "settle")
}

fn read_within<'de, D: Deserializer<'de>>(source: D) -> Result<Duration, D::Error> {
    read_time(source, "within")
}

fn read_pool<'de, D: Deserializer<'de>>(source: D) -> Result<Bytes, D::Error> {
    String::deserialize(source)?.parse().map_err(|error| D::Error::custom(format!("pool: {error}")))
}

fn write_time<S: Serializer>(time: &Duration, target: S) -> Result<S::Ok, S::Error> {
    target.collect_str(&humantime::format_duration(*time))
}

fn write_optional_time<S: Serializer>(time: &Option<Duration>, target: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => write_time(time, target),
        None => target.serialize_none(),
    }
}

fn write_size<S: Serializer>(size: &Bytes, target: S) -> Result<S::Ok, S::Error> {
    target.collect_str(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// One of each; a new variant does not compile until it is here.
    fn all() -> Vec<Command> {
        let changes = OptionChanges::try_from(Map::from_iter([("lanes".into(), json!(4))])).unwrap();
        let seconds = Duration::from_secs;
        vec![
            Command::Status { limit: 7 },
            Command::Set(changes),
            Command::Arm {},
            Command::Disarm {},
            Command::Stun { duration: Some(Duration::from_millis(90_001)), settle: seconds(1) },
            Command::Resume {},
            Command::Release {},
            Command::Discard {},
            Command::Grow { pool: Bytes((20 << 30) + 512) },
            Command::WaitHeld { count: 3, within: seconds(60) },
            Command::Stop {},
        ]
    }

    #[test]
    fn every_command_reads_back_as_it_was_written() {
        let written: Vec<_> = all().iter().map(Command::write).collect();
        assert_eq!(written.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), Command::NAMES);
        for (command, (name, options)) in all().into_iter().zip(written) {
            assert_eq!(Command::read(&name, options), Ok(command));
        }
        let unknown = Command::read("nothing", Map::new()).unwrap_err().to_string();
        let listed: Vec<_> = unknown.split('`').skip(3).step_by(2).collect();
        assert_eq!(listed, Command::NAMES, "serde's own list of the variants");
    }

    #[test]
    fn options_have_defaults() {
        let read = |name| Command::read(name, Map::new()).unwrap();
        assert_eq!(read("stun"), Command::stun(None));
        assert_eq!(read("status"), Command::Status { limit: 100 });
        assert_eq!(Command::stun(None).write().1, Map::new());
    }

    #[test]
    fn a_scenario_step_is_a_command() {
        // YAML files write a variant as a map of one entry only with this adapter.
        let step = |text| serde_norway::with::singleton_map::deserialize(serde_norway::Deserializer::from_str(text));
        assert_eq!(step("stun: {for: 60s}").ok(), Some(Command::stun(Some(Duration::from_secs(60)))));
        assert_eq!(step("arm: {}").ok(), Some(Command::Arm {}));
        assert!(step("stun: {fro: 60s}").unwrap_err().to_string().contains("fro"));
    }
}
