//! Weights and per-channel constants in the order the kernels read them.

use super::shape::ConvShape;

/// Output channels computed together.
pub(super) const BLOCK: usize = 16;

/// Reads weights `[oc, ic / groups, kh, kw]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights<'a, T = i8> {
    pub shape: &'a ConvShape,
    pub values: &'a [T],
}

impl<T> Weights<'_, T> {
    /// The weights of an output channel, `[ic / groups, kh, kw]`; none past the last channel of the
    /// group, whose last block is filled up with zeros.
    pub fn of(&self, group: usize, output: usize) -> &[T] {
        if output >= self.shape.group_outputs() {
            return &[];
        }
        let len = self.shape.weights_per_output();
        &self.values[(group * self.shape.group_outputs() + output) * len..][..len]
    }
}

/// Blocks of output channels per group.
pub(super) fn group_blocks(shape: &ConvShape) -> usize {
    shape.group_outputs().div_ceil(BLOCK)
}

/// Cuts per-channel values into blocks, each group's last one filled with `T::default()`.
pub(super) fn pack_channels<T: Copy + Default>(values: &[T], shape: &ConvShape) -> Vec<[T; BLOCK]> {
    let mut blocks = Vec::with_capacity(shape.groups * group_blocks(shape));
    for group in values.chunks_exact(shape.group_outputs()) {
        for chunk in group.chunks(BLOCK) {
            let mut block = [T::default(); BLOCK];
            block[..chunk.len()].copy_from_slice(chunk);
            blocks.push(block);
        }
    }
    blocks
}
