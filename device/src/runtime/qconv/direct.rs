//! Convolution by its definition, reading the input in place: no im2col.
//!
//! Under one kernel row the input values of an output pixel are adjacent, whatever the kernel's
//! width, so a 7x7 convolution is seven runs of values and a 1x1 convolution is one.

use super::kernel::{Chunk, LANES};
use super::pack::{BLOCK, Weights, group_blocks};
use super::shape::{Canvas, ConvShape};
use super::{Layer, Target, Worker};

/// Output pixels whose sums are kept while one block's weights are read.
const BAND: usize = 192;

/// Weight steps that fit in a first-level cache beside the values they meet: 16 KiB.
const STEPS: usize = 256;

/// Blocks of output channels in one piece of work, where a layer has few bands.
const BLOCKS: usize = 4;

/// A convolution's weights, and where its input values lie.
#[derive(Clone, Debug)]
pub(super) struct Direct {
    shape: ConvShape,
    /// Runs of values under the kernel, cut into parts that share a first-level cache with their
    /// weights.
    parts: Vec<Vec<Chunk>>,
    /// Steps of all parts.
    steps: usize,
    /// `[group][block][step][BLOCK][LANES]`.
    weights: Vec<i16>,
}

impl Direct {
    pub fn new(weights: &Weights<'_>, input: &Canvas) -> Self {
        let runs = runs(weights.shape, input);
        let parts = parts(&runs);
        let steps = runs.iter().map(|run| run.len.div_ceil(LANES)).sum();
        Self { shape: *weights.shape, parts, steps, weights: packed(weights, &runs) }
    }

    /// Pieces of work that may be done at the same time.
    pub fn pieces(&self, layer: &Layer) -> usize {
        bands(layer) * segments(layer)
    }

    /// Does one piece: a band of output pixels for some blocks of output channels.
    pub fn run(
        &self,
        layer: &Layer,
        piece: usize,
        x: &[i16],
        target: &Target<'_>,
        worker: &mut Worker,
    ) {
        let (band, segment) = (piece / segments(layer), piece % segments(layer));
        let pixels = layer.output.pixels();
        let each = pixels.div_ceil(bands(layer));
        let first = (band * each).min(pixels);
        let range = first..(first + each).min(pixels);
        worker.sums.resize(range.len(), [0; BLOCK]);
        worker.starts.clear();
        worker.starts.extend(range.clone().map(|pixel| self.start(layer, pixel)));
        target.place_pixels(layer, range, worker);
        let blocks = layer.constants.len().div_ceil(segments(layer));
        let last = layer.constants.len().min((segment + 1) * blocks);
        for block in segment * blocks..last {
            self.accumulate(layer, block, x, worker);
            target.finish(layer, block, worker);
        }
    }

    /// Where an output pixel's first input value lies.
    fn start(&self, layer: &Layer, pixel: usize) -> usize {
        let (row, column) = (pixel / layer.output.width, pixel % layer.output.width);
        let [top, left, ..] = self.shape.padding;
        let input = &layer.input;
        (row * self.shape.stride + input.border - top) * input.row_len()
            + (column * self.shape.stride + input.border - left) * input.channels
    }

    fn accumulate(&self, layer: &Layer, block: usize, x: &[i16], worker: &mut Worker) {
        let group = block / group_blocks(&self.shape);
        let x = &x[group * self.shape.group_inputs()..];
        let step = LANES * BLOCK;
        let mut weights = &self.weights[block * self.steps * step..][..self.steps * step];
        let mut first = Some(&layer.constants[block].bias);
        for part in &self.parts {
            let steps: usize = part.iter().map(|chunk| chunk.steps).sum();
            let (own, rest) = weights.split_at(steps * step);
            let (starts, sums) = (&worker.starts, &mut worker.sums);
            layer.backend.accumulate(x, starts, part, own, first.take(), sums);
            weights = rest;
        }
    }
}

/// Parts of the output's pixels.
fn bands(layer: &Layer) -> usize {
    layer.output.pixels().div_ceil(BAND)
}

/// Parts of the output's channels: one where the bands alone keep every thread busy.
fn segments(layer: &Layer) -> usize {
    if bands(layer) >= 8 { 1 } else { layer.constants.len().div_ceil(BLOCKS) }
}

/// Adjacent input values that a kernel covers.
#[derive(Clone, Copy, Debug)]
struct Run {
    ky: usize,
    kx: usize,
    /// Relative to the output pixel's first input value.
    offset: usize,
    len: usize,
}

/// Without groups one run for each kernel row; with groups one for each kernel pixel.
fn runs(shape: &ConvShape, input: &Canvas) -> Vec<Run> {
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

fn parts(runs: &[Run]) -> Vec<Vec<Chunk>> {
    let mut parts = vec![Vec::new()];
    let mut room = STEPS;
    for run in runs {
        let (mut offset, mut left) = (run.offset, run.len.div_ceil(LANES));
        while left > 0 {
            if room == 0 {
                parts.push(Vec::new());
                room = STEPS;
            }
            let steps = left.min(room);
            if let Some(part) = parts.last_mut() {
                part.push(Chunk { offset, steps });
            }
            (offset, left, room) = (offset + steps * LANES, left - steps, room - steps);
        }
    }
    parts
}

fn packed(weights: &Weights<'_>, runs: &[Run]) -> Vec<i16> {
    let shape = weights.shape;
    let mut packed = Vec::new();
    for group in 0..shape.groups {
        for block in 0..group_blocks(shape) {
            for run in runs {
                for k in (0..run.len).step_by(LANES) {
                    for channel in block * BLOCK..(block + 1) * BLOCK {
                        packed.extend((k..k + LANES).map(|k| {
                            let (kx, input) = (k / shape.group_inputs(), k % shape.group_inputs());
                            let inside = k < run.len;
                            let weight = || weights.at(group, channel, input, run.ky, run.kx + kx);
                            if inside { i16::from(weight()) } else { 0 }
                        }));
                    }
                }
            }
        }
    }
    packed
}
