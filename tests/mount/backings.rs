//! Backings of all kinds: without file handles, with other file systems inside, on FUSE, and files that are special there. As root.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use stunfs::Volume;
use stunfs::internal::backing::{HandleSource, open_root};
use stunfs::internal::fs::CacheMode;

use crate::common::need_fuse;
use crate::limits::Daemon;

/// Whether this is root; says so if not.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("left out: needs root");
    }
    root
}

/// A tmpfs, unmounted at the end.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn on(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        let done = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&path).status().unwrap();
        assert!(done.success());
        Self(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn drop_inodes() {
    for _ in 0..2 {
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    }
}

#[test]
fn many_files_are_found_by_their_names_where_there_are_no_handles() {
    need_fuse!();
    if !is_root() {
        return;
    }
    // Handles cannot be opened without CAP_DAC_READ_SEARCH, limits not be raised without CAP_SYS_RESOURCE.
    let no_handles = ["setpriv", "--bounding-set=-dac_read_search,-sys_resource", "--inh-caps=-all"];
    let daemon = Daemon::start_with(Some(512), &no_handles);
    let (mount, backing) = (daemon.path().to_owned(), daemon.backing.path().to_owned());
    let file = |dir: u32, n: u32| format!("{dir}/deep/{n}");
    for dir in 0..150 {
        fs::create_dir_all(mount.join(format!("{dir}/deep"))).unwrap();
        (0..10).for_each(|n| fs::write(mount.join(file(dir, n)), format!("{dir} {n}")).unwrap());
    }
    let read_all = |name: &dyn Fn(u32, u32) -> String| {
        for dir in 0..150 {
            for n in 0..10 {
                assert_eq!(fs::read_to_string(mount.join(name(dir, n))).unwrap(), format!("{dir} {n}"));
            }
        }
    };
    read_all(&file);
    // What is above them is renamed; some get a second name and lose the first, or are replaced.
    (0..150).for_each(|dir| fs::rename(mount.join(dir.to_string()), mount.join(format!("new{dir}"))).unwrap());
    let moved = |dir: u32, n: u32| format!("new{dir}/deep/{n}");
    read_all(&moved);
    for dir in 0..150 {
        fs::hard_link(mount.join(moved(dir, 0)), mount.join(format!("link{dir}"))).unwrap();
        fs::remove_file(mount.join(moved(dir, 0))).unwrap();
        fs::write(mount.join("replacement"), format!("replaced {dir}")).unwrap();
        fs::rename(mount.join("replacement"), mount.join(moved(dir, 1))).unwrap();
    }
    let expected = |dir: u32, n: u32| if n == 1 { format!("replaced {dir}") } else { format!("{dir} {n}") };
    for dir in 0..150 {
        for n in 1..10 {
            assert_eq!(fs::read_to_string(mount.join(moved(dir, n))).unwrap(), expected(dir, n));
        }
        assert_eq!(fs::read_to_string(mount.join(format!("link{dir}"))).unwrap(), expected(dir, 0));
        assert_eq!(fs::read_to_string(backing.join(moved(dir, 1))).unwrap(), expected(dir, 1));
    }
    fs::write(mount.join("one-more"), "x").unwrap();
}

#[test]
fn inode_numbers_stay_where_another_file_system_is_mounted_inside() {
    need_fuse!();
    if !is_root() {
        return;
    }
    let backing = tempfile::tempdir().unwrap();
    let _inside = [Tmpfs::on(backing.path().join("one")), Tmpfs::on(backing.path().join("two"))];
    let volume = Volume::builder().backing(backing.path()).mount().unwrap();
    let numbers = || -> BTreeMap<String, u64> {
        let stat = |dir: &str, n: u32| {
            let name = format!("{dir}/{n}");
            let number = fs::metadata(volume.path().join(&name)).unwrap().ino();
            (name, number)
        };
        ["one", "two"].iter().flat_map(|dir| (0..5).map(|n| stat(dir, n))).collect()
    };
    let names = || (0..5).map(|n| n.to_string());
    ["one", "two"]
        .iter()
        .for_each(|dir| names().for_each(|n| fs::write(volume.path().join(dir).join(n), "x").unwrap()));
    let before = numbers();
    for dir in ["one", "two"] {
        for entry in fs::read_dir(volume.path().join(dir)).unwrap().flatten() {
            assert_eq!(entry.ino(), before[&format!("{dir}/{}", entry.file_name().display())]);
        }
    }
    let different: std::collections::BTreeSet<_> = before.values().collect();
    assert_eq!(different.len(), 10);
    drop_inodes();
    assert_eq!(numbers(), before);
    volume.unmount().unwrap();
}

/// `struct file_handle`.
#[repr(C)]
struct RawHandle {
    len: u32,
    kind: i32,
    bytes: [u8; 128],
}

fn handle(path: &Path) -> RawHandle {
    let mut raw = RawHandle { len: 128, kind: 0, bytes: [0; 128] };
    let (path, mut mount_id) = (CString::new(path.as_os_str().as_bytes()).unwrap(), 0);
    let (at, to) = (libc::AT_FDCWD, std::ptr::from_mut(&mut raw));
    // SAFETY: `raw` has the layout of `struct file_handle` and says how much room it has.
    let done = unsafe { libc::syscall(libc::SYS_name_to_handle_at, at, path.as_ptr(), to, &raw mut mount_id, 0) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    raw
}

fn open_handle(mount: &File, raw: &mut RawHandle, flags: i32) -> std::io::Result<File> {
    let to = std::ptr::from_mut(raw);
    // SAFETY: as in `handle`.
    let fd = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), to, flags) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }.into())
}

