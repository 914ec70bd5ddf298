//! The integer part of a network as a list of fused steps over memory planned once.
//!
//! A [`Program`] takes the preprocessed picture and gives the captured layer. Activations in steps
//! lie as [`Canvas`] describes, real numbers as `[pixel][channel]`, from the first step to the
//! last: nothing is transposed in between.

use std::sync::{Mutex, PoisonError};

use super::pool::Pool;
use super::qconv::{Affine, Canvas, Input, Outputs, QConv, QConvError, Worker, nearest_whole};

/// The steps from the picture to the captured layer, and the memory they work in.
#[derive(Debug)]
pub struct Program {
    steps: Vec<Step>,
    features: Features,
    /// Slot of what each step writes in steps, and in real numbers.
    slots: Slots,
    memory: Mutex<Memory>,
}

/// Number of a step, which names what it writes.
pub type Id = usize;

/// One step.
#[derive(Clone, Debug)]
pub enum Step {
    /// The picture in real numbers, one channel.
    Picture(Canvas),
    /// QuantizeLinear of the picture, one channel.
    Quantize {
        /// How the picture lies.
        canvas: Canvas,
        /// Its steps.
        to: Affine,
    },
    /// A convolution and what is fused with it.
    Convolution {
        /// The convolution.
        convolution: Box<QConv>,
        /// Its input.
        from: Id,
        /// The other operand of its sum.
        skip: Option<Id>,
    },
    /// A max-pool that no convolution took up.
    MaxPool(MaxPool),
}

/// A max-pool whose padding never wins.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool {
    /// The activation pooled.
    pub from: Id,
    /// How it lies.
    pub input: Canvas,
    /// Whether it is real numbers instead of steps.
    pub in_reals: bool,
    /// How the result lies.
    pub output: Canvas,
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Step of the window.
    pub stride: usize,
    /// Rows above and columns before the picture that the first window covers.
    pub padding: [usize; 2],
}

/// The captured layer.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// The step that computes it.
    pub from: Id,
    /// How that step's output lies.
    pub canvas: Canvas,
    /// The real value of a step; none where the output is real numbers.
    pub scale: Option<f32>,
}

/// Working memory, reused from run to run.
#[derive(Debug)]
struct Memory {
    steps: Vec<Slot<i16>>,
    reals: Vec<Slot<f32>>,
    workers: Vec<Mutex<Worker>>,
    pool: Pool,
}

/// Memory for one output at a time, from a cache line's start on: pixels are written in whole
/// lines.
#[derive(Debug, Default)]
struct Slot<T> {
    values: Vec<T>,
    start: usize,
}

impl<T: Copy + Default> Slot<T> {
    const LINE: usize = 64;

    fn new(len: usize) -> Self {
        let values = vec![T::default(); len + Self::LINE / size_of::<T>()];
        let start = values.as_ptr().align_offset(Self::LINE).min(Self::LINE / size_of::<T>());
        Self { values, start }
    }

    fn get(&self, len: usize) -> &[T] {
        &self.values[self.start..][..len]
    }

    fn get_mut(&mut self, len: usize) -> &mut [T] {
        &mut self.values[self.start..][..len]
    }
}

/// Where each step's outputs lie in memory.
#[derive(Debug)]
struct Slots {
    steps: Vec<Option<usize>>,
    reals: Vec<Option<usize>>,
}

/// Why a program cannot run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProgramError {
    /// A convolution refuses its operands.
    #[error(transparent)]
    Convolution(#[from] QConvError),
    /// The picture or the captured layer has another size.
    #[error("{what}: {actual} values, expected {expected}")]
    Length {
        /// Which.
        what: &'static str,
        /// The length given.
        actual: usize,
        /// The length needed.
        expected: usize,
    },
}

impl Step {
    /// How the output lies.
    pub fn output(&self) -> Canvas {
        match self {
            Self::Picture(canvas) | Self::Quantize { canvas, .. } => *canvas,
            Self::Convolution { convolution, .. } => convolution.output(),
            Self::MaxPool(pool) => pool.output,
        }
    }

    /// How many values the output has in steps.
    fn steps_len(&self) -> Option<usize> {
        let gives_steps = match self {
            Self::Picture(_) => false,
            Self::Quantize { .. } => true,
            Self::Convolution { convolution, .. } => convolution.gives_steps(),
            Self::MaxPool(pool) => !pool.in_reals,
        };
        gives_steps.then(|| self.output().len())
    }

    /// How many values the output has in real numbers.
    fn reals_len(&self) -> Option<usize> {
        let canvas = self.output();
        match self {
            Self::Picture(_) => Some(canvas.values()),
            Self::Convolution { convolution, .. } if convolution.gives_reals() => {
                Some(canvas.pixels() * canvas.channels)
            }
            Self::MaxPool(pool) if pool.in_reals => Some(canvas.pixels() * canvas.channels),
            _ => None,
        }
    }

