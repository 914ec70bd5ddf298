//! The inner loops in plain Rust: the reference, written so that compilers vectorise it. Its sums
//! have no surplus.

use super::Finish;
use super::kernel::{Chunk, LANES, Quantize, Realize, Requantize, Start, Sums, nearest_whole};
use super::pack::BLOCK;
use super::pairs::{self, ORDERS, Part};
use super::target::Sink;

/// Output pixels accumulated together.
const TILE: usize = 4;

pub(super) fn accumulate(
    x: &[i16],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[i16],
    first: Option<Start<'_>>,
    sums: &mut [[i32; BLOCK]],
) {
    let first = first.map(|first| first.bias);
    accumulate_groups::<_, LANES>(x, starts, chunks, weights, first, sums);
}

/// Accumulates with weights `[step][BLOCK][N]`.
pub(super) fn accumulate_groups<T: Copy + Into<i32>, const N: usize>(
    x: &[T],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[T],
    first: Option<&[i32; BLOCK]>,
    sums: &mut [[i32; BLOCK]],
) {
    let (groups, _) = weights.as_chunks::<N>();
    let (steps, _) = groups.as_chunks::<BLOCK>();
    for (starts, sums) in starts.chunks(TILE).zip(sums.chunks_mut(TILE)) {
        if let Some(first) = first {
            sums.fill(*first);
        }
        let mut steps = steps;
        for chunk in chunks {
            let (own, rest) = steps.split_at(chunk.steps);
            steps = rest;
            for (&start, sum) in starts.iter().zip(sums.iter_mut()) {
                let values = &x[start + chunk.offset..][..chunk.steps * N];
                multiply(values, own, sum);
            }
        }
    }
}

/// Adds the products of a run of values with its weights, sixteen channels at once.
fn multiply<T: Copy + Into<i32>, const N: usize>(
    values: &[T],
    weights: &[[[T; N]; BLOCK]],
    sums: &mut [i32; BLOCK],
) {
    let (groups, _) = values.as_chunks::<N>();
    for (group, weights) in groups.iter().zip(weights) {
        for (sum, weights) in sums.iter_mut().zip(weights) {
            let products = group.iter().zip(weights).map(|(&x, &w)| x.into() * w.into());
            *sum = products.fold(*sum, i32::wrapping_add);
        }
    }
}

pub(super) fn accumulate_pairs(
    x: &[i8],
    starts: &[usize],
    part: &Part,
    first: Option<Start<'_>>,
    sums: &mut [[i32; BLOCK]],
) {
    for (start, sums) in starts.iter().zip(sums) {
        if let Some(first) = first {
            *sums = *first.bias;
        }
        multiply_pairs(&x[*start..][..part.reach()], part, sums);
    }
}

pub(super) fn accumulate_into(
    x: &[i8],
    starts: &[usize],
    part: &Part,
    sums: Sums<'_>,
    finish: &Finish,
    sink: &Sink<'_>,
) {
    for (pixel, start) in starts.iter().enumerate() {
        let mut totals = match sums {
            Sums::First(start) => *start.bias,
            Sums::Later(sums) => sums[pixel],
        };
        multiply_pairs(&x[*start..][..part.reach()], part, &mut totals);
        let mut steps = [[0; BLOCK]];
        match finish {
            Finish::Steps(to) => {
                requantize(&[totals], to, &mut steps);
                sink.put_steps(pixel, &steps[0]);
            }
            Finish::Reals(to) => {
                let mut reals = [sink.skip(pixel)];
                realize(&[totals], to, &mut reals);
                sink.put_reals(pixel, &reals[0]);
                if let Some(to) = sink.quantize() {
                    quantize(&reals, to, &mut steps);
                    sink.put_steps(pixel, &steps[0]);
                }
            }
        }
    }
}

/// Adds the products of a part with the values of a pixel, in 16 bits as far as a processor does,
/// which saturates.
fn multiply_pairs(x: &[i8], part: &Part, sums: &mut [i32; BLOCK]) {
    let (steps, _) = part.weights().as_chunks::<{ pairs::LANES }>();
    let (steps, _) = steps.as_chunks::<BLOCK>();
    for (places, weights) in part.places().iter().zip(steps.as_chunks::<2>().0) {
        let values = places.map(|place| {
            let order = ORDERS[place.order as usize];
            order.map(|lane| i32::from(x[place.offset as usize + lane].cast_unsigned()))
        });
        for (channel, sum) in sums.iter_mut().enumerate() {
            let two = |step: usize, lane: usize| {
                let (x, w) = (values[step], weights[step][channel]);
                let product = |lane: usize| x[lane] * i32::from(w[lane]);
                (product(lane) + product(lane + 1)).clamp(i16::MIN.into(), i16::MAX.into()) as i16
            };
            let both = |lane: usize| i32::from(two(0, lane).saturating_add(two(1, lane)));
            *sum = sum.wrapping_add(both(0) + both(2));
        }
    }
}

pub(super) fn accumulate_to_steps(
    x: &[i16],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[i16],
    sums: Sums<'_>,
    to: &Requantize,
    out: &mut [[i16; BLOCK]],
) {
    for (index, (starts, out)) in starts.chunks(TILE).zip(out.chunks_mut(TILE)).enumerate() {
        let tile = accumulated(x, starts, chunks, weights, sums, index);
        requantize(&tile[..out.len()], to, out);
    }
}

