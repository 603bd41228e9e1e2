#!/usr/bin/env bash
# What the event log costs: 4 KiB first writes, each of them held (for 1 us) and an event, with and without `--events FILE`, in
# turn. Prints the writes a second of each round and the medians.
#
#   benches/events.sh            WRITES=20000 ROUNDS=5
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

writes=${WRITES:-20000}
rounds=${ROUNDS:-5}
need_commands fio jq
need_fuse
work=$target/bench/events.$$
stunfs_pid=''

at_end end_work

# rate ARM: writes a second on a fresh volume; `with` writes events, and has one for each write.
rate() {
    local options=() held
    [ "$1" = without ] || options=(--events "$work/events")
    mkdir -p "$work"/{volume,backing}
    mount_stunfs "$work/backing" "$work/volume" --first-write 1us --grain 4KiB --lanes 64 --state none "${options[@]}"
    fio --name=events --directory="$work/volume" --filename=file --rw=write --bs=4k --size=$((writes * 4))k --ioengine=psync \
        --fallocate=none --output-format=json 2>/dev/null | sed -n '/^{/,$p' >"$work/report"
    unmount_stunfs "$work/volume"
    if [ "$1" = with ]; then
        held=$(grep -c '"event":"held"' "$work/events")
        [ "$held" -eq "$writes" ] || die 1 "$held events for $writes writes"
    fi
    rm -rf --one-file-system "$work/backing" "$work/volume"
    jq '.jobs[0].write.iops | round' "$work/report"
}

mkdir -p "$work"
echo
echo "$writes first writes of 4 KiB, \`--first-write 1us\`, kernel $(uname -r), $(nproc) CPUs; writes a second."
echo
echo "| round | without \`--events\` | with |"
echo "|---|--:|--:|"
for ((round = 1; round <= rounds; round++)); do
    # The first run has no advantage.
    if ((round % 2)); then order=(without with); else order=(with without); fi
    for arm in "${order[@]}"; do rate "$arm" >>"$work/rates.$arm"; done
    echo "| $round | $(tail -n 1 "$work/rates.without") | $(tail -n 1 "$work/rates.with") |"
done
without=$(median <"$work/rates.without") with=$(median <"$work/rates.with")
echo "| median | $without | $with |"
awk -v without="$without" -v with="$with" 'BEGIN { printf "\nwith / without: %.3f\n", with / without }'
