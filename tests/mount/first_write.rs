//! What waits and what does not.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use stunfs::Volume;
use stunfs::internal::model::Latency;

use crate::common::timed;

#[test]
fn first_writes_wait_and_nothing_else_does() {
    crate::common::need_fuse!();
    let wait = Duration::from_millis(300);
    let volume = Volume::builder().first_write(Latency::Constant(wait)).mount().unwrap();
    let path = volume.path().join("file");
    let (_, first) = timed(|| fs::write(&path, vec![1; 4096]).unwrap());
    assert!(first >= wait, "the first write waited only {first:?}");
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let (_, rewrite) = timed(|| file.write_all_at(&[2; 4096], 0).unwrap());
    assert!(rewrite < wait, "a rewrite waited {rewrite:?}");
    let (data, read) = timed(|| fs::read(&path).unwrap());
    assert_eq!(data, vec![2; 4096]);
    assert!(read < wait, "a read waited {read:?}");
    drop(file);
    assert_eq!(volume.unmount().unwrap().held, 1);
}
