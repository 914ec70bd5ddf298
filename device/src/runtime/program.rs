//! The integer part of a network as a list of fused steps over memory planned once.
//!
//! A [`Program`] takes the preprocessed picture and gives the captured layer. Activations lie as
//! [`Canvas`] describes from the first step to the last: nothing is transposed in between.

use std::sync::{Mutex, PoisonError};

use super::pool::Pool;
use super::qconv::{Canvas, QConv, QConvError, Worker};

/// The steps from the picture to the captured layer, and the memory they work in.
#[derive(Debug)]
pub struct Program {
    steps: Vec<Step>,
    /// Slot of every activation.
    slots: Vec<usize>,
    features: Canvas,
    memory: Mutex<Memory>,
}

/// Number of an activation, in the order the steps write them.
pub type Id = usize;

/// One step; each but the last writes the next activation.
#[derive(Clone, Debug)]
pub enum Step {
    /// QuantizeLinear of the picture, one channel.
    Quantize {
        /// How the picture lies.
        canvas: Canvas,
        /// Real value of a step.
        scale: f32,
        /// Smallest and largest step, less the zero point.
        range: [f32; 2],
    },
    /// A convolution and what is fused with it.
    Convolution {
        /// The convolution.
        convolution: Box<QConv>,
        /// Its input.
        from: Id,
        /// The other operand of its residual sum.
        skip: Option<Id>,
    },
    /// A max-pool that no convolution took up.
    MaxPool(MaxPool),
    /// The captured layer in real numbers: the sum of its operands, then ReLU.
    Features {
        /// Each operand and the real value of its step.
        operands: Vec<(Id, f32)>,
        /// Whether a ReLU follows the sum.
        relu: bool,
    },
}

/// A max-pool whose padding never wins.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool {
    /// The activation pooled.
    pub from: Id,
    /// How it lies.
    pub input: Canvas,
    /// How the result lies.
    pub output: Canvas,
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Step of the window.
    pub stride: usize,
    /// Rows above and columns before the picture that the first window covers.
    pub padding: [usize; 2],
}

/// Working memory, reused from run to run.
#[derive(Debug)]
struct Memory {
    slots: Vec<Vec<i16>>,
    workers: Vec<Mutex<Worker>>,
    pool: Pool,
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
    /// How the activation that the step writes lies; none for the last step.
    pub fn output(&self) -> Option<Canvas> {
        match self {
            Self::Quantize { canvas, .. } => Some(*canvas),
            Self::Convolution { convolution, .. } => Some(convolution.output()),
            Self::MaxPool(pool) => Some(pool.output),
            Self::Features { .. } => None,
        }
    }

    /// The activations that the step reads.
    pub fn reads(&self) -> Vec<Id> {
        match self {
            Self::Quantize { .. } => vec![],
            Self::Convolution { from, skip, .. } => std::iter::once(*from).chain(*skip).collect(),
            Self::MaxPool(pool) => vec![pool.from],
            Self::Features { operands, .. } => operands.iter().map(|(id, _)| *id).collect(),
        }
    }
}

impl Program {
    /// Plans the memory of steps that end with [`Step::Features`] of a layer like `features`.
    pub fn new(steps: Vec<Step>, features: Canvas, pool: Pool) -> Self {
        let (slots, sizes) = planned(&steps);
        let memory = Memory {
            slots: sizes.into_iter().map(|size| vec![0; size]).collect(),
            workers: (0..pool.threads()).map(|_| Mutex::default()).collect(),
            pool,
        };
        Self { steps, slots, features, memory: Mutex::new(memory) }
    }

    /// The steps, first to last.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Channels, height and width of the captured layer.
    pub fn features_shape(&self) -> [usize; 3] {
        [self.features.channels, self.features.height, self.features.width]
    }

    /// Runs on a picture, `[1, 1, height, width]`, and writes the captured layer,
    /// `[channels, height, width]`. Nothing is allocated after the first run.
    ///
    /// # Errors
    /// When picture or captured layer have another length.
    pub fn run(&self, picture: &[f32], features: &mut [f32]) -> Result<(), ProgramError> {
        let expected = self.features.pixels() * self.features.channels;
        check_length("captured layer", features.len(), expected)?;
        // What a panicking run left behind is overwritten by the next.
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let Memory { slots, workers, pool } = &mut *memory;
        for (id, step) in self.steps.iter().enumerate() {
            let Some(canvas) = step.output() else {
                self.features(step, slots, features);
                continue;
            };
            // The step's slot leaves the others while it is written, so that they can be read.
            let mut slot = std::mem::take(&mut slots[self.slots[id]]);
            let written =
                self.write(step, picture, slots, &mut slot[..canvas.len()], pool, workers);
            slots[self.slots[id]] = slot;
            written?;
        }
        Ok(())
    }

