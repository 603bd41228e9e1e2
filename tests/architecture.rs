//! The rooms of design: who may import whom, what a room may not mention, and how large a file or a function may be.
//!
//! Must not know: what the code does; it reads the source as text. Invariant: every rule is also run on a small tree that
//! breaks it, so that a rule which can no longer fail is noticed.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

#[path = "architecture/circles.rs"]
mod circles;

const MAX_FILE_LINES: usize = 600;
const MAX_FUNCTION_LINES: usize = 60;

/// What each room may import from the crate, as path prefixes. `cli` and the crate's root may import everything.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("time", &[]),
    ("seed", &["units"]),
    ("op", &["units"]),
    ("sys", &["units", "time"]),
    ("model", &["units", "time", "seed"]),
    ("telemetry", &["units", "time", "op", "model", "engine", "freeze::FreezeTarget"]),
    ("engine", &["units", "time", "seed", "op", "sys", "model"]),
    ("backing", &["units", "time", "sys"]),
    ("fs", &["units", "time", "op", "sys", "model", "engine", "backing", "options"]),
    ("fuse", &["units", "time", "op", "sys", "engine", "fs", "freeze", "options"]),
    ("freeze", &["units", "time", "sys"]),
    ("options", &["units", "time", "model", "freeze"]),
    ("control", &["units", "time", "op", "sys", "model", "telemetry"]),
    ("settings", &["units", "time", "model", "freeze::FreezeTarget", "options"]),
    ("profiles", &["units", "time", "model", "settings"]),
    (
        "volume",
        &[
            "units",
            "time",
            "sys",
            "seed",
            "op",
            "model",
            "engine",
            "backing",
            "fs",
            "fuse",
            "freeze",
            "control",
            "observe",
            "options",
            "telemetry",
            "profiles",
            "settings",
            "options",
        ],
    ),
    ("disk", &["units", "time", "sys", "model", "control", "fuse", "options", "volume"]),
    ("workload", &["units", "time", "seed"]),
    (
        "scenario",
        &[
            "units",
            "time",
            "seed",
            "sys",
            "model",
            "telemetry",
            "control",
            "settings",
            "workload",
            "disk",
            "observe",
            "freeze::FreezeTarget",
        ],
    ),
    ("observe", &["units", "time", "sys", "telemetry::event"]),
    ("report", &["units", "scenario::MetricValue", "scenario::result", "workload"]),
    ("explain", &["units", "observe::kmsg", "telemetry::event"]),
];

/// Words that only these rooms (or files) may mention.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("unsafe", &["backing", "freeze", "src/fuse/signal.rs", "src/disk/loopdev.rs", "src/disk/filesystem.rs"]),
    ("libc", &["backing", "freeze", "src/fuse/signal.rs"]),
    ("fuser", &["fuse"]),
    ("axum", &["control"]),
    ("hyper", &["control", "src/scenario/runner/http.rs"]),
    ("tokio", &["control", "src/freeze/docker.rs", "src/scenario/runner/http.rs"]),
    ("bollard", &["src/freeze/docker.rs"]),
    ("anyhow", &["cli", "main"]),
    // These panic when the reader of standard error has gone.
    ("eprint", &[]),
    ("eprintln", &[]),
];

/// Rooms that are pure, and what gives away that they are not.
const PURE: &[&str] = &["model", "report", "explain"];
/// Rooms that are pure but for what lies below this path.
const PURE_BUT: &[(&str, &str)] = &[("scenario", "src/scenario/runner")];
const IMPURE: &[&str] =
    &["Instant", "SystemTime", "Clock", "Mutex", "RwLock", "Condvar", "rustix", "crossbeam_channel"];
const IMPURE_STD: &[&str] = &["env", "fs", "io", "net", "os", "process", "thread", "sync::mpsc"];

/// A source file: its path below the crate and what it says without comments, literals and unit tests.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = without_tests(&without_literals(text));
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// `src/model/pool/mod.rs` -> `model`; `src/units.rs` -> `units`.
    fn room(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or("");
        below.split('/').next().unwrap_or("").trim_end_matches(".rs")
    }

    /// How many modules deep the file's own module is: 1 for a room.
    fn depth(&self) -> usize {
        let below = self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        below.split('/').count()
    }
}

