//! Every report in every carrier, with other lines in between: what was put in comes out once, whole.

use proptest::prelude::*;

use super::*;

/// A message of the kernel's: when, who, which level, what.
#[derive(Debug, Clone)]
struct Message {
    us: u64,
    caller: u32,
    text: String,
}

/// How a log carries the kernel's messages and those of programs.
#[derive(Debug, Clone, Copy)]
struct Carrier {
    name: &'static str,
    kernel: fn(&Message) -> String,
    program: fn(&str) -> String,
    /// The caller of each message is known, so reports may be interleaved.
    callers: bool,
}

fn stamp(m: &Message) -> String {
    format!("[{:5}.{:06}]", m.us / 1_000_000, m.us % 1_000_000)
}

fn quoted(text: &str) -> String {
    json!(text).to_string()
}

fn carrier(name: &'static str, kernel: fn(&Message) -> String, program: fn(&str) -> String) -> Carrier {
    Carrier { name, kernel, program, callers: false }
}

fn consoles() -> Vec<Carrier> {
    vec![
        carrier("serial console", |m| format!("{} {}\r", stamp(m), m.text), str::to_owned),
        Carrier {
            callers: true,
            ..carrier("callers", |m| format!("{}[{:>6}] {}", stamp(m), format!("T{}", m.caller), m.text), str::to_owned)
        },
        carrier("printk.time=0", |m| m.text.clone(), |text| format!("app[12]: {text}")),
        carrier("dmesg -r", |m| format!("<4>{} {}", stamp(m), m.text), |text| format!("<12>{text}")),
        carrier(
            "dmesg -x",
            |m| format!("kern  :warn  : {} {}", stamp(m), m.text),
            |text| format!("user  :warn  : {text}"),
        ),
        carrier(
            "dmesg -T",
            |m| format!("[Mon Nov 24 03:02:01 2025] {}", m.text),
            |text| format!("[Mon Nov 24 03:02:01 2025] app[12]: {text}"),
        ),
        carrier(
            "dmesg -H",
            |m| format!("[  +0.{:06}] {}", m.us % 1_000_000, m.text),
            |text| format!("[  +0.000001] app[12]: {text}"),
        ),
        carrier(
            "dmesg -d",
            |m| format!("[{} <    0.000013>] {}", stamp(m).trim_matches(['[', ']']), m.text),
            |text| format!("[<    0.000013>] app[12]: {text}"),
        ),
        carrier("colours", |m| format!("\u{1b}[32m{} \u{1b}[0m\u{1b}[1m{}\u{1b}[0m", stamp(m), m.text), str::to_owned),
        carrier("a shell on the console", |m| format!("root@node-7:~# {} {}", stamp(m), m.text), str::to_owned),
        Carrier {
            callers: true,
            ..carrier(
                "/dev/kmsg",
                |m| format!("4,{},{},-,caller=T{};{}", m.us, m.us, m.caller, m.text),
                |text| format!("12,1,1,-;{text}"),
            )
        },
        carrier(
            "extended netconsole",
            |m| format!("6.1.0,4,{},{},-;{}", m.us, m.us, m.text),
            |text| format!("12,1,1,-;{text}"),
        ),
        carrier(
            "extended netconsole, in fragments",
            |m| {
                let (start, end) = m.text.split_at(m.text.len() / 2);
                let head = format!("6.1.0,4,{},{},-,ncfrag=", m.us, m.us);
                format!("{head}0/{0};{start}\n{head}{1}/{0};{end}", m.text.len(), start.len())
            },
            |text| format!("12,1,1,-;{text}"),
        ),
    ]
}

fn dated() -> Vec<Carrier> {
    vec![
        carrier(
            "dmesg --time-format iso",
            |m| format!("2025-11-24T03:02:01,{:06}+00:00 {}", m.us % 1_000_000, m.text),
            |text| format!("2025-11-24T03:02:01,000001+00:00 app[12]: {text}"),
        ),
        carrier(
            "dmesg -T in German",
            |m| format!("[Mo Nov 24 03:02:01 2025] {}", m.text),
            |text| format!("[Mo Nov 24 03:02:01 2025] app[12]: {text}"),
        ),
        carrier(
            "logcat",
            |m| format!("11-24 03:02:01.123     0     0 W {} {}", stamp(m), m.text),
            |text| format!("11-24 03:02:01.123  1201  1207 W app     : {text}"),
        ),
    ]
}

