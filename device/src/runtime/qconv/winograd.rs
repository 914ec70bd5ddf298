//! Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray 2015, arXiv 1509.09308) in exact
//! integers: 16 multiplications for four outputs of a 3x3 convolution instead of 36.
//!
//! With `G` doubled every transform is whole-numbered, `y = A^T [(2G w (2G)^T) * (B^T x B)] A / 4`,
//! and every operand fits in 16 bits: transformed inputs are sums of four values of at most 255,
//! transformed weights are at most nine times 128. Sums on the way may wrap around 32 bits; the
//! last one, four times the convolution, may not, which [`Winograd::suits`] checks. So the result
//! has the same bits as the definition's.
//!
//! A max-pool of 2x2 behind the convolution is the largest of a tile's four outputs, because
//! requantization never exchanges two values.

use super::kernel::{Backend, Chunk, Start};
use super::pack::{BLOCK, Weights};
use super::shape::ConvShape;
use super::{Layer, Target, Worker};

/// Positions of a transformed tile.
const POSITIONS: usize = 16;

/// Most tiles worked on together.
const TILES: usize = 48;

/// Bytes of transformed input and of products, each, that a second-level cache should keep.
const CACHE: usize = 192 * 1024;

/// A 3x3 convolution's transformed weights, `[block][position][step][BLOCK][lanes]`.
#[derive(Clone, Debug)]
pub(super) struct Winograd {
    channels: usize,
    weights: Vec<i16>,
    /// What each block's products begin with, at each position: their surplus, taken away.
    start: Vec<[[i32; BLOCK]; POSITIONS]>,
}

impl Winograd {
    /// Whether a convolution can be computed this way; `largest` bounds the magnitude of its sums,
    /// bias included.
    pub fn suits(shape: &ConvShape, output: [usize; 2], largest: i64) -> bool {
        shape.kernel == [3, 3]
            && shape.stride == 1
            && shape.groups == 1
            && shape.input_channels.is_multiple_of(BLOCK)
            && output.iter().all(|side| *side > 0 && side.is_multiple_of(2))
            && largest < 1 << 29
    }

    pub fn new(weights: &Weights<'_>, backend: Backend) -> Self {
        let shape = weights.shape;
        let channels = shape.input_channels;
        let lanes = backend.lanes();
        let block_len = POSITIONS * channels * BLOCK;
        let line_len = lanes * BLOCK;
        let mut packed = vec![0; shape.output_channels.div_ceil(BLOCK) * block_len];
        // Positions lie so far apart that they would push each other out of the cache: a step's
        // lines are filled elsewhere, and copied whole.
        let mut lines = vec![0; POSITIONS * line_len];
        for (block, packed) in packed.chunks_exact_mut(block_len).enumerate() {
            let own: [&[i8]; BLOCK] =
                std::array::from_fn(|channel| weights.of(0, block * BLOCK + channel));
            for step in 0..channels / lanes {
                for at in 0..line_len {
                    let (channel, input) = (at / lanes, step * lanes + at % lanes);
                    let taps = own[channel].as_chunks::<9>().0.get(input).unwrap_or(&[0; 9]);
                    for (position, value) in transformed(taps).into_iter().enumerate() {
                        lines[position * line_len + at] = value;
                    }
                }
                for (position, line) in lines.chunks_exact(line_len).enumerate() {
                    let start = position * channels * BLOCK + step * line_len;
                    packed[start..][..line_len].copy_from_slice(line);
                }
            }
        }
        let chunk = chunk(channels, backend);
        let start = |block: &[i16]| {
            std::array::from_fn(|position| {
                let weights = &block[position * channels * BLOCK..][..channels * BLOCK];
                backend.channel_surplus(&chunk, weights).map(i32::wrapping_neg)
            })
        };
        let start = packed.chunks_exact(block_len).map(start).collect();
        Self { channels, weights: packed, start }
    }

    /// Pieces of work that may be done at the same time.
    pub fn pieces(&self, layer: &Layer, threads: usize) -> usize {
        let most = (CACHE / (POSITIONS * self.channels * size_of::<i16>())).clamp(24, TILES);
        let pieces = tiles(layer).div_ceil(most);
        // Few pieces must share out evenly among the threads.
        let even = if pieces < 8 * threads { pieces.next_multiple_of(threads) } else { pieces };
        even.min(tiles(layer))
    }

    /// Does one piece: some tiles, all output channels.
    pub fn run(
        &self,
        layer: &Layer,
        (piece, pieces): (usize, usize),
        x: &[i16],
        target: &Target<'_>,
        worker: &mut Worker,
    ) {
        let tiles = tiles(layer);
        let range = piece * tiles / pieces..(piece + 1) * tiles / pieces;
        let count = range.len();
        self.transform(layer, range.clone(), x, worker);
        worker.starts.clear();
        worker.starts.extend((0..count).map(|tile| tile * self.channels));
        self.measure_surplus(layer, count, worker);
        if layer.pool {
            target.place_pixels(layer, range, worker);
        } else {
            target.place_tiles(layer, range, worker);
        }
        let blocks = (CACHE / (POSITIONS * count.max(1) * size_of::<[i32; BLOCK]>())).max(1);
        for first in (0..layer.constants.len()).step_by(blocks) {
            let last = layer.constants.len().min(first + blocks);
            worker.products.resize((last - first) * POSITIONS * count, [0; BLOCK]);
            self.multiply(layer, first..last, count, worker);
            for block in first..last {
                inverse(layer, block, block - first, count, worker);
                target.load(layer, block, worker);
                layer.finish(block, worker);
                target.store(layer, block, worker);
            }
        }
    }

