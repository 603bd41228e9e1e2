//! Many threads at once, with few descriptors: nothing is counted twice, nothing is left over, nobody waits for ever.

use std::collections::HashMap;

use super::*;

const THREADS: u64 = 4;
const ROUNDS: u64 = 400;

/// One thread's work: its own files, a file that all share, and look-ups of everybody's.
fn work(w: &World, thread: u64) {
    for round in 0..ROUNDS {
        let own = format!("{thread}-{round}");
        let (node, fh) = w.create(&own);
        w.write(node, fh, 0, own.as_bytes()).unwrap();
        if let Ok(other) = w.lookup(ROOT, &format!("{}-{round}", (thread + 1) % THREADS)) {
            w.fs.forget(other.attr.ino, 1);
        }
        let shared = w.find("shared").attr.ino;
        let shared_fh = w.open(shared, RDWR).unwrap();
        w.write(shared, shared_fh, thread * 8, &round.to_le_bytes()).unwrap();
        w.fs.release(shared_fh);
        w.fs.forget(shared, 1);
        let moved = format!("{own}-moved");
        w.rename((ROOT, &own), (ROOT, &moved), 0).unwrap();
        assert_eq!(w.read(node, fh, 0, 100).unwrap(), own.as_bytes());
        w.fs.release(fh);
        if round % 4 != 0 {
            w.unlink(ROOT, &moved).unwrap();
        }
        w.fs.forget(node, 1);
    }
}

#[test]
fn many_threads_leave_nothing_over() {
    let w = World::with(FsOptions { idle_descriptors: Some(16), ..FsOptions::default() });
    std::fs::write(w.backing("shared"), "").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let w = &w;
            scope.spawn(move || work(w, thread));
        }
    });
    assert_eq!((w.fs.store.table.len(), w.fs.store.budget.open()), (1, 1));
    let (mut created, mut removed) = (HashMap::new(), HashMap::new());
    for told in w.tracker.take() {
        match told {
            Told::Created(ino) => *created.entry(ino).or_insert(0_u64) += 1,
            Told::Removed(ino, _) => *removed.entry(ino).or_insert(0_u64) += 1,
            Told::Learned(..) | Told::Freed(..) => {}
        }
    }
    let sum = |counts: &HashMap<u64, u64>| counts.values().sum::<u64>();
    assert_eq!(sum(&created), THREADS * ROUNDS);
    assert_eq!(sum(&removed), THREADS * ROUNDS * 3 / 4);
    assert!(removed.iter().all(|(ino, count)| created[ino] >= *count), "none is removed that was not made");
}
