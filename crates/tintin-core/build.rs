//! Names the hand-written kernels that the target can run: `cfg(tintin_kernels = "dsp" | "v7m" | "v6m")`.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(tintin_kernels, values(none(), \"dsp\", \"v7m\", \"v6m\"))");
    println!("cargo:rustc-check-cfg=cfg(tintin_v8m)");
    if env::var_os("CARGO_FEATURE_PORTABLE").is_some() {
        return;
    }
    let target = env::var("TARGET").unwrap_or_default();
    let kernels = match target.split('-').next().unwrap_or_default() {
        "thumbv6m" | "thumbv8m.base" => "v6m",
        "thumbv7m" => "v7m",
        "thumbv7em" => "dsp",
        // the DSP extension is an option of ARMv8-M, and the assembler wants to be told
        "thumbv8m.main" if has_dsp() => "dsp",
        "thumbv8m.main" => "v7m",
        _ => return,
    };
    if target.starts_with("thumbv8m") {
        println!("cargo:rustc-cfg=tintin_v8m");
    }
    println!("cargo:rustc-cfg=tintin_kernels");
    println!("cargo:rustc-cfg=tintin_kernels=\"{kernels}\"");
}

/// The compiler's flags name a core with the DSP extension, or the extension.
fn has_dsp() -> bool {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    ["target-cpu=cortex-m33", "target-cpu=cortex-m35p", "target-cpu=cortex-m55", "target-cpu=cortex-m85", "+dsp"]
        .iter()
        .any(|flag| flags.contains(flag))
}