#[test]
fn handles_are_good_after_the_kernel_has_dropped_its_caches() {
    need_fuse!();
    if !is_root() {
        return;
    }
    let volume = Volume::builder().mount().unwrap();
    let dir = volume.path().join("a/b");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("f"), "content").unwrap();
    fs::write(dir.join("gone"), "x").unwrap();
    let mut handles = [dir.join("f"), dir.clone(), dir.join("gone")].map(|path| handle(&path));
    let mount = File::open(volume.path()).unwrap();
    fs::remove_file(dir.join("gone")).unwrap();
    fs::write(dir.join("another"), "x").unwrap();
    drop_inodes();
    let mut text = String::new();
    open_handle(&mount, &mut handles[0], libc::O_RDONLY).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    let folder = open_handle(&mount, &mut handles[1], libc::O_RDONLY | libc::O_DIRECTORY).unwrap();
    let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
    assert_eq!(fs::read_link(&path).unwrap(), dir);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 2);
    let stale = open_handle(&mount, &mut handles[2], libc::O_RDONLY).unwrap_err();
    assert_eq!(stale.raw_os_error(), Some(libc::ESTALE));
    drop((mount, folder));
    // The next session has not seen the file. ext4 finds it by its number.
    let is_ext4 = rustix::fs::statfs(volume.backing()).unwrap().f_type == 0xef53;
    let backing = tempfile::tempdir().unwrap();
    fs::write(backing.path().join("f"), "again").unwrap();
    let first = Volume::builder().backing(backing.path()).mount().unwrap();
    let mut kept = handle(&first.path().join("f"));
    first.unmount().unwrap();
    let next = Volume::builder().backing(backing.path()).mount().unwrap();
    let mount = File::open(next.path()).unwrap();
    let opened = open_handle(&mount, &mut kept, libc::O_RDONLY).map(|file| file.metadata().unwrap().len());
    assert_eq!(opened.ok(), is_ext4.then_some(5));
    drop(mount);
    next.unmount().unwrap();
    volume.unmount().unwrap();
}

