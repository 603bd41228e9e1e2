#!/usr/bin/env bash
# Makes the guest: Debian's own kernel and busybox, fetched by apt and unpacked without installing them, and an initramfs with
# the kernel modules that are needed and this stunfs. All of it in $target/vm-cache; run again, it does only what is new.
# Prints the directory, which holds `vmlinuz` and `initramfs`.
#
#   tests/vm/image.sh            KERNEL=linux-image-amd64 (or a concrete package)
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/../../scripts/lib.sh"

here=$root/tests/vm
cache=$target/vm-cache
kernel=${KERNEL:-linux-image-amd64}
# What the guest loads, in this order, each after what it needs.
modules=(virtio_pci virtio_blk virtio_net virtio_console crc32c_generic xfs nfsv4)

# fetch DIR PACKAGE...: unpacks packages, as apt names their newest, into DIR; nothing is installed.
fetch() {
    local dir=$1 package
    shift
    [ -e "$dir/.complete" ] && return 0
    command -v apt-get >/dev/null || die 69 "the guest is made of Debian packages ($*), and there is no apt-get here"
    rm -rf --one-file-system "$dir"
    mkdir -p "$dir"/.debs
    say "fetching $*"
    (cd "$dir/.debs" && apt-get -q download "$@" >"$dir/.log" 2>&1) ||
        die 69 "apt-get could not fetch $*: $(tail -n 1 "$dir/.log"); mend it with: apt-get update"
    for package in "$dir"/.debs/*.deb; do dpkg-deb -x "$package" "$dir"; done
    rm -rf "$dir"/.debs
    touch "$dir/.complete"
}

# The package that a metapackage such as linux-image-amd64 stands for today; a concrete one stands for itself.
concrete() {
    local depends
    depends=$(apt-cache depends "$1" 2>/dev/null | awk '/Depends: linux-image-[0-9]/ { print $2; exit }')
    echo "${depends:-$1}"
}

# copy_module NAME: with all that it needs, and tells the guest's init the order.
copy_module() {
    local tree=$1 name=$2 line path
    line=$(grep -E "/${name//_/[-_]}\.ko[.a-z0-9]*:" "$tree/modules.dep" | head -n 1)
    if [ -z "$line" ]; then
        grep -qE "/${name//_/[-_]}\.ko" "$tree/modules.builtin" || die 70 "the kernel has no module $name"
        return 0
    fi
    # modules.dep names what is needed from the nearest to the farthest.
    for path in $(tr -d : <<<"$line" | tr ' ' '\n' | tac); do add_module "$tree" "$path"; done
}

add_module() {
    local from=$1/$2 name
    name=$(basename "$2")
    name=${name%%.ko*}.ko
    grep -qxF "$name" "$tree_out/modules/order" 2>/dev/null && return 0
    case $from in
    *.xz) xz -dc "$from" >"$tree_out/modules/$name" ;;
    *.zst) zstd -qdc "$from" >"$tree_out/modules/$name" ;;
    *) cp "$from" "$tree_out/modules/$name" ;;
    esac
    echo "$name" >>"$tree_out/modules/order"
}

# The program and the libraries that it is linked with, at the same places.
copy_program() {
    local library
    install -D "$stunfs" "$tree_out/bin/stunfs"
    strip "$tree_out/bin/stunfs" 2>/dev/null || say "note: no strip here: the guest gets stunfs with its symbols"
    ldd "$stunfs" | grep -o '/[^ ]*' | while read -r library; do install -D "$library" "$tree_out$library"; done
}

make_initramfs() {
    local busybox=$cache/packages/bin/busybox module
    tree_out=$cache/tree.$$
    mkdir -p "$tree_out"/{bin,dev,proc,sys,run,tmp,modules,mnt/data,mnt/nfs}
    install "$busybox" "$tree_out/bin/busybox"
    install "$here/guest-init" "$tree_out/init"
    for module in "${modules[@]}"; do copy_module "$cache/kernel/lib/modules/$version" "$module"; done
    copy_program
    (cd "$tree_out" && find . | "$busybox" cpio -o -H newc 2>/dev/null) >"$cache/initramfs.$$"
    mv "$cache/initramfs.$$" "$cache/initramfs"
    rm -rf --one-file-system "$tree_out"
}

# The initramfs is older than anything that it is made of.
is_stale() {
    local source
    [ -e "$cache/initramfs" ] || return 0
    for source in "$stunfs" "$here/guest-init" "$here/image.sh" "$cache/kernel/.complete"; do
        [ "$cache/initramfs" -nt "$source" ] || return 0
    done
    return 1
}

need_commands dpkg-deb ldd
[ -x "$stunfs" ] || die 69 "$stunfs is not built yet; mend it with: make build"
mkdir -p "$cache"
exec {lock}>"$cache/lock"
flock "$lock"
if [ "$(cat "$cache/kernel/.wanted" 2>/dev/null)" != "$kernel" ]; then rm -rf --one-file-system "$cache/kernel"; fi
fetch "$cache/packages" busybox-static
fetch "$cache/kernel" "$(concrete "$kernel")"
echo "$kernel" >"$cache/kernel/.wanted"
# Debian may put modules below /usr.
[ -e "$cache/kernel/lib" ] || ln -s usr/lib "$cache/kernel/lib"
version=$(basename "$(echo "$cache"/kernel/lib/modules/*)")
[ -e "$cache/kernel/lib/modules/$version/modules.dep" ] || "$cache/packages/bin/busybox" depmod -b "$cache/kernel" "$version"
cp -u "$cache/kernel/boot/vmlinuz-$version" "$cache/vmlinuz"
if is_stale; then make_initramfs; fi
echo "$cache"
