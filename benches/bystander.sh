#!/usr/bin/env bash
# What a CPU-bound program on each processor loses beside a mount on which the same number of 4 KiB writes is made: beside nothing, a
# plain directory, libfuse's passthrough_ll, stunfs without injection; in turn, medians. Prints a markdown table.
#
#   benches/bystander.sh       ROUNDS=5 WRITES=60000 CPUS=0,1
#
# The bystander counts in a loop of its shell; its loss is the processor time that it did not get, in ms for each 10,000 writes.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"
# shellcheck source=benches/peer.sh
. "$(dirname "$0")/peer.sh"
[ -z "${CPUS:-}" ] || taskset -pc "$CPUS" $$ >/dev/null

rounds=${ROUNDS:-5}
writes=${WRITES:-60000}
arms=(plain ll stunfs)
need_commands fio jq gcc pkg-config losetup mkfs.ext4 taskset
need_fuse
[ "$(id -u)" -eq 0 ] || die 69 "mounts a file system of its own: run it as root (sudo make bench)"

work=$target/bench/bystander.$$
image=$work.img results=$work.results
ll_pid='' stunfs_pid='' bystanders=()

tear_down() {
    stop_bystanders
    end_mount "$work/ll" "$ll_pid" 2
    end_mount "$work/stunfs" "$stunfs_pid" 2
    end_ext4 "$image" "$work"
    rm -f "$results"
}

# One bystander on each processor that this script may use.
start_bystanders() {
    local processor
    bystanders=()
    while read -r processor; do
        taskset -c "$processor" sh -c 'while :; do :; done' &
        bystanders+=($!)
    done < <(taskset -pc $$ | sed 's/.*: //' | tr ',' '\n' | awk -F- '{ for (i = $1; i <= ($2 == "" ? $1 : $2); i++) print i }')
    sleep 0.3
}
stop_bystanders() {
    local pid
    for pid in "${bystanders[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${bystanders[@]}"; do wait "$pid" 2>/dev/null || true; done
    bystanders=()
}

# Processor time of all bystanders so far, in ns.
consumed() {
    local pid sum=0 own
    for pid in "${bystanders[@]}"; do
        read -r own _ <"/proc/$pid/schedstat"
        sum=$((sum + own))
    done
    echo "$sum"
}

measure() {
    local arm=$1 before after begin end
    sync -f "$work"
    start_bystanders
    before=$(consumed) begin=$(now_ms)
    (cd "$work/$arm" && fio --ioengine=psync --fallocate=none --name=job --rw=write --bs=4k --size=64M \
        --number_ios="$writes" --io_size="$((writes * 4))k" --unlink=1 >/dev/null)
    after=$(consumed) end=$(now_ms)
    # Lost: the time of all processors less what the bystanders had.
    echo "$arm $begin $end $before $after ${#bystanders[@]} $writes" |
        awk '{ took = $3 - $2; print $1, "lost", (took * $6 - ($5 - $4) / 1e6) * 10000 / $7; print $1, "took", took }' >>"$results"
    stop_bystanders
}

cell() { awk -v arm="$1" -v what="$2" '$1 == arm && $2 == what { print $3 }' "$results" | median; }

at_end tear_down
mkdir -p "$target/bench"
: >"$results"
fresh_ext4 "$image" "$work" 4G
mkdir -p "$work"/{plain,ll,ll.backing,stunfs,stunfs.backing}
compile_passthrough_ll
mount_ll "$work/ll.backing" "$work/ll"
mount_stunfs "$work/stunfs.backing" "$work/stunfs" --disarmed --state none
order=("${arms[@]}")
for ((round = 1; round <= rounds; round++)); do
    say "round $round of $rounds"
    for arm in "${order[@]}"; do measure "$arm"; done
    mapfile -t order < <(printf '%s\n' "${order[@]}" | tac)
done
echo
echo "$writes writes of 4 KiB, medians of $rounds runs in turn, kernel $(uname -r), $(nproc) CPUs${CPUS:+ (only $CPUS)}."
echo
echo "| beside | bystanders lose, ms for 10,000 writes | the writes took, ms |"
echo "|---|--:|--:|"
for arm in "${arms[@]}"; do printf '| %s | %.0f | %.0f |\n' "$arm" "$(cell "$arm" lost)" "$(cell "$arm" took)"; done
