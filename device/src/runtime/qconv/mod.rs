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
//! and, where the network has them, a 2x2 max-pool or a residual sum behind it. Activations lie as
//! [`Canvas`] describes. The arithmetic is chosen once per layer:
//!
//! - `direct`: by the definition, reading the input in place;
//! - `winograd`: 3x3 convolutions with 2.25 times fewer multiplications, in exact integers;
//!
//! and both are written over the inner loops of `kernel`: `portable`, the reference, and `avx2`.
//! `pack` holds the order of the weights, `target` what turns sums into output.
//!
//! Invariant: every kernel, every arithmetic and every number of threads gives the same bytes.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod direct;
mod kernel;
mod pack;
mod params;
mod portable;
mod shape;
mod target;
#[cfg(test)]
mod tests;
mod winograd;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use direct::Direct;
use kernel::{Backend, Requantize, Residual};
use pack::{BLOCK, Weights, group_blocks, pack_channels};
use target::{Place, Skip, Target};
use winograd::Winograd;

pub use kernel::{KERNEL_VARIABLE, Kernel, KernelUnavailable, nearest_whole};
pub use params::{QConvError, QConvParams, ResidualParams};
pub use shape::{Canvas, ConvShape};

use super::pool::Pool;

/// A quantized convolution ready to run on inputs of one size.
#[derive(Clone, Debug)]
pub struct QConv {
    layer: Layer,
    arithmetic: Arithmetic,
    residual: Option<Residual>,
}

/// How the sums are computed.
#[derive(Clone, Debug)]
enum Arithmetic {
    Direct(Direct),
    Winograd(Winograd),
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
    requantize: Requantize,
}

/// A thread's working memory; it grows to what the largest layer needs and is then reused.
#[derive(Clone, Debug, Default)]
pub struct Worker {
    /// Where each pixel's input begins.
    starts: Vec<usize>,
    /// Where each pixel's output goes.
    places: Vec<Place>,
    sums: Vec<[i32; BLOCK]>,
    steps: Vec<[i16; BLOCK]>,
    transformed: Vec<i16>,
    products: Vec<[i32; BLOCK]>,
}

impl QConv {
    /// Packs a convolution for inputs like `input`; the output gets `border` pixels of border.
    ///
    /// # Errors
    /// A size of zero, a slice of the wrong length, a scale that is negative or not finite, or
    /// weights whose sum can overflow; an input with other channels or too small a border; a
    /// max-pool or a residual that cannot be fused.
    pub fn new(
        params: &QConvParams<'_>,
        input: Canvas,
        border: usize,
        kernel: Kernel,
    ) -> Result<Self, QConvError> {
        let backend = Backend::new(kernel)?;
        let multipliers = params.checked_multipliers(&input)?;
        let shape = params.shape;
        let weights = Weights { shape: &shape, values: params.weights };
        let convolved = shape.output_size(input.height, input.width);
        let arithmetic = if Winograd::suits(&shape, convolved, params.largest_sum()) {
            Arithmetic::Winograd(Winograd::new(&weights))
        } else {
            Arithmetic::Direct(Direct::new(&weights, &input))
        };
        let [height, width] = convolved;
        let output = Canvas { height, width, channels: shape.output_channels, border };
        let zero = f32::from(params.y_zero);
        let range = [-128.0 - zero, 127.0 - zero];
        let constants = pack_channels(params.bias, &shape)
            .into_iter()
            .zip(pack_channels(&multipliers, &shape))
            .map(|(bias, multipliers)| Constants {
                bias,
                requantize: Requantize { multipliers, range },
            })
            .collect();
        let layer = Layer { backend, shape, input, convolved, output, pool: false, constants };
        Ok(Self { layer, arithmetic, residual: None })
    }

    /// Puts a max-pool of 2x2 with stride 2 behind the convolution; says whether that is possible.
    pub fn fuse_max_pool(&mut self) -> bool {
        let layer = &mut self.layer;
        let possible = matches!(self.arithmetic, Arithmetic::Winograd(_))
            && self.residual.is_none()
            && !layer.pool;
        if possible {
            layer.pool = true;
            layer.output.height /= 2;
            layer.output.width /= 2;
        }
        possible
    }

