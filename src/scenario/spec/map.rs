//! The parts of a scenario whose keys come from other tables: storage and arms (volume options), workload (writers), steps
//! (control commands).
//!
//! Must not know: how any of them is run. Invariant: a table that grows makes these grow with it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::WaitFor;
use crate::control::Command;
use crate::scenario::options::{OneOf, OptionList, take_option, with_volume_options};
use crate::scenario::text::{SizeText, TimeText};
use crate::settings::{Scalar, Settings};
use crate::workload::WriterKind;

/// What the workload runs on.
#[derive(Debug, Clone, PartialEq)]
pub enum Storage {
    /// A fresh directory on a volume.
    Directory {
        /// Volume options.
        settings: Settings,
    },
    /// A fresh disk on a volume, with a file system.
    Disk {
        /// The file system: `xfs` or `ext4`.
        filesystem: Filesystem,
        /// The disk's size.
        size: SizeText,
        /// Volume options.
        settings: Settings,
    },
    /// A volume that runs already; it is released, but neither made nor ended.
    Attach {
        /// Its mount point (of the volume, or of the disk on it).
        path: PathBuf,
    },
}

/// The file systems that a disk can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Filesystem {
    /// XFS.
    Xfs,
    /// ext4.
    Ext4,
}

impl Filesystem {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xfs => "xfs",
            Self::Ext4 => "ext4",
        }
    }
}

/// A variant of the storage.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Arm {
    /// So much space is provisioned beforehand, with injection off.
    pub warm: Option<SizeText>,
    /// Volume options over those of the storage.
    pub settings: Settings,
}

/// The arms by name, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Arms(pub Vec<(String, Arm)>);

impl Default for Arms {
    fn default() -> Self {
        Self(vec![("main".to_owned(), Arm::default())])
    }
}

/// A writer or a command that runs on the storage.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Its name in figures and in the result.
    pub name: String,
    /// When it begins.
    pub at: TimeText,
    /// It stands still when a stun freezes: it runs in a control group that the run makes and the volume freezes.
    pub frozen: bool,
    /// What runs.
    pub work: Work,
}

/// What runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// `stunfs write KIND` with these options.
    Writer(WriterKind, OptionList),
    /// A command; `{}` stands for the storage's path.
    Run(Vec<String>),
}

/// Something that is done at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Not before this time since the arm's workload began; none: right after the step before it.
    pub at: Option<TimeText>,
    /// What it is called in the result.
    pub name: Option<String>,
    /// What is done.
    pub action: Action,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A command to the volume.
    Command(Command),
    /// A program, which the step does not wait for beyond its end; `{}` stands for the storage's path.
    Run(Vec<String>),
    /// Nothing, until a figure is as it says.
    Wait(WaitFor),
}

impl Action {
    /// In words.
    pub fn text(&self) -> String {
        match self {
            Self::Command(command) => {
                let (name, options) = command.write();
                let options = options.iter().map(|(key, value)| format!(" {key}={}", plain(value)));
                name + &options.collect::<String>()
            }
            Self::Run(words) => format!("run {}", words.join(" ")),
            Self::Wait(wait) => format!("wait until {} is {}", wait.probe, wait.bounds()),
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

// ---- reading -------------------------------------------------------------------------------------------------------------

/// Deserializes a map with a visitor that is a function.
macro_rules! from_map {
    ($type:ty, $expecting:literal, $read:path) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                struct MapVisitor;
                impl<'de> Visitor<'de> for MapVisitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$type, A::Error> {
                        $read(map)
                    }
                }
                source.deserialize_map(MapVisitor)
            }
        }
    };
}
from_map!(Storage, "a map such as {kind: directory, profile: vmware-thin}", read_storage);
from_map!(Arm, "a map of volume options such as {thick: true}", read_arm);
from_map!(Arms, "a map of arms such as {thin: {}, thick: {thick: true}}", read_arms);
from_map!(Workload, "a map such as {name: fluentd, fluentd: {rate: 100/s}}", read_workload);
from_map!(Step, "a map such as {at: 30s, stun: {for: 60s}}", read_step);

