//! Every command of README.md and docs/*.md, run as it is printed, in a mount and process namespace of its own.
//!
//! A block fenced as `sh` is run as one script. Of a `console` block each command is run, and must print the lines below it;
//! numbers and units may differ. A block that cannot be run is fenced as `sh not-run: REASON`. Must not know: how a volume works.
//! Invariant: no block with commands is passed over without a reason. Needs root, /dev/fuse, curl and jq.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a document takes for granted: run before its first block.
const VOLUME: &str = "stunfs mount /srv/data /mnt/thin --daemon --events events.jsonl";
const FLUENTD: &str =
    "cp \"$(command -v sleep)\" fluentd; ./fluentd 1000 & until pgrep -xo fluentd >/dev/null; do sleep 0.01; done";

/// What happens before the block that contains these words: what its reader would have done, or waited for.
const BEFORE: [(&str, &str); 2] = [
    ("grep -qm1 stun-began", "(for n in $(seq 600); do head -c 4096 /dev/zero >/mnt/thin/file-$n; done) &"),
    ("ctl /mnt/thin disarm", "stunfs ctl /mnt/thin resume; wait"),
];

/// What every script begins with: places of its own, and the program where `make install` puts it. The volume of the last
/// block is taken away before the next one mounts.
const FUNCTIONS: &str = r#"
clear_away() {
    [ ! -e /srv/thin/disk.img ] || stunfs disk down /mnt/thin || true
    # A question to the volume itself would wait for the end of a stun.
    while grep -q " /mnt/thin " /proc/self/mountinfo; do
        stunfs ctl /mnt/thin release >/dev/null 2>&1 || true
        umount /mnt/thin || umount -l /mnt/thin
    done
}
trap clear_away EXIT
mkdir -p /run/stunfs /var/lib/stunfs srv/data srv/images mnt/thin state
mount --bind srv /srv
mount --bind mnt /mnt
mount --bind state /var/lib/stunfs
mount -t tmpfs -o mode=0700 none /run/stunfs
mount -t tmpfs none /usr/local/bin
ln -s "$STUNFS" /usr/local/bin/stunfs
"#;

struct Block {
    line: usize,
    info: String,
    text: String,
}

impl Block {
    fn language(&self) -> &str {
        self.info.split_whitespace().next().unwrap_or_default()
    }

    fn is_run(&self) -> bool {
        matches!(self.language(), "sh" | "console") && !self.info.contains("not-run:")
    }

    /// The commands, each with the lines that it must print.
    fn commands(&self) -> Vec<(String, Vec<String>)> {
        if self.language() == "sh" {
            return vec![(self.text.clone(), Vec::new())];
        }
        let mut commands: Vec<(String, Vec<String>)> = Vec::new();
        for line in self.text.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => commands.push((command.to_owned(), Vec::new())),
                None => commands.last_mut().expect("a console block begins with a command").1.push(line.to_owned()),
            }
        }
        commands
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn blocks(document: &str) -> Vec<Block> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (line, text) in (1..).zip(text.lines()) {
        match (text.strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some(Block { line, info: info.to_owned(), text: String::new() }),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => writeln!(block.text, "{text}").unwrap(),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{document}: a block is not closed");
    blocks
}

fn documents() -> Vec<String> {
    let pages = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let pages = pages.filter_map(|name| Some(format!("docs/{}", name.to_str()?)));
    let mut all: Vec<_> = pages.filter(|page| page.ends_with(".md")).collect();
    all.push("README.md".to_owned());
    all
}

/// Whether the commands can be run here; says why not.
fn can_run(programs: &[&str]) -> bool {
    let has = |program: &&str| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(program).exists())
    };
    let missing = programs.iter().find(|program| !has(program));
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: it needs root");
        return false;
    }
    if let Some(missing) = missing {
        eprintln!("left out: {missing} is not installed");
        return false;
    }
    common::can_mount()
}

/// Runs the blocks of a document in order, after `setup`.
fn run(document: &str, setup: &str) {
    let dir = tempfile::Builder::new().prefix("stunfs-documents-").tempdir().unwrap();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_stunfs"));
    let mut script = format!("set -euo pipefail\n{FUNCTIONS}\n{setup}\n");
    let mut outputs = Vec::new();
    for block in blocks(document).iter().filter(|block| block.is_run()) {
        if block.text.contains("mount /srv") || block.text.contains("-t fuse.stunfs") || block.text.contains("disk up")
        {
            script.push_str("clear_away\n");
        }
        for (_, before) in BEFORE.iter().filter(|(words, _)| block.text.contains(words)) {
            writeln!(script, "{before}").unwrap();
        }
        for (command, expected) in block.commands() {
            let output = dir.path().join(format!("output-{}", outputs.len()));
            writeln!(script, "echo 'line {}' >&2\n{{\n{command}\n}} >{} 2>&1", block.line, output.display()).unwrap();
            outputs.push((output, block.line, command, expected));
        }
    }
    assert!(!outputs.is_empty(), "{document} has no commands");
    fs::write(dir.path().join("script"), &script).unwrap();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "150", "unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.args(["--propagation", "private", "bash", "script"]).env("STUNFS", program).current_dir(dir.path());
    let done = command.stdin(Stdio::null()).output().unwrap();
    let printed = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    assert!(
        done.status.success(),
        "{document}: {}\n{}\nthe last command printed: {}",
        done.status,
        String::from_utf8_lossy(&done.stderr),
        outputs.iter().map(|(path, ..)| printed(path)).rfind(|text| !text.is_empty()).unwrap_or_default(),
    );
    for (path, line, command, expected) in outputs {
        let printed = printed(&path);
        let mut lines = printed.lines().map(shape);
        for expected in expected {
            let found = lines.any(|line| line == shape(&expected));
            assert!(found, "{document}:{line}: '{command}' does not print '{expected}' there, but:\n{printed}");
        }
    }
}