// ---- reading -------------------------------------------------------------------------------------------------------------

/// Blanks out comments, strings and character literals; lines stay where they are.
fn without_literals(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let length = literal_length(rest, out.chars().last());
        if length == 0 {
            out.push(next);
            rest = &rest[next.len_utf8()..];
        } else {
            out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    out
}

/// The length of the comment or literal that `rest` begins with; 0 if it begins with code.
fn literal_length(rest: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(is_word);
    if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        rest.find("*/").map_or(rest.len(), |end| end + 2)
    } else if rest.starts_with('"') {
        quoted_length(rest, 1, '"')
    } else if !in_word && rest.starts_with('r') {
        raw_string_length(rest)
    } else if rest.starts_with("'\\") || rest.starts_with('\'') && rest.chars().nth(2) == Some('\'') {
        quoted_length(rest, 1, '\'')
    } else {
        0
    }
}

/// To the end of a literal that began `start` bytes ago, minding backslashes.
fn quoted_length(rest: &str, start: usize, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip_while(|(at, _)| *at < start) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

fn raw_string_length(rest: &str) -> usize {
    let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
    if !rest[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = hashes + 2;
    rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len())
}

/// Drops `#[cfg(test)] mod tests { .. }` and whatever follows it.
fn without_tests(code: &str) -> String {
    let lines: Vec<&str> = code.lines().collect();
    let is_test_module = |pair: &[&str]| is_test_mark(pair[0]) && pair[1].contains("mod ") && pair[1].ends_with('{');
    let end = lines.windows(2).position(is_test_module).unwrap_or(lines.len());
    lines[..end].join("\n")
}

fn is_test_mark(line: &str) -> bool {
    line.trim().starts_with("#[cfg(") && line.contains("test")
}

/// The files that hold only tests: those that are declared as `#[cfg(test)] mod NAME;`.
fn test_module_paths(file: &Source) -> Vec<String> {
    let stem = file.path.trim_end_matches(".rs");
    let dir = stem.strip_suffix("/mod").or_else(|| stem.strip_suffix("/lib")).unwrap_or(stem);
    let lines: Vec<&str> = file.code.lines().map(str::trim).collect();
    let declared = lines.windows(2).filter(|pair| is_test_mark(pair[0]) && pair[1].ends_with(';'));
    declared
        .filter_map(|pair| pair[1].trim_end_matches(';').rsplit_once("mod "))
        .map(|(_, name)| format!("{dir}/{name}"))
        .collect()
}

/// Only the files that are not tests.
fn shipped(files: Vec<Source>) -> Vec<Source> {
    let tests: Vec<String> = files.iter().flat_map(test_module_paths).collect();
    let is_test =
        |path: &str| tests.iter().any(|test| path == format!("{test}.rs") || path.starts_with(&format!("{test}/")));
    files.into_iter().filter(|file| !is_test(&file.path)).collect()
}

fn read_tree(root: &Path, dir: &str) -> io::Result<Vec<Source>> {
    let mut files = Vec::new();
    let mut entries = fs::read_dir(root.join(dir))?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = format!("{dir}/{}", entry.file_name().display());
        if entry.file_type()?.is_dir() {
            files.extend(read_tree(root, &path)?);
        } else if path.ends_with(".rs") {
            files.push(Source::new(&path, &fs::read_to_string(entry.path())?));
        }
    }
    Ok(files)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands in `code` as a whole word.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

// ---- imports -------------------------------------------------------------------------------------------------------------

/// Every path below `start` that the file names, with braces expanded: `crate::{a::B, c}` -> `a::B`, `c`.
fn paths_below(code: &str, start: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, start) {
        if let Some(rest) = code[at + start.len()..].strip_prefix("::") {
            let mut paths = Vec::new();
            expand(rest, "", &mut paths);
            found.extend(paths.into_iter().map(|path| (line_of(code, at), path)));
        }
    }
    found
}

