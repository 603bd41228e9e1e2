#!/usr/bin/env bash
# Sourced by the scripts beside it, never run: what the guests do, and how the kernel's words are found in the events.

# shellcheck disable=SC2154,SC2034 # some are of lib.sh, some for the scripts
# A grain of new space takes 100 ms, one after the other, as in a pool with one metadata lock: a burst makes minutes of it.
thin_options=(--grain 64KiB --first-write 100ms --lanes 1)

# How long the guest's kernel lets a task hang before it reports it, in seconds (120 by default).
hung_after=5

# guest_prepare NAME: its disk mounted, hung tasks reported soon and without a limit, the NFS export mounted if it is served.
guest_prepare() {
    guest "$1" 30 "mount /dev/vda /mnt/data && cd /proc/sys/kernel && echo $hung_after >hung_task_timeout_secs &&
        echo $hung_after >hung_task_check_interval_secs && echo 10000 >hung_task_warnings" ||
        die 70 "guest $1 cannot be prepared; the end of its console: $(tail -n 2 "$work/$1.console")"
    [ -z "$nfs_pid" ] || nfs_mount "$1" || die 70 "guest $1 cannot mount the NFS export"
}

# guest_writers NAME SECONDS: those of the incident. The reader comes first: what it reads has to be on the disk. XFS spreads directories
# over its four allocation groups: with eight fluentds each group has two that meet in it.
guest_writers() {
    local name=$1 time=$2s n
    guest_writer "$name" reader reader --for "$time"
    # shellcheck disable=SC2016 # for the guest's shell
    await 60 guest "$name" 10 '[ "$(du -k /mnt/data/reader | cut -f1)" -ge 8192 ] && sync' || true
    for n in 1 2 3 4 5 6 7 8; do guest_writer "$name" "fluentd-$n" fluentd --for "$time" --rate 60/s; done
    guest_writer "$name" logger logger --for "$time"
    guest_writer "$name" churn churn --for "$time" --rate "${CHURN:-max}"
}

# guest_nfs_writer NAME: writes its state to the NFS server, five times a second.
guest_nfs_writer() {
    guest_do "$1" 30 'while :; do dd if=/dev/zero of=/mnt/nfs/state bs=4k count=1 conv=notrunc,fsync 2>/dev/null; usleep 200000; done &'
}

# guest_burst NAME SECONDS: log rotation (a new file, a rename, the directory synced, as who rotates safely does) and a backup.
guest_burst() {
    guest_do "$1" 30 'mkdir -p /mnt/data/rotated && cd /mnt/data/rotated || exit
        while :; do : >log && mv log log.1 && sync .; usleep 300000; done >/dev/null 2>&1 &'
    guest_writer "$1" backup backup --for "$2s" --fsync --rate max
}

# guest_load NAME SECONDS: all but the burst, and some seconds to get going.
guest_load() {
    guest_prepare "$1"
    guest_writers "$1" "$2"
    [ -z "$nfs_pid" ] || guest_nfs_writer "$1"
    nap "${WARM_UP:-8}"
}

# guest_report NAME DIR JQ-FILTER: ends a writer and asks its report; nothing if it hangs.
guest_report() {
    guest "$1" 20 "kill -INT \$(cat /run/$2.pid); for n in 1 2 3 4 5 6 7 8 9; do [ -s /tmp/$2.json ] && break; sleep 1; done; cat /tmp/$2.json" | jq -r "$3" 2>/dev/null
}

# ---- what the consoles say; each prints the events that match, one JSON object a line

console_of() { echo "$work/$1.console"; }

# said VOLUME GUEST FILTER: events of one guest's console.
said() { events "$1" "select(.source == \"$(console_of "$2")\") | select($3) | tojson"; }

pile_ups() { said "$1" "$2" '.event == "hung-task" and .state == "D" and (.frames | any(test("xfs_buf_lock")))'; }
hung_tasks() { said "$1" "$2" '.event == "hung-task"'; }
soft_lockups() { said "$1" "$2" '.event == "soft-lockup"'; }
nfs_lost() { said "$1" "$2" '.event == "nfs-server" and .state == "not-responding"'; }
nfs_back() { said "$1" "$2" '.event == "nfs-server" and .state == "ok"'; }

