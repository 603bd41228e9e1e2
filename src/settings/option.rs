//! The table of volume options: name, form, help, and whether an option can change while mounted.
//!
//! Must not know: how values are read. Invariant: [`OPTIONS`] has one row per [`Opt`], in the same order.

/// A volume option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the option of that name; its meaning stands in OPTIONS")]
pub enum Opt {
    Profile,
    FirstWrite,
    Zeroing,
    Lanes,
    Grain,
    FirstRead,
    Scope,
    Pool,
    VirtualSize,
    OnFull,
    LowWater,
    Thick,
    Cold,
    Discard,
    Fallocate,
    Placement,
    StunEvery,
    StunChance,
    StunWhen,
    Freeze,
    Only,
    Disarmed,
    MaxHold,
    Ttl,
    Seed,
    Cache,
    QueueDepth,
    Threads,
    LowLatency,
    HeldMemory,
    AllowOther,
    ReadOnly,
    Fsname,
    State,
    Events,
    Control,
    Metrics,
    KernelLog,
    GuestConsole,
    HungTaskTimeout,
}

/// How an option takes its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// On or off; the bare name means on.
    Flag,
    /// One value; the last one counts.
    One,
    /// Any number of values.
    Many,
}

/// Where an option stands in `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// What a first write waits.
    Penalty,
    /// How much space there is, and where data lies on it.
    Pool,
    /// When the whole volume stops.
    Stuns,
    /// Which operations are hit, and for how long.
    Limits,
    /// The file system.
    Mount,
    /// What is told and kept.
    Output,
    /// What kernels say.
    Kernel,
}

impl Group {
    /// The heading in `--help`.
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Penalty => "First writes",
            Self::Pool => "Pool and placement",
            Self::Stuns => "Stuns",
            Self::Limits => "Who is hit, and for how long",
            Self::Mount => "Mount",
            Self::Output => "Events, control, state",
            Self::Kernel => "What kernels report",
        }
    }
}

/// A row of [`OPTIONS`].
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    /// The option.
    pub option: Opt,
    /// Its name as on the command line; elsewhere `_` may stand for `-`.
    pub name: &'static str,
    /// What stands for the value in help; empty for a flag. Words in lower case with `|` between them are all that it takes, and
    /// shells complete them.
    pub value: &'static str,
    /// How it takes its value.
    pub kind: ValueKind,
    /// Where it stands in `--help`.
    pub group: Group,
    /// One line; the default in square brackets.
    pub help: &'static str,
    /// Why it cannot change while mounted; `None`: it can.
    pub fixed: Option<&'static str>,
}

const AT_MOUNT: Option<&str> = Some("it is agreed with the kernel at mount");
const OPENED: Option<&str> = Some("it is opened at mount");
const BOOKS: Option<&str> = Some("what is provisioned is counted by it from the mount on");

const fn row(
    option: Opt,
    name: &'static str,
    value: &'static str,
    group: Group,
    fixed: Option<&'static str>,
    help: &'static str,
) -> OptionSpec {
    let kind = match (option, value.is_empty()) {
        (Opt::Only | Opt::Freeze | Opt::GuestConsole, _) => ValueKind::Many,
        (_, true) => ValueKind::Flag,
        (_, false) => ValueKind::One,
    };
    OptionSpec { option, name, value, kind, group, help, fixed }
}

