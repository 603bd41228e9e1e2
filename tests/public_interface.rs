//! The crate's public interface, read from its source and compared with the list `tests/public_interface.txt`.
//!
//! Must not know: what anything does. Invariant: every item that `src/lib.rs` re-exports is found exactly once; what is
//! not found fails the test. After a change that is meant: `STUNFS_UPDATE_INTERFACE=1 cargo test --test public_interface`,
//! and a line in CHANGELOG.md.

#![expect(clippy::unwrap_used, reason = "a test that cannot do its own part has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use quote::ToTokens;
use syn::{Attribute, Fields, File, ImplItem, Item, TraitItem, Type, UseTree, Visibility};

/// The source files of the library, without those that hold tests, by path below `src`.
fn sources(root: &Path) -> BTreeMap<PathBuf, File> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(root).unwrap().to_owned();
            if below.starts_with("cli") || below == Path::new("main.rs") || path.file_stem().unwrap() == "tests" {
                continue;
            }
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = syn::parse_file(&fs::read_to_string(&path).unwrap());
                files.insert(below, file.unwrap_or_else(|error| panic!("{}: {error}", path.display())));
            }
        }
    }
    files
}

/// What is re-exported: its public path, and the room that it comes from.
fn exports(items: &[Item], prefix: &str, found: &mut Vec<(String, String)>) {
    for item in items {
        match item {
            Item::Mod(module) if is_public(&module.vis) && !is_hidden(&module.attrs) => {
                let (_, items) = module.content.as_ref().expect("public modules stand in lib.rs itself");
                exports(items, &format!("{prefix}{}::", module.ident), found);
            }
            Item::Use(import) if is_public(&import.vis) => used(&import.tree, &mut Vec::new(), prefix, found),
            Item::Use(_) | Item::Mod(_) => {}
            other => panic!("lib.rs has something else than modules and re-exports: {}", text(other)),
        }
    }
}

fn used(tree: &UseTree, path: &mut Vec<String>, prefix: &str, found: &mut Vec<(String, String)>) {
    match tree {
        UseTree::Path(step) => {
            path.push(step.ident.to_string());
            used(&step.tree, path, prefix, found);
            path.pop();
        }
        UseTree::Name(name) => {
            let room = path.iter().find(|step| !["crate", "internal"].contains(&step.as_str())).unwrap();
            found.push((format!("{prefix}{}", name.ident), room.clone()));
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| used(tree, path, prefix, found)),
        UseTree::Rename(_) | UseTree::Glob(_) => panic!("lib.rs re-exports under another name, or all of a module"),
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn is_hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("doc") && text(attribute).contains("hidden"))
}

/// Rust's tokens with spaces only where they help.
fn text(tokens: &impl ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string();
    for (from, to) in [
        (" :: ", "::"),
        (":: ", "::"),
        (" <", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        (" :", ":"),
        ("& ", "&"),
        (" ;", ";"),
    ] {
        text = text.replace(from, to);
    }
    text.replace("->(", "-> (").replace("-> ", "->").replace("->", " -> ").replace("  ", " ")
}

fn derives(attributes: &[Attribute]) -> String {
    let derive = attributes.iter().filter(|attribute| attribute.path().is_ident("derive"));
    let mut all: Vec<_> = derive
        .filter_map(|attribute| attribute.meta.require_list().ok())
        .flat_map(|list| list.tokens.to_string().split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>())
        .collect();
    all.retain(|name| !name.is_empty());
    all.sort();
    if all.is_empty() { String::new() } else { format!(" [{}]", all.join(", ")) }
}

fn fields(owner: &str, fields: &Fields, all_public: bool, lines: &mut Vec<String>) {
    for (index, field) in fields.iter().enumerate().filter(|(_, field)| all_public || is_public(&field.vis)) {
        let name = field.ident.as_ref().map_or_else(|| index.to_string(), ToString::to_string);
        lines.push(format!("{owner}.{name}: {}", text(&field.ty)));
    }
}

/// The lines of an item that is public under `path`; `None` if `item` is another one.
fn describe(item: &Item, name: &str, path: &str) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    match item {
        Item::Struct(it) if it.ident == name && is_public(&it.vis) => {
            lines.push(format!("struct {path}{}{}", text(&it.generics), derives(&it.attrs)));
            fields(path, &it.fields, false, &mut lines);
        }
        Item::Enum(it) if it.ident == name && is_public(&it.vis) => {
            lines.push(format!("enum {path}{}{}", text(&it.generics), derives(&it.attrs)));
            for variant in &it.variants {
                let variant_path = format!("{path}::{}", variant.ident);
                lines.push(format!("variant {variant_path}"));
                fields(&variant_path, &variant.fields, true, &mut lines);
            }
        }
        Item::Trait(it) if it.ident == name && is_public(&it.vis) => {
            lines.push(format!("trait {path}"));
            let methods = it.items.iter().filter_map(|item| match item {
                TraitItem::Fn(method) => Some(format!("{path}::{}", text(&method.sig))),
                _ => None,
            });
            lines.extend(methods);
        }
        Item::Const(it) if it.ident == name && is_public(&it.vis) => {
            lines.push(format!("const {path}: {}", text(&it.ty)));
        }
        Item::Fn(it) if it.sig.ident == name && is_public(&it.vis) => lines.push(format!("{path}: {}", text(&it.sig))),
        Item::Type(it) if it.ident == name && is_public(&it.vis) => {
            lines.push(format!("type {path} = {}", text(&it.ty)))
        }
        _ => return None,
    }
    Some(lines)
}

