//! The inner loops for x86-64 with AVX2.
//!
//! Six output pixels times sixteen output channels are accumulated at once in twelve registers.
//! Input values are taken two at a time: a pair is broadcast, multiplied with sixteen pairs of
//! weights and added up in place by `VPMADDWD`, which is exact for `i16` operands of this range.

#![allow(unsafe_code, reason = "vector instructions on raw pointers; each block states its proof")]

use std::arch::x86_64::*;

use super::kernel::{Chunk, LANES, Requantize, Residual};
use super::pack::BLOCK;

/// Output pixels accumulated together.
const TILE: usize = 6;

/// Proof that this processor has AVX2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

impl Avx2 {
    pub fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    pub fn accumulate(
        self,
        x: &[i16],
        starts: &[usize],
        chunks: &[Chunk],
        weights: &[i16],
        first: Option<&[i32; BLOCK]>,
        sums: &mut [[i32; BLOCK]],
    ) {
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { accumulate(x, starts, chunks, weights, first, sums) }
    }

    pub fn requantize(self, sums: &[[i32; BLOCK]], to: &Requantize, out: &mut [[i16; BLOCK]]) {
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { requantize(sums, to, out) }
    }

    pub fn requantize_and_add(
        self,
        sums: &[[i32; BLOCK]],
        to: &Requantize,
        residual: &Residual,
        out: &mut [[i16; BLOCK]],
    ) {
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { requantize_and_add(sums, to, residual, out) }
    }

    pub fn transform_input(
        self,
        x: &[i16],
        start: usize,
        row_len: usize,
        channels: usize,
        out: &mut [i16],
        stride: usize,
    ) {
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { transform_input(x, start, row_len, channels, out, stride) }
    }

    pub fn transform_output(
        self,
        products: &[[i32; BLOCK]],
        stride: usize,
        bias: &[i32; BLOCK],
        out: &mut [[i32; BLOCK]; 4],
    ) {
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { transform_output(products, stride, bias, out) }
    }
}

#[target_feature(enable = "avx2")]
fn accumulate(
    x: &[i16],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[i16],
    first: Option<&[i32; BLOCK]>,
    sums: &mut [[i32; BLOCK]],
) {
    let last_start = starts.iter().copied().max().unwrap_or(0);
    let reach = chunks.iter().map(|c| c.offset + c.steps * LANES).max().unwrap_or(0);
    let steps: usize = chunks.iter().map(|c| c.steps).sum();
    assert!(last_start + reach <= x.len());
    assert_eq!(weights.len(), steps * LANES * BLOCK);
    for (starts, sums) in starts.chunks(TILE).zip(sums.chunks_mut(TILE)) {
        if let Some(first) = first {
            sums.fill(*first);
        }
        // SAFETY: the assertions above are what `accumulate_tile` asks for.
        unsafe {
            match starts.len() {
                1 => accumulate_tile::<1>(x, starts, chunks, weights, sums),
                2 => accumulate_tile::<2>(x, starts, chunks, weights, sums),
                3 => accumulate_tile::<3>(x, starts, chunks, weights, sums),
                4 => accumulate_tile::<4>(x, starts, chunks, weights, sums),
                5 => accumulate_tile::<5>(x, starts, chunks, weights, sums),
                _ => accumulate_tile::<TILE>(x, starts, chunks, weights, sums),
            }
        }
    }
}

