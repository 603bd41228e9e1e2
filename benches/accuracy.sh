#!/usr/bin/env bash
# How exactly a hold ends, as the application sees it: fio's latency log of first writes on a volume with a fixed
# `--first-write`. Never early; how late: p50, p99, max. Rewrites and reads of the same blocks must not wait.
#
#   benches/accuracy.sh          FIRST_WRITE_MS=50 COUNT=200
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

wait_ms=${FIRST_WRITE_MS:-50}
count=${COUNT:-200}
need_commands fio
need_fuse
work=$target/bench/accuracy.$$
stunfs_pid=''

at_end end_work

# latencies NAME RW: one a line, in nanoseconds. Each write takes a grain of its own.
latencies() {
    fio --name="$1" --directory="$work/volume" --filename=file --rw="$2" --bs=4k --size=$((count * 4))k --ioengine=psync \
        --fallocate=none --create_on_open=1 --overwrite=0 --invalidate=1 --write_lat_log="$work/$1" >"$work/$1.fio"
    cut -d, -f2 "$work/${1}_clat.1.log" | tr -d ' '
}

# summary TITLE DUE_NS < latencies
summary() {
    sort -n | awk -v title="$1" -v due="$2" '
        { v[NR] = $1 - due; if ($1 < due) early++ }
        function at(q) { i = int(q * NR + 0.999999); return v[i < 1 ? 1 : i] / 1e6 }
        END { printf "| %s | %d | %d | %.3f | %.3f | %.3f |\n", title, NR, early, at(0.5), at(0.99), v[NR] / 1e6 }'
}

mkdir -p "$work"/{volume,backing}
# 4 KiB grains: every first write of a block is the first of its grain.
mount_stunfs "$work/backing" "$work/volume" --first-write "${wait_ms}ms" --grain 4KiB --lanes 64 --state none

echo
echo "\`--first-write ${wait_ms}ms\`, fio psync 4 KiB, kernel $(uname -r), $(nproc) CPUs; milliseconds beyond what is due."
echo
echo "| operation | count | early | p50 | p99 | max |"
echo "|---|--:|--:|--:|--:|--:|"
latencies first write | summary "first write (due ${wait_ms} ms)" $((wait_ms * 1000000))
latencies rewrite write | summary "rewrite (due 0)" 0
latencies read read | summary "read (due 0)" 0
