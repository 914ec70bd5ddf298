//! How much each layer's quantization alone disturbs the logits, and which layers a budget of float
//! arithmetic is best spent on.

use std::collections::BTreeMap;

use models::arch::{Architecture, Node, Op};
use models::preprocess::SIDE;
use tch::{Kind, Tensor};

use super::forward::{Forward, convolutions};
use super::scheme::{Convolution, Quantized};
use crate::train::network::Network;

/// Mean squared logit error by convolution, when only that one computes in integers.
pub fn sensitivities(
    network: &Network,
    quantized: &Quantized,
    images: &Tensor,
    progress: &dyn Fn(),
) -> BTreeMap<usize, f64> {
    let architecture = network.architecture();
    let logits = |forward: &Forward<'_>| -> Vec<Tensor> {
        let run = |image: &Tensor| {
            progress();
            forward.run(image, &mut |_, _| {})
        };
        images.split(1, 0).iter().map(run).collect()
    };
    let truth = logits(&Forward::new(network, &quantized.origin, BTreeMap::new()));
    let mut errors = BTreeMap::new();
    let mut mixed = quantized.origin.clone();
    for at in convolutions(architecture) {
        let (Some(Convolution::Integer(layer)), Some(steps)) =
            (quantized.convolutions.get(&at), quantized.input_steps(architecture, at))
        else {
            continue;
        };
        let float = mixed.insert(at, layer.as_floats(steps.scale));
        let only = logits(&Forward::new(network, &mixed, BTreeMap::from([(at, steps)])));
        mixed.extend(float.map(|layer| (at, layer)));
        let squared = |(a, b): (&Tensor, &Tensor)| {
            let gap = a - b;
            (&gap * &gap).mean(Kind::Double).double_value(&[])
        };
        let sum: f64 = only.iter().zip(&truth).map(squared).sum();
        errors.insert(at, sum / truth.len().max(1) as f64);
    }
    errors
}

/// The convolutions to keep in float, within a part of all multiply-adds: greedily those that lose
/// most for what they cost.
pub fn chosen_within(
    architecture: &Architecture,
    errors: &BTreeMap<usize, f64>,
    budget: f64,
) -> Vec<usize> {
    let costs = multiply_adds(architecture);
    let mut left = budget * costs.values().sum::<u64>() as f64;
    let worth = |at: usize| errors[&at] / costs[&at].max(1) as f64;
    let mut order: Vec<usize> = errors.keys().copied().collect();
    order.sort_by(|&a, &b| worth(b).total_cmp(&worth(a)));
    order.retain(|at| {
        let fits = costs[at] as f64 <= left;
        left -= if fits { costs[at] as f64 } else { 0.0 };
        fits
    });
    order
}

/// Multiply-adds of every convolution for one picture.
pub fn multiply_adds(architecture: &Architecture) -> BTreeMap<usize, u64> {
    let sides = output_sides(architecture);
    let cost = |(at, node): (usize, &Node)| match node.op {
        Op::Conv(c) => {
            let per_position = c.inputs * c.outputs * c.kernel * c.kernel;
            Some((at, (per_position * sides[at] * sides[at]) as u64))
        }
        _ => None,
    };
    architecture.nodes.iter().enumerate().filter_map(cost).collect()
}

/// Height and width of every node's output for one picture.
pub fn output_sides(architecture: &Architecture) -> Vec<usize> {
    let mut sides = vec![SIDE as usize; architecture.nodes.len()];
    for (at, node) in architecture.nodes.iter().enumerate().skip(1) {
        let side = sides[node.inputs[0]];
        sides[at] = match node.op {
            Op::Conv(c) => (side + 2 * c.padding - c.kernel) / c.stride + 1,
            Op::MaxPool { kernel, stride, padding: [before, after] } => {
                (side + before + after - kernel) / stride + 1
            }
            _ => side,
        };
    }
    sides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiply_adds_are_the_published_ones() {
        let total = |kind: &str| {
            let all = multiply_adds(&Architecture::new(kind.parse().expect("known")));
            all.values().sum::<u64>() as f64 / 1e9
        };
        // Torchvision counts 4.09 G for ResNet50 and 15.47 G for VGG16 with three input channels
        // and 1,000 classes; two channels fewer in the first convolution, and no linear layers.
        let (resnet, vgg) = (total("resnet50-v1.5"), total("vgg16-gap"));
        assert!((resnet - (4.089 - 0.0787 - 0.002)).abs() < 0.002, "{resnet}");
        assert!((vgg - (15.47 - 0.0578 - 0.1236)).abs() < 0.01, "{vgg}");
    }

    #[test]
    fn a_budget_goes_to_what_loses_most_for_its_cost() {
        let architecture = Architecture::new("resnet50-v1".parse().expect("known"));
        let costs = multiply_adds(&architecture);
        let total: u64 = costs.values().sum();
        let mut errors: BTreeMap<usize, f64> = costs.keys().map(|&at| (at, 1e-9)).collect();
        let at = |name: &str| architecture.position(name).expect("exists");
        errors.insert(at("conv1"), 1e-3);
        errors.insert(at("layer1.0.downsample.0"), 2e-4);
        let chosen = chosen_within(&architecture, &errors, 0.03);
        assert_eq!(chosen[..2], [at("conv1"), at("layer1.0.downsample.0")]);
        let spent: u64 = chosen.iter().map(|at| costs[at]).sum();
        assert!(spent as f64 <= 0.03 * total as f64);
        assert!(chosen_within(&architecture, &errors, 0.0).is_empty());
    }
}
