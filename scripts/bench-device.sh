#!/usr/bin/env bash
# What a training step costs on Cortex-M: sets up what is missing, builds the firmware, then lets
# benchmarks/device/bench.py run everything on emulated cores and print its tables. Arguments go to it.
#
#   scripts/bench-device.sh [--cores M4F M3 M0+] [--no-rival] [--json figures.json]
#
# Exit status: 77 if there is no QEMU, or no C compiler for Arm and no way to install it.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v qemu-system-arm >/dev/null 2>&1 || exec scripts/qemu-arm.sh "" "" # tells why not
scripts/setup-arm-gcc.sh >&2

targets=(thumbv7em-none-eabihf thumbv7m-none-eabi thumbv6m-none-eabi)
scripts/setup-arm.sh "${targets[@]}" >&2
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/arm}
(
    cd crates/tintin-mcu
    flags=()
    for target in "${targets[@]}"; do flags+=(--target "$target"); done
    ../../scripts/cargo-arm.sh build --quiet --release --locked --bin bench --bin lenet5 "${flags[@]}"
)
exec "${PYTHON:-python3}" benchmarks/device/bench.py --firmware "$CARGO_TARGET_DIR" "$@"