/// What the `impl` blocks of a type add: methods and constants, and the traits that it has.
fn implementations(file: &File, name: &str, path: &str, lines: &mut Vec<String>) {
    for item in &file.items {
        let Item::Impl(block) = item else { continue };
        let Type::Path(of) = &*block.self_ty else { continue };
        if of.path.segments.last().is_none_or(|last| last.ident != name) {
            continue;
        }
        if let Some((of_trait, _)) = &block.trait_ {
            lines.push(format!("impl {} for {path}", text(of_trait)));
            continue;
        }
        lines.extend(block.items.iter().filter_map(|item| match item {
            ImplItem::Fn(method) if is_public(&method.vis) => Some(format!("{path}::{}", text(&method.sig))),
            ImplItem::Const(it) if is_public(&it.vis) => Some(format!("const {path}::{}: {}", it.ident, text(&it.ty))),
            _ => None,
        }));
    }
}

/// The whole interface, one line an item.
fn interface(files: &BTreeMap<PathBuf, File>) -> BTreeSet<String> {
    let mut exported = Vec::new();
    exports(&files[Path::new("lib.rs")].items, "stunfs::", &mut exported);
    assert!(!exported.is_empty());
    let mut lines = BTreeSet::new();
    for (path, room) in exported {
        let name = path.rsplit("::").next().unwrap();
        let of_room = |file: &Path| file.starts_with(&room) || file == Path::new(&format!("{room}.rs"));
        let in_room = files.iter().filter(|(file, _)| of_room(file)).flat_map(|(_, file)| &file.items);
        let described: Vec<_> = in_room.filter_map(|item| describe(item, name, &path)).collect();
        assert_eq!(described.len(), 1, "{path} stands in src/{room} so many times");
        lines.extend(described.into_iter().flatten());
        let mut added = Vec::new();
        files.values().for_each(|file| implementations(file, name, &path, &mut added));
        lines.extend(added);
    }
    lines
}

#[test]
fn the_public_interface_is_the_one_that_is_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let now = interface(&sources(&root.join("src")));
    let list = root.join("tests/public_interface.txt");
    if std::env::var_os("STUNFS_UPDATE_INTERFACE").is_some() {
        fs::write(&list, now.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        return;
    }
    let listed: BTreeSet<String> = fs::read_to_string(&list).unwrap().lines().map(str::to_owned).collect();
    let gone: Vec<_> = listed.difference(&now).map(|line| format!("- {line}")).collect();
    let new: Vec<_> = now.difference(&listed).map(|line| format!("+ {line}")).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "the public interface has changed; if that is meant, run this test once with STUNFS_UPDATE_INTERFACE=1:\n{}",
        [gone, new].concat().join("\n")
    );
}

#[test]
fn the_rooms_are_hidden_from_the_documentation() {
    let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let public = files[Path::new("lib.rs")].items.iter().filter_map(|item| match item {
        Item::Mod(module) if is_public(&module.vis) => Some((module.ident.to_string(), is_hidden(&module.attrs))),
        _ => None,
    });
    let public: Vec<_> = public.collect();
    assert!(public.contains(&("internal".to_owned(), true)), "{public:?}");
    let rooms = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let rooms: Vec<_> = rooms.map(|room| room.unwrap().path().file_stem().unwrap().display().to_string()).collect();
    assert!(rooms.contains(&"model".to_owned()));
    let bare: Vec<_> = public.iter().filter(|(name, _)| rooms.contains(name)).collect();
    assert!(bare.is_empty(), "rooms that users can reach: {bare:?}");
}

#[test]
fn a_change_of_the_interface_is_noticed() {
    let lib = "pub use room::Thing; #[doc(hidden)] pub mod internal { pub mod room; }";
    let lines = |room: &str| {
        let files = [("lib.rs", lib), ("room.rs", room)];
        interface(&files.map(|(path, code)| (path.into(), syn::parse_file(code).unwrap())).into())
    };
    let before =
        "pub struct Thing { pub a: u8, b: u8 } impl Thing { pub fn get(&self) -> u8 { self.a } fn own(&self) {} }";
    let listed = lines(before);
    let expected = ["struct stunfs::Thing", "stunfs::Thing.a: u8", "stunfs::Thing::fn get(&self) -> u8"];
    assert_eq!(listed, expected.map(str::to_owned).into());
    for (from, to) in [("get(", "fetch("), ("-> u8", "-> u16"), ("pub a: u8", "pub a: u32"), ("b: u8", "pub b: u8")] {
        assert_ne!(lines(&before.replace(from, to)), listed, "{from} -> {to}");
    }
    assert_ne!(lines(&format!("#[derive(Clone)] {before}")), listed);
    assert_eq!(lines(&before.replace("fn own", "fn other")), listed, "what is private does not matter");
}
