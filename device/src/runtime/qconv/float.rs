//! Convolution in real numbers, for the few layers that quantization would cost too much.
//!
//! Each output is one sum in a fixed order, without fused multiply-adds, so that every kernel gives
//! the same bytes here too.

use super::kernel::Chunk;
use super::pack::{BLOCK, group_blocks};
use super::shape::{Canvas, ConvShape};
use super::{Finish, Layer, Target, Worker, direct};

/// A convolution's weights, and where its input values lie.
#[derive(Clone, Debug)]
pub(super) struct Float {
    shape: ConvShape,
    /// Runs of values under the kernel; a step is one value.
    chunks: Vec<Chunk>,
    /// `[group][block][value][BLOCK]`.
    weights: Vec<f32>,
    /// One for each block of output channels.
    bias: Vec<[f32; BLOCK]>,
}

impl Float {
    /// Packs weights `[oc, ic / groups, kh, kw]`.
    pub fn new(shape: ConvShape, weights: &[f32], bias: Vec<[f32; BLOCK]>, input: &Canvas) -> Self {
        let runs = direct::runs(&shape, input);
        let chunks = runs.iter().map(|run| Chunk { offset: run.offset, steps: run.len }).collect();
        let inputs = shape.group_inputs();
        let [height, width] = shape.kernel;
        let mut packed = Vec::with_capacity(bias.len() * shape.weights_per_output() * BLOCK);
        for block in 0..bias.len() {
            let group = block / group_blocks(&shape);
            for run in &runs {
                for k in 0..run.len {
                    let (kx, input) = (run.kx + k / inputs, k % inputs);
                    packed.extend((0..BLOCK).map(|channel| {
                        let output = block % group_blocks(&shape) * BLOCK + channel;
                        let oc = group * shape.group_outputs() + output;
                        let at = ((oc * inputs + input) * height + run.ky) * width + kx;
                        if output < shape.group_outputs() { weights[at] } else { 0.0 }
                    }));
                }
            }
        }
        Self { shape, chunks, weights: packed, bias }
    }

    /// Does one of so many pieces: a band of output pixels for some blocks of output channels.
    pub fn run(
        &self,
        layer: &Layer,
        piece: (usize, usize),
        x: &[f32],
        target: &Target<'_>,
        worker: &mut Worker,
    ) {
        let block_len = self.shape.weights_per_output() * BLOCK;
        for block in direct::begin(layer, piece, target, worker) {
            let group = block / group_blocks(&self.shape);
            let x = &x[group * self.shape.group_inputs()..];
            let weights = &self.weights[block * block_len..][..block_len];
            target.load(layer, block, worker);
            let Worker { starts, reals, .. } = worker;
            let Finish::Reals(to) = &layer.constants[block].finish else { return };
            let bias = &self.bias[block];
            layer.backend.multiply_reals(x, starts, &self.chunks, weights, bias, to.floor, reals);
            target.store(layer, block, worker);
        }
    }
}
