//! Freezing a control group with everything below it: the v1 freezer and v2's `cgroup.freeze`.
//!
//! Must not know: what runs in the group. Invariant: a group that another program froze is neither frozen nor thawed.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, openat};
use rustix::io::Errno;

use super::error::{CgroupFailure, FreezeCause};
use super::freezer::{Freezer, Surroundings, UndoArmer, tell};
use super::stuck_thread::{RestDetector, StuckThread};
use super::undo_action::UndoAction;
use crate::sys::cgroup::{self, CgroupVersion};
use crate::sys::process;
use crate::time::{Deadline, pause};

/// How often the state is read back.
const POLL: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    /// The group itself: another one of the same name is not touched.
    directory: OwnedFd,
    version: CgroupVersion,
    ours: bool,
    waiting: Vec<StuckThread>,
}

impl CgroupVersion {
    /// The file that freezes and thaws, and what to write for either.
    fn control(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::V1 => ("freezer.state", "FROZEN", "THAWED"),
            Self::V2 => ("cgroup.freeze", "1", "0"),
        }
    }

    /// The states of threads that stay where they are: the v2 freezer's own is an interruptible sleep.
    fn resting(self) -> &'static [u8] {
        match self {
            Self::V1 => b"DTtZX",
            Self::V2 => b"DSTtZX",
        }
    }

    /// The file that lists a group's threads.
    fn threads(self) -> &'static str {
        match self {
            Self::V1 => "tasks",
            Self::V2 => "cgroup.threads",
        }
    }
}

impl Cgroup {
    pub(super) fn open(path: &Path) -> Result<Self, FreezeCause> {
        let (version, path) = cgroup::find(path).map_err(CgroupFailure::Group)?;
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let directory = openat(CWD, &path, flags, Mode::empty());
        let directory = directory.map_err(|cause| CgroupFailure::Access { path: path.clone(), cause: cause.into() })?;
        Ok(Self { path, directory, version, ours: false, waiting: Vec::new() })
    }

