#!/usr/bin/env bash
# xfstests' generic tests on a volume, ext4 below (as root).
#
#   tests/xfstests.sh SUITE [TEST...]    SUITE: a built checkout of xfstests; TEST: for example generic/451; default: all generic tests
#
# Prints how many passed, failed and did not apply, and which failed. tests/xfstests.known lists failures with a known cause; any other
# one makes this exit 1.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

suite=${1:-}
[ -x "$suite/check" ] || die 2 "the first argument is a built checkout of xfstests: make xfstests SUITE=/path/to/xfstests"
suite=$(cd "$suite" && pwd)
shift
[ "$(id -u)" -eq 0 ] || die 69 "mounting needs root; mend it with: sudo make xfstests SUITE=$suite"
need_fuse
need_commands mkfs.ext4 losetup
known=$root/tests/xfstests.known

# A mount namespace of its own.
if [ -z "${IN_NAMESPACE:-}" ]; then
    IN_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$suite" "$@"
fi

work=$(mktemp -d)
results=$work/results
chmod 755 "$work"
# Whether no daemon of a volume runs any more.
all_ended() { ! pgrep -f -- "-- $work/disk/stunfs-" >/dev/null; }

tear_down() {
    local at
    for at in "$work/mnt/test" "$work/mnt/scratch"; do
        while is_mounted "$at"; do unmount "$at" || break; done
    done
    umount "$(readlink -f /sbin)" || true
    unmount "$work/disk" || true
    [ -n "${KEEP:-}" ] || remove_tree "$work"
}
at_end tear_down

mkdir -p "$work"/{bin,disk,mnt/test,mnt/scratch} "$results"
# mount(8) finds a FUSE file system by its helper's name; only processes of this script see this one. The suite wants devices that are
# no directories: names here.
mkdir "$work/sbin"
ln -s "$stunfs" "$work/bin/mount.fuse.stunfs"
cat >"$work/sbin/mount.fuse.stunfs" <<END
#!/bin/sh
name=\$1 at=\$2
shift 2
exec $work/bin/mount.fuse.stunfs $work/disk/\$name \$at "\$@" -o fsname=\$name
END
chmod +x "$work/sbin/mount.fuse.stunfs"
mount -t overlay -o "lowerdir=$work/sbin:$(readlink -f /sbin)" none "$(readlink -f /sbin)"
truncate -s 20G "$work/image"
mkfs.ext4 -q -F "$work/image"
mount -o loop "$work/image" "$work/disk"
mkdir "$work/disk/stunfs-test" "$work/disk/stunfs-scratch"

cat >"$work/config" <<END
export FSTYP=fuse FUSE_SUBTYP=.stunfs
export TEST_DEV=stunfs-test TEST_DIR=$work/mnt/test
export SCRATCH_DEV=stunfs-scratch SCRATCH_MNT=$work/mnt/scratch
export MOUNT_OPTIONS="-o allow_other,state=none,control=none"
export TEST_FS_MOUNT_OPTS="-o allow_other,state=none,control=none"
export RESULT_BASE=$results
END

# The suite compares what df says of the type with FSTYP.
printf '#!/bin/sh\n%s "$@" | sed "s/fuse[.]stunfs/fuse/"\n' "$(command -v df)" >"$work/bin/df"
chmod +x "$work/bin/df"

tests=("$@")
[ ${#tests[@]} -gt 0 ] || mapfile -t tests < <(cd "$suite/tests" && ls generic/[0-9][0-9][0-9])
echo "xfstests: ${#tests[@]} tests, kernel $(uname -r)"

# One test a call, each with a limit, so that one that hangs does not hang the run.
passed=0 skipped=0 unknown=0
for name in "${tests[@]}"; do
    output=$work/output
    (cd "$suite" && PATH=$work/bin:$PATH HOST_OPTIONS=$work/config timeout -k 10 "${LIMIT:-300}" ./check "$name") >"$output" 2>&1 || true
    if grep -q "^Not run: $name" "$output"; then
        skipped=$((skipped + 1))
    elif grep -q '^Passed all 1 tests' "$output"; then
        passed=$((passed + 1))
    elif grep -q 'ulimit: .*: cannot modify limit: Operation not permitted' "$output"; then
        skipped=$((skipped + 1))
        echo "left out: $name: root may not raise limits here (no CAP_SYS_RESOURCE)"
    elif cause=$(grep "^$name " "$known"); then
        echo "known: $cause"
    else
        unknown=$((unknown + 1))
        echo "FAILED: $name: $(grep -v '^$' "$output" | tail -n 12 | tr '\n' ' ' | cut -c1-400)"
    fi
    # What a test that was cut off has left.
    for at in "$work/mnt/scratch" "$work/mnt/test"; do unmount "$at" || true; done
    wait_for 20 all_ended || say "$name: its volume does not end"
done
echo "xfstests: $passed passed, $skipped do not apply, $unknown failed without a known cause, of ${#tests[@]}"
[ "$unknown" -eq 0 ]
