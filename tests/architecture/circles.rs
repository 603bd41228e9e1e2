//! No file of a room leads back to itself by imports. A module and what lies in its own folder belong together and are left out.
//!
//! Must not know: what the code does. Invariant: a name that a module passes on (`use part::Name`) counts for the file it stands in.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, expand, is_below, read_crate, shipped};

/// The files by their module paths, such as `fs::inode`.
struct Modules<'a>(BTreeMap<String, &'a Source>);

impl<'a> Modules<'a> {
    fn new(files: &'a [Source]) -> Self {
        Self(files.iter().map(|file| (module_of(&file.path), file)).collect())
    }

    /// The module that `path`, as written in module `from`, leads to.
    fn resolve(&self, from: &str, path: &str) -> Option<String> {
        let (mut module, mut parts) = (from.to_owned(), path.split("::").peekable());
        match parts.peek().copied() {
            Some("crate") => module = String::new(),
            Some("self" | "super") => {}
            _ => return None,
        }
        for part in parts {
            let below = if module.is_empty() { part.to_owned() } else { format!("{module}::{part}") };
            match part {
                "crate" | "self" => {}
                "super" => module = module.rsplit_once("::").map_or_else(String::new, |(above, _)| above.to_owned()),
                _ if self.0.contains_key(&below) => module = below,
                name => return Some(self.passed_on(&module, name)),
            }
        }
        Some(module)
    }

    /// The module in which `name` stands that `module` is asked for.
    fn passed_on(&self, module: &str, name: &str) -> String {
        let Some(file) = self.0.get(module) else { return module.to_owned() };
        for path in imports(&file.code) {
            let (place, last) = path.rsplit_once("::").unwrap_or(("", &path));
            let part = place.strip_prefix("self::").unwrap_or(place);
            let below = format!("{module}::{part}");
            if last == name && self.0.contains_key(&below) {
                return self.passed_on(&below, name);
            }
        }
        module.to_owned()
    }

    /// Which modules of the same room each module leads to.
    fn arrows(&self) -> BTreeMap<&str, BTreeSet<String>> {
        let room = |module: &str| module.split("::").next().map(str::to_owned);
        let apart = |a: &str, b: &str| a != b && !is_below(a, b) && !is_below(b, a);
        let arrows = self.0.iter().map(|(module, file)| {
            let leads_to = mentions(&file.code).into_iter().filter_map(|path| self.resolve(module, &path));
            let leads_to = leads_to.filter(|other| room(other) == room(module) && apart(module, other));
            (module.as_str(), leads_to.collect())
        });
        arrows.collect()
    }
}

/// `src/fs/inode.rs` -> `fs::inode`; `src/fs/mod.rs` -> `fs`.
fn module_of(path: &str) -> String {
    path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::")
}

/// Every path of the file's `use` declarations.
fn imports(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("use ").filter(|(at, _)| *at == 0 || code[..*at].ends_with(['\n', ' '])) {
        expand(&code[at + 4..], "", &mut paths);
    }
    paths
}

/// Every path that begins with `crate`, `self` or `super`, imported or not.
fn mentions(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for start in ["crate::", "self::", "super::"] {
        let begins = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        for (at, _) in code.match_indices(start).filter(|(at, _)| begins(*at)) {
            expand(&code[at..], "", &mut paths);
        }
    }
    paths
}

/// The modules that lead back to themselves, as one line for each circle.
fn circles(files: &[Source]) -> Vec<String> {
    let modules = Modules::new(files);
    let arrows = modules.arrows();
    let reach = |from: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(module) = open.pop() {
            let next = arrows.get(module.as_str()).into_iter().flatten();
            open.extend(next.filter(|other| seen.insert((*other).clone())).cloned());
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<String>> = arrows.keys().map(|module| (*module, reach(module))).collect();
    let mutual = |a: &str, b: &str| reached[a].contains(b) && reached.get(b).is_some_and(|back| back.contains(a));
    let all = reached.keys().filter(|module| reached[**module].contains(**module)).map(|module| {
        let with: Vec<&str> = reached.keys().copied().filter(|other| mutual(module, other)).collect();
        format!("a circle of files: {}", with.join(", "))
    });
    all.collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn no_file_of_a_room_leads_back_to_itself() {
    assert_eq!(circles(&read_crate()), [""; 0]);
}

#[test]
fn a_circle_of_files_is_found() {
    let tree = |files: &[(&str, &str)]| shipped(files.iter().map(|(path, text)| Source::new(path, text)).collect());
    let direct =
        [("src/fs/mod.rs", ""), ("src/fs/a.rs", "use super::b::B;"), ("src/fs/b.rs", "fn f() { crate::fs::a::go() }")];
    assert_eq!(circles(&tree(&direct)), ["a circle of files: fs::a, fs::b"]);
    let passed_on = [
        ("src/fs/mod.rs", "mod a;\npub use b::{B, C};\npub use a::A;"),
        ("src/fs/a.rs", "use super::{B, Other};"),
        ("src/fs/b.rs", "use super::c::deeper::D;"),
        ("src/fs/c.rs", ""),
        ("src/fs/c/deeper.rs", "use crate::fs::A;"),
    ];
    assert_eq!(circles(&tree(&passed_on)), ["a circle of files: fs::a, fs::b, fs::c::deeper"]);
}

#[test]
fn a_module_and_its_own_parts_are_no_circle() {
    let tree = [
        ("src/fs/mod.rs", "use a::A;\npub struct Whole;"),
        ("src/fs/a.rs", "use super::Whole;\nuse super::b::B;\nuse crate::model::M;"),
        ("src/fs/b.rs", "use self::part::P;\nuse crate::units::U;"),
        ("src/fs/b/part.rs", "use super::B;"),
        ("src/model/mod.rs", ""),
    ];
    let tree = shipped(tree.iter().map(|(path, text)| Source::new(path, text)).collect());
    assert_eq!(circles(&tree), [""; 0]);
}
