//! What defines a quantized convolution, and what is refused.

use super::kernel::KernelUnavailable;
use super::shape::{Canvas, ConvShape};

/// What defines one quantized convolution.
#[derive(Clone, Copy, Debug)]
pub struct QConvParams<'a> {
    /// Channels, kernel, stride, padding and groups.
    pub shape: ConvShape,
    /// Scale of the input.
    pub x_scale: f32,
    /// Zero point of the input.
    pub x_zero: i8,
    /// Scale of each output channel's weights: `[oc]`.
    pub w_scales: &'a [f32],
    /// Scale of the output.
    pub y_scale: f32,
    /// Zero point of the output.
    pub y_zero: i8,
    /// Weights with zero point 0: `[oc, ic / groups, kh, kw]`.
    pub weights: &'a [i8],
    /// Bias, of scale `x_scale * w_scales[c]`: `[oc]`.
    pub bias: &'a [i32],
}

/// A residual sum behind a convolution: both operands are turned into real numbers, added, and
/// quantized.
#[derive(Clone, Copy, Debug)]
pub struct ResidualParams {
    /// Scale of the convolution's own output.
    pub branch_scale: f32,
    /// Scale of the other operand.
    pub skip_scale: f32,
    /// Scale of the result.
    pub scale: f32,
    /// Zero point of the result.
    pub zero: i8,
    /// Whether a ReLU stands between sum and quantization.
    pub relu: bool,
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
        /// `x_scale * w_scale / y_scale`.
        multiplier: f32,
    },
    /// A channel's sum can leave the range of `i32`.
    #[error("output channel {channel}: the sum can overflow 32 bits")]
    SumOverflow {
        /// The output channel.
        channel: usize,
    },
    /// The other operand of a residual sum is missing, superfluous, or of another size.
    #[error("the residual operand does not fit the convolution")]
    Residual,
    /// This processor does not run the kernel.
    #[error(transparent)]
    Kernel(#[from] KernelUnavailable),
}

impl QConvParams<'_> {
    /// Checks everything, and gives `x_scale * w_scale / y_scale` for each output channel,
    /// evaluated in this order in `f32`.
    pub(super) fn checked_multipliers(&self, input: &Canvas) -> Result<Vec<f32>, QConvError> {
        let shape = &self.shape;
        if !shape.is_proper() {
            return Err(QConvError::EmptyShape(*shape));
        }
        if input.channels != shape.input_channels || input.border < shape.border() {
            return Err(QConvError::Input(*input));
        }
        let weights = shape.output_channels * shape.weights_per_output();
        check_length("weights", self.weights.len(), weights)?;
        check_length("weight scales", self.w_scales.len(), shape.output_channels)?;
        check_length("bias", self.bias.len(), shape.output_channels)?;
        if let Some(channel) = self.sums().position(|sum| sum > i64::from(i32::MAX)) {
            return Err(QConvError::SumOverflow { channel });
        }
        self.w_scales.iter().enumerate().map(|(channel, w)| self.multiplier(channel, *w)).collect()
    }

    fn multiplier(&self, channel: usize, w_scale: f32) -> Result<f32, QConvError> {
        let multiplier = self.x_scale * w_scale / self.y_scale;
        if multiplier.is_finite() && multiplier >= 0.0 {
            Ok(multiplier)
        } else {
            Err(QConvError::BadScale { channel, multiplier })
        }
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