    /// Puts a residual sum behind the convolution; says whether that is possible, which it is
    /// once, and not behind a max-pool.
    pub fn fuse_residual(&mut self, residual: &ResidualParams) -> bool {
        let possible = !self.layer.pool && self.residual.is_none();
        let zero = f32::from(residual.zero);
        if possible {
            self.residual = Some(Residual {
                branch_scale: residual.branch_scale,
                skip_scale: residual.skip_scale,
                scale: residual.scale,
                floor: if residual.relu { 0.0 } else { f32::NEG_INFINITY },
                range: [-128.0 - zero, 127.0 - zero],
            });
        }
        possible
    }

    /// Sets the border of the output.
    pub fn set_border(&mut self, border: usize) {
        self.layer.output.border = border;
    }

    /// How the input must lie.
    pub fn input(&self) -> Canvas {
        self.layer.input
    }

    /// How the output lies.
    pub fn output(&self) -> Canvas {
        self.layer.output
    }

    /// Multiply-adds of the convolution by its definition.
    pub fn multiply_adds(&self) -> usize {
        let [height, width] = self.layer.convolved;
        height * width * self.layer.shape.output_channels * self.layer.shape.weights_per_output()
    }

    /// Name of the arithmetic.
    pub fn arithmetic(&self) -> &'static str {
        match self.arithmetic {
            Arithmetic::Direct(_) => "direct",
            Arithmetic::Winograd(_) => "winograd",
        }
    }

    /// Convolves `x` into `y`, whose border is cleared. `skip` is the other operand of the
    /// residual sum, and how it lies.
    ///
    /// `workers` holds one for each thread of the pool; nothing is allocated once they have grown.
    ///
    /// # Errors
    /// [`QConvError::WrongLength`] when a slice does not have the length of its canvas, and
    /// [`QConvError::Residual`] when `skip` is missing, superfluous, or of another size.
    pub fn run(
        &self,
        x: &[i16],
        skip: Option<(&[i16], Canvas)>,
        y: &mut [i16],
        pool: &mut Pool,
        workers: &[Mutex<Worker>],
    ) -> Result<(), QConvError> {
        let layer = &self.layer;
        params::check_length("input", x.len(), layer.input.len())?;
        params::check_length("output", y.len(), layer.output.len())?;
        params::check_length("workers", workers.len(), pool.threads())?;
        let skip = self.checked_skip(skip)?;
        layer.output.clear_border(y);
        let pieces = match &self.arithmetic {
            Arithmetic::Direct(direct) => direct.pieces(layer),
            Arithmetic::Winograd(winograd) => winograd.pieces(layer, pool.threads()),
        };
        let target = Target::new(y, skip);
        pool.run(pieces, &|thread, piece| {
            // Only this thread uses this worker, and what a panic leaves in it is overwritten.
            let mut worker = workers[thread].lock().unwrap_or_else(PoisonError::into_inner);
            match &self.arithmetic {
                Arithmetic::Direct(direct) => direct.run(layer, piece, x, &target, &mut worker),
                Arithmetic::Winograd(winograd) => {
                    winograd.run(layer, (piece, pieces), x, &target, &mut worker);
                }
            }
        });
        Ok(())
    }

    fn checked_skip<'a>(
        &self,
        skip: Option<(&'a [i16], Canvas)>,
    ) -> Result<Option<Skip<'a>>, QConvError> {
        match (skip, self.residual) {
            (None, None) => Ok(None),
            (Some((values, canvas)), Some(residual)) => {
                params::check_length("residual operand", values.len(), canvas.len())?;
                let output = self.layer.output;
                let alike = Canvas { border: output.border, ..canvas } == output;
                alike.then_some(Some(Skip { values, canvas, residual })).ok_or(QConvError::Residual)
            }
            _ => Err(QConvError::Residual),
        }
    }
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
}
