//! Models that must not compile: the compiler says what the planner says at run time, and names the layer.
//!
//! Each case is a program of its own, checked by cargo. Only the planner's words are looked for: what the compiler writes around
//! them changes from version to version.
#![allow(missing_docs)]
#![cfg(feature = "alloc")]

use std::path::PathBuf;
use std::process::Command;
use tintin_core::file::Header;
use tintin_core::heap::planned;
use tintin_core::layers::*;
use tintin_core::plan::Options;
use tintin_core::shape::Shape;

/// Name of the program, the same model at run time, and what both must say.
fn cases() -> [(&'static str, Vec<Layer>, Shape, Options, String); 5] {
    let linear = |n| Layer::Linear(Linear::new(n));
    let (relu, once) = (Layer::ReLU(ReLU), Options::training(1));
    let needed = planned(&[linear(10), relu, linear(200)], Shape::flat(100), once).unwrap().1.ram();
    [
        (
            "kernel_too_large",
            vec![Layer::Conv2d(Conv2d::new(8, (5, 5))), relu, linear(2)],
            Shape::new(4, 6, 1),
            once,
            "layer 0 (Conv2d): kernel larger than the padded input, input 4 x 6 x 1".into(),
        ),
        (
            "sum_overflows",
            vec![Layer::Flatten(Flatten), relu, Layer::Linear(Linear::new(2).with_bias())],
            Shape::new(258, 257, 1),
            once,
            "layer 2 (Linear): sum of products could overflow 32 bits: fan-in too large, input 1 x 1 x 66306".into(),
        ),
        (
            "gradient_overflows",
            vec![Layer::Conv2d(Conv2d::new(1, (1, 1))), relu, linear(2)],
            Shape::new(100, 100, 1),
            Options::training(14),
            "layer 0 (Conv2d): gradient could overflow 32 bits: output places times batch size above 132624, \
             use a smaller batch"
                .into(),
        ),
        (
            "ram_exceeded",
            vec![linear(10), relu, linear(200)],
            Shape::flat(100),
            once.ram_limit(2000),
            format!(
                "layer 2 (Linear): the net does not fit, and this layer needs most: {needed} bytes needed, 2000 allowed"
            ),
        ),
        (
            "nothing_to_train",
            vec![linear(2), relu, Layer::MaxPool2d(MaxPool2d::new((1, 1)))],
            Shape::new(4, 4, 1),
            once.train_from(2),
            "no layer is left to train".into(),
        ),
    ]
}

#[test]
fn the_planner_refuses() {
    for (name, layers, input, options, message) in cases() {
        let error = planned(&layers, input, options).unwrap_err();
        assert_eq!(error.to_string(), message, "{name}");
        // each is refused for its last drop, and nothing else
        let mended = match name {
            "kernel_too_large" => planned(&layers, Shape::new(5, 6, 1), options),
            "sum_overflows" => planned(&layers, Shape::new(257, 257, 1), options),
            "gradient_overflows" => planned(&layers, input, Options::training(13)),
            "ram_exceeded" => planned(&layers, input, options.ram_limit(error.bytes.unwrap().0)),
            _ => planned(&layers, input, options.train_from(0)),
        };
        assert!(mended.is_ok(), "{name}: {mended:?}");
    }
    assert_eq!(Header::read(b"II*\0 no model").unwrap_err().short(), "not a .tin file");
}

/// A package of its own with one program per case, which shares nothing with this build.
fn package() -> PathBuf {
    let crate_root = env!("CARGO_MANIFEST_DIR");
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("compile_fail");
    std::fs::create_dir_all(&root).unwrap();
    let features = if cfg!(feature = "std") { "std" } else { "alloc" }; // those of this build
    let mut manifest = format!(
        "[package]\nname = \"compile-fail\"\nedition = \"2024\"\n[workspace]\n\
         [dependencies.tintin-core]\npath = {crate_root:?}\nfeatures = [{features:?}]\n"
    );
    for name in cases().map(|case| case.0).into_iter().chain(["not_a_file", "sound"]) {
        manifest +=
            &format!("[[bin]]\nname = {name:?}\npath = {:?}\n", format!("{crate_root}/tests/compile_fail/{name}.rs"));
    }
    std::fs::write(root.join("Cargo.toml"), manifest).unwrap();
    root
}

/// Whether program `name` compiles, and what the compiler wrote.
fn check(root: &PathBuf, name: &str) -> (bool, String) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["check", "--offline", "--quiet", "--color", "never", "--bin", name])
        .current_dir(root)
        .env("CARGO_TARGET_DIR", root.join("target"))
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_compiler_refuses_with_the_same_words() {
    let root = package();
    let (compiles, stderr) = check(&root, "sound");
    assert!(compiles, "the control does not compile:\n{stderr}");
    let planned = cases().map(|(name, _, _, _, message)| (name, message));
    for (name, message) in planned.into_iter().chain([("not_a_file", "not a .tin file".into())]) {
        let (compiles, stderr) = check(&root, name);
        assert!(!compiles, "{name} compiles");
        assert!(stderr.contains(&message), "{name}: no \"{message}\" in\n{stderr}");
    }
}
