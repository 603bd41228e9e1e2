#!/usr/bin/env bash
# Pass-through speed: plain directory, libfuse's passthrough_ll, stunfs without injection. Same backing file system, same
# cache mode, same run, in turn (each round the other way round), medians; prints a markdown table.
#
#   benches/compare.sh [OPERATION...]       ROUNDS=5 RUNTIME=2 CACHE=through|back|direct ARMS="plain ll stunfs" BACKING=DIR
#
# The backing is a fresh ext4 with a journal, in an image of its own, so that what else was done on the machine does not count:
# data that are still to be written, and, on an ext4 without a journal, files removed in the last minutes (each create looks
# through their inodes: 46,000 a second become 3,000). BACKING=DIR takes a directory as it is.
#
# KEEP_AWAKE=1: no idle processor halts during the whole run, for all arms alike (PM QoS request). CPUS=0: only these processors.
# passthrough_ll: benches/peer.sh. LL_FLAGS (-d ...), LL_OPTIONS (mount options), STUNFS_FLAGS.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"
# shellcheck source=benches/peer.sh
. "$(dirname "$0")/peer.sh"
[ -z "${CPUS:-}" ] || taskset -pc "$CPUS" $$ >/dev/null

rounds=${ROUNDS:-5}
runtime=${RUNTIME:-2}
cache=${CACHE:-through}
read -ra arms <<<"${ARMS:-plain ll stunfs}"
all_operations=(seq-write-1m seq-write-4k direct-randread-1 direct-randread-4 direct-randwrite-1 direct-randwrite-4
    seq-read-cold seq-read-warm fsync-append meta)
operations=("$@")
[ ${#operations[@]} -gt 0 ] || operations=("${all_operations[@]}")

need_commands fio jq gcc pkg-config findmnt losetup mkfs.ext4
need_fuse
[ "$(id -u)" -eq 0 ] || die 69 "drops the page cache between runs: run it as root (sudo make bench)"

work=$target/bench/compare.$$
image=$work.img
results=$work.results
ll_pid='' stunfs_pid=''

has_arm() { [[ " ${arms[*]} " == *" $1 "* ]]; }

set_up() {
    mkdir -p "$work"
    if [ -n "${BACKING:-}" ]; then
        mount --bind "$BACKING" "$work"
    else
        fresh_ext4 "$image" "$work"
    fi
    mkdir -p "$work"/{plain,ll,ll.backing,stunfs,stunfs.backing}
    : >"$results"
    if has_arm ll; then
        compile_passthrough_ll
        mount_ll "$work/ll.backing" "$work/ll" "$cache"
    fi
    if has_arm stunfs; then
        # shellcheck disable=SC2086 # STUNFS_FLAGS is words
        mount_stunfs "$work/stunfs.backing" "$work/stunfs" --cache "$cache" --disarmed --state none ${STUNFS_FLAGS:-}
    fi
}

tear_down() {
    end_mount "$work/ll" "$ll_pid" 2
    end_mount "$work/stunfs" "$stunfs_pid" 2
    rm -rf --one-file-system "$work"/{plain,ll,ll.backing,stunfs,stunfs.backing}
    end_ext4 "$image" "$work"
    rm -f "$results"
}

# run_fio DIR FIELD ARGUMENT...: prints the field of the first job group (fio's JSON).
run_fio() {
    local dir=$1 field=$2
    shift 2
    (cd "$dir" && fio --output-format=json --group_reporting --ioengine=psync --fallocate=none --name=job "$@") |
        sed -n '/^{/,$p' | jq -r ".jobs[0].$field"
}

# measure OPERATION DIR: prints lines `NAME VALUE`.
measure() {
    local operation=$1 dir=$2 timed=(--time_based --runtime="$runtime")
    sync -f "$work" # what the run before left dirty is not this one's
    case $operation in
    seq-write-1m) echo "$operation $(run_fio "$dir" write.bw --rw=write --bs=1M --size=256M --unlink=1 "${timed[@]}")" ;;
    seq-write-4k) echo "$operation $(run_fio "$dir" write.bw --rw=write --bs=4k --size=256M --unlink=1 "${timed[@]}")" ;;
    direct-rand*-*)
        local rw=${operation#direct-} jobs=${operation##*-}
        rw=${rw%-*}
        echo "$operation $(run_fio "$dir" "${rw#rand}.iops" --rw="$rw" --bs=4k --direct=1 --numjobs="$jobs" \
            --filename_format=laid.\$jobnum --size=128M "${timed[@]}")"
        ;;
    seq-read-cold)
        sync && echo 3 >/proc/sys/vm/drop_caches
        echo "$operation $(run_fio "$dir" read.bw --rw=read --bs=1M --filename=laid.read --size=256M)"
        ;;
    seq-read-warm) echo "$operation $(run_fio "$dir" read.bw --rw=read --bs=1M --filename=laid.read --size=256M --loops=4)" ;;
    fsync-append) echo "$operation $(run_fio "$dir" write.iops --rw=write --bs=4k --fsync=1 --size=64M --unlink=1 "${timed[@]}")" ;;
    meta) "$tools/metaops" "$dir" "${META_COUNT:-5000}" ;;
    *) die 2 "unknown operation $operation; there are: ${all_operations[*]}" ;;
    esac
}

