//! Quantized 2-D convolution, fused with what follows it, bit for bit as ONNX defines it.
//!
//! [`QConv`] computes `QLinearConv` for batch 1, with symmetric per-channel `i8` weights and
//! per-tensor `i8` activations:
//!
//! ```text
//! sum = bias[c] + Σ (x - x_zero) * w[c]                                    exact, in i32
//! y   = clamp(round_ties_even(sum as f32 * (x_scale * w_scale[c] / y_scale)) + y_zero, -128, 127)
//! ```
//!
//! with a 2x2 max-pool behind it; or, where real numbers follow, `ConvInteger`, `Cast` and `Mul`,
//! with a residual sum, a ReLU and a quantization behind them:
//!
//! ```text
//! r   = max(sum as f32 * scale[c] + skip, 0)
//! y   = clamp(round_ties_even(r / y_scale) + y_zero, -128, 127)
//! ```
//!
//! Activations lie as [`Canvas`] describes. The arithmetic is chosen once per layer:
//!
//! - `direct`: by the definition, reading the input in place;
//! - `winograd`: 3x3 convolutions with 2.25 times fewer multiplications, in exact integers;
//! - `float`: in real numbers, for the few layers that a model keeps so;
//! - `bytes`: by the definition, on the input narrowed to bytes, where the processor multiplies
//!   those faster;
//! - `pairs`: the same where products of bytes are added up in 16 bits, in an order in which they
//!   cannot overflow;
//!
//! and all are written over the inner loops of `kernel`: `portable`, the reference, `avx2`, `neon`
//! and `sdot`. `pack` holds the order of the weights, `target` writes the output.
//!
//! Invariant: every kernel, every arithmetic and every number of threads gives the same bytes.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod bytes;
mod direct;
mod float;
mod kernel;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod pairs;
mod params;
mod portable;
#[cfg(target_arch = "aarch64")]
mod sdot;
mod shape;
mod target;
#[cfg(test)]
mod tests;
mod winograd;

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use direct::Direct;
use float::Float;
use kernel::{Backend, Quantize, Realize, Requantize};
use pack::{BLOCK, Weights, group_blocks, pack_channels};
use pairs::Pairs;
use target::{Place, Shared, Target};
use winograd::Winograd;

pub use kernel::{KERNEL_VARIABLE, Kernel, KernelUnavailable, nearest_whole};
pub use params::{Affine, FloatParams, Output, QConvError, QConvParams};
pub use shape::{Canvas, ConvShape};

use super::pool::Pool;

/// A quantized convolution ready to run on inputs of one size.
#[derive(Clone, Debug)]
pub struct QConv {
    layer: Layer,
    arithmetic: Arithmetic,
    /// Whether an operand is added to the real numbers.
    adds: bool,
    /// From real numbers to steps.
    quantize: Option<Quantize>,
}

/// How the sums are computed.
#[derive(Clone, Debug)]
enum Arithmetic {
    Direct(Direct),
    Winograd(Winograd),
    Bytes(Bytes),
    Pairs(Pairs),
    Float(Float),
}

impl Arithmetic {
    /// The fastest one for a convolution.
    fn of(
        params: &QConvParams<'_>,
        input: &Canvas,
        bias: &[[i32; BLOCK]],
        backend: Backend,
    ) -> Self {
        if let Some(bytes) = backend.bytes() {
            return Self::Bytes(Bytes::new(params, input, bytes));
        }
        let shape = &params.shape;
        let weights = Weights { shape, values: params.weights };
        let output = shape.output_size(input.height, input.width);
        if Winograd::suits(shape, output, params.largest_sum()) {
            return Self::Winograd(Winograd::new(&weights, backend));
        }
        let pairs = backend.pairs().map(|pairs| Pairs::new(params, input, pairs));
        match pairs.filter(Pairs::pays) {
            Some(pairs) => Self::Pairs(pairs),
            None => Self::Direct(Direct::new(&weights, input, bias, backend)),
        }
    }
}

/// What every arithmetic knows of a layer.
#[derive(Clone, Debug)]
struct Layer {
    backend: Backend,
    shape: ConvShape,
    input: Canvas,
    /// Height and width before a max-pool.
    convolved: [usize; 2],
    output: Canvas,
    /// Whether a 2x2 max-pool follows.
    pool: bool,
    /// One for each block of output channels.
    constants: Vec<Constants>,
}

