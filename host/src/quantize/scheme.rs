//! A network in the numbers the board computes with.

use std::collections::{BTreeMap, BTreeSet};

use models::arch::{Architecture, Op};

use super::affine::Affine;
use super::forward::{Forward, Layers, convolutions};
use crate::export::fold::{Layer, norm_behind};
use crate::train::network::Network;

/// A quantized network.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// By convolution.
    pub convolutions: BTreeMap<usize, Convolution>,
    /// Steps of every node whose output integer convolutions read, directly or through a pool.
    pub steps: BTreeMap<usize, Affine>,
    /// The float layers it was made from, in the same scaling of channels.
    pub origin: Layers,
}

/// A convolution with its batch normalisation folded in.
#[derive(Clone, Debug)]
pub enum Convolution {
    /// Floats multiplied with floats.
    Float(Layer),
    /// Steps multiplied with steps.
    Integer(IntegerLayer),
}

/// A convolution in integers.
#[derive(Clone, Debug, PartialEq)]
pub struct IntegerLayer {
    /// Steps, in the order of the float weights.
    pub weight: Vec<i8>,
    /// Real value of one step, per output channel.
    pub scales: Vec<f32>,
    /// Bias in steps of input scale times weight scale.
    pub bias: Vec<i32>,
}

impl IntegerLayer {
    /// The weights and biases that the integers stand for, for inputs of a given scale.
    pub fn as_floats(&self, input_scale: f32) -> Layer {
        let per_output = self.weight.len() / self.bias.len().max(1);
        let rows = self.weight.chunks_exact(per_output).zip(&self.scales);
        let weight = rows.flat_map(|(row, s)| row.iter().map(move |&w| f32::from(w) * s));
        let step = |s: &f32| f64::from(input_scale) * f64::from(*s);
        let bias = self.bias.iter().zip(&self.scales);
        Layer {
            weight: weight.collect(),
            bias: bias.map(|(&b, s)| (f64::from(b) * step(s)) as f32).collect(),
        }
    }
}

impl Quantized {
    /// The steps that an integer convolution reads.
    pub fn input_steps(&self, architecture: &Architecture, conv: usize) -> Option<Affine> {
        self.steps.get(&source(architecture, conv)).copied()
    }

    /// The network with the roundings of this scheme.
    pub fn forward<'a>(&self, network: &'a Network) -> Forward<'a> {
        let architecture = network.architecture();
        let mut layers = Layers::new();
        let mut inputs = BTreeMap::new();
        for (&at, convolution) in &self.convolutions {
            match (convolution, self.input_steps(architecture, at)) {
                (Convolution::Integer(layer), Some(steps)) => {
                    layers.insert(at, layer.as_floats(steps.scale));
                    inputs.insert(at, steps);
                }
                (Convolution::Float(layer), _) => drop(layers.insert(at, layer.clone())),
                (Convolution::Integer(_), None) => {}
            }
        }
        Forward::new(network, &layers, inputs)
    }
}

/// The node whose values a convolution reads: pools between pass steps through.
pub fn source(architecture: &Architecture, conv: usize) -> usize {
    let mut at = architecture.nodes[conv].inputs[0];
    while matches!(architecture.nodes[at].op, Op::MaxPool { .. } | Op::Dropout { .. }) {
        at = architecture.nodes[at].inputs[0];
    }
    at
}

/// The nodes that integer convolutions read.
pub fn sources(architecture: &Architecture, float: &BTreeSet<usize>) -> BTreeSet<usize> {
    let integer = convolutions(architecture).filter(|at| !float.contains(at));
    integer.map(|at| source(architecture, at)).collect()
}

/// Whether every reader of a node's output is an integer convolution, directly or through pools.
pub fn read_as_steps(
    architecture: &Architecture,
    at: usize,
    integer: &dyn Fn(usize) -> bool,
) -> bool {
    let mut readers = architecture.nodes.iter().enumerate().filter(|(_, n)| n.inputs.contains(&at));
    at != architecture.cam
        && readers.all(|(reader, node)| match node.op {
            Op::Conv(_) => integer(reader),
            Op::MaxPool { .. } | Op::Dropout { .. } => read_as_steps(architecture, reader, integer),
            _ => false,
        })
}

/// Position whose output a convolution writes: behind its batch normalisation and, where that is
/// its only reader, its ReLU.
pub fn fused_end(architecture: &Architecture, conv: usize) -> usize {
    let end = norm_behind(architecture, conv).unwrap_or(conv);
    let users: Vec<usize> = (0..architecture.nodes.len())
        .filter(|&n| architecture.nodes[n].inputs.contains(&end))
        .collect();
    match users[..] {
        [user] if architecture.nodes[user].op == Op::Relu => user,
        _ => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_inner_tensors_are_read_as_steps_alone() {
        let architecture = Architecture::new("resnet50-v1".parse().expect("known"));
        let at = |name: &str| architecture.position(name).expect("exists");
        let read = |name: &str| read_as_steps(&architecture, at(name), &|_| true);
        assert!(read("relu1") && read("pool1") && read("layer2.1.relu1"));
        assert!(!read("layer1.0.relu3") && !read("layer1.0.bn3") && !read("layer4.2.relu3"));
        let downsample = at("layer1.0.downsample.0");
        assert!(!read_as_steps(&architecture, at("relu1"), &|conv| conv != downsample));
        assert_eq!(source(&architecture, downsample), at("relu1"));
    }
}
