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

impl<T: Copy + Default> Weights<'_, T> {
    /// One weight; 0 past the last output channel of the group, to fill up its last block.
    pub fn at(&self, group: usize, output: usize, input: usize, ky: usize, kx: usize) -> T {
        let ConvShape { kernel: [height, width], .. } = *self.shape;
        if output >= self.shape.group_outputs() {
            return T::default();
        }
        let oc = group * self.shape.group_outputs() + output;
        self.values[((oc * self.shape.group_inputs() + input) * height + ky) * width + kx]
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
