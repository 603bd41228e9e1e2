#!/usr/bin/env bash
# The lock pile-up of the incident on this machine's own kernel: fluentd-like writers, a logger, churn and a reader on XFS on
# a thin disk whose first writes wait 10 s; how often the kernel's hung-task detector names xfs_buf_lock, thin and thick.
# Needs root, loop devices, mkfs.xfs. Changes kernel.hung_task_* meanwhile, and puts them back. Prints a markdown table.
#
#   benches/pileup.sh              RUNS=10 THICK_RUNS=10 FS=xfs NEEDLE=xfs_buf_lock (ext4: jbd2_log_wait_commit)
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"

runs=${RUNS:-10}
thick_runs=${THICK_RUNS:-$runs}
fs=${FS:-xfs}
needle=${NEEDLE:-xfs_buf_lock}
[[ -x $tools/pileup ]] || die 69 "not built yet; mend it with: make build"
[ "$(id -u)" = 0 ] || die 77 "needs root"
names=(timeout_secs check_interval_secs warnings panic)
values=()
for name in "${names[@]}"; do values+=("$(cat "/proc/sys/kernel/hung_task_$name" 2>/dev/null || true)"); done

# A run that was killed leaves a disk, and the kernel's settings as it had them.
tear_down() {
    local n
    "$stunfs" disk repair --all >/dev/null 2>&1 || true
    for n in "${!names[@]}"; do
        [ -z "${values[n]}" ] || echo "${values[n]}" >"/proc/sys/kernel/hung_task_${names[n]}" || true
    done
}
trap tear_down EXIT
trap 'exit 130' INT TERM

echo
echo "XFS pile-up as in the incident, function \`$needle\` on $fs, kernel $(uname -r), $(nproc) CPUs."
echo
echo "| disk | run | hung-task reports | with \`$needle\` | of whom | first, s | worst read, ms | worst other, ms |"
echo "|---|--:|--:|--:|---|--:|--:|--:|"

# row DISK N [OPTION...]: whether the function was found
row() {
    local disk=$1 n=$2 line
    shift 2
    line=$("$tools/pileup" --fs "$fs" --needle "$needle" --seed "$n" "$@") || die 70 "a run failed"
    # shellcheck disable=SC2086 # words
    set -- $line
    echo "| $disk | $n | ${1#*=} | ${2#*=} | ${3#*=} | ${4#*=} | ${5#*=} | ${6#*=} |"
    [ "${2#*=}" != 0 ]
}

thin=0 thick=0
for ((n = 1; n <= runs; n++)); do if row thin "$n"; then thin=$((thin + 1)); fi; done
for ((n = 1; n <= thick_runs; n++)); do if row thick "$n" --thick; then thick=$((thick + 1)); fi; done
echo
echo "\`$needle\` in $thin of $runs runs on the thin disk, in $thick of $thick_runs on the thick one."
