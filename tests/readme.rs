//! The README's example, as it stands there, compiled and run. Needs /dev/fuse; see `tests/common`.

mod common;

use std::time::Duration;
use stunfs::Volume;

fn a_stalled_chunk_stalls_nothing_else() -> Result<(), Box<dyn std::error::Error>> {
    let volume = Volume::builder().first_write("10s".parse()?).mount()?;
    let path = volume.path().join("chunk");
    let writer = std::thread::spawn(move || std::fs::write(path, b"new data"));
    assert!(volume.wait_held(1, Duration::from_secs(5))); // it stalls ...
    assert!(std::fs::read_dir(volume.path())?.count() == 1); // ... and reads go on
    volume.release(); // the write succeeds, later
    writer.join().expect("the writer")?;
    Ok(())
}

#[test]
fn the_example_runs() {
    common::need_fuse!();
    a_stalled_chunk_stalls_nothing_else().unwrap();
}

#[test]
fn the_example_is_the_readmes() {
    let (here, readme) = (include_str!("readme.rs"), include_str!("../README.md"));
    let begin = here.find("fn a_stalled_chunk").unwrap();
    let end = begin + here[begin..].find("\n}\n").unwrap() + 3;
    assert!(readme.contains(&here[begin..end]), "README.md does not show the example that tests/readme.rs runs");
}
