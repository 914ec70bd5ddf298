//! The convolution in plain Rust, written so that the compiler vectorises it on any target.
//!
//! The inner loop takes the sixteen dot products of four output pixels with four output channels
//! at once, along the run. Compilers turn such sums of products of `i16` into the widening
//! multiply-accumulate of the target (`SMLAL` on AArch64, `PMADDWD` on x86).

use std::ops::Range;

use super::BlockRange;
use super::pack::{BLOCK, packed_row_len};
use super::shape::{ConvShape, Plane};

/// Output pixels, and output channels, whose dot products are taken together.
const SIDE: usize = 4;

/// Run values per group of packed weights: a channel's whole run lies together.
pub(super) fn lanes(shape: &ConvShape) -> usize {
    shape.run()
}

/// Widens input rows from `first_row` on into `out`, whole padded rows, as `x - x_zero`.
pub(super) fn widen_rows(x: &[i8], x_zero: i8, plane: &Plane, first_row: usize, out: &mut [i16]) {
    let [_, left, _, right] = plane.shape.padding;
    let channels = plane.shape.input_channels;
    for (index, row) in out.chunks_exact_mut(plane.row_len()).enumerate() {
        let start = (first_row + index) * plane.width;
        let end = row.len() - right * channels;
        row[..left * channels].fill(0);
        row[end..].fill(0);
        for (channel, samples) in x.chunks_exact(plane.height * plane.width).enumerate() {
            let pixels = row[left * channels..end].chunks_exact_mut(channels);
            for (pixel, &sample) in pixels.zip(&samples[start..start + plane.width]) {
                pixel[channel] = i16::from(sample) - i16::from(x_zero);
            }
        }
    }
}

/// Computes a range of output-channel blocks; `y` is their part of the output.
pub(super) fn convolve(range: &BlockRange<'_>, y: &mut [i8]) {
    let pixels = range.plane.output_pixels();
    let band = range.plane.band(SIDE);
    for band_start in (0..pixels).step_by(band) {
        let band_end = pixels.min(band_start + band);
        for (index, channels) in y.chunks_mut(BLOCK * pixels).enumerate() {
            for first in (band_start..band_end).step_by(SIDE) {
                let count = SIDE.min(band_end - first);
                compute_tile(range, index, first..first + count, channels);
            }
        }
    }
}

/// Computes up to [`SIDE`] adjacent pixels of one block; `channels` are the block's lines.
fn compute_tile(range: &BlockRange<'_>, index: usize, pixels: Range<usize>, channels: &mut [i8]) {
    // Past the last pixel the last offset is repeated; those sums are not stored.
    let mut offsets = [0; SIDE];
    for (i, offset) in range.plane.offsets(pixels.start).take(pixels.len()).enumerate() {
        offsets[i..].fill(offset);
    }
    let sums = accumulate(range, index, &offsets);
    let lines = channels.chunks_exact_mut(range.plane.output_pixels());
    for (channel, line) in lines.enumerate() {
        let multiplier = range.multipliers[index][channel];
        for (out, sum) in line[pixels.clone()].iter_mut().zip(&sums) {
            *out = requantize(sum[channel], multiplier, range.y_zero);
        }
    }
}

/// The exact sums of one block for four output pixels.
fn accumulate(
    range: &BlockRange<'_>,
    index: usize,
    offsets: &[usize; SIDE],
) -> [[i32; BLOCK]; SIDE] {
    let shape = &range.plane.shape;
    let run = shape.run();
    let row_weights = packed_row_len(shape, lanes(shape));
    let block_weights = row_weights * shape.kernel[0];
    let weights = &range.weights[index * block_weights..(index + 1) * block_weights];
    let mut sums = [range.bias[index]; SIDE];
    for (ky, weights) in weights.chunks_exact(row_weights).enumerate() {
        let row = &range.input[ky * range.plane.row_len()..];
        let values = offsets.map(|offset| &row[offset..offset + run]);
        for (index, weights) in weights.chunks_exact(SIDE * run).enumerate() {
            let weights = std::array::from_fn(|i| &weights[i * run..(i + 1) * run]);
            let products = dot_products(values, weights, run);
            for (sums, products) in sums.iter_mut().zip(products) {
                for (sum, product) in sums[index * SIDE..].iter_mut().zip(products) {
                    *sum += product;
                }
            }
        }
    }
    sums
}

/// The dot products, each over `run` values, of every pixel with every channel.
fn dot_products(
    pixels: [&[i16]; SIDE],
    channels: [&[i8]; SIDE],
    run: usize,
) -> [[i32; SIDE]; SIDE] {
    let pixels = pixels.map(|values| &values[..run]);
    let channels = channels.map(|weights| &weights[..run]);
    let mut sums = [[0; SIDE]; SIDE];
    for k in 0..run {
        for (sums, values) in sums.iter_mut().zip(pixels) {
            for (sum, weights) in sums.iter_mut().zip(channels) {
                *sum += i32::from(values[k]) * i32::from(weights[k]);
            }
        }
    }
    sums
}

/// `clamp(round_ties_even(sum * multiplier) + zero, -128, 127)`.
///
/// Clamping first gives the same value, because the bounds are whole, and keeps the conversion
/// in range.
fn requantize(sum: i32, multiplier: f32, zero: i8) -> i8 {
    let zero = f32::from(zero);
    let scaled = (sum as f32 * multiplier).clamp(-128.0 - zero, 127.0 - zero);
    (scaled.round_ties_even() + zero) as i8
}