    fn write(
        &self,
        step: &Step,
        picture: &[f32],
        slots: &[Vec<i16>],
        y: &mut [i16],
        pool: &mut Pool,
        workers: &[Mutex<Worker>],
    ) -> Result<(), ProgramError> {
        match step {
            Step::Quantize { canvas, scale, range } => {
                check_length("picture", picture.len(), canvas.pixels())?;
                canvas.clear_border(y);
                quantize(picture, canvas, *scale, *range, y);
            }
            Step::Convolution { convolution, from, skip } => {
                let x = self.read(slots, *from, convolution.input());
                let skip = skip.map(|id| {
                    let canvas = self.canvas(id);
                    (self.read(slots, id, canvas), canvas)
                });
                convolution.run(x, skip, y, pool, workers)?;
            }
            Step::MaxPool(max_pool) => {
                max_pool.output.clear_border(y);
                max_pool.run(self.read(slots, max_pool.from, max_pool.input), y);
            }
            Step::Features { .. } => {}
        }
        Ok(())
    }

    fn canvas(&self, id: Id) -> Canvas {
        self.steps[id].output().unwrap_or(self.features)
    }

    fn read<'a>(&self, slots: &'a [Vec<i16>], id: Id, canvas: Canvas) -> &'a [i16] {
        &slots[self.slots[id]][..canvas.len()]
    }

    /// Writes the captured layer channel by channel.
    fn features(&self, step: &Step, slots: &[Vec<i16>], features: &mut [f32]) {
        let Step::Features { operands, relu } = step else { return };
        let pixels = self.features.pixels();
        for pixel in 0..pixels {
            let (row, column) = (pixel / self.features.width, pixel % self.features.width);
            for (index, &(id, scale)) in operands.iter().enumerate() {
                let canvas = self.canvas(id);
                let values = &self.read(slots, id, canvas)[canvas.offset(row, column)..];
                let out = features[pixel..].iter_mut().step_by(pixels);
                for (out, &value) in out.zip(&values[..canvas.channels]) {
                    let real = f32::from(value) * scale;
                    *out = if index == 0 { real } else { *out + real };
                }
            }
        }
        if *relu {
            features.iter_mut().for_each(|value| *value = value.max(0.0));
        }
    }
}

impl MaxPool {
    fn run(&self, x: &[i16], y: &mut [i16]) {
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
                out.fill(i16::MIN);
                for row in rows.clone() {
                    for column in columns.clone() {
                        let values = &x[self.input.offset(row, column)..][..channels];
                        for (out, &value) in out.iter_mut().zip(values) {
                            *out = value.max(*out);
                        }
                    }
                }
            }
        }
    }
}

/// QuantizeLinear: `clamp(round_ties_even(x / scale))`, each value less its zero point.
fn quantize(picture: &[f32], canvas: &Canvas, scale: f32, [low, high]: [f32; 2], y: &mut [i16]) {
    for (row, values) in picture.chunks_exact(canvas.width).enumerate() {
        let out = &mut y[canvas.offset(row, 0)..][..canvas.width];
        for (out, value) in out.iter_mut().zip(values) {
            *out = super::qconv::nearest_whole((value / scale).clamp(low, high)) as i16;
        }
    }
}

/// Slots of all activations and the slots' sizes: each takes the smallest free slot that holds it,
/// else the largest one that is free, else a new one.
fn planned(steps: &[Step]) -> (Vec<usize>, Vec<usize>) {
    let last_read = |id: Id| steps.iter().rposition(|step| step.reads().contains(&id));
    let (mut slots, mut sizes, mut free) = (Vec::new(), Vec::<usize>::new(), Vec::<usize>::new());
    for (at, step) in steps.iter().enumerate() {
        let Some(canvas) = step.output() else { continue };
        let size = canvas.len();
        let fitting = free.iter().copied().filter(|slot| sizes[*slot] >= size);
        let best = fitting
            .min_by_key(|slot| sizes[*slot])
            .or_else(|| free.iter().copied().max_by_key(|slot| sizes[*slot]));
        let slot = best.unwrap_or(sizes.len());
        free.retain(|other| *other != slot);
        if slot == sizes.len() {
            sizes.push(0);
        }
        sizes[slot] = sizes[slot].max(size);
        slots.push(slot);
        free.extend((0..=at).filter(|id| last_read(*id) == Some(at)).map(|id| slots[id]));
    }
    (slots, sizes)
}

fn check_length(what: &'static str, actual: usize, expected: usize) -> Result<(), ProgramError> {
    if actual == expected { Ok(()) } else { Err(ProgramError::Length { what, actual, expected }) }
}
