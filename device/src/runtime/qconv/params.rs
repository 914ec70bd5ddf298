//! What defines a quantized convolution, and what is refused.

use super::kernel::KernelUnavailable;
use super::shape::{Canvas, ConvShape};

/// What defines one quantized convolution.
#[derive(Clone, Copy, Debug)]
pub struct QConvParams<'a> {
    /// Channels, kernel, stride, padding and groups.
    pub shape: ConvShape,
    /// Zero point of the input.
    pub x_zero: i8,
    /// Weights with zero point 0: `[oc, ic / groups, kh, kw]`.
    pub weights: &'a [i8],
    /// Added to the sums: `[oc]`.
    pub bias: &'a [i32],
    /// Sums to output.
    pub output: Output<'a>,
}

/// What defines one convolution in real numbers.
#[derive(Clone, Copy, Debug)]
pub struct FloatParams<'a> {
    /// Channels, kernel, stride, padding and groups.
    pub shape: ConvShape,
    /// `[oc, ic / groups, kh, kw]`.
    pub weights: &'a [f32],
    /// `[oc]`.
    pub bias: &'a [f32],
}

/// What becomes of the sums.
#[derive(Clone, Copy, Debug)]
pub enum Output<'a> {
    /// `QLinearConv`: steps of the output.
    Steps {
        /// Scale of the input.
        x_scale: f32,
        /// Scale of each output channel's weights: `[oc]`.
        w_scales: &'a [f32],
        /// Scale and zero point of the output.
        y: Affine,
    },
    /// `ConvInteger`, `Cast`, `Mul`: real numbers, with the real value of one unit of each output
    /// channel's sum, `[oc]`.
    Reals(&'a [f32]),
}

/// Scale and zero point of quantized values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Real value of one step.
    pub scale: f32,
    /// The step that means 0.
    pub zero: i8,
}

impl Affine {
    /// The smallest and the largest step, less the zero point.
    pub fn range(&self) -> [f32; 2] {
        [i8::MIN, i8::MAX].map(|end| f32::from(end) - f32::from(self.zero))
    }

    /// Whether numbers can be divided by the scale and multiplied by its reciprocal.
    pub fn is_proper(&self) -> bool {
        self.scale > 0.0 && self.scale.is_finite() && (1.0 / self.scale).is_finite()
    }
}

/// Why a convolution cannot be built or run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum QConvError {
    /// A channel count, a kernel side or the stride is zero, or the groups do not divide the
    /// channels.
    #[error("the convolution's shape has a zero size or uneven groups: {0:?}")]
    EmptyShape(ConvShape),
    /// A slice does not have the length that the shape implies.
    #[error("{what}: {actual} values, expected {expected}")]
    WrongLength {
        /// Which slice.
        what: &'static str,
        /// The length given.
        actual: usize,
        /// The length needed.
        expected: usize,
    },
    /// The input has other channels than the convolution, or less border than it pads.
    #[error("the input {0:?} does not fit the convolution")]
    Input(Canvas),
    /// A channel's combined scale is negative or not finite.
    #[error("output channel {channel}: scale {multiplier} is negative or not finite")]
    BadScale {
        /// The output channel.
        channel: usize,
        /// Real value, or output steps, of a unit of its sum.
        multiplier: f32,
    },
    /// A channel's sum can leave the range of `i32`.
    #[error("output channel {channel}: the sum can overflow 32 bits")]
    SumOverflow {
        /// The output channel.
        channel: usize,
    },
    /// The operands of a run are not those that the convolution was built for.
    #[error("{0} is missing or superfluous")]
    Operands(&'static str),
    /// This processor does not run the kernel.
    #[error(transparent)]
    Kernel(#[from] KernelUnavailable),
}

impl QConvParams<'_> {
    /// Checks everything, and gives for each output channel what its sums are multiplied with:
    /// for steps `x_scale * w_scale / y_scale`, evaluated in this order in `f32`.
    pub(super) fn checked_multipliers(&self, input: &Canvas) -> Result<Vec<f32>, QConvError> {
        let shape = &self.shape;
        check_shape(shape, input, self.weights.len(), self.bias.len())?;
        if let Some(channel) = self.sums().position(|sum| sum > i64::from(i32::MAX)) {
            return Err(QConvError::SumOverflow { channel });
        }
        let multipliers: Vec<f32> = match self.output {
            Output::Steps { x_scale, w_scales, y } => {
                w_scales.iter().map(|w_scale| x_scale * w_scale / y.scale).collect()
            }
            Output::Reals(scales) => scales.to_vec(),
        };
        check_length("scales", multipliers.len(), shape.output_channels)?;
        let is_bad = |multiplier: &f32| !(multiplier.is_finite() && *multiplier >= 0.0);
        match multipliers.iter().position(is_bad) {
            Some(channel) => {
                Err(QConvError::BadScale { channel, multiplier: multipliers[channel] })
            }
            None => Ok(multipliers),
        }
    }

    /// The bias for sums of `(x - x_zero + origin) * w` instead of `(x - x_zero) * w`. It may wrap
    /// around 32 bits, as the sums may on their way.
    pub(super) fn bias_around(&self, origin: i32) -> Vec<i32> {
        let weights = self.weights.chunks_exact(self.shape.weights_per_output());
        let moved = |(bias, weights): (&i32, &[i8])| {
            let origins = weights.iter().map(|&w| origin * i32::from(w));
            origins.fold(*bias, i32::wrapping_sub)
        };
        self.bias.iter().zip(weights).map(moved).collect()
    }

    /// The largest magnitude that any sum can reach.
    pub(super) fn largest_sum(&self) -> i64 {
        self.sums().max().unwrap_or(0)
    }

    /// The largest magnitude that each channel's sum can reach, even halfway.
    fn sums(&self) -> impl Iterator<Item = i64> {
        let zero = i64::from(self.x_zero);
        let largest_input = (128 + zero).max(127 - zero);
        let channels = self.weights.chunks_exact(self.shape.weights_per_output()).zip(self.bias);
        channels.map(move |(weights, &bias)| {
            let magnitude: i64 = weights.iter().map(|&w| i64::from(w).abs()).sum();
            i64::from(bias).abs() + magnitude * largest_input
        })
    }
}

/// Checks what every convolution needs.
pub(super) fn check_shape(
    shape: &ConvShape,
    input: &Canvas,
    weights: usize,
    bias: usize,
) -> Result<(), QConvError> {
    if !shape.is_proper() {
        return Err(QConvError::EmptyShape(*shape));
    }
    if input.channels != shape.input_channels || input.border < shape.border() {
        return Err(QConvError::Input(*input));
    }
    let expected = shape.output_channels * shape.weights_per_output();
    check_length("weights", weights, expected)?;
    check_length("bias", bias, shape.output_channels)
}

pub(super) fn check_length(
    what: &'static str,
    actual: usize,
    expected: usize,
) -> Result<(), QConvError> {
    if actual == expected {
        Ok(())
    } else {
        Err(QConvError::WrongLength { what, actual, expected })
    }
}
