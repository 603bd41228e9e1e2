#!/usr/bin/env bash
# Other people's tests on the mount: fsx (random operations on one file against a model of it) and stress-ng's file-system
# class, in every cache mode, without injection and with 1 ms a first write; the same on a plain directory beside it.
#
#   tests/conformance.sh [short|full]    ARMS="plain through back+1ms ..." SEEDS=10 OPS=20000 JOBS=2 STRESSORS="..." WORK=DIR
#
# An arm is `plain`, `ll` (libfuse's passthrough_ll, if benches/compare.sh has compiled it), or CACHE or CACHE+LATENCY.
# Prints a markdown table, then what a plain directory passes and a mount does not. tests/conformance.known lists the
# failures that have a known cause; any other one makes this exit 1.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

size=${1:-full}
case $size in
full) default_arms="plain through back direct through+1ms back+1ms direct+1ms" default_seeds=10 default_ops=20000 ;;
short) default_arms="plain through+1ms back" default_seeds=2 default_ops=5000 ;;
*) die 2 "short or full, not $size" ;;
esac
read -ra arms <<<"${ARMS:-$default_arms}"
seeds=${SEEDS:-$default_seeds}
ops=${OPS:-$default_ops}
jobs=${JOBS:-2}
arm_limit=${ARM_LIMIT:-480} # seconds, after which an arm's connection is aborted
fsx=$target/tools/bin/fsx
known=$root/tests/conformance.known

# In the class, but not about the file system that the temporary files are on.
elsewhere=" bind-mount binderfs dup eventfd fanotify ioprio procfs "

need_commands stress-ng
[ -x "$fsx" ] || die 69 "$fsx is missing; mend it with: cargo install fsx --version 0.3.2 --locked --root $target/tools"
[ "$(id -u)" -eq 0 ] || die 69 "chown, mknod and the like need root; mend it with: sudo make conformance"
[ "${arms[*]}" = plain ] || need_fuse

work=${WORK:-$target/conformance.$$}
results=$work/results

stressors() {
    local name
    [ -z "${STRESSORS:-}" ] || { tr ' ' '\n' <<<"$STRESSORS"; return; }
    # `|| true`: it lists the class and fails, as for any unknown one
    { stress-ng --class filesystem? 2>&1 || true; } | sed -n "s/^class 'filesystem' stressors: //p" | tr ' ' '\n' | while read -r name; do
        [[ -z $name || $elsewhere == *" $name "* ]] || echo "$name"
    done
}

# run_seed ARM DIR SEED: a line `ARM fsx-SEED ok|FAILED`.
run_seed() {
    local log=$results/$1.fsx-$3.log file=$2/fsx.$3
    if timeout -k 5 300 "$fsx" -f "$root/tests/fsx.toml" -S "$3" -N "$ops" -P "$work" "$file" >"$log" 2>&1; then
        echo "$1 fsx-$3 ok"
        rm -f "$file"
    else
        echo "$1 fsx-$3 FAILED"
    fi
}

# Several seeds at once: most of their time is msync and fsync, which share the disk's flushes.
run_fsx() {
    local seed pids=()
    for ((seed = 1; seed <= seeds; seed++)); do
        run_seed "$1" "$2" "$seed" &
        pids+=("$!")
    done
    wait "${pids[@]}"
}

# run_stressors ARM DIR: a line `ARM NAME ok|FAILED|skipped` for each stressor.
run_stressors() {
    local arm=$1 dir=$2 name status
    for name in $(stressors); do
        status=0
        timeout -k 5 60 stress-ng --"$name" 1 --timeout 1s --verify --temp-path "$dir" >"$results/$arm.$name.log" 2>&1 || status=$?
        case $status in
        0) if grep -q 'skipp\|not supported' "$results/$arm.$name.log"; then echo "$arm $name skipped"; else echo "$arm $name ok"; fi ;;
        3 | 4) echo "$arm $name skipped" ;; # stress-ng: out of resources, not implemented
        *) echo "$arm $name FAILED" ;;
        esac
    done
}

