//! The inner loops for any AArch64.
//!
//! Four output pixels times sixteen output channels are accumulated at once in sixteen registers,
//! two input values at a time, by Winograd's inner product as in `avx2`: for eight channels two
//! additions and two multiply-adds, `SMLAL`, instead of four of the latter, of which the Cortex-A72
//! starts only one in a cycle.

#![allow(unsafe_code, reason = "vector instructions on raw pointers; each block states its proof")]

use std::arch::aarch64::*;

use super::kernel::{Chunk, Quantize, Realize, Requantize, Start, Sums, steps_of};
use super::pack::BLOCK;

/// Input values per group of packed weights: each is multiplied with a vector of weights.
pub(super) const LANES: usize = 1;

/// Output pixels accumulated together.
const TILE: usize = 4;

/// Registers of four 32-bit values for the channels of a block.
const QUARTERS: usize = BLOCK / 4;

/// 16-bit values of a register.
const WORDS: usize = 8;

/// Proof that this processor has the vector instructions of ARMv8.0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neon(());

impl Neon {
    pub fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    pub fn pixel_surplus(self, x: &[i16], starts: &[usize], chunks: &[Chunk], surplus: &mut [i32]) {
        // SAFETY: `self` exists, so the processor has these instructions.
        unsafe { pixel_surplus(x, starts, chunks, surplus) }
    }

    pub fn accumulate(
        self,
        x: &[i16],
        starts: &[usize],
        chunks: &[Chunk],
        weights: &[i16],
        first: Option<Start<'_>>,
        sums: &mut [[i32; BLOCK]],
    ) {
        // SAFETY: `self` exists, so the processor has these instructions.
        unsafe { accumulate(x, starts, chunks, weights, first, sums) }
    }

    pub fn multiply_reals(
        self,
        x: &[f32],
        starts: &[usize],
        chunks: &[Chunk],
        weights: &[f32],
        bias: &[f32; BLOCK],
        floor: f32,
        out: &mut [[f32; BLOCK]],
    ) {
        // SAFETY: `self` exists, so the processor has these instructions.
        unsafe { multiply_reals(x, starts, chunks, weights, bias, floor, out) }
    }

    pub fn requantize(self, sums: &[[i32; BLOCK]], to: &Requantize, out: &mut [[i16; BLOCK]]) {
        // SAFETY: `self` exists, so the processor has these instructions.
        unsafe { requantize(sums, to, out) }
    }

    pub fn accumulate_to_steps(
        self,
        x: &[i16],
        starts: &[usize],
        chunks: &[Chunk],
        weights: &[i16],
        sums: Sums<'_>,
        to: &Requantize,
        out: &mut [[i16; BLOCK]],
    ) {
        // SAFETY: `self` exists, so the processor has these instructions.
        unsafe { accumulate_to_steps(x, starts, chunks, weights, sums, to, out) }
    }

    pub fn accumulate_to_reals(
        self,
        x: &[i16],
        starts: &[usize],
        chunks: &[Chunk],
        weights: &[i16],
        sums: Sums<'_>,
        to: &Realize,
        out: &mut [[f32; BLOCK]],
    ) {
        // SAFETY: `self` exists, so the processor has these instructions.
        unsafe { accumulate_to_reals(x, starts, chunks, weights, sums, to, out) }
    }

    pub fn realize(self, sums: &[[i32; BLOCK]], to: &Realize, out: &mut [[f32; BLOCK]]) {
        // SAFETY: `self` exists, so the processor has these instructions.
        unsafe { realize(sums, to, out) }
    }

    pub fn quantize(self, values: &[[f32; BLOCK]], to: &Quantize, out: &mut [[i16; BLOCK]]) {
        // SAFETY: `self` exists, so the processor has these instructions.
        unsafe { quantize(values, to, out) }
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
        // SAFETY: `self` exists, so the processor has these instructions.
        unsafe { transform_input(x, start, row_len, channels, out, stride) }
    }