/// A line without its numbers, and without the units that stand for their size.
fn shape(line: &str) -> String {
    let is_number = |word: &&str| word.bytes().any(|byte| byte.is_ascii_digit());
    let is_unit = |word: &&str| {
        let word = word.trim_end_matches([',', ')']);
        matches!(word, "s" | "ms" | "us" | "kB/s" | "MB/s" | "GB/s" | "kB" | "MB" | "KiB" | "MiB")
    };
    let words: Vec<_> = line.split_whitespace().filter(|word| !is_number(word) && !is_unit(word)).collect();
    words.join(" ")
}

macro_rules! documents {
    ($($name:ident: $document:literal, $setup:expr, [$($program:literal),*];)*) => {
        const RUN: &[&str] = &[$($document),*];
        $(
            #[test]
            fn $name() {
                if can_run(&["unshare", "bash", "timeout", $($program),*]) {
                    run($document, $setup);
                }
            }
        )*
    };
}

documents! {
    the_commands_of_the_readme_run: "README.md", "", [];
    the_commands_of_control_run: "docs/control.md", VOLUME, ["curl", "jq"];
    the_commands_of_disk_run: "docs/disk.md", "mkdir srv/thin", ["mkfs.xfs", "losetup"];
    the_commands_of_events_run: "docs/events.md", VOLUME, ["jq"];
    the_commands_of_explain_run: "docs/explain.md", "", [];
    the_commands_of_freezing_run: "docs/freezing.md", FLUENTD, ["pgrep"];
    the_commands_of_fstab_run: "docs/fstab.md", "", ["mount.fuse3"];
    the_commands_of_kernel_log_run: "docs/kernel-log.md", "", ["jq"];
    the_commands_of_observe_run: "docs/observe.md", "", [];
    the_commands_of_report_run: "docs/report.md", "", [];
    the_commands_of_scenarios_run: "docs/scenarios.md", "", [];
    the_commands_of_writers_run: "docs/writers.md", VOLUME, ["jq"];
}

#[test]
fn every_document_with_commands_is_run() {
    let missing = documents().into_iter().filter(|page| blocks(page).iter().any(Block::is_run));
    let missing: Vec<_> = missing.filter(|page| !RUN.contains(&page.as_str())).collect();
    assert!(missing.is_empty(), "tests/documents.rs runs nothing of {missing:?}");
}

/// A command in a block of another kind would not be run.
#[test]
fn commands_are_fenced_as_such_and_what_is_not_run_has_a_reason() {
    const PROGRAMS: [&str; 10] =
        ["stunfs", "make", "curl", "jq", "mount", "umount", "virsh", "cargo", "mkdir", "qemu-system-x86_64"];
    let is_command = |line: &str| {
        let line = line.trim_start().trim_start_matches("$ ").trim_start_matches("# ");
        PROGRAMS.contains(&line.split(' ').next().unwrap_or_default()) && line.contains(' ')
    };
    for document in documents() {
        let text = fs::read_to_string(root().join(&document)).unwrap();
        let indented = text.lines().find(|line| line.starts_with("    ") && is_command(line));
        assert!(indented.is_none(), "{document}: fence this command as sh: {indented:?}");
        for block in blocks(&document) {
            let found = block.text.lines().any(is_command);
            let is_shell = matches!(block.language(), "sh" | "console");
            assert!(is_shell || !found, "{document}:{}: commands in a '{}' block", block.line, block.info);
            let reason = block.info.split_once("not-run:").map(|(_, reason)| reason.trim().len());
            assert!(reason.is_none_or(|length| length > 10), "{document}:{}: say why it is not run", block.line);
        }
    }
}

#[test]
fn the_make_targets_that_documents_name_are_there() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    for document in documents() {
        for block in blocks(&document).iter().filter(|block| block.language() == "sh") {
            for target in block.text.lines().filter_map(|line| line.strip_prefix("make ")) {
                let target = target.split_whitespace().next().unwrap();
                assert!(makefile.contains(&format!("\n{target}: ")), "{document}: make {target}");
            }
        }
    }
}

/// docs/measured.md still named a file that had been removed.
#[test]
fn regression_the_files_that_documents_name_are_there() {
    let mut pages = documents();
    pages.extend(["ARCHITECTURE.md".to_owned(), "CONTRIBUTING.md".to_owned()]);
    let places = ["src/", "tests/", "docs/", "benches/", "scripts/", "demo/"];
    let rooms: Vec<String> = fs::read_dir(root().join("src"))
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap() + "/")
        .collect();
    for page in pages {
        let text = fs::read_to_string(root().join(&page)).unwrap();
        for span in text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let below_src = page == "ARCHITECTURE.md" && rooms.iter().any(|room| span.starts_with(room.as_str()));
            let is_path = places.iter().any(|place| span.starts_with(place)) || below_src;
            if is_path && !span.contains([' ', '*', '{']) && !span.contains("NAME") {
                let path = if below_src { format!("src/{span}") } else { span.to_owned() };
                let is_there =
                    root().join(&path).exists() || Path::new(&path).extension().is_none() && span.contains("::");
                assert!(is_there, "{page} names {span}, which is not there");
            }
        }
    }
}
