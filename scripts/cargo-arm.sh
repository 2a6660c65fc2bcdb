#!/usr/bin/env bash
# Runs cargo for an Arm Cortex-M target with whichever toolchain
# scripts/setup-arm.sh prepared, in the current folder:
#
#   cd crates/tintin-mcu
#   ../../scripts/cargo-arm.sh build --release --target thumbv6m-none-eabi
#
# With Debian's compiler, core is built from source (-Zbuild-std) once per
# target and profile, and cargo fetches the dependencies of the standard library
# once. Everything goes to target/arm under the repository root
# unless CARGO_TARGET_DIR says otherwise.
#
# Environment: TINTIN_ARM as for setup-arm.sh; TINTIN_BUILD_STD, the libraries
# to build from source with Debian's compiler (default core).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/arm-common.sh"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target/arm}

if [ "$#" -eq 0 ]; then
    echo "usage: cargo-arm.sh <cargo arguments>, for example: build --release --target ${ARM_DEFAULT_TARGETS[0]}" >&2
    exit 2
fi

# The targets the arguments name; what follows "--" is not cargo's.
targets=()
expect=
for argument in "$@"; do
    if [ -n "$expect" ]; then
        targets+=("$argument")
        expect=
        continue
    fi
    case $argument in
    --) break ;;
    --target) expect=1 ;;
    --target=*) targets+=("${argument#--target=}") ;;
    esac
done
if [ "${#targets[@]}" -eq 0 ]; then
    targets=("${ARM_DEFAULT_TARGETS[@]}")
fi

if ! toolchain=$(arm_find_toolchain "${targets[@]}"); then
    echo "cargo-arm: no toolchain here compiles for ${targets[*]}; run: scripts/setup-arm.sh ${targets[*]}" >&2
    exit 1
fi

if [ "$toolchain" = rustup ]; then
    exec cargo "$@"
fi

# Debian's compiler has no linker of its own for bare metal.
for target in "${targets[@]}"; do
    name=CARGO_TARGET_$(printf '%s' "$target" | tr 'a-z.-' 'A-Z__')_LINKER
    if [ -z "${!name:-}" ]; then
        export "$name=ld.lld"
    fi
done
# The unstable option goes before the subcommand, so that "--" in the arguments
# does not matter; RUSTC_BOOTSTRAP lets a released compiler accept it.
export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1
exec /usr/bin/cargo "-Zbuild-std=${TINTIN_BUILD_STD:-core}" "$@"
