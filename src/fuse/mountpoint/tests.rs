use super::*;

fn stunfs_at(mountpoint: &str, backing: &str) -> Mount {
    Mount {
        device: (0, 50),
        mountpoint: mountpoint.into(),
        fstype: "fuse.stunfs".into(),
        source: backing.into(),
        super_options: "rw".into(),
    }
}

#[test]
fn directories_that_are_not_there_or_not_directories_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, file) = (dir.path().join("missing"), dir.path().join("file"));
    std::fs::write(&file, "").unwrap();
    let of_backing = |path: &Path| check(path, dir.path(), false).unwrap_err();
    assert!(matches!(of_backing(&missing), MountError::BackingMissing(path) if path == missing));
    assert!(matches!(of_backing(&file), MountError::BackingNotDirectory(path) if path == file));
    let of_mountpoint = |path: &Path| check(dir.path(), path, false).unwrap_err();
    assert!(matches!(of_mountpoint(&missing), MountError::MountpointMissing(_)));
    assert!(matches!(of_mountpoint(&file), MountError::MountpointNotDirectory(_)));
    assert!(matches!(of_mountpoint(&file.join("below")), MountError::MountpointNotDirectory(_)));
}

#[test]
fn nested_and_equal_directories_are_refused_whatever_links_lead_there() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("inner");
    let link = dir.path().join("link");
    std::fs::create_dir(&inner).unwrap();
    std::os::unix::fs::symlink(&inner, &link).unwrap();
    for (backing, mountpoint) in [(dir.path(), inner.as_path()), (&inner, dir.path()), (&inner, &link)] {
        let error = check(backing, mountpoint, false).unwrap_err();
        assert!(matches!(error, MountError::Nested { .. }), "{error}");
    }
}

#[test]
fn a_name_that_only_begins_alike_is_not_nested() {
    assert!(check_apart(Path::new("/data/a"), Path::new("/data/ab")).is_ok());
    assert!(check_apart(Path::new("/data/a"), Path::new("/data/a/b")).is_err());
}

#[test]
fn volumes_with_overlapping_backings_are_refused() {
    let mounts = [stunfs_at("/mnt/one", "/data/one"), stunfs_at("/mnt/named", "a name")];
    let refused = |backing: &str| check_others(Path::new(backing), &mounts).is_err();
    assert!(refused("/data/one"));
    assert!(refused("/data/one/below"));
    assert!(refused("/data"));
    assert!(!refused("/data/two"));
    assert!(!refused("/mnt/one"), "a volume on top of a volume is fine");
}

#[test]
fn only_our_own_mounts_count_for_overlaps() {
    let mut other = stunfs_at("/mnt/one", "/data/one");
    other.fstype = "fuse.sshfs".into();
    assert!(check_others(Path::new("/data/one"), &[other]).is_ok());
}

#[test]
fn allow_other_needs_its_line_uncommented() {
    assert!(permits_allow_other("mount_max = 3\n user_allow_other \n"));
    assert!(!permits_allow_other("#user_allow_other\n"));
    assert!(!permits_allow_other(""));
}

#[test]
fn every_error_is_one_line() {
    let error = MountError::Busy { mountpoint: "/m".into(), fstype: "fuse.x".into(), source_name: "y".into() };
    let text = error.to_string();
    assert_eq!(
        text,
        "mount point /m is busy: y (fuse.x) is mounted there; unmount it (umount /m) or use another directory"
    );
    let timeout = MountError::RequestTimeout { timeout: Duration::from_secs(60), max_hold: Duration::from_secs(600) };
    assert!(!timeout.to_string().contains('\n') && timeout.to_string().contains("sysctl -w"));
}

#[test]
fn a_kernel_that_aborts_before_the_longest_hold_is_refused_with_the_mend() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    assert!(fits_into(None, minutes(10)).is_ok());
    assert!(fits_into(Some(minutes(11)), minutes(10)).is_ok());
    let refused = fits_into(Some(minutes(10)), minutes(10)).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("600 s") && text.contains("sysctl -w") && text.contains("--max-hold"), "{text}");
}
