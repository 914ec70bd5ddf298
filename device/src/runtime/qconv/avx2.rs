//! The inner loops for x86-64 with AVX2.
//!
//! Four output pixels times sixteen output channels are accumulated at once in eight registers,
//! two pairs of input values at a time, by Winograd's inner product (1968), which halves the
//! multiplications:
//!
//! ```text
//! a * w + c * v = (a + v) * (c + w) - a * c - w * v
//! ```
//!
//! With a pair of values each for `a` and `c`, and of weights for `w` and `v`, that is two `VPADDW`
//! and one `VPMADDWD` instead of two of the latter, of which these processors start only two in a
//! cycle. `a * c` depends on the pixel alone and `w * v` on the channel alone: the surplus, which
//! is taken off the sums before they begin. All of it is exact modulo 2^32, and the sums fit.
//!
//! On bytes, `VPMADDUBSW` multiplies twice as many values, and adds pairs of products up in 16 bits,
//! which saturate. Weights are packed so that they never do (see [`super::pairs`]), not even when
//! two such sums are added: three multiplications then do the work of four `VPMADDWD`.

#![allow(unsafe_code, reason = "vector instructions on raw pointers; each block states its proof")]

use std::arch::x86_64::*;

use super::Finish;
use super::kernel::{Chunk, LANES, Quantize, Realize, Requantize, Start, Sums, steps_of};
use super::pack::BLOCK;
use super::pairs::{LANES as FOUR, ORDERS, Part, Place, STEP};
use super::target::Sink;

/// Output pixels accumulated together.
const TILE: usize = 4;

/// Proof that this processor has AVX2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

impl Avx2 {
    pub fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    pub fn pixel_surplus(self, x: &[i16], starts: &[usize], chunks: &[Chunk], surplus: &mut [i32]) {
        // SAFETY: `self` exists, so the processor has AVX2.
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
        let run = Run::of_words(x, weights, chunks);
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { accumulate(&run, starts, first, sums) }
    }

    pub fn accumulate_pairs(
        self,
        x: &[i8],
        starts: &[usize],
        part: &Part,
        first: Option<Start<'_>>,
        sums: &mut [[i32; BLOCK]],
    ) {
        let run = Run::of_bytes(x, part);
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { accumulate(&run, starts, first, sums) }
    }

    pub fn accumulate_into(
        self,
        x: &[i8],
        starts: &[usize],
        part: &Part,
        sums: Sums<'_>,
        finish: &Finish,
        sink: &Sink<'_>,
    ) {
        let run = Run::of_bytes(x, part);
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { accumulate_into(&run, starts, sums, finish, sink) }
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
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { multiply_reals(x, starts, chunks, weights, bias, floor, out) }
    }

    pub fn requantize(self, sums: &[[i32; BLOCK]], to: &Requantize, out: &mut [[i16; BLOCK]]) {
        // SAFETY: `self` exists, so the processor has AVX2.
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
        let run = Run::of_words(x, weights, chunks);
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { accumulate_to_steps(&run, starts, sums, to, out) }
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
        let run = Run::of_words(x, weights, chunks);
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { accumulate_to_reals(&run, starts, sums, to, out) }
    }

    pub fn realize(self, sums: &[[i32; BLOCK]], to: &Realize, out: &mut [[f32; BLOCK]]) {
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { realize(sums, to, out) }
    }

