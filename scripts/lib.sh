# shellcheck shell=bash
# What demo/, benches/ and tests/conformance.sh share: messages, deadlines, mounts that always end.
# Sourced, never run. Sets: root, stunfs, tools. Needs: bash, util-linux, fuse3.

set -euo pipefail
export LC_ALL=C

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # used by the scripts that source this
target=${CARGO_TARGET_DIR:-$root/target}
stunfs=${STUNFS:-$target/release/stunfs}
# shellcheck disable=SC2034 # used by the scripts that source this
tools=$target/release/examples

say() { printf '%s\n' "$*" >&2; }

# die CODE MESSAGE: ends the script; codes as in sysexits (69: something that is needed is not there).
die() {
    local code=$1
    shift
    say "$(basename "$0"): $*"
    exit "$code"
}

need_commands() {
    local command missing=()
    for command in "$@"; do
        command -v "$command" >/dev/null || missing+=("$command")
    done
    [ ${#missing[@]} -eq 0 ] || die 69 "missing: ${missing[*]}; mend it with: scripts/need.sh all"
}

# FUSE can be used here, or exit 69 with the line that mends it.
need_fuse() {
    [ -e /dev/fuse ] || die 69 "/dev/fuse is missing; mend it with: modprobe fuse (in a container: docker run --device /dev/fuse --cap-add SYS_ADMIN)"
    { : <>/dev/fuse; } 2>/dev/null || die 69 "no right to open /dev/fuse; mend it with: sudo make $(basename "${MAKE_TARGET:-demo}") (or chmod 666 /dev/fuse)"
    command -v fusermount3 >/dev/null || die 69 "fusermount3 is missing; mend it with: apt-get install fuse3"
}

# wait_for SECONDS COMMAND...: polls until the command succeeds; fails when the time is over. A caller's `poll` is the time
# between two tries, in seconds.
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep "${poll:-0.02}"
    done
}

# Reads the mount table only: never asks the mount itself, which may be stalled.
is_mounted() { grep -qF " $1 " /proc/self/mounts; }
is_unmounted() { ! is_mounted "$1"; }
is_gone() { ! kill -0 "$1" 2>/dev/null; }

# The number of a FUSE mount's connection in /sys/fs/fuse/connections.
fuse_connection() { awk -v at="$1" '$5 == at { split($3, device, ":"); print device[2] }' /proc/self/mountinfo; }

# Ends a FUSE connection: every process that waits in it gets an error.
abort_connection() {
    local connection
    connection=$(fuse_connection "$1")
    [ -n "$connection" ] || return 0
    [ -e /sys/fs/fuse/connections/"$connection" ] || mount -t fusectl none /sys/fs/fuse/connections
    echo 1 >/sys/fs/fuse/connections/"$connection"/abort
}

unmount_once() { umount "$1" 2>/dev/null || fusermount3 -u "$1" 2>/dev/null || is_unmounted "$1"; }

# unmount DIR: plain, for up to 10 s; then aborts the connection and unmounts lazily, and fails.
unmount() {
    is_mounted "$1" || return 0
    wait_for 10 unmount_once "$1" && return 0
    say "$1 is still busy: aborting its connection"
    abort_connection "$1" || true
    umount -l "$1" || fusermount3 -uz "$1"
    return 1
}

# stop PID [SECONDS]: SIGTERM, then SIGKILL when the time (10 s) is over. Only for processes that we started.
stop() {
    [ -n "${1:-}" ] || return 0
    kill "$1" 2>/dev/null || return 0
    wait_for "${2:-10}" is_gone "$1" || kill -9 "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

# end_mount MOUNTPOINT PID [SECONDS]: at the end of a script: unmounts, whatever it takes, and stops the daemon (5 s).
end_mount() {
    unmount "$1" || true
    stop "$2" "${3:-5}"
}

# at_end COMMAND: what the script does when it ends, however that comes.
at_end() {
    # shellcheck disable=SC2064 # the command is known now
    trap "$1" EXIT
    trap 'exit 130' INT TERM
}

# remove_tree DIR...: removes what a script made, also files that a killed stress-ng left immutable or append-only. What cannot
# be removed is said; it does not change how the script ends.
remove_tree() {
    rm -rf --one-file-system "$@" 2>/dev/null && return 0
    chattr -R -f -i -a "$@" 2>/dev/null || true
    rm -rf --one-file-system "$@" || say "left behind: $*"
}

# end_work: at the end of a script that has one volume, in $work.
# shellcheck disable=SC2154 # it is set by those who source this
end_work() {
    end_mount "$work/volume" "$stunfs_pid"
    remove_tree "$work"
}

# mount_stunfs BACKING MOUNTPOINT [OPTION...]: mounts and waits until it is usable; sets stunfs_pid.
# The daemon's messages go to MOUNTPOINT.log.
mount_stunfs() {
    local backing=$1 at=$2
    shift 2
    "$stunfs" mount "$backing" "$at" "$@" >"$at.log" 2>&1 &
    stunfs_pid=$!
    wait_for 10 is_mounted "$at" && return 0
    stop "$stunfs_pid" 2
    die 70 "stunfs did not mount $at: $(tail -n 1 "$at.log")"
}

# unmount_stunfs MOUNTPOINT: unmounts and waits for the daemon's end.
unmount_stunfs() {
    local status=0
    unmount "$1" || status=1
    wait_for 10 is_gone "$stunfs_pid" || { stop "$stunfs_pid" 2; status=1; }
    stunfs_pid=
    return "$status"
}

# median < numbers, one a line.
median() { sort -g | awk '{ v[NR] = $1 } END { if (NR) print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
