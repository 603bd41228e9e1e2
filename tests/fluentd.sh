#!/usr/bin/env bash
# A real fluentd (8 tails, file buffer, file output) on XFS on a thin and on a thick disk, as scenarios (as root): alone, then beside small
# files that come and go, a rotation that syncs, and a backup. Prints what waited, and whether a line was lost.
#
#   tests/fluentd.sh        FLUENTD=/path/to/fluentd (default: the one in PATH) OUT=DIR (keeps the result folders)
#
# Lines come from files outside of the disk; the output, the buffer and the positions are on it.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

fluentd=${FLUENTD:-fluentd}
command -v "$fluentd" >/dev/null || die 69 "no fluentd ($fluentd); mend it with: gem install fluentd, or FLUENTD=/path/to/fluentd"
[ "$(id -u)" -eq 0 ] || die 69 "disks and kernel stacks need root; mend it with: sudo make fluentd-test"
need_fuse
need_commands mkfs.xfs jq awk

work=$(mktemp -d)
out=${OUT:-$work/out}
tear_down() { remove_tree "$work"; }
at_end tear_down

tails() {
    local n
    for n in 1 2 3 4 5 6 7 8; do
        printf '<source>\n  @type tail\n  path DIR/%s.log\n  pos_file DISK/%s.pos\n  tag app.%s\n  read_from_head true\n  <parse>\n    @type none\n  </parse>\n</source>\n' "$n" "$n" "$n"
    done
}
{
    printf '<system>\n  disable_shared_socket true\n</system>\n'
    tails
    cat <<'END'
<match app.**>
  @type file
  path DISK/out/${tag}
  append true
  <format>
    @type single_value
  </format>
  <buffer tag>
    @type file
    path DISK/buffer
    flush_mode interval
    flush_interval 1s
    flush_thread_count 4
    flush_at_shutdown true
    chunk_limit_size 128k
  </buffer>
</match>
END
} >"$work/fluentd.conf"

# start-fluentd DISK: with inputs of this arm's own.
cat >"$work/start-fluentd" <<END
#!/bin/sh
mkdir -p "\$1.logs" "\$1/out" && sed "s|DISK|\$1|g; s|DIR|\$1.logs|g" "$work/fluentd.conf" >"\$1.conf"
exec "$fluentd" -q -c "\$1.conf" >"\$1.fluentd.log" 2>&1
END
# lines DISK: 8 files, 400 lines a second in all, for 40 seconds.
cat >"$work/lines" <<'END'
#!/bin/sh
mkdir -p "$1.logs"
i=0
while [ $i -lt 400 ]; do
    i=$((i + 1))
    for n in 1 2 3 4 5 6 7 8; do printf '%s.%s.1 %0120d\n%s.%s.2 %0120d\n%s.%s.3 %0120d\n%s.%s.4 %0120d\n%s.%s.5 %0120d\n' $n $i 0 $n $i 0 $n $i 0 $n $i 0 $n $i 0 >>"$1.logs/$n.log"; done
    sleep 0.1
done
END
# missing DISK: how many of the lines are neither in the output nor in the buffer.
cat >"$work/missing" <<'END'
#!/bin/sh
cat "$1".logs/*.log | cut -d' ' -f1 | sort -u >"$1.sent"
find "$1/out" "$1/buffer" -type f ! -name '*.meta' -exec cat {} + | cut -d' ' -f1 | sort -u >"$1.kept"
comm -23 "$1.sent" "$1.kept" | wc -l
END
chmod +x "$work"/start-fluentd "$work"/lines "$work"/missing

# scenario NAME EXPECTATIONS WORKLOAD
scenario() {
    cat <<END
apiVersion: stunfs/v1alpha1
kind: Scenario
metadata: {name: $1, description: a real fluentd on XFS on thin and thick disks}
spec:
  duration: 70s
  patience: 4m
  storage: {kind: disk, filesystem: xfs, size: 4GiB, grain: 64KiB, first-write: 300ms}
  arms: {thin: {}, thick: {thick: true}}
  workload:
    - {name: fluentd, run: [$work/start-fluentd, '{}']}
    - {name: lines, at: 3s, run: [$work/lines, '{}']}
$3
  probes:
    - {name: lines_missing, when: end, command: {run: [$work/missing, '{}'], output: true, within: 60s}}
  expect:
    - {metric: lines_missing, equals: 0}
$2
END
}

scenario fluentd-alone '    - {arm: thin, metric: observer.waiting.inode lock.max, atMost: 0}' '' |
    sed '/inode lock/d' >"$work/fluentd-alone.yaml"
scenario fluentd-beside '    - {arm: thin, metric: observer.pile_ups, atLeast: 1}' "\
    - {name: churn, at: 5s, churn: {threads: 4, rate: 50/s}}
    - {name: rotation, at: 8s, logrotate: {rate: 200/s}}
    - {name: backup, at: 12s, backup: {rate: 10/s}}" >"$work/fluentd-beside.yaml"

# pile_ups FOLDER ARM: how often tasks were seen to wait together, for what, how many, and which came first.
pile_ups() {
    jq -c --arg arm "$2" 'select(.arm == $arm and .event == "pile-up") | [.resource, .tasks, .oldest.comm]' "$1/events.jsonl" |
        sort | uniq -c | sort -rn | awk 'NR <= 5 { print "   " $0 } END { if (!NR) print "    none" }'
}

failed=0
for name in fluentd-alone fluentd-beside; do
    "$stunfs" test "$work/$name.yaml" --out "$out" || failed=1
    for arm in thin thick; do
        echo "$name, $arm: pile-ups (times, [resource, tasks, oldest]):"
        pile_ups "$out/$name" "$arm"
    done
done
[ "$failed" -eq 0 ]
