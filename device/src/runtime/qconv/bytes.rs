//! Convolution by its definition on the bytes of the input: its steps, with their zero point.
//!
//! What a piece of work needs of the input is narrowed to bytes first; the bias accounts for the
//! zero point. A processor that adds up the products of four bytes at once is faster this way than
//! with Winograd's arithmetic on words.

use super::kernel::{ByteBackend, Chunk};
use super::pack::{BLOCK, Weights, group_blocks};
use super::shape::{Canvas, ConvShape};
use super::{Layer, Target, Worker, direct};

/// Input values of a step.
const LANES: usize = ByteBackend::LANES;

/// Steps whose weights fit in a first-level cache beside the values they meet: 16 KiB.
const STEPS: usize = 256;

/// A convolution's weights, and where its input values lie.
#[derive(Clone, Debug)]
pub(super) struct Bytes {
    backend: ByteBackend,
    shape: ConvShape,
    /// Zero point of the input.
    zero: i8,
    /// Runs of values under the kernel, cut into parts that share a first-level cache with their
    /// weights.
    parts: Vec<Vec<Chunk>>,
    /// Steps of all parts.
    steps: usize,
    /// Input values from a pixel's first to behind its last, of all groups.
    reach: usize,
    /// `[group][block][step][BLOCK][LANES]`.
    weights: Vec<i8>,
    /// Each block's bias, for sums of steps.
    bias: Vec<[i32; BLOCK]>,
}

impl Bytes {
    /// Packs weights for inputs of this zero point; `bias` accounts for it.
    pub fn new(
        weights: &Weights<'_>,
        input: &Canvas,
        zero: i8,
        bias: Vec<[i32; BLOCK]>,
        backend: ByteBackend,
    ) -> Self {
        let shape = *weights.shape;
        let runs = direct::runs(&shape, input);
        let parts = direct::parts(&runs, LANES, STEPS);
        let steps = parts.iter().flatten().map(|chunk| chunk.steps).sum();
        let ends = parts.iter().flatten().map(|chunk| chunk.offset + chunk.steps * LANES);
        let reach = ends.max().unwrap_or(0) + (shape.groups - 1) * shape.group_inputs();
        let weights = direct::packed(weights, &runs, LANES);
        Self { backend, shape, zero, parts, steps, reach, weights, bias }
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
        for block in blocks {
            target.load(layer, block, worker);
            self.accumulate(block, worker);
            layer.finish(block, worker);
            target.store(layer, block, worker);
        }
    }

    /// Fills `worker.bytes` with the steps of the input that the pixels at `worker.starts` need,
    /// and moves the starts there.
    fn narrow(&self, x: &[i16], [first, last]: [usize; 2], worker: &mut Worker) {
        let Worker { starts, bytes, .. } = worker;
        let end = last + self.reach;
        let zero = i16::from(self.zero);
        bytes.clear();
        bytes.extend(x[first..end.min(x.len())].iter().map(|value| (value + zero) as i8));
        // The last step may end behind the input, where its values meet zero weights.
        bytes.resize(end - first, 0);
        starts.iter_mut().for_each(|start| *start -= first);
    }

    /// Fills `worker.sums` with a block's sums.
    fn accumulate(&self, block: usize, worker: &mut Worker) {
        let Worker { starts, sums, bytes, .. } = worker;
        let x = &bytes[block / group_blocks(&self.shape) * self.shape.group_inputs()..];
        let step = LANES * BLOCK;
        let mut weights = &self.weights[block * self.steps * step..][..self.steps * step];
        let mut first = Some(&self.bias[block]);
        for part in &self.parts {
            let own;
            (own, weights) = weights.split_at(part.iter().map(|c| c.steps).sum::<usize>() * step);
            self.backend.accumulate(x, starts, part, own, first.take(), sums);
        }
    }
}
