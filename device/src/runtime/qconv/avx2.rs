//! The convolution for x86-64 with AVX2.
//!
//! Six output pixels times sixteen output channels are accumulated at once in twelve registers.
//! Input values are taken two at a time: a pair is broadcast, multiplied with sixteen pairs of
//! weights and added up in place by `VPMADDWD`, which is exact for `i16` operands of this range.

#![allow(unsafe_code, reason = "vector instructions on raw pointers; each block states its proof")]

use std::arch::x86_64::*;

use super::BlockRange;
use super::pack::{BLOCK, packed_row_len};
use super::shape::Plane;

/// Run values per group of packed weights: the pair that one multiply-add consumes.
pub(super) const LANES: usize = 2;

/// Output pixels accumulated together.
const TILE: usize = 6;

/// Output pixels staged before they are written channel by channel: whole tiles and whole
/// transpositions.
const GROUP: usize = 48;

/// Proof that this processor has AVX2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

impl Avx2 {
    pub fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    /// Widens input rows from `first_row` on into `out`, whole padded rows, as `x - x_zero`.
    pub fn widen_rows(
        self,
        x: &[i8],
        x_zero: i8,
        plane: &Plane,
        first_row: usize,
        out: &mut [i16],
    ) {
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { widen_rows(x, x_zero, plane, first_row, out) }
    }

    /// Computes a range of output-channel blocks; `y` is their part of the output.
    pub fn convolve(self, range: &BlockRange<'_>, y: &mut [i8]) {
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { convolve(range, y) }
    }
}

#[target_feature(enable = "avx2")]
fn convolve(range: &BlockRange<'_>, y: &mut [i8]) {
    let pixels = range.plane.output_pixels();
    let band = range.plane.band(GROUP);
    for band_start in (0..pixels).step_by(band) {
        let band_end = pixels.min(band_start + band);
        for (index, channels) in y.chunks_mut(BLOCK * pixels).enumerate() {
            let block = Block::new(range, index);
            for first in (band_start..band_end).step_by(GROUP) {
                let count = GROUP.min(band_end - first);
                let mut staged = [[0; BLOCK]; GROUP];
                block.compute_group(first, &mut staged[..count]);
                store_group(&staged, first, count, channels, pixels);
            }
        }
    }
}

/// Sixteen output channels.
struct Block<'a> {
    plane: &'a Plane,
    input: &'a [i16],
    weights: &'a [i8],
    bias: &'a [i32; BLOCK],
    multipliers: &'a [f32; BLOCK],
    y_zero: i8,
}

impl<'a> Block<'a> {
    fn new(range: &BlockRange<'a>, index: usize) -> Self {
        let shape = &range.plane.shape;
        let len = packed_row_len(shape, LANES) * shape.kernel[0];
        Self {
            plane: range.plane,
            input: range.input,
            weights: &range.weights[index * len..(index + 1) * len],
            bias: &range.bias[index],
            multipliers: &range.multipliers[index],
            y_zero: range.y_zero,
        }
    }

    /// Computes adjacent output pixels from `first` on: `out[pixel][channel]`.
    #[target_feature(enable = "avx2")]
    fn compute_group(&self, first: usize, out: &mut [[i8; BLOCK]]) {
        let mut offsets = self.plane.offsets(first);
        for tile in out.chunks_mut(TILE) {
            let mut starts = [0; TILE];
            for (start, offset) in starts.iter_mut().zip(offsets.by_ref().take(tile.len())) {
                *start = offset;
            }
            match tile.len() {
                1 => self.compute_tile::<1>(&starts, tile),
                2 => self.compute_tile::<2>(&starts, tile),
                3 => self.compute_tile::<3>(&starts, tile),
                4 => self.compute_tile::<4>(&starts, tile),
                5 => self.compute_tile::<5>(&starts, tile),
                _ => self.compute_tile::<TILE>(&starts, tile),
            }
        }
    }

