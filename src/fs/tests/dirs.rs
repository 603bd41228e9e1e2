//! Directories: nodes, counts of look-ups, positions that stay.

use std::collections::HashSet;

use super::*;

#[test]
fn entries_come_with_their_nodes_and_kinds() {
    let w = World::new();
    let (file, _) = w.create("file");
    let dir = w.mkdir(ROOT, "dir").unwrap().attr.ino;
    let sub = w.mkdir(dir, "sub").unwrap().attr.ino;
    let fh = ask(|r| w.fs.opendir(DAEMON, ROOT, r)).unwrap().fh;
    let page = w.page(ROOT, fh, 0, false, 100).unwrap();
    let of = |name: &str| page.iter().find(|entry| entry.name == name).map(|entry| (entry.ino, entry.kind)).unwrap();
    assert_eq!(of("file"), (file, FileKind::RegularFile));
    assert_eq!(of("dir"), (dir, FileKind::Directory));
    assert_eq!((of(".").0, of("..").0), (ROOT, ROOT));
    assert!(page.iter().all(|entry| !entry.looked_up));
    let below: HashSet<_> = w.list(sub, false, 10).into_iter().collect();
    assert_eq!(below, HashSet::from([(".".into(), sub), ("..".into(), dir)]));
}

#[test]
fn only_what_was_given_counts_as_looked_up() {
    let w = World::new();
    for n in 0..50 {
        std::fs::write(w.backing(&format!("f{n}")), "").unwrap();
    }
    let fh = ask(|r| w.fs.opendir(DAEMON, ROOT, r)).unwrap().fh;
    let page = w.page(ROOT, fh, 0, true, 7).unwrap();
    let given: Vec<_> = page.iter().filter(|entry| entry.looked_up).collect();
    assert!(page.iter().all(|entry| entry.looked_up != entry.name.starts_with('.')));
    assert_eq!(w.fs.store.table.len(), 1 + given.len());
    given.iter().for_each(|entry| w.fs.forget(entry.ino, 1));
    assert_eq!(w.fs.store.table.len(), 1);
    assert_eq!(w.list(ROOT, true, 3).len(), 52);
    assert_eq!(w.fs.store.table.len(), 51);
}

#[test]
fn positions_stay_while_entries_come_and_go() {
    let w = World::new();
    let kept: HashSet<String> = (0..400).map(|n| format!("kept-{n}")).collect();
    for name in &kept {
        std::fs::write(w.backing(name), "").unwrap();
    }
    for n in 0..400 {
        std::fs::write(w.backing(&format!("old-{n}")), "").unwrap();
    }
    let fh = ask(|r| w.fs.opendir(DAEMON, ROOT, r)).unwrap().fh;
    let (mut seen, mut offset, mut turn) = (Vec::new(), 0, 0);
    loop {
        let page = w.page(ROOT, fh, offset, turn % 2 == 0, 5).unwrap();
        let Some(last) = page.last() else { break };
        offset = last.offset;
        seen.extend(page.into_iter().map(|entry| entry.name));
        let _ = std::fs::remove_file(w.backing(&format!("old-{turn}")));
        std::fs::write(w.backing(&format!("new-{turn}")), "").unwrap();
        turn += 1;
    }
    let once: HashSet<_> = seen.iter().cloned().collect();
    assert_eq!(once.len(), seen.len(), "nothing twice");
    assert!(kept.is_subset(&once), "nothing left out");
}

#[test]
fn an_offset_can_be_gone_back_to() {
    let w = World::new();
    for n in 0..100 {
        std::fs::write(w.backing(&format!("f{n}")), "").unwrap();
    }
    let fh = ask(|r| w.fs.opendir(DAEMON, ROOT, r)).unwrap().fh;
    let all = w.page(ROOT, fh, 0, false, 1000).unwrap();
    let rest = w.page(ROOT, fh, all[49].offset, false, 1000).unwrap();
    let names = |page: &[Shown]| page.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&rest), names(&all[50..]));
    assert_eq!(names(&w.page(ROOT, fh, 0, false, 1000).unwrap()), names(&all));
    ask(|r| w.fs.fsyncdir(DAEMON, ROOT, fh, false, r)).unwrap();
    w.fs.releasedir(fh);
    assert_eq!(w.page(ROOT, fh, 0, false, 1).unwrap_err(), FsError::UnknownHandle);
}

#[test]
fn what_is_removed_after_it_was_read_is_left_out() {
    let w = World::new();
    for n in 0..20 {
        std::fs::write(w.backing(&format!("f{n}")), "").unwrap();
    }
    let fh = ask(|r| w.fs.opendir(DAEMON, ROOT, r)).unwrap().fh;
    let first = w.page(ROOT, fh, 0, true, 3).unwrap();
    for n in 0..20 {
        std::fs::remove_file(w.backing(&format!("f{n}"))).unwrap();
    }
    let rest = w.page(ROOT, fh, first[2].offset, true, 100).unwrap();
    assert!(rest.iter().all(|entry| entry.name.starts_with('.')));
}
