#!/usr/bin/env bash
# Installs what only `make bench-device` needs: GCC, newlib and binutils for Arm Cortex-M, which compile its
# float32 rival and take firmware apart. Safe to run again at any time; when nothing needs doing it only says so.
#
#   scripts/setup-arm-gcc.sh
#
# Exit status: 77 if they are not there and cannot be installed.
set -euo pipefail

packages=(gcc-arm-none-eabi libnewlib-arm-none-eabi)

say() { printf 'setup-arm-gcc: %s\n' "$*"; }
die() {
    printf 'setup-arm-gcc: error: %s\n' "$*" >&2
    exit 77
}

# A compiler that finds newlib's headers and library for the smallest core, and the binutils.
ready() {
    command -v arm-none-eabi-objdump >/dev/null 2>&1 && command -v arm-none-eabi-addr2line >/dev/null 2>&1 || return 1
    printf '#include <math.h>\nint main(void) { return (int)expf(1.0f); }\n' \
        | arm-none-eabi-gcc -mcpu=cortex-m0plus -mthumb --specs=nosys.specs -xc - -lm -o /dev/null 2>/dev/null
}

finish() {
    say "ready ($1): $(arm-none-eabi-gcc --version | head -n 1)"
    exit 0
}

if ready; then finish "nothing to do"; fi
command -v apt-get >/dev/null 2>&1 || die "no arm-none-eabi-gcc with newlib here, and this system has no apt-get;" \
    "install GCC for Arm Cortex-M (arm-none-eabi) with newlib, then run make bench-device again"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || die "as root, run: apt-get install ${packages[*]}"
    as_root=(sudo -n)
fi
apt_get() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@"; }
say "apt-get: installing ${packages[*]}"
# The first attempt uses the package lists as they are.
if ! apt_get install -y --no-install-recommends "${packages[@]}" >/dev/null 2>&1; then
    apt_get update >/dev/null && apt_get install -y --no-install-recommends "${packages[@]}" >/dev/null \
        || die "apt-get could not install ${packages[*]}"
fi
ready || die "the packages are installed, but arm-none-eabi-gcc cannot link a program with newlib"
finish "Debian packages"