/// Keys that have been read, so that none is there twice.
#[derive(Default)]
struct Seen(BTreeSet<&'static str>);

impl Seen {
    fn next<'de, A: MapAccess<'de>>(
        &mut self,
        map: &mut A,
        known: &[&'static str],
    ) -> Result<Option<&'static str>, A::Error> {
        let key = map.next_key_seed(OneOf(known))?;
        match key {
            Some(key) if !self.0.insert(key) => Err(A::Error::custom(format!("'{key}' is there twice"))),
            key => Ok(key),
        }
    }
}

fn read_storage<'de, A: MapAccess<'de>>(mut map: A) -> Result<Storage, A::Error> {
    let known = with_volume_options(&["kind", "filesystem", "size", "path"]);
    let (mut kind, mut filesystem, mut size, mut path) = (None::<String>, None, None, None);
    let (mut settings, mut seen) = (Settings::new(), Seen::default());
    while let Some(key) = seen.next(&mut map, &known)? {
        match key {
            "kind" => kind = Some(map.next_value()?),
            "filesystem" => filesystem = Some(map.next_value()?),
            "size" => size = Some(map.next_value()?),
            "path" => path = Some(map.next_value()?),
            option => take_option(&mut settings, option, &mut map)?,
        }
    }
    let of_disk = filesystem.is_some() || size.is_some();
    let refuse = |text: &str| Err(A::Error::custom(text));
    match (kind.as_deref(), path) {
        (None, _) => refuse("has no kind; write directory, disk or attach"),
        (Some("attach"), Some(path)) if !of_disk && settings.is_empty() => Ok(Storage::Attach { path }),
        (Some("attach"), None) => refuse("attach needs path, the mount point of the running volume"),
        (Some("attach"), Some(_)) => refuse("attach takes only path: the volume has its options already"),
        (Some(_), Some(_)) => refuse("path goes with kind: attach only"),
        (Some("disk"), None) => {
            let filesystem = filesystem.unwrap_or(Filesystem::Xfs);
            Ok(Storage::Disk { filesystem, size: size.unwrap_or(SizeText(crate::units::Bytes::gib(10))), settings })
        }
        (Some("directory"), None) if of_disk => refuse("filesystem and size go with kind: disk only"),
        (Some("directory"), None) => Ok(Storage::Directory { settings }),
        (Some(other), None) => {
            let other: String = other.chars().filter(|c| !c.is_control()).take(60).collect();
            Err(A::Error::custom(format!("'{other}' is no kind of storage; write directory, disk or attach")))
        }
    }
}

fn read_arm<'de, A: MapAccess<'de>>(mut map: A) -> Result<Arm, A::Error> {
    let known = with_volume_options(&["warm"]);
    let (mut arm, mut seen) = (Arm::default(), Seen::default());
    while let Some(key) = seen.next(&mut map, &known)? {
        match key {
            "warm" => arm.warm = Some(map.next_value()?),
            option => take_option(&mut arm.settings, option, &mut map)?,
        }
    }
    Ok(arm)
}

fn read_arms<'de, A: MapAccess<'de>>(mut map: A) -> Result<Arms, A::Error> {
    let mut arms: Vec<(String, Arm)> = Vec::new();
    while let Some(name) = map.next_key::<String>()? {
        if arms.iter().any(|(known, _)| *known == name) {
            return Err(A::Error::custom(format!("'{}' is there twice", name.escape_debug())));
        }
        arms.push((name, map.next_value()?));
    }
    if arms.is_empty() {
        Err(A::Error::custom("has no arm; leave 'arms' out for one arm 'main'"))
    } else {
        Ok(Arms(arms))
    }
}

fn read_workload<'de, A: MapAccess<'de>>(mut map: A) -> Result<Workload, A::Error> {
    let known: Vec<_> =
        ["name", "at", "frozen", "run"].into_iter().chain(WriterKind::ALL.map(WriterKind::name)).collect();
    let (mut name, mut at, mut frozen, mut work, mut seen) = (None, TimeText::default(), false, None, Seen::default());
    while let Some(key) = seen.next(&mut map, &known)? {
        let found = match key {
            "name" => {
                name = Some(map.next_value()?);
                continue;
            }
            "at" => {
                at = map.next_value()?;
                continue;
            }
            "frozen" => {
                frozen = map.next_value()?;
                continue;
            }
            "run" => Work::Run(map.next_value()?),
            writer => {
                let kind = WriterKind::ALL.into_iter().find(|kind| kind.name() == writer);
                let kind = kind.ok_or_else(|| A::Error::custom(format!("no writer is called '{writer}'")))?;
                Work::Writer(kind, map.next_value()?)
            }
        };
        if work.replace(found).is_some() {
            return Err(A::Error::custom(format!("'{key}' is a second thing to run; one entry runs one thing")));
        }
    }
    let nothing = || A::Error::custom("has nothing to run; write a writer such as fluentd: {}, or run: [COMMAND]");
    let work = work.ok_or_else(nothing)?;
    Ok(Workload { name: name.ok_or_else(|| A::Error::missing_field("name"))?, at, frozen, work })
}

fn read_step<'de, A: MapAccess<'de>>(mut map: A) -> Result<Step, A::Error> {
    let known: Vec<_> = ["at", "name", "run", "wait"].into_iter().chain(Command::NAMES).collect();
    let (mut at, mut name, mut action, mut seen) = (None, None, None, Seen::default());
    while let Some(key) = seen.next(&mut map, &known)? {
        let found = match key {
            "at" => {
                at = Some(map.next_value()?);
                continue;
            }
            "name" => {
                name = Some(map.next_value()?);
                continue;
            }
            "run" => Action::Run(map.next_value()?),
            "wait" => Action::Wait(map.next_value()?),
            command => {
                let options: Option<Map<String, Value>> = map.next_value()?;
                let read = Command::read(command, options.unwrap_or_default());
                Action::Command(read.map_err(|error| A::Error::custom(format!("{command}: {error}")))?)
            }
        };
        if action.replace(found).is_some() {
            return Err(A::Error::custom(format!("'{key}' is a second thing to do; one step does one thing")));
        }
    }
    let nothing = || A::Error::custom("does nothing; write a command such as stun: {for: 30s}, or run, or wait");
    Ok(Step { at, name, action: action.ok_or_else(nothing)? })
}

// ---- writing -------------------------------------------------------------------------------------------------------------

fn put_settings<M: SerializeMap>(map: &mut M, settings: &Settings) -> Result<(), M::Error> {
    let options: std::collections::BTreeMap<String, Scalar> = settings.clone().into();
    options.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))
}

