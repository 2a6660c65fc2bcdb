#!/usr/bin/env bash
# Every check of this repository, by name:
#
#   ./ci.sh all           all of them, a line each; stops at the first that fails
#   ./ci.sh NAME ...      only these, with their whole output
#   ./ci.sh list          the names
#
# A gate is a function below. It fails by its exit code; 77 means that it cannot be run here, and why is told. With CI=true
# `all` takes that for a failure too, but for vectors-guard, which needs the history that a shallow clone lacks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
export PATH="${HOME:-}/.cargo/bin:$PATH"

# Cheap ones first, so that a slip shows within seconds.
GATES=(readme no-float vectors-guard fmt ruff oracle wheel stubs clippy test test-release features doc examples instructions aarch64 arm firmware
    audit parity applications device-cost boards)
PY=.venv/bin/python
CORE=crates/tintin-core
SKIP=77

say() { printf '%s\n' "$*" >&2; }

# The virtual environment and the wheel, made or renewed if need be.
need_wheel() {
    make --no-print-directory --silent wheel checkers
    PY=$PWD/.venv/bin/python
    export PYO3_PYTHON=$PY
}

# A cargo subcommand that distributions package apart; rustup is asked for it once.
need_component() {
    if cargo "$1" --version >/dev/null 2>&1; then return; fi
    if command -v rustup >/dev/null 2>&1 && rustup component add "$2"; then return; fi
    say "cargo $1 is not installed here and rustup is not at hand to add it (Debian: rustfmt-web, rust-web-clippy)"
    exit $SKIP
}

gate_readme() {
    local command
    for command in 'make demo' 'make test'; do
        grep -qF "$command" README.md || { say "README.md does not show: $command"; exit 1; }
    done
}

# Law 6: no float in the core. Comments may speak of it.
gate_no_float() {
    local found
    found=$(grep -rnE '\bf(16|32|64|128)\b' "$CORE/src" --include='*.rs' | grep -vE '^[^:]+:[0-9]+:[[:space:]]*//' || true)
    if [ -n "$found" ]; then
        say "float types in the core:"
        say "$found"
        exit 1
    fi
}

# Law 11: a change to existing vectors needs a new NUMERICS and leaves the kernels alone. New vectors are free.
gate_vectors_guard() {
    local base commit parent
    if ! git rev-parse --verify --quiet HEAD >/dev/null 2>&1 || [ "$(git rev-parse --is-shallow-repository)" = true ]; then
        say "no history here to compare with"
        exit $SKIP
    fi
    base=$(git merge-base HEAD origin/main 2>/dev/null || true)
    if [ -z "$base" ] || [ "$base" = "$(git rev-parse HEAD)" ]; then
        base=$(git rev-parse --verify --quiet HEAD~1 || true)
    fi
    # Commit by commit, because one may change the kernels and the next the numbers.
    if [ -n "$base" ]; then
        for commit in $(git rev-list --reverse --first-parent "$base..HEAD"); do
            parent=$(git rev-parse "$commit^1")
            vectors_change_is_allowed "$parent" "$commit" "commit $(git log -1 --format='%h (%s)' "$commit")"
        done
    fi
    vectors_change_is_allowed HEAD '' "the working tree"
}

numerics_of() { # the line that defines NUMERICS, in a commit or (without one) in the working tree
    git grep -hE 'const NUMERICS *:' ${1:+"$1"} -- "$CORE/src" | head -n 1
}

vectors_change_is_allowed() { # from, to (empty: the working tree), what to call it
    local changed
    changed=$(git diff --name-only --no-renames --diff-filter=MDT "$1" ${2:+"$2"} -- tests/vectors)
    if [ -z "$changed" ]; then return; fi
    if [ "$(numerics_of "$1" || true)" = "$(numerics_of "$2" || true)" ]; then
        say "$3 changes existing vectors without a new NUMERICS:"
        say "$changed"
        exit 1
    fi
    changed=$(git diff --name-only "$1" ${2:+"$2"} -- "$CORE/src/kernels")
    if [ -n "$changed" ]; then
        say "$3 changes vectors and kernels together:"
        say "$changed"
        exit 1
    fi
}

gate_fmt() {
    need_component fmt rustfmt
    cargo fmt --all --check
    cargo fmt --manifest-path crates/tintin-mcu/Cargo.toml --check
    cargo fmt --manifest-path crates/tintin-mcu/boards/Cargo.toml --all --check
}

gate_ruff() {
    "$PY" -m ruff check .
    "$PY" -m ruff format --check .
}

# The oracle stands on its own: it is not even shown the wheel.
gate_oracle() {
    "$PY" -m pytest -q tests/reference
}

gate_wheel() {
    "$PY" -m pytest -q tests/python
}

gate_stubs() {
    "$PY" -m mypy crates/tintin-py/python/tintin
    "$PY" -m mypy.stubtest tintin._tintin
}

gate_clippy() {
    need_component clippy clippy
    cargo clippy --workspace --all-targets --all-features -- -D warnings
}

gate_test() {
    cargo test -q -p tintin-core --all-features --lib --tests
}

# The pinned digests must come out of every set of kernels this machine has.
gate_test_release() {
    local kernels
    for kernels in '' avx512 avx2 portable; do
        TINTIN_KERNELS=$kernels cargo test -q --release -p tintin-core --all-features --lib --tests
    done
}