# Files that read and rewrite tests need, laid through the mount, so that its own caches are in the same state.
lay_files() {
    local name
    for name in laid.0 laid.1 laid.2 laid.3; do
        dd if=/dev/zero of="$1/$name" bs=1M count=128 conv=fsync status=none
    done
    dd if=/dev/zero of="$1/laid.read" bs=1M count=256 conv=fsync status=none
}

values() { awk -v arm="$1" -v name="$2" '$1 == arm && $2 == name { print $3 }' "$results"; }

# range_of NAME: the lowest and the highest ratio to passthrough_ll of all rounds.
range_of() {
    paste <(values stunfs "$1") <(values ll "$1") | awk '$2 > 0 { print $1 / $2 }' | sort -g |
        awk '{ v[NR] = $1 } END { if (NR) printf "%.2f to %.2f", v[1], v[NR]; else printf "-" }'
}

print_table() {
    local name arm unit
    echo
    echo "Cache mode \`$cache\`, medians of $rounds runs of $runtime s, kernel $(uname -r), backing $(findmnt -no FSTYPE -T "$work"), $(nproc) CPUs${KEEP_AWAKE:+, kept awake}."
    echo
    echo "| operation | unit |$(printf ' %s |' "${arms[@]}") stunfs / passthrough_ll | of each round | stunfs / plain |"
    echo "|---|---|$(printf -- '--:|%.0s' "${arms[@]}")--:|--:|--:|"
    awk '!seen[$2]++ { print $2 }' "$results" | while read -r name; do
        unit=1/s
        [[ $name == seq-* ]] && unit=MiB/s
        for arm in plain ll stunfs; do
            printf '%s ' "$(values "$arm" "$name" | median)"
            has_arm "$arm" || printf -- '- '
        done | awk -v name="$name" -v unit="$unit" -v arms="${arms[*]}" -v range="$(range_of "$name")" '{
            scale = unit == "MiB/s" ? 1024 : 1
            value["plain"] = $1; value["ll"] = $2; value["stunfs"] = $3
            n = split(arms, arm, " ")
            printf "| %s | %s |", name, unit
            for (i = 1; i <= n; i++) printf " %.0f |", value[arm[i]] / scale
            printf " %s | %s | %s |\n", ratio(value["stunfs"], value["ll"]), range, ratio(value["stunfs"], value["plain"])
        }
        function ratio(a, b) { return (a > 0 && b > 0) ? sprintf("%.2f", a / b) : "-" }'
    done
}

at_end tear_down
[ -z "${KEEP_AWAKE:-}" ] || keep_awake
set_up
for arm in "${arms[@]}"; do lay_files "$work/$arm"; done
for operation in "${operations[@]}"; do
    order=("${arms[@]}")
    for ((round = 1; round <= rounds; round++)); do
        say "$operation, round $round of $rounds"
        for arm in "${order[@]}"; do
            measure "$operation" "$work/$arm" | sed "s/^/$arm /" >>"$results"
        done
        mapfile -t order < <(printf '%s\n' "${order[@]}" | tac)
    done
done
print_table
