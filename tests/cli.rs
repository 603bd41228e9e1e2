//! What every command of the program promises: help, one line for bad input, exit codes, generated files.
//!
//! Must not know: how anything works inside. Invariant: nothing here mounts anything.

#![expect(clippy::unwrap_used, reason = "a test that cannot do its own part has failed")]

use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

fn stunfs() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stunfs"));
    command.stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    stunfs().args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// One byte more than the kernel's address of a Unix socket holds.
const LONG_PATH: &str =
    "/tmp/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012";

/// Bad input: exit code 2, nothing on standard output, one line that holds every one of `parts`.
fn refused(args: &[&str], parts: &[&str]) {
    refused_by(&run(args), &format!("{args:?}"), parts);
}

fn refused_by(output: &Output, what: &str, parts: &[&str]) {
    let line = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(2), "{what}: {line}");
    assert!(output.stdout.is_empty(), "{what}");
    assert!(line.starts_with("stunfs: ") && line.lines().count() == 1, "{what}: {line}");
    for part in parts {
        assert!(line.contains(part), "{what}: '{part}' is not in: {line}");
    }
}

#[test]
fn help_and_version_are_there_for_every_command() {
    let version = run(&["--version"]);
    assert_eq!(stdout(&version), format!("stunfs {}\n", env!("CARGO_PKG_VERSION")));
    for command in [
        &["--help"][..],
        &["mount", "--help"],
        &["run", "-h"],
        &["ctl", "--help"],
        &["disk", "--help"],
        &["disk", "up", "--help"],
        &["write", "--help"],
        &["profiles", "-h"],
        &["doctor", "-h"],
    ] {
        let output = run(command);
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        assert!(stdout(&output).contains("Usage: stunfs"), "{command:?}");
    }
    // Where the mount point goes, which clap leaves out.
    for (command, usage) in
        [("stun", "stun [OPTIONS] [TIME]"), ("set", "set [OPTIONS] <OPTION=VALUE>..."), ("status", "status [OPTIONS]")]
    {
        let help = stdout(&run(&["ctl", command, "--help"]));
        assert!(help.contains(&format!("Usage: stunfs ctl [MOUNTPOINT] {usage}\n")), "{help}");
    }
    let help = stdout(&run(&["--help"]));
    assert!(help.contains("Examples:") && !help.contains("mount-helper"), "{help}");
}

