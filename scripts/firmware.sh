#!/usr/bin/env bash
# Builds the images of the generic runner that `tintin verify` runs on emulated cores,
# and the same runner for this machine, into target/firmware; copies the images into
# the Python package, so that a wheel built afterwards carries them. Installs a
# compiler for Cortex-M if there is none (scripts/setup-arm.sh).
#
#   scripts/firmware.sh
#
# Two images per target: with the kernels written for it, and without (feature
# `portable`). M4F and M7 share theirs. And one of the firmware `adapt`, which stays in
# target/firmware.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="${HOME:-}/.cargo/bin:$PATH"

TARGETS=(thumbv6m-none-eabi thumbv7m-none-eabi thumbv7em-none-eabihf thumbv8m.main-none-eabihf)

scripts/setup-arm.sh "${TARGETS[@]}"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/arm}
images=$PWD/target/firmware
package=$PWD/crates/tintin-py/python/tintin/device/images
mkdir -p "$images" "$package"

# Source files in panic messages without the folders of this machine.
sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
remap="target.'cfg(target_os=\"none\")'.rustflags=['--remap-path-prefix=$PWD/=', '--remap-path-prefix=$sources/=']"

# Copies only what is new, so that nothing that depends on it is made again for nothing.
put() { cmp -s "$1" "$2" || install -m 644 "$1" "$2"; }

# build <file name ending> <cargo arguments>
build() {
    local ending=$1 flags=() target
    for target in "${TARGETS[@]}"; do flags+=(--target "$target"); done
    (
        cd crates/tintin-mcu
        ../../scripts/cargo-arm.sh build --quiet --profile firmware --locked --bin runner --config "$remap" \
            "${@:2}" "${flags[@]}"
    )
    for target in "${TARGETS[@]}"; do
        put "$CARGO_TARGET_DIR/$target/firmware/runner" "$images/runner-$target$ending.elf"
        put "$images/runner-$target$ending.elf" "$package/runner-$target$ending.elf"
    done
}

build -portable --features portable
build ""

# Adaptation in 256 KB of RAM: for a checkout alone.
flags=()
for target in "${TARGETS[@]}"; do flags+=(--target "$target"); done
(
    cd crates/tintin-mcu
    ../../scripts/cargo-arm.sh build --quiet --profile firmware --locked --bin adapt --config "$remap" "${flags[@]}"
)
for target in "${TARGETS[@]}"; do
    put "$CARGO_TARGET_DIR/$target/firmware/adapt" "$images/adapt-$target.elf"
done

host=$(rustc -vV | sed -n 's/^host: //p')
(cd crates/tintin-mcu && cargo build --quiet --profile firmware --locked --bin runner --target "$host")
cmp -s "$CARGO_TARGET_DIR/$host/firmware/runner" "$images/runner-host" ||
    install -m 755 "$CARGO_TARGET_DIR/$host/firmware/runner" "$images/runner-host"

echo "firmware: $(find "$images" -name 'runner-*.elf' | wc -l) images and runner-host in ${images#"$PWD"/}," \
    "images also in ${package#"$PWD"/}"
