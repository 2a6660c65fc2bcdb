//! Names the hand-written kernels that the target can run: `cfg(tintin_kernels = "dsp" | "v7m" | "v6m")`.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(tintin_kernels, values(none(), \"dsp\", \"v7m\", \"v6m\"))");
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
    let cpu = if target.starts_with("thumbv8m") { core().unwrap_or("cortex-m33") } else { "" };
    println!("cargo:rustc-env=TINTIN_CPU={}{cpu}", if cpu.is_empty() { "" } else { ".cpu " });
    println!("cargo:rustc-cfg=tintin_kernels");
    println!("cargo:rustc-cfg=tintin_kernels=\"{kernels}\"");
}

/// The compiler's flags name a core with the DSP extension, or the extension, and do not take it away.
fn has_dsp() -> bool {
    let flags = flags();
    !flags.contains("-dsp") && (flags.contains("+dsp") || core().is_some())
}

/// The core with the DSP extension that the compiler's flags name.
fn core() -> Option<&'static str> {
    let flags = flags();
    ["cortex-m33", "cortex-m35p", "cortex-m55", "cortex-m85"]
        .into_iter()
        .find(|core| flags.contains(&format!("target-cpu={core}")))
}

fn flags() -> String {
    env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default()
}