/// An option, a value that it must refuse, and what the line must say. Every option is among them.
const BAD_VALUES: [(&str, &str, &[&str]); 59] = [
    ("profile", "vmware-thn", &["profile", "'vmware-thn'", "did you mean 'vmware-thin'?"]),
    ("profile", "./no/such.yaml", &["profile ./no/such.yaml", "cannot be read"]),
    ("first-write", "20", &["first-write", "'20' has no unit", "20ms"]),
    ("first-write", "soon", &["first-write", "'soon'", "lognormal:"]),
    ("first-write", "file:/no/such", &["first-write", "/no/such"]),
    ("first-write", "file:/dev/zero", &["first-write", "not a regular file"]),
    ("first-read", "9", &["first-read", "'9' has no unit"]),
    ("zeroing", "200MiB", &["zeroing", "'200MiB'", "200MiB/s"]),
    ("lanes", "0", &["lanes", "'0'", "1 to 65536"]),
    ("grain", "100B", &["grain", "100B", "multiple of 4KiB"]),
    ("scope", "node", &["scope", "'node'", "op, volume"]),
    ("pool", "1", &["pool", "'1' has no unit"]),
    ("pool", "4KiB", &["pool 4KiB is smaller than one grain"]),
    ("virtual-size", "big", &["virtual-size", "'big'", "10GiB"]),
    ("on-full", "wait", &["on-full", "'wait'", "enospc, stun, queue:60s"]),
    ("low-water", "200%", &["low-water", "'200%'", "0% to 100%"]),
    ("discard", "perhaps", &["discard", "'perhaps'", "true or false"]),
    ("fallocate", "yes", &["fallocate", "'yes'", "ignores, provisions"]),
    ("placement", "random", &["placement", "'random'", "packed, direct"]),
    ("stun-every", "x:1s", &["stun-every", "'x:1s'", "1000:30s"]),
    ("stun-chance", "2", &["stun-chance", "'2'", "5%"]),
    ("stun-when", "wait>5:1s", &["stun-when", "'5' has no unit"]),
    ("freeze", "vm:x", &["freeze", "'vm:x'", "cgroup:PATH, docker:NAME, pid:N and qmp:SOCKET"]),
    ("freeze", "pid:none", &["freeze", "'pid:none'", "positive number"]),
    ("freeze", "docker:../x", &["freeze", "'docker:../x'", "letters, digits"]),
    ("guest-console", "unix:", &["guest-console", "not the path of a file"]),
    ("hung-task-timeout", "0.5s", &["hung-task-timeout", "'0.5s'", "whole number of seconds"]),
    ("only", "user=me", &["only", "'user=me'", "path=GLOB, comm=NAME, uid=N, share=PCT"]),
    ("max-hold", "0s", &["max-hold", "'0s'", "10m"]),
    ("ttl", "1", &["ttl", "'1' has no unit"]),
    ("seed", "-3x", &["seed", "'-3x'", "whole number"]),
    ("cache", "none", &["cache", "'none'", "through, back, direct"]),
    ("queue-depth", "70000", &["queue-depth", "'70000'", "1 to 65535"]),
    ("threads", "many", &["threads", "'many'", "1 to 64"]),
    ("low-latency", "on", &["low-latency", "'on'", "auto, off"]),
    ("held-memory", "256", &["held-memory", "'256' has no unit"]),
    ("fsname", "a,b", &["fsname", "'a,b'", "without commas"]),
    ("metrics", "localhost", &["metrics", "'localhost'", "127.0.0.1:9100"]),
    ("state", "", &["state", "''", "path"]),
    ("events", "", &["events", "''", "path"]),
    ("control", "", &["control", "''", "path"]),
    ("control", LONG_PATH, &["control", "too long for a socket", "107 bytes"]),
    ("thick", "very", &["thick", "'very'", "true or false"]),
    ("cold", "2", &["cold", "'2'", "true or false"]),
    ("disarmed", "maybe", &["disarmed", "'maybe'", "true or false"]),
    ("allow-other", "root", &["allow-other", "'root'", "true or false"]),
    ("read-only", "rw", &["read-only", "'rw'", "true or false"]),
    ("kernel-log", "/dev/kmsg", &["kernel-log", "'/dev/kmsg'", "true or false"]),
    // What is no number, too large, or below nothing.
    ("first-write", "NaNms", &["first-write", "'NaNms'", "lognormal:"]),
    ("first-write", "1e400s", &["first-write", "'1e400s'", "such as"]),
    ("first-write", "", &["first-write", "''", "20ms"]),
    ("first-write", "uniform:5s..1s", &["first-write", "lower bound is above"]),
    ("lanes", "99999999999999999999", &["lanes", "1 to 65536"]),
    ("pool", "99999999999999999999TiB", &["pool", "too large", "16EiB"]),
    ("held-memory", "20000000000GiB", &["held-memory", "too large"]),
    ("zeroing", "99999999999TiB/s", &["zeroing", "'99999999999TiB/s'", "200MiB/s"]),
    ("max-hold", "99999999999999y", &["max-hold", "'99999999999999y'", "such as"]),
    ("virtual-size", "1B", &["virtual size 1B", "4KiB"]),
    ("only", "share=nan%", &["only", "'nan%'", "0% to 100%"]),
];

