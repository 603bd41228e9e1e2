#!/usr/bin/env bash
# Real programs on a plain directory, libfuse's passthrough_ll, stunfs without injection, in turn on a fresh ext4: time, and the
# processor time of each daemon. Medians; prints markdown tables.
#
#   benches/programs.sh [PROGRAM...]       ROUNDS=5 CPUS=0,1 TREE=DIR (default: 150 MB of this machine's own files) ARMS="plain ll stunfs"
#
# KEEP_AWAKE=1 as in benches/compare.sh.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../scripts/lib.sh"
# shellcheck source=benches/peer.sh
. "$(dirname "$0")/peer.sh"
[ -z "${CPUS:-}" ] || taskset -pc "$CPUS" $$ >/dev/null

rounds=${ROUNDS:-5}
read -ra arms <<<"${ARMS:-plain ll stunfs}"
# In this order: each needs what the one before has left.
programs=("$@")
[ ${#programs[@]} -gt 0 ] || programs=(tar-x cp-a grep-r tar-c sqlite log-lines rm-rf)

need_commands gcc pkg-config losetup mkfs.ext4 tar sqlite3 taskset
need_fuse
[ "$(id -u)" -eq 0 ] || die 69 "mounts a file system of its own: run it as root (sudo make bench)"

work=$target/bench/programs.$$
image=$work.img tree=$work.tar results=$work.results
ll_pid='' stunfs_pid=''

tear_down() {
    end_mount "$work/ll" "$ll_pid" 2
    end_mount "$work/stunfs" "$stunfs_pid" 2
    end_ext4 "$image" "$work"
    rm -f "$tree" "$results"
}

# An archive of 150 MB of files of 6 KiB to 1 MiB: passthrough_ll keeps a descriptor for each, and 20,000 are a usual limit.
make_tree() {
    local from=${TREE:-}
    if [ -n "$from" ]; then
        tar -cf "$tree" -C "$from" .
    else
        find /usr/share /usr/include /usr/lib -xdev -type f -size +11 -size -2048 -printf '%s %p\n' 2>/dev/null | LC_ALL=C sort -k 2 |
            awk '(sum += $1) < 150e6 { sub(/^[0-9]* /, ""); print }' | tar -cf "$tree" --ignore-failed-read -T - 2>/dev/null
    fi
    say "the tree: $(tar -tf "$tree" | wc -l) files, $(($(stat -c %s "$tree") / 1000000)) MB"
}

# run PROGRAM, in the directory of an arm.
run() {
    case $1 in
    tar-x) mkdir tree && tar -xf "$tree" -C tree ;;
    cp-a) cp -a tree copy ;;
    grep-r) grep -r 'no such text is in there' tree || true ;;
    tar-c) tar -cf - tree | cat >/dev/null ;;
    sqlite)
        {
            echo 'pragma journal_mode=wal; create table t (id integer primary key, name text, value real); begin;'
            seq 50000 | sed "s/.*/insert into t values (&, 'name of &', &.5);/"
            echo 'commit;'
            seq 50001 50200 | sed "s/.*/insert into t values (&, 'name of &', &.5);/"
            echo 'update t set value = value * 2 where id % 3 = 0; select sum(value) from t;'
        } | sqlite3 base.db >/dev/null
        ;;
    log-lines) seq 40000 | awk '{ print "2026-01-01T00:00:00Z stdout F a line of a container, number", $1; fflush() }' >>app.log ;;
    rm-rf) rm -rf tree copy base.db* app.log ;;
    *) die 2 "unknown program $1" ;;
    esac
}

daemon_of() { case $1 in ll) echo "$ll_pid" ;; stunfs) echo "$stunfs_pid" ;; *) echo '' ;; esac; }

measure() {
    local arm=$1 program=$2 daemon before=0 after=0 begin
    daemon=$(daemon_of "$arm")
    sync -f "$work" # what the run before left dirty is not this one's
    [ -z "$daemon" ] || before=$(processor_ms "$daemon")
    begin=$(now_ms)
    (cd "$work/$arm" && run "$program")
    echo "$arm $program $(now_ms) $begin" | awk '{ printf "%s %s time %.1f\n", $1, $2, $3 - $4 }' >>"$results"
    [ -z "$daemon" ] || after=$(processor_ms "$daemon")
    echo "$arm $program cpu $((after - before))" >>"$results"
}

cell() { awk -v arm="$1" -v program="$2" -v what="$3" '$1 == arm && $2 == program && $3 == what { print $4 }' "$results" | median; }

print_table() {
    local program
    echo
    echo "Medians of $rounds runs in turn, kernel $(uname -r), ext4 below, $(nproc) CPUs${CPUS:+ (only $CPUS)}${KEEP_AWAKE:+, kept awake}; ms."
    echo
    echo "| program | plain | ll | stunfs | stunfs / ll | daemon's CPU, ll | stunfs | stunfs / ll |"
    echo "|---|--:|--:|--:|--:|--:|--:|--:|"
    for program in "${programs[@]}"; do
        echo "$program $(cell plain "$program" time) $(cell ll "$program" time) $(cell stunfs "$program" time) $(cell ll "$program" cpu) $(cell stunfs "$program" cpu)"
    done | awk 'function ratio(a, b) { return b > 0 ? sprintf("%.2f", a / b) : "-" }
        function row(n, p, l, s, cl, cs) { printf "| %s | %.0f | %.0f | %.0f | %s | %.0f | %.0f | %s |\n", n, p, l, s, ratio(s, l), cl, cs, ratio(cs, cl) }
        { row($1, $2, $3, $4, $5, $6); for (i = 2; i <= 6; i++) sum[i] += $i }
        END { row("all", sum[2], sum[3], sum[4], sum[5], sum[6]) }'
}

at_end tear_down
mkdir -p "$target/bench"
: >"$results"
make_tree
fresh_ext4 "$image" "$work"
mkdir -p "$work"/{plain,ll,ll.backing,stunfs,stunfs.backing}
[ -z "${KEEP_AWAKE:-}" ] || keep_awake
compile_passthrough_ll
[[ " ${arms[*]} " != *" ll "* ]] || mount_ll "$work/ll.backing" "$work/ll"
[[ " ${arms[*]} " != *" stunfs "* ]] || mount_stunfs "$work/stunfs.backing" "$work/stunfs" --disarmed --state none
order=("${arms[@]}")
for ((round = 1; round <= rounds; round++)); do
    say "round $round of $rounds"
    for program in "${programs[@]}"; do
        for arm in "${order[@]}"; do measure "$arm" "$program"; done
    done
    mapfile -t order < <(printf '%s\n' "${order[@]}" | tac)
done
print_table
