#!/usr/bin/env bash
# Prepares a machine for building tintin; called by the Makefile. Safe to run again at any time.
#
#   scripts/setup.sh python     .venv with what requirements.txt names
#   scripts/setup.sh checkers   what requirements-dev.txt names besides
#   scripts/setup.sh rust       a Rust toolchain of the version Cargo.toml asks for
#
# What is there is used as it is. A missing C compiler, Python or Rust is installed with apt-get where this user may do
# that (root, or sudo without a password); else it is named with the command that brings it, and the script fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$*"; }
die() {
    printf 'setup: error: %s\n' "$1" >&2
    shift
    if [ "$#" -gt 0 ]; then printf 'setup:   %s\n' "$@" >&2; fi
    exit 1
}

# Succeeds if version $1 is at least $2.
at_least() { [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# Installs packages with apt-get, if this is a system that has it and a user who may.
apt_get() { ${as_root:-} env DEBIAN_FRONTEND=noninteractive apt-get "$@"; }
may_apt() {
    command -v apt-get >/dev/null 2>&1 || return 1
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || return 1
        as_root="sudo -n"
    fi
}
apt_install() {
    may_apt || return 1
    say "apt-get: installing $*"
    # The first attempt uses the package lists as they are.
    apt_get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 && return
    apt_get update -qq || say "apt-get update failed; using the package lists as they are"
    apt_get install -y -qq --no-install-recommends "$@" >/dev/null
}

has_compiler() { command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1; }

# Prints the first Python that is new enough.
look_for_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

setup_python() {
    local python
    has_compiler || { apt_install build-essential && has_compiler; } ||
        die "a C compiler is needed for linking" "Debian, Ubuntu: apt-get install build-essential"
    python=$(look_for_python) || { apt_install python3 python3-venv && python=$(look_for_python); } ||
        die "Python 3.11 or newer is needed, and none was found" \
            "Debian, Ubuntu: apt-get install python3 python3-venv" \
            "if it lies somewhere unusual: make PYTHON=/path/to/python3 ..."
    # A .venv moved from elsewhere, or whose Python is gone, cannot be mended.
    if ! .venv/bin/python -c 'import sys; sys.exit(sys.prefix == sys.base_prefix)' 2>/dev/null ||
        ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        say "creating .venv with $("$python" --version)"
        make_venv "$python" || { apt_install python3-venv && make_venv "$python"; } || {
            rm -rf .venv
            die "$python cannot create virtual environments" "Debian, Ubuntu: apt-get install python3-venv"
        }
    fi
    install_packages requirements.txt
}

make_venv() { "$1" -m venv --clear .venv && .venv/bin/python -m pip --version >/dev/null; }

install_packages() {
    say "installing the packages of $1 into .venv"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$1" ||
        die "pip could not install the packages of $1; its message is above"
}

# Prints the version of the rustc in use, nothing if there is none or no cargo beside it.
rust_version() {
    command -v cargo >/dev/null 2>&1 || return 0
    rustc --version 2>/dev/null | cut -d ' ' -f 2 || true
}

# The newest compiler apt knows, if it is new enough: rustup where it is packaged, Debian's rustc-web
# (kept current for browsers), a numbered rustc as on Ubuntu, or the plain one.
install_rust_with_apt() {
    local candidate package version
    local -a numbered packages
    may_apt || return 1
    say "no Rust $1 or newer here; asking apt"
    apt_get update -qq || say "apt-get update failed; using the package lists as they are"
    mapfile -t numbered < <(apt-cache pkgnames rustc- | grep -E '^rustc-[0-9.]+$' | sort -rV)
    for candidate in rustc-web "${numbered[@]}" rustc rustup; do
        version=$(apt-cache policy "$candidate" 2>/dev/null | sed -n 's/^ *Candidate: *\([0-9.]*\).*/\1/p')
        [ -n "$version" ] || continue
        case $candidate in
        rustup) packages=(rustup) ;;
        *)
            at_least "$version" "$1" || continue
            packages=("$candidate" "${candidate/rustc/cargo}")
            # Formatter and linter are packages of their own, and not everywhere: rustfmt-web, rust-web-clippy.
            for package in "${candidate/rustc/rustfmt}" "${candidate/rustc/rust}-clippy"; do
                if apt-cache show "$package" >/dev/null 2>&1; then packages+=("$package"); fi
            done
            ;;
        esac
        say "apt-get: installing ${packages[*]}"
        apt_get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null || continue
        if [ "$candidate" = rustup ]; then rustup default stable || continue; fi
        hash -r
        # Ubuntu's numbered packages install numbered commands.
        package=${candidate#rustc-}
        if [ -x "/usr/bin/cargo-$package" ] && [ -x "/usr/bin/rustc-$package" ] && [ "$candidate" != rustc-web ]; then
            mkdir -p "$HOME/.cargo/bin"
            ln -sf "/usr/bin/cargo-$package" "$HOME/.cargo/bin/cargo"
            ln -sf "/usr/bin/rustc-$package" "$HOME/.cargo/bin/rustc"
            hash -r
        fi
        version=$(rust_version)
        if [ -n "$version" ] && at_least "$version" "$1"; then return 0; fi
    done
    return 1
}

setup_rust() {
    local wanted have
    wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml | head -n 1)
    [ -n "$wanted" ] || die "Cargo.toml does not tell a rust-version"
    have=$(rust_version)
    if [ -n "$have" ] && at_least "$have" "$wanted"; then
        say "Rust $have"
        return
    fi
    # A rustup that is there is asked first: it brings a new toolchain beside the old one.
    if [ -n "$have" ] && command -v rustup >/dev/null 2>&1; then
        say "Rust $have is older than $wanted; asking rustup for the stable toolchain"
        if rustup toolchain install stable --profile default; then
            have=$(rust_version)
            if [ -n "$have" ] && at_least "$have" "$wanted"; then return; fi
        fi
    elif install_rust_with_apt "$wanted"; then
        say "Rust $(rust_version)"
        return
    fi
    have=$(rust_version)
    die "Rust $wanted or newer is needed, here is ${have:-none}, and it could not be installed" \
        "with rustup, on any system: rustup toolchain install stable && rustup default stable" \
        "Debian, as root: apt-get install rustc-web cargo-web rustfmt-web rust-web-clippy" \
        "then run make again"
}

export PATH="${HOME:-}/.cargo/bin:$PATH"
case ${1:-} in
python) setup_python ;;
checkers) install_packages requirements-dev.txt ;;
rust) setup_rust ;;
*) die "say what to set up: python, checkers or rust" ;;
esac