#[test]
fn every_option_refuses_bad_input_in_one_line() {
    for (option, value, parts) in BAD_VALUES {
        refused(&["mount", "/backing", "/mountpoint", &format!("--{option}={value}")], parts);
    }
    for spec in &stunfs::internal::settings::OPTIONS {
        assert!(BAD_VALUES.iter().any(|(option, ..)| *option == spec.name), "{} is not among the cases", spec.name);
    }
}

/// clap took `-1` for an option ("unexpected argument '-1' found"), and the message did not name lanes.
#[test]
fn regression_a_negative_value_did_not_name_its_option() {
    for (option, value, parts) in [
        ("--lanes", "-1", ["lanes", "1 to 65536"]),
        ("--seed", "-3", ["seed", "from 0"]),
        ("--first-write", "-5ms", ["first-write", "'-5ms'"]),
        ("--pool", "-1GiB", ["pool", "'-1GiB'"]),
        ("--only", "-1", ["only", "path=GLOB"]),
    ] {
        refused(&["mount", option, value, "/backing", "/mountpoint"], &parts);
        refused(&["run", option, value, "--", "true"], &parts);
    }
    refused(&["mount", "/backing", "/mountpoint", "--lanes", "--pool", "1GiB"], &["--lanes", "value is required"]);
}

#[test]
fn wrong_command_lines_name_what_was_meant() {
    refused(&[], &["sub-command is missing", "--help"]);
    refused(&["mout"], &["'mout'", "did you mean 'mount'?"]);
    refused(&["mount", "/a"], &["required", "<MOUNTPOINT>"]);
    refused(&["mount", "/a", "/b", "--first-writ", "1ms"], &["'--first-writ'", "did you mean '--first-write'?"]);
    refused(&["mount", "/a", "/b", "-o", "first_writ=1ms"], &["'first_writ'", "did you mean 'first-write'?"]);
    refused(&["mount", "/a", "/b", "-o", "lanes=0"], &["lanes", "1 to 65536"]);
    refused(&["run", "--first-write", "1ms"], &["required", "CMD"]);
    refused(&["run", "--first-write", "1", "--", "true"], &["'1' has no unit"]);
    refused(&["run", "--first-write", "1ms", "dd", "if=/x"], &["'dd'", "write -- before the command"]);
    refused(&["ctl", "set", "lane=3"], &["'lane'", "did you mean 'lanes'?"]);
    refused(&["ctl", "--socket", "/s", "/m", "status"], &["not both"]);
    refused(&["profiles", "lvm"], &["'lvm'", "did you mean 'lvm-thin'?"]);
    refused(&["write"], &["required", "<WORKLOAD>"]);
    refused(&["write", "postgres", "/tmp"], &["'postgres'", "fluentd, logger, churn, reader, backup"]);
    refused(&["write", "logger", "/tmp", "--rate", "5"], &["'5' is not a rate", "200/s"]);
    refused(&["write", "logger", "/tmp", "--threads", "0"], &["--threads"]);
    refused(&["completions", "tcsh"], &["tcsh", "bash"]);
}

#[test]
fn a_volume_that_does_not_run_is_unavailable() {
    for args in [&["ctl", "/no/such/mount", "status"][..], &["ctl", "--socket", "/no/such.sock", "stop"]] {
        let output = run(args);
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(69), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}

#[test]
fn writers_report_what_they_suffered() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    for workload in ["fluentd", "logger", "churn", "reader", "backup", "kubelet", "logrotate", "database"] {
        let output = run(&["write", workload, dir, "--count", "3", "--rate", "max", "--json", "--quiet"]);
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), line.as_str()), (Some(0), ""), "{workload}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["records"], 3, "{workload}: {report}");
    }
    let text = stdout(&run(&["write", "logger", dir, "--count", "3", "--rate", "max", "-q"]));
    assert!(text.contains("OPERATION") && text.contains("3 records") && text.contains("0 lost"), "{text}");
    let output = run(&["write", "logger", "/no/such/directory", "--count", "1"]);
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), line.lines().count()), (Some(74), 1), "{line}");
    assert!(line.contains("cannot write in /no/such/directory"), "{line}");
}