    /// Fills `worker.surplus`, `[position][tile]`.
    fn measure_surplus(&self, layer: &Layer, count: usize, worker: &mut Worker) {
        let stride = count * self.channels;
        worker.surplus.clear();
        worker.surplus.resize(POSITIONS * count, 0);
        let planes = worker.transformed.chunks_exact(stride.max(1));
        for (values, surplus) in planes.zip(worker.surplus.chunks_exact_mut(count.max(1))) {
            let chunk = chunk(self.channels, layer.backend);
            layer.backend.pixel_surplus(values, &worker.starts, &chunk, surplus);
        }
    }

    /// Fills `worker.transformed`, `[position][tile][channel]`.
    fn transform(
        &self,
        layer: &Layer,
        tiles: std::ops::Range<usize>,
        x: &[i16],
        worker: &mut Worker,
    ) {
        let stride = tiles.len() * self.channels;
        worker.transformed.resize(POSITIONS * stride, 0);
        let [top, left, ..] = layer.shape.padding;
        let input = &layer.input;
        let across = layer.convolved[1] / 2;
        for (index, tile) in tiles.enumerate() {
            let (row, column) = (2 * (tile / across), 2 * (tile % across));
            let start = (row + input.border - top) * input.row_len()
                + (column + input.border - left) * self.channels;
            layer.backend.transform_input(
                x,
                start,
                input.row_len(),
                self.channels,
                &mut worker.transformed[index * self.channels..],
                stride,
            );
        }
    }

    /// Fills `worker.products`, `[block][position][tile]`.
    fn multiply(
        &self,
        layer: &Layer,
        blocks: std::ops::Range<usize>,
        count: usize,
        worker: &mut Worker,
    ) {
        let position_len = self.channels * BLOCK;
        let stride = count * self.channels;
        let chunk = chunk(self.channels, layer.backend);
        for position in 0..POSITIONS {
            let values = &worker.transformed[position * stride..][..stride];
            let surplus = &worker.surplus[position * count..][..count];
            for (index, block) in blocks.clone().enumerate() {
                let at = (block * POSITIONS + position) * position_len;
                layer.backend.accumulate(
                    values,
                    &worker.starts,
                    &chunk,
                    &self.weights[at..][..position_len],
                    Some(Start { bias: &self.start[block][position], surplus }),
                    &mut worker.products[(index * POSITIONS + position) * count..][..count],
                );
            }
        }
    }
}

/// All channels of a tile's position.
fn chunk(channels: usize, backend: Backend) -> [Chunk; 1] {
    [Chunk { offset: 0, steps: channels / backend.lanes() }]
}

/// Tiles of a layer.
fn tiles(layer: &Layer) -> usize {
    layer.convolved[0] / 2 * (layer.convolved[1] / 2)
}

/// Fills `worker.sums` with a block's sums, four for each tile, or their largest where a max-pool
/// follows.
fn inverse(layer: &Layer, block: usize, index: usize, count: usize, worker: &mut Worker) {
    let bias = &layer.constants[block].bias;
    let products = &worker.products[index * POSITIONS * count..][..POSITIONS * count];
    worker.sums.resize(if layer.pool { count } else { 4 * count }, [0; BLOCK]);
    for tile in 0..count {
        let mut sums = [[0; BLOCK]; 4];
        layer.backend.transform_output(&products[tile..], count, bias, &mut sums);
        if layer.pool {
            let [a, b, c, d] = sums;
            let largest = |i: usize| a[i].max(b[i]).max(c[i]).max(d[i]);
            worker.sums[tile] = std::array::from_fn(largest);
        } else {
            worker.sums[4 * tile..][..4].copy_from_slice(&sums);
        }
    }
}

/// `2G w (2G)^T`, row by row, of `[ky][kx]`.
fn transformed(taps: &[i8; 9]) -> [i16; POSITIONS] {
    let tap = |ky: usize, kx: usize| i16::from(taps[3 * ky + kx]);
    let by_column: [[i16; 4]; 3] =
        std::array::from_fn(|kx| doubled(std::array::from_fn(|ky| tap(ky, kx))));
    let mut values = [0; POSITIONS];
    for (row, values) in values.chunks_exact_mut(4).enumerate() {
        values.copy_from_slice(&doubled(std::array::from_fn(|kx| by_column[kx][row])));
    }
    values
}

/// The one-dimensional weight transform `2G w`.
fn doubled([a, b, c]: [i16; 3]) -> [i16; 4] {
    [2 * a, a + b + c, a - b + c, 2 * c]
}
