//! The volume options as clap arguments, made from the one table of names.
//!
//! Must not know: what an option means; its value is read by the settings. Invariant: every row of the table is an
//! argument, and every argument a row.

use std::time::Duration;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use rustix::process::{getpid, getppid};
use stunfs::internal::control::default_socket;
use stunfs::internal::model::{Latency, ModelConfig};
use stunfs::internal::profiles;
use stunfs::internal::settings::{Env, OPTIONS, Opt, OptionSpec, Settings, ValueKind, parse_mount_options};
use stunfs::internal::time::wall_now;
use stunfs::internal::volume::VolumeOptions;

use super::suggest::Suggested;

/// Every volume option that was given; `-o` lists first, the others over them.
#[derive(Debug, Clone, Default)]
pub(crate) struct VolumeArgs {
    pub(crate) settings: Settings,
}

impl Args for VolumeArgs {
    fn augment_args(command: Command) -> Command {
        let list = Arg::new("options")
            .short('o')
            .value_name("LIST")
            .action(ArgAction::Append)
            .help("Volume options as mount(8) takes them: first_write=20ms,pool=1GiB,ro")
            .help_heading(stunfs::internal::settings::Group::Mount.heading());
        OPTIONS.iter().fold(command, |command, spec| command.arg(argument(spec))).arg(list)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(spec: &OptionSpec) -> Arg {
    let argument = Arg::new(spec.name).long(spec.name).help(spec.help).help_heading(spec.group.heading());
    let argument = match words(spec) {
        Some(words) => argument.value_parser(words).hide_possible_values(true),
        None => argument,
    };
    match spec.kind {
        ValueKind::One => argument.value_name(spec.value).action(ArgAction::Set),
        ValueKind::Many => argument.value_name(spec.value).action(ArgAction::Append),
        ValueKind::Flag => {
            argument.value_name("off").num_args(0..=1).require_equals(true).default_missing_value("true")
        }
    }
}

/// The words that a shell completes: the table's, if it lists them all as the value (`op|volume`), or the profiles' names.
fn words(spec: &OptionSpec) -> Option<Suggested> {
    if spec.option == Opt::Profile {
        return Some(Suggested::new(profiles::names()));
    }
    let lists_words = spec.value.contains('|') && !spec.value.contains(|c: char| c.is_ascii_uppercase());
    lists_words.then(|| Suggested::new(spec.value.split('|')))
}

/// `--lanes -1` as `--lanes=-1`: a wrong value of `lanes`, where clap would see an option `-1`.
pub(crate) fn join_negative_values(argv: Vec<OsString>) -> Vec<OsString> {
    let is_negative = |arg: &OsStr| matches!(arg.as_bytes(), [b'-', digit, ..] if digit.is_ascii_digit());
    let takes_value = |arg: &OsStr| {
        let name = arg.to_str().and_then(|arg| arg.strip_prefix("--"));
        OPTIONS.iter().any(|spec| spec.kind != ValueKind::Flag && Some(spec.name) == name)
    };
    let mut joined: Vec<OsString> = Vec::with_capacity(argv.len());
    let mut words_only = false;
    for arg in argv {
        words_only |= arg == "--";
        match joined.last_mut() {
            Some(option) if !words_only && is_negative(&arg) && takes_value(option) => {
                option.push("=");
                option.push(arg);
            }
            _ => joined.push(arg),
        }
    }
    joined
}

impl FromArgMatches for VolumeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let wrong = |error| clap::Error::raw(clap::error::ErrorKind::ValueValidation, error);
        for list in matches.get_many::<String>("options").into_iter().flatten() {
            let options = parse_mount_options(list).map_err(wrong)?;
            self.settings = self.settings.merge(&options.settings);
        }
        let mut given = Settings::new();
        for spec in &OPTIONS {
            for value in matches.get_many::<String>(spec.name).into_iter().flatten() {
                given.set(spec.name, value).map_err(wrong)?;
            }
        }
        self.settings = self.settings.merge(&given);
        Ok(())
    }
}

/// The options of a volume of `backing` at `mountpoint`. Unless told otherwise it has a control socket where `stunfs ctl`
/// looks for it.
pub(crate) fn resolve(settings: &Settings, backing: &Path, mountpoint: &Path) -> anyhow::Result<VolumeOptions> {
    let seed = fresh_seed();
    let env = Env { backing: backing.into(), mountpoint: mountpoint.into(), seed, profiles: profiles::lookup };
    let mut options = settings.resolve(&env)?;
    if settings.get(Opt::Control).is_none() {
        options.control = Some(default_socket(&options.mountpoint));
    }
    Ok(options)
}

/// A seed that differs from run to run: the time and the processes, mixed (SplitMix64's finisher). A user who wants
/// the same run again passes the seed that was printed.
fn fresh_seed() -> u64 {
    let now = wall_now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let processes =
        (u64::from(getpid().as_raw_nonzero().get().unsigned_abs()) << 32) | u64::from(parent.unsigned_abs());
    let mut mixed = u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or(0) ^ processes;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // 53 bits: what reads JSON numbers as doubles, such as jq, keeps them.
    (mixed ^ (mixed >> 31)) >> 11
}

/// A line for users who asked for no injection at all, most likely without meaning to.
pub(crate) fn hint(model: &ModelConfig) -> Option<&'static str> {
    (model.armed && !model.thick && !injects(model)).then_some(
        "nothing is injected; add --first-write 20ms or --profile vmware-thin ('stunfs profiles' lists them)",
    )
}

fn injects(model: &ModelConfig) -> bool {
    let none = Latency::Constant(Duration::ZERO);
    let waits = model.first_write != none || model.zeroing.is_some();
    waits || model.first_read.is_some() || model.pool.is_some() || !model.stuns.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// jq cut the printed seed, and the run could not be repeated with what it showed.
    #[test]
    fn regression_a_fresh_seed_survives_programs_that_read_numbers_as_doubles() {
        assert!((0..1000).all(|_| fresh_seed() < 1 << 53));
        assert_ne!(fresh_seed(), fresh_seed());
    }
}
