//! The operations: what there is, and how they are drawn.

use proptest::prelude::*;

/// Paths that operations use; an index into them is taken modulo their number.
pub(super) const PATHS: [&str; 22] = [
    "a", "b", "c", "d0", "d1", "d0/s", "d0/a", "d0/b", "d1/a", "d1/b", "d0/s/a", "d0/s/t", "ln", "d1/ln", "fifo",
    "none/x", "a/under", "", "d0/..", "ä ö", LONG, "d1/./c",
];
/// 256 bytes: one too many.
const LONG: &str = concat!(
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "01234567890123456789012345678901234567890123456789012345"
);
/// What symbolic links point at.
pub(super) const TARGETS: [&str; 6] = ["a", "d0", "../a", "ln", "nowhere", "s/../b"];
/// Names of extended attributes.
pub(super) const XATTRS: [&str; 5] = ["user.a", "user.bb", "trusted.t", "security.x", "nonsense"];
/// Modes of files; directories get some execute bits more.
pub(super) const MODES: [u32; 8] = [0o644, 0o600, 0o666, 0o755, 0o4755, 0o2755, 0o2644, 0o000];

/// A path, an index into [`PATHS`].
pub(super) type P = u8;
/// An open file, an index modulo the number of open files.
pub(super) type H = u8;

#[derive(Debug, Clone)]
pub(super) enum Op {
    Open(P, u8, u8),
    Close(H),
    Read(H, u32),
    Pread(H, u32, u32),
    Write(H, u32, u8),
    Pwrite(H, u32, u32, u8),
    Writev(H, [u16; 3], u8),
    Seek(H, u32),
    Truncate(P, u32),
    Ftruncate(H, u32),
    FtruncateFar(H),
    Unlink(P),
    Rmdir(P),
    Mkdir(P, u8),
    Rename(P, P, u8),
    Link(P, P),
    Symlink(u8, P),
    Readlink(P),
    Mknod(P, u8, u8),
    Chmod(P, u8),
    Fchmod(H, u8),
    Chown(P, u8, u8),
    Lchown(P, u8, u8),
    Utimens(P, i32, u32),
    Futimens(H, i32, u32),
    SetXattr(P, u8, u16, u8),
    GetXattr(P, u8, u16),
    ListXattr(P),
    RemoveXattr(P, u8),
    SetAcl(P, u8, bool),
    GetAcl(P, bool),
    Fallocate(H, u8, u32, u32),
    SeekHole(H, u32, bool),
    Copy(H, u32, H, u32, u32),
    MapShared(H, u32, u32, u8),
    MapPrivate(H, u32, u32),
    Flock(H, u8),
    Lock(H, u8, u16, u16),
    Readdir(P),
    Fsync(H, bool),
    Statvfs,
    Access(P, u8),
    DirectWrite(P, u8, u8, u8),
    DirectRead(P, u8, u8),
    Stat(P),
    Fstat(H),
    /// From now on as this user.
    User(u8),
    Umask(u8),
}

fn at() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..20_000_u32, 2 => (0..20_u32).prop_map(|page| page * 4096), 1 => 0..200_000_u32]
}

fn len() -> impl Strategy<Value = u32> {
    prop_oneof![3 => 0..9_000_u32, 1 => (0..4_u32).prop_map(|page| page * 4096), 1 => 0..70_000_u32]
}

fn names() -> impl Strategy<Value = Op> {
    let (p, b) = (0..255_u8, 0..255_u8);
    prop_oneof![
        3 => p.clone().prop_map(Op::Unlink),
        2 => p.clone().prop_map(Op::Rmdir),
        4 => (p.clone(), b.clone()).prop_map(|(p, m)| Op::Mkdir(p, m)),
        6 => (p.clone(), p.clone(), b.clone()).prop_map(|(p, q, f)| Op::Rename(p, q, f)),
        3 => (p.clone(), p.clone()).prop_map(|(p, q)| Op::Link(p, q)),
        2 => (b.clone(), p.clone()).prop_map(|(t, p)| Op::Symlink(t, p)),
        1 => p.clone().prop_map(Op::Readlink),
        2 => (p.clone(), b.clone(), b.clone()).prop_map(|(p, k, m)| Op::Mknod(p, k, m)),
        3 => p.clone().prop_map(Op::Readdir),
        2 => (p, b).prop_map(|(p, b)| Op::Access(p, b)),
    ]
}

