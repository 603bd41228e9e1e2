use proptest::prelude::*;

use super::cause::CauseKind;
use super::*;
use crate::profiles;
use crate::scenario::{self, Override};

/// A night like the incident's.
const INCIDENT: &str = "\
[ 1000.000001] INFO: task fluentd:134 blocked for more than 120 seconds.
[ 1000.000002]       Not tainted 6.1.0 #1
[ 1000.000003] \"echo 0 > /proc/sys/kernel/hung_task_timeout_secs\" disables this message.
[ 1000.000004] task:fluentd         state:D stack:0     pid:134   ppid:100    flags:0x00000002
[ 1000.000005] Call Trace:
[ 1000.000006]  <TASK>
[ 1000.000007]  __schedule+0x351/0xa20
[ 1000.000008]  schedule+0x5d/0xe0
[ 1000.000009]  down+0x3f/0x60
[ 1000.000010]  xfs_buf_lock+0x2d/0xe0 [xfs]
[ 1000.000011]  xfs_read_agi+0x73/0x100 [xfs]
[ 1000.000012]  </TASK>
[ 1001.000001] INFO: task rsyslogd:200 blocked for more than 120 seconds.
[ 1001.000002] task:rsyslogd        state:D stack:0     pid:200   ppid:1      flags:0x00000002
[ 1001.000003] Call Trace:
[ 1001.000004]  down+0x3f/0x60
[ 1001.000005]  xfs_buf_lock+0x2d/0xe0 [xfs]
[ 1300.000001] watchdog: BUG: soft lockup - CPU#0 stuck for 223s! [swapper/0:0]
[ 1300.000002] watchdog: BUG: soft lockup - CPU#1 stuck for 222s! [swapper/1:0]
[ 1310.000001] nfs: server 10.0.2.2 not responding, still trying
[ 1320.000001] nfs: server 10.0.2.2 OK
";

fn explain(log: &str) -> Explanation {
    let mut explainer = Explainer::default();
    log.lines().for_each(|line| explainer.line(line.as_bytes()));
    explainer.finish()
}

fn kinds(found: &Explanation) -> Vec<CauseKind> {
    found.causes.iter().map(|cause| cause.kind).collect()
}

#[test]
fn the_incident_is_told_with_who_where_and_how_long() {
    let found = explain(INCIDENT);
    assert_eq!(kinds(&found), [CauseKind::MachineStun, CauseKind::StalledWrites, CauseKind::NfsServer]);
    // 223 units of 2^30 ns are 239.4 s.
    let standstill = &found.standstills[0];
    assert_eq!(
        (standstill.said, standstill.length_us / 1_000_000, standstill.cpus.as_slice()),
        (223, 239, [0, 1].as_slice())
    );
    let task = &found.tasks[0];
    assert_eq!(
        (task.task.as_str(), task.seconds, task.waits_for.as_deref()),
        ("fluentd", Some(120), Some("XFS buffer lock"))
    );
    assert_eq!((found.servers[0].outages, found.servers[0].back), (1, true));
    let text = text(&found);
    for part in [
        "most likely: The whole machine stood still, as when its hypervisor pauses it.",
        "the processor was idle, so no program kept it",
        "also: Writes stalled, and others piled up behind them.",
        "2 tasks waited for: XFS buffer lock (fluentd among them)",
        "for 3 m 59 s (the kernel says 223 and means units of 1.074 s), CPU 0, 1, swapper/0 on it at 1300.000001 s",
        "fluentd (134) for more than 120 s on: XFS buffer lock (xfs_buf_lock) at 1000.000001 s of its uptime",
        "10.0.2.2 did not answer (1 time); then it answered again",
        "21 lines read, 6 reports in them",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn each_kind_of_log_has_its_likeliest_cause() {
    let cases = [
        ("device-mapper: thin: 253:2: reached low water mark for data device: sending event.", CauseKind::OutOfSpace),
        ("device-mapper: thin: 253:4: switching pool to out-of-data-space (queue IO) mode", CauseKind::OutOfSpace),
        (
            "I/O error, dev sda, sector 2048 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2",
            CauseKind::DeviceFailure,
        ),
        ("nvme nvme0: I/O 12 (I/O Cmd) QID 3 timeout, aborting req_op:WRITE(1) size:4096", CauseKind::DeviceFailure),
        ("nfs: server files not responding, timed out", CauseKind::NfsServer),
        ("watchdog: BUG: soft lockup - CPU#3 stuck for 26s! [python3:900]", CauseKind::BusyProcessor),
        ("watchdog: BUG: soft lockup - CPU#3 stuck for 180s! [python3:900]", CauseKind::MachineStun),
    ];
    for (line, kind) in cases {
        let found = explain(&format!("[  300.123456] {line}"));
        assert_eq!(found.causes.first().map(|cause| cause.kind), Some(kind), "{line}: {found:?}");
    }
}

#[test]
fn a_log_without_reports_tells_nothing_and_has_no_scenario() {
    let found = explain("[    0.000000] Linux version 6.1.0\n[    1.0] EXT4-fs (sda1): mounted filesystem\n");
    assert!(found.is_empty() && found.causes.is_empty() && replay(&found).is_none());
}

#[test]
fn the_scenario_of_each_kind_is_a_scenario() {
    let stalls = INCIDENT.lines().take(17).collect::<Vec<_>>().join("\n");
    let full = "[ 1.0] device-mapper: thin: 253:4: switching pool to out-of-data-space (queue IO) mode\n";
    for (log, parts) in [
        (INCIDENT, ["stun: {for: 240s}", "fluentd: {inputs: 8", "logger: {"]),
        (&stalls, ["thick: {thick: true}", "fluentd: {inputs: 8", "logger: {"]),
        (full, ["on-full: stun", "grow: {pool: 8GiB}", "logger: {"]),
    ] {
        let text = replay(&explain(log)).unwrap();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        let whole = scenario::read("f", &text, &[], profiles::lookup).unwrap();
        let short: Vec<Override> = whole.spec.short.iter().map(|change| change.parse().unwrap()).collect();
        scenario::read("f", &text, &short, profiles::lookup).unwrap();
    }
}

#[test]
fn the_same_task_is_one_task_and_lists_have_an_end() {
    let log: String = (0..3000)
        .map(|n| format!("[ {n}.5] INFO: task t{}:{} blocked for more than {n} seconds.\n", n % 1500, n % 1500))
        .collect();
    let found = explain(&log);
    assert_eq!((found.tasks.len(), found.findings), (MOST, 3000));
    assert_eq!((found.tasks[0].reports, found.tasks[0].seconds), (2, Some(2499)));
    assert_eq!(found.left_out, 1000);
}

proptest! {
    #[test]
    fn any_bytes_are_explained(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..50)) {
        let mut explainer = Explainer::default();
        lines.iter().for_each(|line| explainer.line(line));
        let found = explainer.finish();
        let _ = (text(&found), replay(&found), serde_json::to_string(&found).unwrap());
    }

    #[test]
    fn any_mixture_of_the_kernels_lines_has_a_sound_scenario(order in prop::collection::vec(0..22_usize, 1..60)) {
        let known: Vec<&str> = INCIDENT.lines().collect();
        let mut explainer = Explainer::default();
        order.iter().filter_map(|n| known.get(*n)).for_each(|line| explainer.line(line.as_bytes()));
        let found = explainer.finish();
        if let Some(text) = replay(&found) {
            prop_assert!(scenario::read("f", &text, &[], profiles::lookup).is_ok(), "{text}");
        }
    }
}