/// Per-channel constants of a block.
#[derive(Clone, Copy, Debug)]
struct Constants {
    bias: [i32; BLOCK],
    finish: Finish,
}

/// What becomes of a block's sums.
#[derive(Clone, Copy, Debug)]
enum Finish {
    Steps(Requantize),
    Reals(Realize),
}

/// What a run reads.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Steps, as [`QConv::input`] lies.
    Steps(&'a [i16]),
    /// Real numbers, as [`QConv::input`] lies.
    Reals(&'a [f32]),
}

/// What a run writes.
#[derive(Debug, Default)]
pub struct Outputs<'a> {
    /// Steps, as [`QConv::output`] lies.
    pub steps: Option<&'a mut [i16]>,
    /// Real numbers, `[pixel][channel]`.
    pub reals: Option<&'a mut [f32]>,
}

/// A thread's working memory; it grows to what the largest layer needs and is then reused.
#[derive(Clone, Debug, Default)]
pub struct Worker {
    /// Where each pixel's input begins.
    starts: Vec<usize>,
    /// Where each pixel's output goes.
    places: Vec<Place>,
    /// What each pixel's sums are too large by.
    surplus: Vec<i32>,
    sums: Vec<[i32; BLOCK]>,
    steps: Vec<[i16; BLOCK]>,
    reals: Vec<[f32; BLOCK]>,
    transformed: Vec<i16>,
    /// Weights that are being multiplied.
    weights: Vec<i16>,
    /// Input as bytes.
    bytes: Vec<i8>,
    products: Vec<[i32; BLOCK]>,
}

impl Worker {
    /// Gives all workers the memory that any of them has needed. Which worker does which piece
    /// differs from run to run; behind this, no run needs more.
    pub fn level(workers: &[Mutex<Self>]) {
        macro_rules! level {
            ($($field:ident),*) => {$(
                let most = workers.iter().map(|w| lock(w).$field.capacity()).max().unwrap_or(0);
                for worker in workers {
                    let memory = &mut lock(worker).$field;
                    // Exactly: memory that grows a little more than asked would outgrow the others in turn.
                    memory.reserve_exact(most.saturating_sub(memory.len()));
                }
            )*};
        }
        level!(starts, places, surplus, sums, steps, reals, transformed, weights, products, bytes);
    }
}

impl QConv {
    /// Packs a convolution for inputs like `input`; the output gets `border` pixels of border.
    ///
    /// # Errors
    /// A size of zero, a slice of the wrong length, a scale that is negative or not finite, or
    /// weights whose sum can overflow; an input with other channels or too small a border.
    pub fn new(
        params: &QConvParams<'_>,
        input: Canvas,
        border: usize,
        kernel: Kernel,
    ) -> Result<Self, QConvError> {
        let backend = Backend::new(kernel)?;
        let multipliers = params.checked_multipliers(&input)?;
        let shape = params.shape;
        let convolved = shape.output_size(input.height, input.width);
        let bias = pack_channels(params.bias, &shape);
        let arithmetic = Arithmetic::of(params, &input, &bias, backend);
        let [height, width] = convolved;
        let output = Canvas { height, width, channels: shape.output_channels, border };
        let finish = |multipliers| match params.output {
            Output::Steps { y, .. } => Finish::Steps(Requantize { multipliers, range: y.range() }),
            Output::Reals(_) => Finish::Reals(Realize { multipliers, floor: f32::NEG_INFINITY }),
        };
        let constants = bias
            .into_iter()
            .zip(pack_channels(&multipliers, &shape))
            .map(|(bias, multipliers)| Constants { bias, finish: finish(multipliers) })
            .collect();
        let layer = Layer { backend, shape, input, convolved, output, pool: false, constants };
        Ok(Self { layer, arithmetic, adds: false, quantize: None })
    }

