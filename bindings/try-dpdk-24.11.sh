#!/bin/bash
# Builds and tests the bindings against the DPDK 24.11 of Debian 13, in a Debian 13 that exists
# only while this runs. Run it as root, on a machine with debootstrap and the Rust toolchain.
#
#   bindings/try-dpdk-24.11.sh            build and test
#   KEEP=/some/folder  …                  keep the Debian 13 there for the next run
#   DEBIAN_MIRROR=URL  …                  a mirror other than debootstrap's own choice
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
packages=(gcc iproute2 libc6-dev libclang-dev libdpdk-dev pkg-config util-linux)

fail() {
    echo "try-dpdk-24.11: $*" >&2
    exit 1
}

# Inside a mount name space of our own, so that every mount ends with it.
inside() {
    local root=$1 cargo_home=${CARGO_HOME:-$HOME/.cargo} rustup_home=${RUSTUP_HOME:-$HOME/.rustup}
    mount --rbind /proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    if ! chroot "$root" pkg-config --exists libdpdk 2>/dev/null; then
        chroot "$root" apt-get update -q
        DEBIAN_FRONTEND=noninteractive chroot "$root" \
            apt-get install -q -y --no-install-recommends "${packages[@]}"
    fi
    mkdir -p "$root/source" "$root/target" "$root$cargo_home"
    # A copy, so that nothing which is built there touches the sources.
    git -C "$here" ls-files -z --cached --others --exclude-standard |
        tar -C "$here" -c --null --ignore-failed-read -T - | tar -x -C "$root/source"
    mount --bind "$cargo_home" "$root$cargo_home"
    if [ -d "$rustup_home" ]; then
        mkdir -p "$root$rustup_home"
        mount --bind "$rustup_home" "$root$rustup_home"
    fi
    echo "DPDK $(chroot "$root" pkg-config --modversion libdpdk)," \
        "libclang $(chroot "$root" sh -c 'ls /usr/lib | grep ^llvm-')"
    chroot "$root" env CARGO_HOME="$cargo_home" RUSTUP_HOME="$rustup_home" \
        CARGO_TARGET_DIR=/target PATH="$(dirname "$(command -v cargo)"):/usr/sbin:/usr/bin" \
        sh -c 'cd /source && cargo test -p dpdk-sys -p tidegate-bindings'
}

if [ "${1:-}" = --inside ]; then
    inside "$2"
    exit
fi

[ "$(id -u)" = 0 ] || fail "must run as root, for it mounts and changes its root"
command -v debootstrap >/dev/null || fail "needs debootstrap: apt-get install debootstrap"
command -v cargo >/dev/null || fail "needs cargo on the PATH"

if [ -n "${KEEP:-}" ]; then
    root=$KEEP
    mkdir -p "$root"
else
    root=$(mktemp -d /var/tmp/tidegate-debian13.XXXXXX)
    trap 'rm -rf --one-file-system "$root"' EXIT
fi
if [ ! -x "$root/usr/bin/apt-get" ]; then
    debootstrap --variant=minbase trixie "$root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} \
        >"$root.log" 2>&1 || fail "debootstrap failed, see $root.log"
    rm -f "$root.log"
fi
unshare --mount --propagation private "$0" --inside "$root"