    pub fn quantize(self, values: &[[f32; BLOCK]], to: &Quantize, out: &mut [[i16; BLOCK]]) {
        // SAFETY: `self` exists, so the processor has AVX2.
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

#[target_feature(enable = "avx2")]
fn accumulate(
    run: &Run<'_>,
    starts: &[usize],
    first: Option<Start<'_>>,
    sums: &mut [[i32; BLOCK]],
) {
    for (index, (starts, sums)) in starts.chunks(TILE).zip(sums.chunks_mut(TILE)).enumerate() {
        let first = first.map(|first| start_of(first, index));
        by_tile!(starts.len(), tile_to_sums(run, starts, first, sums));
    }
}

#[target_feature(enable = "avx2")]
fn accumulate_to_steps(
    run: &Run<'_>,
    starts: &[usize],
    sums: Sums<'_>,
    to: &Requantize,
    out: &mut [[i16; BLOCK]],
) {
    for (index, (starts, out)) in starts.chunks(TILE).zip(out.chunks_mut(TILE)).enumerate() {
        let sums = tile_of(sums, index);
        by_tile!(starts.len(), tile_to_steps(run, starts, sums, to, out));
    }
}

#[target_feature(enable = "avx2")]
fn accumulate_to_reals(
    run: &Run<'_>,
    starts: &[usize],
    sums: Sums<'_>,
    to: &Realize,
    out: &mut [[f32; BLOCK]],
) {
    for (index, (starts, out)) in starts.chunks(TILE).zip(out.chunks_mut(TILE)).enumerate() {
        let sums = tile_of(sums, index);
        by_tile!(starts.len(), tile_to_reals(run, starts, sums, to, out));
    }
}

#[target_feature(enable = "avx2")]
fn accumulate_into(
    run: &Run<'_>,
    starts: &[usize],
    sums: Sums<'_>,
    finish: &Finish,
    sink: &Sink<'_>,
) {
    for (index, starts) in starts.chunks(TILE).enumerate() {
        let (sums, first) = (tile_of(sums, index), index * TILE);
        by_tile!(starts.len(), tile_into(run, starts, sums, finish, sink, first));
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

#[target_feature(enable = "avx2")]
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

#[target_feature(enable = "avx2")]
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

#[target_feature(enable = "avx2")]
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

/// `first` is the number of the tile's first pixel in the sink.
#[target_feature(enable = "avx2")]
fn tile_into<const P: usize>(
    run: &Run<'_>,
    starts: &[usize],
    sums: Sums<'_>,
    finish: &Finish,
    sink: &Sink<'_>,
    first: usize,
) {
    let totals = run.accumulate::<P>(starts, sums);
    for (pixel, totals) in (first..).zip(totals) {
        let mut in_steps = [0; BLOCK];
        match finish {
            Finish::Steps(to) => {
                store_steps(steps(totals, to), &mut in_steps);
                sink.put_steps(pixel, &in_steps);
            }
            Finish::Reals(to) => {
                let values = reals(totals, to, load_reals(&sink.skip(pixel)));
                let mut in_reals = [0.0; BLOCK];
                store_reals(values, &mut in_reals);
                sink.put_reals(pixel, &in_reals);
                if let Some(to) = sink.quantize() {
                    store_steps(quantized(values, to), &mut in_steps);
                    sink.put_steps(pixel, &in_steps);
                }
            }
        }
    }
}

/// What is multiplied.
#[derive(Clone, Copy)]
enum Operands<'a> {
    Words {
        x: &'a [i16],
        chunks: &'a [Chunk],
        weights: &'a [i16],
    },
    /// Values without sign, whatever their type says.
    Bytes {
        x: &'a [i8],
        part: &'a Part,
    },
}

/// What is multiplied, known to lie inside its slices.
///
/// Invariant: no chunk and no place ends after `reach`, which is at most the length of `x`, and
/// there are weights for every step of the chunks.
struct Run<'a> {
    operands: Operands<'a>,
    reach: usize,
}

impl<'a> Run<'a> {
    fn of_words(x: &'a [i16], weights: &'a [i16], chunks: &'a [Chunk]) -> Self {
        let reach = chunks.iter().map(|c| c.offset + c.steps * LANES).max().unwrap_or(0);
        assert!(reach <= x.len());
        assert_eq!(weights.len(), steps_of(chunks) * LANES * BLOCK);
        Self { operands: Operands::Words { x, chunks, weights }, reach }
    }

    fn of_bytes(x: &'a [i8], part: &'a Part) -> Self {
        assert!(part.reach() <= x.len());
        Self { operands: Operands::Bytes { x, part }, reach: part.reach() }
    }

    /// How many input values there are.
    fn values(&self) -> usize {
        match self.operands {
            Operands::Words { x, .. } => x.len(),
            Operands::Bytes { x, .. } => x.len(),
        }
    }

    /// The sums of `P` pixels.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn accumulate<const P: usize>(&self, starts: &[usize], sums: Sums<'_>) -> [[__m256i; 2]; P] {
        let starts: [usize; P] = std::array::from_fn(|p| starts[p]);
        assert!(starts.iter().all(|start| *start <= self.values() - self.reach));
        let totals: [[__m256i; 2]; P] = match sums {
            Sums::First(start) => {
                let bias = load_channels(start.bias);
                std::array::from_fn(|p| {
                    let surplus = _mm256_set1_epi32(start.surplus[p]);
                    bias.map(|bias| _mm256_sub_epi32(bias, surplus))
                })
            }
            Sums::Later(sums) => std::array::from_fn(|p| load_channels(&sums[p])),
        };
        // SAFETY: every chunk and every place lies within `x` for every pixel, by the assertion, and
        // there are weights for all of them, by the type's invariant.
        unsafe {
            match self.operands {
                Operands::Words { x, chunks, weights } => {
                    accumulate_words(x, weights, chunks, starts, totals)
                }
                Operands::Bytes { x, part } => accumulate_pairs(x, part, starts, totals),
            }
        }
    }
}

/// Adds the products of `P` pixels to `totals`.
///
/// # Safety
/// Every start plus every chunk's end is within `x`, and `weights` holds `LANES * BLOCK` values for
/// every step of the chunks.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn accumulate_words<const P: usize>(
    x: &[i16],
    weights: &[i16],
    chunks: &[Chunk],
    starts: [usize; P],
    mut totals: [[__m256i; 2]; P],
) -> [[__m256i; 2]; P] {
    let mut weights = weights.as_ptr();
    for chunk in chunks {
        // SAFETY: the chunk lies within `x` for every pixel, by the caller's promise.
        let rows = starts.map(|start| unsafe { x.as_ptr().add(start + chunk.offset) });
        for two in 0..chunk.steps / 2 {
            // SAFETY: over all chunks these and the loads below read 32 values for each step,
            // which `weights` holds by the caller's promise.
            let [first, second] = unsafe {
                let steps = [load_weights(weights), load_weights(weights.add(LANES * BLOCK))];
                weights = weights.add(2 * LANES * BLOCK);
                steps
            };
            for (totals, row) in totals.iter_mut().zip(rows) {
                // SAFETY: all four values lie before the chunk's end, which is within `x` by the
                // caller's promise.
                let [a, c] = unsafe {
                    let row = row.add(two * 2 * LANES);
                    [broadcast(row), broadcast(row.add(LANES))]
                };
                for half in 0..2 {
                    let left = _mm256_add_epi16(a, second[half]);
                    let right = _mm256_add_epi16(c, first[half]);
                    totals[half] = _mm256_add_epi32(totals[half], _mm256_madd_epi16(left, right));
                }
            }
        }
        if chunk.steps % 2 == 1 {
            // SAFETY: as above, for the chunk's last step.
            let step = unsafe {
                let step = load_weights(weights);
                weights = weights.add(LANES * BLOCK);
                step
            };
            for (totals, row) in totals.iter_mut().zip(rows) {
                // SAFETY: as above, for the chunk's last step.
                let pair = unsafe { broadcast(row.add((chunk.steps - 1) * LANES)) };
                for half in 0..2 {
                    let products = _mm256_madd_epi16(pair, step[half]);
                    totals[half] = _mm256_add_epi32(totals[half], products);
                }
            }
        }
    }
    totals
}

