//! Sums of products of bytes for AArch64 with the dot products of ARMv8.2.
//!
//! Four output pixels times sixteen output channels are accumulated at once in sixteen registers.
//! `SDOT` multiplies four input values with four channels' weights, four for each channel, and
//! adds the sixteen exact products up in place: four times what [`super::neon`] does at once, and
//! more than Winograd's arithmetic saves. So this kernel convolves directly.

#![allow(unsafe_code, reason = "vector instructions on raw pointers; each block states its proof")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::kernel::{ByteBackend, Chunk, steps_of};
use super::neon::{load_channels, store_channels};
use super::pack::BLOCK;

/// Input values per group of packed weights.
const LANES: usize = ByteBackend::LANES;

/// Output pixels accumulated together.
const TILE: usize = 4;

/// Registers of four 32-bit values for the channels of a block.
const QUARTERS: usize = BLOCK / 4;

/// Steps whose input values are loaded together.
const STEPS: usize = 4;

/// Proof that this processor has the dot products of ARMv8.2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sdot(());

impl Sdot {
    pub fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("dotprod").then_some(Self(()))
    }

    pub fn accumulate(
        self,
        x: &[i8],
        starts: &[usize],
        chunks: &[Chunk],
        weights: &[i8],
        first: Option<&[i32; BLOCK]>,
        sums: &mut [[i32; BLOCK]],
    ) {
        // SAFETY: `self` exists, so the processor has these instructions.
        unsafe { accumulate(x, starts, chunks, weights, first, sums) }
    }
}

#[target_feature(enable = "neon,dotprod")]
fn accumulate(
    x: &[i8],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[i8],
    first: Option<&[i32; BLOCK]>,
    sums: &mut [[i32; BLOCK]],
) {
    let last_start = starts.iter().copied().max().unwrap_or(0);
    let reach = chunks.iter().map(|c| c.offset + c.steps * LANES).max().unwrap_or(0);
    assert!(last_start + reach <= x.len());
    assert_eq!(weights.len(), steps_of(chunks) * LANES * BLOCK);
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
#[target_feature(enable = "neon,dotprod")]
unsafe fn accumulate_tile<const P: usize>(
    x: &[i8],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[i8],
    sums: &mut [[i32; BLOCK]],
) {
    let starts: [usize; P] = std::array::from_fn(|p| starts[p]);
    let mut totals: [[int32x4_t; QUARTERS]; P] = std::array::from_fn(|p| load_channels(&sums[p]));
    let mut weights = weights.as_ptr();
    for chunk in chunks {
        // SAFETY: the chunk begins within `x` for every pixel, by the caller's promise.
        let rows = starts.map(|start| unsafe { x.as_ptr().add(start + chunk.offset) });
        let whole = chunk.steps - chunk.steps % STEPS;
        for step in (0..whole).step_by(STEPS) {
            // SAFETY: the sixteen values of four steps lie before the chunk's end, which the
            // caller promises to be within `x`.
            let values = rows.map(|row| unsafe { vld1q_s8(row.add(step * LANES)) });
            // SAFETY: over all chunks this reads 64 values for each step, four steps here and one
            // step below, which the caller promises `weights` to hold.
            unsafe {
                multiply::<P, 0>(&mut totals, values, load_weights(weights));
                multiply::<P, 1>(&mut totals, values, load_weights(weights.add(64)));
                multiply::<P, 2>(&mut totals, values, load_weights(weights.add(128)));
                multiply::<P, 3>(&mut totals, values, load_weights(weights.add(192)));
                weights = weights.add(STEPS * LANES * BLOCK);
            }
        }
        for step in whole..chunk.steps {
            let values = rows.map(|row| {
                // SAFETY: the four values of a step lie before the chunk's end: as above.
                let group = unsafe { row.add(step * LANES).cast::<i32>().read_unaligned() };
                vreinterpretq_s8_s32(vdupq_n_s32(group))
            });
            // SAFETY: as above.
            unsafe {
                multiply::<P, 0>(&mut totals, values, load_weights(weights));
                weights = weights.add(LANES * BLOCK);
            }
        }
    }
    for (sums, totals) in sums.iter_mut().zip(totals) {
        store_channels(totals, sums);
    }
}

/// Adds the dot products of each pixel's group `LANE` of four values with the weights of sixteen
/// channels.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn multiply<const P: usize, const LANE: i32>(
    totals: &mut [[int32x4_t; QUARTERS]; P],
    values: [int8x16_t; P],
    weights: [int8x16_t; QUARTERS],
) {
    for (totals, values) in totals.iter_mut().zip(values) {
        for (total, weights) in totals.iter_mut().zip(weights) {
            *total = dot::<LANE>(*total, weights, values);
        }
    }
}

/// One step's weights, four channels in each register.
///
/// # Safety
/// `weights` leads to 64 values.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn load_weights(weights: *const i8) -> [int8x16_t; QUARTERS] {
    // SAFETY: four times sixteen values, which the caller promises.
    std::array::from_fn(|quarter| unsafe { vld1q_s8(weights.add(16 * quarter)) })
}

/// `total[i] + Σ_j weights[4 i + j] * values[4 LANE + j]`, as `vdotq_laneq_s32` gives once it is
/// stable Rust (rust-lang/rust issue 117224).
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn dot<const LANE: i32>(mut total: int32x4_t, weights: int8x16_t, values: int8x16_t) -> int32x4_t {
    const { assert!(0 <= LANE && LANE < 4) };
    // SAFETY: the instruction reads three vector registers, which are this function's arguments,
    // and changes the one that is declared as its output; it touches neither memory, stack nor
    // flags, and cannot trap. `LANE` is an index it can encode, by the assertion; this function
    // runs only where `dotprod` is known to exist.
    unsafe {
        asm!(
            "sdot {total:v}.4s, {weights:v}.16b, {values:v}.4b[{lane}]",
            total = inout(vreg) total,
            weights = in(vreg) weights,
            values = in(vreg) values,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    total
}