    pub fn transform_output(
        self,
        products: &[[i32; BLOCK]],
        stride: usize,
        bias: &[i32; BLOCK],
        out: &mut [[i32; BLOCK]; 4],
    ) {
        // SAFETY: `self` exists, so the processor has these instructions.
        unsafe { transform_output(products, stride, bias, out) }
    }
}

/// Calls a function for every tile with its number of pixels as a constant.
macro_rules! by_tile {
    ($len:expr, $function:ident($($argument:expr),*)) => {
        match $len {
            1 => $function::<1>($($argument),*),
            2 => $function::<2>($($argument),*),
            3 => $function::<3>($($argument),*),
                _ => $function::<TILE>($($argument),*),
        }
    };
}

#[target_feature(enable = "neon")]
fn accumulate(
    x: &[i16],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[i16],
    first: Option<Start<'_>>,
    sums: &mut [[i32; BLOCK]],
) {
    let run = Run::new(x, chunks, weights);
    for (index, (starts, sums)) in starts.chunks(TILE).zip(sums.chunks_mut(TILE)).enumerate() {
        let first = first.map(|first| start_of(first, index));
        by_tile!(starts.len(), tile_to_sums(&run, starts, first, sums));
    }
}

#[target_feature(enable = "neon")]
fn accumulate_to_steps(
    x: &[i16],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[i16],
    sums: Sums<'_>,
    to: &Requantize,
    out: &mut [[i16; BLOCK]],
) {
    let run = Run::new(x, chunks, weights);
    for (index, (starts, out)) in starts.chunks(TILE).zip(out.chunks_mut(TILE)).enumerate() {
        let sums = tile_of(sums, index);
        by_tile!(starts.len(), tile_to_steps(&run, starts, sums, to, out));
    }
}

#[target_feature(enable = "neon")]
fn accumulate_to_reals(
    x: &[i16],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[i16],
    sums: Sums<'_>,
    to: &Realize,
    out: &mut [[f32; BLOCK]],
) {
    let run = Run::new(x, chunks, weights);
    for (index, (starts, out)) in starts.chunks(TILE).zip(out.chunks_mut(TILE)).enumerate() {
        let sums = tile_of(sums, index);
        by_tile!(starts.len(), tile_to_reals(&run, starts, sums, to, out));
    }
}