/// Adds the products of `P` pixels to `totals`.
///
/// # Safety
/// Every start plus the part's reach is within `x`.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn accumulate_pairs<const P: usize>(
    x: &[i8],
    part: &Part,
    starts: [usize; P],
    totals: [[__m256i; 2]; P],
) -> [[__m256i; 2]; P] {
    let (in_order, turned) = part.by_order();
    // SAFETY: the starts lie within `x`, by the caller's promise.
    let rows = starts.map(|start| unsafe { x.as_ptr().add(start) });
    let (first, rest) = part.weights().split_at(in_order.len() * 2 * STEP);
    assert_eq!(rest.len(), turned.len() * 2 * STEP);
    // SAFETY: every place of a part ends before its reach, which is within `x` for every row, and
    // there are weights for every pair, by the assertion.
    unsafe {
        let totals = add_pairs::<P, false>(rows, in_order, first, totals);
        add_pairs::<P, true>(rows, turned, rest, totals)
    }
}

/// Adds the products of `P` rows of bytes without sign to `totals`; `TURNED` says whether their
/// places have other orders than the first.
///
/// # Safety
/// Behind every row, every place can be read, and there are two steps of weights for each pair.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn add_pairs<const P: usize, const TURNED: bool>(
    rows: [*const i8; P],
    pairs: &[[Place; 2]],
    weights: &[i8],
    mut totals: [[__m256i; 2]; P],
) -> [[__m256i; 2]; P] {
    let ones = _mm256_set1_epi16(1);
    let mut weights = weights.as_ptr();
    for [one, two] in pairs {
        // SAFETY: over all pairs this reads two steps for each, which are there by the caller's
        // promise.
        let [first, second] = unsafe {
            let steps = [load_weights(weights.cast()), load_weights(weights.add(STEP).cast())];
            weights = weights.add(2 * STEP);
            steps
        };
        let orders = if TURNED { [shuffle(one), shuffle(two)] } else { [ones; 2] };
        for (totals, row) in totals.iter_mut().zip(rows) {
            // SAFETY: both places can be read, by the caller's promise.
            let [mut a, mut c] = unsafe {
                [
                    broadcast(row.add(one.offset as usize).cast()),
                    broadcast(row.add(two.offset as usize).cast()),
                ]
            };
            if TURNED {
                a = _mm256_shuffle_epi8(a, orders[0]);
                c = _mm256_shuffle_epi8(c, orders[1]);
            }
            for half in 0..2 {
                let left = _mm256_maddubs_epi16(a, first[half]);
                let right = _mm256_maddubs_epi16(c, second[half]);
                let products = _mm256_madd_epi16(_mm256_add_epi16(left, right), ones);
                totals[half] = _mm256_add_epi32(totals[half], products);
            }
        }
    }
    totals
}