gate_features() {
    cargo build -q -p tintin-core --no-default-features
    cargo build -q -p tintin-core --no-default-features --features alloc
    cargo build -q -p tintin-core --no-default-features --features std
    cargo build -q -p tintin-core --no-default-features --features threads
}

gate_doc() {
    RUSTDOCFLAGS="-D warnings" cargo doc -q --no-deps -p tintin-core --all-features
    cargo test -q -p tintin-core --all-features --doc
}

# Each example takes --quick: a few steps, to show that it runs.
gate_examples() {
    local example name found=
    for example in examples/*.py; do
        [ -e "$example" ] || continue
        found=1
        say "== $example"
        "$PY" "$example" --quick
    done
    for example in examples/*.rs; do
        [ -e "$example" ] || continue
        found=1
        say "== $example"
        name=$(basename "$example" .rs)
        cargo run -q --release -p tintin-core --all-features --example "$name" -- --quick
    done
    [ -n "$found" ] || { say "there are no examples"; exit 1; }
}

# Instructions of a training step on this host, against those on record.
gate_instructions() {
    "$PY" benchmarks/instructions.py
}

# The core's tests on emulated aarch64 CPUs.
gate_aarch64() {
    scripts/aarch64.sh
}

gate_arm() {
    local target
    scripts/setup-arm.sh
    cd crates/tintin-mcu
    for target in thumbv6m-none-eabi thumbv7em-none-eabihf; do
        ../../scripts/cargo-arm.sh build --release --target "$target"
    done
}

# The firmware's library here: protocol and runner, applications, the store, the driver with a scripted bus.
gate_firmware() {
    make --no-print-directory firmware-data
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/arm}
    cd crates/tintin-mcu
    cargo clippy -q --release --locked --all-targets -- -D warnings
    cargo test -q --release --locked
}

# What the firmware proves about itself, within budgets.toml.
gate_audit() {
    PYTHON=$PY scripts/audit.sh
}

# The engine on emulated Cortex-M cores against the engine here: nets that the compiler planned, kernels, and any net through
# the runner.
gate_parity() {
    scripts/parity.sh
    scripts/firmware.sh
    TINTIN_FIRMWARE=$PWD/target/firmware "$PY" -m pytest -q tests/parity
}

# The two applications on the M0+ with 32 KB, against the wheel.
gate_applications() {
    "$PY" scripts/applications.py --samples 203 --tests 100 --epochs 2
}

# Cost on an emulated core: SysTick = profiler, digests = oracle; else it fails.
gate_device_cost() {
    scripts/bench-device.sh --cores M4F --no-rival
}

# Every board builds and fits; digits, vibration and a stack overflow on emulated cores.
gate_boards() {
    make --no-print-directory firmware-data
    scripts/boards.sh
}

is_gate() {
    local gate
    for gate in "${GATES[@]}"; do
        if [ "$gate" = "$1" ]; then return; fi
    done
    return 1
}

run_gate() {
    case $1 in
    readme | no-float | vectors-guard | fmt) ;; # nothing to build
    *) need_wheel ;;
    esac
    "gate_${1//-/_}"
}

run_all() {
    local gate log start code passed=0 skipped=()
    mkdir -p target/ci
    for gate in "${GATES[@]}"; do
        log=target/ci/$gate.log
        start=$SECONDS
        # A process of its own: `set -e` holds inside it, which it does not in a function tested by `if`.
        code=0
        ./ci.sh "$gate" >"$log" 2>&1 </dev/null || code=$?
        if [ "$code" = "$SKIP" ] && [ "${CI:-}" = true ] && ! may_skip "$gate"; then
            echo "a check that cannot be run counts as failed where CI=true" >>"$log"
            code=1
        fi
        case $code in
        0)
            passed=$((passed + 1))
            printf 'ok    %-14s %4d s\n' "$gate" $((SECONDS - start))
            ;;
        "$SKIP")
            skipped+=("$gate")
            printf 'skip  %-14s %s\n' "$gate" "$(tail -n 1 "$log")"
            ;;
        *)
            cat "$log"
            printf 'FAIL  %-14s %4d s, exit code %d\n' "$gate" $((SECONDS - start)) "$code"
            printf '%d passed, 1 failed: %s\n' "$passed" "$gate"
            exit 1
            ;;
        esac
    done
    if [ "${#skipped[@]}" -gt 0 ]; then printf 'skipped: %s\n' "${skipped[*]}"; fi
    printf '%d lines in the core without tests\n' "$(core_lines)"
    printf '%d passed, 0 failed\n' "$passed"
}

may_skip() {
    [ "$1" = vectors-guard ] && [ "$(git rev-parse --is-shallow-repository 2>/dev/null)" = true ]
}

core_lines() {
    find "$CORE/src" -name '*.rs' -not -name tests.rs -exec sed -s '/^#\[cfg(test)\]/,$d' {} + | wc -l
}

case ${1:-} in
'' | -h | --help | help)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    printf 'gates: %s\n' "${GATES[*]}"
    ;;
list) printf '%s\n' "${GATES[@]}" ;;
all) run_all ;;
*)
    for gate in "$@"; do
        is_gate "$gate" || { say "ci.sh: no gate $gate; there are: all ${GATES[*]}"; exit 2; }
    done
    for gate in "$@"; do
        (run_gate "$gate")
    done
    ;;
esac
