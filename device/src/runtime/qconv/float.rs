//! Convolution in real numbers, for the few layers that quantization would cost too much.
//!
//! Each output is one sum in a fixed order, without fused multiply-adds, so that every kernel gives
//! the same bytes here too.

use super::kernel::Chunk;
use super::pack::{BLOCK, Weights, group_blocks};
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
    pub fn new(weights: &Weights<'_, f32>, bias: Vec<[f32; BLOCK]>, input: &Canvas) -> Self {
        let runs = direct::runs(weights.shape, input);
        let chunks = runs.iter().map(|run| Chunk { offset: run.offset, steps: run.len }).collect();
        let packed = direct::packed(weights, &runs, 1);
        Self { shape: *weights.shape, chunks, weights: packed, bias }
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
