//! Gives the firmware its linker scripts, on Cortex-M only: that of `cortex-m-rt`, and the memory map of the MPS2 boards. Tells
//! the library whether the core has a register for the stack's limit.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=memory");
    println!("cargo:rustc-env=TINTIN_TARGET={}", env::var("TARGET").unwrap()); // what the runner says of itself
    println!("cargo:rustc-check-cfg=cfg(armv8m)");
    if env::var("CARGO_CFG_TARGET_OS").unwrap() != "none" {
        return;
    }
    // Not `memory.x` at the root of the crate: the linker would find it before the copy.
    let v8m = env::var("TARGET").unwrap().starts_with("thumbv8m");
    if v8m {
        println!("cargo:rustc-cfg=armv8m");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap());
    fs::copy(if v8m { "memory/mps2-an505.x" } else { "memory/mps2.x" }, out.join("memory.x")).unwrap();
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=--nmagic"); // no padding to pages
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
}
