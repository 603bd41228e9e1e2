//! Every variant of every error that a command may end with, and its exit code.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use stunfs::internal::control::ControlError;
use stunfs::internal::fuse::MountError;
use stunfs::internal::observe::kmsg::source::SourceError;
use stunfs::internal::observe::sysctl::SysctlError;
use stunfs::internal::settings::Settings;
use stunfs::internal::workload::AckLogError;

use super::*;

/// Rows of variants, examples and codes as a list. A variant without a row does not compile.
macro_rules! table {
    ($error:ty: $($variant:pat => $example:expr => $code:expr;)+) => {{
        fn _has_every_variant(error: &$error) {
            match error {
                $($variant => {})+
            }
        }
        vec![$((anyhow::Error::from($example), $code),)+]
    }};
}

fn check(table: Vec<(anyhow::Error, u8)>) {
    for (error, expected) in table {
        assert_eq!(code(&error), expected, "{error:?}");
        let wrapped = error.context("while something was done");
        assert_eq!(code(&wrapped), expected, "a context changes nothing: {wrapped:?}");
        assert_eq!(message(&wrapped).lines().count(), 1);
    }
}

fn path() -> PathBuf {
    "/some/where".into()
}

fn io(kind: io::ErrorKind) -> io::Error {
    kind.into()
}

fn failed() -> io::Error {
    io(io::ErrorKind::Other)
}

#[test]
fn every_kind_has_a_code_of_its_own() {
    let codes = ErrorKind::ALL.map(ErrorKind::exit_code);
    assert_eq!(codes, [2, 69, 70, 71, 73, 74, 77, 78]);
    assert_eq!(codes.into_iter().collect::<HashSet<_>>().len(), codes.len());
    for kind in ErrorKind::ALL {
        assert_eq!(code(&VolumeError::new(kind, "it does not work").into()), kind.exit_code());
    }
}

/// 71 and 78 came out as 69.
#[test]
fn regression_every_failure_to_mount_has_its_exit_code() {
    use MountError as E;
    let timeout = Duration::from_secs(60);
    let (fstype, source_name) = (String::new(), String::new());
    check(table! { MountError:
        E::MountpointMissing(_) => VolumeError::from(E::MountpointMissing(path())) => 2;
        E::MountpointNotDirectory(_) => VolumeError::from(E::MountpointNotDirectory(path())) => 2;
        E::Busy { .. } => VolumeError::from(E::Busy { mountpoint: path(), fstype, source_name }) => 2;
        E::DeadMount { .. } => VolumeError::from(E::DeadMount { mountpoint: path(), cause: failed() }) => 71;
        E::BackingMissing(_) => VolumeError::from(E::BackingMissing(path())) => 2;
        E::BackingNotDirectory(_) => VolumeError::from(E::BackingNotDirectory(path())) => 2;
        E::Nested { .. } => VolumeError::from(E::Nested { mountpoint: path(), backing: path() }) => 2;
        E::Overlap { .. } => VolumeError::from(E::Overlap { backing: path(), other: path(), mountpoint: path() }) => 2;
        E::Unreadable { .. } => VolumeError::from(E::Unreadable { path: path(), cause: failed() }) => 2;
        E::NoDevice(_) => VolumeError::from(E::NoDevice(failed())) => 69;
        E::DeviceDenied(_) => VolumeError::from(E::DeviceDenied(failed())) => 77;
        E::NoFusermount => VolumeError::from(E::NoFusermount) => 69;
        E::AllowOtherDenied => VolumeError::from(E::AllowOtherDenied) => 77;
        E::MountDenied { .. } => VolumeError::from(E::MountDenied { mountpoint: path(), cause: failed() }) => 77;
        E::RequestTimeout { .. } => VolumeError::from(E::RequestTimeout { timeout, max_hold: timeout }) => 78;
        E::Failed { .. } => VolumeError::from(E::Failed { mountpoint: path(), step: "mount", cause: failed() }) => 71;
    });
}

