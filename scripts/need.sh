#!/usr/bin/env bash
# Installs what is missing, and only that: scripts/need.sh build|demo|test|conformance|lint|bench|vm|systemd|all ...
#
# Debian and Ubuntu, as root or with sudo. Elsewhere it says what is missing and exits 69. Running it again does nothing.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
PATH=$PATH:$HOME/.cargo/bin

# COMMAND=PACKAGE: the package is missing if the command is. /PATH=PACKAGE: ... if the file is.
wants() {
    case $1 in
    build) echo cc=gcc ;;
    demo) echo fusermount3=fuse3 tar=tar jq=jq ;;
    test) echo fusermount3=fuse3 curl=curl mkfs.xfs=xfsprogs setfattr=attr setfacl=acl fio=fio jq=jq setpriv=util-linux ;;
    conformance) echo fusermount3=fuse3 stress-ng=stress-ng ;;
    lint) echo shellcheck=shellcheck ;;
    bench) echo fusermount3=fuse3 fio=fio sqlite3=sqlite3 jq=jq curl=curl pkg-config=pkg-config mkfs.xfs=xfsprogs \
        /usr/share/doc/libfuse3-dev/examples=libfuse3-dev ;;
    vm) echo fusermount3=fuse3 qemu-system-x86_64=qemu-system-x86 mkfs.xfs=xfsprogs jq=jq setpriv=util-linux strip=binutils xz=xz-utils ;;
    systemd) echo fusermount3=fuse3 systemctl=systemd ;;
    all) wants build; wants demo; wants test; wants conformance; wants lint; wants bench; wants vm; wants systemd ;;
    *) die 2 "unknown purpose $1; there are: build demo test conformance lint bench vm systemd all" ;;
    esac
}

is_there() {
    case $1 in
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] ;;
    esac
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_install() {
    command -v apt-get >/dev/null || die 69 "missing: $*; this is not Debian or Ubuntu: install them with your package manager"
    as_root true 2>/dev/null || die 69 "missing: $*; mend it with: sudo apt-get update && sudo apt-get install $*"
    say "installing $*"
    as_root apt-get -q -o DPkg::Lock::Timeout=300 update >/dev/null || say "apt-get update failed; trying with the list that is here"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qy -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@" >/dev/null ||
        die 69 "apt-get could not install: $*"
}

# What documentation files a package brings may be switched off (slim containers): the passthrough_ll source is one.
mend_docs() {
    [ -e /usr/share/doc/libfuse3-dev/examples ] && return 0
    say "libfuse3-dev's examples were left out by dpkg's path-exclude; unpacking them"
    local dir
    dir=$(mktemp -d)
    (cd "$dir" && as_root apt-get -q download libfuse3-dev >/dev/null && dpkg-deb -x libfuse3-dev_*.deb . &&
        as_root cp -r usr/share/doc/libfuse3-dev /usr/share/doc/)
    as_root rm -rf "$dir"
}

wanted_rust() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml"; }

# The cargo here is new enough.
has_rust() {
    local have
    command -v cargo >/dev/null || return 1
    have=$(cargo --version 2>/dev/null | awk '{ print $2 }')
    [ "$(printf '%s\n' "$have" "$(wanted_rust)" | sort -V | head -n 1)" = "$(wanted_rust)" ]
}

apt_has() { apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [0-9]'; }

rust_in_words() { echo "Rust $(wanted_rust) or newer is needed$(command -v cargo >/dev/null && echo " ($(cargo --version | cut -d' ' -f1-2) is here)")"; }

# Debian 13 and Ubuntu 24.04 package rustup; Debian 12 packages only a cargo that is too old.
install_rustup() {
    as_root apt-get -q update >/dev/null 2>&1 || true
    if apt_has rustup; then
        apt_install rustup
    elif [ -z "${NO_RUSTUP:-}" ]; then
        is_there curl || apt_install curl ca-certificates
        say "$(rust_in_words), and apt has none: running the installer of https://rustup.rs (NO_RUSTUP=1: not)"
        curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -qy --profile minimal -c clippy -c rustfmt || true
    fi
}

need_rust() {
    has_rust && return 0
    command -v rustup >/dev/null || install_rustup
    if command -v rustup >/dev/null; then rustup toolchain install stable --profile minimal -c clippy -c rustfmt && rustup default stable; fi
    has_rust || die 69 "$(rust_in_words); mend it with: curl -sSf https://sh.rustup.rs | sh -s -- -y"
}

need_tool() {
    local crate=$1 version=$2
    [ -x "$target/tools/bin/$crate" ] && return 0
    say "installing $crate $version (a Rust program) into $target/tools"
    cargo install -q "$crate" --version "$version" --locked --root "$target/tools" ||
        die 69 "cargo could not install $crate $version"
}

[ $# -gt 0 ] || set -- all
missing=()
for purpose in "$@"; do
    wants=$(wants "$purpose") || exit $?
    for want in $wants; do
        if ! is_there "${want%%=*}" && [[ " ${missing[*]} " != *" ${want#*=} "* ]]; then missing+=("${want#*=}"); fi
    done
done
[ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
for purpose in "$@"; do
    case $purpose in
    build) need_rust ;;
    conformance) need_tool fsx 0.3.2 ;;
    bench) mend_docs ;;
    all) need_rust && need_tool fsx 0.3.2 && mend_docs ;;
    esac
done
