#!/usr/bin/env bash
# All tests, or with `mount` only those that mount (test targets whose name starts with mount).
# With cargo-nextest, if it is here: each test in a process of its own with a time limit (.config/nextest.toml).
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

[ -e /dev/fuse ] || say "note: no /dev/fuse here: tests that mount are skipped; mend it with: modprobe fuse"
if [ "${1:-all}" = mount ]; then only=(--test 'mount*'); else only=(); fi

if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked --no-fail-fast "${only[@]}"
    # nextest runs no documentation tests
    [ ${#only[@]} -gt 0 ] || cargo test --locked --doc
else
    cargo test --locked --no-fail-fast "${only[@]}"
fi