/// Reads one path (or one group of paths) and returns what follows it.
fn expand<'a>(rest: &'a str, prefix: &str, out: &mut Vec<String>) -> &'a str {
    let rest = rest.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        return expand_group(group, prefix, out);
    }
    let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
    let path = if prefix.is_empty() { rest[..end].to_owned() } else { format!("{prefix}::{}", &rest[..end]) };
    match rest[end..].strip_prefix("::") {
        Some(deeper) if !deeper.starts_with('<') => expand(deeper, &path, out),
        _ => {
            out.push(path);
            &rest[end..]
        }
    }
}

fn expand_group<'a>(group: &'a str, prefix: &str, out: &mut Vec<String>) -> &'a str {
    let mut rest = group;
    loop {
        rest = expand(rest, prefix, out);
        // ` as other` may follow a path
        let Some(end) = rest.find([',', '}']) else { return "" };
        let closed = rest[end..].starts_with('}');
        rest = rest[end + 1..].trim_start();
        if closed {
            return rest;
        }
        if let Some(after) = rest.strip_prefix('}') {
            return after;
        }
    }
}

fn wrong_imports(file: &Source) -> Vec<String> {
    let room = file.room();
    if ["cli", "main", "lib"].contains(&room) {
        return Vec::new();
    }
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}: `{room}` is not in the list of rooms (MAY_IMPORT)", file.path)];
    };
    let may = |path: &str| path.split("::").next() == Some(room) || allowed.iter().any(|prefix| is_below(path, prefix));
    let wrong = paths_below(&file.code, "crate").into_iter().filter(|(_, path)| !may(path));
    wrong.map(|(line, path)| format!("{}:{line}: `{room}` may not import `{path}`", file.path)).collect()
}

fn is_below(path: &str, prefix: &str) -> bool {
    path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("::"))
}

/// `super::` that climbs out of the room would hide an import.
fn climbing_imports(file: &Source) -> Vec<String> {
    let climb = "super::".repeat(file.depth());
    let is_room_file = !["main", "lib"].contains(&file.room());
    let wrong = file.code.match_indices(&climb).filter(|_| is_room_file);
    wrong
        .map(|(at, _)| {
            format!("{}:{}: say `crate::` for what lies outside the room", file.path, line_of(&file.code, at))
        })
        .collect()
}

// ---- words ---------------------------------------------------------------------------------------------------------------

fn misplaced_words(file: &Source) -> Vec<String> {
    let room = file.room();
    let mut wrong = Vec::new();
    let may = |rooms: &[&str]| rooms.contains(&room) || rooms.contains(&file.path.as_str());
    for (word, rooms) in ONLY_IN.iter().filter(|(_, rooms)| !may(rooms)) {
        let at = words(&file.code, word).map(|at| line_of(&file.code, at));
        wrong.extend(at.map(|line| format!("{}:{line}: `{word}` belongs in {}", file.path, rooms.join(", "))));
    }
    wrong
}

fn impure_words(file: &Source) -> Vec<String> {
    let is_pure_file = PURE_BUT.iter().any(|(room, but)| file.room() == *room && !file.path.starts_with(but));
    if !PURE.contains(&file.room()) && !is_pure_file {
        return Vec::new();
    }
    let named =
        IMPURE.iter().flat_map(|word| words(&file.code, word).map(|at| (line_of(&file.code, at), (*word).to_owned())));
    let is_impure = |path: &str| IMPURE_STD.iter().any(|prefix| is_below(path, prefix));
    let from_std = paths_below(&file.code, "std").into_iter().filter(|(_, path)| is_impure(path));
    let found = named.chain(from_std);
    found.map(|(line, what)| format!("{}:{line}: a pure room mentions `{what}`", file.path)).collect()
}

// ---- sizes ---------------------------------------------------------------------------------------------------------------

fn missing_opening(file: &Source) -> Vec<String> {
    let opens = file.text.starts_with("//!");
    if opens { Vec::new() } else { vec![format!("{}: does not open with `//!`", file.path)] }
}

fn long_file(file: &Source) -> Vec<String> {
    let lines = file.code.lines().count();
    if lines <= MAX_FILE_LINES {
        Vec::new()
    } else {
        vec![format!("{}: {lines} lines (limit {MAX_FILE_LINES})", file.path)]
    }
}

