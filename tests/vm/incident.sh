#!/usr/bin/env bash
# The whole incident in one guest and one run: reads are fine; log rotation and a backup burst; first writes wait; XFS piles up;
# the guest is stunned; its kernel reports a soft lockup; its NFS mount loses the server and finds it again. Then the same on a thick
# volume. Prints a table of the links, each with the kernel's own line. Exit code 0: all links were seen, and none on thick storage.
#
#   tests/vm/incident.sh         FULL=1 (the real 238 s and NFS's own timeouts; default: 30 s, 9 s) KEEP=1 (the logs) ACCEL=tcg|kvm STUNFS=PATH
# shellcheck source=tests/vm/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/vm/workload.sh
. "$(dirname "$0")/workload.sh"

if [ -n "${FULL:-}" ]; then
    freeze=238
    nfs_timeo=600
else
    freeze=30
fi
# The hypervisor of this incident stuns a machine when one of its writes has waited so long, in seconds.
patience=${PATIENCE:-20}
# From the burst to the pile-up it takes no longer than this.
limit=150

# act VOLUME: the incident's first half, the same on either volume. The guest has the volume's name.
act() {
    local name=$1
    disk_image "$name" "$name"
    guest_start "$name" "$work/$name/$name.img" 4096
    guest_wait "$name"
    guest_load "$name" 900
    ctl "$name" arm >/dev/null
    say "$name: backup burst and log rotation"
    guest_burst "$name" 900
}

# The hypervisor: the same rule for either volume. Stuns the machine if a write waits for too long, within SECONDS.
hypervisor() {
    local name=$1
    if await "$2" waits_too_long "$name"; then
        say "$name: a write has waited for $(longest_wait "$name") s: the guest is stunned for $freeze s"
        stun "$name" "$freeze" "$name"
    fi
}

waits_too_long() { [ "$(longest_wait "$1")" -ge "$patience" ]; }

thin_run() {
    volume_up thin thin "${thin_options[@]}"
    act thin
    say "thin: waiting for XFS to pile up"
    local from=$SECONDS
    wait_for_pile_up thin thin "$limit" || true
    piled_up_after=$((SECONDS - from))
    reads thin
    hypervisor thin 60
    await 40 has soft_lockups thin thin || true
    [ -z "$nfs_pid" ] || await 60 has nfs_back thin thin || true
    ctl thin release >/dev/null
    end_run thin
}

thick_run() {
    volume_up thick thick "${thin_options[@]}" --thick
    act thick
    say "thick: as long as the thin run took to pile up"
    nap "$1"
    reads thick
    hypervisor thick 5
    end_run thick
}

# What the reader has seen up to now, in milliseconds: how many reads, the middle one, 99 of 100, the longest.
reads() {
    guest_report "$1" reader '.ops.read | "\(.count) \(.p50_us / 1000) \(.p99_us / 1000) \(.max_us / 1000)"' >"$work/$1.reads" || true
}

# The guest's end and the volume's: then all events are written.
end_run() {
    guest_stop "$1"
    volume_down "$1"
}

# ---- the table

# at FIELD < events: seconds on the volume's clock of the first one; nothing if there is none.
at() { jq -rs "if length == 0 then empty else .[0].$1 / 1e6 | floor end"; }

# absent COMMAND [ARGUMENT...]: whether the control has none of these.
absent() { if has "$@"; then echo SEEN; else echo absent; fi; }

# link NAME SECONDS CONTROL PROOF: a row. It has to be seen on thin storage, and to be absent on thick.
link() {
    local seen=seen
    if [ -z "$2" ] || [ -z "$4" ]; then
        seen=MISSING
        failed=$((failed + 1))
    fi
    [ "$3" != SEEN ] || failed=$((failed + 1))
    printf '%-22s %5s  %-7s  %-6s  %s\n' "$1" "${2:--}" "$seen" "$3" "$4"
}

