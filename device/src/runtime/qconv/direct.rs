//! Convolution by its definition, reading the input in place: no im2col.
//!
//! Under one kernel row the input values of an output pixel are adjacent, whatever the kernel's
//! width, so a 7x7 convolution is seven runs of values and a 1x1 convolution is one.

use std::ops::Range;

use super::kernel::{Backend, Chunk, Start, Sums, steps_of};
use super::pack::{BLOCK, Weights, group_blocks};
use super::shape::{Canvas, ConvShape, places};
use super::{Constants, Finish, Layer, Target, Worker};

/// Least and most output pixels whose sums are kept while one block's weights are read.
const BAND: Range<usize> = 48..192;

/// Bytes of output that a second-level cache should keep until all channels of its pixels are
/// written.
const OUTPUT: usize = 128 * 1024;

/// Values whose weights fit in a first-level cache beside them: 16 KiB.
const VALUES: usize = 512;

/// A convolution's weights, and where its input values lie.
#[derive(Clone, Debug)]
pub(super) struct Direct {
    shape: ConvShape,
    /// Runs of values under the kernel, cut into parts that share a first-level cache with their
    /// weights.
    parts: Vec<Vec<Chunk>>,
    /// Steps of all parts.
    steps: usize,
    /// `[group][block][step][BLOCK][lanes]`, in bytes: a network's weights pass the caches once for
    /// every scan, and only what is being multiplied has to be words.
    weights: Vec<i8>,
    /// Each block's bias, less its surplus.
    bias: Vec<[i32; BLOCK]>,
}

impl Direct {
    pub fn new(
        weights: &Weights<'_>,
        input: &Canvas,
        bias: &[[i32; BLOCK]],
        backend: Backend,
    ) -> Self {
        let runs = runs(weights.shape, input);
        let lanes = backend.lanes();
        let parts = parts(&runs, lanes, VALUES / lanes);
        let steps: usize = runs.iter().map(|run| run.len.div_ceil(lanes)).sum();
        let packed = packed(weights, &runs, lanes);
        let mut widened = Vec::new();
        let blocks = packed.chunks_exact(steps * lanes * BLOCK).zip(bias);
        let bias = blocks.map(|(weights, bias)| {
            widen(weights, &mut widened);
            less_surplus(&widened, bias, &parts, backend)
        });
        let bias = bias.collect();
        Self { shape: *weights.shape, parts, steps, weights: packed, bias }
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
        let mut measured = None;
        for block in begin(layer, piece, target, worker) {
            let group = block / group_blocks(&self.shape);
            if measured != Some(group) {
                self.measure_surplus(layer, group, x, worker);
                measured = Some(group);
            }
            target.load(layer, block, worker);
            self.convolve(layer, block, x, worker);
            target.store(layer, block, worker);
        }
    }

    /// Fills `worker.surplus` for a group's channels.
    fn measure_surplus(&self, layer: &Layer, group: usize, x: &[i16], worker: &mut Worker) {
        let x = &x[group * self.shape.group_inputs()..];
        worker.surplus.clear();
        worker.surplus.resize(worker.starts.len(), 0);
        for part in &self.parts {
            layer.backend.pixel_surplus(x, &worker.starts, part, &mut worker.surplus);
        }
    }

    /// Fills `worker.steps` or `worker.reals` with a block's output.
    fn convolve(&self, layer: &Layer, block: usize, x: &[i16], worker: &mut Worker) {
        let group = block / group_blocks(&self.shape);
        let x = &x[group * self.shape.group_inputs()..];
        let step = layer.backend.lanes() * BLOCK;
        let mut weights = &self.weights[block * self.steps * step..][..self.steps * step];
        let finish = &layer.constants[block].finish;
        let Worker { starts, surplus, sums, steps, reals, weights: widened, .. } = worker;
        let start = Start { bias: &self.bias[block], surplus };
        for (index, part) in self.parts.iter().enumerate() {
            let own;
            (own, weights) = weights.split_at(steps_of(part) * step);
            widen(own, widened);
            let own = widened.as_slice();
            if index + 1 < self.parts.len() {
                let first = (index == 0).then_some(start);
                layer.backend.accumulate(x, starts, part, own, first, sums);
                continue;
            }
            let sums = if index == 0 { Sums::First(start) } else { Sums::Later(sums) };
            match finish {
                Finish::Steps(to) => {
                    layer.backend.accumulate_to_steps(x, starts, part, own, sums, to, steps);
                }
                Finish::Reals(to) => {
                    layer.backend.accumulate_to_reals(x, starts, part, own, sums, to, reals);
                }
            }
        }
    }
}

/// Pieces of work that may be done at the same time.
pub(super) fn pieces(layer: &Layer, threads: usize) -> usize {
    bands(layer) * segments(layer, threads)
}

/// Notes where the input and output of a piece's pixels lie; returns its blocks of channels.
pub(super) fn begin(
    layer: &Layer,
    (piece, pieces): (usize, usize),
    target: &Target<'_>,
    worker: &mut Worker,
) -> Range<usize> {
    let segments = pieces / bands(layer).max(1);
    let (band, segment) = (piece / segments, piece % segments);
    let pixels = layer.output.pixels();
    let each = pixels.div_ceil(bands(layer));
    let first = (band * each).min(pixels);
    let range = first..(first + each).min(pixels);
    worker.sums.resize(range.len(), [0; BLOCK]);
    worker.starts.clear();
    let starts = places(range.clone(), layer.output.width).map(|place| start(layer, place));
    worker.starts.extend(starts);
    target.place_pixels(layer, range, worker);
    let blocks = layer.constants.len().div_ceil(segments);
    (segment * blocks).min(layer.constants.len())..layer.constants.len().min((segment + 1) * blocks)
}

