#!/usr/bin/env bash
# Sees to it that qemu-system-arm is there: emulated Cortex-M boards. Safe to run again at any
# time; when it is there it only says so.
#
#   scripts/setup-qemu.sh
#
# Exit status: 77 if it is missing and cannot be installed here.
set -euo pipefail

say() { printf 'setup-qemu: %s\n' "$*"; }
die() {
    printf 'setup-qemu: error: %s\n' "$*" >&2
    exit 77
}
apt_get() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@"; }

if command -v qemu-system-arm >/dev/null 2>&1; then
    say "ready (nothing to do): $(qemu-system-arm --version | head -n 1)"
    exit 0
fi
as_root=()
command -v apt-get >/dev/null 2>&1 || die "qemu-system-arm is not installed and this system has no apt-get"
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || die "as root, run: apt-get install qemu-system-arm"
    as_root=(sudo)
fi
say "apt-get: installing qemu-system-arm"
# The first attempt uses the package lists as they are.
if ! apt_get install -y --no-install-recommends qemu-system-arm >/dev/null 2>&1; then
    apt_get update >/dev/null && apt_get install -y --no-install-recommends qemu-system-arm >/dev/null \
        || die "apt-get could not install qemu-system-arm"
fi
say "ready (apt-get): $(qemu-system-arm --version | head -n 1)"
