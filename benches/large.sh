#!/usr/bin/env bash
# How long the mount of a large backing takes: FILES small files and a sparse image of 500 GB, with the caches dropped. Usable
# means mounted, its top directory listed, a file read. What the files hold is counted in the background: when that is done.
# Prints a markdown table.
#
#   benches/large.sh             FILES=1000000 (as root, to drop the caches)
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

files=${FILES:-1000000}
need_commands jq split truncate
need_fuse
work=$target/bench/large.$$
stunfs_pid=''

at_end end_work

# 1,000 files to a directory, of a few bytes each, and the image with some data in it.
furnish() {
    local dir
    for ((dir = 0; dir < files / 1000; dir++)); do
        mkdir "$work/backing/$dir"
        seq 1000 | split -l 1 -a 3 - "$work/backing/$dir/"
    done
    truncate -s 500G "$work/backing/image"
    dd if=/dev/zero of="$work/backing/image" bs=1M seek=250000 count=16 conv=notrunc status=none
}

drop_caches() {
    sync -f "$work/backing"
    if ! { echo 3 >/proc/sys/vm/drop_caches; } 2>/dev/null; then say "note: not root, the caches stay as they are"; fi
}

now() { date +%s%N; }
pool_used() { "$stunfs" ctl --socket "$work/control" status --json | jq .pool.used_bytes; }
# Each small file takes a block.
is_counted() { [ "$(pool_used)" -ge $((files * 4096)) ]; }

# measure NAME: a table row.
measure() {
    local begun usable
    : >"$work/log"
    begun=$(now)
    "$stunfs" mount "$work/backing" "$work/volume" --first-write 1ms --control "$work/control" --state "$work/state" >"$work/log" 2>&1 &
    stunfs_pid=$!
    poll=0.005 wait_for 60 grep -q 'is mounted on' "$work/log" || die 70 "not mounted: $(tail -n 1 "$work/log")"
    [ "$(find "$work/volume" -mindepth 1 -maxdepth 1 | wc -l)" -eq $((files / 1000 + 1)) ] || die 1 "not all directories are there"
    [ "$(cat "$work/volume/0/aaa")" = 1 ] || die 1 "a file is not what it was"
    usable=$(now)
    poll=0.2 wait_for 600 is_counted || die 1 "after 10 minutes $(pool_used) bytes are counted"
    awk -v name="$1" -v usable=$((usable - begun)) -v counted=$(($(now) - begun)) \
        'BEGIN { printf "| %s | %.2f | %.1f |\n", name, usable / 1e9, counted / 1e9 }'
    unmount_stunfs "$work/volume"
}

mkdir -p "$work"/{backing,volume}
say "large: making $files files"
furnish
drop_caches
echo
echo "$files files and a sparse image of 500 GB, kernel $(uname -r), $(nproc) CPUs."
echo
echo "| mount | usable after, s | all counted after, s |"
echo "|---|--:|--:|"
measure "caches dropped"
measure again