/// Where a tile's accumulation begins.
fn tile_of(sums: Sums<'_>, index: usize) -> Sums<'_> {
    match sums {
        Sums::First(start) => Sums::First(start_of(start, index)),
        Sums::Later(sums) => Sums::Later(&sums[index * TILE..]),
    }
}

fn start_of(start: Start<'_>, index: usize) -> Start<'_> {
    Start { surplus: &start.surplus[index * TILE..], ..start }
}

#[target_feature(enable = "neon")]
fn tile_to_sums<const P: usize>(
    run: &Run<'_>,
    starts: &[usize],
    first: Option<Start<'_>>,
    sums: &mut [[i32; BLOCK]],
) {
    let from = first.map_or(Sums::Later(sums), Sums::First);
    let totals = run.accumulate::<P>(starts, from);
    for (sums, totals) in sums.iter_mut().zip(totals) {
        store_channels(totals, sums);
    }
}

#[target_feature(enable = "neon")]
fn tile_to_steps<const P: usize>(
    run: &Run<'_>,
    starts: &[usize],
    sums: Sums<'_>,
    to: &Requantize,
    out: &mut [[i16; BLOCK]],
) {
    let totals = run.accumulate::<P>(starts, sums);
    for (out, totals) in out.iter_mut().zip(totals) {
        store_steps(steps(totals, to), out);
    }
}

#[target_feature(enable = "neon")]
fn tile_to_reals<const P: usize>(
    run: &Run<'_>,
    starts: &[usize],
    sums: Sums<'_>,
    to: &Realize,
    out: &mut [[f32; BLOCK]],
) {
    let totals = run.accumulate::<P>(starts, sums);
    for (out, totals) in out.iter_mut().zip(totals) {
        store_reals(reals(totals, to, load_reals(out)), out);
    }
}

/// What is multiplied, known to lie inside its slices.
///
/// Invariant: no chunk ends after `reach`, which is at most the length of `x`, and `weights` holds
/// `LANES * BLOCK` values for every step of the chunks.
struct Run<'a> {
    x: &'a [i16],
    chunks: &'a [Chunk],
    weights: &'a [i16],
    reach: usize,
}

impl<'a> Run<'a> {
    fn new(x: &'a [i16], chunks: &'a [Chunk], weights: &'a [i16]) -> Self {
        let reach = chunks.iter().map(|c| c.offset + c.steps * LANES).max().unwrap_or(0);
        assert!(reach <= x.len());
        assert_eq!(weights.len(), steps_of(chunks) * LANES * BLOCK);
        Self { x, chunks, weights, reach }
    }

    /// The sums of `P` pixels.
    #[target_feature(enable = "neon")]
    #[inline]
    fn accumulate<const P: usize>(
        &self,
        starts: &[usize],
        sums: Sums<'_>,
    ) -> [[int32x4_t; QUARTERS]; P] {
        let starts: [usize; P] = std::array::from_fn(|p| starts[p]);
        assert!(starts.iter().all(|start| *start <= self.x.len() - self.reach));
        let mut totals: [[int32x4_t; QUARTERS]; P] = match sums {
            Sums::First(start) => {
                let bias = load_channels(start.bias);
                std::array::from_fn(|p| {
                    let surplus = vdupq_n_s32(start.surplus[p]);
                    bias.map(|bias| vsubq_s32(bias, surplus))
                })
            }
            Sums::Later(sums) => std::array::from_fn(|p| load_channels(&sums[p])),
        };
        let mut weights = self.weights.as_ptr();
        for chunk in self.chunks {
            // SAFETY: the chunk begins within `x` for every pixel, by the type's invariant.
            let rows = starts.map(|start| unsafe { self.x.as_ptr().add(start + chunk.offset) });
            for two in 0..chunk.steps / 2 {
                // SAFETY: over all chunks these and the loads below read sixteen values for each
                // step, which `weights` holds by the type's invariant.
                let [w, v] = unsafe {
                    let steps = [load_weights(weights), load_weights(weights.add(BLOCK))];
                    weights = weights.add(2 * BLOCK);
                    steps
                };
                for (totals, row) in totals.iter_mut().zip(rows) {
                    // SAFETY: both values lie before the chunk's end, which is within `x` by the
                    // type's invariant.
                    let [a, c] = unsafe { load_pair(row.add(2 * two)) };
                    // Too large by `a * c + w * v`.
                    add_products(totals, v.map(|v| vaddq_s16(a, v)), w.map(|w| vaddq_s16(c, w)));
                }
            }
            if chunk.steps % 2 == 1 {
                // SAFETY: as above, for the chunk's last step.
                let step = unsafe {
                    let step = load_weights(weights);
                    weights = weights.add(BLOCK);
                    step
                };
                for (totals, row) in totals.iter_mut().zip(rows) {
                    // SAFETY: as above, for the chunk's last step.
                    let value = unsafe { vld1q_dup_s16(row.add(chunk.steps - 1)) };
                    add_products(totals, [value; 2], step);
                }
            }
        }
        totals
    }
}

/// Adds the products of sixteen channels.
#[target_feature(enable = "neon")]
#[inline]
fn add_products(totals: &mut [int32x4_t; QUARTERS], left: [int16x8_t; 2], right: [int16x8_t; 2]) {
    for half in 0..2 {
        let (left, right) = (left[half], right[half]);
        let low = vmlal_s16(totals[2 * half], vget_low_s16(left), vget_low_s16(right));
        totals[2 * half] = low;
        totals[2 * half + 1] = vmlal_high_s16(totals[2 * half + 1], left, right);
    }
}

/// Two values, eight times each, by one load.
///
/// # Safety
/// Two values can be read.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_pair(values: *const i16) -> [int16x8_t; 2] {
    // SAFETY: by the caller's promise.
    let pair = vcreate_s16(u64::from(unsafe { values.cast::<u32>().read_unaligned() }));
    [vdupq_lane_s16::<0>(pair), vdupq_lane_s16::<1>(pair)]
}