    fn read(&self, file: &str) -> io::Result<String> {
        let mut text = String::new();
        let file = openat(&self.directory, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        fs::File::from(file).read_to_string(&mut text).map(|_| text)
    }

    fn write(&self, value: &str) -> io::Result<()> {
        let file = openat(&self.directory, self.version.control().0, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        fs::File::from(file).write_all(value.as_bytes())
    }

    /// Whether the group itself was asked to freeze (not one above it).
    fn requested(&self) -> io::Result<bool> {
        let file = match self.version {
            CgroupVersion::V1 => "freezer.self_freezing",
            CgroupVersion::V2 => "cgroup.freeze",
        };
        Ok(self.read(file)?.trim() == "1")
    }

    /// Whether the kernel says that everything in the group is frozen.
    fn acknowledged(&self) -> io::Result<bool> {
        match self.version {
            CgroupVersion::V1 => Ok(self.read("freezer.state")?.trim() == "FROZEN"),
            CgroupVersion::V2 => Ok(self.read("cgroup.events")?.lines().any(|line| line == "frozen 1")),
        }
    }

    /// Whether a group above this one is frozen, so that this one stays frozen whatever is done here.
    fn frozen_from_above(&self) -> bool {
        match self.version {
            CgroupVersion::V1 => self.read("freezer.parent_freezing").is_ok_and(|text| text.trim() == "1"),
            CgroupVersion::V2 => self
                .path
                .ancestors()
                .skip(1)
                .any(|group| fs::read_to_string(group.join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1")),
        }
    }

    /// Every thread in the group and below it.
    fn threads(&self) -> Vec<i32> {
        let (mut threads, mut groups) = (Vec::new(), vec![self.path.clone()]);
        while let Some(group) = groups.pop() {
            let list = fs::read_to_string(group.join(self.version.threads())).unwrap_or_default();
            threads.extend(list.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|tid| *tid > 0));
            let below = fs::read_dir(&group).into_iter().flatten().flatten();
            groups.extend(below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
        }
        threads
    }

    fn action(&self) -> Result<UndoAction, FreezeCause> {
        let (file, _, thawed) = self.version.control();
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| FreezeCause::ZeroByte);
        let path = text(self.path.join(file).as_os_str().as_bytes())?;
        Ok(UndoAction::Write { path, value: text(thawed.as_bytes())? })
    }

    fn acknowledge(&mut self, around: &Surroundings, deadline: Deadline) -> Result<(), FreezeCause> {
        let mut rest = RestDetector::default();
        loop {
            if self.acknowledged().map_err(|cause| self.failed(cause))? {
                return Ok(());
            }
            let threads = self.threads();
            if around.accept_waiting
                && let Some(waiting) = rest.look(&threads, self.version.resting())
            {
                self.waiting = waiting.into_iter().filter(|thread| !in_freezer(thread)).collect();
                return Ok(());
            }
            if deadline.passed() {
                return Err(unacknowledged(&threads).into());
            }
            pause(POLL.min(deadline.left()));
        }
    }

    fn failed(&self, cause: io::Error) -> CgroupFailure {
        CgroupFailure::Access { path: self.path.clone(), cause }
    }
}

/// Whether the thread is where frozen ones are.
fn in_freezer(thread: &StuckThread) -> bool {
    matches!(thread.place.as_deref(), Some("__refrigerator" | "do_freezer_trap"))
}

fn unacknowledged(threads: &[i32]) -> CgroupFailure {
    let running = threads.iter().map(|tid| StuckThread::read(*tid)).filter(|thread| !in_freezer(thread));
    CgroupFailure::Unacknowledged { threads: running.take(4).collect() }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || Errno::from_io_error(error) == Some(Errno::NODEV)
}

impl Freezer for Cgroup {
    fn check(&self, around: &Surroundings) -> Result<(), FreezeCause> {
        let file = self.version.control().0;
        accessat(&self.directory, file, Access::WRITE_OK, AtFlags::EACCESS).map_err(|cause| match cause {
            Errno::NOENT => CgroupFailure::NoFreezer { path: self.path.clone(), file },
            cause => CgroupFailure::NoRight { path: self.path.join(file), cause },
        })?;
        let threads = self.threads();
        let inside = |pid: &i32| process::threads(*pid).iter().any(|tid| threads.contains(tid));
        match around.untouchable().map(|pid| pid.as_raw_pid()).find(inside) {
            Some(pid) => Err(CgroupFailure::HoldsSpared { pid, comm: process::command_name(pid) }.into()),
            None => Ok(()),
        }
    }

    fn freeze(
        &mut self,
        around: &Surroundings,
        deadline: Deadline,
        arm: &mut UndoArmer<'_>,
    ) -> Result<(), FreezeCause> {
        // Again: a process that must keep running may have been moved into it since.
        self.check(around)?;
        if !self.requested().map_err(|cause| self.failed(cause))? {
            tell(arm, &self.action()?)?;
            self.ours = true;
            self.write(self.version.control().1).map_err(|cause| self.failed(cause))?;
        }
        self.acknowledge(around, deadline)
    }

    fn thaw(&mut self, deadline: Deadline) -> Result<(), FreezeCause> {
        while self.ours {
            let thawed = self
                .write(self.version.control().2)
                .and_then(|()| Ok(!self.requested()? && (!self.acknowledged()? || self.frozen_from_above())));
            match thawed {
                Ok(false) if !deadline.passed() => pause(POLL),
                Ok(false) => return Err(CgroupFailure::StillFrozen { path: self.path.clone() }.into()),
                Err(cause) if !is_gone(&cause) => return Err(self.failed(cause).into()),
                Ok(true) | Err(_) => self.ours = false,
            }
        }
        self.waiting.clear();
        Ok(())
    }

    fn actions(&self) -> Vec<UndoAction> {
        self.action().ok().filter(|_| self.ours).into_iter().collect()
    }

    fn waiting(&self) -> &[StuckThread] {
        &self.waiting
    }
}
