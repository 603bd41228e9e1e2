#!/usr/bin/env bash
# How many FUSE requests an operation costs, and which: passthrough_ll (its -d log) beside stunfs (strace of its reads from
# /dev/fuse). Prints a markdown table.
#
#   benches/requests.sh            CACHE=through|back|direct ARMS="ll stunfs"
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"
# shellcheck source=benches/peer.sh
. "$(dirname "$0")/peer.sh"

cache=${CACHE:-through}
read -ra arms <<<"${ARMS:-ll stunfs}"
need_commands strace dd
need_fuse
compile_passthrough_ll
work=$target/bench/requests.$$
ll_pid='' stunfs_pid='' strace_pid=''

tear_down() {
    stop "$strace_pid" 2
    end_mount "$work/ll" "$ll_pid" 2
    end_mount "$work/stunfs" "$stunfs_pid"
    rm -rf --one-file-system "$work"
}
at_end tear_down

mount_traced_stunfs() {
    mount_stunfs "$work/stunfs.backing" "$work/stunfs" --cache "$cache" --disarmed --state none
    # The first 8 bytes of a request are its length and its opcode.
    strace -f -p "$stunfs_pid" -e trace=read,readv -e signal=none -xx -s 8 -o "$work/stunfs.requests" 2>/dev/null &
    strace_pid=$!
    sleep 1
}

log_of() { case $1 in ll) echo "$work/ll.log" ;; *) echo "$work/stunfs.requests" ;; esac; }

# Names of the requests in the log since line $2 of arm $1.
requests_since() {
    case $1 in
    ll) tail -n "+$(($2 + 1))" "$work/ll.log" | sed -n 's/.*opcode: \([A-Z_]*\) .*/\1/p' ;;
    stunfs)
        tail -n "+$(($2 + 1))" "$work/stunfs.requests" |
            sed -n 's/.*"\\x..\\x..\\x..\\x..\\x\(..\)\\x00\\x00\\x00"\.*,.* = [0-9]*$/\1/p' | while read -r opcode; do name_of $((16#$opcode)); done
        ;;
    esac
}

name_of() {
    local names=(0 LOOKUP FORGET GETATTR SETATTR READLINK SYMLINK 7 MKNOD MKDIR UNLINK RMDIR RENAME LINK OPEN READ WRITE STATFS
        RELEASE 19 FSYNC SETXATTR GETXATTR LISTXATTR REMOVEXATTR FLUSH INIT OPENDIR READDIR RELEASEDIR FSYNCDIR GETLK SETLK
        SETLKW ACCESS CREATE INTERRUPT BMAP DESTROY IOCTL POLL NOTIFY_REPLY BATCH_FORGET FALLOCATE READDIRPLUS RENAME2 LSEEK
        COPY_FILE_RANGE SETUPMAPPING REMOVEMAPPING SYNCFS TMPFILE STATX)
    echo "${names[$1]:-$1}"
}

# The command lines; they run in the mount.
operations=(
    "create an empty file|: >new"
    "write 16 x 4 KiB to a new file|dd if=/dev/zero of=written bs=4k count=16 status=none"
    "append 16 x 4 KiB with fsync|dd if=/dev/zero of=written bs=4k count=16 oflag=append,dsync conv=notrunc status=none"
    "rewrite 16 x 4 KiB|dd if=/dev/zero of=written bs=4k count=16 conv=notrunc status=none"
    "read it twice|cat written written"
    "direct read 16 x 4 KiB|dd if=written bs=4k count=16 iflag=direct status=none"
    "stat it three times|stat -c %s written; stat -c %s written; stat -c %s written"
    "stat 3 missing files|stat none; stat none; stat none"
    "list 100 files with attributes|ls -l many"
    "rename|mv written renamed"
    "unlink|rm -f renamed"
)

count_of() {
    local arm=$1 command=$2 lines
    lines=$(wc -l <"$(log_of "$arm")")
    (cd "$work/$arm" && eval "$command") >/dev/null 2>&1 || true
    sleep 0.2
    requests_since "$arm" "$lines" | sort | uniq -c | sort -rn | awk '{ sum += $1; list = list " " $2 ($1 > 1 ? "x" $1 : "") } END { print sum + 0 ":" list }'
}

mkdir -p "$work"/{ll,ll.backing,stunfs,stunfs.backing}
for arm in "${arms[@]}"; do
    case $arm in ll) LL_FLAGS=-d mount_ll "$work/ll.backing" "$work/ll" "$cache" ;; stunfs) mount_traced_stunfs ;; esac
    mkdir "$work/$arm/many"
    for ((n = 0; n < 100; n++)); do : >"$work/$arm/many/$n"; done
done
echo "| operation (cache \`$cache\`) |$(printf ' %s |' "${arms[@]}")"
echo "|---|$(printf -- '---|%.0s' "${arms[@]}")"
for operation in "${operations[@]}"; do
    printf '| %s |' "${operation%%|*}"
    for arm in "${arms[@]}"; do printf ' %s |' "$(count_of "$arm" "${operation#*|}")"; done
    printf '\n'
done
