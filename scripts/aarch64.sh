#!/usr/bin/env bash
# Runs the core's own tests, golden traces and pinned digests included, compiled for
# aarch64 with its kernels: on emulated CPUs (QEMU's user mode), or here if this
# is an aarch64. A line each; their whole output only if they fail.
#
#   scripts/aarch64.sh
#
# CPUs: cortex-a53 stands for those without dot products of bytes (Raspberry Pi 3 and 4), max for those with them
# (Raspberry Pi 5, Graviton, Apple silicon). Each runs the kernels it chooses itself, max the portable ones as well.
# Installs what is missing: the compiler's target (scripts/setup-arm.sh), QEMU and a cross linker (apt-get). Where
# clippy can, it checks the sources for aarch64.
#
# Environment: TINTIN_ARM as for setup-arm.sh.
# Exit status: 1 if a test fails, 77 if something is missing and cannot be installed here.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="${HOME:-}/.cargo/bin:$PATH"
. scripts/arm-common.sh

# CPU, TINTIN_KERNELS, and the kernels that must then be in use.
RUNS='cortex-a53 best neon
max best neon-dotprod
max portable portable'
TARGET=aarch64-unknown-linux-gnu
TESTS=(-p tintin-core --all-features --lib --tests)

say() { printf 'aarch64: %s\n' "$*"; }
die() {
    printf 'aarch64: error: %s\n' "${*:2}" >&2
    exit "$1"
}
apt_get() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@"; }

# Emulator, linker, C library: programs, and the packages that have them.
need_packages() {
    local missing=() as_root=()
    command -v qemu-aarch64 >/dev/null 2>&1 || missing+=(qemu-user)
    command -v aarch64-linux-gnu-gcc >/dev/null 2>&1 || missing+=(gcc-aarch64-linux-gnu)
    [ -e /usr/aarch64-linux-gnu/lib/libc.so.6 ] && [ -e /usr/aarch64-linux-gnu/lib/crt1.o ] \
        || missing+=(libc6-dev-arm64-cross)
    if [ "${#missing[@]}" -eq 0 ]; then return; fi
    command -v apt-get >/dev/null 2>&1 || die 77 "${missing[*]} not installed, and this system has no apt-get"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 || die 77 "as root, run: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    say "apt-get: installing ${missing[*]}"
    # The first attempt uses the package lists as they are.
    if ! apt_get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
        apt_get update >/dev/null && apt_get install -y --no-install-recommends "${missing[@]}" >/dev/null \
            || die 77 "apt-get could not install ${missing[*]}"
    fi
}

# Emulated, with the C library for cross compilers, or here.
case $(uname -sm) in
'Linux aarch64' | 'Darwin arm64')
    RUNS='native best
native neon neon
native portable portable'
    tool=(cargo)
    TARGET=$(rustc -vV | sed -n 's/^host: //p')
    ;;
*)
    need_packages
    scripts/setup-arm.sh "$TARGET" || die 77 "no compiler for $TARGET here"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    export TINTIN_BUILD_STD=std,test CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/aarch64}
    tool=(scripts/cargo-arm.sh)
    ;;
esac
# Quicker to build, and the same bits: LTO is for speed.
export CARGO_PROFILE_RELEASE_LTO=off
logs=$PWD/target/aarch64-logs
mkdir -p "$logs"

# A step with its whole output in a log, told only if it fails.
step() {
    local log=$logs/$1.log start=$SECONDS
    "${@:2}" >"$log" 2>&1 || {
        cat "$log" >&2
        die 1 "$1 failed"
    }
    seconds=$((SECONDS - start))
}

# Not with a library built from source: cargo-clippy does not hand the option on.
if [ "$(arm_find_toolchain "$TARGET")" != debian ] && "${tool[@]}" clippy --version >/dev/null 2>&1; then
    step clippy "${tool[@]}" clippy -p tintin-core --all-targets --all-features --target "$TARGET" -- -D warnings
    say "clippy: no complaints ($seconds s)"
fi
step build "${tool[@]}" test --release "${TESTS[@]}" --target "$TARGET" --no-run
say "tests built ($seconds s)"

while read -r cpu kernels expected; do
    if [ "$cpu" != native ]; then
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu $cpu"
    fi
    export TINTIN_KERNELS=$kernels
    name=$cpu-$kernels
    step "$name" "${tool[@]}" test --release "${TESTS[@]}" --target "$TARGET" -- --show-output
    used=$(sed -n 's/^kernels: //p' "$logs/$name.log")
    [ -n "$used" ] && [ "$used" = "${expected:-$used}" ] || die 1 "$cpu uses the kernels '$used', expected: $expected"
    passed=$(awk '/^test result: ok/ { n += $4 } END { print n + 0 }' "$logs/$name.log")
    [ "$passed" -gt 0 ] || die 1 "$cpu ran no tests"
    say "$cpu, kernels $used: $passed tests passed ($seconds s)"
done <<<"$RUNS"
