#!/usr/bin/env bash
# Which of QEMU's disk modes send a guest's writes to the volume in parallel: eight direct writes to new grains of 2 s each, begun
# together. In parallel they take a little more than 2 s, one after the other 16 s. Prints a markdown table.
#
#   tests/vm/aio.sh              ACCEL=tcg|kvm STUNFS=PATH
# shellcheck source=tests/vm/lib.sh
. "$(dirname "$0")/lib.sh"

# shellcheck disable=SC2016 # for the guest's shell
writes='from=$(cut -d" " -f1 /proc/uptime)
for n in 1 2 3 4 5 6 7 8; do
    dd if=/dev/zero of=/dev/vda bs=4k count=1 seek=$((n * 4096)) conv=notrunc oflag=direct 2>/dev/null &
done
wait
echo "$from $(cut -d" " -f1 /proc/uptime)"'

# mode CACHE AIO: a row. Its name is the guest's, too.
mode() {
    local name=$1-$2 times
    truncate -s 1G "$work/thin/$name.img"
    CACHE=$1 AIO=$2 guest_start "$name" "$work/thin/$name.img" 512
    guest_wait "$name"
    times=$(guest "$name" 90 "$writes") || die 70 "the guest did not write: $times"
    awk -v cache="$1" -v aio="$2" '{ printf "| `cache=%s,aio=%s` | %.1f |\n", cache, aio, $2 - $1 }' <<<"$times"
    guest_stop "$name"
}

vm_begin aio
volume_up thin "" --first-write 2s --lanes 32
ctl thin arm >/dev/null
printf '\n| drive | eight first writes of 2 s took, s |\n|---|--:|\n'
mode none native
mode none io_uring
mode none threads
mode writeback threads