    fn reads_steps_of(&self, id: Id) -> bool {
        match self {
            Self::Picture(_) | Self::Quantize { .. } => false,
            Self::Convolution { convolution, from, .. } => {
                *from == id && !convolution.reads_reals()
            }
            Self::MaxPool(pool) => pool.from == id && !pool.in_reals,
        }
    }

    /// Whether the step reads the real numbers of another.
    fn reads_reals_of(&self, id: Id) -> bool {
        match self {
            Self::Picture(_) | Self::Quantize { .. } => false,
            Self::Convolution { convolution, from, skip } => {
                *skip == Some(id) || (*from == id && convolution.reads_reals())
            }
            Self::MaxPool(pool) => pool.from == id && pool.in_reals,
        }
    }
}

impl Program {
    /// Plans the memory of steps and their captured layer.
    pub fn new(steps: Vec<Step>, features: Features, pool: Pool) -> Self {
        let end = steps.len();
        let last = |reads: &dyn Fn(&Step) -> bool, id: Id, captured: bool| {
            if id == features.from && captured { Some(end) } else { steps.iter().rposition(reads) }
        };
        let in_steps = features.scale.is_some();
        let (step_slots, step_sizes) = planned(steps.iter().map(Step::steps_len), |id| {
            last(&|step| step.reads_steps_of(id), id, in_steps)
        });
        let (real_slots, real_sizes) = planned(steps.iter().map(Step::reals_len), |id| {
            last(&|step| step.reads_reals_of(id), id, !in_steps)
        });
        let memory = Memory {
            steps: step_sizes.into_iter().map(Slot::new).collect(),
            reals: real_sizes.into_iter().map(Slot::new).collect(),
            workers: (0..pool.threads()).map(|_| Mutex::default()).collect(),
            pool,
        };
        let slots = Slots { steps: step_slots, reals: real_slots };
        Self { steps, features, slots, memory: Mutex::new(memory) }
    }

    /// Channels, height and width of the captured layer.
    pub fn features_shape(&self) -> [usize; 3] {
        let Canvas { height, width, channels, .. } = self.features.canvas;
        [channels, height, width]
    }

    /// Runs on a picture, `[1, 1, height, width]`, and writes the captured layer,
    /// `[channels, height, width]`. Nothing is allocated after the first run.
    ///
    /// # Errors
    /// When picture or captured layer have another length.
    pub fn run(&self, picture: &[f32], features: &mut [f32]) -> Result<(), ProgramError> {
        let expected = self.features_shape().iter().product();
        check_length("captured layer", features.len(), expected)?;
        // What a panicking run left behind is overwritten by the next.
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        for id in 0..self.steps.len() {
            // What is written leaves the memory meanwhile, so that the rest can be read.
            let slots = (self.slots.steps[id], self.slots.reals[id]);
            let mut steps = slots.0.map(|slot| std::mem::take(&mut memory.steps[slot]));
            let mut reals = slots.1.map(|slot| std::mem::take(&mut memory.reals[slot]));
            let written = self.write(id, picture, &mut memory, steps.as_mut(), reals.as_mut());
            if let (Some(slot), Some(steps)) = (slots.0, steps) {
                memory.steps[slot] = steps;
            }
            if let (Some(slot), Some(reals)) = (slots.1, reals) {
                memory.reals[slot] = reals;
            }
            written?;
        }
        Worker::level(&memory.workers);
        self.read_features(&memory, features);
        Ok(())
    }

    fn write(
        &self,
        id: Id,
        picture: &[f32],
        memory: &mut Memory,
        steps: Option<&mut Slot<i16>>,
        reals: Option<&mut Slot<f32>>,
    ) -> Result<(), ProgramError> {
        let step = &self.steps[id];
        let steps = steps.zip(step.steps_len()).map(|(slot, len)| slot.get_mut(len));
        let reals = reals.zip(step.reals_len()).map(|(slot, len)| slot.get_mut(len));
        let Memory { steps: all_steps, reals: all_reals, workers, pool } = memory;
        match step {
            Step::Picture(canvas) => {
                check_length("picture", picture.len(), canvas.pixels())?;
                if let Some(y) = reals {
                    y.fill(0.0);
                    for (row, values) in picture.chunks_exact(canvas.width).enumerate() {
                        y[canvas.offset(row, 0)..][..canvas.width].copy_from_slice(values);
                    }
                }
            }
            Step::Quantize { canvas, to } => {
                check_length("picture", picture.len(), canvas.pixels())?;
                if let Some(y) = steps {
                    canvas.clear_border(y);
                    quantize(picture, canvas, *to, y);
                }
            }
            Step::Convolution { convolution, from, skip } => {
                let x = if convolution.reads_reals() {
                    Input::Reals(self.reals_of(all_reals, *from))
                } else {
                    Input::Steps(self.steps_of(all_steps, *from))
                };
                let skip = skip.map(|id| self.reals_of(all_reals, id));
                convolution.run(x, skip, Outputs { steps, reals }, pool, workers)?;
            }
            Step::MaxPool(max_pool) => {
                if let Some(y) = steps {
                    max_pool.output.clear_border(y);
                    max_pool.run(self.steps_of(all_steps, max_pool.from), y, i16::MIN);
                }
                if let Some(y) = reals {
                    max_pool.run(self.reals_of(all_reals, max_pool.from), y, f32::NEG_INFINITY);
                }
            }
        }
        Ok(())
    }

