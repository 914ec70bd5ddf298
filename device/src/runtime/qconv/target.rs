//! From sums to the output: requantization, the residual sum, and writing.

#![allow(unsafe_code, reason = "threads write disjoint parts of one output; see `Target::write`")]

use std::marker::PhantomData;
use std::ops::Range;

use super::kernel::Residual;
use super::pack::BLOCK;
use super::shape::Canvas;
use super::{Layer, Worker};

/// The output of a convolution, written by several threads.
///
/// Invariant: no two pieces of work share both a pixel and a channel.
pub(super) struct Target<'a> {
    values: *mut i16,
    len: usize,
    skip: Option<Skip<'a>>,
    lifetime: PhantomData<&'a mut [i16]>,
}

/// Where an output pixel's first value lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    output: usize,
    /// In the other operand of the residual sum.
    skip: usize,
}

/// The other operand of a residual sum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skip<'a> {
    pub values: &'a [i16],
    pub canvas: Canvas,
    pub residual: Residual,
}

// SAFETY: the pointer leads to plain numbers that only `write` touches, each place by one thread.
unsafe impl Sync for Target<'_> {}

impl<'a> Target<'a> {
    pub fn new(values: &'a mut [i16], skip: Option<Skip<'a>>) -> Self {
        Self { values: values.as_mut_ptr(), len: values.len(), skip, lifetime: PhantomData }
    }

    /// Notes where the given output pixels lie.
    pub fn place_pixels(&self, layer: &Layer, pixels: Range<usize>, worker: &mut Worker) {
        let width = layer.output.width;
        self.place(layer, pixels.map(|pixel| [pixel / width, pixel % width]), worker);
    }

    /// Notes where the four output pixels of each given 2x2 tile lie.
    pub fn place_tiles(&self, layer: &Layer, tiles: Range<usize>, worker: &mut Worker) {
        let across = layer.output.width / 2;
        let places = tiles.flat_map(|tile| {
            let (row, column) = (2 * (tile / across), 2 * (tile % across));
            [[row, column], [row, column + 1], [row + 1, column], [row + 1, column + 1]]
        });
        self.place(layer, places, worker);
    }

    fn place(&self, layer: &Layer, places: impl Iterator<Item = [usize; 2]>, worker: &mut Worker) {
        worker.places.clear();
        let skip = self.skip.map_or(layer.output, |skip| skip.canvas);
        worker.places.extend(places.map(|[row, column]| Place {
            output: layer.output.offset(row, column),
            skip: skip.offset(row, column),
        }));
    }

    /// Turns `worker.sums`, one for each place noted, into steps and writes them.
    pub fn finish(&self, layer: &Layer, block: usize, worker: &mut Worker) {
        let Worker { sums, steps, places, .. } = worker;
        let channels = layer.channels(block);
        steps.resize(sums.len(), [0; BLOCK]);
        let to = &layer.constants[block].requantize;
        if let Some(skip) = &self.skip {
            for (steps, place) in steps.iter_mut().zip(places.iter()) {
                copy_channels(&skip.values[place.skip + channels.start..][..channels.len()], steps);
            }
            layer.backend.requantize_and_add(sums, to, &skip.residual, steps);
        } else {
            layer.backend.requantize(sums, to, steps);
        }
        for (steps, place) in steps.iter().zip(places) {
            self.write(place.output + channels.start, steps, channels.len());
        }
    }

    fn write(&self, at: usize, steps: &[i16; BLOCK], count: usize) {
        assert!(at + count <= self.len && count <= BLOCK);
        // SAFETY: the place is inside the output by the assertion, and no other piece of work
        // writes it by the type's invariant. A whole block is a copy of constant size.
        unsafe {
            let place = self.values.add(at);
            if count == BLOCK {
                std::ptr::copy_nonoverlapping(steps.as_ptr(), place, BLOCK);
            } else {
                std::ptr::copy_nonoverlapping(steps.as_ptr(), place, count);
            }
        }
    }
}

/// Copies up to a block; a whole one is a copy of constant size.
fn copy_channels(from: &[i16], to: &mut [i16; BLOCK]) {
    if let Ok(block) = <&[i16; BLOCK]>::try_from(from) {
        *to = *block;
    } else {
        to[..from.len()].copy_from_slice(from);
    }
}
