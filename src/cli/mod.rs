//! The command line: one file per sub-command; arguments become options, a room does the work, an exit code comes out.
//!
//! Must not know: how a volume works. Invariant: nothing but results goes to standard output, and every error is one
//! line on standard error that begins with `stunfs: `.

mod ctl;
mod daemon;
mod disk;
mod doctor;
mod exit;
mod explain;
mod generate;
mod helper;
mod mount;
mod notify;
mod observe;
mod output;
mod profiles;
mod report;
mod run;
mod scenario;
mod signals;
mod status;
mod suggest;
mod summary;
mod test;
mod volume_args;
mod write;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// What `stunfs --help` says first.
const ABOUT: &str = "\
A file system that imitates thin-provisioned storage.

On a thin disk the first write to each new block waits: space has to be found, metadata
updated, the block zeroed. In a burst of new data that is not milliseconds but many
seconds, and what runs on top breaks in ways that no test covers. stunfs makes a directory
behave like that: first writes wait as a real pool's do, rewrites and reads do not. Pools
can run full, and the whole volume can be stunned, as hypervisors do.

Latencies, pool, stuns and seed are options, or come with a profile of real storage.";

const EXAMPLES: &str = "\
Examples:
  stunfs run --first-write 20ms -- dd if=/dev/zero of={}/new bs=1M count=64
  stunfs run --profile vmware-thin -- sh -c 'tar cf $STUNFS_MOUNT/etc.tar /etc'
  stunfs mount /srv/data /mnt/thin --profile incident --pool 10GiB --daemon
  stunfs disk up /srv/thin --size 500GiB --mount /mnt/disk --profile vmware-thin
  stunfs ctl /mnt/thin status     # which operations are held, and until when
  stunfs ctl /mnt/thin stun 30s   # everything on the volume stops for 30 s
  stunfs profiles                 # the storage that can be imitated
  stunfs doctor                   # can this machine run it, and how to mend it";

#[derive(Debug, Parser)]
#[command(name = "stunfs", version, about = "Imitates thin-provisioned storage", long_about = ABOUT)]
#[command(after_help = EXAMPLES, disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Mount a directory as a volume, until it is unmounted or signalled
    Mount(mount::MountArgs),
    /// Mount, run a command on the volume, unmount; the command's exit code
    Run(run::RunArgs),
    /// Thin disks: an image on a volume, a loop device, a file system
    Disk(disk::DiskArgs),
    /// Run a writer or reader in a directory, and show what it suffers
    Write(write::WriteArgs),
    /// Watch which tasks wait for storage, and behind whom
    Observe(observe::ObserveArgs),
    /// Run scenarios, each to a verdict
    Test(test::TestArgs),
    /// The page of a result folder, or of two compared
    Report(report::ReportArgs),
    /// A kernel log in words, and as a scenario that replays it
    Explain(explain::ExplainArgs),
    /// The scenarios that are built in; is a file right; its schema
    Scenario(scenario::ScenarioArgs),
    /// Talk to a running volume
    Ctl(ctl::CtlArgs),
    /// List the built-in profiles, or show one with its sources
    Profiles(profiles::ProfilesArgs),
    /// Check whether this machine can run stunfs, and say how to mend it
    Doctor(doctor::DoctorArgs),
    /// What mount(8) calls
    #[command(hide = true, disable_help_flag = true)]
    MountHelper {
        /// As mount(8) passes them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Print a shell's completions
    #[command(hide = true)]
    Completions(generate::CompletionsArgs),
    /// Write the man pages
    #[command(hide = true)]
    Man(generate::ManArgs),
}

/// The whole command line as clap knows it.
fn command() -> clap::Command {
    Cli::command().mut_subcommand("ctl", ctl::with_place)
}

/// Does what `argv` asks for; the exit code.
pub(crate) fn main(argv: Vec<OsString>) -> u8 {
    output::start_log();
    if let Err(error) = signals::start_afresh() {
        return exit::finish(Err(error));
    }
    let outcome = match helper::called_by_mount(&argv) {
        Some(call) => helper::run(call),
        None => parse(argv).and_then(dispatch),
    };
    exit::finish(outcome)
}

fn parse(argv: Vec<OsString>) -> anyhow::Result<Cli> {
    let matches = command().try_get_matches_from(volume_args::join_negative_values(argv))?;
    Ok(Cli::from_arg_matches(&matches)?)
}