# pile_up_lines VOLUME GUEST: `task:fluentd state:D ...` and `xfs_buf_lock+0x2d/0xe0 [xfs]` from the console, of the first report
# that has both, fluentd's if there is one.
pile_up_lines() {
    local pid
    pid=$(pile_ups "$1" "$2" | jq -s '(map(select(.task | startswith("fluentd"))) + .)[0].pid // empty')
    [ -z "$pid" ] || sed 's/\r//; s/^\[ *[0-9.]*\] *//; s/  */ /g' "$(console_of "$2")" | awk -v pid="$pid" '
        /^task:/ { task = $0; mine = index($0, "pid:" pid " ") }
        mine && /^xfs_buf_lock\+/ { print task " ... " $0; exit }'
}

has() { [ -n "$("$@")" ]; }
count() { "$@" | wc -l; }

# The first of an event's raw lines that has these words, without the time stamp.
raw_line() { jq -rs --arg words "$1" '.[0].raw // "" | split("\n") | map(select(test($words)))[0] // "" | sub("^\\[ *[0-9.]+\\] *"; "") | sub("^ +"; "")'; }

# first_writes VOLUME: how many have waited for new grains so far.
first_writes() { ctl "$1" --json status | jq .counters.held; }

# longest_wait VOLUME: of the operations that are held now, in whole seconds.
longest_wait() { ctl "$1" --json status | jq '((.uptime_us - (.held.ops[0].since_us // .uptime_us)) / 1e6) | floor'; }

fluentd_piles_up() { pile_ups "$1" "$2" | grep -q '"task":"fluentd'; }

# wait_for_pile_up VOLUME GUEST SECONDS: for fluentd; in the end anyone will do.
wait_for_pile_up() { await "$3" fluentd_piles_up "$1" "$2" || has pile_ups "$1" "$2"; }

# is_quiet GUEST: its console has not grown for 6 s. A kernel that prints to a serial line touches the watchdog of soft lockups, which
# then forgives the next 4 s, and with them a freeze that begins there.
is_quiet() {
    local size
    size=$(stat -c %s "$(console_of "$1")")
    nap 6
    [ "$size" = "$(stat -c %s "$(console_of "$1")")" ]
}

# stun VOLUME SECONDS GUEST...: volume and guests stop; comes back when it is over. Reports of hung tasks, every 5 s up to here, would
# touch the watchdog: from here on they come every 120 s, as usual. The NFS server does not answer from 1 s before to 1 s after it: an
# answer that waits for the guest when it wakes up is taken before the guest looks at its clock, and nothing is said.
stun() {
    local volume=$1 seconds=$2 guest before
    shift 2
    for guest in "$@"; do guest "$guest" 20 'echo 120 >/proc/sys/kernel/hung_task_timeout_secs' || true; done
    for guest in "$@"; do await 40 is_quiet "$guest" || say "note: $guest does not stop printing"; done
    before=$(count thaws "$volume")
    nfs_signal STOP
    nap 1
    ctl "$volume" stun "${seconds}s" >/dev/null || die 70 "the guests could not be stunned"
    nap "$seconds"
    wait_for 20 was_thawed "$volume" "$before" || die 70 "the guests were not thawed"
    nap 1
    nfs_signal CONT
}

thaws() { events "$1" 'select(.event == "thawed") | 1'; }
was_thawed() { [ "$(count thaws "$1")" -gt "$2" ]; }

# frozen_seconds VOLUME: how long the last freeze lasted, as the volume measured it.
frozen_seconds() {
    events "$1" 'select(.event == "frozen" or .event == "thawed") | "\(.event) \(.t_us)"' |
        awk '$1 == "frozen" { from = $2 } $1 == "thawed" && from { last = $2 - from } END { printf "%.1f\n", last / 1e6 }'
}

# as_predicted SECONDS FROZEN: a soft lockup's figure counts 2^30 ns, and the watchdog last ran 0 to 4 s before the freeze.
as_predicted() { awk -v n="$1" -v f="$2" 'BEGIN { unit = 1.073741824; exit !(n >= int(f / unit) && n <= int((f + 4) / unit) + 1) }'; }
predicted() { awk -v f="$1" 'BEGIN { unit = 1.073741824; printf "%d to %d", int(f / unit), int((f + 4) / unit) + 1 }'; }
