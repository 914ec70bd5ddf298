//! Post-training int8: activation ranges from calibration images, per-channel weights.
//!
//! Activations are `i8` per tensor, asymmetric; behind a ReLU the zero point is -128, so that all
//! 8 bits carry the positive range. Weights are `i8` per output channel, symmetric. Biases are
//! `i32` at the product of both scales. What lies behind the captured layer stays in float.

use models::arch::Architecture;
use tch::Tensor;

use crate::export::fold::Layer;
use crate::train::network::{Mode, Network};

/// Smallest and largest value of every node's output over the calibration images.
#[derive(Clone, Debug)]
pub struct Ranges {
    by_node: Vec<[f32; 2]>,
}

/// Scale and zero point of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Real value of one step.
    pub scale: f32,
    /// The step that means 0.
    pub zero: i8,
}

/// A layer in integers.
#[derive(Clone, Debug)]
pub struct QuantizedLayer {
    /// Steps, in the order of the float weights.
    pub weight: Vec<i8>,
    /// Real value of one step, per output channel.
    pub scales: Vec<f32>,
    /// Bias in steps of input scale times weight scale.
    pub bias: Vec<i32>,
}

impl Ranges {
    /// Runs preprocessed images `[count, 1, SIDE, SIDE]` through the network and keeps the
    /// extremes (MinMax calibration).
    pub fn observe(network: &Network, images: &Tensor) -> Self {
        let count = network.architecture().nodes.len();
        let mut by_node = vec![[f32::INFINITY, f32::NEG_INFINITY]; count];
        for image in images.split(1, 0) {
            let image = image.to_device(network.device());
            let mut widen = |at: usize, value: &Tensor| {
                let [low, high]: &mut [f32; 2] = &mut by_node[at];
                *low = low.min(value.min().double_value(&[]) as f32);
                *high = high.max(value.max().double_value(&[]) as f32);
            };
            tch::no_grad(|| network.forward_observed(&image, Mode::Evaluate, &mut widen));
        }
        Self { by_node }
    }

    /// Scale and zero point that cover a node's outputs and zero.
    pub fn affine(&self, at: usize) -> Affine {
        let [low, high] = self.by_node[at];
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = ((high - low) / 255.0).max(f32::MIN_POSITIVE * 1e6);
        Affine { scale, zero: (-128.0 - low / scale).round().clamp(-128.0, 127.0) as i8 }
    }
}

/// A float layer in integers, for inputs of a given scale.
pub fn quantized(layer: &Layer, input_scale: f32) -> QuantizedLayer {
    let per_output = layer.weight.len() / layer.bias.len().max(1);
    let mut quantized = QuantizedLayer { weight: vec![], scales: vec![], bias: vec![] };
    for (weights, &bias) in layer.weight.chunks_exact(per_output).zip(&layer.bias) {
        let largest = weights.iter().fold(0.0f32, |m, w| m.max(w.abs()));
        // The floor keeps the bias of a channel with tiny weights within 32 bits.
        let floor = bias.abs() / (input_scale * (1u32 << 29) as f32);
        let scale = (largest / 127.0).max(floor).max(1e-12);
        quantized.scales.push(scale);
        quantized.weight.extend(weights.iter().map(|w| (w / scale).round() as i8));
        let steps = f64::from(bias) / (f64::from(input_scale) * f64::from(scale));
        quantized.bias.push(steps.round() as i32);
    }
    quantized
}

/// Position whose output a quantized convolution writes: behind its batch normalisation and, where
/// that is its only user, its ReLU.
pub fn fused_end(architecture: &Architecture, conv: usize) -> usize {
    let end = crate::export::fold::norm_behind(architecture, conv).unwrap_or(conv);
    let users: Vec<usize> = (0..architecture.nodes.len())
        .filter(|&n| architecture.nodes[n].inputs.contains(&end))
        .collect();
    match users[..] {
        [user] if architecture.nodes[user].op == models::arch::Op::Relu => user,
        _ => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_survives_within_half_a_step() {
        let layer =
            Layer { weight: vec![1.0, -0.5, 0.25, 0.0, 0.001, 0.002], bias: vec![0.3, -4.0] };
        let q = quantized(&layer, 0.1);
        for (i, w) in layer.weight.iter().enumerate() {
            let scale = q.scales[i / 3];
            assert!((f32::from(q.weight[i]) * scale - w).abs() <= scale / 2.0);
        }
        for (c, bias) in layer.bias.iter().enumerate() {
            let step = 0.1 * q.scales[c];
            assert!((q.bias[c] as f32 * step - bias).abs() <= step);
        }
    }

    #[test]
    fn a_relu_range_uses_all_steps() {
        let ranges = Ranges { by_node: vec![[0.0, 2.55], [-1.0, 1.55]] };
        assert_eq!(ranges.affine(0).zero, -128);
        assert_eq!(ranges.affine(1).zero, -28);
    }
}