fn syslogs() -> Vec<Carrier> {
    vec![
        carrier(
            "syslog",
            |m| format!("Nov 24 03:02:01 node-7 kernel: {} {}", stamp(m), m.text),
            |text| format!("Nov 24 03:02:01 node-7 app: {text}"),
        ),
        carrier(
            "syslog without time",
            |m| format!("Nov  4 03:02:01 node-7 kernel: {}", m.text),
            |text| format!("Nov  4 03:02:01 node-7 app[12]: {text}"),
        ),
        carrier(
            "RFC 5424",
            |m| format!("<4>1 2025-11-24T03:02:01.000001Z node-7 kernel - - [a k=\"v w\"] {}", m.text),
            |text| format!("<12>1 2025-11-24T03:02:01Z node-7 app 12 - - {text}"),
        ),
        carrier(
            "busybox",
            |m| format!("Nov 24 03:02:01 node-7 kern.warn kernel: {}", m.text),
            |text| format!("Nov 24 03:02:01 node-7 user.warn app: {text}"),
        ),
        carrier(
            "OpenWrt",
            |m| format!("Mon Nov 24 03:02:01 2025 kern.warn kernel: {} {}", stamp(m), m.text),
            |text| format!("Mon Nov 24 03:02:01 2025 user.warn app[12]: {text}"),
        ),
    ]
}

fn journals() -> Vec<Carrier> {
    vec![
        carrier(
            "journal, short-iso",
            |m| format!("2025-11-24T03:02:01+0000 node-7 kernel: {}", m.text),
            |text| format!("2025-11-24T03:02:01+0000 node-7 app[12]: {text}"),
        ),
        carrier(
            "journal, short-full",
            |m| format!("Mon 2025-11-24 03:02:01 UTC node-7 kernel: {}", m.text),
            |text| format!("Mon 2025-11-24 03:02:01 UTC node-7 app[12]: {text}"),
        ),
        carrier(
            "journal, short-unix",
            |m| format!("1763953321.000001 node-7 kernel: {}", m.text),
            |text| format!("1763953321.000001 node-7 app[12]: {text}"),
        ),
        carrier(
            "journal, short-monotonic",
            |m| format!("{} node-7 kernel: {}", stamp(m), m.text),
            |text| format!("[    1.000001] node-7 app[12]: {text}"),
        ),
    ]
}

fn containers() -> Vec<Carrier> {
    vec![
        carrier(
            "Talos",
            |m| format!("192.0.2.10: kern: warning: [2025-11-24T03:02:01.5Z]: {}", m.text),
            |text| format!("192.0.2.10: user: warning: [2025-11-24T03:02:01.5Z]: {text}"),
        ),
        carrier(
            "CRI",
            |m| format!("2025-11-24T03:02:01.000000001Z stdout F {} {}", stamp(m), m.text),
            |text| format!("2025-11-24T03:02:01.000000001Z stdout F app: {text}"),
        ),
        carrier(
            "CRI, in parts",
            |m| {
                let (start, end) = m.text.split_at(m.text.len() / 2);
                format!(
                    "2025-11-24T03:02:01.000000001Z stdout P {} {start}\n2025-11-24T03:02:01.000000002Z stdout F {end}",
                    stamp(m)
                )
            },
            |text| format!("2025-11-24T03:02:01.000000001Z stderr F app: {text}"),
        ),
        carrier(
            "logcli",
            |m| format!("2025-11-24T03:02:01Z {{host=\"n\", job=\"kmsg\"}} {}", m.text),
            |text| format!("2025-11-24T03:02:01Z {{job=\"app\"}} app[12]: {text}"),
        ),
        carrier(
            "kubectl logs",
            |m| format!("[pod/a/b] 2025-11-24T03:02:01.000000001Z {} {}", stamp(m), m.text),
            |text| format!("[pod/a/b] 2025-11-24T03:02:01.000000001Z app: {text}"),
        ),
        carrier(
            "docker compose",
            |m| format!("dmesg-1  | {} {}", stamp(m), m.text),
            |text| format!("app-1  | app: {text}"),
        ),
    ]
}