/// A step's weights.
///
/// # Safety
/// Sixteen values can be read.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load_weights(weights: *const i16) -> [int16x8_t; 2] {
    // SAFETY: by the caller's promise.
    unsafe { [vld1q_s16(weights), vld1q_s16(weights.add(WORDS))] }
}

/// The sum of `a * c` over all groups of two steps.
#[target_feature(enable = "neon")]
fn pixel_surplus(x: &[i16], starts: &[usize], chunks: &[Chunk], surplus: &mut [i32]) {
    for (start, surplus) in starts.iter().zip(surplus) {
        let mut total = vdupq_n_s32(0);
        for chunk in chunks {
            let values = &x[start + chunk.offset..][..chunk.steps / 2 * 2];
            let (vectors, rest) = values.as_chunks::<WORDS>();
            for vector in vectors {
                // SAFETY: eight `i16` are what is loaded.
                let values = unsafe { vld1q_s16(vector.as_ptr()) };
                let (a, c) = (vuzp1q_s16(values, values), vuzp2q_s16(values, values));
                total = vmlal_s16(total, vget_low_s16(a), vget_low_s16(c));
            }
            for pair in rest.chunks_exact(2) {
                *surplus = surplus.wrapping_add(i32::from(pair[0]) * i32::from(pair[1]));
            }
        }
        *surplus = surplus.wrapping_add(vaddvq_s32(total));
    }
}

#[target_feature(enable = "neon")]
fn multiply_reals(
    x: &[f32],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[f32],
    bias: &[f32; BLOCK],
    floor: f32,
    out: &mut [[f32; BLOCK]],
) {
    for (starts, out) in starts.chunks(TILE).zip(out.chunks_mut(TILE)) {
        by_tile!(starts.len(), tile_of_reals(x, starts, chunks, weights, bias, floor, out));
    }
}

#[target_feature(enable = "neon")]
fn tile_of_reals<const P: usize>(
    x: &[f32],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[f32],
    bias: &[f32; BLOCK],
    floor: f32,
    out: &mut [[f32; BLOCK]],
) {
    let mut totals = [load_reals(bias); P];
    let (weights, _) = weights.as_chunks::<BLOCK>();
    let mut weights = weights.iter();
    for chunk in chunks {
        let rows: [&[f32]; P] =
            std::array::from_fn(|p| &x[starts[p] + chunk.offset..][..chunk.steps]);
        for (step, weights) in (0..chunk.steps).zip(&mut weights) {
            let weights = load_reals(weights);
            for (totals, row) in totals.iter_mut().zip(rows) {
                let value = vdupq_n_f32(row[step]);
                for (total, weights) in totals.iter_mut().zip(weights) {
                    // A product and a sum: fused, they would round once instead of twice.
                    *total = vaddq_f32(*total, vmulq_f32(value, weights));
                }
            }
        }
    }
    let floor = vdupq_n_f32(floor);
    for (out, totals) in out.iter_mut().zip(totals) {
        let skip = load_reals(out);
        let sums = std::array::from_fn(|q| vmaxnmq_f32(vaddq_f32(totals[q], skip[q]), floor));
        store_reals(sums, out);
    }
}

#[target_feature(enable = "neon")]
fn requantize(sums: &[[i32; BLOCK]], to: &Requantize, out: &mut [[i16; BLOCK]]) {
    for (out, sums) in out.iter_mut().zip(sums) {
        store_steps(steps(load_channels(sums), to), out);
    }
}

#[target_feature(enable = "neon")]
fn realize(sums: &[[i32; BLOCK]], to: &Realize, out: &mut [[f32; BLOCK]]) {
    for (out, sums) in out.iter_mut().zip(sums) {
        store_reals(reals(load_channels(sums), to, load_reals(out)), out);
    }
}

