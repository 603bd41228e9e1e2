#!/usr/bin/env bash
# The units of docs/fstab.md, as printed, under a systemd of their own (as root): a private systemd is process 1 of new PID, mount,
# control group, network and IPC namespaces; nothing of it is seen outside.
#
#   tests/systemd.sh        STUNFS=target/release/stunfs
#
# Shows: a unit that comes after the service finds the volume; the service stops and starts; killed, it leaves no mount; the mount unit
# starts and stops through mount(8). Needs: systemd's own program (it need not be running), cgroup v2.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

[ "$(id -u)" -eq 0 ] || die 69 "namespaces and mounts need root; mend it with: sudo make systemd-test"
need_fuse
need_commands unshare systemctl awk
manager=/lib/systemd/systemd
[ -x "$manager" ] || die 69 "$manager is missing; mend it with: apt-get install systemd"

# In the namespaces: the manager takes this process's place.
if [ "${1:-}" = inside ]; then
    work=$2
    mount --make-rprivate /
    for dir in /run /srv /mnt /usr/local /etc/systemd/system; do mount -t tmpfs none "$dir"; done
    mkdir -p /run/lock /srv/data /mnt/thin /usr/local/bin /usr/local/sbin
    umount -l /sys/fs/cgroup
    mount -t cgroup2 none /sys/fs/cgroup || exit 1
    cp "$stunfs" /usr/local/bin/stunfs
    cp "$work"/units/* /etc/systemd/system/
    # PID 1 must not sit on a pipe whose other end may close.
    exec env -i PATH="$PATH" container=test "$manager" --unit=checks.target --log-target=null --show-status=0
fi

work=$(mktemp -d)
tear_down() { remove_tree "$work"; }
at_end tear_down
mkdir "$work/units"

# The n-th ini block of the page.
unit_of_page() { awk -v n="$1" '/^```ini/ { i++; inside = 1; next } /^```/ { inside = 0 } inside && i == n' "$root/docs/fstab.md"; }
unit_of_page 1 >"$work/units/mnt-thin.mount"
unit_of_page 2 >"$work/units/thin.service"
grep -q '^Type=notify' "$work/units/thin.service" || die 70 "docs/fstab.md has no service with Type=notify as its second unit"
if ! (ulimit -n 1048576) 2>/dev/null; then
    say "systemd.sh: this machine does not let root raise the limit of descriptors: LimitNOFILE= is left out"
    sed -i '/^LimitNOFILE=/d' "$work"/units/*
fi
# A system of nothing but these units.
sed -i 's/^\[Unit\]/[Unit]\nDefaultDependencies=no/' "$work"/units/*
cat >"$work/units/checks.target" <<'END'
[Unit]
Wants=thin.service checks.service
END
cat >"$work/units/checks.service" <<END
[Unit]
DefaultDependencies=no
After=thin.service

[Service]
Type=oneshot
ExecStart=/bin/bash -c '"$work/checks" >"$work/result" 2>&1; systemctl --force --force poweroff'
END
cat >"$work/checks" <<'END'
#!/bin/bash
failed=0
check() {
    local what=$1
    shift
    if "$@" >/tmp/said 2>&1; then echo "ok: $what"; else echo "FAILED: $what: $(tail -n 2 /tmp/said | tr '\n' ' ')"; failed=1; fi
}
mount -t tmpfs none /tmp
mounted() { grep -q ' /mnt/thin fuse.stunfs ' /proc/self/mounts; }
soon() { local i; for i in {1..200}; do "$@" && return 0; sleep 0.05; done; return 1; }
is() { [ "$(systemctl is-active "$1")" = "$2" ]; }
check "the unit that comes after the service finds the volume" mounted
check "... and writes to it" sh -c 'echo first >/mnt/thin/file'
check "systemd counts the service as active" is thin.service active
check "systemctl stop ends it" systemctl stop thin.service
check "... without a failure" is thin.service inactive
check "... and its mount" eval '! mounted'
check "what was written is in the backing" grep -q first /srv/data/file
check "systemctl start brings it back" systemctl start thin.service
check "... mounted when the command returns" mounted
check "a killed service" systemctl kill --signal=KILL thin.service
check "... counts as failed" soon is thin.service failed
check "... starts again at the same place" systemctl restart thin.service
check "... and is mounted" grep -q first /mnt/thin/file
check "it stops" systemctl stop thin.service
check "the mount unit starts" systemctl start mnt-thin.mount
check "... mounted when the command returns" mounted
check "... with what was written before" grep -q first /mnt/thin/file
check "... and stops" systemctl stop mnt-thin.mount
check "... and its mount ends" soon eval '! mounted'
echo "end: $failed"
END
chmod +x "$work/checks"

say "systemd.sh: $("$manager" --version | head -n 1), kernel $(uname -r)"
timeout -s KILL 120 unshare --pid --mount --fork --mount-proc --cgroup --ipc --uts --net --kill-child "$0" inside "$work" >"$work/log" 2>&1 || true
cat "$work/result" 2>/dev/null || die 1 "the systemd of the test ended without a result: $(tail -n 2 "$work/log" | tr '\n' ' ')"
grep -q '^end: 0$' "$work/result"