fn long_functions(file: &Source) -> Vec<String> {
    let code = &file.code;
    let bodies = words(code, "fn").filter_map(|at| Some((at, function_end(&code[at..])? + at)));
    let sized = bodies.map(|(begin, end)| (line_of(code, begin), code[begin..end].matches('\n').count() + 1));
    let long = sized.filter(|(_, lines)| *lines > MAX_FUNCTION_LINES);
    long.map(|(at, lines)| format!("{}:{at}: a function of {lines} lines (limit {MAX_FUNCTION_LINES})", file.path))
        .collect()
}

/// Where the function that begins here ends; `None` for one without a body and for a function pointer's type.
fn function_end(code: &str) -> Option<usize> {
    let is_named = code[2..].trim_start().starts_with(is_word);
    let open = code.find(['{', ';']).filter(|_| is_named)?;
    let mut depth = 0_usize;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(open + at),
            '}' => depth -= 1,
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

// ---- the rules on the crate ----------------------------------------------------------------------------------------------

type Rule = fn(&Source) -> Vec<String>;

fn complaints(files: &[Source], rules: &[Rule]) -> Vec<String> {
    files.iter().flat_map(|file| rules.iter().flat_map(move |rule| rule(file))).collect()
}

/// The crate's files, without tests.
fn read_crate() -> Vec<Source> {
    let files = shipped(read_tree(Path::new(env!("CARGO_MANIFEST_DIR")), "src").expect("src can be read"));
    assert!(files.len() > 5, "the tree was not found");
    files
}

fn assert_clean(rules: &[Rule]) {
    let files = read_crate();
    let complaints = complaints(&files, rules);
    let list = complaints.iter().fold(String::new(), |mut list, complaint| {
        let _ = writeln!(list, "  {complaint}");
        list
    });
    assert!(complaints.is_empty(), "\n{list}");
}

#[test]
fn rooms_import_in_one_direction() {
    assert_clean(&[wrong_imports, climbing_imports]);
}

#[test]
fn unsafe_and_the_large_crates_stay_in_their_rooms() {
    assert_clean(&[misplaced_words]);
}

#[test]
fn model_and_report_are_pure() {
    assert_clean(&[impure_words]);
}

#[test]
fn files_open_with_their_purpose_and_stay_small() {
    assert_clean(&[missing_opening, long_file, long_functions]);
}

#[test]
fn programs_beside_the_crate_open_with_their_purpose_too() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tree = |dir: &&str| read_tree(root, dir).expect("it can be read");
    let files: Vec<Source> = ["tests", "benches", "demo"].iter().flat_map(tree).collect();
    assert_eq!(complaints(&files, &[missing_opening]), Vec::<String>::new());
}

// ---- the rules on trees that break them ----------------------------------------------------------------------------------

fn complaints_on(path: &str, text: &str, rule: Rule) -> Vec<String> {
    complaints(&shipped(vec![Source::new(path, text)]), &[rule])
}

#[test]
fn an_import_against_the_direction_is_found() {
    let found = |text| complaints_on("src/model/pool.rs", text, wrong_imports);
    assert_eq!(found("use crate::engine::Engine;"), ["src/model/pool.rs:1: `model` may not import `engine::Engine`"]);
    assert_eq!(found("\nfn f() { crate::fs::open() }").len(), 1);
    assert_eq!(found("use crate::{units::Bytes, cli, fs::{self, Inode as I}};").len(), 3);
    assert_eq!(found("use crate::units::Bytes;\nuse crate::model::op::Op;\npub(crate) fn f() {}"), [""; 0]);
    assert_eq!(found("// use crate::engine::Engine;\nconst A: &str = \"crate::engine\";"), [""; 0]);
}

#[test]
fn a_part_of_a_room_can_be_allowed_alone() {
    let found = |text| complaints_on("src/observe/tasks.rs", text, wrong_imports);
    assert_eq!(found("use crate::telemetry::event::Event;\nuse crate::telemetry::event;"), [""; 0]);
    assert_eq!(found("use crate::telemetry::events::Writer;").len(), 1);
    assert_eq!(found("use crate::telemetry::{event::Event, metrics};").len(), 1);
}

#[test]
fn a_room_that_is_not_listed_is_found() {
    assert_eq!(complaints_on("src/attic/mod.rs", "", wrong_imports).len(), 1);
}

