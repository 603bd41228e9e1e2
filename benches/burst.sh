#!/usr/bin/env bash
# A burst queues: 1 GiB of new data in 1 MiB grains, written by 64 writers at once. With 20 ms a grain and one lane the last
# acknowledgement comes after 20.5 s, with 8 lanes after an eighth; with a profile, seconds out of milliseconds a grain.
#
#   benches/burst.sh             BURST_MIB=1024 WRITERS=64 WORK=DIR
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

mib=${BURST_MIB:-1024}
writers=${WRITERS:-64}
need_commands fio jq
need_fuse
work=${WORK:-$target/bench}/burst.$$ # WORK=/dev/shm: the disk is no limit
stunfs_pid=''

at_end end_work

# burst TITLE EXPECTED_SECONDS|- OPTION...: a table row.
burst() {
    local title=$1 expected=$2 report=$work/report.json
    shift 2
    mkdir -p "$work"/{volume,backing}
    mount_stunfs "$work/backing" "$work/volume" --state none --seed 1 "$@"
    fio --name=burst --directory="$work/volume" --rw=write --bs=1M --size=$((mib / writers))M --numjobs="$writers" --thread \
        --ioengine=psync --fallocate=none --group_reporting --output-format=json 2>/dev/null | sed -n '/^{/,$p' >"$report"
    unmount_stunfs "$work/volume"
    rm -rf --one-file-system "$work/backing" "$work/volume"
    jq -r --arg title "$title" --arg expected "$expected" '.jobs[0].write as $w
        | ($w.runtime / 1000) as $took
        | "| \($title) | \($expected) | \($took) | "
          + (if $expected == "-" then "-" else "\((($took / ($expected | tonumber) - 1) * 1000 | round) / 10) %" end)
          + " | \($w.clat_ns.percentile["50.000000"] / 1e6 | round) | \($w.clat_ns.max / 1e6 | round) |"' "$report"
}

mkdir -p "$work"
lane_seconds=$(awk -v mib="$mib" 'BEGIN { print mib * 0.020 }')
echo
echo "$mib MiB of new data, $writers writers of 1 MiB at once, kernel $(uname -r), $(nproc) CPUs."
echo
echo "| volume | expected s | last acknowledged s | off | write p50 ms | write max ms |"
echo "|---|--:|--:|--:|--:|--:|"
burst "1 MiB grains, 20 ms, 1 lane" "$lane_seconds" --placement direct --grain 1MiB --first-write 20ms --lanes 1
burst "1 MiB grains, 20 ms, 8 lanes" "$(awk -v s="$lane_seconds" 'BEGIN { print s / 8 }')" \
    --placement direct --grain 1MiB --first-write 20ms --lanes 8
burst "profile vmware-thin" - --placement direct --profile vmware-thin
burst "profile vmware-thin, thick" - --placement direct --profile vmware-thin --thick