/// Multiplies by the reciprocal, whose result differs from the quotient by far less than a
/// thousandth of a step in this range; where that could matter, near a tie, it divides.
#[target_feature(enable = "neon")]
fn quantize(values: &[[f32; BLOCK]], to: &Quantize, out: &mut [[i16; BLOCK]]) {
    let scale = vdupq_n_f32(to.scale);
    let reciprocal = vdupq_n_f32(1.0 / to.scale);
    let near_tie = vdupq_n_f32(0.499);
    for (out, values) in out.iter_mut().zip(values) {
        let values = load_reals(values);
        let mut scaled = values.map(|value| clamped(vmulq_f32(value, reciprocal), to.range));
        let sure = scaled.map(|value| vcaltq_f32(vsubq_f32(value, vrndnq_f32(value)), near_tie));
        let sure = vandq_u32(vandq_u32(sure[0], sure[1]), vandq_u32(sure[2], sure[3]));
        if vminvq_u32(sure) == 0 {
            scaled = values.map(|value| clamped(vdivq_f32(value, scale), to.range));
        }
        store_steps(scaled.map(|value| vcvtnq_s32_f32(value)), out);
    }
}

/// `clamp(round_ties_even(sum * multiplier))` for sixteen channels.
///
/// Clamping first gives the same value, because the bounds are whole.
#[target_feature(enable = "neon")]
#[inline]
fn steps(sums: [int32x4_t; QUARTERS], to: &Requantize) -> [int32x4_t; QUARTERS] {
    let multipliers = load_reals(&to.multipliers);
    std::array::from_fn(|quarter| {
        let scaled = vmulq_f32(vcvtq_f32_s32(sums[quarter]), multipliers[quarter]);
        vcvtnq_s32_f32(clamped(scaled, to.range))
    })
}

/// `max(sum * multiplier + skip, floor)` for sixteen channels.
#[target_feature(enable = "neon")]
#[inline]
fn reals(
    sums: [int32x4_t; QUARTERS],
    to: &Realize,
    skip: [float32x4_t; QUARTERS],
) -> [float32x4_t; QUARTERS] {
    let multipliers = load_reals(&to.multipliers);
    std::array::from_fn(|quarter| {
        // A product and a sum: fused, they would round once instead of twice.
        let scaled = vmulq_f32(vcvtq_f32_s32(sums[quarter]), multipliers[quarter]);
        vmaxnmq_f32(vaddq_f32(scaled, skip[quarter]), vdupq_n_f32(to.floor))
    })
}

#[target_feature(enable = "neon")]
#[inline]
fn clamped(values: float32x4_t, [low, high]: [f32; 2]) -> float32x4_t {
    vminq_f32(vmaxq_f32(values, vdupq_n_f32(low)), vdupq_n_f32(high))
}

#[target_feature(enable = "neon")]
fn transform_input(
    x: &[i16],
    start: usize,
    row_len: usize,
    channels: usize,
    out: &mut [i16],
    stride: usize,
) {
    assert!(channels.is_multiple_of(WORDS));
    assert!(start + 3 * row_len + 4 * channels <= x.len());
    assert!(15 * stride + channels <= out.len());
    for channel in (0..channels).step_by(WORDS) {
        let rows: [[int16x8_t; 4]; 4] = std::array::from_fn(|row| {
            differences(std::array::from_fn(|column| {
                let at = start + row * row_len + column * channels + channel;
                // SAFETY: row and column are below 4 and `channel + WORDS <= channels`, so the
                // second assertion bounds the eight values read.
                unsafe { vld1q_s16(x.as_ptr().add(at)) }
            }))
        });
        for column in 0..4 {
            let values = differences(rows.map(|row| row[column]));
            for (row, value) in values.into_iter().enumerate() {
                let at = (4 * row + column) * stride + channel;
                // SAFETY: the position is below 16 and `channel + WORDS <= channels`, so the third
                // assertion bounds the eight values written.
                unsafe { vst1q_s16(out.as_mut_ptr().add(at), value) };
            }
        }
    }
}

