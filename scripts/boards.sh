#!/usr/bin/env bash
# Builds the firmware of every board in crates/tintin-mcu/boards and prints its flash and
# RAM; then runs digits, vibration and a stack overflow on emulated cores. Installs
# what is missing (compiler targets, QEMU).
#
#   scripts/boards.sh [build | run]     only the boards, only the emulated cores; both without an argument
#
# Exit status: 1 if something fails or takes more than tintin's boards.toml tells, 77 if there is no QEMU.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/arm-common.sh

# As in parity.sh: core, target of its code, QEMU machine.
CORES='m0+ thumbv6m-none-eabi mps2-an385
m3 thumbv7m-none-eabi mps2-an385
m4 thumbv7em-none-eabihf mps2-an386
m7 thumbv7em-none-eabihf mps2-an500
m33 thumbv8m.main-none-eabihf mps2-an505'
TIMEOUT=${TINTIN_BOARDS_TIMEOUT:-120} # seconds for a program that takes ten

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/arm}
out=$CARGO_TARGET_DIR/boards

say() { printf 'boards: %s\n' "$*"; }
die() {
    printf 'boards: error: %s\n' "${*:2}" >&2
    exit "$1"
}

build() {
    local name target cargo=$PWD/scripts/cargo-arm.sh
    mapfile -t boards < <(python3 scripts/boards_size.py targets)
    mapfile -t targets < <(printf '%s\n' "${boards[@]}" | cut -d' ' -f2 | sort -u)
    scripts/setup-arm.sh "${targets[@]}"
    for board in "${boards[@]}"; do
        read -r name target <<<"$board"
        say "$name ($target)"
        (cd "crates/tintin-mcu/boards/$name" && "$cargo" build --quiet --release --locked --bins --target "$target")
        mkdir -p "$out/$name"
        cp "$CARGO_TARGET_DIR/$target/release/digits" "$CARGO_TARGET_DIR/$target/release/vibration" "$out/$name/"
    done
    python3 scripts/boards_size.py "$out"
}

# Runs a program on an emulated core; its text goes to a file.
emulate() { # machine, target, program, file
    arm_limited "$TIMEOUT" scripts/qemu-arm.sh "$1" "$CARGO_TARGET_DIR/$2/release/$3" >"$4" 2>&1 </dev/null
}

run() {
    local core target machine text cargo=$PWD/scripts/cargo-arm.sh
    command -v qemu-system-arm >/dev/null 2>&1 || die 77 "qemu-system-arm is not installed; scripts/parity.sh installs it"
    mkdir -p "$out/qemu"
    mapfile -t targets < <(cut -d' ' -f2 <<<"$CORES" | sort -u)
    scripts/setup-arm.sh "${targets[@]}"
    for target in "${targets[@]}"; do
        (cd crates/tintin-mcu/boards/qemu && "$cargo" build --quiet --release --locked --bins --target "$target")
    done
    while read -r core target machine; do
        text=$out/qemu/$core
        emulate "$machine" "$target" digits "$text.digits" || die 1 "digits on $core: $(tail -n 2 "$text.digits")"
        say "digits on $core: $(tail -n 1 "$text.digits")"
        emulate "$machine" "$target" vibration "$text.vibration" || die 1 "vibration on $core: $(tail -n 2 "$text.vibration")"
        say "vibration on $core: $(tail -n 1 "$text.vibration")"
        if emulate "$machine" "$target" overflow "$text.overflow"; then die 1 "overflow on $core ended as if nothing had been"; fi
        grep -q 'hard fault: stack overflow.*weights untouched' "$text.overflow" || die 1 "overflow on $core: $(tail -n 2 "$text.overflow")"
        say "overflow on $core: $(grep -o 'hard fault: .*' "$text.overflow")"
    done <<<"$CORES"
    # Equal bits: every core ends the digits with the same digest and the vibration with the same error.
    for program in digits vibration; do
        [ "$(for file in "$out"/qemu/*."$program"; do tail -n 1 "$file" | sed 's/[0-9]* us a step, //'; done | sort -u | wc -l)" = 1 ] ||
            die 1 "$program ends differently on these cores"
    done
}

[ -e "${TINTIN_DIGITS:-target/firmware/digits.bin}" ] || die 1 "no digits to put into firmware: run make firmware-data"
case ${1:-all} in
build) build ;;
run) run ;;
all)
    build
    run
    ;;
*) die 2 "build or run, not $1" ;;
esac