#[test]
fn profiles_are_listed_and_shown_with_their_sources() {
    let list = stdout(&run(&["profiles"]));
    assert!(list.contains("vmware-thin") && list.contains("lognormal:5ms,p99=50ms"), "{list}");
    assert!(list.lines().all(|line| line.chars().count() <= 120), "{list}");
    let one = stdout(&run(&["profiles", "incident"]));
    assert!(one.contains("source:") && one.contains("resolves to") && one.contains("of 3 m 58 s"), "{one}");
    let json: serde_json::Value = serde_json::from_slice(&run(&["profiles", "--json"]).stdout).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 10);
    let json: serde_json::Value = serde_json::from_slice(&run(&["profiles", "lvm-thin", "--json"]).stdout).unwrap();
    assert_eq!(json["resolved"]["lanes"], 1);
}

#[test]
fn the_doctor_says_whether_a_volume_can_be_mounted() {
    let output = run(&["doctor", "--json"]);
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = if findings["can_mount"].as_bool().unwrap() { 0 } else { 69 };
    assert_eq!(output.status.code(), Some(expected));
    assert!(stdout(&run(&["doctor"])).contains("/dev/fuse"));
}

#[test]
fn completions_and_man_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&run(&["completions", shell]));
        assert!(script.contains("first-write") && script.contains("profiles"), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run(&["man", dir.path().to_str().unwrap()]).status.code(), Some(0));
    for page in ["stunfs.1", "stunfs-mount.1", "stunfs-run.1", "stunfs-ctl.1", "stunfs-ctl-status.1", "stunfs-doctor.1"]
    {
        let text = std::fs::read_to_string(dir.path().join(page)).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
    assert!(!dir.path().join("stunfs-mount-helper.1").exists());
}