    /// Computes `P` output pixels whose inputs begin at the first `P` offsets.
    #[target_feature(enable = "avx2")]
    fn compute_tile<const P: usize>(&self, starts: &[usize; TILE], out: &mut [[i8; BLOCK]]) {
        let rows = self.plane.shape.kernel[0];
        let pairs = self.plane.shape.run().div_ceil(LANES);
        let row_len = self.plane.row_len();
        let reach = (rows - 1) * row_len + pairs * LANES;
        assert!(starts[..P].iter().all(|start| start + reach <= self.input.len()));
        assert_eq!(self.weights.len(), rows * pairs * LANES * BLOCK);
        let [bias_low, bias_high] = load_channels(self.bias);
        let mut sums = [[bias_low, bias_high]; P];
        let mut weights = self.weights.as_ptr();
        for ky in 0..rows {
            let mut row = [self.input.as_ptr(); P];
            for (row, start) in row.iter_mut().zip(starts) {
                // SAFETY: `start + ky * row_len` is below `start + reach`, which the assertion
                // above bounds by the input's length.
                *row = unsafe { row.add(start + ky * row_len) };
            }
            for pair in 0..pairs {
                // SAFETY: the loops pass here `rows * pairs` times and read
                // `LANES * BLOCK` = 32 bytes of weights each time: in all the length asserted.
                let (low, high) = unsafe {
                    let low = _mm_loadu_si128(weights.cast());
                    let high = _mm_loadu_si128(weights.add(BLOCK).cast());
                    weights = weights.add(LANES * BLOCK);
                    (_mm256_cvtepi8_epi16(low), _mm256_cvtepi8_epi16(high))
                };
                for (sums, row) in sums.iter_mut().zip(row) {
                    // SAFETY: the two values end at most at `start + reach` (`ky < rows`,
                    // `pair < pairs`), which the assertion above bounds by the input's length.
                    let values = unsafe { row.add(pair * LANES).cast::<i32>().read_unaligned() };
                    let values = _mm256_set1_epi32(values);
                    sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(values, low));
                    sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(values, high));
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            self.requantize(sums, out);
        }
    }

    /// `clamp(round_ties_even(sum * multiplier) + y_zero, -128, 127)` for sixteen channels.
    ///
    /// Clamping first gives the same value, because the bounds are whole, and keeps the
    /// conversion, which rounds to nearest even, in range.
    #[target_feature(enable = "avx2")]
    fn requantize(&self, sums: [__m256i; 2], out: &mut [i8; BLOCK]) {
        let lowest = _mm256_set1_ps(-128.0 - f32::from(self.y_zero));
        let highest = _mm256_set1_ps(127.0 - f32::from(self.y_zero));
        let zero = _mm256_set1_epi32(i32::from(self.y_zero));
        let (multipliers, _) = self.multipliers.as_chunks::<8>();
        let mut whole = sums;
        for (value, multipliers) in whole.iter_mut().zip(multipliers) {
            // SAFETY: `multipliers` is eight `f32` long.
            let multipliers = unsafe { _mm256_loadu_ps(multipliers.as_ptr()) };
            let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(*value), multipliers);
            let clamped = _mm256_min_ps(_mm256_max_ps(scaled, lowest), highest);
            *value = _mm256_add_epi32(_mm256_cvtps_epi32(clamped), zero);
        }
        // Packing works within 128-bit halves: the permutation restores the channels' order.
        let words = _mm256_packs_epi32(whole[0], whole[1]);
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
        let low = _mm256_castsi256_si128(words);
        let high = _mm256_extracti128_si256::<1>(words);
        // SAFETY: `out` is sixteen bytes long.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), _mm_packs_epi16(low, high)) };
    }
}

#[target_feature(enable = "avx2")]
fn load_channels(values: &[i32; BLOCK]) -> [__m256i; 2] {
    let values = values.as_ptr();
    // SAFETY: sixteen `i32` are two times eight.
    unsafe { [_mm256_loadu_si256(values.cast()), _mm256_loadu_si256(values.add(8).cast())] }
}

/// Writes staged pixels `first..first + count` to the lines of a block's channels.
#[target_feature(enable = "avx2")]
fn store_group(
    staged: &[[i8; BLOCK]; GROUP],
    first: usize,
    count: usize,
    channels: &mut [i8],
    pixels: usize,
) {
    let (squares, _) = staged.as_chunks::<BLOCK>();
    for (index, square) in squares.iter().enumerate().take(count.div_ceil(BLOCK)) {
        let lines = transpose(square);
        let start = first + index * BLOCK;
        let len = BLOCK.min(count - index * BLOCK);
        for (channel, line) in channels.chunks_exact_mut(pixels).zip(&lines) {
            channel[start..start + len].copy_from_slice(&line[..len]);
        }
    }
}

