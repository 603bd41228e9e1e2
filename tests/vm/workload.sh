#!/usr/bin/env bash
# Sourced by the scripts beside it, never run: what the guests do, and how the kernel's words are found in the events.

# shellcheck disable=SC2154 # work and nfs_pid are lib.sh's
# How long the guest's kernel lets a task hang before it reports it, in seconds (120 by default).
hung_after=5

# guest_prepare NAME: its disk mounted, hung tasks reported soon and without a limit, the NFS export mounted if it is served.
guest_prepare() {
    guest "$1" 30 "mount /dev/vda /mnt/data && cd /proc/sys/kernel && echo $hung_after >hung_task_timeout_secs &&
        echo $hung_after >hung_task_check_interval_secs && echo 10000 >hung_task_warnings" ||
        die 70 "guest $1 cannot be prepared; the end of its console: $(tail -n 2 "$work/$1.console")"
    [ -z "$nfs_pid" ] || nfs_mount "$1" || die 70 "guest $1 cannot mount the NFS export"
}

# guest_writers NAME SECONDS: those of the incident. The reader comes first: what it reads has to be on the disk.
guest_writers() {
    local name=$1 time=$2s n
    guest_writer "$name" reader reader --for "$time"
    # shellcheck disable=SC2016 # for the guest's shell
    wait_for 60 guest "$name" 10 '[ "$(du -k /mnt/data/reader | cut -f1)" -ge 8192 ] && sync' || true
    for n in 1 2 3; do guest_writer "$name" "fluentd-$n" fluentd --for "$time"; done
    guest_writer "$name" logger logger --for "$time"
    guest_writer "$name" churn churn --for "$time" --rate "${CHURN:-max}"
}

# guest_nfs_writer NAME: keeps requests to the NFS server under way.
guest_nfs_writer() {
    guest "$1" 10 'while :; do dd if=/dev/zero of=/mnt/nfs/$$ bs=1M count=8 conv=notrunc,fsync 2>/dev/null; sleep 0.1; done & echo $! >/run/nfs-writer'
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

has() { [ -n "$("$@")" ]; }
count() { "$@" | wc -l; }

# The first of an event's raw lines that has these words, without the time stamp.
raw_line() { jq -rs --arg words "$1" '.[0].raw // "" | split("\n") | map(select(test($words)))[0] // "" | sub("^\\[ *[0-9.]+\\] *"; "") | sub("^ +"; "")'; }

# held_first_writes VOLUME: writes that waited for a new grain so far, those that wait now included.
held_writes() { ctl "$1" --json status | jq '.held.total + .totals.held'; }

# frozen_seconds VOLUME: how long the last freeze lasted, as the volume measured it.
frozen_seconds() {
    events "$1" 'select(.event == "frozen" or .event == "thawed") | "\(.event) \(.t_us)"' |
        awk '$1 == "frozen" { from = $2 } $1 == "thawed" && from { last = $2 - from } END { printf "%.1f\n", last / 1e6 }'
}

# as_predicted SECONDS FROZEN: a soft lockup's figure counts 2^30 ns, and the watchdog last ran 0 to 4 s before the freeze.
as_predicted() { awk -v n="$1" -v f="$2" 'BEGIN { unit = 1.073741824; exit !(n >= int(f / unit) && n <= (f + 4) / unit + 1) }'; }
predicted() { awk -v f="$1" 'BEGIN { unit = 1.073741824; printf "%d to %d", int(f / unit), (f + 4) / unit + 1 }'; }
