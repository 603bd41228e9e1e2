#!/usr/bin/env bash
# How often it works: rows for docs/measured.md.
#
#   tests/vm/repeat.sh busy      each run a fresh guest: XFS pile-up under the burst, then a freeze: soft lockup, NFS
#   tests/vm/repeat.sh idle      GUESTS at a time with nothing to do, frozen together: soft lockup
#   tests/vm/repeat.sh thick     each run a fresh guest on a thick volume, the same burst for 90 s: none of it
#
#   RUNS=10 FIRST=1 FREEZE=30 (seconds) GUESTS=5 ACCEL=tcg|kvm STUNFS=PATH. Several at once are fine as long as processors are left.
# shellcheck source=tests/vm/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm/workload.sh
. "$(dirname "$0")/workload.sh"

runs=${RUNS:-10}
first=${FIRST:-1}
freeze=${FREEZE:-30}
guests=${GUESTS:-5}

# lockup VOLUME GUEST: `yes 29 s [swapper/0:0]` if there is one and its figure is as predicted.
lockup() {
    local seconds
    seconds=$(soft_lockups "$1" "$2" | jq -s '.[0].seconds // 0')
    if [ "$seconds" = 0 ]; then
        echo no
    elif as_predicted "$seconds" "$(frozen_seconds "$1")"; then
        echo "yes, $seconds s, $(soft_lockups "$1" "$2" | jq -rs '.[0].task')"
    else
        echo "no: $seconds s are not as predicted"
    fi
}

# busy_run N: a row `| N | pile-up | soft lockup | NFS |`.
busy_run() {
    local piled=no nfs=no from
    vm_begin "busy-$1"
    nfs_start || say "note: no nfs-ganesha to be had here"
    volume_up thin thin "${thin_options[@]}" --seed "$1"
    disk_image thin thin
    guest_start thin "$work/thin/thin.img" 4096
    guest_wait thin
    guest_load thin 900
    ctl thin arm >/dev/null
    guest_burst thin 900
    from=$SECONDS
    if wait_for_pile_up thin thin 150; then piled="yes, after $((SECONDS - from)) s, $(pile_ups thin thin | jq -rs '[.[].task] | unique | join(" ")')"; fi
    stun thin "$freeze" thin
    await 30 has soft_lockups thin thin || true
    await 40 has nfs_back thin thin || true
    if has nfs_lost thin thin && has nfs_back thin thin; then nfs=yes; fi
    echo "| $1 | $piled | $(lockup thin thin) | $nfs |"
}

thick_run() {
    vm_begin "thick-$1"
    nfs_start || say "note: no nfs-ganesha to be had here"
    volume_up thick thick "${thin_options[@]}" --thick --seed "$1"
    disk_image thick thick
    guest_start thick "$work/thick/thick.img" 4096
    guest_wait thick
    guest_load thick 900
    ctl thick arm >/dev/null
    guest_burst thick 900
    nap 90
    echo "| $1 | $(count hung_tasks thick thick) | $(count soft_lockups thick thick) | $(count nfs_lost thick thick) | $(first_writes thick) |"
}

# idle_round FIRST LAST: guests with numbers, frozen together; a row each.
idle_round() {
    local n names=()
    vm_begin "idle-$1"
    for ((n = $1; n <= $2; n++)); do names+=("g$n"); done
    volume_up thin "${names[*]}" "${thin_options[@]}"
    for n in "${names[@]}"; do
        disk_image thin "$n"
        guest_start "$n" "$work/thin/$n.img" 512
    done
    for n in "${names[@]}"; do guest_wait "$n" 300; done
    nap 5
    ctl thin arm >/dev/null
    stun thin "$freeze" "${names[@]}"
    for n in "${names[@]}"; do
        await 20 has soft_lockups thin "$n" || true
        echo "| ${n#g} | $(lockup thin "$n") |"
    done
}

case ${1:-} in
busy)
    printf '\n| run | xfs_buf_lock | soft lockup after %s s | NFS not responding, OK |\n|--:|---|---|---|\n' "$freeze"
    for ((run = first; run < first + runs; run++)); do (busy_run "$run") || echo "| $run | failed to run | | |"; done
    ;;
thick)
    printf '\n| run | hung tasks | soft lockups | NFS | first writes that waited |\n|--:|--:|--:|--:|--:|\n'
    for ((run = first; run < first + runs; run++)); do (thick_run "$run") || echo "| $run | failed to run | | | |"; done
    ;;
idle)
    printf '\n| guest | soft lockup after %s s |\n|--:|---|\n' "$freeze"
    for ((run = 1; run <= runs; run += guests)); do
        last=$((run + guests - 1))
        (idle_round "$run" "$((last < runs ? last : runs))") || echo "| $run to $last | failed to run |"
    done
    ;;
*) die 2 "usage: tests/vm/repeat.sh busy|idle|thick" ;;
esac
