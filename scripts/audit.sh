#!/usr/bin/env bash
# Licences, duplicate and banned crates, sources (deny.toml) and advisories, as far as it can be done without a network.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$root"

if ! cargo deny --version >/dev/null 2>&1; then
    say "note: cargo-deny is not here: licences and advisories were not checked (cargo install cargo-deny)"
    exit 0
fi
checks=(bans licenses sources)
if compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-db*/*" >/dev/null; then
    checks+=(advisories)
else
    say "note: no advisory database here: advisories were not checked (cargo deny fetch)"
fi
# Crates of other platforms are in no cache yet; without a network they must be there already.
cargo fetch -q --locked || say "note: cargo fetch failed; trying with the crates that are here"
cargo deny --offline check "${checks[@]}"