holds() { events "$1" 'select(.event == "held" and (.op == "write" or .op == "fsync")) | tojson'; }
freezes() { events "$1" 'select(.event == "frozen") | tojson'; }

longest_hold() { holds "$1" | jq -rs '[.[] | .released_us - .requested_us] | max / 1e6 * 10 | round / 10'; }
waits() { has holds "$1" && echo "$(count holds "$1") writes waited for new space, the longest $(longest_hold "$1") s"; }
stands() { has freezes thin && echo "QEMU's control group stood still for $(frozen_seconds thin) s, read back"; }

table() {
    printf '%-22s %5s  %-7s  %-6s  %s\n' link s thin thick "what the guest's kernel said, or what was measured"
    link "reads are fine" "$(events thin 'select(.event == "armed") | tojson' | at t_us)" too "$(reads_are_fine)"
    link "first writes wait" "$(holds thin | at requested_us)" "$(absent holds thick)" "$(waits thin)"
    link "XFS piles up" "$(pile_ups thin thin | at at_us)" "$(absent hung_tasks thick thick)" "$(pile_up_lines thin thin)"
    link "the guest is stunned" "$(freezes thin | at t_us)" "$(absent freezes thick)" "$(stands)"
    link "soft lockup" "$(soft_lockups thin thin | at at_us)" "$(absent soft_lockups thick thick)" "$(soft_lockups thin thin | raw_line 'soft lockup')"
    [ -n "$has_nfs" ] || { case_out nfs "no nfs-ganesha to be had here"; return; }
    link "NFS: no answer" "$(nfs_lost thin thin | at at_us)" "$(absent nfs_lost thick thick)" "$(nfs_lost thin thin | raw_line responding)"
    link "NFS: back" "$(nfs_back thin thin | at at_us)" "$(absent nfs_back thick thick)" "$(nfs_back thin thin | raw_line OK)"
}

# Under QEMU's TCG the guest's processor alone makes half a second now and then, on thick storage, too. Nothing if they are not fine.
reads_are_fine() {
    local count middle most longest
    read -r count middle most longest <"$work/thin.reads" || return 0
    awk -v longest="$longest" 'BEGIN { exit !(longest < 2000) }' || return 0
    echo "$count direct reads up to the stun: half within $middle ms, 99 % within $most ms, longest $longest ms (thick: $(awk '{ print $4 }' "$work/thick.reads") ms)"
}

explain() {
    fold -s -w 120 <<END

Both guests did the same, on the same storage, but for one word: --thick. s: seconds since the thin volume was mounted.

First writes wait: a grain of 64 KiB takes 100 ms, one after the other. The backup brings hundreds at once, so the last of them \
waits for minutes, and with it every later write that needs new space. Reads and rewrites do not.
XFS piles up: the log needs new space, too. Who holds an allocation group's buffer and waits for the log keeps it locked, and \
every other process that creates or removes a file there waits in xfs_buf_lock: fluentd for one, whose own data is still in the page cache.
The guest is stunned: the hypervisor's rule here is to do so when a write has waited for $patience s. On the thick volume none does.
Soft lockup: the guest's clock went on while it stood still. The figure counts 2^30 ns: predicted $(predicted "$(frozen_seconds thin)").
NFS: requests that were under way got no answer for longer than timeo x (retrans + 1) = $((nfs_timeo * 3 / 10)) s of the guest's clock.
END
}

vm_begin incident
nfs_start || say "note: no nfs-ganesha to be had here: NFS is left out"
has_nfs=$nfs_pid
begun=$SECONDS
thin_run
thick_run "$piled_up_after"
echo
table
explain
printf '\n%s, in %s s.\n' "$([ "$failed" = 0 ] && echo "All links were seen on thin storage, none on thick" || echo "$failed of this is not as it should be")" $((SECONDS - begun))
[ "$failed" = 0 ] || exit 1
