#!/usr/bin/env bash
# Every kind of thing that can be frozen, against every way in which a stun can end: frozen for real (a counter inside stands
# still), going on afterwards without anybody's help, nothing left frozen. A cell says how often of how many times, and the
# longest time from the ending until the counter went on (max-hold of 1.5 s and ttl of 5 s are waited for). Prints a markdown table.
#
# docker: the engine that DOCKER_HOST names, or a daemon of this script's own, in a temporary directory, without a network.
# A row whose program is missing (qemu-system-x86_64, dockerd, busybox-static, control groups) is said to be left out.
#
#   tests/freeze-matrix.sh         TIMES=20
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"
cd "$root"

work=$(mktemp -d) dockerd=''

tear_down() {
    stop "$dockerd" 30
    umount "$work/exec/netns/default" 2>/dev/null || true
    rm -rf --one-file-system "$work"
}

engine_answers() { timeout 5 docker version >/dev/null 2>&1; }

own_engine() {
    if engine_answers || ! command -v dockerd docker >/dev/null; then return 0; fi
    echo '{}' >"$work/config.json"
    dockerd -H "unix://$work/docker.sock" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" \
        --config-file "$work/config.json" --bridge=none --iptables=false --ip-forward=false --ip-masq=false \
        >"$work/log" 2>&1 </dev/null &
    dockerd=$!
    export DOCKER_HOST=unix://$work/docker.sock
    wait_for 30 engine_answers || say "dockerd did not start: $(tail -n 1 "$work/log")"
}

at_end tear_down
own_engine
cargo test --locked --quiet --test freeze --no-run
status=0
STUNFS_FREEZE_TIMES=${TIMES:-20} cargo test --locked --quiet --test freeze matrix:: -- --nocapture >"$work/out" 2>&1 || status=$?
grep -E 'LEFT OUT|panicked|stays frozen|not frozen' "$work/out" >&2 || true
echo "| target | resume | max-hold | ttl | SIGTERM | SIGINT | release | SIGKILL | SIGKILL during stun |"
echo "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
grep -oE '\| (cgroup v1|cgroup v2|pid|docker|qmp) \|.*\|$' "$work/out" | sort || true
[ "$status" -eq 0 ]
