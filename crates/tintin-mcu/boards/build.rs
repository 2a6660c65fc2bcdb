//! Build script of every board: hands the linker its memory map and tells the program where the digits are.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let target = env::var("TARGET").unwrap();
    assert!(
        target.starts_with("thumb"),
        "boards run on Cortex-M, not on {target}: run cargo in the board's own folder, whose .cargo/config.toml names its target"
    );
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap());
    // Not `memory.x` at the root of the package: a HAL's own would be mistaken for it.
    let map = match env::var("CARGO_PKG_NAME").unwrap().as_str() {
        "qemu" if target.starts_with("thumbv8m") => "../../memory/mps2-an505.x",
        "qemu" => "../../memory/mps2.x",
        _ => "memory.x",
    };
    println!("cargo:rerun-if-changed={map}");
    fs::copy(map, out.join("memory.x")).unwrap();
    println!("cargo:rustc-link-search={}", out.display());
    println!("cargo:rustc-link-arg-bins=--nmagic"); // no padding to pages
    println!("cargo:rustc-link-arg-bins=-Tlink.x");

    println!("cargo:rustc-check-cfg=cfg(no_digits)");
    println!("cargo:rerun-if-env-changed=TINTIN_DIGITS");
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../target/firmware/digits.bin");
    let digits = env::var_os("TINTIN_DIGITS").map_or(built, PathBuf::from);
    println!("cargo:rerun-if-changed={}", digits.display());
    match digits.canonicalize() {
        Ok(path) => println!("cargo:rustc-env=TINTIN_DIGITS={}", path.display()),
        Err(_) => println!("cargo:rustc-cfg=no_digits"),
    }
}
