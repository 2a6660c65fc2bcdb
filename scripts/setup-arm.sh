#!/usr/bin/env bash
# Makes it possible to compile no_std Rust for Arm Cortex-M. Safe to run again
# at any time; when nothing needs doing it only says so.
#
#   scripts/setup-arm.sh [target ...]
#
# Without arguments: thumbv6m-none-eabi (Cortex-M0, M0+) and
# thumbv7em-none-eabihf (Cortex-M4F, M7). Other targets of the compiler can be named
# instead, such as thumbv7m-none-eabi (Cortex-M3) or thumbv8m.main-none-eabihf (M33).
#
# Two ways are tried, in this order:
#   rustup   `rustup target add`: a ready-made core library for the toolchain in
#            use. Needs network access to rustup's server.
#   debian   Debian's packages rustc-web, cargo-web, rust-web-src and lld: a
#            compiler with its library source, from which scripts/cargo-arm.sh
#            builds core itself. Needs only apt-get.
#
# Environment:
#   TINTIN_ARM              auto (default), rustup or debian: allow only one way
#   TINTIN_RUSTUP_TIMEOUT   seconds to wait for `rustup target add` (default 60)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/arm-common.sh

if [ "$#" -gt 0 ]; then
    targets=("$@")
else
    targets=("${ARM_DEFAULT_TARGETS[@]}")
fi
packages=(rustc-web cargo-web rust-web-src lld)

say() { printf 'setup-arm: %s\n' "$*"; }
die() { printf 'setup-arm: error: %s\n' "$*" >&2; exit 1; }

try_rustup() {
    if ! command -v rustup >/dev/null 2>&1; then
        say "rustup is not installed"
        return 1
    fi
    say "rustup: adding ${targets[*]}"
    if arm_limited "${TINTIN_RUSTUP_TIMEOUT:-60}" rustup target add "${targets[@]}" \
        && arm_rustup_ready "${targets[@]}"; then
        return 0
    fi
    say "rustup could not provide the targets"
    return 1
}

apt_get() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@"
}

try_debian() {
    local missing=() package
    for package in "${packages[@]}"; do
        if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            missing+=("$package")
        fi
    done
    if [ "${#missing[@]}" -gt 0 ]; then
        if [ "$(id -u)" -eq 0 ]; then
            as_root=()
        elif command -v sudo >/dev/null 2>&1; then
            as_root=(sudo)
        else
            say "not root, and sudo is not installed; as root, run: apt-get install ${missing[*]}"
            return 1
        fi
        say "apt-get: installing ${missing[*]}"
        # The first attempt uses the package lists as they are.
        if ! apt_get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
            apt_get update || return 1
            apt_get install -y --no-install-recommends "${missing[@]}" || return 1
        fi
    fi
    arm_debian_ready "${targets[@]}" || {
        say "the Debian packages are installed, but the compiler in /usr/bin or its library source is unusable:" \
            "older than Rust ${ARM_MINIMUM_RUST}, or without these targets"
        return 1
    }
}

finish() {
    case $1 in
    rustup) say "ready ($2): $(rustc --version), core library from rustup, for ${targets[*]}" ;;
    debian) say "ready ($2): $(/usr/bin/rustc --version) from Debian, core built from source, for ${targets[*]}" ;;
    esac
    exit 0
}

case $ARM_MODE in auto | rustup | debian) ;; *) die "TINTIN_ARM must be auto, rustup or debian" ;; esac

found=$(arm_find_toolchain "${targets[@]}") && finish "$found" "nothing to do"

if [ "$ARM_MODE" != debian ]; then
    try_rustup && finish rustup "rustup"
fi
if [ "$ARM_MODE" != rustup ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        say "this system has no apt-get"
    elif try_debian; then
        finish debian "Debian packages"
    fi
fi
die "no way to compile for ${targets[*]}: either go online for 'rustup target add ${targets[*]}'," \
    "or install Debian's packages ${packages[*]}"
