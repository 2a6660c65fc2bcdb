#!/usr/bin/env bash
# Proves that the engine compiled for Cortex-M computes what it computes here: runs
# the trainings of crates/tintin-mcu/src/parity.rs on the host and on emulated cores
# and compares what they print, step by step. See docs/parity.md. Installs what is
# missing (compiler targets, QEMU); safe to run again at any time.
#
#   scripts/parity.sh [m0+ m3 m4 m7 m33]     these cores, all without arguments
#
# Exit status: 1 if a core differs, 77 if there is no QEMU and no way to install it.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/arm-common.sh

# Core, target of its code, QEMU machine. QEMU's one M0 has too little memory, so an M3 runs the code of an M0+.
CORES='m0+ thumbv6m-none-eabi mps2-an385
m3 thumbv7m-none-eabi mps2-an385
m4 thumbv7em-none-eabihf mps2-an386
m7 thumbv7em-none-eabihf mps2-an500
m33 thumbv8m.main-none-eabihf mps2-an505'
TIMEOUT=60 # seconds for a training that takes one

die() {
    printf 'parity: error: %s\n' "${*:2}" >&2
    exit "$1"
}

# The steps told in a text, net by net: "67+67+67".
steps() {
    awk '$1 == "net" && NR > 2 { printf "%d+", last } $1 == "step" { last = $2 } END { printf "%d", last }' "$1"
}

# Where the second text departs from the first.
first_difference() {
    awk 'NR == FNR { host[NR] = $0; lines = NR; next }
        $1 == "net" { net = $2 }
        host[FNR] != $0 { found = 1; exit }
        END {
            line = found ? FNR : FNR + 1
            split(host[line], word, " ")
            printf "net %s, step %s: host \"%s\", here \"%s\"", net, word[2], host[line], found ? $0 : "nothing"
        }' "$1" "$2"
}

wanted=("$@")
if [ "${#wanted[@]}" -eq 0 ]; then
    mapfile -t wanted < <(cut -d' ' -f1 <<<"$CORES")
fi
selected=()
for core in "${wanted[@]}"; do
    line=$(awk -v core="$core" '$1 == core' <<<"$CORES")
    [ -n "$line" ] || die 2 "no core $core; there are: $(cut -d' ' -f1 <<<"$CORES" | xargs)"
    selected+=("$line")
done
mapfile -t targets < <(printf '%s\n' "${selected[@]}" | cut -d' ' -f2 | sort -u)

scripts/setup-qemu.sh
scripts/setup-arm.sh "${targets[@]}"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/arm}
texts=$CARGO_TARGET_DIR/parity
mkdir -p "$texts"

host=$(rustc -vV | sed -n 's/^host: //p')
(
    cd crates/tintin-mcu
    cargo build --quiet --release --locked --bin parity --target "$host"
    flags=()
    for target in "${targets[@]}"; do flags+=(--target "$target"); done
    ../../scripts/cargo-arm.sh build --quiet --release --locked --bin parity --bin kernels "${flags[@]}"
)
"$CARGO_TARGET_DIR/$host/release/parity" >"$texts/host.txt"

differing=0
for line in "${selected[@]}"; do
    read -r core target machine <<<"$line"
    text=$texts/$core.txt
    status=0
    arm_limited "$TIMEOUT" scripts/qemu-arm.sh "$machine" "$CARGO_TARGET_DIR/$target/release/parity" \
        >"$text" 2>"$text.err" </dev/null || status=$?
    # The kernels in assembly against their definition, on the same core.
    if ! arm_limited "$TIMEOUT" scripts/qemu-arm.sh "$machine" "$CARGO_TARGET_DIR/$target/release/kernels" \
        >"$text.kernels" 2>&1 </dev/null; then
        differing=1
        echo "kernels $core ($target on $machine): DIFFER; $(tail -n 2 "$text.kernels" | xargs)"
    fi
    if [ "$status" -eq 0 ] && cmp -s "$texts/host.txt" "$text"; then
        echo "parity $core ($target on $machine): $(steps "$text") steps, equal"
        continue
    fi
    differing=1
    echo "parity $core ($target on $machine): DIFFERS, exit status $status; $(first_difference "$texts/host.txt" "$text")"
    tail -n 5 "$text.err"
done
exit "$differing"
