#!/usr/bin/env bash
# The page of a run with a million events: how long `stunfs report` takes, how much memory, how large the page is, and how long a
# browser takes to show it (if chromium is installed).
#
#   benches/report.sh [EVENTS]     default 1000000
#
# The events are made up: a collector, a database and a backup whose writes queue behind one another, two arms.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

events=${1:-1000000}
[ -x "$stunfs" ] || die 69 "not built yet; mend it with: make build"
need_commands awk jq
work=$(mktemp -d "${TMPDIR:-/tmp}/stunfs-report.XXXXXX")
at_end "remove_tree '$work'"

# One arm's part of the events: holds of 20 ms on one lane, bursts of up to 2000 at once, and what writers told each second.
make_events() {
    awk -v n="$events" 'BEGIN {
        split("fluentd database tar kubelet rsyslogd", comms, " ")
        for (arm = 0; arm < 2; arm++) {
            name = arm ? "thick" : "thin"; origin = arm * n / 2 * 1000
            for (i = 0; i < n / 2; i++) {
                burst = i % 2000; from = (i - burst) * 1000; queue = burst * 1000; until = from + queue + 1000
                printf "{\"v\":1,\"seq\":%d,\"t_us\":%d,\"event\":\"held\",\"id\":%d,\"op\":\"write\",\"ino\":%d,\"path\":\"logs/app-%d.log\",\"offset\":0,\"length\":4096,\"pid\":%d,\"uid\":0,\"comm\":\"%s\",\"requested_us\":%d,\"due_us\":%d,\"released_us\":%d,\"cause\":\"due\",\"penalty\":{\"latency_us\":1000,\"zeroing_us\":0,\"queue_us\":%d,\"space_us\":0,\"stun_us\":0,\"grains\":1,\"first_grain\":%d},\"error\":null,\"arm\":\"%s\",\"run_us\":%d}\n",
                    i, until, i, i % 1000, i % 1000, 4000 + i % 50, comms[1 + i % 5], from, until, until, queue, i, name, until + origin
                if (i % 1000 == 0)
                    printf "{\"v\":1,\"seq\":%d,\"t_us\":%d,\"run_us\":%d,\"arm\":\"%s\",\"event\":\"writer-progress\",\"name\":\"collector\",\"progress\":{\"elapsed_us\":%d,\"records\":%d,\"errors\":0,\"interval\":{\"records\":50,\"ack_p50_us\":%d,\"ack_p99_us\":%d,\"ack_max_us\":%d},\"max_us\":1,\"waiting\":[]}}\n",
                        i, until + origin, until + origin, name, until, i, 500 + i % 7, queue + 1000, queue + 2000
            }
        }
    }'
}

make_verdict() {
    jq -n --argjson length "$((events * 500))" '
        def arm($name; $begin): {name: $name, verdict: "pass", reasons: [], notes: [], began_us: $begin, ended_us: ($begin + $length),
            steady_us: null, steps: [], proofs: [], expectations: [], metrics: {"collector.ack_latency.max": {micros: 2000000}},
            writers: [{name: "collector", kind: "write fluentd", began_us: $begin, ended_us: $begin, exit_code: 0,
                ended_by_harness: false, report: null}], log: {events: 0, missing: 0, complete: true}, stuck: []};
        {v: 1, version: "0", scenario: "million", description: "", started: "2026-01-01T00:00:00Z", elapsed_us: ($length * 2), seed: 1,
            verdict: "pass", summary: "", again: [], arms: [arm("thin"; 0), arm("thick"; $length)]}'
}

# Milliseconds from the start of navigation until all charts stand, as the page itself notes.
open_page() {
    timeout 60 chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
        --disable-component-update --disable-sync --user-data-dir="$work/profile" --dump-dom "file://$1" 2>/dev/null |
        grep -o 'data-drawn="[0-9]*"' | grep -o '[0-9]*'
}

mkdir "$work/run"
make_events >"$work/run/events.jsonl"
make_verdict >"$work/run/verdict.json"
echo 'kind: Scenario' >"$work/run/scenario.yaml"

"$stunfs" report "$work/run" >/dev/null # once, so that the file is in the page cache
begin=$(date +%s%N)
"$stunfs" report "$work/run" >/dev/null &
pid=$!
peak=0
while kill -0 "$pid" 2>/dev/null; do
    now=$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true)
    [ "${now:-0}" -le "$peak" ] || peak=$now
    sleep 0.01
done
wait "$pid"
took=$((($(date +%s%N) - begin) / 1000000))
printf '%-28s %10s\n' events "$(wc -l <"$work/run/events.jsonl")" \
    "event file, MB" "$(($(stat -c %s "$work/run/events.jsonl") / 1000000))" \
    "stunfs report, ms" "$took" "its peak memory, MB" "$((peak * 1024 / 1000000))" \
    "page, kB" "$(($(stat -c %s "$work/run/report.html") / 1000))"
if command -v chromium >/dev/null; then
    printf '%-28s %10s\n' "page opens in chromium, ms" "$(open_page "$work/run/report.html")"
else
    say "chromium is not installed: how fast the page opens is left out"
fi
