# shellcheck shell=bash
# What the benchmarks beside libfuse's passthrough_ll share: its build and mount, arms, processor time, the PM QoS request.
# Sourced after scripts/lib.sh, never run. Needs: gcc, pkg-config, Debian's libfuse3-dev.

example=/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c
# shellcheck disable=SC2154 # scripts/lib.sh sets it
passthrough_ll=$target/bench/passthrough_ll

# Builds it from Debian's libfuse3-dev into target/, with one change: it takes O_DIRECT from the backing's descriptors (not from
# the mount's), since its buffers are not aligned and every direct write would fail with EINVAL.
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

# mount_ll BACKING MOUNTPOINT [CACHE [OPTION...]]: mounts it and waits; sets ll_pid. Attributes and names last a second, as with
# stunfs. LL_OPTIONS (mount options), LL_FLAGS (-d ...). Its messages go to MOUNTPOINT.log.
mount_ll() {
    local backing=$1 at=$2 options=cache=always,timeout=1
    case ${3:-through} in
    back) options=cache=always,timeout=1,writeback ;;
    direct) options=cache=never ;;
    esac
    # It keeps a descriptor for each file that the kernel knows.
    # shellcheck disable=SC2086 # LL_FLAGS is words
    (ulimit -n "$(ulimit -Hn)" && exec "$passthrough_ll" -f -o "source=$backing,$options${LL_OPTIONS:+,$LL_OPTIONS}" ${LL_FLAGS:-} "$at") >"$at.log" 2>&1 &
    # shellcheck disable=SC2034 # the script that sources this ends it
    ll_pid=$!
    wait_for 10 is_mounted "$at" || die 70 "passthrough_ll did not mount: $(tail -n 1 "$at.log")"
}

# fresh_ext4 IMAGE DIR [SIZE]: a new ext4 with a journal at DIR, so that what else was done on the machine does not count: data
# that are still to be written, and, on an ext4 without a journal, files removed in the last minutes.
fresh_ext4() {
    truncate -s "${3:-8G}" "$1"
    mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$1"
    mkdir -p "$2"
    mount "$(losetup --find --show --direct-io=on "$1")" "$2"
}

# end_ext4 IMAGE DIR
end_ext4() {
    local device
    unmount "$2" || true
    for device in $(losetup --noheadings --output NAME --associated "$1" 2>/dev/null); do losetup --detach "$device"; done
    is_mounted "$2" || rm -rf --one-file-system "$2" "$1"
}

# keep_awake: asks the kernel that no idle processor halts, until the script ends or let_sleep is called.
keep_awake() {
    exec {awake}>/dev/cpu_dma_latency || die 69 "/dev/cpu_dma_latency cannot be opened for writing"
    printf '\0\0\0\0' >&"$awake"
}
let_sleep() { exec {awake}>&-; }

# processor_ms PID: processor time of a process and its threads so far, in milliseconds.
processor_ms() { awk -v tick="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); print ($12 + $13) * 1000 / tick }' "/proc/$1/stat"; }

now_ms() { awk -v t="$EPOCHREALTIME" 'BEGIN { printf "%.1f\n", t * 1000 }'; }
