#!/usr/bin/env bash
# The incident's workload, by real programs, on three volumes one after the other: thin, thick, pre-warmed. rsyslogd writes
# a log synchronously, logrotate rotates it, tar backs a directory up in a burst. Prints one table and what it means.
#
#   demo/run.sh [ARM...]     arms: thin thick pre-warmed plain    BACKUP_MIB=192 RATE=200 PROFILE="--profile vmware-thin"
#
# Nothing stays behind, whatever ends it: rsyslogd is stopped, the volume released and unmounted, its files removed.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

arms=("$@")
[ ${#arms[@]} -gt 0 ] || arms=(thin thick pre-warmed)
backup_mib=${BACKUP_MIB:-192}
rate=${RATE:-200}
# Per grain milliseconds, one provisioning at a time: what becomes of that in a burst is what the demo shows.
read -ra profile <<<"${PROFILE:---grain 1MiB --first-write lognormal:20ms,p99=200ms --lanes 1}"
demo=$root/demo
load=$tools/load

MAKE_TARGET=demo need_fuse
need_commands rsyslogd logrotate logger tar tail jq curl
[[ -x $stunfs && -x $load ]] || die 69 "not built yet; mend it with: make build"

work=$(mktemp -d "${DEMO_DIR:-/var/tmp}/stunfs-demo.XXXXXX")
at=$work/volume
stunfs_pid='' rsyslogd_pid='' lines_pid='' probe_pid='' tail_pid=''

ctl() { "$stunfs" ctl --socket "$work/control" "$@"; }
has_volume() { [ -n "$stunfs_pid" ]; }

clean_up() {
    trap - EXIT INT TERM
    if has_volume; then ctl release >/dev/null 2>&1 || true; fi
    for pid in "$probe_pid" "$lines_pid" "$tail_pid" "$rsyslogd_pid"; do stop "$pid" 10; done
    unmount "$at" || true
    stop "$stunfs_pid" 10
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'say "interrupted: cleaning up"; exit 130' INT TERM

# What tar backs up: made once, outside the volume.
make_data() {
    local n
    mkdir -p "$work/data"
    for ((n = 0; n < 8; n++)); do
        head -c "$((backup_mib * 1048576 / 8))" /dev/urandom >"$work/data/part-$n"
    done
}

# Space that was written before and freed: a packed volume uses it again without a penalty.
warm() {
    ctl disarm >/dev/null
    dd if=/dev/zero of="$at/warm" bs=1M count=$((backup_mib + 64)) conv=fsync status=none
    rm "$at/warm"
    ctl arm >/dev/null
}

mount_arm() {
    mkdir -p "$at" "$work/backing" "$work/$1"
    local options=("${profile[@]}" --cache back --seed 1 --state none --events "$work/$1/events" --control "$work/control")
    case $1 in
    plain) return ;;
    thick) options+=(--thick) ;;
    esac
    mount_stunfs "$work/backing" "$at" "${options[@]}"
    if [ "$1" = pre-warmed ]; then warm; fi
}

end_arm() {
    if has_volume; then unmount_stunfs "$at"; fi
    rm -rf --one-file-system "$work/backing" "${at:?}"
}

fill_in() { sed -e "s|@WORK@|$work|g" -e "s|@MOUNT@|$at|g" "$demo/$1.in" >"$work/$1"; }

start_rsyslogd() {
    mkdir -p "$at/log"
    fill_in rsyslog.conf
    fill_in logrotate.conf
    chmod 644 "$work/logrotate.conf"
    # A copy: Ubuntu's AppArmor profile ties /usr/sbin/rsyslogd to /etc and /var/log.
    cp "$(command -v rsyslogd || echo /usr/sbin/rsyslogd)" "$work/rsyslogd"
    "$work/rsyslogd" -n -f "$work/rsyslog.conf" -i "$work/rsyslogd.pid" >"$work/rsyslogd.log" 2>&1 &
    rsyslogd_pid=$!
    wait_for 10 test -S "$work/log.sock" || die 70 "rsyslogd did not start: $(tail -n 1 "$work/rsyslogd.log")"
    # Its first line makes the file that tail follows.
    logger -u "$work/log.sock" -t demo begin
    wait_for 20 test -s "$at/log/app.log" || die 70 "rsyslogd wrote nothing: $(tail -n 1 "$work/rsyslogd.log")"
}

start_load() {
    local out=$work/$1
    tail -q -n 0 -F -s 0.01 "$at/log/app.log" 2>/dev/null > >("$load" silence >"$out/silence") &
    tail_pid=$!
    "$load" lines "$rate" 2>"$out/sent" > >(exec logger -u "$work/log.sock" -t demo) &
    lines_pid=$!
    "$load" probe "$at/probe" 20 >"$out/probe" &
    probe_pid=$!
}

rotate() { logrotate -f -s "$work/logrotate.state" "$work/logrotate.conf" 2>>"$work/logrotate.log" || say "logrotate: $(tail -n 1 "$work/logrotate.log")"; }

# 3 s of everyday, then backup and rotation at once, 2 s of everyday.
burst() {
    local out=$work/$1 begin
    sleep 3
    rotate
    begin=$(date +%s%N)
    tar -C "$work" -cf "$at/backup.tar" data &
    local tar_pid=$!
    sleep 0.5
    rotate
    wait "$tar_pid"
    sync -f "$at/backup.tar"
    echo "$((($(date +%s%N) - begin) / 1000))" >"$out/backup"
    rotate
    sleep 2
}

all_written() { grep -qs "n=$1 " "$at"/log/app.log*; }

stop_load() {
    local out=$work/$1
    stop "$lines_pid" 60
    lines_pid=''
    stop "$probe_pid" 60
    probe_pid=''
    wait_for 60 all_written "$(cat "$out/sent")" || say "$1: the last line did not arrive within 60 s"
    if has_volume; then ctl --json status >"$out/status"; fi
    stop "$tail_pid" 5
    tail_pid=''
    stop "$rsyslogd_pid" 20
    rsyslogd_pid=''
    "$load" check "$(cat "$out/sent")" "$at"/log/app.log* >"$out/check"
}

run_arm() {
    say "$1: rsyslogd, $rate lines a second; logrotate; tar, $backup_mib MiB"
    mount_arm "$1"
    start_rsyslogd
    start_load "$1"
    burst "$1"
    stop_load "$1"
    end_arm
}

# row TITLE COMMAND: a table row; the command prints an arm's cell.
row() {
    local arm
    printf '%-44s' "$1"
    for arm in "${arms[@]}"; do printf ' %14s' "$("$2" "$work/$arm")"; done
    printf '\n'
}

time_of() { awk -v us="$1" 'BEGIN { if (us < 1e3) printf "%d us", us; else if (us < 1e6) printf "%.1f ms", us / 1e3; else printf "%.2f s", us / 1e6 }'; }
probe_field() { time_of "$(cut -d' ' -f"$2" "$1/probe")"; }
p50() { probe_field "$1" 2; }
p99() { probe_field "$1" 3; }
worst() { probe_field "$1" 4; }
silence() { time_of "$(cat "$1/silence")"; }
backup() { time_of "$(cat "$1/backup")"; }
sent() { cat "$1/sent"; }
lost() { cut -d' ' -f1 "$1/check"; }
held() { [ -s "$1/events" ] && jq -s '[.[] | select(.event == "held")] | length' "$1/events" || echo -; }
held_now() { [ -s "$1/status" ] && jq .held.total "$1/status" || echo -; }
at_once() {
    [ -s "$1/events" ] || { echo -; return; }
    jq -s '[.[] | select(.event == "held") | [.requested_us, 1], [.released_us, -1]] | sort
        | reduce .[] as $step ({now: 0, most: 0}; .now += $step[1] | .most = ([.most, .now] | max)) | .most' "$1/events"
}

print_table() {
    echo
    row "" basename
    row "write + fdatasync of 4 KiB, p50" p50
    row "                            p99" p99
    row "                            max" worst
    row "longest silence in rsyslog's log" silence
    row "backup of $backup_mib MiB took" backup
    row "log records sent" sent
    row "log records lost" lost
    row "operations held now" held_now
    row "                at once, at most" at_once
    row "                in total" held
    echo
}

explain() {
    fold -s -w 110 <<END
The same programs wrote the same bytes to the same disk. Volume: ${profile[*]}.

Thin: the first write to a grain waits for the pool, milliseconds each, but one after the other. A burst of new data queues, and \
a program that only appends a line to a log queues behind it. Thick: all space is there already. Pre-warmed: the space was \
written and freed before, and is used again. Nothing is lost anywhere: a held write is late, not gone.

If a write-heavy node looks like the first column, provision it thick, or warm it up before it goes into production.
END
}

make_data
for arm in "${arms[@]}"; do run_arm "$arm"; done
print_table
explain