fn attributes() -> impl Strategy<Value = Op> {
    let (p, h, b) = (0..255_u8, 0..255_u8, 0..255_u8);
    prop_oneof![
        3 => (p.clone(), b.clone()).prop_map(|(p, m)| Op::Chmod(p, m)),
        1 => (h.clone(), b.clone()).prop_map(|(h, m)| Op::Fchmod(h, m)),
        2 => (p.clone(), b.clone(), b.clone()).prop_map(|(p, u, g)| Op::Chown(p, u, g)),
        1 => (p.clone(), b.clone(), b.clone()).prop_map(|(p, u, g)| Op::Lchown(p, u, g)),
        3 => (p.clone(), any::<i32>(), 0..1_000_000_000_u32).prop_map(|(p, s, n)| Op::Utimens(p, s, n)),
        1 => (h.clone(), any::<i32>(), 0..1_000_000_000_u32).prop_map(|(h, s, n)| Op::Futimens(h, s, n)),
        3 => (p.clone(), b.clone(), 0..300_u16, b.clone()).prop_map(|(p, n, l, f)| Op::SetXattr(p, n, l, f)),
        2 => (p.clone(), b.clone(), 0..400_u16).prop_map(|(p, n, l)| Op::GetXattr(p, n, l)),
        2 => p.clone().prop_map(Op::ListXattr),
        1 => (p.clone(), b.clone()).prop_map(|(p, n)| Op::RemoveXattr(p, n)),
        2 => (p.clone(), b.clone(), any::<bool>()).prop_map(|(p, w, d)| Op::SetAcl(p, w, d)),
        1 => (p.clone(), any::<bool>()).prop_map(|(p, d)| Op::GetAcl(p, d)),
        4 => p.prop_map(Op::Stat),
        2 => h.prop_map(Op::Fstat),
        4 => b.clone().prop_map(Op::User),
        1 => b.prop_map(Op::Umask),
        1 => Just(Op::Statvfs),
    ]
}

fn data() -> impl Strategy<Value = Op> {
    let (h, b) = (0..255_u8, 0..255_u8);
    prop_oneof![
        3 => (h.clone(), len()).prop_map(|(h, n)| Op::Read(h, n)),
        4 => (h.clone(), at(), len()).prop_map(|(h, o, n)| Op::Pread(h, o, n)),
        5 => (h.clone(), len(), b.clone()).prop_map(|(h, n, s)| Op::Write(h, n, s)),
        5 => (h.clone(), at(), len(), b.clone()).prop_map(|(h, o, n, s)| Op::Pwrite(h, o, n, s)),
        2 => (h.clone(), any::<[u16; 3]>(), b.clone()).prop_map(|(h, n, s)| Op::Writev(h, n, s)),
        1 => (h.clone(), at()).prop_map(|(h, o)| Op::Seek(h, o)),
        2 => (0..255_u8, at()).prop_map(|(p, o)| Op::Truncate(p, o)),
        2 => (h.clone(), at()).prop_map(|(h, o)| Op::Ftruncate(h, o)),
        1 => h.clone().prop_map(Op::FtruncateFar),
    ]
}

fn space() -> impl Strategy<Value = Op> {
    let (h, b) = (0..255_u8, 0..255_u8);
    prop_oneof![
        4 => (h.clone(), b.clone(), at(), len()).prop_map(|(h, m, o, n)| Op::Fallocate(h, m, o, n)),
        3 => (h.clone(), at(), any::<bool>()).prop_map(|(h, o, d)| Op::SeekHole(h, o, d)),
        3 => (h.clone(), at(), h.clone(), at(), len()).prop_map(|(h, o, i, p, n)| Op::Copy(h, o, i, p, n)),
        3 => (h.clone(), at(), len(), b.clone()).prop_map(|(h, o, n, s)| Op::MapShared(h, o, n, s)),
        2 => (h.clone(), at(), len()).prop_map(|(h, o, n)| Op::MapPrivate(h, o, n)),
        2 => (h.clone(), b.clone()).prop_map(|(h, k)| Op::Flock(h, k)),
        3 => (h.clone(), b.clone(), any::<u16>(), any::<u16>()).prop_map(|(h, k, o, n)| Op::Lock(h, k, o, n)),
        1 => (h, any::<bool>()).prop_map(|(h, d)| Op::Fsync(h, d)),
        1 => (0..255_u8, 0..20_u8, 0..4_u8, b).prop_map(|(p, o, n, s)| Op::DirectWrite(p, o, n, s)),
        1 => (0..255_u8, 0..20_u8, 0..4_u8).prop_map(|(p, o, n)| Op::DirectRead(p, o, n)),
    ]
}

/// One operation.
pub(super) fn op() -> impl Strategy<Value = Op> {
    let open = (0..255_u8, 0..255_u8, 0..255_u8).prop_map(|(p, f, m)| Op::Open(p, f, m));
    let close = (0..255_u8).prop_map(Op::Close);
    prop_oneof![4 => open, 1 => close, 6 => names(), 6 => attributes(), 9 => data(), 6 => space()]
}
