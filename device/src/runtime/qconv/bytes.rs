//! Convolution by its definition on the bytes of the input: its steps, with their zero point.
//!
//! What a piece of work needs of the input is narrowed to bytes first; the bias accounts for the
//! zero point. A processor that adds up the products of four bytes at once is faster this way than
//! on words.

use super::kernel::{ByteBackend, Chunk, steps_of};
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
    /// Each block's bias, for sums of bytes.
    bias: Vec<[i32; BLOCK]>,
}

impl Bytes {
    /// Packs weights for inputs like `input`.
    pub fn new(params: &QConvParams<'_>, input: &Canvas, backend: ByteBackend) -> Self {
        let shape = params.shape;
        let runs = direct::runs(&shape, input);
        let parts = direct::parts(&runs, LANES, STEPS);
        let steps = parts.iter().map(|part| steps_of(part)).sum();
        let ends = parts.iter().flatten().map(|chunk| chunk.offset + chunk.steps * LANES);
        let reach = ends.max().unwrap_or(0) + (shape.groups - 1) * shape.group_inputs();
        let weights = Weights { shape: &shape, values: params.weights };
        let weights = direct::packed(&weights, &runs, LANES);
        let origin = i16::from(params.x_zero);
        let bias = pack_channels(&params.bias_around(origin.into()), &shape);
        Self { backend, shape, origin, parts, steps, reach, weights, bias }
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
        for block in blocks {
            self.convolve(layer, block, target, worker);
        }
    }

    /// Computes and writes a block's output.
    fn convolve(&self, layer: &Layer, block: usize, target: &Target<'_>, worker: &mut Worker) {
        let Worker { starts, sums, bytes, .. } = worker;
        let x = &bytes[block / group_blocks(&self.shape) * self.shape.group_inputs()..];
        let mut weights = &self.weights[block * self.steps * STEP..][..self.steps * STEP];
        let mut first = Some(&self.bias[block]);
        for part in &self.parts {
            let own;
            (own, weights) = weights.split_at(steps_of(part) * STEP);
            self.backend.accumulate(x, starts, part, own, first.take(), sums);
        }
        target.load(layer, block, worker);
        layer.finish(block, worker);
        target.store(layer, block, worker);
    }
}

/// Fills `worker.bytes` with the bytes of the input that the pixels at `worker.starts` need, each
/// with `origin` added, and moves the starts there. A pixel needs `reach` values.
pub(super) fn narrow(x: &[i16], origin: i16, reach: usize, worker: &mut Worker) {
    let Worker { starts, bytes, .. } = worker;
    bytes.clear();
    let (Some(&first), Some(&last)) = (starts.first(), starts.last()) else { return };
    let end = last + reach;
    bytes.extend(x[first..end.min(x.len())].iter().map(|value| (value + origin) as i8));
    // The last step may end behind the input, where its values meet zero weights.
    bytes.resize(end - first, 0);
    starts.iter_mut().for_each(|start| *start -= first);
}