#[test]
fn climbing_out_of_a_room_is_found() {
    assert_eq!(complaints_on("src/model/mod.rs", "use super::engine;", climbing_imports).len(), 1);
    assert_eq!(complaints_on("src/model/pool.rs", "use super::super::engine;", climbing_imports).len(), 1);
    assert_eq!(complaints_on("src/model/pool.rs", "use super::op;", climbing_imports), [""; 0]);
}

/// The names in the tables of dependencies of a Cargo.toml.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = ["[dependencies]", "[dev-dependencies]"].contains(&line);
        } else if let (true, Some((name, _))) = (inside, line.split_once(" = ")) {
            names.push(name);
        }
    }
    names
}

#[test]
fn every_dependency_has_its_reason() {
    let reasons = include_str!("../docs/dependencies.md");
    let names = dependencies(include_str!("../Cargo.toml"));
    assert!(names.contains(&"fuser") && names.contains(&"proptest"), "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !reasons.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/dependencies.md does not say why these were taken: {missing:?}");
    assert_eq!(dependencies("[package]\na = 1\n[dependencies]\nb = \"1\"\n\n[lib]\nc = 1"), ["b"]);
}

#[test]
fn misplaced_words_are_found() {
    let found = |path, text| complaints_on(path, text, misplaced_words).len();
    assert_eq!(found("src/fs/mod.rs", "fn f() { unsafe { libc::sync() } }"), 2);
    assert_eq!(found("src/backing/mod.rs", "fn f() { unsafe { libc::sync() } }"), 0);
    assert_eq!(found("src/fuse/signal.rs", "unsafe { libc::tgkill() }"), 0);
    assert_eq!(found("src/model/mod.rs", "use fuser::Errno;"), 1);
    assert_eq!(found("src/fs/mod.rs", "use anyhow::Result;"), 1);
    assert_eq!(found("src/cli/run.rs", "fn f() { eprintln!(); }"), 1);
    assert_eq!(found("src/fs/mod.rs", "// unsafe\n#![deny(unsafe_op_in_unsafe_fn)]"), 0);
}

#[test]
fn impurity_is_found() {
    let found = |path, text| complaints_on(path, text, impure_words).len();
    assert_eq!(
        found("src/model/mod.rs", "use std::time::Instant;\nuse std::{fs::File, io};\nstd::thread::yield_now();"),
        4
    );
    assert_eq!(found("src/model/mod.rs", "use std::sync::Arc;\nlet net = fs + io;"), 0);
    assert_eq!(found("src/engine/mod.rs", "use std::time::Instant;"), 0);
    assert_eq!(found("src/model/mod.rs", "struct FileKey;\n#[cfg(test)]\nmod tests {\n use std::fs;\n}"), 0);
}

#[test]
fn long_files_and_functions_are_found() {
    let function = |lines: usize| format!("fn f() {{\n{}}}\n", "    let s = '}'; // }\n".repeat(lines));
    assert_eq!(complaints_on("src/fs/a.rs", &function(58), long_functions), [""; 0]);
    assert_eq!(complaints_on("src/fs/a.rs", &function(59), long_functions).len(), 1);
    assert_eq!(complaints_on("src/fs/a.rs", &"use a;\n".repeat(601), long_file).len(), 1);
    assert_eq!(
        complaints_on("src/fs/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{}}}", function(700)), long_file),
        [""; 0]
    );
    assert_eq!(complaints_on("src/fs/a.rs", "use a;", missing_opening).len(), 1);
}

#[test]
fn files_of_tests_are_left_out() {
    let room = Source::new("src/model/mod.rs", "//! A room.\n#[cfg(test)]\nmod tests;\n");
    let tests = Source::new("src/model/tests.rs", "use std::thread;");
    let kept = shipped(vec![room, tests]);
    assert_eq!(kept.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["src/model/mod.rs"]);
}

#[test]
fn literals_are_blanked_out_and_lifetimes_are_not() {
    let text = "fn f<'a>(c: &'a str) -> char { r#\"unsafe \"q\" {\"#; '\\''; '{'; \"\\\"}\" /* { */ }";
    let code = without_literals(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), "fn f<'a>(c: &'a str) -> char { ; ; ; }");
}
