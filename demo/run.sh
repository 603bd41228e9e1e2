#!/usr/bin/env bash
# A node's night on three kinds of storage, one after the other: the scenario demo/demo.yaml. Prints one table, what it means, and
# where the page is that shows it.
#
#   demo/run.sh [RESULTS]     where the result folder goes [stunfs-results]    BACKUP_MIB=192    SHORT=1: less of everything
#
# Nothing else stays behind, whatever ends it: 'stunfs test' takes its volumes down itself.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

results=${1:-stunfs-results}
short=()
if [ -n "${SHORT:-}" ]; then short=(--short) BACKUP_MIB=${BACKUP_MIB:-64}; fi
backup_mib=${BACKUP_MIB:-192}

MAKE_TARGET=demo need_fuse
need_commands tar jq
[ -x "$stunfs" ] || die 69 "not built yet; mend it with: make build"

# What tar backs up, outside the volumes.
DEMO_DATA=$(mktemp -d "${DEMO_DIR:-/var/tmp}/stunfs-demo.XXXXXX")
export DEMO_DATA
at_end "remove_tree '$DEMO_DATA'"
for ((n = 0; n < 8; n++)); do
    head -c "$((backup_mib * 1048576 / 8))" /dev/urandom >"$DEMO_DATA/part-$n"
done

say "the same night on thin, thick and warmed storage, one after the other (about ${SHORT:+half }a minute)"
status=0
"$stunfs" test "$root/demo/demo.yaml" "${short[@]}" --out "$results" >"$DEMO_DATA/told" || status=$?
verdict=$results/demo/verdict.json
[ -s "$verdict" ] || die "$status" "the scenario did not end: $(tail -n 1 "$DEMO_DATA/told")"

# row TITLE JQ: a table row; the filter makes an arm's cell.
row() {
    local cell
    printf '%-44s' "$1"
    jq -r "def micros: if . == null then \"-\" elif . < 1e3 then \"\(.) us\" elif . < 1e6 then \"\(. / 1e2 | round / 10) ms\"
        else \"\(. / 1e4 | round / 100) s\" end; .arms[] | $2" "$verdict" |
        while IFS= read -r cell; do printf ' %12s' "$cell"; done
    printf '\n'
}

print_table() {
    echo
    row "" '.name'
    row "a record in the log (synced), 99 of 100" '.metrics["log.ack_latency.p99"].micros | micros'
    row "                                  the worst" '.metrics["log.ack_latency.max"].micros | micros'
    row "a commit of the database, 99 of 100" '.metrics["database.ack_latency.p99"].micros | micros'
    row "                          the worst" '.metrics["database.ack_latency.max"].micros | micros'
    row "node: longest without a heartbeat" '.metrics["node.heartbeat_gap"].micros | micros'
    row "backup of $backup_mib MiB took" '.metrics["backup.elapsed"].micros | micros'
    row "records stored" '[.metrics["log.records", "database.records"].count] | add'
    row "records lost" '[.metrics["log.records_lost", "database.records_lost"].count] | add'
    row "operations that the storage held" '.metrics["volume.held"].count'
    row "                       the longest hold" '.metrics["volume.longest_hold"].micros | micros'
    echo
}

explain() {
    fold -s -w 110 <<END
The same programs wrote the same to the same disk. Thin: the first write to a grain waits for the pool, milliseconds each, but \
one after the other. A burst of new data queues, and a program that only appends a line to a log queues behind it. Thick: all \
space is there already. Warmed: the space was written and freed before, and is used again. Nothing is lost anywhere: a held \
write is late, not gone.

If a write-heavy node looks like the first column, provision it thick, or warm it up before it goes into production.
END
}

print_table
explain
echo
head -n 1 "$DEMO_DATA/told"
tail -n 1 "$DEMO_DATA/told"
exit "$status"
