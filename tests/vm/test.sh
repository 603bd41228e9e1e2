#!/usr/bin/env bash
# The test VM's cases, one line each (`ok`, `FAIL` or `left out`): a guest boots with its disk on a thin volume, and the volume
# sees its writes.
# Under 15 minutes without KVM on 2 cores. Nothing stays: guests, volumes, the NFS server and the control group are gone after it.
#
#   tests/vm/test.sh             KEEP=1 (the logs) ACCEL=tcg|kvm NICE=5
# shellcheck source=tests/vm/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm/workload.sh
. "$(dirname "$0")/workload.sh"

# A grain of new space takes 50 ms, one after the other, as in a pool with one metadata lock: a burst makes seconds of it.
thin_options=(--grain 64KiB --first-write 50ms --lanes 1)

case_boot() {
    local from=$SECONDS says
    guest_start thin "$work/thin/thin.img" 4096
    guest_wait thin
    says=$(guest thin 20 'uname -sr; exit 7') && die 70 "the agent lost a command's exit code"
    case $? in
    7) case_ok boot "$says, agent after $((SECONDS - from)) s; exit codes come through" ;;
    *) case_fail boot "the agent does not answer" ;;
    esac
}

# The disk is the volume's: what the guest writes to it are first writes there.
case_disk() {
    local before after
    before=$(ctl thin --json status | jq .counters.provisioned)
    guest thin 60 'dd if=/dev/zero of=/mnt/data/new bs=1M count=16 conv=fsync 2>/dev/null && rm /mnt/data/new' || true
    after=$(ctl thin --json status | jq .counters.provisioned)
    if [ $((after - before)) -ge 16 ]; then
        case_ok disk-on-volume "16 MiB of new data in the guest: $((after - before)) grains provisioned"
    else
        case_fail disk-on-volume "16 MiB of new data in the guest, and $((after - before)) grains provisioned"
    fi
}

vm_begin test
volume_up thin thin "${thin_options[@]}"
disk_image thin thin
case_boot
guest_prepare thin
case_disk
exit "$failed"