#[test]
fn make_install_puts_everything_in_place_and_uninstall_takes_it_away() {
    if Command::new("make").arg("--version").output().is_err() {
        eprintln!("left out: there is no make here; mend it with: apt-get install make");
        return;
    }
    let dest = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_stunfs");
    let make = |target: &str| {
        let mut make = Command::new("make");
        // `-o`: this program, which is not built again.
        make.current_dir(env!("CARGO_MANIFEST_DIR")).args(["-o", program, target, &format!("BIN={program}")]);
        let output = make.arg(format!("DESTDIR={}", dest.path().display())).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let files = [
        "usr/local/bin/stunfs",
        "usr/local/share/man/man1/stunfs.1",
        "usr/local/share/man/man1/stunfs-ctl-stun.1",
        "usr/local/share/bash-completion/completions/stunfs",
        "usr/local/share/zsh/site-functions/_stunfs",
        "usr/local/share/fish/vendor_completions.d/stunfs.fish",
    ];
    make("install");
    for file in files {
        assert!(std::fs::metadata(dest.path().join(file)).unwrap().len() > 100, "{file}");
    }
    let helper = std::fs::read_link(dest.path().join("sbin/mount.fuse.stunfs")).unwrap();
    assert_eq!(helper.to_str(), Some("/usr/local/bin/stunfs"));
    make("uninstall");
    let left = Command::new("find").arg(dest.path()).args(["!", "-type", "d"]).output().unwrap();
    assert_eq!(stdout(&left), "");
}

/// `-f` makes a mount helper do everything but mount.
#[test]
fn the_mount_helper_reads_what_mount_passes() {
    let options =
        "rw,noauto,x-systemd.requires=a,profile=vmware-thin,first_write=lognormal:8ms,p99=200ms,allow_other,ro";
    let as_helper = |program: &str, args: &[&str]| stunfs().arg0(program).args(args).output().unwrap();
    let call = ["/backing", "/mountpoint", "-f", "-v", "-o", options, "-t", "fuse.stunfs"];
    let output = as_helper("/sbin/mount.fuse.stunfs", &call);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    assert_eq!(run(&call).status.code(), Some(0), "as mount.fuse3 calls it");
    assert_eq!(run(&[&["mount-helper"], &call[..]].concat()).status.code(), Some(0));

    let output = as_helper("mount.stunfs", &["/backing", "/mountpoint", "-o", "profil=thick"]);
    refused_by(&output, "unknown option", &["'profil'", "did you mean 'profile'?"]);
    let output = as_helper("mount.stunfs", &["/backing", "/mountpoint", "-o", "pool=5"]);
    refused_by(&output, "bad value", &["pool", "'5' has no unit"]);
    refused_by(&as_helper("mount.stunfs", &["/backing"]), "one place", &["two places"]);
    refused_by(&as_helper("mount.stunfs", &["/a", "/b", "-x"]), "flag", &["-x", "-o"]);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = stunfs().arg("profiles").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

/// What was printed was no YAML below the profile's own file: `grain         1MiB`.
#[test]
fn regression_what_profiles_prints_is_a_valid_profile() {
    let dir = tempfile::tempdir().unwrap();
    for name in stunfs::internal::profiles::names() {
        let file = dir.path().join(format!("{name}.yaml"));
        std::fs::write(&file, stdout(&run(&["profiles", name]))).unwrap();
        let resolved = |profile: &str| {
            let output = run(&["profiles", profile, "--json"]);
            assert_eq!(output.status.code(), Some(0), "{profile}: {}", String::from_utf8_lossy(&output.stderr));
            serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["resolved"].clone()
        };
        assert_eq!(resolved(file.to_str().unwrap()), resolved(name));
    }
}

/// `--daemon`, `--log` and `--pid-file` stood in no manual.
#[test]
fn regression_the_manuals_have_every_option_of_mount_and_write() {
    for (command, manual) in
        [("mount", include_str!("../docs/options.md")), ("write", include_str!("../docs/writers.md"))]
    {
        let help = stdout(&run(&[command, "--help"]));
        let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        let options: std::collections::BTreeSet<_> = words.filter_map(|word| word.strip_prefix("--")).collect();
        assert!(options.len() > 8, "{options:?}");
        for option in options.into_iter().filter(|option| *option != "help") {
            let rows = [format!("| `{option}`"), format!("| `--{option}`"), format!("| `--{option} ")];
            assert!(rows.iter().any(|row| manual.contains(row)), "the manual of '{command}' has no row for --{option}");
        }
    }
}

/// README's table had fewer rows than what the demo printed.
#[test]
fn regression_the_readme_shows_the_rows_that_the_demo_prints() {
    let titles = |text: &str, row: fn(&str) -> Option<&str>| -> Vec<String> {
        text.lines().filter_map(row).map(|title| title.trim_end().to_owned()).collect()
    };
    let demo = titles(include_str!("../demo/run.sh"), |line| {
        line.trim_start().strip_prefix("row \"")?.split('"').next().filter(|title| !title.is_empty())
    });
    let readme = include_str!("../README.md");
    let table = readme.split("What the demo prints").nth(1).unwrap().split("```").nth(1).unwrap();
    // After the line with the language and the one with the volumes' names.
    let table = table.lines().skip(2).collect::<Vec<_>>().join("\n");
    let readme = titles(&table, |line| line.get(..44));
    assert_eq!(readme, demo.iter().map(|title| title.replace("$backup_mib", "192")).collect::<Vec<_>>());
}

/// A scenario reads a writer's figures from these lines.
#[test]
fn json_lines_are_progress_and_then_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    let lines = ["--json-lines", "--for", "1s", "--progress", "200ms"];
    let output = run(&[&["write", "logger", place][..], &lines].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let values: Vec<serde_json::Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (report, progress) = values.split_last().unwrap();
    assert!(report["report"]["ack_latency"]["count"].is_u64(), "{report}");
    assert!(!progress.is_empty() && progress.iter().all(|line| line["progress"]["interval"]["records"].is_u64()));
}
