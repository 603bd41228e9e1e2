#!/usr/bin/env bash
# 10,000 writes of 4 KiB held at once by a volume with one FUSE thread: stat and statfs meanwhile, CPU, memory, and how
# together they go on, at their common deadline and at `ctl release`. Prints a markdown table.
#
#   benches/held.sh              WRITERS=10000
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

writers=${WRITERS:-10000}
need_fuse
[[ -x $tools/held ]] || die 69 "not built yet; mend it with: make build"
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"
[ "$(ulimit -n)" -gt $((writers + 100)) ] || die 69 "needs $writers open files; mend it with: ulimit -n 65536 (as root)"
work=$target/bench/held.$$
stunfs_pid='' idle_pid=''

tear_down() {
    if [ -n "$stunfs_pid" ]; then "$stunfs" ctl --socket "$work/control" release >/dev/null 2>&1 || true; fi
    end_mount "$work/volume" "$stunfs_pid"
    end_mount "$work/idle" "$idle_pid"
    rm -rf --one-file-system "$work"
}
at_end tear_down

# run NAME FIRST_WRITE [COMMAND...]: all held writes fall into one grain, so that all are due at the same moment. The file
# that others use meanwhile fills the grain before it.
run() {
    local name=$1 first_write=$2
    shift 2
    mkdir -p "$work"/{volume,backing}
    dd if=/dev/zero of="$work/backing/other" bs=1M count=64 status=none
    mount_stunfs "$work/backing" "$work/volume" --threads 1 --grain 64MiB --first-write "$first_write" --state none \
        --control "$work/control" --events "$work/events.$name"
    "$tools/held" "$work/volume" --idle "$work/idle" --writers "$writers" --seconds 5 --pid "$stunfs_pid" --control "$work/control" -- "$@" >"$work/$name"
    unmount_stunfs "$work/volume"
    rm -rf --one-file-system "$work/backing" "$work/volume"
}

value() { awk -v name="$2" '$1 == name { print $2 }' "$work/$1"; }

# The volume's own answers, in milliseconds; the writers' return needs a processor, too. answered NAME: how far apart the first
# and the last were. late NAME: how long after its deadline the latest was.
holds() { jq -s "[.[] | select(.event == \"held\" and .op == \"write\")] | $2" "$work/events.$1"; }
answered() { holds "$1" 'map(.released_us) | (max - min) / 1000'; }
late() { holds "$1" 'map(.released_us - .due_us) | max / 1000'; }

row() { echo "| $1 | $2 | $(value deadline "$3") | $(value release "$3") |"; }

# The volume to compare with: of the same make, holding nothing.
mkdir -p "$work"/{idle,idle.backing}
dd if=/dev/zero of="$work/idle.backing/other" bs=1M count=64 status=none
mount_stunfs "$work/idle.backing" "$work/idle" --threads 1 --grain 64MiB --first-write 1s --state none
idle_pid=$stunfs_pid stunfs_pid=''
run deadline 30s
run release 300s "$stunfs" ctl --socket "$work/control" release

echo
echo "$writers held writes of 4 KiB, \`--threads 1\`, kernel $(uname -r), $(nproc) CPUs."
echo
echo "| what | limit | until the deadline | until \`release\` |"
echo "|---|--:|--:|--:|"
for operation in stat statfs read rewrite; do
    row "$operation p99 on an idle volume, ms" - idle_${operation}_p99_ms
    row "$operation p99 meanwhile, ms" "2 x idle" held_${operation}_p99_ms
done
row "\`ctl status\` p99 at 100/s, ms" 50 control_p99_ms
row "CPU, % of a core" 5 idle_cpu_percent
row "RSS, MiB" 143 rss_mib
echo "| last answer of the volume after the deadline, ms | 100 | $(late deadline) |  |"
echo "| first to last answer of the volume, ms | 100 | $(answered deadline) | $(answered release) |"
row "first to last return to the writers (threads on $(nproc) CPUs), ms" - first_to_last_ms
row "release to last return, ms" - release_to_last_ms
row "returned early" 0 returned_early
row "files with wrong content" 0 wrong_files
