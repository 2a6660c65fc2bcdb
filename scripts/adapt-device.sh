#!/usr/bin/env bash
# Adaptation to a few samples on emulated cores with 256 KB of RAM: builds the firmware, then lets
# benchmarks/device/adapt.py run it by policy, compare every step with the wheel's, and print a table.
# Arguments go to it. See docs/adapt.md.
#
#   scripts/adapt-device.sh [--net mcunet] [--cores m4 m3 m0] [--steps 40] [--json figures.json]
#
# Environment: PYTHON, one that has this checkout's tintin (default .venv/bin/python).
#
# Exit status: 1 if anything differs or choosing costs too much, 77 if there is no QEMU.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v qemu-system-arm >/dev/null 2>&1 || exec scripts/qemu-arm.sh "" "" # tells why not
scripts/firmware.sh >&2
TINTIN_FIRMWARE=$PWD/target/firmware exec "${PYTHON:-.venv/bin/python}" benchmarks/device/adapt.py "$@"
