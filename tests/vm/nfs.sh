#!/usr/bin/env bash
# Sourced by lib.sh, never run: an NFS server for the guests, on loopback. It is Debian's nfs-ganesha, unpacked into
# target/vm-cache with those of its libraries that are not here; nothing is installed, and no service is started.

# shellcheck disable=SC2154 # target and work are lib.sh's
nfs_pid=
nfs_port=''

# Unpacks the server, unless it is there; what apt would install for it says which packages that takes.
nfs_fetch() {
    local dir=$target/vm-cache/nfs packages
    [ -e "$dir/.complete" ] && return 0
    if [ -x /usr/bin/ganesha.nfsd ]; then return 0; fi
    command -v apt-get >/dev/null || return 1
    say "fetching nfs-ganesha"
    rm -rf --one-file-system "$dir"
    mkdir -p "$dir/.debs"
    packages=$(apt-get -s install --no-install-recommends nfs-ganesha nfs-ganesha-vfs 2>/dev/null | awk '/^Inst/ { print $2 }')
    # shellcheck disable=SC2086 # words
    (cd "$dir/.debs" && [ -n "$packages" ] && apt-get -q download $packages >"$dir/.log" 2>&1) || return 1
    for package in "$dir"/.debs/*.deb; do dpkg-deb -x "$package" "$dir"; done
    rm -rf "$dir/.debs"
    touch "$dir/.complete"
}

nfs_config() {
    cat <<END
NFS_CORE_PARAM {
    Protocols = 4; NFS_Port = $nfs_port; Bind_addr = 127.0.0.1; Enable_NLM = false; Enable_RQUOTA = false;
    Plugins_Dir = $1;
}
NFSV4 { Graceless = true; UseGetpwnam = true; Only_Numeric_Owners = true; RecoveryRoot = $work/nfs-state; }
NFS_KRB5 { Active_krb5 = false; }
EXPORT {
    Export_Id = 1; Path = $work/export; Pseudo = /exp; Filesystem_Id = 7.7;
    Access_Type = RW; Squash = None; SecType = sys; FSAL { Name = VFS; }
}
END
}

nfs_answers() { (exec 9<>"/dev/tcp/127.0.0.1/$nfs_port") 2>/dev/null; }

# nfs_start: serves $work/export to guests as 10.0.2.2:/exp; fails if there is no server to be had.
nfs_start() {
    local dir=$target/vm-cache/nfs libraries='' plugins=/usr/lib/x86_64-linux-gnu/ganesha
    nfs_fetch || return 1
    if [ -e "$dir/.complete" ]; then
        plugins=$(dirname "$(find "$dir/usr/lib" -name libfsalvfs.so | head -n 1)")
        libraries=$dir/usr/lib/ganesha:$(dirname "$plugins")
    else
        dir=''
    fi
    nfs_port=$((20000 + $$ % 20000))
    mkdir -p "$work/export" "$work/nfs-state"
    nfs_config "$plugins" >"$work/nfs.conf"
    LD_LIBRARY_PATH=$libraries setpriv --pdeathsig KILL "$dir/usr/bin/ganesha.nfsd" -F -f "$work/nfs.conf" -L "$work/nfs.log" \
        -p "$work/nfs.pid" -N EVENT >"$work/nfs.out" 2>&1 &
    nfs_pid=$!
    wait_for 60 nfs_answers || die 70 "the NFS server does not answer: $(tail -n 1 "$work/nfs.log" "$work/nfs.out")"
}

nfs_signal() { [ -z "$nfs_pid" ] || kill "-$1" "$nfs_pid"; }

nfs_stop() {
    [ -z "$nfs_pid" ] || kill -CONT "$nfs_pid" 2>/dev/null || true
    stop "$nfs_pid" 5
    nfs_pid=''
}

# nfs_mount GUEST: hard. Requests are late after timeo x (retrans + 1), in tenths of a second: 9 s; the usual 600 makes 180 s.
nfs_timeo=30
nfs_mount() {
    guest "$1" 60 "mount -t nfs4 -o port=$nfs_port,hard,timeo=$nfs_timeo,retrans=2,vers=4.1,proto=tcp,addr=10.0.2.2,clientaddr=10.0.2.15,sec=sys \
        10.0.2.2:/exp /mnt/nfs"
}
