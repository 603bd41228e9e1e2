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
# passthrough_ll is compiled from Debian's libfuse3-dev (/usr/share/doc/libfuse3-dev/examples) into target/, with one
# change: it takes O_DIRECT from the backing's descriptors (not from the mount's), since its buffers are not aligned and
# every direct write would fail with EINVAL. LL_FLAGS (-d ...), LL_OPTIONS (mount options).
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

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
example=/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c
passthrough_ll=$target/bench/passthrough_ll
ll_pid='' stunfs_pid=''

compile_passthrough_ll() {
    [ -x "$passthrough_ll" ] && return 0
    local source=$target/bench/passthrough_ll.c
    mkdir -p "$target/bench"
    { if [ -e "$example.gz" ]; then zcat "$example.gz"; else cat "$example"; fi; } |
        sed 's/& ~O_NOFOLLOW/\& ~(O_NOFOLLOW | O_DIRECT)/' >"$source"
    [ "$(grep -c '~(O_NOFOLLOW | O_DIRECT)' "$source")" -eq 2 ] || die 70 "$example is not as expected: O_DIRECT not found"
    cp "$(dirname "$example")/passthrough_helpers.h" "$target/bench/" 2>/dev/null || true
    # shellcheck disable=SC2046 # pkg-config prints words
    gcc -O2 -Wall "$source" $(pkg-config --cflags --libs fuse3) -o "$passthrough_ll"
}

mount_ll() {
    local options=cache=always,timeout=1 # as long as stunfs lets the kernel keep attributes and names
    case $cache in
    back) options=cache=always,timeout=1,writeback ;;
    direct) options=cache=never ;;
    esac
    # shellcheck disable=SC2086 # LL_FLAGS is words
    "$passthrough_ll" -f -o "source=$work/ll.backing,$options${LL_OPTIONS:+,$LL_OPTIONS}" ${LL_FLAGS:-} "$work/ll" >"$work/ll.log" 2>&1 &
    ll_pid=$!
    wait_for 10 is_mounted "$work/ll" || die 70 "passthrough_ll did not mount: $(tail -n 1 "$work/ll.log")"
}

has_arm() { [[ " ${arms[*]} " == *" $1 "* ]]; }

set_up() {
    mkdir -p "$work"
    if [ -n "${BACKING:-}" ]; then
        mount --bind "$BACKING" "$work"
    else
        truncate -s 8G "$image"
        mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$image"
        mount "$(losetup --find --show --direct-io=on "$image")" "$work"
    fi
    mkdir -p "$work"/{plain,ll,ll.backing,stunfs,stunfs.backing}
    : >"$results"
    if has_arm ll; then
        compile_passthrough_ll
        mount_ll
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
    unmount "$work" || true
    local device
    for device in $(losetup --noheadings --output NAME --associated "$image" 2>/dev/null); do losetup --detach "$device"; done
    rm -rf --one-file-system "$work" "$image" "$results"
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
    echo "Cache mode \`$cache\`, medians of $rounds runs of $runtime s, kernel $(uname -r), backing $(findmnt -no FSTYPE -T "$work"), $(nproc) CPUs."
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
