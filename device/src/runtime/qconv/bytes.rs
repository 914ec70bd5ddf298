//! Convolution by its definition on the bytes of the input: its steps, with their zero point.
//!
//! What a piece of work needs of the input is narrowed to bytes first; the bias accounts for the
//! zero point. A processor that adds up the products of four bytes at once is faster this way than
//! on words.
//!
//! Some add products up in 16 bits, where they can overflow: two weights of 127 that meet two values
//! of 255 do. For these the weights are split. Wherever those that come together in 16 bits could
//! overflow, as much as cannot is multiplied first, and the rest in steps of its own: the sums stay
//! exact. Weights of 7 bits hardly ever need that; with many of 8 bits it does not pay.

use super::kernel::{ByteBackend, Chunk, Start, Sums};
use super::pack::{BLOCK, Weights, group_blocks, pack_channels};
use super::params::QConvParams;
use super::shape::{Canvas, ConvShape};
use super::{Layer, Target, Worker, direct};

/// Input values of a step.
const LANES: usize = ByteBackend::LANES;

/// Weights of a step.
const STEP: usize = LANES * BLOCK;

/// Steps whose weights fit in a first-level cache beside the values they meet: 16 KiB.
const STEPS: usize = 256;

/// Most that weights of one sign may add up to where they come together in 16 bits: 255 times as
/// much is just below 2^15.
const ROOM: i16 = 128;

/// A convolution's weights, and where its input values lie.
#[derive(Clone, Debug)]
pub(super) struct Bytes {
    backend: ByteBackend,
    shape: ConvShape,
    /// What the byte of the value 0 is.
    origin: i16,
    /// Runs of values under the kernel, cut into parts that share a first-level cache with their
    /// weights.
    parts: Vec<Vec<Chunk>>,
    /// Steps of all parts.
    steps: usize,
    /// Input values from a pixel's first to behind its last, of all groups.
    reach: usize,
    /// `[group][block][step][BLOCK][LANES]`.
    weights: Vec<i8>,
    /// What was split off each block's weights; nothing at all where sums cannot overflow.
    rests: Vec<Rest>,
    /// Each block's bias, for sums of bytes.
    bias: Vec<[i32; BLOCK]>,
}

/// Steps that are multiplied once more, with the rest of their weights.
#[derive(Clone, Debug, Default)]
struct Rest {
    chunks: Vec<Chunk>,
    /// `[step][BLOCK][LANES]`.
    weights: Vec<i8>,
}

impl Bytes {
    /// Packs weights for inputs like `input`.
    pub fn new(params: &QConvParams<'_>, input: &Canvas, backend: ByteBackend) -> Self {
        let shape = params.shape;
        let runs = direct::runs(&shape, input);
        let parts = direct::parts(&runs, LANES, STEPS);
        let steps = parts.iter().flatten().map(|chunk| chunk.steps).sum();
        let ends = parts.iter().flatten().map(|chunk| chunk.offset + chunk.steps * LANES);
        let reach = ends.max().unwrap_or(0) + (shape.groups - 1) * shape.group_inputs();
        let weights = Weights { shape: &shape, values: params.weights };
        let mut weights: Vec<i8> = direct::packed(&weights, &runs, LANES);
        let split = |block: &mut [i8]| Rest::taken(parts.iter().flatten(), block);
        let rests = if backend.is_narrow() {
            weights.chunks_exact_mut(steps * STEP).map(split).collect()
        } else {
            Vec::new()
        };
        let origin = i16::from(params.x_zero) + backend.offset();
        let bias = pack_channels(&params.bias_around(origin.into()), &shape);
        Self { backend, shape, origin, parts, steps, reach, weights, rests, bias }
    }

    /// Whether this is faster than multiplying words: three multiplications do the work of four, so
    /// up to a third more steps could be borne.
    pub fn pays(&self) -> bool {
        let more: usize = self.rests.iter().flat_map(|rest| &rest.chunks).map(|c| c.steps).sum();
        more * 4 <= self.steps * self.bias.len()
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
        let (Some(&first), Some(&last)) = (worker.starts.first(), worker.starts.last()) else {
            return;
        };
        self.narrow(x, [first, last], worker);
        worker.surplus.clear();
        worker.surplus.resize(worker.starts.len(), 0);
        for block in blocks {
            self.convolve(layer, block, target, worker);
        }
    }

    /// Fills `worker.bytes` with the bytes of the input that the pixels at `worker.starts` need, and
    /// moves the starts there.
    fn narrow(&self, x: &[i16], [first, last]: [usize; 2], worker: &mut Worker) {
        let Worker { starts, bytes, .. } = worker;
        let end = last + self.reach;
        bytes.clear();
        bytes.extend(x[first..end.min(x.len())].iter().map(|value| (value + self.origin) as i8));
        // The last step may end behind the input, where its values meet zero weights.
        bytes.resize(end - first, 0);
        starts.iter_mut().for_each(|start| *start -= first);
    }

    /// Computes and writes a block's output.
    fn convolve(&self, layer: &Layer, block: usize, target: &Target<'_>, worker: &mut Worker) {
        let Worker { starts, places, surplus, sums, bytes, .. } = worker;
        let x = &bytes[block / group_blocks(&self.shape) * self.shape.group_inputs()..];
        let finish = &layer.constants[block].finish;
        let sink = target.sink(layer, block, places);
        let mut first = Some(Start { bias: &self.bias[block], surplus });
        let mut parts = self.parts(block).peekable();
        while let Some((chunks, weights)) = parts.next() {
            if let Some(sink) = sink.as_ref().filter(|_| parts.peek().is_none()) {
                let from = first.map_or(Sums::Later(sums), Sums::First);
                if self.backend.accumulate_into(x, starts, chunks, weights, from, finish, sink) {
                    return;
                }
            }
            self.backend.accumulate(x, starts, chunks, weights, first.take(), sums);
        }
        target.load(layer, block, worker);
        layer.finish(block, worker);
        target.store(layer, block, worker);
    }