#[test]
fn an_append_only_file_takes_what_is_appended() {
    need_fuse!();
    if !is_root() {
        return;
    }
    for cache in [CacheMode::Through, CacheMode::Back, CacheMode::Direct] {
        let volume = Volume::builder().cache(cache).mount().unwrap();
        let path = volume.path().join("log");
        fs::write(&path, "one\n").unwrap();
        let chattr = |flag: &str| Command::new("chattr").arg(flag).arg(volume.backing().join("log")).status().unwrap();
        assert!(chattr("+a").success());
        let append = OpenOptions::new().append(true).open(&path).and_then(|mut file| file.write_all(b"two\n"));
        let others = [
            OpenOptions::new().write(true).open(&path).map(drop),
            OpenOptions::new().append(true).truncate(false).open(&path).and_then(|file| file.set_len(0)),
            fs::remove_file(&path),
        ];
        assert!(chattr("-a").success());
        append.unwrap();
        assert_eq!(others.map(|result| result.unwrap_err().raw_os_error()), [Some(libc::EPERM); 3], "{cache:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        volume.unmount().unwrap();
    }
}

#[test]
fn opening_an_empty_file_to_truncate_it_sets_its_times_and_truncate_does_not() {
    need_fuse!();
    if !is_root() {
        return;
    }
    // ext4 sets them in any case, tmpfs, XFS and btrfs only for `O_TRUNC`.
    let backing = tempfile::tempdir().unwrap();
    let tmpfs = Tmpfs::on(backing.path().join("tmpfs"));
    for cache in [CacheMode::Through, CacheMode::Back] {
        let volume = Volume::builder().backing(&tmpfs.0).cache(cache).mount().unwrap();
        let changed = |path: &Path, change: &dyn Fn(&Path)| {
            let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(10);
            File::create(path).unwrap().set_modified(old).unwrap();
            change(path);
            fs::metadata(path).unwrap().modified().unwrap() > old
        };
        let create = |path: &Path| drop(File::create(path).unwrap());
        let truncate = |path: &Path| {
            let path = CString::new(path.as_os_str().as_bytes()).unwrap();
            // SAFETY: the path is a string that outlives the call.
            assert_eq!(unsafe { libc::truncate(path.as_ptr(), 0) }, 0);
        };
        for (what, change) in [("open", &create as &dyn Fn(&Path)), ("truncate", &truncate)] {
            let ours = changed(&volume.path().join("stamp"), change);
            assert_eq!(ours, changed(&backing.path().join("tmpfs/plain"), change), "{what} {cache:?}");
        }
        volume.unmount().unwrap();
    }
}

#[test]
fn a_read_only_backing_makes_a_read_only_volume() {
    need_fuse!();
    if !is_root() {
        return;
    }
    let backing = tempfile::tempdir().unwrap();
    let tmpfs = Tmpfs::on(backing.path().join("tmpfs"));
    fs::write(tmpfs.0.join("f"), "x").unwrap();
    let done = Command::new("mount").args(["-o", "remount,ro"]).arg(&tmpfs.0).status().unwrap();
    assert!(done.success());
    let volume = Volume::builder().backing(&tmpfs.0).mount().unwrap();
    let answers = |path: PathBuf| {
        let writable = rustix::fs::access(&path, rustix::fs::Access::WRITE_OK).map_err(|error| error.raw_os_error());
        let opened = OpenOptions::new().write(true).open(&path).map(drop).map_err(|error| error.raw_os_error());
        (writable, opened, rustix::fs::access(&path, rustix::fs::Access::READ_OK).is_ok())
    };
    let ours = answers(volume.path().join("f"));
    assert_eq!(ours, answers(tmpfs.0.join("f")));
    assert_eq!(ours, (Err(libc::EROFS), Err(Some(libc::EROFS)), true));
    volume.unmount().unwrap();
}

#[test]
fn handles_of_a_backing_on_fuse_are_not_used() {
    need_fuse!();
    // They end when the kernel forgets their nodes, which looked as if the files had been removed.
    let lower = Volume::builder().mount().unwrap();
    assert!(HandleSource::new(open_root(lower.path()).unwrap()).is_none());
    let backing = lower.path().join("backing");
    fs::create_dir(&backing).unwrap();
    let upper = Volume::builder().backing(&backing).mount().unwrap();
    fs::write(upper.path().join("f"), "x").unwrap();
    assert_eq!(fs::read(lower.backing().join("backing/f")).unwrap(), b"x");
    upper.unmount().unwrap();
    lower.unmount().unwrap();
}

#[test]
fn a_file_that_its_owner_may_not_read_is_written_with_a_write_back_cache() {
    need_fuse!();
    if !is_root() {
        return;
    }
    // Root without the right to overlook modes, as an ordinary owner.
    let plain_user = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"];
    let daemon = Daemon::start_with_options(None, &plain_user, &["--cache", "back"]);
    let path = daemon.path().join("drop");
    fs::write(&path, "one\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o200)).unwrap();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"two\n").unwrap();
    let middle = OpenOptions::new().write(true).custom_flags(libc::O_SYNC).open(&path).unwrap();
    middle.write_all_at(b"-", 3).unwrap();
    drop((file, middle));
    assert_eq!(fs::read_to_string(daemon.backing.path().join("drop")).unwrap(), "one-two\n");
}

#[test]
fn a_file_of_many_extents_is_looked_through_by_a_worker() {
    need_fuse!();
    let backing = tempfile::tempdir().unwrap();
    let path = backing.path().join("image");
    let image = File::create(&path).unwrap();
    (0..2000).for_each(|n| image.write_all_at(b"x", n << 14).unwrap());
    let volume = Volume::builder().backing(backing.path()).first_write("1ms".parse().unwrap()).mount().unwrap();
    let file = OpenOptions::new().read(true).write(true).open(volume.path().join("image")).unwrap();
    std::thread::scope(|scope| {
        for n in 0..8u64 {
            let file = &file;
            scope.spawn(move || file.write_all_at(&[b'y'; 8192], n << 14).unwrap());
        }
    });
    rustix::fs::fallocate(file.as_fd(), rustix::fs::FallocateFlags::empty(), 0, 64 << 20).unwrap();
    let mut read = vec![0; 8192];
    for n in 0..8 {
        file.read_exact_at(&mut read, n << 14).unwrap();
        assert!(read.iter().all(|&byte| byte == b'y'), "{n}");
    }
    drop(file);
    volume.unmount().unwrap();
}
