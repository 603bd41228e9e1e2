#!/usr/bin/env bash
# Sourced by the scripts beside it, never run: guests on stunfs volumes, and what their consoles say.
#
# A script calls vm_begin NAME first; vm_end is its trap. Then volume_up, guest_start, guest_wait, guest, and events. However
# the script ends: all is thawed and released, the guests (by their numbers) and the volumes are ended, nothing stays mounted.

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
# shellcheck source=tests/vm/nfs.sh
. "$(dirname "${BASH_SOURCE[0]}")/nfs.sh"

declare -A guest_options=() qemu_pid=() to_guest=() from_guest=() volume_pid=()
work='' group=''

vm_begin() {
    need_fuse
    need_commands qemu-system-x86_64 mkfs.xfs jq setpriv
    [ "$(id -u)" = 0 ] || die 77 "needs root, for control groups and mounts; mend it with: sudo make ${MAKE_TARGET:-vm-test}"
    [ -x "$stunfs" ] || die 69 "$stunfs is not built yet; mend it with: make build"
    cache=$(STUNFS=$stunfs "$root/tests/vm/image.sh") || exit $?
    work=$target/vm/$1.$$
    trap vm_end EXIT
    trap 'say "interrupted: cleaning up"; exit 130' INT TERM
    mkdir -p "$work"
    make_group "stunfs-$1-$$"
    accel=${ACCEL:-$(find_accel)}
    say "guests run under $accel; logs are in $work"
}

