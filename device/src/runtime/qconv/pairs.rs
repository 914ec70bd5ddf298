//! Convolution by its definition on bytes, for processors that add products up in 16 bits.
//!
//! `VPMADDUBSW` of x86-64 multiplies bytes without a sign by bytes with one, and adds the products
//! up in twos. Two such sums can be added before they are widened, so that three multiplications do
//! the work of four. But 16 bits hold no more than 255 * 128: two weights of 127 overflow, where a
//! processor saturates and other runtimes accept what comes out. Here the sums are exact. Per block
//! of channels, once at load:
//!
//! - the four values of a step are multiplied in that order in which their weights cannot overflow,
//!   where one of the three ways to make twos of four is such;
//! - else half of the weights is multiplied in a step of its own;
//! - steps come together with such steps that the weights of both cannot overflow.
//!
//! Nearly all weights of 8 bits that training brings about fit that way. For those that do not,
//! words are faster.

use std::ops::Range;

use super::bytes::narrow;
use super::kernel::{Chunk, PairBackend, Start, Sums, steps_of};
use super::pack::{BLOCK, Weights, group_blocks, pack_channels};
use super::params::QConvParams;
use super::shape::{Canvas, ConvShape};
use super::{Layer, Target, Worker, direct};

/// Input values of a step.
pub(super) const LANES: usize = 4;

/// Weights of a step.
pub(super) const STEP: usize = LANES * BLOCK;

/// Steps whose weights fit in a first-level cache beside the values they meet: 16 KiB.
const STEPS: usize = 256;

/// Output pixels of which all channels are written before the next ones: as many streams of memory
/// as a processor follows.
const PIXELS: usize = 8;

/// What is added to an activation's steps to have no sign.
const UNSIGNED: i16 = 128;

/// Most that weights of one sign may add up to where they come together in 16 bits: 255 times as
/// much is just below 2^15.
const ROOM: u8 = 128;

/// The ways to multiply four values in twos: the first with the second and the third with the
/// fourth of each.
pub(super) const ORDERS: [[usize; LANES]; 3] = [[0, 1, 2, 3], [0, 2, 1, 3], [0, 3, 1, 2]];

/// Steps that are looked at to find one with its partner.
const LOOKS: usize = 64;

/// A convolution's weights, and where its input values lie.
#[derive(Clone, Debug)]
pub(super) struct Pairs {
    backend: PairBackend,
    shape: ConvShape,
    /// What the byte of the value 0 is.
    origin: i16,
    /// Parts of a block.
    parts: usize,
    /// `[group][block][part]`.
    weights: Vec<Part>,
    /// Steps of all blocks, before any was split.
    steps: usize,
    /// Input values from a pixel's first to behind its last, of all groups.
    reach: usize,
    /// Each block's bias, for sums of bytes.
    bias: Vec<[i32; BLOCK]>,
}

/// Steps of a block that share a first-level cache.
///
/// Invariants: no place ends after `reach`; there are two steps of weights for each pair of places;
/// no sum of 16 bits of a pair overflows, whatever values it meets.
#[derive(Clone, Debug)]
pub(super) struct Part {
    places: Vec<[Place; 2]>,
    /// So many pairs at the beginning have their values in order.
    in_order: usize,
    /// `[pair][2][BLOCK][LANES]`, lanes in the step's order.
    weights: Vec<i8>,
    reach: usize,
}

/// The input values of a step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// Of the first one, relative to the output pixel's first input value.
    pub offset: u32,
    /// Of [`ORDERS`].
    pub order: u32,
}

impl Pairs {
    /// Packs weights for inputs like `input`.
    pub fn new(params: &QConvParams<'_>, input: &Canvas, backend: PairBackend) -> Self {
        let shape = params.shape;
        let runs = direct::runs(&shape, input);
        let parts = direct::parts(&runs, LANES, STEPS);
        let ends = parts.iter().flatten().map(|chunk| chunk.offset + chunk.steps * LANES);
        let reach = ends.max().unwrap_or(0) + (shape.groups - 1) * shape.group_inputs();
        let packed =
            direct::packed(&Weights { shape: &shape, values: params.weights }, &runs, LANES);
        let mut left = packed.as_slice();
        let mut weights = Vec::with_capacity(packed.len() / STEP.max(1));
        while !left.is_empty() {
            for chunks in &parts {
                let own;
                (own, left) = left.split_at(steps_of(chunks) * STEP);
                weights.push(Part::of(chunks, own));
            }
        }
        let origin = i16::from(params.x_zero) + UNSIGNED;
        let bias = pack_channels(&params.bias_around(origin.into()), &shape);
        let (parts, steps) = (parts.len(), packed.len() / STEP);
        Self { backend, shape, origin, parts, weights, steps, reach, bias }
    }