impl Serialize for Storage {
    fn serialize<S: Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
        let mut map = target.serialize_map(None)?;
        match self {
            Self::Directory { settings } => {
                map.serialize_entry("kind", "directory")?;
                put_settings(&mut map, settings)?;
            }
            Self::Disk { filesystem, size, settings } => {
                map.serialize_entry("kind", "disk")?;
                map.serialize_entry("filesystem", filesystem)?;
                map.serialize_entry("size", size)?;
                put_settings(&mut map, settings)?;
            }
            Self::Attach { path } => {
                map.serialize_entry("kind", "attach")?;
                map.serialize_entry("path", path)?;
            }
        }
        map.end()
    }
}

impl Serialize for Arm {
    fn serialize<S: Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
        let mut map = target.serialize_map(None)?;
        self.warm.iter().try_for_each(|warm| map.serialize_entry("warm", warm))?;
        put_settings(&mut map, &self.settings)?;
        map.end()
    }
}

impl Serialize for Arms {
    fn serialize<S: Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
        target.collect_map(self.0.iter().map(|(name, arm)| (name, arm)))
    }
}

impl Serialize for Workload {
    fn serialize<S: Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
        let mut map = target.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("at", &self.at)?;
        if self.frozen {
            map.serialize_entry("frozen", &true)?;
        }
        match &self.work {
            Work::Writer(kind, options) => map.serialize_entry(kind.name(), options)?,
            Work::Run(words) => map.serialize_entry("run", words)?,
        }
        map.end()
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
        let mut map = target.serialize_map(None)?;
        self.at.iter().try_for_each(|at| map.serialize_entry("at", at))?;
        self.name.iter().try_for_each(|name| map.serialize_entry("name", name))?;
        match &self.action {
            Action::Command(command) => {
                let (name, options) = command.write();
                map.serialize_entry(&name, &options)?;
            }
            Action::Run(words) => map.serialize_entry("run", words)?,
            Action::Wait(wait) => map.serialize_entry("wait", wait)?,
        }
        map.end()
    }
}

