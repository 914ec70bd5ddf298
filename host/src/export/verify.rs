//! An exported bundle, run by the device's own library, against the float network it came from.
//!
//! This is the only place where the workstation uses the device crate.

use std::path::Path;

use device::runtime::engine::Engine;
use device::scanner::{Scanner, ScannerError};
use models::bundle::Expected;
use models::cam::{self, raw_map};
use models::head::Head;
use models::label::Class;
use models::preprocess::{Input, Letterbox, SIDE};
use serde::Serialize;
use tch::Tensor;

use crate::explain;
use crate::train::network::{Network, NetworkError};

/// How close a bundle is to the float network it came from, over a set of images.
#[derive(Clone, Debug, Serialize)]
pub struct Agreement {
    /// Images compared.
    pub images: usize,
    /// Images to which the two give different classes.
    pub label_flips: usize,
    /// Largest difference of a class's probability.
    pub max_probability_change: f32,
    /// Pearson correlation of the raw maps of the float network's class: median.
    pub map_correlation_median: f64,
    /// The same: smallest.
    pub map_correlation_min: f64,
}

/// Why a bundle cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The device library refuses the bundle.
    #[error(transparent)]
    Scanner(#[from] ScannerError),
    /// The device library fails on an image.
    #[error(transparent)]
    Engine(#[from] device::runtime::engine::EngineError),
    /// The map cannot be computed.
    #[error(transparent)]
    Cam(#[from] cam::CamError),
    /// The float network fails.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A tensor is not what it should be.
    #[error(transparent)]
    Torch(#[from] tch::TchError),
}

/// What the device computes of a bundle's golden picture.
///
/// # Errors
/// When the bundle does not load or the network fails.
pub fn golden_result(bundle: &Path) -> Result<Expected, VerifyError> {
    Ok(Scanner::load(bundle)?.golden_result()?)
}

/// Runs a bundle's self-test on this machine.
///
/// # Errors
/// When the golden case is not reproduced.
pub fn self_test(bundle: &Path) -> Result<(), VerifyError> {
    Ok(Scanner::load(bundle)?.self_test()?)
}

/// Compares a bundle with its float network over preprocessed images `[count, 1, SIDE, SIDE]`.
///
/// # Errors
/// When either of them fails on an image.
pub fn compare(
    bundle: &Path,
    network: &Network,
    images: &Tensor,
    progress: &dyn Fn(),
) -> Result<Agreement, VerifyError> {
    let scanner = Scanner::load(bundle)?;
    let temperature = scanner.bundle().card.decision.temperature;
    let (mut flips, mut change, mut correlations) = (0, 0.0f32, Vec::new());
    for image in images.split(1, 0) {
        let logits = tch::no_grad(|| network.logits(&image, crate::train::network::Mode::Evaluate));
        let logits: Vec<f32> = Vec::try_from(logits.flatten(0, -1))?;
        let float = [logits[0], logits[1], logits[2]];
        let class = device::verdict::likeliest(&float);
        let (raw, device_logits) =
            device_map(scanner.engine(), &scanner.bundle().head, &image, class)?;
        flips += usize::from(device::verdict::likeliest(&device_logits) != class);
        let probabilities = |l| device::verdict::probabilities(l, temperature);
        for (a, b) in probabilities(&float).iter().zip(probabilities(&device_logits)) {
            change = change.max((a - b).abs());
        }
        let reference = explain::grad_cam(network, &image, class)?;
        correlations.push(pearson(&raw, &reference.raw));
        progress();
    }
    correlations.sort_by(f64::total_cmp);
    Ok(Agreement {
        images: correlations.len(),
        label_flips: flips,
        max_probability_change: change,
        map_correlation_median: correlations.get(correlations.len() / 2).copied().unwrap_or(0.0),
        map_correlation_min: correlations.first().copied().unwrap_or(0.0),
    })
}

/// The device's raw map of a class and its logits, for one preprocessed image.
///
/// # Errors
/// When the device library fails.
pub fn device_map(
    engine: &Engine,
    head: &Head,
    image: &Tensor,
    class: Class,
) -> Result<(Vec<f64>, [f32; 3]), VerifyError> {
    let activations = engine.run(&input_from_tensor(image)?)?;
    let raw = raw_map(head, class, activations.captured())?;
    Ok((raw, activations.logits))
}

fn input_from_tensor(image: &Tensor) -> Result<Input, VerifyError> {
    Ok(Input {
        values: Vec::try_from(image.flatten(0, -1))?,
        frame: Letterbox { left: 0, top: 0, width: SIDE, height: SIDE },
        exposure: models::preprocess::Exposure { black: 0, white: u16::MAX },
    })
}

/// Pearson correlation of two maps.
pub fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        ab += (x - ma) * (y - mb);
        aa += (x - ma) * (x - ma);
        bb += (y - mb) * (y - mb);
    }
    ab / (aa * bb).sqrt()
}
