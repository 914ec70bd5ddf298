//! Writing the output of a convolution, and reading the operand that is added to it.

#![allow(unsafe_code, reason = "threads write disjoint parts of one output; see `Target`")]

use std::marker::PhantomData;
use std::ops::Range;

use super::kernel::Quantize;
use super::pack::BLOCK;
use super::shape::places;
use super::{Layer, Worker};

/// The outputs of a convolution and the other operand of its sum.
///
/// Invariant: no two pieces of work share both a pixel and a channel.
pub(super) struct Target<'a> {
    /// Steps, as the layer's output canvas lies.
    pub steps: Option<Shared<'a, i16>>,
    /// Real numbers, `[pixel][channel]`.
    pub reals: Option<Shared<'a, f32>>,
    /// Added to the reals; lies like them.
    pub skip: Option<&'a [f32]>,
    /// From reals to steps.
    pub quantize: Option<Quantize>,
}

/// Where an output pixel's first value lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    steps: usize,
    reals: usize,
}

impl Target<'_> {
    /// Notes where the given output pixels lie.
    pub fn place_pixels(&self, layer: &Layer, pixels: Range<usize>, worker: &mut Worker) {
        place(layer, places(pixels, layer.output.width), worker);
    }

    /// Notes where the four output pixels of each given 2x2 tile lie.
    pub fn place_tiles(&self, layer: &Layer, tiles: Range<usize>, worker: &mut Worker) {
        let corners = places(tiles, layer.output.width / 2).flat_map(|[row, column]| {
            let (row, column) = (2 * row, 2 * column);
            [[row, column], [row, column + 1], [row + 1, column], [row + 1, column + 1]]
        });
        place(layer, corners, worker);
    }

    /// Fills `worker.reals` with what is added to a block's output, one for each place noted.
    pub fn load(&self, layer: &Layer, block: usize, worker: &mut Worker) {
        let Worker { steps, reals, places, .. } = worker;
        steps.resize(places.len(), [0; BLOCK]);
        if self.reals.is_none() {
            return;
        }
        reals.resize(places.len(), [0.0; BLOCK]);
        let channels = layer.channels(block);
        match self.skip {
            None => reals.fill([0.0; BLOCK]),
            Some(skip) => {
                for (reals, place) in reals.iter_mut().zip(places) {
                    copy(&skip[place.reals + channels.start..][..channels.len()], reals);
                }
            }
        }
    }

    /// Writes a block's output, one for each place noted, from `worker.reals` where the layer gives
    /// real numbers, else from `worker.steps`.
    pub fn store(&self, layer: &Layer, block: usize, worker: &mut Worker) {
        let Worker { steps, reals, places, .. } = worker;
        let channels = layer.channels(block);
        if let Some(target) = &self.reals {
            let places = places.iter().map(|place| place.reals + channels.start);
            target.write(reals, places, channels.len());
            if let Some(quantize) = &self.quantize {
                layer.backend.quantize(reals, quantize, steps);
            }
        }
        if let Some(target) = &self.steps {
            let places = places.iter().map(|place| place.steps + channels.start);
            target.write(steps, places, channels.len());
        }
    }
}

/// Where one block's outputs go, and what is added to them, by the number of the place noted: for
/// kernels that write through instead of into a worker's memory.
pub(super) struct Sink<'a> {
    target: &'a Target<'a>,
    places: &'a [Place],
    /// The block's first channel.
    channel: usize,
}

impl<'a> Target<'a> {
    /// The sink of a block; none where the block is not all channels.
    pub fn sink(&'a self, layer: &Layer, block: usize, places: &'a [Place]) -> Option<Sink<'a>> {
        let channels = layer.channels(block);
        (channels.len() == BLOCK).then_some(Sink { target: self, places, channel: channels.start })
    }
}

impl Sink<'_> {
    /// From reals to steps, where both are wanted.
    pub fn quantize(&self) -> Option<&Quantize> {
        self.target.quantize.as_ref()
    }

    /// What is added to a pixel's reals.
    #[inline]
    pub fn skip(&self, pixel: usize) -> [f32; BLOCK] {
        let at = self.places[pixel].reals + self.channel;
        let own = |skip: &[f32]| std::array::from_fn(|i| skip[at..][..BLOCK][i]);
        self.target.skip.map_or([0.0; BLOCK], own)
    }

    /// Writes a pixel's steps.
    #[inline]
    pub fn put_steps(&self, pixel: usize, steps: &[i16; BLOCK]) {
        if let Some(target) = &self.target.steps {
            target.write_block(self.places[pixel].steps + self.channel, steps);
        }
    }

    /// Writes a pixel's reals.
    #[inline]
    pub fn put_reals(&self, pixel: usize, reals: &[f32; BLOCK]) {
        if let Some(target) = &self.target.reals {
            target.write_block(self.places[pixel].reals + self.channel, reals);
        }
    }
}

fn place(layer: &Layer, places: impl Iterator<Item = [usize; 2]>, worker: &mut Worker) {
    worker.places.clear();
    worker.places.extend(places.map(|[row, column]| Place {
        steps: layer.output.offset(row, column),
        reals: (row * layer.output.width + column) * layer.output.channels,
    }));
}

/// Numbers that several threads write, each its own part.
pub(super) struct Shared<'a, T> {
    values: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer leads to plain numbers that only `write` touches, each place by one thread.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T: Copy> Shared<'a, T> {
    pub fn new(values: &'a mut [T]) -> Self {
        Self { values: values.as_mut_ptr(), len: values.len(), lifetime: PhantomData }
    }

    /// Writes the first `count` values of each block to its place.
    fn write(&self, blocks: &[[T; BLOCK]], places: impl Iterator<Item = usize>, count: usize) {
        if count == BLOCK {
            places.zip(blocks).for_each(|(at, block)| self.write_block(at, block));
        } else {
            places.zip(blocks).for_each(|(at, block)| self.write_part(at, &block[..count]));
        }
    }

    /// A write of constant size, which is a few instructions.
    #[inline]
    fn write_block(&self, at: usize, block: &[T; BLOCK]) {
        assert!(at + BLOCK <= self.len);
        // SAFETY: the place is inside the output by the assertion, and no other piece of work
        // writes it by `Target`'s invariant.
        unsafe { self.values.add(at).cast::<[T; BLOCK]>().write_unaligned(*block) };
    }

    fn write_part(&self, at: usize, values: &[T]) {
        assert!(at + values.len() <= self.len);
        // SAFETY: as above.
        unsafe {
            std::ptr::copy_nonoverlapping(values.as_ptr(), self.values.add(at), values.len());
        }
    }
}

/// Copies up to a block; a whole one is a copy of constant size.
fn copy(from: &[f32], to: &mut [f32; BLOCK]) {
    if let Ok(block) = <&[f32; BLOCK]>::try_from(from) {
        *to = *block;
    } else {
        to[..from.len()].copy_from_slice(from);
    }
}