// ---- schema --------------------------------------------------------------------------------------------------------------

macro_rules! schema_of {
    ($type:ty, $name:literal, |$generator:ident| $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

schema_of!(Storage, "Storage", |generator| {
    let mut schema = super::plain_values(&json!({
        "kind": {"enum": ["directory", "disk", "attach"]},
        "filesystem": generator.subschema_for::<Filesystem>(),
        "size": generator.subschema_for::<SizeText>(),
        "path": {"type": "string", "description": "With attach: the mount point of the running volume"},
    }));
    schema.insert("required".to_owned(), json!(["kind"]));
    schema
});
schema_of!(Arm, "Arm", |generator| super::plain_values(&json!({"warm": generator.subschema_for::<SizeText>()})));
schema_of!(Arms, "Arms", |generator| {
    let arm = generator.subschema_for::<Arm>();
    json_schema!({"type": "object", "additionalProperties": arm, "minProperties": 1})
});
schema_of!(Workload, "Workload", |generator| {
    let mut properties = Map::from_iter([
        ("name".to_owned(), json!({"type": "string"})),
        ("at".to_owned(), json!(generator.subschema_for::<TimeText>())),
        ("frozen".to_owned(), json!({"type": "boolean"})),
        ("run".to_owned(), words()),
    ]);
    for kind in WriterKind::ALL {
        let text = format!("Options of 'stunfs write {kind}', without --");
        properties.insert(kind.name().to_owned(), json!({"type": ["object", "null"], "description": text}));
    }
    let one = one_of(std::iter::once("run").chain(WriterKind::ALL.map(WriterKind::name)));
    json_schema!({
        "type": "object", "properties": properties, "required": ["name"], "additionalProperties": false, "oneOf": one,
    })
});
schema_of!(Step, "Step", |generator| {
    let mut properties = Map::from_iter([
        ("at".to_owned(), json!(generator.subschema_for::<TimeText>())),
        ("name".to_owned(), json!({"type": "string"})),
        ("run".to_owned(), words()),
        ("wait".to_owned(), json!(generator.subschema_for::<WaitFor>())),
    ]);
    for name in Command::NAMES {
        let text = format!("The control command '{name}' with its options");
        properties.insert(name.to_owned(), json!({"type": ["object", "null"], "description": text}));
    }
    let one = one_of(["run", "wait"].into_iter().chain(Command::NAMES));
    json_schema!({"type": "object", "properties": properties, "additionalProperties": false, "oneOf": one})
});

fn words() -> Value {
    json!({"type": "array", "items": {"type": "string"}, "minItems": 1})
}

fn one_of(keys: impl Iterator<Item = &'static str>) -> Value {
    keys.map(|key| json!({"required": [key]})).collect()
}
