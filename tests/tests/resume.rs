//! An interrupted training continues to exactly the weights of an uninterrupted one.

use host::train::fit::{Lesson, Recipe, Views, fit};
use host::train::network::Network;
use indicatif::ProgressBar;
use models::arch::Architecture;
use tch::{Device, Kind, Tensor};

fn recipe(epochs: usize) -> Recipe {
    Recipe {
        epochs,
        half_resolution_epochs: 0,
        batch: 4,
        learning_rate: 1e-3,
        weight_decay: 0.01,
        label_smoothing: 0.0,
        seed: 5,
    }
}

fn network() -> Network {
    Network::random(Architecture::new("resnet50-v1".parse().expect("known")), 5, Device::Cpu)
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let whole = network();
    let cut = whole.architecture().position("layer4.1.relu3").expect("exists");
    tch::manual_seed(9);
    let views = Views::Cached(vec![Tensor::rand([8, 2048, 7, 7], (Kind::Half, Device::Cpu))]);
    let labels = Tensor::from_slice(&[0i64, 1, 2, 0, 1, 2, 0, 1]);
    let training: Vec<usize> = (0..8).collect();
    let lesson = Lesson { views: &views, labels: &labels, training: &training, cut, fold: 0 };
    let dir = tempfile::tempdir().expect("dir");
    let mut whole = whole;
    fit(&mut whole, &lesson, &recipe(2), &dir.path().join("a"), &ProgressBar::hidden())
        .expect("trains");
    // Stopping after the first of two epochs leaves the checkpoint that a kill would leave.
    let interrupted = dir.path().join("b");
    host::train::fit::fit_epochs(
        &mut network(),
        &lesson,
        &recipe(2),
        1,
        &interrupted,
        &ProgressBar::hidden(),
    )
    .expect("trains");
    let mut resumed = network();
    fit(&mut resumed, &lesson, &recipe(2), &interrupted, &ProgressBar::hidden()).expect("resumes");
    for (name, tensor) in whole.tensors() {
        assert!(tensor.equal(resumed.tensor(name).expect("tensor")), "{name} differs");
    }
}