#[test]
fn every_failure_to_serve_or_to_watch_has_its_exit_code() {
    use ControlError as E;
    let system = |kind| VolumeError::from(E::System { what: "make", place: String::new(), source: io(kind) });
    check(table! { ControlError:
        E::Live(_) => VolumeError::from(E::Live(path())) => 69;
        E::NotASocket(_) => VolumeError::from(E::NotASocket(path())) => 69;
        E::TooLong(_) => VolumeError::from(E::TooLong(path())) => 2;
        E::UnsafeDir(_) => VolumeError::from(E::UnsafeDir(path())) => 77;
        E::System { .. } => system(io::ErrorKind::PermissionDenied) => 77;
    });
    let more = [
        (io::ErrorKind::AddrInUse, 69),
        (io::ErrorKind::AddrNotAvailable, 69),
        (io::ErrorKind::NotFound, 69),
        (io::ErrorKind::ReadOnlyFilesystem, 73),
        (io::ErrorKind::Other, 74),
    ];
    check(more.map(|(kind, code)| (system(kind).into(), code)).into());
    let denied = || io(io::ErrorKind::PermissionDenied);
    check(table! { SourceError:
        SourceError::Open { .. } => VolumeError::from(SourceError::Open { path: path(), cause: denied() }) => 77;
        SourceError::Read { .. } => VolumeError::from(SourceError::Read { path: path(), cause: failed() }) => 69;
    });
    let access = |cause| VolumeError::from(SysctlError::Access { what: "set", path: path(), cause });
    check(table! { SysctlError:
        SysctlError::Busy { .. } => VolumeError::from(SysctlError::Busy { path: path() }) => 69;
        SysctlError::Access { .. } => access(denied()) => 77;
    });
}

#[test]
fn every_failure_to_talk_to_a_volume_has_its_exit_code() {
    let refused = |status| ClientError::Refused { status, text: "no".into() };
    check(table! { ClientError:
        ClientError::NotListening(_) => ClientError::NotListening(path()) => 69;
        ClientError::Denied(_) => ClientError::Denied(path()) => 77;
        ClientError::TimedOut { .. } => ClientError::TimedOut { socket: path(), within: Duration::ZERO } => 69;
        ClientError::Broken { .. } => ClientError::Broken { socket: path(), what: "reset".into() } => 74;
        ClientError::Refused { .. } => refused(400) => 2;
        ClientError::Local(_) => ClientError::Local(failed()) => 71;
    });
    check([(403, 77), (409, 2), (413, 2), (500, 70), (503, 69)].map(|(s, code)| (refused(s).into(), code)).into());
    check(table! { FindError:
        FindError::None => FindError::None => 69;
        FindError::Several(_) => FindError::Several(vec![path()]) => 2;
        FindError::Anothers { .. } => FindError::Anothers { mountpoint: path(), socket: path() } => 2;
        FindError::NotFound(_) => FindError::NotFound(path()) => 69;
    });
}

#[test]
fn every_other_failure_has_its_exit_code() {
    let directory = |kind| WorkloadError::Directory { dir: path(), cause: io(kind) };
    check(table! { WorkloadError:
        WorkloadError::Options(_) => WorkloadError::Options("no".into()) => 2;
        WorkloadError::AckLog(_) => WorkloadError::AckLog(AckLogError::Line { path: path(), line: 1 }) => 2;
        WorkloadError::Directory { .. } => directory(io::ErrorKind::PermissionDenied) => 77;
        WorkloadError::Thread(_) => WorkloadError::Thread(failed()) => 71;
    });
    let settings = Settings::new().set("lane", "3").unwrap_err();
    check(vec![
        (settings.into(), 2),
        (UsageError("no".into()).into(), 2),
        (ErrorWithCode { code: 127, message: "no".into() }.into(), 127),
        (clap::Error::new(ClapKind::UnknownArgument).into(), 2),
        (failed().into(), 74),
        (io(io::ErrorKind::AlreadyExists).into(), 73),
        (anyhow::anyhow!("of no known type"), 70),
    ]);
}