fn fields() -> Vec<Carrier> {
    vec![
        carrier(
            "journal, json",
            |m| {
                format!(
                    "{{\"_TRANSPORT\":\"kernel\",\"SYSLOG_IDENTIFIER\":\"kernel\",\"MESSAGE\":{}}}",
                    quoted(&m.text)
                )
            },
            |text| format!("{{\"_TRANSPORT\":\"stdout\",\"SYSLOG_IDENTIFIER\":\"app\",\"MESSAGE\":{}}}", quoted(text)),
        ),
        carrier(
            "journal, json-pretty",
            |m| format!("{{\n\t\"MESSAGE\" : {},\n\t\"_TRANSPORT\" : \"kernel\"\n}}", quoted(&m.text)),
            |text| format!("{{\n\t\"MESSAGE\" : {},\n\t\"_TRANSPORT\" : \"stdout\"\n}}", quoted(text)),
        ),
        carrier(
            "journal, export",
            |m| format!("__CURSOR=s\nMESSAGE={}\n_TRANSPORT=kernel\n", m.text),
            |text| format!("__CURSOR=s\nMESSAGE={text}\n_TRANSPORT=syslog\n"),
        ),
        carrier(
            "journal, verbose",
            |m| format!("Mon 2025-11-24 03:02:01.000001 UTC [s=1;i=2]\n    _TRANSPORT=kernel\n    MESSAGE={}", m.text),
            |text| {
                format!("Mon 2025-11-24 03:02:01.000001 UTC [s=1;i=2]\n    MESSAGE={text}\n    SYSLOG_IDENTIFIER=app")
            },
        ),
    ]
}

fn shippers() -> Vec<Carrier> {
    vec![
        carrier(
            "Docker",
            |m| {
                format!(
                    "{{\"log\":{},\"stream\":\"stdout\",\"time\":\"2025-11-24T03:02:01Z\"}}",
                    quoted(&format!("{} {}\n", stamp(m), m.text))
                )
            },
            |text| format!("{{\"log\":{},\"stream\":\"stdout\"}}", quoted(&format!("app: {text}\n"))),
        ),
        carrier(
            "Fluent Bit",
            |m| {
                format!(
                    "{{\"priority\":4,\"sequence\":1,\"sec\":{},\"usec\":{},\"msg\":{}}}",
                    m.us / 1_000_000,
                    m.us % 1_000_000,
                    quoted(&m.text)
                )
            },
            |text| format!("{{\"ident\":\"app\",\"message\":{}}}", quoted(text)),
        ),
        carrier(
            "Vector",
            |m| format!("{{\"appname\":\"kernel\",\"facility\":\"kern\",\"message\":{}}}", quoted(&m.text)),
            |text| format!("{{\"appname\":\"app\",\"facility\":\"user\",\"message\":{}}}", quoted(text)),
        ),
        carrier(
            "dmesg --json",
            |m| {
                format!(
                    "      {{\n         \"pri\": 4,\n         \"time\": {}.{:06},\n         \"msg\": {}\n      }},",
                    m.us / 1_000_000,
                    m.us % 1_000_000,
                    quoted(&m.text)
                )
            },
            |text| format!("app: {text}"),
        ),
    ]
}

fn carriers() -> Vec<Carrier> {
    [consoles(), dated(), syslogs(), journals(), containers(), fields(), shippers()].concat()
}

/// A report, and the event that is to come of it.
#[derive(Debug, Clone)]
struct Report {
    lines: Vec<String>,
    event: &'static str,
    /// Fields of the event.
    fields: Value,
}

const FRAMES: [&str; 7] =
    ["__schedule", "schedule", "schedule_timeout", "xfs_buf_lock", "xfs_buf_find", "xfs_read_agf", "do_syscall_64"];

/// A hung task in the words of a kernel and an architecture; the number says which.
fn hung(form: usize, task: &str, pid: u32) -> Report {
    let mut lines = vec![
        format!("INFO: task {task}:{pid} blocked for more than 120 seconds."),
        "      Not tainted 6.1.0 #1".to_owned(),
        "\"echo 0 > /proc/sys/kernel/hung_task_timeout_secs\" disables this message.".to_owned(),
    ];
    let task_line = match form {
        0 => format!("{task:<15} D ffff88003fd14778     0 {pid:5}      1 0x00000080"),
        1 => format!("{task:<15} D    0 {pid:5}      1 0x00000080"),
        2 => format!("task:{task:<15} state:D stack:    0 pid:{pid:5} ppid:     1 flags:0x00000000"),
        _ => format!(
            "task:{task:<15} state:D stack:0     pid:{pid:<5} tgid:{pid:<5} ppid:1      task_flags:0x400040 flags:0x00000002"
        ),
    };
    lines.push(task_line);
    if form == 0 {
        lines.push(" ffff88047cb37be8 0000000000000046 ffff880700000001 ffff880484614110".to_owned());
    }
    lines.push("Call Trace:".to_owned());
    lines.extend((form == 3).then(|| " <TASK>".to_owned()));
    let frame = |(n, name): (usize, &&str)| match form {
        0 => format!(" [<ffffffff81{n:06x}>] {name}+0x{n:x}1/0x200"),
        4 => format!("[c00000000b31f240] [c000000000b3{n:04x}] {name}+0x{n:x}1/0x200 (unreliable)"),
        5 => format!(" [<000000000b3{n:05x}>] {name}+0x{n:x}1/0x200 "),
        6 => format!(" ? {name}+0x{n:x}1/0x200"),
        _ => format!(" {name}+0x{n:x}1/0x200 [xfs]"),
    };
    if form == 7 {
        let pairs =
            FRAMES.windows(2).map(|pair| format!("[<8074f586>] ({}) from [<807811fb>] ({}+0x1/0x2)", pair[0], pair[1]));
        lines.extend(pairs);
    } else {
        lines.extend(FRAMES.iter().enumerate().map(frame));
    }
    lines.extend((form == 3).then(|| " </TASK>".to_owned()));
    let fields =
        json!({"task": task, "pid": pid, "seconds": 120, "state": "D", "frames": FRAMES, "waits_in": "xfs_buf_lock"});
    Report { lines, event: "hung-task", fields }
}

