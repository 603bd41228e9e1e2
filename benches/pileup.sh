#!/usr/bin/env bash
# The lock pile-up of the incident on this machine's own kernel: fluentd-like writers, a logger, churn and a reader on a file
# system on a thin disk whose first writes wait 10 s; in how many runs the kernel's hung-task detector names the function that
# is looked for, thin and thick. The file systems run beside each other; each counts the reports of its own threads only.
# Needs root, loop devices, mkfs. Changes kernel.hung_task_* meanwhile, and puts them back. Prints a markdown table.
#
# On XFS no program syncs: one that does waits for the log itself. On ext4 fluentd syncs its chunks: without, its journal commits so
# seldom that 40 s hardly meet one that has to wait for space.
#
#   benches/pileup.sh       RUNS=10 THICK_RUNS=10 FS="xfs ext4" FOR=40s PILEUP_FLAGS=--raw
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

runs=${RUNS:-10}
thick_runs=${THICK_RUNS:-$runs}
read -ra kinds <<<"${FS:-xfs ext4}"
[[ -x $tools/pileup ]] || die 69 "not built yet; mend it with: make build"
[ "$(id -u)" = 0 ] || die 77 "needs root"
declare -A needle=([xfs]=xfs_buf_lock [ext4]=jbd2_log_wait_commit)
declare -A flags=([xfs]="" [ext4]="--fsync fluentd")
declare -A setting=([timeout_secs]=5 [check_interval_secs]=5 [warnings]=100000 [panic]=0) before=()
work=$(mktemp -d)

# A run that was killed leaves a disk, and the kernel's settings as it had them.
tear_down() {
    local name
    for name in "${!before[@]}"; do echo "${before[$name]}" >"/proc/sys/kernel/hung_task_$name" || true; done
    "$stunfs" disk repair --all >/dev/null 2>&1 || true
    rm -rf "$work"
}

# One stunfs at a time changes kernel settings: the lock is the program's own.
set_up() {
    local name file
    exec 9>/run/stunfs-sysctl.lock
    flock -w 120 9 || die 69 "another stunfs has changed kernel settings; wait for it to end"
    for name in "${!setting[@]}"; do
        file=/proc/sys/kernel/hung_task_$name
        [ -e "$file" ] || continue
        before[$name]=$(cat "$file")
        echo "${setting[$name]}" >"$file"
    done
    [ -n "${before[timeout_secs]:-}" ] || die 69 "this kernel has no hung-task detector"
}

# one_run FS DISK N [OPTION...]: appends a row to the file system's table, and the run's outcome to its counts.
one_run() {
    local fs=$1 disk=$2 n=$3 line
    shift 3
    # shellcheck disable=SC2086 # flags are words
    line=$("$tools/pileup" --fs "$fs" --needle "${needle[$fs]}" ${flags[$fs]} --seed "$n" --for "${FOR:-40s}" ${PILEUP_FLAGS:-} "$@") || return 1
    # shellcheck disable=SC2086 # words
    set -- $line
    echo "| $disk | $n | ${1#*=} | ${2#*=} | ${3#*=} | ${4#*=} | ${5#*=} | ${6#*=} |" | tee -a "$work/$fs.table" >&2
    echo "$disk $((${2#*=} > 0)) ${5#*=}" >>"$work/$fs.counts"
}

# round DISK N [OPTION...]: all file systems at once.
round() {
    local fs pid pids=()
    for fs in "${kinds[@]}"; do
        one_run "$fs" "$@" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || die 70 "a run failed"; done
}

# count FS DISK: in how many runs it was found.
count() { awk -v disk="$2" '$1 == disk { n += $2 } END { print n + 0 }' "$work/$1.counts"; }

worst_read() { awk -v disk="$2" '$1 == disk && $3 > worst { worst = $3 } END { print worst + 0 }' "$work/$1.counts"; }

print_table() {
    local fs=$1
    echo
    echo "Pile-up on $fs, function \`${needle[$fs]}\`, kernel $(uname -r), $(nproc) CPUs."
    echo
    echo "| disk | run | hung-task reports | with \`${needle[$fs]}\` | of whom | first, s | worst read, ms | worst other, ms |"
    echo "|---|--:|--:|--:|---|--:|--:|--:|"
    cat "$work/$fs.table"
    echo
    echo "\`${needle[$fs]}\` in $(count "$fs" thin) of $runs runs on the thin disk, in $(count "$fs" thick) of $thick_runs on the thick one;" \
        "worst read $(worst_read "$fs" thin) and $(worst_read "$fs" thick) ms."
}

at_end tear_down
set_up
# In turn, so that other load on the machine meets both.
for ((n = 1; n <= runs || n <= thick_runs; n++)); do
    [ "$n" -gt "$runs" ] || round thin "$n"
    [ "$n" -gt "$thick_runs" ] || round thick "$n" --thick
done
for fs in "${kinds[@]}"; do print_table "$fs"; done
