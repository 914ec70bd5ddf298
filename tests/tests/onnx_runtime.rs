//! Exported models pass ONNX's checker, load in ONNX Runtime and in tract, and say the same.

use std::fs;
use std::path::Path;
use std::process::Command;

use device::runtime::engine::{Engine, EngineOptions};
use host::export::graph::model_from_network;
use host::quantize::quantizer::{Settings, quantize};
use host::train::network::Network;
use indicatif::ProgressBar;
use models::arch::Architecture;
use models::bundle::Bundle;
use models::logits::likeliest;
use models::preprocess::Input;
use tch::Device;
use tests::{phantom_inputs, tensor_from_inputs, zoo};

const IMAGES: usize = 50;

/// Logits of the peer, which also runs ONNX's checker.
fn peer_logits(model: &[u8], inputs: &[Input]) -> Vec<[f32; 3]> {
    let python = std::env::var("SPINESIGHT_PEERS")
        .expect("SPINESIGHT_PEERS names the peers' Python: run `cargo xtask test`");
    let dir = tempfile::tempdir().expect("dir");
    let (model_file, input_file) = (dir.path().join("model.onnx"), dir.path().join("inputs.f32"));
    fs::write(&model_file, model).expect("writes");
    let bytes: Vec<u8> =
        inputs.iter().flat_map(|i| i.values.iter().flat_map(|v| v.to_le_bytes())).collect();
    fs::write(&input_file, bytes).expect("writes");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/onnx_peer.py");
    let run = Command::new(python)
        .arg(script)
        .args([&model_file, &input_file])
        .arg(inputs.len().to_string())
        .output()
        .expect("starts");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).expect("logits")
}

fn check(what: &str, model: &[u8], hidden_layers: usize, images: usize) {
    let inputs = phantom_inputs(images);
    let engine =
        Engine::load(model, hidden_layers, EngineOptions::default()).expect("loads in tract");
    let ours: Vec<[f32; 3]> = inputs.iter().map(|i| engine.run(i).expect("runs").logits).collect();
    let theirs = peer_logits(model, &inputs);
    let all = || theirs.iter().flatten().copied();
    let range = all().fold(f32::MIN, f32::max) - all().fold(f32::MAX, f32::min);
    for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let gap = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(gap <= 0.02 * range, "{what}, image {at}: {ours:?} and {theirs:?}");
        assert_eq!(likeliest(ours), likeliest(theirs), "{what}, image {at}");
    }
}

#[test]
fn shipped_bundles_agree_with_onnx_runtime() {
    let zoo = zoo();
    assert!(zoo.len() >= 2, "the zoo holds both networks");
    for dir in zoo {
        let bundle = Bundle::load(&dir).expect("loads");
        check(&bundle.card.name, &bundle.model, bundle.head.hidden_layers(), IMAGES);
    }
}

#[test]
fn float_and_int8_exports_agree_with_onnx_runtime() {
    for kind in ["resnet50-v1.5", "resnet50-v1-stage4", "vgg16-gap-bn"] {
        let network =
            Network::random(Architecture::new(kind.parse().expect("known")), 2, Device::Cpu);
        let model = model_from_network(&network, None).expect("float model");
        check(&format!("{kind} float"), &model, 0, 6);
        let images = tensor_from_inputs(&phantom_inputs(3));
        // The graph is judged here, not its precision: every convolution in integers, quickly.
        let settings = Settings {
            second_order: false,
            correct_biases: false,
            float_budget: 0.0,
            ..Settings::default()
        };
        let quantized = quantize(&network, &images, &settings, &ProgressBar::hidden());
        let quantized = quantized.expect("quantizes");
        let model = model_from_network(&network, Some(&quantized)).expect("int8 model");
        let inputs = phantom_inputs(3);
        let engine = Engine::load(&model, 0, EngineOptions::default()).expect("loads in tract");
        let theirs = peer_logits(&model, &inputs);
        for (input, theirs) in inputs.iter().zip(theirs) {
            let ours = engine.run(input).expect("runs").logits;
            for (a, b) in ours.iter().zip(theirs) {
                assert!((a - b).abs() <= 0.02 * b.abs().max(1.0), "{kind} int8: {a} and {b}");
            }
        }
    }
}

#[test]
fn the_original_head_loads_in_both() {
    let network =
        Network::random(Architecture::new("vgg16".parse().expect("known")), 2, Device::Cpu);
    let model = model_from_network(&network, None).expect("model");
    check("vgg16 float", &model, 2, 2);
}