/// Reports of one line; the number goes into the line.
fn single(which: usize, n: u32) -> Report {
    let (line, event, fields) = match which {
        0 => {
            (format!("nfs: server s{n} not responding, still trying"), "nfs-server", json!({"server": format!("s{n}")}))
        }
        1 => (format!("watchdog: BUG: soft lockup - CPU#{n} stuck for 26s! [a b:7]"), "soft-lockup", json!({"cpu": n})),
        2 => (
            format!("blk_update_request: critical space allocation error, dev sd{n}, sector {n} op 0x1:(WRITE)"),
            "storage-error",
            json!({"fault": "out-of-space", "device": format!("sd{n}"), "sector": n}),
        ),
        3 => (
            format!("sd 0:0:0:{n}: [sda] tag#{n} timing out command, waited 180s"),
            "storage-error",
            json!({"fault": "timeout", "device": "sda"}),
        ),
        4 => (
            format!("nvme nvme{n}: I/O 12 QID 3 timeout, aborting"),
            "storage-error",
            json!({"fault": "timeout", "device": format!("nvme{n}")}),
        ),
        5 => (
            format!("device-mapper: thin: 253:{n}: switching pool to out-of-data-space (queue IO) mode"),
            "storage-error",
            json!({"fault": "out-of-space", "device": format!("253:{n}")}),
        ),
        6 => (
            format!("EXT4-fs error (device sd{n}) in ext4_reserve_inode_write:57: Journal has aborted"),
            "storage-error",
            json!({"fault": "journal-aborted", "device": format!("sd{n}")}),
        ),
        _ => (
            format!("clocksource: timekeeping watchdog on CPU{n}: Marking clocksource 'tsc' as unstable"),
            "warning",
            json!({}),
        ),
    };
    Report { lines: vec![line], event, fields }
}

/// What else stands in a log; none of it is an event, or part of a report.
const KERNEL_NOISE: [&str; 6] = [
    "usb 1-1: new high-speed USB device number 2",
    "EXT4-fs (sda1): re-mounted. Opts: errors=remount-ro",
    "XFS (vdb): Invalid superblock magic number",
    "audit: type=1400 audit(1.2:3): apparmor=\"DENIED\" error=-13",
    "nvme nvme0: Abort status: 0x0",
    "device-mapper: multipath: 253:4: Reinstating path 8:16.",
];

const PROGRAM_NOISE: [&str; 6] = [
    "DEBUG: flush waits",
    "+ grep 'I/O error, dev vda, sector 2048' log",
    "saw [  300.000001] INFO: task dd:1 blocked for more than 5 seconds. yesterday",
    "WARNING: retry 3 of 10, Showing only the first",
    "pattern 'BUG: soft lockup - CPU#0 stuck for 22s! [x:1]' loaded",
    "COMMAND=/usr/bin/grep Buffer I/O error on dev sda, logical block 1",
];

#[derive(Debug, Clone)]
enum Piece {
    Report(Report),
    KernelNoise(usize),
    ProgramNoise(usize),
}

fn report() -> impl Strategy<Value = Report> {
    let name = prop::sample::select(vec!["fluentd", "kworker/u8:2", "two words", "jbd2/sda1-8", "a:b"]);
    prop_oneof![
        (0_usize..8, name, 1_u32..99_999).prop_map(|(form, task, pid)| hung(form, task, pid)),
        (0_usize..8, 0_u32..64).prop_map(|(which, n)| single(which, n)),
    ]
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        3 => report().prop_map(Piece::Report),
        1 => (0..KERNEL_NOISE.len()).prop_map(Piece::KernelNoise),
        1 => (0..PROGRAM_NOISE.len()).prop_map(Piece::ProgramNoise),
    ]
}