/// Every volume option, in the order of [`Opt`].
#[rustfmt::skip]
pub const OPTIONS: [OptionSpec; 40] = {
    use Group::{Kernel, Limits, Mount, Output, Penalty, Pool, Stuns};
    [
        row(Opt::Profile, "profile", "NAME|FILE", Penalty, Some("a profile also has options that are fixed; set its options one by one"),
            "Real storage to imitate ('stunfs profiles' lists them); other options override it"),
        row(Opt::FirstWrite, "first-write", "LATENCY", Penalty, None,
            "Wait of each new grain: 20ms, uniform:1s..20s, exp:20ms, lognormal:8ms,p99=200ms, bimodal:5ms,2s@1%, file:F [0]"),
        row(Opt::Zeroing, "zeroing", "RATE", Penalty, None, "How fast a new grain is zeroed, such as 200MiB/s [none]"),
        row(Opt::Lanes, "lanes", "N", Penalty, None, "Grains provisioned at the same time; 1 is a single metadata lock [1]"),
        row(Opt::Grain, "grain", "SIZE", Penalty, BOOKS, "Unit in which the pool provisions, a multiple of 4KiB [1MiB]"),
        row(Opt::FirstRead, "first-read", "LATENCY", Penalty, None,
            "Wait of the first read of a grain that was there at mount, as on lazily restored volumes [none]"),
        row(Opt::Scope, "scope", "op|volume", Penalty, None, "What waits: only operations on the grain, or every operation behind them [op]"),
        row(Opt::Pool, "pool", "SIZE", Pool, None, "Physical space; may be smaller than the virtual size [without limit]"),
        row(Opt::VirtualSize, "virtual-size", "SIZE", Pool, None, "Size that df shows [that of the backing's file system]"),
        row(Opt::OnFull, "on-full", "enospc|stun|queue:60s", Pool, None, "When the pool is full: fail, wait for space, or wait so long and then fail [enospc]"),
        row(Opt::LowWater, "low-water", "PCT", Pool, None, "Write an event when less than this share of the pool is free [10%]"),
        row(Opt::Thick, "thick", "", Pool, BOOKS, "Every grain is provisioned from the start: no penalty"),
        row(Opt::Cold, "cold", "", Pool, BOOKS, "Data already in the backing does not count as provisioned"),
        row(Opt::Discard, "discard", "", Pool, None, "Grains that are freed whole go back to the pool"),
        row(Opt::Fallocate, "fallocate", "ignores|provisions", Pool, None, "Whether fallocate provisions what it allocates [ignores]"),
        row(Opt::Placement, "placement", "packed|direct", Pool, BOOKS,
            "packed: files share one virtual disk; direct: each file is a disk of its own, for images [packed]"),
        row(Opt::StunEvery, "stun-every", "N[:DUR]", Stuns, None, "Stun after every N provisioned grains [DUR 10s]"),
        row(Opt::StunChance, "stun-chance", "P%[:DUR]", Stuns, None, "Stun with this probability at each provisioned grain [DUR 10s]"),
        row(Opt::StunWhen, "stun-when", "CONDITION", Stuns, None, "wait>5s[:DUR]: stun when a first write would wait longer than that in the queue [DUR 10s]"),
        row(Opt::Freeze, "freeze", "TARGET", Stuns, Some("the guard process and the rights are checked at mount"),
            "Freeze as long as a stun lasts: cgroup:PATH, docker:NAME, pid:N, qmp:SOCKET; may be repeated [nothing]"),
        row(Opt::Only, "only", "FILTER", Limits, None, "Hit only path=GLOB, comm=NAME, uid=N, share=PCT; may be repeated [all]"),
        row(Opt::Disarmed, "disarmed", "", Limits, None, "Start without injection; 'stunfs ctl arm' switches it on"),
        row(Opt::MaxHold, "max-hold", "TIME", Limits, None, "Nothing is held and no stun lasts longer than this [10m]"),
        row(Opt::Ttl, "ttl", "TIME", Limits, None, "All injection ends by itself after this time [none]"),
        row(Opt::Seed, "seed", "N", Limits, Some("the penalties drawn so far come from it"), "Seed of every random choice [from time and process, printed]"),
        row(Opt::Cache, "cache", "through|back|direct", Mount, AT_MOUNT,
            "through: write(2) itself waits; back: fsync and write-back wait; direct: nothing is cached [through]"),
        row(Opt::QueueDepth, "queue-depth", "N", Mount, AT_MOUNT, "Asynchronous requests under way before even reads wait, 1 to 65535 [128]"),
        row(Opt::Threads, "threads", "N", Mount, AT_MOUNT, "Threads that serve the kernel, 1 to 64 [1]"),
        row(Opt::LowLatency, "low-latency", "auto|off", Mount, AT_MOUNT,
            "Keep idle processors awake while requests come in quick succession (PM QoS; root) [auto]"),
        row(Opt::HeldMemory, "held-memory", "SIZE", Mount, Some("its buffers are set up at mount"),
            "Memory for the data of held writes; past it they go to a temporary file [256MiB]"),
        row(Opt::AllowOther, "allow-other", "", Mount, AT_MOUNT, "Other users may use the mount"),
        row(Opt::ReadOnly, "read-only", "", Mount, AT_MOUNT, "Mount read-only"),
        row(Opt::Fsname, "fsname", "NAME", Mount, AT_MOUNT, "Source in the mount table [stunfs]"),
        row(Opt::State, "state", "FILE|none", Output, OPENED, "Where what is provisioned is kept between mounts [by the backing's identity]"),
        row(Opt::Events, "events", "FILE", Output, OPENED, "Write events there, one JSON object a line [none]"),
        row(Opt::Control, "control", "SOCKET", Output, OPENED, "Control socket [by the mount point]"),
        row(Opt::Metrics, "metrics", "ADDR", Output, OPENED, "Serve Prometheus metrics there, such as :9100 (loopback) [none]"),
        row(Opt::KernelLog, "kernel-log", "", Kernel, OPENED, "This machine's hung tasks, lockups, NFS and storage errors become events"),
        row(Opt::GuestConsole, "guest-console", "FILE", Kernel, OPENED,
            "The same for a guest's console: a file, device or pipe, or unix:SOCKET; may be repeated [none]"),
        row(Opt::HungTaskTimeout, "hung-task-timeout", "TIME", Kernel, OPENED,
            "Make the kernel report tasks that hang for longer, in whole seconds; put back at the end [as it is]"),
    ]
};

impl Opt {
    /// Its row in [`OPTIONS`].
    pub fn spec(self) -> &'static OptionSpec {
        &OPTIONS[self as usize]
    }

    /// Its name as on the command line.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The option of this name, with `-` or `_`.
    pub fn named(name: &str) -> Option<Self> {
        let same = |spec: &&OptionSpec| name.bytes().map(|b| if b == b'_' { b'-' } else { b }).eq(spec.name.bytes());
        OPTIONS.iter().find(same).map(|spec| spec.option)
    }
}
