//! What kernels say that casts doubt on all the rest: stalls, panics, clocks.
//!
//! Must not know: other lines. Invariant: what belongs to a message that told it already is not told again.

use super::rule::{Notice, Rule, notice};

/// The message's own subsystem (`watchdog:`, `rcu:`, `clocksource:`) is taken off before.
pub(super) const WATCHDOGS: &[Rule] = &[
    notice(
        Notice::RcuStall,
        &[
            "INFO: rcu{} stall on CPU",
            "INFO: rcu{} stalls on CPU",
            "INFO: rcu{} stall on CPUs",
            "INFO: rcu{}stalls on tasks",
            "INFO: rcu{}expedited stalls on",
            "INFO: srcu{}stall",
            "rcu{}kthread starved for",
            "rcu{}kthread timer wakeup didn't happen for",
            "rcu{}blocking rcu_node structures",
        ],
    ),
    notice(
        Notice::HardLockup,
        &[
            "Watchdog detected hard LOCKUP on cpu",
            "CPU{}: Watchdog detected hard LOCKUP on cpu",
            "CPU {} self-detected hard LOCKUP",
            "CPU {} detected hard LOCKUP on other CPUs",
            "BUG: hard LOCKUP",
            "Watchdog CPU:{} Hard LOCKUP",
            "NMI Watchdog detected LOCKUP on CPU",
            "BUG: NMI Watchdog detected LOCKUP on CPU",
        ],
    ),
    notice(Notice::WorkqueueLockup, &["BUG: workqueue lockup - pool"]),
    notice(
        Notice::ClockUnstable,
        &[
            "Clocksource {} unstable (delta",
            "timekeeping watchdog{}Marking clocksource {} as unstable",
            "Marking clocksource {} as unstable",
            "timekeeping watchdog{} marking {} unstable",
            "wd-{} marking {} unstable",
            "Marking TSC unstable due to",
            "TSC found unstable after boot",
            "Long readout interval",
            "timekeeping watchdog{}Long readout interval",
            "time jumped",
        ],
    ),
    notice(Notice::SlowInterrupt, &["interrupt took {} ns"]),
    notice(Notice::Panic, &["Kernel panic - not syncing"]),
    notice(Notice::ReportsSuppressed, &["Future hung task reports are suppressed"]),
];