/// Writes reports one after the other, with noise between their lines where `noise` says so.
fn write(carrier: &Carrier, pieces: &[Piece], noise: &[usize]) -> String {
    let mut us = 300_000_000;
    let mut log = String::new();
    let mut noise = noise.iter().cycle();
    let mut kernel = |log: &mut String, caller: u32, text: &str| {
        us += 13;
        log.push_str(&(carrier.kernel)(&Message { us, caller, text: text.to_owned() }));
        log.push('\n');
    };
    let program = |log: &mut String, n: usize| {
        log.push_str(&(carrier.program)(PROGRAM_NOISE[n % PROGRAM_NOISE.len()]));
        log.push('\n');
    };
    for piece in pieces {
        match piece {
            Piece::KernelNoise(n) => kernel(&mut log, 9, KERNEL_NOISE[*n]),
            Piece::ProgramNoise(n) => program(&mut log, *n),
            Piece::Report(report) => {
                for line in &report.lines {
                    kernel(&mut log, 74, line);
                    match noise.next() {
                        Some(n @ 0..4) => kernel(&mut log, 9, KERNEL_NOISE[*n]),
                        Some(n @ 4..8) => program(&mut log, *n),
                        _ => {}
                    }
                }
            }
        }
    }
    log
}

fn reports(pieces: &[Piece]) -> Vec<&Report> {
    pieces.iter().filter_map(|piece| if let Piece::Report(report) = piece { Some(report) } else { None }).collect()
}

/// Whether the events of a log are those of the reports, in any order.
fn check(carrier: &Carrier, log: &str, expected: &[&Report]) -> Result<(), TestCaseError> {
    let mut found: Vec<Value> = parse(log.as_bytes()).into_iter().map(tell).collect();
    for report in expected {
        let fits = |event: &Value| {
            let fields = report.fields.as_object().unwrap();
            event["event"] == report.event && fields.iter().all(|(name, value)| event[name] == *value)
        };
        let at = found.iter().position(fits);
        prop_assert!(at.is_some(), "{}: {report:?}\nnot in {found:#?}\nof\n{log}", carrier.name);
        found.remove(at.unwrap());
    }
    prop_assert!(found.is_empty(), "{}: too many: {found:#?}\nof\n{log}", carrier.name);
    Ok(())
}

#[test]
fn every_report_in_every_carrier() {
    for carrier in carriers() {
        let hung = (0..8).map(|form| hung(form, "two words", 100));
        let all: Vec<Piece> = hung.chain((0..8).map(|which| single(which, 3))).map(Piece::Report).collect();
        let log = write(&carrier, &all, &[]);
        check(&carrier, &log, &reports(&all)).unwrap();
    }
}

proptest! {
    #[test]
    fn what_was_put_in_comes_out_once_and_whole(
        which in any::<prop::sample::Index>(),
        pieces in prop::collection::vec(piece(), 0..6),
        noise in prop::collection::vec(0_usize..24, 1..40),
    ) {
        let carriers = carriers();
        let carrier = which.get(&carriers);
        let log = write(carrier, &pieces, &noise);
        check(carrier, &log, &reports(&pieces))?;
    }

    #[test]
    fn reports_of_several_callers_at_the_same_time(
        reports in prop::collection::vec(report(), 1..5),
        order in prop::collection::vec(any::<prop::sample::Index>(), 200),
    ) {
        for carrier in carriers().iter().filter(|carrier| carrier.callers) {
            let mut open: Vec<(u32, std::slice::Iter<'_, String>)> =
                (1..).zip(reports.iter().map(|report| report.lines.iter())).collect();
            let (mut log, mut us) = (String::new(), 300_000_000);
            for index in &order {
                open.retain(|(_, lines)| !lines.as_slice().is_empty());
                let Some(at) = (!open.is_empty()).then(|| index.index(open.len())) else { break };
                let (caller, text) = (open[at].0, open[at].1.next().unwrap().clone());
                us += 13;
                log.push_str(&(carrier.kernel)(&Message { us, caller, text }));
                log.push('\n');
            }
            if open.iter().all(|(_, lines)| lines.as_slice().is_empty()) {
                check(carrier, &log, &reports.iter().collect::<Vec<_>>())?;
            }
        }
    }

    #[test]
    fn a_log_that_is_shown_again_tells_nothing_new(pieces in prop::collection::vec(piece(), 1..5)) {
        for carrier in [consoles().remove(0), consoles().remove(10), syslogs().remove(0)] {
            let log = write(&carrier, &pieces, &[]);
            check(&carrier, &format!("{log}{log}{log}"), &reports(&pieces))?;
        }
    }
}
