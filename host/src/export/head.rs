//! The weight path behind a network's captured layer, as plain matrices, and what pooled features
//! look like on the pictures it knows.

use models::arch::Op;
use models::bundle::Outliers;
use models::head::{Head, HeadError, Matrix, Path};
use models::label::{self, Class};
use tch::{Kind, Tensor};

use super::fold::{Layer, folded};
use crate::train::network::{Mode, Network, NetworkError};

/// Why a network gives no head.
#[derive(Debug, thiserror::Error)]
pub enum HeadExportError {
    /// The network lacks a tensor.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The parts do not fit.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// libtorch fails.
    #[error(transparent)]
    Torch(#[from] tch::TchError),
}

/// The head of a network.
///
/// # Errors
/// When the network lacks a tensor.
pub fn head_from_network(network: &Network) -> Result<Head, HeadExportError> {
    let architecture = network.architecture();
    let mut layers = Vec::new();
    for (at, node) in architecture.nodes.iter().enumerate().skip(architecture.cam) {
        if let Op::Linear { inputs, outputs } = node.op {
            layers.push((inputs, outputs, folded(network, at)?));
        }
    }
    let shape = architecture.cam_shape;
    let matrix = |what, rows, columns, layer: Layer| -> Result<(Matrix, Vec<f32>), HeadError> {
        Ok((Matrix::new(what, rows, columns, layer.weight)?, layer.bias))
    };
    let mut layers = layers.into_iter();
    let path = match (layers.next(), layers.next(), layers.next()) {
        (Some((inputs, outputs, first)), Some((_, hidden, second)), Some((_, classes, last))) => {
            let summed = summed_over_positions(&first.weight, outputs, shape.channels, inputs);
            let (last, bias) = matrix("last layer", classes, hidden, last)?;
            Path::Hidden {
                first_summed: Matrix::new("first layer", outputs, shape.channels, summed)?,
                second: matrix("second layer", hidden, outputs, second)?.0,
                last,
                bias,
            }
        }
        (Some((inputs, outputs, only)), ..) => {
            let (weight, bias) = matrix("weight", outputs, inputs, only)?;
            Path::Linear { weight, bias }
        }
        (None, ..) => return Err(NetworkError::Missing("classifier".into()).into()),
    };
    Ok(Head::new(shape, path)?)
}

/// Sums a flattened layer's weights over each channel's positions: `[outputs, channels]`.
fn summed_over_positions(
    weight: &[f32],
    outputs: usize,
    channels: usize,
    inputs: usize,
) -> Vec<f32> {
    let positions = inputs / channels;
    let sum = |w: &[f32]| w.iter().fold(0.0f64, |s, &v| s + f64::from(v)) as f32;
    let summed: Vec<f32> = weight.chunks_exact(positions).map(sum).collect();
    debug_assert_eq!(summed.len(), outputs * channels);
    summed
}

/// Mean pooled features per class and one variance per channel, over training pictures
/// `[count, 1, SIDE, SIDE]`; also the largest distance among them.
///
/// # Errors
/// When libtorch fails.
pub fn outliers_from_images(
    network: &Network,
    images: &Tensor,
    classes: &[Class],
) -> Result<(Outliers, f64), HeadExportError> {
    let cam = network.architecture().cam;
    let mut pooled: Vec<Vec<f64>> = Vec::new();
    for image in images.split(1, 0) {
        let image = image.to_device(network.device());
        let features = tch::no_grad(|| network.forward(&image, 0, cam, Mode::Evaluate));
        let mean = features.to_kind(Kind::Double).mean_dim(&[0i64, 2, 3][..], false, None::<Kind>);
        pooled.push(Vec::try_from(mean)?);
    }
    let channels = network.architecture().cam_shape.channels;
    let mut mean = vec![0.0f64; label::COUNT * channels];
    for class in Class::ALL {
        let of: Vec<&Vec<f64>> =
            pooled.iter().zip(classes).filter(|(_, c)| **c == class).map(|(p, _)| p).collect();
        for channel in 0..channels {
            let sum: f64 = of.iter().map(|p| p[channel]).sum();
            mean[class.index() * channels + channel] = sum / of.len().max(1) as f64;
        }
    }
    let mut variance = vec![0.0f64; channels];
    for (features, class) in pooled.iter().zip(classes) {
        for (channel, v) in variance.iter_mut().enumerate() {
            let gap = features[channel] - mean[class.index() * channels + channel];
            *v += gap * gap / pooled.len() as f64;
        }
    }
    // A channel that hardly varies would make every picture an outlier.
    let floor = variance.iter().sum::<f64>() / channels as f64 * 1e-2 + 1e-12;
    let outliers = Outliers {
        mean: mean.into_iter().map(|m| m as f32).collect(),
        inverse_variance: variance.into_iter().map(|v| (1.0 / (v + floor)) as f32).collect(),
    };
    let largest = pooled.iter().map(|p| outliers.distance(p)).fold(0.0, f64::max);
    Ok((outliers, largest))
}