/// Where an output pixel's first input value lies.
fn start(layer: &Layer, [row, column]: [usize; 2]) -> usize {
    let [top, left, ..] = layer.shape.padding;
    let input = &layer.input;
    (row * layer.shape.stride + input.border - top) * input.row_len()
        + (column * layer.shape.stride + input.border - left) * input.channels
}

/// A block's bias, less the surplus of its weights.
fn less_surplus(
    weights: &[i16],
    bias: &[i32; BLOCK],
    parts: &[Vec<Chunk>],
    backend: Backend,
) -> [i32; BLOCK] {
    let (mut weights, mut bias) = (weights, *bias);
    for part in parts {
        let own;
        (own, weights) = weights.split_at(steps_of(part) * backend.lanes() * BLOCK);
        for (bias, surplus) in bias.iter_mut().zip(backend.channel_surplus(part, own)) {
            *bias = bias.wrapping_sub(surplus);
        }
    }
    bias
}

/// Fills `words` with these bytes.
fn widen(bytes: &[i8], words: &mut Vec<i16>) {
    words.clear();
    words.extend(bytes.iter().map(|byte| i16::from(*byte)));
}

/// Parts of the output's pixels.
fn bands(layer: &Layer) -> usize {
    let real = matches!(layer.constants.first(), Some(Constants { finish: Finish::Reals(_), .. }));
    let value = size_of::<i16>() + if real { 2 * size_of::<f32>() } else { 0 };
    let most = OUTPUT / (layer.output.channels * value).max(1);
    layer.output.pixels().div_ceil(most.clamp(BAND.start, BAND.end))
}

/// Parts of the output's channels: one where the bands alone keep every thread busy to the end.
fn segments(layer: &Layer, threads: usize) -> usize {
    if threads == 1 || bands(layer) >= 8 * threads {
        1
    } else {
        (4 * threads).div_ceil(bands(layer).max(1)).min(layer.constants.len()).max(1)
    }
}

/// Adjacent input values that a kernel covers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub ky: usize,
    pub kx: usize,
    /// Relative to the output pixel's first input value.
    pub offset: usize,
    pub len: usize,
}

/// Without groups one run for each kernel row; with groups one for each kernel pixel.
pub(super) fn runs(shape: &ConvShape, input: &Canvas) -> Vec<Run> {
    let [height, width] = shape.kernel;
    let (columns, pixels) = if shape.groups == 1 { (1, width) } else { (width, 1) };
    let mut runs = Vec::new();
    for ky in 0..height {
        for kx in 0..columns {
            let offset = ky * input.row_len() + kx * input.channels;
            runs.push(Run { ky, kx, offset, len: pixels * shape.group_inputs() });
        }
    }
    runs
}

/// Cuts runs into parts of at most so many steps of so many values.
pub(super) fn parts(runs: &[Run], lanes: usize, most: usize) -> Vec<Vec<Chunk>> {
    let mut parts = vec![Vec::new()];
    let mut room = most;
    for run in runs {
        let (mut offset, mut left) = (run.offset, run.len.div_ceil(lanes));
        while left > 0 {
            if room == 0 {
                parts.push(Vec::new());
                room = most;
            }
            let steps = left.min(room);
            if let Some(part) = parts.last_mut() {
                part.push(Chunk { offset, steps });
            }
            (offset, left, room) = (offset + steps * lanes, left - steps, room - steps);
        }
    }
    parts
}

/// Weights, `[group][block][step][BLOCK][lanes]`.
pub(super) fn packed<W: Copy + Default, T: From<W> + Copy>(
    weights: &Weights<'_, W>,
    runs: &[Run],
    lanes: usize,
) -> Vec<T> {
    let shape = weights.shape;
    // Where each value's weight lies among those of an output channel.
    let places: Vec<Vec<usize>> = runs.iter().map(|run| places_of(run, shape)).collect();
    let steps: usize = runs.iter().map(|run| run.len.div_ceil(lanes)).sum();
    let blocks = shape.groups * group_blocks(shape);
    let mut packed = Vec::with_capacity(blocks * steps * lanes * BLOCK);
    for group in 0..shape.groups {
        for block in 0..group_blocks(shape) {
            let channels: [&[W]; BLOCK] =
                std::array::from_fn(|channel| weights.of(group, block * BLOCK + channel));
            for step in places.iter().flat_map(|places| places.chunks(lanes)) {
                for channel in channels {
                    let weight =
                        |lane: usize| step.get(lane).and_then(|place| channel.get(*place)).copied();
                    packed.extend((0..lanes).map(|lane| T::from(weight(lane).unwrap_or_default())));
                }
            }
        }
    }
    packed
}

fn places_of(run: &Run, shape: &ConvShape) -> Vec<usize> {
    let [height, width] = shape.kernel;
    let place = |k: usize| {
        let (kx, input) = (run.kx + k / shape.group_inputs(), k % shape.group_inputs());
        (input * height + run.ky) * width + kx
    };
    (0..run.len).map(place).collect()
}