/// Accumulates `P` pixels.
///
/// # Safety
/// Every start plus every chunk's end is within `x`, and `weights` holds `LANES * BLOCK` values
/// for every step of the chunks.
#[target_feature(enable = "avx2")]
unsafe fn accumulate_tile<const P: usize>(
    x: &[i16],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[i16],
    sums: &mut [[i32; BLOCK]],
) {
    let starts: [usize; P] = std::array::from_fn(|p| starts[p]);
    let mut totals: [[__m256i; 2]; P] = std::array::from_fn(|p| load_channels(&sums[p]));
    let mut weights = weights.as_ptr();
    for chunk in chunks {
        // SAFETY: the chunk begins within `x` for every pixel, by the caller's promise.
        let rows = starts.map(|start| unsafe { x.as_ptr().add(start + chunk.offset) });
        for step in 0..chunk.steps {
            // SAFETY: over all chunks this reads 32 values for each step, which the caller
            // promises `weights` to hold.
            let [low, high] = unsafe {
                let low = _mm256_loadu_si256(weights.cast());
                let high = _mm256_loadu_si256(weights.add(BLOCK).cast());
                weights = weights.add(LANES * BLOCK);
                [low, high]
            };
            for (totals, row) in totals.iter_mut().zip(rows) {
                // SAFETY: both values lie before the chunk's end, which the caller promises to be
                // within `x`.
                let pair = unsafe { row.add(step * LANES).cast::<i32>().read_unaligned() };
                let pair = _mm256_set1_epi32(pair);
                totals[0] = _mm256_add_epi32(totals[0], _mm256_madd_epi16(pair, low));
                totals[1] = _mm256_add_epi32(totals[1], _mm256_madd_epi16(pair, high));
            }
        }
    }
    for (sums, totals) in sums.iter_mut().zip(totals) {
        store_channels(totals, sums);
    }
}

#[target_feature(enable = "avx2")]
fn requantize(sums: &[[i32; BLOCK]], to: &Requantize, out: &mut [[i16; BLOCK]]) {
    for (out, sums) in out.iter_mut().zip(sums) {
        let [low, high] = steps(load_channels(sums), to);
        store_steps(_mm256_cvtps_epi32(low), _mm256_cvtps_epi32(high), out);
    }
}

#[target_feature(enable = "avx2")]
fn requantize_and_add(
    sums: &[[i32; BLOCK]],
    to: &Requantize,
    residual: &Residual,
    out: &mut [[i16; BLOCK]],
) {
    let branch_scale = _mm256_set1_ps(residual.branch_scale);
    let skip_scale = _mm256_set1_ps(residual.skip_scale);
    let scale = _mm256_set1_ps(residual.scale);
    let floor = _mm256_set1_ps(residual.floor);
    let [low, high] = residual.range.map(|bound| _mm256_set1_ps(bound));
    for (out, sums) in out.iter_mut().zip(sums) {
        let branch = steps(load_channels(sums), to);
        let skip = load_steps(out);
        let mut totals = [_mm256_setzero_si256(); 2];
        for ((total, branch), skip) in totals.iter_mut().zip(branch).zip(skip) {
            let skip = _mm256_mul_ps(_mm256_cvtepi32_ps(skip), skip_scale);
            let sum = _mm256_add_ps(_mm256_mul_ps(branch, branch_scale), skip);
            let steps = _mm256_div_ps(_mm256_max_ps(sum, floor), scale);
            *total = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(steps, low), high));
        }
        store_steps(totals[0], totals[1], out);
    }
}

/// `clamp(round_ties_even(sum * multiplier))` for sixteen channels, as whole `f32`.
///
/// Clamping first gives the same value, because the bounds are whole.
#[target_feature(enable = "avx2")]
fn steps(sums: [__m256i; 2], to: &Requantize) -> [__m256; 2] {
    let [low, high] = to.range.map(|bound| _mm256_set1_ps(bound));
    let (multipliers, _) = to.multipliers.as_chunks::<8>();
    let mut steps = [_mm256_setzero_ps(); 2];
    for ((step, sums), multipliers) in steps.iter_mut().zip(sums).zip(multipliers) {
        // SAFETY: `multipliers` is eight `f32` long.
        let multipliers = unsafe { _mm256_loadu_ps(multipliers.as_ptr()) };
        let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), multipliers);
        let clamped = _mm256_min_ps(_mm256_max_ps(scaled, low), high);
        *step = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(clamped);
    }
    steps
}

