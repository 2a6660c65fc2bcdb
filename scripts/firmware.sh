#!/usr/bin/env bash
# Builds the images of the generic runner that `tintin verify` runs on emulated cores,
# and the same runner for this machine, into target/firmware; copies the images into
# the Python package, so that a wheel built afterwards carries them. Installs a
# compiler for Cortex-M if there is none (scripts/setup-arm.sh).
#
#   scripts/firmware.sh
#
# One image per target; M4F and M7 share theirs. Targets whose cores multiply pairs of
# halves get a second image without those instructions (feature `portable`).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="${HOME:-}/.cargo/bin:$PATH"

PLAIN=(thumbv6m-none-eabi thumbv7m-none-eabi)
DSP=(thumbv7em-none-eabihf thumbv8m.main-none-eabihf)

scripts/setup-arm.sh "${PLAIN[@]}" "${DSP[@]}"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/arm}
images=$PWD/target/firmware
package=$PWD/crates/tintin-py/python/tintin/device/images
mkdir -p "$images" "$package"

# Copies only what is new, so that nothing that depends on it is made again for nothing.
put() { cmp -s "$1" "$2" || install -m 644 "$1" "$2"; }

# build <file name ending> <cargo arguments> -- <targets>
build() {
    local ending=$1 flags=() features=() target
    shift
    while [ "$1" != -- ]; do
        features+=("$1")
        shift
    done
    shift
    for target in "$@"; do flags+=(--target "$target"); done
    (
        cd crates/tintin-mcu
        ../../scripts/cargo-arm.sh build --quiet --profile firmware --locked --bin runner "${features[@]}" "${flags[@]}"
    )
    for target in "$@"; do
        put "$CARGO_TARGET_DIR/$target/firmware/runner" "$images/runner-$target$ending.elf"
        put "$images/runner-$target$ending.elf" "$package/runner-$target$ending.elf"
    done
}

build -portable --features portable -- "${DSP[@]}"
build "" -- "${PLAIN[@]}" "${DSP[@]}"

host=$(rustc -vV | sed -n 's/^host: //p')
(cd crates/tintin-mcu && cargo build --quiet --profile firmware --locked --bin runner --target "$host")
cmp -s "$CARGO_TARGET_DIR/$host/firmware/runner" "$images/runner-host" ||
    install -m 755 "$CARGO_TARGET_DIR/$host/firmware/runner" "$images/runner-host"

echo "firmware: $(find "$images" -name '*.elf' | wc -l) images and runner-host in ${images#"$PWD"/}," \
    "images also in ${package#"$PWD"/}"
