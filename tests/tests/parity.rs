//! The device's Grad-CAM, computed without autograd, against autograd: float networks of every
//! head, every class, random weights and trained ones.

use device::runtime::engine::{Engine, EngineOptions};
use host::explain::grad_cam;
use host::export::graph::model_from_network;
use host::export::head::head_from_network;
use host::export::verify::device_map;
use host::train::fit::{Lesson, Recipe, Views, fit};
use host::train::network::Network;
use indicatif::ProgressBar;
use models::arch::Architecture;
use models::cam::{enlarged, scaled};
use models::label::Class;
use tch::{Device, Tensor};
use tests::{phantom_inputs, tensor_from_inputs};

/// Largest difference of two maps after scaling to 0 to 1, where scaling multiplies by no more than
/// one over the map's largest magnitude.
const TOLERANCE: f32 = 1e-4;

fn check(kind: &str) {
    let architecture = Architecture::new(kind.parse().expect("known"));
    let mut network = Network::random(architecture, 7, Device::Cpu);
    let images = tensor_from_inputs(&phantom_inputs(6));
    maps_agree(&network, &images.narrow(0, 0, 1), "random");
    train_briefly(&mut network, &images);
    maps_agree(&network, &images.narrow(0, 1, 1), "trained");
}

fn maps_agree(network: &Network, image: &Tensor, weights: &str) {
    let head = head_from_network(network).expect("head");
    let model = model_from_network(network, None).expect("model");
    let engine =
        Engine::load(&model, head.hidden_layers(), EngineOptions::default()).expect("loads");
    let side = head.shape.side;
    for class in Class::ALL {
        let (raw, logits) = device_map(&engine, &head, image, class).expect("device");
        let reference = grad_cam(network, image, class).expect("autograd");
        for (ours, theirs) in logits.iter().zip(&reference.logits) {
            assert!((ours - theirs).abs() <= 1e-3 * theirs.abs().max(1.0), "{weights}: logits");
        }
        let ours = scaled(&raw, class).map(|map| enlarged(&map, side));
        let theirs = reference.heat(class, side);
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                let gap = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                let most = TOLERANCE * amplification(&raw);
                assert!(gap < most, "{weights}, {class}: {gap}, at most {most}");
            }
            (ours, theirs) => assert_eq!(ours.is_err(), theirs.is_err(), "{weights}, {class}"),
        }
    }
}

/// How many times larger scaling to 0 to 1 makes rounding errors, which are as large as the map's
/// largest magnitude brings about: a map nearly all below zero is stretched over its few small
/// values above.
fn amplification(raw: &[f64]) -> f32 {
    let above = |pick: fn(f64, f64) -> f64, from| raw.iter().map(|v| v.max(0.0)).fold(from, pick);
    let span = above(f64::max, 0.0) - above(f64::min, f64::INFINITY);
    let magnitude = raw.iter().map(|v| v.abs()).fold(0.0, f64::max);
    (magnitude / span) as f32
}

/// Two steps of the real training loop: enough to move every tensor and running statistic.
fn train_briefly(network: &mut Network, images: &Tensor) {
    let dir = tempfile::tempdir().expect("dir");
    let recipe = Recipe {
        epochs: 1,
        half_resolution_epochs: 0,
        batch: 3,
        learning_rate: 1e-4,
        weight_decay: 0.01,
        label_smoothing: 0.0,
        seed: 3,
    };
    let labels = Tensor::from_slice(&[0i64, 1, 2, 0, 1, 2]);
    let views = Views::Fresh(images.shallow_clone());
    let training = [0, 1, 2, 3, 4, 5];
    let lesson = Lesson { views: &views, labels: &labels, training: &training, cut: 0, fold: 0 };
    let before = network.tensor(&network.learnable(0)[0]).expect("tensor").copy();
    fit(network, &lesson, &recipe, &dir.path().join("checkpoint"), &ProgressBar::hidden())
        .expect("trains");
    let after = network.tensor(&network.learnable(0)[0]).expect("tensor");
    assert!(!after.equal(&before), "training moved nothing");
}

#[test]
fn resnet50_v1_maps_equal_autograd() {
    check("resnet50-v1");
}

#[test]
fn resnet50_v1_5_maps_equal_autograd() {
    check("resnet50-v1.5");
}

#[test]
fn vgg16_gap_maps_equal_autograd() {
    check("vgg16-gap");
}

#[test]
fn vgg16_original_head_maps_equal_autograd() {
    check("vgg16");
}
