#!/usr/bin/env bash
# Runs firmware on one of QEMU's Cortex-M machines, without a board; cargo's runner
# for crates/tintin-mcu. What the firmware prints through semihosting is printed
# here, and its exit status is the one of this script. Further arguments go to QEMU.
#
#   scripts/qemu-arm.sh mps2-an386 target/arm/thumbv7em-none-eabihf/release/parity
set -euo pipefail

if [ "$#" -lt 2 ]; then
    echo "usage: qemu-arm.sh <machine> <firmware> [arguments of QEMU]" >&2
    exit 2
fi
if ! command -v qemu-system-arm >/dev/null 2>&1; then
    echo "qemu-arm: qemu-system-arm is not installed; scripts/setup-qemu.sh installs it where there is apt-get" >&2
    exit 77
fi
exec qemu-system-arm -machine "$1" -display none -monitor none -serial none \
    -semihosting-config enable=on,target=native -kernel "$2" "${@:3}"