/// The one-dimensional input transform `B^T d`.
#[target_feature(enable = "neon")]
fn differences([a, b, c, d]: [int16x8_t; 4]) -> [int16x8_t; 4] {
    [vsubq_s16(a, c), vaddq_s16(b, c), vsubq_s16(c, b), vsubq_s16(b, d)]
}

#[target_feature(enable = "neon")]
fn transform_output(
    products: &[[i32; BLOCK]],
    stride: usize,
    bias: &[i32; BLOCK],
    out: &mut [[i32; BLOCK]; 4],
) {
    let bias = load_channels(bias);
    let mut totals = [bias; 4];
    for quarter in 0..QUARTERS {
        let rows: [[int32x4_t; 2]; 4] = std::array::from_fn(|row| {
            sums(std::array::from_fn(|column| {
                let (quarters, _) = products[(4 * row + column) * stride].as_chunks::<4>();
                // SAFETY: `quarters[quarter]` is four `i32` long.
                unsafe { vld1q_s32(quarters[quarter].as_ptr()) }
            }))
        });
        for column in 0..2 {
            let values = sums(rows.map(|row| row[column]));
            for (row, value) in values.into_iter().enumerate() {
                totals[2 * row + column][quarter] =
                    vaddq_s32(vshrq_n_s32::<2>(value), bias[quarter]);
            }
        }
    }
    for (out, totals) in out.iter_mut().zip(totals) {
        store_channels(totals, out);
    }
}

/// The one-dimensional output transform `A^T m`.
#[target_feature(enable = "neon")]
fn sums([a, b, c, d]: [int32x4_t; 4]) -> [int32x4_t; 2] {
    [vaddq_s32(vaddq_s32(a, b), c), vsubq_s32(vsubq_s32(b, c), d)]
}

#[target_feature(enable = "neon")]
pub(super) fn load_channels(values: &[i32; BLOCK]) -> [int32x4_t; QUARTERS] {
    let (quarters, _) = values.as_chunks::<4>();
    // SAFETY: each quarter is four `i32` long.
    std::array::from_fn(|quarter| unsafe { vld1q_s32(quarters[quarter].as_ptr()) })
}

#[target_feature(enable = "neon")]
pub(super) fn store_channels(channels: [int32x4_t; QUARTERS], values: &mut [i32; BLOCK]) {
    let (quarters, _) = values.as_chunks_mut::<4>();
    for (quarter, channels) in quarters.iter_mut().zip(channels) {
        // SAFETY: each quarter is four `i32` long.
        unsafe { vst1q_s32(quarter.as_mut_ptr(), channels) };
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn load_reals(values: &[f32; BLOCK]) -> [float32x4_t; QUARTERS] {
    let (quarters, _) = values.as_chunks::<4>();
    // SAFETY: each quarter is four `f32` long.
    std::array::from_fn(|quarter| unsafe { vld1q_f32(quarters[quarter].as_ptr()) })
}

#[target_feature(enable = "neon")]
#[inline]
fn store_reals(reals: [float32x4_t; QUARTERS], values: &mut [f32; BLOCK]) {
    let (quarters, _) = values.as_chunks_mut::<4>();
    for (quarter, reals) in quarters.iter_mut().zip(reals) {
        // SAFETY: each quarter is four `f32` long.
        unsafe { vst1q_f32(quarter.as_mut_ptr(), reals) };
    }
}

/// Stores values of the range of `i16`.
#[target_feature(enable = "neon")]
fn store_steps(steps: [int32x4_t; QUARTERS], out: &mut [i16; BLOCK]) {
    let (quarters, _) = out.as_chunks_mut::<4>();
    for (quarter, steps) in quarters.iter_mut().zip(steps) {
        // SAFETY: each quarter is four `i16` long.
        unsafe { vst1_s16(quarter.as_mut_ptr(), vmovn_s32(steps)) };
    }
}
