#!/usr/bin/env bash
# What a disk costs and what it keeps: a thick disk (image on a volume, loop device) against a plain image on a plain loop
# device, both with direct I/O, on the same file system, in turn, medians; then the times of first writes and rewrites through
# XFS on a thin disk, and how many first writes run at once. As root. Prints markdown tables.
#
#   benches/disk.sh         ROUNDS=5 RUNTIME=2 WORK=DIR DISK_FLAGS="--threads 2"
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

rounds=${ROUNDS:-5}
runtime=${RUNTIME:-2}
need_commands fio jq losetup mkfs.xfs findmnt
need_fuse
[ "$(id -u)" -eq 0 ] || die 69 "disks need root: sudo make bench"
[ -e /dev/loop-control ] || die 69 "no loop devices; mend it with: modprobe loop"

work=${WORK:-$target/bench/disk.$$}
results=$work/results
plain_device=''
disks=()

tear_down() {
    local disk
    for disk in "${disks[@]}"; do "$stunfs" disk down "$disk" >/dev/null || true; done
    [ -z "$plain_device" ] || losetup -d "$plain_device" || true
    rm -rf --one-file-system "$work"
}

# disk_up NAME [OPTION...]: brings up a disk and sets device.
disk_up() {
    local name=$1
    shift
    disks+=("$work/$name-disk")
    # shellcheck disable=SC2086 # DISK_FLAGS is words
    device=/dev/loop$("$stunfs" disk up "$work/$name-disk" --json ${DISK_FLAGS:-} "$@" | jq .device.number)
}

# disk_down NAME: the last one that was brought up.
disk_down() {
    "$stunfs" disk down "$work/$1-disk" >/dev/null
    unset 'disks[-1]'
    rm -rf "$work/$1-disk"
}

# run_fio FILTER ARGUMENT...: what the jq filter finds in the first job group.
run_fio() {
    local filter=$1
    shift
    fio --output-format=json --ioengine=libaio --direct=1 --group_reporting --name=job "$@" 2>"$work/fio.log" |
        sed -n '/^{/,$p' | jq -r ".jobs[0] | $filter" || die 70 "fio failed: $(tail -n 1 "$work/fio.log")"
}

# The volume reads and writes its image through the page cache: what is in there makes it fast (reads) or slow (small writes
# into large folios). `thick`: all of it is there; `cold`: as after a start of the machine.
prepare() {
    case $1 in
    thick) cat "$work/thick-disk/disk.img" >/dev/null ;;
    cold) dd if="$work/thick-disk/disk.img" of=/dev/null iflag=nocache count=0 status=none ;;
    esac
}

# Rounds of both devices in turn; every block of both is written before.
throughput() {
    local operation rw bs depth arm round options
    declare -A on=([plain]=$1 [thick]=$2 [cold]=$2)
    for arm in plain thick; do run_fio .write.bw --filename="${on[$arm]}" --rw=write --bs=1M --end_fsync=1 >/dev/null; done
    for operation in write-1M-1 write-1M-32 read-1M-1 read-1M-32 randwrite-4k-1 randwrite-4k-32 randread-4k-1 randread-4k-32 syncwrite-4k-1; do
        IFS=- read -r rw bs depth <<<"$operation"
        options=()
        if [ "$rw" = syncwrite ]; then rw=randwrite options=(--fdatasync=1); fi
        for ((round = 1; round <= rounds; round++)); do
            for arm in plain thick cold; do
                prepare "$arm"
                say "$operation, round $round of $rounds, $arm"
                echo "$arm $operation $(run_fio ".${rw#rand}.iops" --filename="${on[$arm]}" --rw="$rw" --bs="$bs" \
                    --iodepth="$depth" --time_based --runtime="$runtime" --end_fsync=1 "${options[@]}")" >>"$results"
            done
        done
    done
}

values() { awk -v arm="$1" -v name="$2" '$1 == arm && $2 == name { print $3 }' "$results"; }

throughput_table() {
    local operation
    echo
    echo "Requests a second, medians of $rounds runs of $runtime s in turn, kernel $(uname -r), images on $(findmnt -no FSTYPE -T "$work"), $(nproc) CPUs."
    echo
    echo "| direct I/O | size | queue depth | plain image, plain loop | thick disk, warm | warm / plain | thick, cold | cold / plain |"
    echo "|---|---|--:|--:|--:|--:|--:|--:|"
    awk '!seen[$2]++ { print $2 }' "$results" | while read -r operation; do
        awk -v operation="$operation" -v plain="$(values plain "$operation" | median)" \
            -v thick="$(values thick "$operation" | median)" -v cold="$(values cold "$operation" | median)" 'BEGIN {
                split(operation, part, "-")
                printf "| %s | %s | %s | %.0f | %.0f | %.2f | %.0f | %.2f |\n", part[1], part[2], part[3], plain, thick, thick / plain, cold, cold / plain
            }'
    done
}

# 4 KiB, one a grain, in a file that has blocks but no data; then the same again.
latency() {
    local round arm at pass p50='.write.clat_ns.percentile | "\(."50.000000" / 1e6) \(."99.000000" / 1e6)"'
    for ((round = 1; round <= rounds; round++)); do
        for arm in thin thick; do
            at=$work/$arm.xfs
            disk_up "$arm" --size 1GiB --fs xfs --mount "$at" --first-write 50ms "--$([ "$arm" = thin ] && echo grain=1MiB || echo thick)"
            fallocate -l 256M "$at/file"
            for pass in first again; do
                say "$arm, $pass writes, round $round of $rounds"
                echo "$arm $pass $(run_fio "$p50" --filename="$at/file" --fallocate=none --rw=write:1020k --bs=4k --size=256M \
                    --io_size=512k --number_ios=128 --iodepth=1)" >>"$work/latency"
            done
            disk_down "$arm"
        done
    done
}

latency_cell() { awk -v arm="$1" -v pass="$2" -v field="$3" '$1 == arm && $2 == pass { print $field }' "$work/latency" | median; }

latency_table() {
    local pass field
    echo
    echo "4 KiB on XFS, queue depth 1, 128 grains of 1 MiB, \`--first-write 50ms\`, milliseconds, medians of $rounds runs in turn."
    echo
    echo "| | p50 thin | p50 thick | p99 thin | p99 thick |"
    echo "|---|--:|--:|--:|--:|"
    for pass in first again; do
        printf '| %s |' "$([ "$pass" = first ] && echo 'first write' || echo rewrite)"
        for field in 3 4; do printf ' %.3f | %.3f |' "$(latency_cell thin "$pass" "$field")" "$(latency_cell thick "$pass" "$field")"; done
        echo
    done
}

at_once() {
    local took
    disk_up lanes --size 1GiB --fs none --first-write 1s --lanes 32
    took=$(run_fio .job_runtime --filename="$device" --rw=write:1020k --bs=4k --number_ios=32 --io_size=128k --size=64M --iodepth=32)
    disk_down lanes
    echo
    echo "32 first writes of 1 s each, to different grains, queue depth 32, \`--lanes 32\`: all done after $took ms."
}

at_end tear_down
mkdir -p "$work/plain"
truncate -s 1G "$work/plain/disk.img"
plain_device=$(losetup --find --show --direct-io=on "$work/plain/disk.img")
disk_up thick --size 1GiB --fs none --thick
throughput "$plain_device" "$device"
disk_down thick
throughput_table
latency
latency_table
at_once