fn dispatch(cli: Cli) -> anyhow::Result<u8> {
    match cli.command {
        CliCommand::Mount(args) => mount::run(&args),
        CliCommand::Run(args) => run::run(&args),
        CliCommand::Disk(args) => disk::run(&args),
        CliCommand::Write(args) => write::run(&args),
        CliCommand::Observe(args) => observe::run(&args),
        CliCommand::Test(args) => test::run(&args),
        CliCommand::Report(args) => report::run(&args),
        CliCommand::Explain(args) => explain::run(&args),
        CliCommand::Scenario(args) => scenario::run(&args),
        CliCommand::Ctl(args) => ctl::run(&args),
        CliCommand::Profiles(args) => profiles::run(&args),
        CliCommand::Doctor(args) => doctor::run(&args),
        CliCommand::MountHelper { args } => helper::run(helper::MountCall::by_mount(args)),
        CliCommand::Completions(args) => generate::completions(&args),
        CliCommand::Man(args) => generate::man(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All commands, and those below them.
    fn all(command: &clap::Command) -> Vec<&clap::Command> {
        std::iter::once(command).chain(command.get_subcommands().flat_map(all)).collect()
    }

    /// Lines such as `stunfs ctl /mnt/thin status    which operations are held` were no commands.
    #[test]
    fn regression_the_examples_in_help_and_man_pages_can_be_pasted() {
        let command = command();
        let texts = all(&command).into_iter().filter_map(|command| command.get_after_help()).map(ToString::to_string);
        let lines: Vec<String> = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        let examples: Vec<_> = lines.iter().filter(|line| line.starts_with("  stunfs ")).collect();
        assert!(examples.len() > 10, "{examples:?}");
        for example in examples {
            let words = example.split(" #").next().unwrap_or_default().split_whitespace().map(OsString::from);
            assert!(parse(words.collect()).is_ok(), "{example}");
        }
    }

    /// Commands within a sentence or a table, such as README's recipes. Words in capitals stand for a value.
    #[test]
    fn commands_in_the_sentences_of_readme_and_docs_are_understood() {
        const DOCS: [&str; 5] = [
            include_str!("../../README.md"),
            include_str!("../../docs/control.md"),
            include_str!("../../docs/disk.md"),
            include_str!("../../docs/freezing.md"),
            include_str!("../../docs/writers.md"),
        ];
        let spans = DOCS.iter().flat_map(|text| text.lines()).flat_map(|line| line.split('`').skip(1).step_by(2));
        let is_whole = |span: &&str| !span.contains("...") && !span.contains('|') && !span.contains("CMD");
        let words =
            |text: &str| text.split_whitespace().map(|word| word.replace('\'', "").into()).collect::<Vec<OsString>>();
        let commands = spans.clone().filter(|span| span.starts_with("stunfs ") && span.contains(" /")).filter(is_whole);
        let options = DOCS[0].lines().filter(|line| line.starts_with("| ") && line.contains("| `--"));
        let options = options.flat_map(|line| line.split('`').skip(1).step_by(2)).filter(|span| span.starts_with("--"));
        let options = options.map(|span| format!("stunfs mount /b /m {}", span.replace(" ADDR", " :9464")));
        let all: Vec<String> = commands.map(str::to_owned).chain(options).collect();
        assert!(all.len() > 15, "{all:?}");
        for command in all {
            assert!(parse(words(&command)).is_ok(), "{command}");
        }
    }

    #[test]
    fn values_are_completed() {
        let command = command();
        let values = |path: &[&str], argument: &str| -> Vec<String> {
            let found = path.iter().fold(&command, |command, name| command.find_subcommand(name).unwrap());
            let argument = found.get_arguments().find(|it| it.get_id() == argument).unwrap();
            argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()
        };
        assert!(values(&["mount"], "profile").contains(&"vmware-thin".to_owned()));
        assert_eq!(values(&["run"], "on-full"), ["enospc", "stun", "queue:60s"]);
        assert_eq!(values(&["disk", "up"], "cache"), ["through", "back", "direct"]);
        assert!(values(&["write"], "kind").contains(&"kubelet".to_owned()));
        assert!(values(&["profiles"], "name").contains(&"incident".to_owned()));
        // They are suggestions: a file is a profile, too, and the settings say what is wrong with a value.
        let parsed = parse(["stunfs", "mount", "/b", "/m", "--on-full", "queue:5s"].map(OsString::from).to_vec());
        assert!(parsed.is_ok());
    }
}