/// Brings each four bytes into a place's order.
#[target_feature(enable = "avx2")]
#[inline]
fn shuffle(place: &Place) -> __m256i {
    // SAFETY: 32 bytes can be read.
    unsafe { _mm256_loadu_si256(SHUFFLES[place.order as usize].as_ptr().cast()) }
}

/// For each order, where every byte comes from within its half of a register.
const SHUFFLES: [[i8; 32]; ORDERS.len()] = {
    let mut shuffles = [[0; 32]; ORDERS.len()];
    let mut at = 0;
    while at < ORDERS.len() * 32 {
        let (order, byte) = (at / 32, at % 32);
        shuffles[order][byte] = (byte % 16 / FOUR * FOUR + ORDERS[order][byte % FOUR]) as i8;
        at += 1;
    }
    shuffles
};

/// The weights of a step, one register for each half of the channels.
///
/// # Safety
/// 64 bytes can be read.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load_weights(weights: *const i16) -> [__m256i; 2] {
    // SAFETY: by the caller's promise.
    unsafe { [_mm256_loadu_si256(weights.cast()), _mm256_loadu_si256(weights.add(BLOCK).cast())] }
}

/// A step's values of 32 bits together, eight times.
///
/// # Safety
/// Four bytes can be read.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn broadcast(pair: *const i16) -> __m256i {
    // SAFETY: by the caller's promise.
    _mm256_set1_epi32(unsafe { pair.cast::<i32>().read_unaligned() })
}

/// The sum of `a * c` over all groups of two steps.
#[target_feature(enable = "avx2")]
fn pixel_surplus(x: &[i16], starts: &[usize], chunks: &[Chunk], surplus: &mut [i32]) {
    // A product of a vector with its halves exchanged has every `a * c` twice.
    let once = _mm256_set1_epi64x(0xFFFF_FFFF);
    for (start, surplus) in starts.iter().zip(surplus) {
        let mut total = _mm256_setzero_si256();
        for chunk in chunks {
            let values = &x[start + chunk.offset..][..chunk.steps / 2 * 2 * LANES];
            let (vectors, rest) = values.as_chunks::<BLOCK>();
            for vector in vectors {
                // SAFETY: sixteen `i16` are 32 bytes.
                let values = unsafe { _mm256_loadu_si256(vector.as_ptr().cast()) };
                let exchanged = _mm256_shuffle_epi32::<0b10_11_00_01>(values);
                let products = _mm256_and_si256(_mm256_madd_epi16(values, exchanged), once);
                total = _mm256_add_epi32(total, products);
            }
            for group in rest.chunks_exact(2 * LANES) {
                let product = |i: usize| i32::from(group[i]) * i32::from(group[i + LANES]);
                *surplus = surplus.wrapping_add(product(0)).wrapping_add(product(1));
            }
        }
        let mut lanes = [0i32; 8];
        // SAFETY: eight `i32` are 32 bytes.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), total) };
        *surplus = lanes.into_iter().fold(*surplus, i32::wrapping_add);
    }
}

