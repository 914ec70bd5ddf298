//! Weights and per-channel constants in the order the kernels read them.

use super::shape::ConvShape;

/// Output channels computed together.
pub(super) const BLOCK: usize = 16;

/// A layer's constants, its output channels padded with zeros to whole blocks.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    /// `[block][kernel row][group of the run][BLOCK][lanes]`: see [`pack_weights`].
    pub weights: Vec<i8>,
    /// `[block][BLOCK]`.
    pub bias: Vec<[i32; BLOCK]>,
    /// `[block][BLOCK]`: accumulator units to output units.
    pub multipliers: Vec<[f32; BLOCK]>,
}

/// Reorders `[oc, ic, kh, kw]` weights to `[oc / BLOCK][kh][run / lanes][BLOCK][lanes]`.
///
/// The run is `(kw, ic)` flattened, as the widened input holds it; the last group of `lanes` and
/// the last block are filled with zeros.
pub(super) fn pack_weights(weights: &[i8], shape: &ConvShape, lanes: usize) -> Vec<i8> {
    let [kernel_height, kernel_width] = shape.kernel;
    let row_len = packed_row_len(shape, lanes);
    let blocks = shape.output_channels.div_ceil(BLOCK);
    let mut packed = vec![0; blocks * kernel_height * row_len];
    let mut source = weights.iter();
    for oc in 0..shape.output_channels {
        for ic in 0..shape.input_channels {
            for ky in 0..kernel_height {
                let row = ((oc / BLOCK) * kernel_height + ky) * row_len;
                for kx in 0..kernel_width {
                    let k = kx * shape.input_channels + ic;
                    let group = row + (k / lanes) * BLOCK * lanes;
                    if let Some(&weight) = source.next() {
                        packed[group + (oc % BLOCK) * lanes + k % lanes] = weight;
                    }
                }
            }
        }
    }
    packed
}

/// Packed weights of one block under one kernel row.
pub(super) fn packed_row_len(shape: &ConvShape, lanes: usize) -> usize {
    shape.run().div_ceil(lanes) * lanes * BLOCK
}

/// Cuts per-channel values into blocks, the last one filled with `T::default()`.
pub(super) fn pack_channels<T: Copy + Default>(values: &[T]) -> Vec<[T; BLOCK]> {
    values
        .chunks(BLOCK)
        .map(|chunk| {
            let mut block = [T::default(); BLOCK];
            block[..chunk.len()].copy_from_slice(chunk);
            block
        })
        .collect()
}