    /// Whether this is faster than multiplying words: three multiplications do the work of four, so
    /// up to a third more steps can be borne.
    pub fn pays(&self) -> bool {
        let pairs: usize = self.weights.iter().map(|part| part.places.len()).sum();
        pairs * 3 <= self.steps * 2
    }

    /// Does one of so many pieces: a band of output pixels for some blocks of output channels.
    pub fn run(
        &self,
        layer: &Layer,
        piece: (usize, usize),
        x: &[i16],
        target: &Target<'_>,
        worker: &mut Worker,
    ) {
        let blocks = direct::begin(layer, piece, target, worker);
        if worker.starts.is_empty() {
            return;
        }
        narrow(x, self.origin, self.reach, worker);
        worker.surplus.clear();
        worker.surplus.resize(worker.starts.len(), 0);
        if self.parts == 1 && self.shape.group_outputs().is_multiple_of(BLOCK) {
            return self.convolve_by_pixels(layer, blocks, target, worker);
        }
        for block in blocks {
            self.convolve(layer, block, target, worker);
        }
    }

    /// Computes and writes all blocks of some pixels, then of the next: what is written for a pixel,
    /// and what is added to it, lies side by side, as caches are filled.
    fn convolve_by_pixels(
        &self,
        layer: &Layer,
        blocks: Range<usize>,
        target: &Target<'_>,
        worker: &Worker,
    ) {
        let Worker { starts, places, surplus, bytes, .. } = worker;
        for (starts, places) in starts.chunks(PIXELS).zip(places.chunks(PIXELS)) {
            for block in blocks.clone() {
                let Some(sink) = target.sink(layer, block, places) else { return };
                let from = Sums::First(Start { bias: &self.bias[block], surplus });
                let finish = &layer.constants[block].finish;
                let (x, part) = (&bytes[self.group_start(block)..], &self.weights[block]);
                self.backend.accumulate_into(x, starts, part, from, finish, &sink);
            }
        }
    }

    /// Computes and writes a block's output.
    fn convolve(&self, layer: &Layer, block: usize, target: &Target<'_>, worker: &mut Worker) {
        let Worker { starts, places, surplus, sums, bytes, .. } = worker;
        let x = &bytes[self.group_start(block)..];
        let parts = &self.weights[block * self.parts..][..self.parts];
        let Some((last, before)) = parts.split_last() else { return };
        let mut first = Some(Start { bias: &self.bias[block], surplus });
        for part in before {
            self.backend.accumulate(x, starts, part, first.take(), sums);
        }
        if let Some(sink) = target.sink(layer, block, places) {
            let from = first.map_or(Sums::Later(sums), Sums::First);
            let finish = &layer.constants[block].finish;
            return self.backend.accumulate_into(x, starts, last, from, finish, &sink);
        }
        self.backend.accumulate(x, starts, last, first, sums);
        target.load(layer, block, worker);
        layer.finish(block, worker);
        target.store(layer, block, worker);
    }

    /// Where the values of a block's group begin.
    fn group_start(&self, block: usize) -> usize {
        block / group_blocks(&self.shape) * self.shape.group_inputs()
    }
}

impl Part {
    /// Arranges weights, `[step][BLOCK][LANES]`, that meet the values of these chunks.
    fn of(chunks: &[Chunk], weights: &[i8]) -> Self {
        let offsets = chunks
            .iter()
            .flat_map(|chunk| (0..chunk.steps).map(|step| chunk.offset + step * LANES));
        let mut fitted = Fitted::default();
        for (offset, step) in offsets.zip(weights.as_chunks::<STEP>().0) {
            fitted.add(offset as u32, step);
        }
        let Fitted { in_order, turned } = fitted;
        let (in_order, mut left) = matched(in_order);
        left.extend(turned);
        let (turned, single) = matched(left);
        let count = in_order.len() + turned.len() + single.len();
        let mut part = Self {
            places: Vec::with_capacity(count),
            in_order: in_order.len(),
            weights: Vec::with_capacity(count * 2 * STEP),
            reach: 0,
        };
        in_order.into_iter().chain(turned).for_each(|[one, two]| part.push(&one, &two));
        single.into_iter().for_each(|one| part.push(&one, &Step::NOTHING));
        part
    }