#[target_feature(enable = "avx2")]
fn transform_input(
    x: &[i16],
    start: usize,
    row_len: usize,
    channels: usize,
    out: &mut [i16],
    stride: usize,
) {
    assert!(channels.is_multiple_of(BLOCK));
    assert!(start + 3 * row_len + 4 * channels <= x.len());
    assert!(15 * stride + channels <= out.len());
    for channel in (0..channels).step_by(BLOCK) {
        let mut rows = [[_mm256_setzero_si256(); 4]; 4];
        for (row, values) in rows.iter_mut().enumerate() {
            let mut columns = [_mm256_setzero_si256(); 4];
            for (column, value) in columns.iter_mut().enumerate() {
                let at = start + row * row_len + column * channels + channel;
                // SAFETY: row and column are below 4 and `channel + BLOCK <= channels`, so the
                // second assertion bounds the sixteen values read.
                *value = unsafe { _mm256_loadu_si256(x.as_ptr().add(at).cast()) };
            }
            *values = differences(columns);
        }
        for column in 0..4 {
            let values = differences(std::array::from_fn(|row| rows[row][column]));
            for (row, value) in values.into_iter().enumerate() {
                let at = (4 * row + column) * stride + channel;
                // SAFETY: the position is below 16 and `channel + BLOCK <= channels`, so the third
                // assertion bounds the sixteen values written.
                unsafe { _mm256_storeu_si256(out.as_mut_ptr().add(at).cast(), value) };
            }
        }
    }
}

/// The one-dimensional input transform `B^T d`.
#[target_feature(enable = "avx2")]
fn differences([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    [_mm256_sub_epi16(a, c), _mm256_add_epi16(b, c), _mm256_sub_epi16(c, b), _mm256_sub_epi16(b, d)]
}

#[target_feature(enable = "avx2")]
fn transform_output(
    products: &[[i32; BLOCK]],
    stride: usize,
    bias: &[i32; BLOCK],
    out: &mut [[i32; BLOCK]; 4],
) {
    let bias = load_channels(bias);
    let mut totals = [[_mm256_setzero_si256(); 2]; 4];
    for half in 0..2 {
        let mut rows = [[_mm256_setzero_si256(); 2]; 4];
        for (row, values) in rows.iter_mut().enumerate() {
            *values = sums(std::array::from_fn(|column| {
                let (halves, _) = products[(4 * row + column) * stride].as_chunks::<8>();
                // SAFETY: `halves[half]` is eight `i32` long.
                unsafe { _mm256_loadu_si256(halves[half].as_ptr().cast()) }
            }));
        }
        for column in 0..2 {
            let values = sums(std::array::from_fn(|row| rows[row][column]));
            for (row, value) in values.into_iter().enumerate() {
                totals[2 * row + column][half] =
                    _mm256_add_epi32(_mm256_srai_epi32::<2>(value), bias[half]);
            }
        }
    }
    for (out, totals) in out.iter_mut().zip(totals) {
        store_channels(totals, out);
    }
}

/// The one-dimensional output transform `A^T m`.
#[target_feature(enable = "avx2")]
fn sums([a, b, c, d]: [__m256i; 4]) -> [__m256i; 2] {
    [_mm256_add_epi32(_mm256_add_epi32(a, b), c), _mm256_sub_epi32(_mm256_sub_epi32(b, c), d)]
}

#[target_feature(enable = "avx2")]
fn load_channels(values: &[i32; BLOCK]) -> [__m256i; 2] {
    let values = values.as_ptr();
    // SAFETY: sixteen `i32` are two times eight.
    unsafe { [_mm256_loadu_si256(values.cast()), _mm256_loadu_si256(values.add(8).cast())] }
}

#[target_feature(enable = "avx2")]
fn store_channels([low, high]: [__m256i; 2], values: &mut [i32; BLOCK]) {
    let values = values.as_mut_ptr();
    // SAFETY: sixteen `i32` are two times eight.
    unsafe {
        _mm256_storeu_si256(values.cast(), low);
        _mm256_storeu_si256(values.add(8).cast(), high);
    }
}

/// Sixteen `i16` as two times eight `i32`.
#[target_feature(enable = "avx2")]
fn load_steps(values: &[i16; BLOCK]) -> [__m256i; 2] {
    // SAFETY: sixteen `i16` are 32 bytes.
    let values = unsafe { _mm256_loadu_si256(values.as_ptr().cast()) };
    [
        _mm256_cvtepi16_epi32(_mm256_castsi256_si128(values)),
        _mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(values)),
    ]
}

/// Two times eight `i32` of the range of `i16`, in order.
#[target_feature(enable = "avx2")]
fn store_steps(low: __m256i, high: __m256i, out: &mut [i16; BLOCK]) {
    // Packing works within 128-bit halves: the permutation restores the channels' order.
    let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
    // SAFETY: sixteen `i16` are 32 bytes.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), words) };
}