pub(super) fn accumulate_to_reals(
    x: &[i16],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[i16],
    sums: Sums<'_>,
    to: &Realize,
    out: &mut [[f32; BLOCK]],
) {
    for (index, (starts, out)) in starts.chunks(TILE).zip(out.chunks_mut(TILE)).enumerate() {
        let tile = accumulated(x, starts, chunks, weights, sums, index);
        realize(&tile[..out.len()], to, out);
    }
}

/// The sums of one tile.
fn accumulated(
    x: &[i16],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[i16],
    sums: Sums<'_>,
    tile: usize,
) -> [[i32; BLOCK]; TILE] {
    let mut totals = [[0; BLOCK]; TILE];
    let own = &mut totals[..starts.len()];
    match sums {
        Sums::First(start) => own.fill(*start.bias),
        Sums::Later(sums) => own.copy_from_slice(&sums[tile * TILE..][..starts.len()]),
    }
    accumulate(x, starts, chunks, weights, None, own);
    totals
}

pub(super) fn multiply_reals(
    x: &[f32],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[f32],
    bias: &[f32; BLOCK],
    floor: f32,
    out: &mut [[f32; BLOCK]],
) {
    let (weights, _) = weights.as_chunks::<BLOCK>();
    for (start, out) in starts.iter().zip(out) {
        let mut totals = *bias;
        let mut weights = weights.iter();
        for chunk in chunks {
            for (value, weights) in
                x[start + chunk.offset..][..chunk.steps].iter().zip(&mut weights)
            {
                totals.iter_mut().zip(weights).for_each(|(total, weight)| *total += value * weight);
            }
        }
        *out = std::array::from_fn(|channel| (totals[channel] + out[channel]).max(floor));
    }
}

pub(super) fn requantize(sums: &[[i32; BLOCK]], to: &Requantize, out: &mut [[i16; BLOCK]]) {
    for (out, sums) in out.iter_mut().zip(sums) {
        *out = std::array::from_fn(|c| step(sums[c], to.multipliers[c], to.range) as i16);
    }
}

pub(super) fn realize(sums: &[[i32; BLOCK]], to: &Realize, out: &mut [[f32; BLOCK]]) {
    for (out, sums) in out.iter_mut().zip(sums) {
        for (channel, out) in out.iter_mut().enumerate() {
            *out = (sums[channel] as f32 * to.multipliers[channel] + *out).max(to.floor);
        }
    }
}

pub(super) fn quantize(values: &[[f32; BLOCK]], to: &Quantize, out: &mut [[i16; BLOCK]]) {
    let [low, high] = to.range;
    for (out, values) in out.iter_mut().zip(values) {
        *out = values.map(|value| nearest_whole((value / to.scale).clamp(low, high)) as i16);
    }
}

/// `clamp(round_ties_even(sum * multiplier))`.
///
/// Clamping first gives the same value, because the bounds are whole, and keeps the conversion
/// in range.
fn step(sum: i32, multiplier: f32, [low, high]: [f32; 2]) -> f32 {
    nearest_whole((sum as f32 * multiplier).clamp(low, high))
}

pub(super) fn transform_input(
    x: &[i16],
    start: usize,
    row_len: usize,
    channels: usize,
    out: &mut [i16],
    stride: usize,
) {
    for channel in 0..channels {
        let at = |row: usize, column: usize| x[start + row * row_len + column * channels + channel];
        let rows: [[i16; 4]; 4] =
            std::array::from_fn(|row| differences(std::array::from_fn(|column| at(row, column))));
        for column in 0..4 {
            let values = differences(std::array::from_fn(|row| rows[row][column]));
            for (row, value) in values.into_iter().enumerate() {
                out[(4 * row + column) * stride + channel] = value;
            }
        }
    }
}

/// The one-dimensional input transform `B^T d`.
fn differences([a, b, c, d]: [i16; 4]) -> [i16; 4] {
    [a - c, b + c, c - b, b - d]
}

pub(super) fn transform_output(
    products: &[[i32; BLOCK]],
    stride: usize,
    bias: &[i32; BLOCK],
    out: &mut [[i32; BLOCK]; 4],
) {
    for channel in 0..BLOCK {
        let at = |row: usize, column: usize| products[(4 * row + column) * stride][channel];
        let rows: [[i32; 2]; 4] =
            std::array::from_fn(|row| sums(std::array::from_fn(|column| at(row, column))));
        for column in 0..2 {
            let values = sums(std::array::from_fn(|row| rows[row][column]));
            for (row, value) in values.into_iter().enumerate() {
                out[2 * row + column][channel] = (value >> 2) + bias[channel];
            }
        }
    }
}

/// The one-dimensional output transform `A^T m`. Halfway sums may wrap: the last one is in range.
fn sums([a, b, c, d]: [i32; 4]) -> [i32; 2] {
    [a.wrapping_add(b).wrapping_add(c), b.wrapping_sub(c).wrapping_sub(d)]
}