vm_end() {
    local code=$? name
    trap - EXIT INT TERM
    set +e
    for name in "${!volume_pid[@]}"; do ctl "$name" release >/dev/null 2>&1; done
    for name in "${!qemu_pid[@]}"; do guest_stop "$name"; done
    nfs_stop
    for name in "${!volume_pid[@]}"; do volume_down "$name"; done
    [ -z "$group" ] || rmdir "$group"
    # Logs of a run that went well are of no use; KEEP=1 keeps them.
    if [ "$code" = 0 ] && [ -z "${KEEP:-}" ]; then rm -rf --one-file-system "$work"; else rm -rf "$work"/*.backing; fi
    exit "$code"
}

# await SECONDS COMMAND...: as wait_for, for commands that cost something: once a second.
await() {
    local poll=1
    wait_for "$@"
}

# nap SECONDS: a sleep that a signal to this script interrupts.
nap() {
    sleep "$1" &
    wait $!
}

# A control group that can be frozen: in the freezer's hierarchy (v1), if there is one, else in the unified one. HIERARCHY names another.
make_group() {
    local hierarchy=${HIERARCHY:-}
    # The last three fields of a line of mountinfo are type, source and options.
    [ -n "$hierarchy" ] || hierarchy=$(awk '$(NF - 2) == "cgroup2" { unified = $5 }
        $(NF - 2) == "cgroup" && $NF ~ /(^|,)freezer(,|$)/ { v1 = $5 }
        END { print v1 ? v1 : unified }' /proc/self/mountinfo)
    [ -n "$hierarchy" ] || die 69 "no control groups are mounted that can freeze; mend it with: mount -t cgroup2 none /sys/fs/cgroup"
    mkdir "$hierarchy/$1" || die 77 "cannot make a control group in $hierarchy"
    group=$hierarchy/$1
}

# KVM is used if a kernel gets as far as looking for its root file system, within seconds; on some machines /dev/kvm is there, and
# guests under it print a line or none.
find_accel() {
    local pid accel=tcg
    if [ -w /dev/kvm ]; then
        setpriv --pdeathsig KILL qemu-system-x86_64 -accel kvm -m 1024 -display none -nodefaults -no-reboot -kernel "$cache/vmlinuz" \
            -append "console=ttyS0" -serial "file:$work/kvm-probe" >"$work/kvm-probe.log" 2>&1 &
        pid=$!
        if wait_for 10 grep -qs "Unable to mount root" "$work/kvm-probe"; then accel=kvm; fi
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    fi
    echo "$accel"
}

# ---- volumes

ctl() {
    local name=$1
    shift
    timeout 60 "$stunfs" ctl --socket "$work/$name.sock" "$@"
}

# volume_up NAME GUESTS [OPTION...]: a volume for disk images with injection disarmed; GUESTS are those whose consoles it reads.
volume_up() {
    local name=$1 guest consoles=()
    for guest in $2; do consoles+=(--guest-console "$work/$guest.console"); done
    shift 2
    mkdir -p "$work/$name.backing" "$work/$name"
    setpriv --pdeathsig TERM "$stunfs" mount "$work/$name.backing" "$work/$name" --placement direct --disarmed --state none \
        --control "$work/$name.sock" --events "$work/$name.events" --freeze "cgroup:$group" "${consoles[@]}" "$@" \
        >"$work/$name.log" 2>&1 &
    volume_pid[$name]=$!
    wait_for 20 test -S "$work/$name.sock" && wait_for 10 is_mounted "$work/$name" && return 0
    die 70 "stunfs did not mount $name: $(tail -n 1 "$work/$name.log")"
}

volume_down() {
    unmount "$work/$1"
    stop "${volume_pid[$1]:-}" 15
    unset "volume_pid[$1]"
}

# disk_image VOLUME NAME [SIZE]: a sparse image with a fresh XFS, made before injection is armed.
disk_image() {
    truncate -s "${3:-4G}" "$work/$1/$2.img"
    mkfs.xfs -q "$work/$1/$2.img" || die 70 "mkfs.xfs failed on $1/$2.img"
}

# events VOLUME JQ-FILTER: each event through a filter; the volume may still be writing its last line.
events() { jq -rR "fromjson? | $2" "$work/$1.events"; }

# ---- guests

# The guest's clock goes on while it is frozen, ticks also when idle, and RCU does not complain first: its report of a stall, in the same
# interrupt, would touch the watchdog of soft lockups.
clock=(tsc=reliable nohz=off rcupdate.rcu_cpu_stall_suppress=1)

# guest_start NAME IMAGE MEMORY [OPTION...]: QEMU in the group that is frozen; its console in NAME.console.
guest_start() {
    local name=$1 image=$2 memory=$3
    guest_options[$name]="$image $memory"
    shift 3
    : >"$work/$name.console"
    rm -f "$work/$name.agent.in" "$work/$name.agent.out"
    mkfifo "$work/$name.agent.in" "$work/$name.agent.out"
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        exec setpriv --pdeathsig KILL nice -n "${NICE:-5}" qemu-system-x86_64 -accel "$accel" -m "$memory" -smp 1 -display none \
            -nodefaults -no-reboot -kernel "$cache/vmlinuz" -initrd "$cache/initramfs" \
            -append "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off ${clock[*]}" \
            -chardev "file,id=console,path=$work/$name.console,append=on" -serial chardev:console \
            -chardev "pipe,id=agent,path=$work/$name.agent" -device virtio-serial-pci -device virtserialport,chardev=agent,name=agent \
            -netdev user,id=net -device virtio-net-pci,netdev=net,romfile= \
            -drive "file=$image,format=raw,if=virtio,cache=${CACHE:-none},aio=${AIO:-native},discard=unmap" "$@"
    ) >"$work/$name.qemu.log" 2>&1 &
    qemu_pid[$name]=$!
    local to from
    exec {to}<>"$work/$name.agent.in" {from}<>"$work/$name.agent.out"
    to_guest[$name]=$to from_guest[$name]=$from
}

# guest_wait NAME [SECONDS]: until its agent says hello and its clock is right. A kernel that boots on a busy processor may measure its
# clock wrong, and then runs several times too fast, or may give up; it is started again.
guest_wait() {
    local tries
    for tries in 1 2 3; do
        if ! guest_hello "$1" "${2:-180}"; then
            say "note: guest $1 ended while it booted: starting it again; it said: $(grep -m 1 -a panic "$work/$1.console" "$work/$1.qemu.log")"
        elif has_right_clock "$1"; then
            return 0
        else
            say "note: the clock of guest $1 is wrong (it was measured on a busy processor): starting it again"
        fi
        guest_stop "$1"
        # shellcheck disable=SC2086 # image and memory
        guest_start "$1" ${guest_options[$1]}
    done
    die 70 "guest $1 did not come up right $tries times; are the processors overloaded?"
}

# Fails if QEMU ends.
guest_hello() {
    local deadline=$((SECONDS + $2)) line
    while [ "$SECONDS" -lt "$deadline" ]; do
        if read -r -t 1 -u "${from_guest[$1]}" line && [[ $line = "0 0"* ]]; then return 0; fi
        if is_gone "${qemu_pid[$1]}"; then return 1; fi
    done
    die 70 "guest $1 did not come up within $2 s; the end of its console: $(tail -n 2 "$work/$1.console")"
}

has_right_clock() {
    local from to began=$EPOCHREALTIME
    from=$(guest "$1" 30 'cut -d" " -f1 /proc/uptime') || return 1
    nap 4
    to=$(guest "$1" 30 'cut -d" " -f1 /proc/uptime') || return 1
    awk -v from="$from" -v to="$to" -v began="$began" -v ended="$EPOCHREALTIME" \
        'BEGIN { rate = (to - from) / (ended - began); exit !(rate > 0.7 && rate < 1.3) }'
}

# guest NAME SECONDS COMMAND: runs it in the guest, prints its output, returns its code; 124 if there is no answer in time.
guest() {
    local name=$1 id=${EPOCHREALTIME//./}$RANDOM deadline=$((SECONDS + $2)) got code output
    printf '%s %s\n' "$id" "$(base64 -w0 <<<"$3")" >&"${to_guest[$name]}"
    while [ "$SECONDS" -lt "$deadline" ]; do
        read -r -t 1 -u "${from_guest[$name]}" got code output || continue
        [ "$got" = "$id" ] || continue
        base64 -d <<<"$output"
        return "$code"
    done
    return 124
}

# guest_do NAME SECONDS COMMAND: as guest; ends the script if it fails.
guest_do() {
    local said
    said=$(guest "$@") || die 70 "guest $1 did not do it: $3: ${said:-no answer within $2 s}"
}

# guest_writer NAME DIR WORKLOAD [OPTION...]: starts a `stunfs write` in the guest; its report goes to /tmp/DIR.json.
guest_writer() {
    local name=$1 dir=$2 kind=$3
    shift 3
    guest_do "$name" 30 "mkdir -p /mnt/data/$dir && {
        stunfs write $kind /mnt/data/$dir -q --json --no-verify $* >/tmp/$dir.json 2>/tmp/$dir.err &
        echo \$! >/run/$dir.pid; }"
}

guest_stop() {
    local pid=${qemu_pid[$1]:-}
    [ -n "$pid" ] || return 0
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    unset "qemu_pid[$1]"
}

# ---- results

failed=0

# case_ok NAME WORDS..., case_fail, case_out (left out: something is missing here): one line each.
case_ok() { printf 'ok        %-28s %s\n' "$1" "${*:2}"; }
case_out() { printf 'left out  %-28s %s\n' "$1" "${*:2}"; }
case_fail() {
    printf 'FAIL      %-28s %s\n' "$1" "${*:2}"
    failed=$((failed + 1))
}
