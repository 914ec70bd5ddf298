//! Channel equalisation: rescales the channels between convolutions so that all of a tensor's
//! channels fill the one range that its steps cover.
//!
//! ReLU, maximum and sum pass a positive factor through, so a channel may be divided by `s` where
//! it is made and multiplied by `s` where it is read: the float function stays what it is (Nagel et
//! al. 2019, arXiv 1906.04721). There `s` balances weight ranges; weights here have a scale per
//! output channel, so `s` is the channel's largest activation instead. Every channel of a residual
//! stream is tied over all of its blocks.

use std::collections::BTreeMap;

use models::arch::{Architecture, Op};

use super::forward::{Layers, convolutions};

/// Channels weaker than this part of the strongest are treated as if they had it: they carry
/// little, and large factors would blow up their readers' weights.
const WEAKEST: f32 = 1e-3;

/// Largest magnitude of each channel, by node.
pub type Magnitudes = BTreeMap<usize, Vec<f32>>;

/// Tensors whose channels must share their factors.
#[derive(Debug, Default)]
struct Group {
    producers: Vec<usize>,
    readers: Vec<usize>,
}

/// Rescales all layers in place; returns every node's channel factors, by which its values are
/// now divided. Nodes without an entry keep their values.
pub fn equalize(
    architecture: &Architecture,
    layers: &mut Layers,
    magnitudes: &Magnitudes,
) -> BTreeMap<usize, Vec<f32>> {
    let owner = owners(architecture);
    let mut factors_by_node = BTreeMap::new();
    for (root, group) in groups(architecture, &owner) {
        let factors = factors(architecture, &group, magnitudes);
        if factors.is_empty() {
            continue;
        }
        for at in &group.producers {
            if let Some(layer) = layers.get_mut(at) {
                let fan_in = layer.weight.len() / layer.bias.len();
                layer.bias.iter_mut().zip(&factors).for_each(|(b, s)| *b /= s);
                let rows = layer.weight.chunks_exact_mut(fan_in);
                rows.zip(&factors).for_each(|(row, s)| row.iter_mut().for_each(|w| *w /= s));
            }
        }
        for at in &group.readers {
            if let (Some(layer), Op::Conv(conv)) = (layers.get_mut(at), &architecture.nodes[*at].op)
            {
                let area = conv.kernel * conv.kernel;
                let columns = layer.weight.chunks_exact_mut(area);
                let factors = factors.iter().cycle();
                columns.zip(factors).for_each(|(w, s)| w.iter_mut().for_each(|w| *w *= s));
            }
        }
        let members = (0..owner.len()).filter(|&at| owner[at] == root);
        factors_by_node.extend(members.map(|at| (at, factors.clone())));
    }
    factors_by_node
}

/// One factor per channel, their geometric mean 1.
fn factors(architecture: &Architecture, group: &Group, magnitudes: &Magnitudes) -> Vec<f32> {
    let mut largest: Vec<f32> = Vec::new();
    for at in &group.readers {
        if let Some(channels) = magnitudes.get(&architecture.nodes[*at].inputs[0]) {
            largest.resize(channels.len(), 0.0);
            largest.iter_mut().zip(channels).for_each(|(l, c)| *l = l.max(*c));
        }
    }
    let floor = largest.iter().fold(0.0f32, |m, &v| m.max(v)) * WEAKEST;
    if floor <= 0.0 {
        return vec![];
    }
    largest.iter_mut().for_each(|l| *l = l.max(floor));
    let mean = largest.iter().map(|l| f64::from(*l).ln()).sum::<f64>() / largest.len() as f64;
    largest.iter().map(|l| l / mean.exp() as f32).collect()
}

/// Makers and readers of each set of tied tensors, by its root; none that touches the network's
/// input or the captured layer, whose values have a meaning outside.
fn groups(architecture: &Architecture, owner: &[usize]) -> BTreeMap<usize, Group> {
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    for at in convolutions(architecture) {
        groups.entry(owner[at]).or_default().producers.push(at);
        let input = architecture.nodes[at].inputs[0];
        groups.entry(owner[input]).or_default().readers.push(at);
    }
    let fixed = [owner[0], owner[architecture.cam]];
    groups.retain(|root, group| !fixed.contains(root) && !group.producers.is_empty());
    groups
}

/// For every node, the first node whose channels it is tied to.
fn owners(architecture: &Architecture) -> Vec<usize> {
    let mut owner: Vec<usize> = (0..architecture.nodes.len()).collect();
    for (at, node) in architecture.nodes.iter().enumerate() {
        if matches!(node.op, Op::Conv(_) | Op::Linear { .. } | Op::Flatten | Op::Input) {
            continue;
        }
        for &input in &node.inputs {
            let (a, b) = (owner[at], owner[input]);
            let (low, high) = (a.min(b), a.max(b));
            owner.iter_mut().filter(|o| **o == high).for_each(|o| *o = low);
        }
    }
    owner
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::forward::{Forward, folded_layers};
    use crate::quantize::observe::channel_extremes;
    use crate::train::network::Network;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn equalisation_leaves_the_float_function_unchanged_and_evens_the_channels() {
        for kind in ["resnet50-v1-stage4", "vgg16-gap-bn"] {
            let architecture = Architecture::new(kind.parse().expect("known"));
            let network = Network::random(architecture, 5, Device::Cpu);
            let image = Tensor::randn([1, 1, 64, 64], (Kind::Float, Device::Cpu));
            let mut layers = folded_layers(&network).expect("folds");
            let before = Forward::new(&network, &layers, BTreeMap::new());
            let extremes = channel_extremes(&before, &image, &|| {});
            let magnitudes = extremes.magnitudes();
            let architecture = network.architecture();
            let factors = equalize(architecture, &mut layers, &magnitudes);
            assert!(!factors.contains_key(&architecture.cam) && !factors.contains_key(&0));
            let after = Forward::new(&network, &layers, BTreeMap::new());
            let logits = before.run(&image, &mut |_, _| {});
            let gap = (after.run(&image, &mut |_, _| {}) - &logits).abs().max().double_value(&[]);
            assert!(gap < 1e-3 * logits.abs().max().double_value(&[]).max(1.0), "{kind}: {gap}");
            let evened = channel_extremes(&after, &image, &|| {}).magnitudes();
            let reader = convolutions(architecture).nth(1).expect("second convolution");
            let input = architecture.nodes[reader].inputs[0];
            let spread = |m: &Magnitudes| {
                let live: Vec<f32> = m[&input].iter().copied().filter(|v| *v > 0.0).collect();
                live.iter().fold(0.0f32, |a, &b| a.max(b))
                    / live.iter().fold(f32::MAX, |a, &b| a.min(b))
            };
            assert!(spread(&evened) < spread(&magnitudes), "{kind}");
        }
    }
}