#[target_feature(enable = "avx2")]
fn multiply_reals(
    x: &[f32],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[f32],
    bias: &[f32; BLOCK],
    floor: f32,
    out: &mut [[f32; BLOCK]],
) {
    let reach = chunks.iter().map(|c| c.offset + c.steps).max().unwrap_or(0);
    assert!(reach <= x.len());
    assert_eq!(weights.len(), steps_of(chunks) * BLOCK);
    for (starts, out) in starts.chunks(TILE).zip(out.chunks_mut(TILE)) {
        assert!(starts.iter().all(|start| *start <= x.len() - reach));
        // SAFETY: the assertions are what `tile_of_reals` asks for.
        unsafe {
            by_tile!(starts.len(), tile_of_reals(x, starts, chunks, weights, bias, floor, out));
        }
    }
}

/// The sums of `P` pixels in real numbers.
///
/// # Safety
/// Every start plus every chunk's end is within `x`, and `weights` holds `BLOCK` values for every
/// step of the chunks.
#[target_feature(enable = "avx2")]
unsafe fn tile_of_reals<const P: usize>(
    x: &[f32],
    starts: &[usize],
    chunks: &[Chunk],
    weights: &[f32],
    bias: &[f32; BLOCK],
    floor: f32,
    out: &mut [[f32; BLOCK]],
) {
    let starts: [usize; P] = std::array::from_fn(|p| starts[p]);
    let mut totals = [load_reals(bias); P];
    let mut weights = weights.as_ptr();
    for chunk in chunks {
        // SAFETY: the chunk lies within `x` for every pixel, by the caller's promise.
        let rows = starts.map(|start| unsafe { x.as_ptr().add(start + chunk.offset) });
        for step in 0..chunk.steps {
            // SAFETY: over all chunks this reads sixteen weights for each step, which the caller
            // promises; as loads of unaligned vectors.
            let two = unsafe {
                let two = [_mm256_loadu_ps(weights), _mm256_loadu_ps(weights.add(8))];
                weights = weights.add(BLOCK);
                two
            };
            for (totals, row) in totals.iter_mut().zip(rows) {
                // SAFETY: the value lies before the chunk's end.
                let value = _mm256_set1_ps(unsafe { *row.add(step) });
                for (total, weights) in totals.iter_mut().zip(two) {
                    *total = _mm256_add_ps(*total, _mm256_mul_ps(value, weights));
                }
            }
        }
    }
    let floor = _mm256_set1_ps(floor);
    for (out, totals) in out.iter_mut().zip(totals) {
        let skip = load_reals(out);
        let reals = [_mm256_add_ps(totals[0], skip[0]), _mm256_add_ps(totals[1], skip[1])];
        store_reals(reals.map(|real| _mm256_max_ps(real, floor)), out);
    }
}

#[target_feature(enable = "avx2")]
fn requantize(sums: &[[i32; BLOCK]], to: &Requantize, out: &mut [[i16; BLOCK]]) {
    for (out, sums) in out.iter_mut().zip(sums) {
        store_steps(steps(load_channels(sums), to), out);
    }
}

#[target_feature(enable = "avx2")]
fn realize(sums: &[[i32; BLOCK]], to: &Realize, out: &mut [[f32; BLOCK]]) {
    for (out, sums) in out.iter_mut().zip(sums) {
        store_reals(reals(load_channels(sums), to, load_reals(out)), out);
    }
}

#[target_feature(enable = "avx2")]
fn quantize(values: &[[f32; BLOCK]], to: &Quantize, out: &mut [[i16; BLOCK]]) {
    for (out, values) in out.iter_mut().zip(values) {
        store_steps(quantized(load_reals(values), to), out);
    }
}