mount_arm() {
    local arm=$1 at=$2
    case $arm in
    plain) mkdir -p "$at" ;;
    ll)
        "$target/bench/passthrough_ll" -f -o "source=$at.backing,cache=always" "$at" >"$at.log" 2>&1 &
        stunfs_pid=$!
        wait_for 10 is_mounted "$at"
        ;;
    *+*) mount_stunfs "$at.backing" "$at" --cache "${arm%+*}" --first-write "${arm#*+}" --grain 64KiB --state none ;;
    *) mount_stunfs "$at.backing" "$at" --cache "$arm" --state none ;;
    esac
}

# watch DIR: a wedged mount must not wedge the run.
watch() {
    while [ "$SECONDS" -lt "$arm_limit" ]; do sleep 1; done
    say "$1: not done after $arm_limit s, aborted"
    abort_connection "$1"
}

# run_arm ARM: in a subshell of its own, so that its mount and its watchdog end with it.
run_arm() (
    arm=$1 at=$work/$1 stunfs_pid='' watchdog='' SECONDS=0
    # shellcheck disable=SC2317,SC2329 # called at the end
    end_arm() {
        [ -z "$watchdog" ] || kill "$watchdog" 2>/dev/null || true
        unmount "$at" || echo "$arm unmount FAILED" >>"$results/$arm"
        stop "$stunfs_pid" 10
    }
    at_end end_arm
    mkdir -p "$at" "$at.backing"
    mount_arm "$arm" "$at"
    watch "$at" &
    watchdog=$!
    run_fsx "$arm" "$at" >>"$results/$arm"
    run_stressors "$arm" "$at" >>"$results/$arm"
)

count() { grep -c "^$1 $2.* $3\$" "$results/$1" || true; }
names() { awk -v what="$2" '$3 == what { printf "%s%s", sep, $2; sep = ", " }' "$results/$1"; }
is_known() { [ -e "$known" ] && grep -q "^$1 $2 " "$known"; }

print_table() {
    local arm
    echo
    echo "fsx: $seeds seeds of $ops operations; stress-ng $(stress-ng --version | awk '{ print $3; exit }'): 1 s each; kernel $(uname -r)."
    echo
    echo "| arm | fsx clean | stress-ng clean | skipped | failed |"
    echo "|---|--:|--:|---|---|"
    for arm in "${arms[@]}"; do
        echo "| $arm | $(count "$arm" fsx- ok) of $seeds | $(grep -v ' fsx-' "$results/$arm" | grep -c ' ok$') |" \
            "$(names "$arm" skipped) | $(names "$arm" FAILED) |"
    done
}

# What fails on a mount and not on the plain directory; counts what has no known cause in `unknown`.
print_differences() {
    local arm name result
    unknown=0
    echo
    for arm in "${arms[@]}"; do
        while read -r _ name result; do
            if [ "$result" != FAILED ] || grep -qs "^plain $name FAILED" "$results/plain"; then
                continue
            elif is_known "$arm" "$name"; then
                echo "- known: $(grep "^$arm $name " "$known")"
            else
                unknown=$((unknown + 1))
                echo "- $arm $name: $(grep -h 'fail:\|rror' "$results/$arm.$name.log" 2>/dev/null | head -n 1)"
            fi
        done <"$results/$arm"
    done
}

tear_down() {
    wait
    [ -n "${KEEP:-}" ] || remove_tree "$work"
}

mkdir -p "$results"
at_end tear_down
for arm in "${arms[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
    say "conformance: $arm"
    run_arm "$arm" &
done
wait
for arm in "${arms[@]}"; do [ -s "$results/$arm" ] || echo "$arm mount FAILED" >"$results/$arm"; done
print_table
print_differences
echo
echo "conformance: $(cat "$results"/* 2>/dev/null | grep -c ' ok$') passed, $unknown failed"
[ "$unknown" -eq 0 ]
