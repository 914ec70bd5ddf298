//! A network with its batch normalisations folded, run in float or with the roundings of int8.
//!
//! The roundings are simulated: a value in steps is held as the real number it stands for. Sums
//! inside an integer convolution are exact on the board and nearly so here, so a simulated logit
//! differs from the board's by a few roundings at ties only.

use std::collections::BTreeMap;

use models::arch::{Architecture, Op};
use tch::Tensor;

use super::affine::Affine;
use crate::export::fold::{Layer, folded};
use crate::train::network::{Mode, Network, NetworkError};

/// Folded convolutions as plain numbers, by position.
pub type Layers = BTreeMap<usize, Layer>;

/// A folded network, ready to run.
pub struct Forward<'a> {
    network: &'a Network,
    /// Weight and bias, by convolution.
    convolutions: BTreeMap<usize, [Tensor; 2]>,
    /// How a convolution's input is rounded; absent: it is not.
    inputs: BTreeMap<usize, Affine>,
}

impl<'a> Forward<'a> {
    /// The network with the given convolutions in the place of its own, and rounded inputs where
    /// there is an entry.
    pub fn new(network: &'a Network, layers: &Layers, inputs: BTreeMap<usize, Affine>) -> Self {
        let nodes = &network.architecture().nodes;
        let tensors = |(&at, layer): (&usize, &Layer)| {
            let bias = Tensor::from_slice(&layer.bias);
            let weight = Tensor::from_slice(&layer.weight);
            let shape = match nodes[at].op {
                Op::Conv(c) => [c.outputs, c.inputs, c.kernel, c.kernel].map(|d| d as i64),
                _ => [bias.size()[0], -1, 1, 1],
            };
            let to = |t: Tensor| t.to_device(network.device());
            (at, [to(weight.view(shape)), to(bias)])
        };
        Self { network, convolutions: layers.iter().map(tensors).collect(), inputs }
    }

    /// Logits of an input `[1, 1, SIDE, SIDE]`; shows every node's output to `observe`.
    ///
    /// A batch normalisation's output is that of its convolution.
    pub fn run(&self, image: &Tensor, observe: &mut dyn FnMut(usize, &Tensor)) -> Tensor {
        tch::no_grad(|| {
            let image = image.to_device(self.network.device());
            let nodes = &self.network.architecture().nodes;
            let mut last_use = vec![0; nodes.len()];
            for (at, node) in nodes.iter().enumerate() {
                node.inputs.iter().for_each(|&i| last_use[i] = at);
            }
            observe(0, &image);
            let mut values: BTreeMap<usize, Tensor> = BTreeMap::from([(0, image)]);
            for (at, node) in nodes.iter().enumerate().skip(1) {
                let output = self.apply(at, &values[&node.inputs[0]], node.inputs.get(1), &values);
                observe(at, &output);
                values.retain(|&i, _| last_use[i] > at);
                values.insert(at, output);
            }
            values.remove(&(nodes.len() - 1)).unwrap_or_default()
        })
    }

    fn apply(
        &self,
        at: usize,
        x: &Tensor,
        second: Option<&usize>,
        values: &BTreeMap<usize, Tensor>,
    ) -> Tensor {
        match (&self.network.architecture().nodes[at].op, second) {
            (Op::Conv(c), _) => {
                let [weight, bias] = &self.convolutions[&at];
                let rounded = self.inputs.get(&at).map(|affine| affine.rounded(x));
                let (stride, padding) = (c.stride as i64, c.padding as i64);
                let x = rounded.as_ref().unwrap_or(x);
                x.conv2d(weight, Some(bias), [stride; 2], [padding; 2], [1, 1], 1)
            }
            (Op::BatchNorm { .. } | Op::Dropout { .. }, _) => x.shallow_clone(),
            (Op::Relu, _) => x.relu(),
            (Op::Add, Some(second)) => x + &values[second],
            _ => self.network.forward(x, at - 1, at, Mode::Evaluate),
        }
    }
}

/// Every convolution of a network with its batch normalisation folded in.
///
/// # Errors
/// When the network lacks a tensor.
pub fn folded_layers(network: &Network) -> Result<Layers, NetworkError> {
    convolutions(network.architecture()).map(|at| Ok((at, folded(network, at)?))).collect()
}

/// Positions of all convolutions.
pub fn convolutions(architecture: &Architecture) -> impl Iterator<Item = usize> + '_ {
    let is_conv = |&at: &usize| matches!(architecture.nodes[at].op, Op::Conv(_));
    (0..architecture.nodes.len()).filter(is_conv)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn a_folded_network_computes_what_the_network_computes() {
        for kind in ["resnet50-v1-stage4", "vgg16-gap-bn"] {
            let architecture = Architecture::new(kind.parse().expect("known"));
            let network = Network::random(architecture, 3, Device::Cpu);
            let layers = folded_layers(&network).expect("folds");
            let forward = Forward::new(&network, &layers, BTreeMap::new());
            let image = Tensor::randn([1, 1, 64, 64], (Kind::Float, Device::Cpu));
            let gap = forward.run(&image, &mut |_, _| {}) - network.logits(&image, Mode::Evaluate);
            assert!(gap.abs().max().double_value(&[]) < 1e-4, "{kind}");
        }
    }
}