/// `clamp(round_ties_even(value / scale))` for sixteen channels.
///
/// Multiplies by the reciprocal, whose result differs from the quotient by far less than a
/// thousandth of a step in this range; where that could matter, near a tie, it divides.
#[target_feature(enable = "avx2")]
#[inline]
fn quantized(values: [__m256; 2], to: &Quantize) -> [__m256i; 2] {
    const ROUND: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    let reciprocal = _mm256_set1_ps(to.reciprocal);
    let [low, high] = to.range.map(|bound| _mm256_set1_ps(bound));
    let magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
    let near_tie = _mm256_set1_ps(0.499);
    let clamp = |value| _mm256_min_ps(_mm256_max_ps(value, low), high);
    let mut scaled = values.map(|value| clamp(_mm256_mul_ps(value, reciprocal)));
    let rounded = scaled.map(|value| _mm256_round_ps::<ROUND>(value));
    let unsure = |half: usize| {
        let distance = _mm256_and_ps(_mm256_sub_ps(scaled[half], rounded[half]), magnitude);
        _mm256_cmp_ps::<_CMP_NLE_UQ>(distance, near_tie)
    };
    if _mm256_movemask_ps(_mm256_or_ps(unsure(0), unsure(1))) != 0 {
        let scale = _mm256_set1_ps(to.scale);
        scaled = values.map(|value| clamp(_mm256_div_ps(value, scale)));
    }
    scaled.map(|value| _mm256_cvtps_epi32(value))
}

/// `clamp(round_ties_even(sum * multiplier))` for sixteen channels.
///
/// Clamping first gives the same value, because the bounds are whole, and keeps the conversion,
/// which rounds to nearest even, in range.
#[target_feature(enable = "avx2")]
#[inline]
fn steps(sums: [__m256i; 2], to: &Requantize) -> [__m256i; 2] {
    let [low, high] = to.range.map(|bound| _mm256_set1_ps(bound));
    let multipliers = load_reals(&to.multipliers);
    let mut steps = sums;
    for (step, multipliers) in steps.iter_mut().zip(multipliers) {
        let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(*step), multipliers);
        *step = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(scaled, low), high));
    }
    steps
}

/// `max(sum * multiplier + skip, floor)` for sixteen channels.
#[target_feature(enable = "avx2")]
#[inline]
fn reals(sums: [__m256i; 2], to: &Realize, skip: [__m256; 2]) -> [__m256; 2] {
    let floor = _mm256_set1_ps(to.floor);
    let mut reals = skip;
    for ((real, sums), multipliers) in reals.iter_mut().zip(sums).zip(load_reals(&to.multipliers)) {
        let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), multipliers);
        *real = _mm256_max_ps(_mm256_add_ps(scaled, *real), floor);
    }
    reals
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
        let columns: [_; 4] = std::array::from_fn(|column| rows.map(|row| row[column]));
        for (column, values) in columns.into_iter().enumerate() {
            for (row, value) in differences(values).into_iter().enumerate() {
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
#[inline]
fn load_channels(values: &[i32; BLOCK]) -> [__m256i; 2] {
    let values = values.as_ptr();
    // SAFETY: sixteen `i32` are two times eight.
    unsafe { [_mm256_loadu_si256(values.cast()), _mm256_loadu_si256(values.add(8).cast())] }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_channels([low, high]: [__m256i; 2], values: &mut [i32; BLOCK]) {
    let values = values.as_mut_ptr();
    // SAFETY: sixteen `i32` are two times eight.
    unsafe {
        _mm256_storeu_si256(values.cast(), low);
        _mm256_storeu_si256(values.add(8).cast(), high);
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_reals(values: &[f32; BLOCK]) -> [__m256; 2] {
    let values = values.as_ptr();
    // SAFETY: sixteen `f32` are two times eight.
    unsafe { [_mm256_loadu_ps(values), _mm256_loadu_ps(values.add(8))] }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_reals([low, high]: [__m256; 2], values: &mut [f32; BLOCK]) {
    let values = values.as_mut_ptr();
    // SAFETY: sixteen `f32` are two times eight.
    unsafe {
        _mm256_storeu_ps(values, low);
        _mm256_storeu_ps(values.add(8), high);
    }
}

/// Two times eight `i32` of the range of `i16`, in order.
#[target_feature(enable = "avx2")]
#[inline]
fn store_steps([low, high]: [__m256i; 2], out: &mut [i16; BLOCK]) {
    // Packing works within 128-bit halves: the permutation restores the channels' order.
    let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
    // SAFETY: sixteen `i16` are 32 bytes.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), words) };
}