    fn steps_of<'a>(&self, memory: &'a [Slot<i16>], id: Id) -> &'a [i16] {
        let slot = self.slots.steps[id].zip(self.steps[id].steps_len());
        slot.map_or(&[], |(slot, len)| memory[slot].get(len))
    }

    fn reals_of<'a>(&self, memory: &'a [Slot<f32>], id: Id) -> &'a [f32] {
        let slot = self.slots.reals[id].zip(self.steps[id].reals_len());
        slot.map_or(&[], |(slot, len)| memory[slot].get(len))
    }

    /// Writes the captured layer channel by channel.
    fn read_features(&self, memory: &Memory, features: &mut [f32]) {
        let Features { from, canvas, scale } = self.features;
        let pixels = canvas.pixels();
        for pixel in 0..pixels {
            let out = features[pixel..].iter_mut().step_by(pixels);
            if let Some(scale) = scale {
                let (row, column) = (pixel / canvas.width, pixel % canvas.width);
                let values = &self.steps_of(&memory.steps, from)[canvas.offset(row, column)..];
                out.zip(values).for_each(|(out, value)| *out = f32::from(*value) * scale);
            } else {
                let values = &self.reals_of(&memory.reals, from)[pixel * canvas.channels..];
                out.zip(values).for_each(|(out, value)| *out = *value);
            }
        }
    }
}

impl MaxPool {
    fn run<T: Copy + PartialOrd>(&self, x: &[T], y: &mut [T], least: T) {
        let [top, left] = self.padding;
        let span = |at: usize, before: usize, kernel: usize, side: usize| {
            let start = at * self.stride;
            start.saturating_sub(before)..(start + kernel).saturating_sub(before).min(side)
        };
        let channels = self.input.channels;
        for row in 0..self.output.height {
            let rows = span(row, top, self.kernel[0], self.input.height);
            for column in 0..self.output.width {
                let columns = span(column, left, self.kernel[1], self.input.width);
                let out = &mut y[self.output.offset(row, column)..][..channels];
                out.fill(least);
                for row in rows.clone() {
                    for column in columns.clone() {
                        let values = &x[self.input.offset(row, column)..][..channels];
                        for (out, &value) in out.iter_mut().zip(values) {
                            *out = if value > *out { value } else { *out };
                        }
                    }
                }
            }
        }
    }
}

/// QuantizeLinear: `clamp(round_ties_even(x / scale))`, each value less its zero point.
fn quantize(picture: &[f32], canvas: &Canvas, to: Affine, y: &mut [i16]) {
    let [low, high] = to.range();
    for (row, values) in picture.chunks_exact(canvas.width).enumerate() {
        let out = &mut y[canvas.offset(row, 0)..][..canvas.width];
        for (out, value) in out.iter_mut().zip(values) {
            *out = nearest_whole((value / to.scale).clamp(low, high)) as i16;
        }
    }
}

/// Slots of all outputs and the slots' sizes: each output takes the smallest free slot that holds
/// it, else the largest one that is free, else a new one.
fn planned(
    lengths: impl Iterator<Item = Option<usize>>,
    last_read: impl Fn(Id) -> Option<usize>,
) -> (Vec<Option<usize>>, Vec<usize>) {
    let (mut slots, mut sizes, mut free) = (Vec::new(), Vec::<usize>::new(), Vec::<usize>::new());
    for (at, length) in lengths.enumerate() {
        let slot = length.map(|length| {
            let fitting = free.iter().copied().filter(|slot| sizes[*slot] >= length);
            let best = fitting.min_by_key(|slot| sizes[*slot]);
            let best = best.or_else(|| free.iter().copied().max_by_key(|slot| sizes[*slot]));
            let slot = best.unwrap_or(sizes.len());
            free.retain(|other| *other != slot);
            if slot == sizes.len() {
                sizes.push(0);
            }
            sizes[slot] = sizes[slot].max(length);
            slot
        });
        slots.push(slot);
        let done = (0..=at).filter(|id| last_read(*id) == Some(at));
        free.extend(done.filter_map(|id| slots[id]));
    }
    (slots, sizes)
}

fn check_length(what: &'static str, actual: usize, expected: usize) -> Result<(), ProgramError> {
    if actual == expected { Ok(()) } else { Err(ProgramError::Length { what, actual, expected }) }
}
