#!/usr/bin/env bash
# Instructions of LeNet-5 on three Cortex-M cores, batch 1, and the flash and RAM of
# firmware that trains it: one Markdown table. QEMU counts instructions, not cycles;
# the same sources and compiler give the same figures every time.
#
#   scripts/bench-device.sh
#
# The lines behind the table (the counter's validation, every measured step with its
# non-zero output errors, loss and digest) go to target/arm/bench-device/<core>.txt.
# See crates/tintin-mcu/src/bin/bench.rs for how it counts, and lenet5.rs for the
# firmware that is weighed.
#
# Exit status: 77 if there is no QEMU.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/arm-common.sh

# Core, target of its code, QEMU machine; the M0+ as in parity.sh.
CORES='m4f thumbv7em-none-eabihf mps2-an386
m3 thumbv7m-none-eabi mps2-an385
m0+ thumbv6m-none-eabi mps2-an385'
TIMEOUT=60

# Flash and static RAM of a 32-bit little-endian ELF file, from its section headers.
weigh() {
    python3 - "$1" <<'PYTHON'
import struct, sys

elf = open(sys.argv[1], "rb").read()
start, = struct.unpack_from("<I", elf, 32)
size, count = struct.unpack_from("<HH", elf, 46)
flash = ram = 0
for i in range(count):
    _, kind, flags, _, _, length = struct.unpack_from("<6I", elf, start + i * size)
    if flags & 2:  # takes memory
        flash += length if kind != 8 else 0  # all but .bss; .data lies in flash too
        ram += length if flags & 1 else 0  # writable
print(flash, ram)
PYTHON
}

command -v qemu-system-arm >/dev/null 2>&1 || exec scripts/qemu-arm.sh "" "" # tells why not

mapfile -t targets < <(cut -d' ' -f2 <<<"$CORES" | sort -u)
scripts/setup-arm.sh "${targets[@]}" >&2
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/arm}
texts=$CARGO_TARGET_DIR/bench-device
mkdir -p "$texts"
(
    cd crates/tintin-mcu
    flags=()
    for target in "${targets[@]}"; do flags+=(--target "$target"); done
    ../../scripts/cargo-arm.sh build --quiet --release --locked --bin bench --bin lenet5 "${flags[@]}"
)

echo "| core | forward | per MAC | step | per MAC | step without pools | per MAC | flash | static RAM | stack of a step |"
echo "|---|---|---|---|---|---|---|---|---|---|"
while read -r core target machine; do
    release=$CARGO_TARGET_DIR/$target/release
    text=$texts/$core.txt
    arm_limited "$TIMEOUT" scripts/qemu-arm.sh "$machine" "$release/bench" -icount shift=0,sleep=off >"$text" </dev/null
    awk -v core="${core^^}" -v sizes="$(weigh "$release/lenet5")" '
        function group(n,   text) {
            for (; length(n) > 3; n = substr(n, 1, length(n) - 3)) text = "," substr(n, length(n) - 2) text
            return n text
        }
        function cell(n, macs) { return sprintf(" %s | %.2f |", group(n), n / macs) }
        $1 == "lenet5" && $2 == "median" { forward = cell($4, $6); step = cell($8, $10); stack = group($12) }
        $1 == "strided" && $2 == "median" { strided = cell($8, $10) }
        END {
            split(sizes, size, " ")
            printf "| %s |%s%s%s %s | %s | %s |\n", core, forward, step, strided, group(size[1]), group(size[2]), stack
        }' "$text"
done <<<"$CORES"