#[target_feature(enable = "avx2")]
fn widen_rows(x: &[i8], x_zero: i8, plane: &Plane, first_row: usize, out: &mut [i16]) {
    let [_, left, _, right] = plane.shape.padding;
    let channels = plane.shape.input_channels;
    let area = plane.height * plane.width;
    let row_len = plane.row_len();
    for row in out.chunks_exact_mut(row_len) {
        row[..left * channels].fill(0);
        row[row_len - right * channels..].fill(0);
    }
    let first = first_row * plane.width;
    let end = first + out.len() / row_len * plane.width;
    // Where a pixel's channels lie in `out`.
    let place = |pixel: usize| {
        let (row, column) = ((pixel - first) / plane.width, pixel % plane.width);
        row * row_len + (left + column) * channels
    };
    let squares_end = end - (end - first) % BLOCK;
    for pixel in (first..squares_end).step_by(BLOCK) {
        let mut places = [0; BLOCK];
        for (i, slot) in places.iter_mut().enumerate() {
            *slot = place(pixel + i);
        }
        for channel in (0..channels - channels % BLOCK).step_by(BLOCK) {
            let mut square = [[0; BLOCK]; BLOCK];
            for (i, line) in square.iter_mut().enumerate() {
                let start = (channel + i) * area + pixel;
                line.copy_from_slice(&x[start..start + BLOCK]);
            }
            for (values, place) in transpose(&square).iter().zip(places) {
                widen(values, x_zero, &mut out[place + channel..place + channel + BLOCK]);
            }
        }
        for channel in channels - channels % BLOCK..channels {
            let start = channel * area + pixel;
            for (&value, place) in x[start..start + BLOCK].iter().zip(places) {
                out[place + channel] = i16::from(value) - i16::from(x_zero);
            }
        }
    }
    for pixel in squares_end..end {
        let place = place(pixel);
        for (channel, out) in out[place..place + channels].iter_mut().enumerate() {
            *out = i16::from(x[channel * area + pixel]) - i16::from(x_zero);
        }
    }
}

/// Writes sixteen values as `i16`, less the zero point.
#[target_feature(enable = "avx2")]
fn widen(values: &[i8; BLOCK], x_zero: i8, out: &mut [i16]) {
    assert_eq!(out.len(), BLOCK);
    // SAFETY: sixteen bytes are read from `values`; sixteen `i16` are written to `out`, whose
    // length the assertion above states.
    unsafe {
        let values = _mm256_cvtepi8_epi16(_mm_loadu_si128(values.as_ptr().cast()));
        let widened = _mm256_sub_epi16(values, _mm256_set1_epi16(i16::from(x_zero)));
        _mm256_storeu_si256(out.as_mut_ptr().cast(), widened);
    }
}

/// Transposes a square of bytes.
///
/// Interleaving line `i` with line `i + 8` rotates the eight index bits (line, then column) by
/// one; four rounds exchange line and column.
#[target_feature(enable = "avx2")]
fn transpose(square: &[[i8; BLOCK]; BLOCK]) -> [[i8; BLOCK]; BLOCK] {
    let mut lines = [_mm_setzero_si128(); BLOCK];
    for (line, bytes) in lines.iter_mut().zip(square) {
        // SAFETY: `bytes` is sixteen bytes long.
        *line = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    }
    for _ in 0..4 {
        let mut next = [_mm_setzero_si128(); BLOCK];
        for i in 0..BLOCK / 2 {
            next[2 * i] = _mm_unpacklo_epi8(lines[i], lines[i + 8]);
            next[2 * i + 1] = _mm_unpackhi_epi8(lines[i], lines[i + 8]);
        }
        lines = next;
    }
    let mut transposed = [[0; BLOCK]; BLOCK];
    for (bytes, line) in transposed.iter_mut().zip(lines) {
        // SAFETY: `bytes` is sixteen bytes long.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), line) };
    }
    transposed
}
