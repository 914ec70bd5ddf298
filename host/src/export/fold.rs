//! Batch-normalisation folding: `bn(conv(x)) = conv'(x)` with scaled weights and a new bias.

use models::arch::{Architecture, BATCH_NORM_EPSILON, Op};
use tch::{Kind, Tensor};

use crate::train::network::{Network, NetworkError};

/// A convolution or linear layer as plain numbers.
#[derive(Clone, Debug)]
pub struct Layer {
    /// `[outputs, inputs, kernel, kernel]` or `[outputs, inputs]`, row-major.
    pub weight: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

/// Weight and bias of the node at a position, with the batch normalisation behind it folded in.
///
/// # Errors
/// When the network lacks a tensor.
pub fn folded(network: &Network, at: usize) -> Result<Layer, NetworkError> {
    let node = &network.architecture().nodes[at];
    let own = |name: &str, part: &str| -> Result<Tensor, NetworkError> {
        let tensor = network.tensor(&format!("{name}.{part}"))?;
        Ok(tensor.detach().to_device(tch::Device::Cpu).to_kind(Kind::Double))
    };
    let weight = own(&node.name, "weight")?;
    let has_bias = !matches!(node.op, Op::Conv(c) if !c.bias);
    let bias = if has_bias {
        own(&node.name, "bias")?
    } else {
        Tensor::zeros([weight.size()[0]], (Kind::Double, tch::Device::Cpu))
    };
    let Some(norm) = norm_behind(network.architecture(), at) else {
        return layer(&weight, &bias);
    };
    let name = &network.architecture().nodes[norm].name;
    let deviation = (own(name, "running_var")? + BATCH_NORM_EPSILON).sqrt();
    let scale = own(name, "weight")? / deviation;
    let bias = (bias - own(name, "running_mean")?) * &scale + own(name, "bias")?;
    layer(&(weight * scale.view([-1, 1, 1, 1])), &bias)
}

/// Position of the batch normalisation fed by the node at a position alone.
pub fn norm_behind(architecture: &Architecture, at: usize) -> Option<usize> {
    let next = architecture.nodes.get(at + 1)?;
    (matches!(next.op, Op::BatchNorm { .. }) && next.inputs == [at]).then_some(at + 1)
}

fn layer(weight: &Tensor, bias: &Tensor) -> Result<Layer, NetworkError> {
    let plain = |t: &Tensor| Vec::try_from(t.to_kind(Kind::Float).flatten(0, -1));
    Ok(Layer { weight: plain(weight)?, bias: plain(bias)? })
}
