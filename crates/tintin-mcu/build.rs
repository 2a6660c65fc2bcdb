//! Gives the firmware its linker scripts, on Cortex-M only: that of `cortex-m-rt`, and a memory map. Tells the library whether
//! the core has a register for the stack's limit.
//!
//! The map is that of the MPS2 boards, but for the applications, which are held to the smallest board's, and for adaptation, which
//! is held to 256 KB of RAM and 1 MB of flash.

use std::path::{Path, PathBuf};
use std::{env, fs};

const APPLICATIONS: [&str; 2] = ["bearing", "spectrum"];

fn main() {
    println!("cargo:rerun-if-changed=memory");
    println!("cargo:rustc-env=TINTIN_TARGET={}", env::var("TARGET").unwrap()); // what the runner says of itself
    println!("cargo:rustc-check-cfg=cfg(armv8m)");
    println!("cargo:rerun-if-changed=src/bin");
    if env::var("CARGO_CFG_TARGET_OS").unwrap() != "none" {
        return;
    }
    let v8m = env::var("TARGET").unwrap().starts_with("thumbv8m");
    if v8m {
        println!("cargo:rustc-cfg=armv8m");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap());
    for source in fs::read_dir("src/bin").unwrap() {
        let path = source.unwrap().path();
        let bin = path.file_stem().unwrap().to_str().unwrap();
        // QEMU's M33 has its memory elsewhere: there the applications run without the limit.
        let map = if bin == "adapt" {
            if v8m { "adapt-an505" } else { "adapt" }
        } else if v8m {
            "mps2-an505"
        } else if APPLICATIONS.contains(&bin) {
            "feather-m0"
        } else {
            "mps2"
        };
        println!("cargo:rustc-link-arg-bin={bin}=-L{}", map_folder(&out, map).display());
    }
    println!("cargo:rustc-link-arg-bins=--nmagic"); // no padding to pages
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
}

/// A folder that holds a map as the `memory.x` that `link.x` includes; not at the root of the crate, where the linker would
/// find it for all.
fn map_folder(out: &Path, map: &str) -> PathBuf {
    let folder = out.join(map);
    fs::create_dir_all(&folder).unwrap();
    fs::copy(format!("memory/{map}.x"), folder.join("memory.x")).unwrap();
    folder
}
