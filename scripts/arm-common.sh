# Shared by setup-arm.sh, cargo-arm.sh and parity.sh (sourced by them with bash): finds out
# which toolchain on this machine can compile for Arm Cortex-M. Changes nothing.

ARM_DEFAULT_TARGETS=(thumbv6m-none-eabi thumbv7em-none-eabihf)
ARM_MINIMUM_RUST=1.89
ARM_MODE=${TINTIN_ARM:-auto}

# Runs a command with a time limit, where the system has `timeout`.
arm_limited() {
    local seconds=$1
    shift
    if command -v timeout >/dev/null 2>&1; then
        timeout --signal=INT --kill-after=5 "$seconds" "$@"
    else
        "$@"
    fi
}

# Succeeds if the version in a line such as "rustc 1.96.0 (...)" will do.
arm_new_enough() {
    local have=${1#* }
    have=${have%% *}
    [ "$(printf '%s\n' "$ARM_MINIMUM_RUST" "$have" | sort -V | head -n 1)" = "$ARM_MINIMUM_RUST" ]
}

# Succeeds if the rustc in use has a core library for every target given.
arm_rustup_ready() {
    local target dir files
    command -v rustc >/dev/null 2>&1 && command -v cargo >/dev/null 2>&1 || return 1
    for target in "$@"; do
        dir=$(rustc --print target-libdir --target "$target" 2>/dev/null) || return 1
        files=("$dir"/libcore-*.rlib)
        [ -e "${files[0]}" ] || return 1
    done
}

# Succeeds if Debian's compiler and its library source are there and the
# compiler knows every target given.
arm_debian_ready() {
    local target version sysroot
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && command -v ld.lld >/dev/null 2>&1 || return 1
    version=$(/usr/bin/rustc --version 2>/dev/null) && arm_new_enough "$version" || return 1
    sysroot=$(/usr/bin/rustc --print sysroot) || return 1
    [ -e "$sysroot/lib/rustlib/src/rust/library/core/Cargo.toml" ] || return 1
    for target in "$@"; do
        /usr/bin/rustc --print cfg --target "$target" >/dev/null 2>&1 || return 1
    done
}

# Prints "rustup" or "debian", whichever serves all targets given; rustup first.
arm_find_toolchain() {
    if [ "$ARM_MODE" != debian ] && arm_rustup_ready "$@"; then
        echo rustup
    elif [ "$ARM_MODE" != rustup ] && arm_debian_ready "$@"; then
        echo debian
    else
        return 1
    fi
}