    fn push(&mut self, one: &Step, two: &Step) {
        self.places.push([one.place, two.place]);
        for step in [one, two] {
            self.weights.extend_from_slice(&step.weights);
            self.reach = self.reach.max(step.place.offset as usize + LANES);
        }
    }

    /// Where the values of each pair lie.
    pub fn places(&self) -> &[[Place; 2]] {
        &self.places
    }

    /// The pairs whose values are in order, and the others.
    pub fn by_order(&self) -> (&[[Place; 2]], &[[Place; 2]]) {
        self.places.split_at(self.in_order)
    }

    /// `[pair][2][BLOCK][LANES]`.
    pub fn weights(&self) -> &[i8] {
        &self.weights
    }

    /// Input values from a pixel's first to behind its last.
    pub fn reach(&self) -> usize {
        self.reach
    }
}

/// A step by itself, which cannot overflow.
#[derive(Clone, Copy)]
struct Step {
    place: Place,
    /// `[BLOCK][LANES]`, lanes in order.
    weights: [i8; STEP],
    sums: Extremes,
}

impl Step {
    const NOTHING: Self =
        Self { place: Place { offset: 0, order: 0 }, weights: [0; STEP], sums: [0; STEP] };
}

/// What the weights of each two lanes add up to: those below zero, without their sign, and those
/// above.
type Extremes = [u8; STEP];

fn extremes(weights: &[i8; STEP]) -> Extremes {
    let mut sums = [0; STEP];
    for (two, sums) in weights.as_chunks::<2>().0.iter().zip(sums.as_chunks_mut::<2>().0) {
        let below = two.map(|weight| weight.min(0).unsigned_abs());
        let above = two.map(|weight| weight.max(0).unsigned_abs());
        // Two of -128 saturate, still far beyond the room.
        *sums = [below[0].saturating_add(below[1]), above[0].saturating_add(above[1])];
    }
    sums
}

fn largest(sums: &Extremes) -> u8 {
    sums.iter().copied().fold(0, u8::max)
}

/// Steps of which none can overflow by itself.
#[derive(Default)]
struct Fitted {
    in_order: Vec<Step>,
    turned: Vec<Step>,
}

impl Fitted {
    fn add(&mut self, offset: u32, weights: &[i8; STEP]) {
        for (order, lanes) in (0..).zip(ORDERS) {
            let weights = turned(weights, lanes);
            let sums = extremes(&weights);
            if largest(&sums) <= ROOM {
                let step = Step { place: Place { offset, order }, weights, sums };
                return if order == 0 { &mut self.in_order } else { &mut self.turned }.push(step);
            }
        }
        for weights in halves(weights) {
            let place = Place { offset, order: 0 };
            self.in_order.push(Step { place, weights, sums: extremes(&weights) });
        }
    }
}

fn turned(weights: &[i8; STEP], lanes: [usize; LANES]) -> [i8; STEP] {
    let mut out = [0; STEP];
    for (from, to) in weights.as_chunks::<LANES>().0.iter().zip(out.as_chunks_mut::<LANES>().0) {
        *to = lanes.map(|lane| from[lane]);
    }
    out
}

/// Half of the weights that could overflow, and all that is left. Of either, no two add up to more
/// than the room.
fn halves(weights: &[i8; STEP]) -> [[i8; STEP]; 2] {
    let sums = extremes(weights);
    let (mut half, mut left) = ([0; STEP], *weights);
    for (at, weight) in weights.iter().enumerate() {
        if sums[at / 2 * 2].max(sums[at / 2 * 2 + 1]) > ROOM {
            half[at] = weight / 2;
            left[at] = weight - weight / 2;
        }
    }
    [half, left]
}

