//! Owners, modes, umask, set-id bits and ACLs for callers other than root: a mount beside a plain directory, in the
//! manner of pjdfstest. Each case is a shell script that runs as a user in both, and must say the same in both.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use stunfs::internal::fs::CacheMode;

use crate::support::volume_and_plain;

/// Who runs a script: user, group, supplementary groups.
type User = (&'static str, &'static str, &'static str);
const ALICE: User = ("1000", "1000", "1001");
const BOB: User = ("1001", "1001", "");

/// What a script says as a user in a directory.
fn run(dir: &Path, (uid, gid, groups): User, script: &str) -> String {
    let groups = if groups.is_empty() { "--clear-groups".into() } else { format!("--groups={groups}") };
    let output = Command::new("setpriv")
        .args([&format!("--reuid={uid}"), &format!("--regid={gid}"), &groups, "sh", "-c", script])
        .current_dir(dir)
        .output()
        .unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const SHOW: &str = "stat -c '%n %A %u %g %h' -- *";

/// Runs the steps on a mount and on a plain directory, in every cache mode.
fn same(steps: &[(Option<User>, &str)]) {
    crate::common::need_fuse!();
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: needs root");
        return;
    }
    for cache in [CacheMode::Through, CacheMode::Back, CacheMode::Direct] {
        let (volume, plain) = volume_and_plain(cache);
        let roots = [volume.path().join("w"), plain.path().join("w")];
        for root in &roots {
            fs::create_dir(root).unwrap();
            fs::set_permissions(root, Permissions::from_mode(0o777)).unwrap();
        }
        for (who, script) in steps {
            let script = format!("exec 2>&1; {script}; {SHOW}");
            let [ours, theirs] = [0, 1].map(|side: usize| run(&roots[side], who.unwrap_or(("0", "0", "")), &script));
            assert_eq!(ours, theirs, "{cache:?}: {script}");
            assert!(!theirs.is_empty());
        }
        volume.unmount().unwrap();
    }
}

#[test]
fn what_is_made_has_owner_group_and_umask_of_its_maker() {
    same(&[
        (Some(ALICE), "umask 027; : > file; mkdir dir; mkfifo fifo; ln -s file link"),
        (Some(BOB), "umask 000; : > bob; mkdir bobdir; rm file; cat file; echo x >> file; : > dir/x"),
        (Some(ALICE), "chmod 4755 file; chown 1001 file; chgrp 1001 file; ls dir"),
        (Some(BOB), "chmod 600 file; mv file mine; rmdir dir"),
    ]);
}

#[test]
fn a_set_group_id_directory_gives_its_group() {
    same(&[
        (None, "mkdir shared; chown 0:1001 shared; chmod 2777 shared"),
        (Some(ALICE), "cd shared; : > file; mkdir dir; mknod fifo p; chmod 2775 file"),
        (Some(BOB), "cd shared; : > file2; mkdir dir2; chmod 2775 file2"),
        (Some(ALICE), "cd shared; chmod g+s .; : > group; chmod 2755 group; chgrp 1000 group"),
    ]);
}

#[test]
fn the_sticky_bit_keeps_others_from_removing() {
    same(&[
        (None, "mkdir t; chmod 1777 t"),
        (Some(ALICE), "cd t; echo a > a; mkdir d"),
        (Some(BOB), "cd t; rm -f a; rmdir d; mv a b; echo b > b; ln a l; mv b a"),
        (Some(ALICE), "cd t; mv a c; rm -f c"),
    ]);
}

#[test]
fn regression_set_id_bits_go_when_another_user_writes() {
    // Without group-execute the set-group-id bit goes only if the writer is not in the group (was: stayed).
    let make = "for n in write truncate append falloc copy far; do echo data > $n; chown 0:0 $n; chmod 6766 $n; done; \
        for n in gw gt gm; do echo data > $n; chown 0:1001 $n; chmod 2666 $n; done; mkfifo fifo; chmod 2755 fifo";
    let change = "echo x > write; truncate -s 2 truncate; echo x >> append; fallocate -l 4096 falloc; \
        cp --reflink=never write copy; truncate -s 20T far; echo x > gw; truncate -s 1 gt; echo x >> gm; sync .";
    same(&[(None, make), (Some(BOB), change), (Some(ALICE), change)]);
    same(&[
        (Some(ALICE), "mknod -m 2755 fifo p; : > f; chmod 4755 f; chown 1000 f; chgrp 1001 f"),
        (None, "chown : f; chown 0:0 fifo"),
    ]);
}

#[test]
fn access_control_lists_are_obeyed_and_inherited() {
    // Without setfacl on the machine both sides say so alike; the random test sets the same lists by hand.
    same(&[
        (
            Some(ALICE),
            "echo secret > file; chmod 600 file; mkdir dir; setfacl -m u:1001:r file; setfacl -d -m u:1001:rwx,m:rwx dir",
        ),
        (Some(BOB), "cat file; echo x >> file; umask 077; : > dir/file; mkdir dir/sub; ls -l dir"),
        (Some(ALICE), "chmod g= file; getfacl -c file dir 2>&1; setfacl -b file"),
        (Some(BOB), "cat file; setfacl -m u:1001:rw file"),
    ]);
}

#[test]
fn a_user_namespace_gives_no_rights_over_files_of_others() {
    let make = "for n in write cut chown; do echo data > $n; chown 1000:1001 $n; chmod 6766 $n; done; \
        for n in own1 own2; do echo data > $n; chmod 6755 $n; done";
    // Root of a namespace in which only root has a number.
    let inside = "unshare -Ur sh -c 'echo x >> write; truncate -s 1 cut; chown : chown; echo x >> own1; chown : own2'";
    same(&[(None, make), (None, inside), (Some(ALICE), inside)]);
}