    /// Packs a convolution in real numbers for inputs like `input`.
    ///
    /// # Errors
    /// A size of zero, a slice of the wrong length, or an input with other channels or too small a
    /// border.
    pub fn in_floats(
        params: &FloatParams<'_>,
        input: Canvas,
        kernel: Kernel,
    ) -> Result<Self, QConvError> {
        let (backend, shape) = (Backend::new(kernel)?, params.shape);
        params::check_shape(&shape, &input, params.weights.len(), params.bias.len())?;
        let convolved = shape.output_size(input.height, input.width);
        let [height, width] = convolved;
        let output = Canvas { height, width, channels: shape.output_channels, border: 0 };
        let bias = pack_channels(params.bias, &shape);
        let multipliers = [1.0; BLOCK];
        let finish = Finish::Reals(Realize { multipliers, floor: f32::NEG_INFINITY });
        let constants = vec![Constants { bias: [0; BLOCK], finish }; bias.len()];
        let weights = Weights { shape: &shape, values: params.weights };
        let arithmetic = Arithmetic::Float(Float::new(&weights, bias, &input));
        let layer = Layer { backend, shape, input, convolved, output, pool: false, constants };
        Ok(Self { layer, arithmetic, adds: false, quantize: None })
    }

    /// Whether the output is steps, or quantized to steps.
    pub fn gives_steps(&self) -> bool {
        !self.gives_reals() || self.quantize.is_some()
    }

    /// Whether the output is real numbers, which may be quantized behind a sum and a ReLU.
    pub fn gives_reals(&self) -> bool {
        let first = self.layer.constants.first();
        first.is_some_and(|constants| matches!(constants.finish, Finish::Reals(_)))
    }

    /// Puts a max-pool of 2x2 with stride 2 behind the convolution; says whether that is possible.
    pub fn fuse_max_pool(&mut self) -> bool {
        let winograd = matches!(self.arithmetic, Arithmetic::Winograd(_));
        let layer = &mut self.layer;
        let possible = winograd && !layer.pool && !layer.constants.is_empty();
        let possible = possible && matches!(layer.constants[0].finish, Finish::Steps(_));
        if possible {
            layer.pool = true;
            layer.output.height /= 2;
            layer.output.width /= 2;
        }
        possible
    }

    /// Puts a sum with another operand behind real numbers; says whether that is possible, which
    /// it is once, and before a ReLU or a quantization.
    pub fn fuse_add(&mut self) -> bool {
        let possible = self.is_open() && !self.adds;
        self.adds |= possible;
        possible
    }

    /// Puts a ReLU behind real numbers; says whether that is possible, which it is once, and
    /// before a quantization.
    pub fn fuse_relu(&mut self) -> bool {
        let possible = self.is_open();
        for constants in &mut self.layer.constants {
            if let Finish::Reals(to) = &mut constants.finish
                && possible
            {
                to.floor = 0.0;
            }
        }
        possible
    }

    /// Puts a quantization behind real numbers, which are still given; says whether that is
    /// possible, which it is once.
    pub fn fuse_quantize(&mut self, to: Affine) -> bool {
        let possible = self.gives_reals() && self.quantize.is_none() && to.is_proper();
        if possible {
            let reciprocal = 1.0 / to.scale;
            self.quantize = Some(Quantize { scale: to.scale, reciprocal, range: to.range() });
        }
        possible
    }

    /// Whether real numbers have neither ReLU nor quantization behind them.
    fn is_open(&self) -> bool {
        let has_floor = |constants: &Constants| matches!(constants.finish, Finish::Reals(to) if to.floor == f32::NEG_INFINITY);
        self.quantize.is_none() && self.layer.constants.first().is_some_and(has_floor)
    }

    /// Sets the border of the output.
    pub fn set_border(&mut self, border: usize) {
        self.layer.output.border = border;
    }

    /// Whether the input is real numbers.
    pub fn reads_reals(&self) -> bool {
        matches!(self.arithmetic, Arithmetic::Float(_))
    }

    /// How the input must lie.
    pub fn input(&self) -> Canvas {
        self.layer.input
    }

    /// How the output lies.
    pub fn output(&self) -> Canvas {
        self.layer.output
    }