/// Makes pairs of steps that cannot overflow together; returns what is left over as well.
///
/// The largest step takes the largest that fits, which leaves the small ones to others.
fn matched(mut steps: Vec<Step>) -> (Vec<[Step; 2]>, Vec<Step>) {
    steps.sort_by_cached_key(|step| std::cmp::Reverse(largest(&step.sums)));
    let (mut pairs, mut left) = (Vec::with_capacity(steps.len() / 2), Vec::new());
    let mut free = vec![true; steps.len()];
    for (at, one) in steps.iter().enumerate() {
        if !std::mem::take(&mut free[at]) {
            continue;
        }
        let mut others = (at + 1..steps.len()).filter(|other| free[*other]).take(LOOKS);
        match others.find(|other| go_together(one, &steps[*other])) {
            Some(other) => {
                free[other] = false;
                pairs.push([*one, steps[other]]);
            }
            None => left.push(*one),
        }
    }
    (pairs, left)
}

fn go_together(one: &Step, two: &Step) -> bool {
    let sums: Extremes = std::array::from_fn(|at| one.sums[at].saturating_add(two.sums[at]));
    largest(&sums) <= ROOM
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(state: &mut u64) -> i8 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*state >> 56) as i8
    }

    /// The sum over a part's pairs of the weight of every value, by offset and lane.
    fn total(part: &Part, values: usize, channel: usize) -> Vec<i32> {
        let mut total = vec![0; values];
        let steps = part.weights.as_chunks::<STEP>().0;
        for (place, step) in part.places.iter().flatten().zip(steps) {
            for (lane, value) in ORDERS[place.order as usize].into_iter().enumerate() {
                total[place.offset as usize + value] += i32::from(step[channel * LANES + lane]);
            }
        }
        total
    }

    /// The largest and smallest sum in 16 bits that two steps can bring about.
    fn bounds(pair: &[i8]) -> [i32; 2] {
        let sum = |first: usize, sign: i32| -> i32 {
            let own = [first, first + 1, first + STEP, first + STEP + 1];
            own.map(|at| (i32::from(pair[at]) * sign).max(0) * 255 * sign).iter().sum()
        };
        let sums = |sign| (0..STEP).step_by(2).map(move |first| sum(first, sign));
        [sums(1).max().unwrap(), sums(-1).min().unwrap()]
    }

    #[test]
    fn pairs_add_up_to_the_weights_and_cannot_overflow() {
        let mut state = 5;
        for (round, steps) in [1, 2, 3, 7, 8, 40].into_iter().cycle().take(24).enumerate() {
            let chunks = [Chunk { offset: 16, steps }, Chunk { offset: 16 + steps * 4, steps: 2 }];
            let mut draw = || match (round / 6, random(&mut state)) {
                (0, weight) => weight,
                (1, weight) => [-128, -127, 127, 127][usize::from(weight as u8 % 4)],
                (2, weight) => weight / 4,
                (_, weight) => [0, 127][usize::from(weight as u8 % 8 / 7)],
            };
            let weights: Vec<i8> = (0..(steps + 2) * STEP).map(|_| draw()).collect();
            let part = Part::of(&chunks, &weights);
            assert_eq!(part.places.len() * 2 * STEP, part.weights.len());
            for pair in part.weights.chunks(2 * STEP) {
                let [most, least] = bounds(pair);
                assert!(most <= i32::from(i16::MAX) && least >= i32::from(i16::MIN));
            }
            let (in_order, _) = part.by_order();
            assert!(in_order.iter().flatten().all(|place| place.order == 0));
            assert!(part.reach <= 16 + (steps + 2) * LANES);
            for channel in 0..BLOCK {
                let own = weights.as_chunks::<STEP>().0.iter();
                let own = own.flat_map(|step| &step[channel * LANES..][..LANES]);
                let expected: Vec<i32> =
                    std::iter::repeat_n(0, 16).chain(own.map(|w| i32::from(*w))).collect();
                assert_eq!(total(&part, 16 + (steps + 2) * LANES, channel), expected);
            }
        }
    }

    #[test]
    fn weights_of_six_bits_need_nothing_but_pairs() {
        let weights: Vec<i8> = (0..10 * STEP).map(|at| (at % 65) as i8 - 32).collect();
        let part = Part::of(&[Chunk { offset: 0, steps: 10 }], &weights);
        assert_eq!((part.places.len(), part.in_order), (5, 5));
    }

    #[test]
    fn values_that_overflow_in_order_are_turned() {
        let mut weights = [0; 2 * STEP];
        weights[..LANES].copy_from_slice(&[100, 100, 1, 1]);
        let part = Part::of(&[Chunk { offset: 0, steps: 2 }], &weights);
        assert_eq!((part.places.len(), part.in_order), (1, 0));
        assert!(part.places[0].iter().any(|place| place.order == 1));
    }
}