    /// Where a block's weights meet the input, and the weights.
    fn parts(&self, block: usize) -> impl Iterator<Item = (&[Chunk], &[i8])> {
        let mut weights = &self.weights[block * self.steps * STEP..][..self.steps * STEP];
        let own = self.parts.iter().map(move |chunks| {
            let steps: usize = chunks.iter().map(|chunk| chunk.steps).sum();
            let own;
            (own, weights) = weights.split_at(steps * STEP);
            (chunks.as_slice(), own)
        });
        let rest = self.rests.get(block).filter(|rest| !rest.chunks.is_empty());
        own.chain(rest.map(|rest| (rest.chunks.as_slice(), rest.weights.as_slice())))
    }
}

impl Rest {
    /// Takes from a block's weights what could make their sums overflow in 16 bits.
    fn taken<'a>(chunks: impl Iterator<Item = &'a Chunk>, mut weights: &mut [i8]) -> Self {
        let mut all = Self::default();
        for chunk in chunks {
            // Two steps of a chunk come together, and what is left at its end is alone.
            for step in (0..chunk.steps).step_by(2) {
                let steps = 2.min(chunk.steps - step);
                let own;
                (own, weights) = weights.split_at_mut(steps * STEP);
                let mut rest = excess(own);
                while let Some(mut more) = rest {
                    rest = excess(&mut more);
                    all.chunks.push(Chunk { offset: chunk.offset + step * LANES, steps });
                    all.weights.append(&mut more);
                }
            }
        }
        all
    }
}

/// Takes from the weights of one or two steps what could make their sums overflow: each sum is of
/// one channel's first, or last, two weights in every step.
fn excess(weights: &mut [i8]) -> Option<Vec<i8>> {
    if !may_overflow(weights) {
        return None;
    }
    let mut rest = vec![0; weights.len()];
    for first in (0..STEP).step_by(2) {
        let mut room = [-ROOM, ROOM];
        for step in (0..weights.len()).step_by(STEP) {
            for at in [step + first, step + first + 1] {
                let weight = i16::from(weights[at]);
                let kept = weight.clamp(room[0], room[1]);
                room[usize::from(kept > 0)] -= kept;
                // Both have the sign of the weight and no greater magnitude.
                (weights[at], rest[at]) = (kept as i8, (weight - kept) as i8);
            }
        }
    }
    Some(rest)
}

/// Whether the weights of one or two steps could make a sum overflow.
fn may_overflow(weights: &[i8]) -> bool {
    let mut sums = [[0i16; 2]; STEP / 2];
    for step in weights.as_chunks::<STEP>().0 {
        for (sums, pair) in sums.iter_mut().zip(step.as_chunks::<2>().0) {
            let [a, b] = pair.map(i16::from);
            *sums = [sums[0] + a.min(0) + b.min(0), sums[1] + a.max(0) + b.max(0)];
        }
    }
    sums.iter().any(|[least, most]| *least < -ROOM || *most > ROOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest and smallest sum in 16 bits that weights of these steps can bring about.
    fn extremes(weights: &[i8]) -> [i32; 2] {
        let sum = |first: usize, sign: i32| -> i32 {
            let steps = (0..weights.len()).step_by(STEP);
            let own = steps.flat_map(|step| [step + first, step + first + 1]);
            own.map(|at| (i32::from(weights[at]) * sign).max(0) * 255 * sign).sum()
        };
        let sums = |sign| (0..STEP).step_by(2).map(move |first| sum(first, sign));
        [sums(1).max().unwrap(), sums(-1).min().unwrap()]
    }

    #[test]
    fn split_weights_add_up_and_cannot_overflow() {
        let mut state = 5u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as i8
        };
        for steps in [1, 2, 3, 7, 8] {
            for extreme in [false, true] {
                let chunk = Chunk { offset: 16, steps };
                let mut draw = || match random() {
                    weight if extreme => [-128, -127, 127, 127][usize::from(weight as u8 % 4)],
                    weight => weight,
                };
                let before: Vec<i8> = (0..steps * STEP).map(|_| draw()).collect();
                let mut weights = before.clone();
                let rest = Rest::taken([chunk].iter(), &mut weights);
                let mut total: Vec<i32> = weights.iter().map(|w| i32::from(*w)).collect();
                let mut left = rest.weights.as_slice();
                for again in &rest.chunks {
                    let own;
                    (own, left) = left.split_at(again.steps * STEP);
                    let at = (again.offset - chunk.offset) / LANES * STEP;
                    for (total, weight) in total[at..].iter_mut().zip(own) {
                        *total += i32::from(*weight);
                    }
                    let [most, least] = extremes(own);
                    assert!(most <= i32::from(i16::MAX) && least >= i32::from(i16::MIN));
                }
                assert!(left.is_empty());
                for own in weights.chunks(2 * STEP) {
                    let [most, least] = extremes(own);
                    assert!(most <= i32::from(i16::MAX) && least >= i32::from(i16::MIN));
                }
                assert_eq!(total, before.iter().map(|w| i32::from(*w)).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn weights_of_six_bits_need_no_splitting() {
        let mut weights: Vec<i8> = (0..2 * STEP).map(|at| (at % 65) as i8 - 32).collect();
        let rest = Rest::taken([Chunk { offset: 0, steps: 2 }].iter(), &mut weights);
        assert!(rest.chunks.is_empty() && rest.weights.is_empty());
    }
}
