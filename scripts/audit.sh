#!/usr/bin/env bash
# Builds the firmware that trains LeNet-5 for every Cortex-M target whose limits budgets.toml
# holds, and audits the images: no soft float, FPU instruction, allocator or formatting, and
# nothing over its budget. One paragraph per image; all of it goes to target/arm/audit/.
#
#   scripts/audit.sh            every target
#   scripts/audit.sh --whole    the whole image is held to the rules, not the trainer alone
#
# Environment: PYTHON, one that has tintin with its extra `audit` (default .venv/bin/python).
#
# Exit status: 1 if an image fails, 2 if one cannot be audited.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/arm-common.sh

FIRMWARE=lenet5
python=${PYTHON:-.venv/bin/python}
mapfile -t targets < <(sed -n "s/^\[$FIRMWARE\.\(.*\)\]\$/\1/p" budgets.toml)
[ "${#targets[@]}" -gt 0 ] || { echo "audit: budgets.toml has no limits for $FIRMWARE" >&2; exit 2; }

scripts/setup-arm.sh "${targets[@]}" >&2
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/arm}
texts=$CARGO_TARGET_DIR/audit
mkdir -p "$texts"
(
    cd crates/tintin-mcu
    flags=()
    for target in "${targets[@]}"; do flags+=(--target "$target"); done
    ../../scripts/cargo-arm.sh build --quiet --release --locked --bin "$FIRMWARE" "${flags[@]}"
)

worst=0
for target in "${targets[@]}"; do
    text=$texts/$FIRMWARE-$target.txt
    code=0
    "$python" -m tintin audit "$CARGO_TARGET_DIR/$target/release/$FIRMWARE" --budget budgets.toml "$@" >"$text" || code=$?
    echo "$FIRMWARE for $target"
    grep -E '^(total|trainer:|stack:|dual multiply:|in the whole image:|FOUND|clean|[0-9]+ finding)' "$text" | sed 's/^/  /'
    if [ "$code" -gt "$worst" ]; then worst=$code; fi
done
exit "$worst"
