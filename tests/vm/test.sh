#!/usr/bin/env bash
# The test VM's cases, one line each (`ok`, `FAIL` or `left out`): a guest boots with its disk on a thin volume, its XFS piles up,
# it is frozen and says so, its NFS mount loses the server and finds it again; a guest on a thick volume says none of it.
# Under 15 minutes without KVM on 2 cores. Nothing stays: guests, volumes, the NFS server and the control group are gone after it.
#
#   tests/vm/test.sh             FREEZE=30 (seconds) KEEP=1 (the logs) ACCEL=tcg|kvm NICE=5 STUNFS=PATH
# shellcheck source=tests/vm/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm/workload.sh
. "$(dirname "$0")/workload.sh"

freeze=${FREEZE:-30}
# How long the control runs with the burst: longer than the thin guest needs to pile up.
control=${CONTROL:-120}

case_boot() {
    local from=$SECONDS says code=0
    guest_start thin "$work/thin/thin.img" 4096
    guest_wait thin
    says=$(guest thin 20 'uname -sr; exit 7') || code=$?
    if [ "$code" = 7 ]; then
        case_ok boot "$says, agent after $((SECONDS - from)) s, exit codes come through"
    else
        case_fail boot "the agent answered $code instead of 7: $says"
    fi
}

# The disk is the volume's: what the guest writes to it are first writes there.
case_disk() {
    local before after
    before=$(ctl thin --json status | jq .counters.provisioned)
    guest thin 60 'dd if=/dev/zero of=/mnt/data/new bs=1M count=16 conv=fsync 2>/dev/null && rm /mnt/data/new' || true
    after=$(ctl thin --json status | jq .counters.provisioned)
    if [ $((after - before)) -ge 256 ]; then
        case_ok disk-on-volume "16 MiB of new data in the guest: $((after - before)) grains of 64 KiB provisioned"
    else
        case_fail disk-on-volume "16 MiB of new data in the guest, and $((after - before)) grains of 64 KiB provisioned"
    fi
}

case_pile_up() {
    local from=$SECONDS
    ctl thin arm >/dev/null
    guest_burst thin 600
    if wait_for_pile_up thin thin 150; then
        case_ok xfs-pile-up "after $((SECONDS - from)) s, $(count pile_ups thin thin) reports: $(pile_up_lines thin thin)"
    else
        case_fail xfs-pile-up "no hung task in xfs_buf_lock within 150 s; $(count hung_tasks thin thin) others, $(first_writes thin) first writes waited"
    fi
}

case_freeze() {
    local seconds frozen
    stun thin "$freeze" thin
    await 30 has soft_lockups thin thin || true
    frozen=$(frozen_seconds thin)
    seconds=$(soft_lockups thin thin | jq -s '.[0].seconds // 0')
    if [ "$seconds" = 0 ]; then
        case_fail soft-lockup "the guest said nothing after $frozen s"
    elif as_predicted "$seconds" "$frozen"; then
        case_ok soft-lockup "frozen for $frozen s, predicted $(predicted "$frozen"): $(soft_lockups thin thin | raw_line 'soft lockup')"
    else
        case_fail soft-lockup "frozen for $frozen s, predicted $(predicted "$frozen"): $(soft_lockups thin thin | raw_line 'soft lockup')"
    fi
}

case_nfs() {
    [ -n "$nfs_pid" ] || { case_out nfs "no nfs-ganesha to be had here"; return; }
    await 60 has nfs_back thin thin || true
    if has nfs_lost thin thin && has nfs_back thin thin; then
        case_ok nfs "$(nfs_lost thin thin | raw_line responding); $(nfs_back thin thin | raw_line OK)"
    else
        case_fail nfs "lost: $(count nfs_lost thin thin), back: $(count nfs_back thin thin) messages"
    fi
}

# The same guest, the same work, as long; the only difference is where the space comes from.
case_control() {
    local what n bad=0
    volume_up thick thick "${thin_options[@]}" --thick
    disk_image thick thick
    guest_start thick "$work/thick/thick.img" 4096
    guest_wait thick
    guest_load thick 600
    ctl thick arm >/dev/null
    guest_burst thick 600
    nap "$control"
    for what in hung_tasks soft_lockups nfs_lost; do
        n=$(count "$what" thick thick)
        [ "$n" = 0 ] || bad=$((bad + n))
    done
    if [ "$bad" = 0 ] && [ "$(first_writes thick)" = 0 ]; then
        case_ok thick-control "$control s of the same burst: no hung task, soft lockup or NFS message, no first write waited; $(written thick)"
    else
        case_fail thick-control "$(count hung_tasks thick thick) hung tasks, $(count soft_lockups thick thick) soft lockups, $(count nfs_lost thick thick) NFS messages, $(first_writes thick) first writes waited"
    fi
}

written() { ctl "$1" --json status | jq -r '"\(.counters.operations) operations on the volume"'; }

vm_begin test
nfs_start || say "note: no nfs-ganesha to be had here: NFS is left out"
volume_up thin thin "${thin_options[@]}"
disk_image thin thin
case_boot
guest_load thin 900
case_disk
case_pile_up
case_freeze
case_nfs
ctl thin release >/dev/null
guest_stop thin
case_control
[ "$failed" = 0 ] || exit 1
