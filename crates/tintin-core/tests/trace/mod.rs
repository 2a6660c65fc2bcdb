//! Reads the golden vectors.
#![allow(dead_code, missing_docs, clippy::cast_possible_truncation)]

use serde_json::Value;
use tintin_core::layers::*;
use tintin_core::loss::Loss;
use tintin_core::optim::{Recipe, Rule, Schedule};
use tintin_core::rescale::Rounding;
use tintin_core::shape::Shape;
use tintin_core::tensor::Scale;

pub fn read(name: &str) -> Value {
    let path = format!("{}/../../tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let value: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(value["numerics"], u64::from(tintin_core::NUMERICS), "{name}");
    value
}

pub fn cases<'a>(v: &'a Value, key: &str) -> &'a Vec<Value> {
    let cases = v[key].as_array().unwrap();
    assert!(!cases.is_empty());
    cases
}

pub fn int(v: &Value) -> i64 {
    v.as_i64().unwrap_or_else(|| panic!("not an integer: {v}"))
}

pub fn ints(v: &Value) -> Vec<i32> {
    v.as_array().unwrap().iter().map(|v| int(v) as i32).collect()
}

pub fn bytes(v: &Value) -> Vec<i8> {
    v.as_array().unwrap().iter().map(|v| i8::try_from(int(v)).unwrap()).collect()
}

pub fn scale(v: &Value) -> Scale {
    let v = ints(v);
    Scale { s: v[0] as i16, u: v[1] as i16, d: v[2] as i16 }
}

pub fn shape(v: &Value) -> Shape {
    let v = ints(v);
    Shape::new(v[0] as u32, v[1] as u32, v[2] as u32)
}

pub fn pair(v: &Value) -> (u16, u16) {
    let v = ints(v);
    (v[0] as u16, v[1] as u16)
}

pub fn rounding(v: &Value) -> Rounding {
    match v.as_str().unwrap() {
        "Nearest" => Rounding::Nearest,
        "Pseudo" => Rounding::Pseudo,
        "Stochastic" => Rounding::Stochastic,
        other => panic!("{other}"),
    }
}

pub fn loss_of(v: &Value) -> Loss {
    match v.as_str().unwrap() {
        "CrossEntropy" => Loss::CrossEntropy,
        "NitiCrossEntropy" => Loss::NitiCrossEntropy,
        "SquaredError" => Loss::SquaredError,
        // the prototype loss is no loss of a recipe: it needs prototypes
        "Prototypes" => Loss::CrossEntropy,
        other => panic!("{other}"),
    }
}

pub fn layer(v: &Value) -> Layer {
    let bias = v["bias"].as_bool().unwrap_or(false);
    match v["kind"].as_str().unwrap() {
        "Linear" => Layer::Linear(Linear { out_features: int(&v["out_features"]) as u16, bias }),
        "Conv2d" => Layer::Conv2d(Conv2d {
            out_channels: int(&v["out_channels"]) as u16,
            kernel: pair(&v["kernel"]),
            stride: pair(&v["stride"]),
            padding: pair(&v["padding"]),
            bias,
        }),
        "DepthwiseConv2d" => Layer::DepthwiseConv2d(DepthwiseConv2d {
            kernel: pair(&v["kernel"]),
            stride: pair(&v["stride"]),
            padding: pair(&v["padding"]),
            bias,
        }),
        "Branch" => Layer::Branch(Branch::new(int(&v["from"]) as u16)),
        "Add" => Layer::Add(Add::new(int(&v["from"]) as u16)),
        "ReLU" => Layer::ReLU(ReLU),
        "Flatten" => Layer::Flatten(Flatten),
        "GlobalAvgPool2d" => Layer::GlobalAvgPool2d(GlobalAvgPool2d),
        "MaxPool2d" => Layer::MaxPool2d(MaxPool2d { kernel: pair(&v["kernel"]), stride: pair(&v["stride"]) }),
        "AvgPool2d" => Layer::AvgPool2d(AvgPool2d { kernel: pair(&v["kernel"]), stride: pair(&v["stride"]) }),
        other => panic!("{other}"),
    }
}

pub fn recipe(v: &Value) -> Recipe {
    let mut milestones = [u32::MAX; 4];
    for (m, v) in milestones.iter_mut().zip(v["milestones"].as_array().unwrap()) {
        *m = int(v) as u32;
    }
    Recipe {
        rule: match v["rule"].as_str().unwrap() {
            "TinTin" => Rule::TinTin { margin: int(&v["margin"]) as u8 },
            "Niti" => Rule::Niti,
            other => panic!("{other}"),
        },
        rounding: rounding(&v["rounding"]),
        loss: loss_of(&v["loss"]),
        schedule: Schedule { start: int(&v["start"]) as i8, change: int(&v["change"]) as i8, milestones },
    }
}

pub fn digest(v: &Value) -> u64 {
    u64::from_str_radix(v.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}