    /// Name of the arithmetic.
    pub fn arithmetic(&self) -> &'static str {
        match self.arithmetic {
            Arithmetic::Direct(_) => "direct",
            Arithmetic::Winograd(_) => "winograd",
            Arithmetic::Bytes(_) => "bytes",
            Arithmetic::Pairs(_) => "pairs",
            Arithmetic::Float(_) => "float",
        }
    }

    /// Convolves `x`. Steps are written where the convolution gives any, and their border is
    /// cleared; real numbers where it gives those. `skip` is the other operand of its sum,
    /// `[pixel][channel]`.
    ///
    /// `workers` holds one for each thread of the pool; nothing is allocated once they have grown.
    ///
    /// # Errors
    /// [`QConvError::WrongLength`] when a slice does not have the length of what it holds, and
    /// [`QConvError::Operands`] when one is missing or superfluous.
    pub fn run(
        &self,
        x: Input<'_>,
        skip: Option<&[f32]>,
        outputs: Outputs<'_>,
        pool: &mut Pool,
        workers: &[Mutex<Worker>],
    ) -> Result<(), QConvError> {
        let layer = &self.layer;
        params::check_length("workers", workers.len(), pool.threads())?;
        self.check_operands(skip, &outputs)?;
        let steps = outputs.steps.map(|steps| {
            layer.output.clear_border(steps);
            Shared::new(steps)
        });
        let reals = outputs.reals.map(Shared::new);
        let target = &Target { steps, reals, skip, quantize: self.quantize };
        let threads = pool.threads();
        let worker = |thread: usize| lock(&workers[thread]);
        match (&self.arithmetic, x) {
            (Arithmetic::Direct(direct), Input::Steps(x)) => {
                params::check_length("input", x.len(), layer.input.len())?;
                let pieces = direct::pieces(layer, threads);
                pool.run(pieces, &|thread, piece| {
                    direct.run(layer, (piece, pieces), x, target, &mut worker(thread));
                });
            }
            (Arithmetic::Bytes(bytes), Input::Steps(x)) => {
                params::check_length("input", x.len(), layer.input.len())?;
                let pieces = direct::pieces(layer, threads);
                pool.run(pieces, &|thread, piece| {
                    bytes.run(layer, (piece, pieces), x, target, &mut worker(thread));
                });
            }
            (Arithmetic::Pairs(pairs), Input::Steps(x)) => {
                params::check_length("input", x.len(), layer.input.len())?;
                let pieces = direct::pieces(layer, threads);
                pool.run(pieces, &|thread, piece| {
                    pairs.run(layer, (piece, pieces), x, target, &mut worker(thread));
                });
            }
            (Arithmetic::Winograd(winograd), Input::Steps(x)) => {
                params::check_length("input", x.len(), layer.input.len())?;
                let pieces = winograd.pieces(layer, threads);
                pool.run(pieces, &|thread, piece| {
                    winograd.run(layer, (piece, pieces), x, target, &mut worker(thread));
                });
            }
            (Arithmetic::Float(float), Input::Reals(x)) => {
                params::check_length("input", x.len(), layer.input.values())?;
                let pieces = direct::pieces(layer, threads);
                pool.run(pieces, &|thread, piece| {
                    float.run(layer, (piece, pieces), x, target, &mut worker(thread));
                });
            }
            _ => return Err(QConvError::Operands("the input in the convolution's numbers")),
        }
        Ok(())
    }

    fn check_operands(&self, skip: Option<&[f32]>, out: &Outputs<'_>) -> Result<(), QConvError> {
        let reals = self.layer.output.pixels() * self.layer.output.channels;
        let check = |what, given: Option<usize>, wanted: bool, expected| match given {
            Some(actual) if wanted => params::check_length(what, actual, expected),
            None if !wanted => Ok(()),
            _ => Err(QConvError::Operands(what)),
        };
        let steps = out.steps.as_ref().map(|steps| steps.len());
        check("the output in steps", steps, self.gives_steps(), self.layer.output.len())?;
        let given = out.reals.as_ref().map(|reals| reals.len());
        check("the output in real numbers", given, self.gives_reals(), reals)?;
        check("the operand of the sum", skip.map(<[f32]>::len), self.adds, reals)
    }
}

/// What a panic leaves in a worker is overwritten by the next piece of work.
fn lock(worker: &Mutex<Worker>) -> MutexGuard<'_, Worker> {
    worker.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Layer {
    /// The output channels of a block.
    fn channels(&self, block: usize) -> Range<usize> {
        let blocks = group_blocks(&self.shape);
        let outputs = self.shape.group_outputs();
        let start = block % blocks * BLOCK;
        let group = block / blocks * outputs;
        group + start..group + outputs.min(start + BLOCK)
    }

    /// Fills `worker.steps` or `worker.reals` from a block's sums.
    fn finish(&self, block: usize, worker: &mut Worker) {
        let Worker { sums, steps, reals, .. } = worker;
        match &self.constants[block].finish {
            Finish::Steps(to) => self.backend.requantize(sums, to, steps),
            Finish::Reals(to) => self.backend.realize(sums, to, reals),
        }
    }
}
