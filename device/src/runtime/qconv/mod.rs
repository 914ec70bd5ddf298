//! Quantized 2-D convolution, fused with its requantization, bit for bit as ONNX defines it.
//!
//! [`QConv`] computes `QLinearConv` for batch 1 and one group, with symmetric per-channel `i8`
//! weights and per-tensor `i8` activations, as ONNX Runtime does:
//!
//! ```text
//! sum = bias[c] + Σ (x - x_zero) * w[c]                                    exact, in i32
//! y   = clamp(round_ties_even(sum as f32 * (x_scale * w_scale[c] / y_scale)) + y_zero, -128, 127)
//! ```
//!
//! The input is first widened into a padded buffer of `i16` that holds `x - x_zero`, channels
//! innermost. Padding is zero there and the zero point is gone, so neither costs anything later,
//! and the convolution reads the buffer in place: there is no im2col.
//!
//! - `shape`: sizes, and where an output pixel's inputs lie;
//! - `pack`: the order of the weights;
//! - `portable`: the kernel in plain Rust;
//! - `avx2`: the kernel for x86-64 processors with AVX2.
//!
//! Invariant: every kernel and every number of threads gives the same bytes. Sums are exact
//! integers ([`QConv::new`] rejects weights that could overflow) and each output takes one `f32`
//! multiplication.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod pack;
mod portable;
mod shape;
#[cfg(test)]
mod tests;

use pack::{BLOCK, Packed, pack_channels, pack_weights, packed_row_len};
use shape::Plane;

pub use shape::ConvShape;

/// The environment variable that names the kernel to use: `portable` or `avx2`.
pub const KERNEL_VARIABLE: &str = "SPINESIGHT_KERNEL";

/// What defines one quantized convolution.
#[derive(Clone, Copy, Debug)]
pub struct QConvParams<'a> {
    /// Channels, kernel, stride and padding.
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
    /// Weights with zero point 0: `[oc, ic, kh, kw]`.
    pub weights: &'a [i8],
    /// Bias, of scale `x_scale * w_scales[c]`: `[oc]`.
    pub bias: &'a [i32],
}

/// Why a convolution cannot be built or run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum QConvError {
    /// A channel count, a kernel side or the stride is zero.
    #[error("the convolution's shape has a zero size: {0:?}")]
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
    /// The kernel asked for does not exist or this processor cannot run it.
    #[error("kernel {0:?} is unknown or not supported by this processor")]
    KernelUnavailable(String),
}

/// An implementation of the convolution. All give the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Plain Rust, for any processor.
    Portable,
    /// x86-64 with AVX2.
    Avx2,
}

impl Kernel {
    /// The kernel that [`KERNEL_VARIABLE`] names, else the fastest that this processor runs.
    ///
    /// # Errors
    /// [`QConvError::KernelUnavailable`] if the variable names no kernel of this processor.
    pub fn from_environment() -> Result<Self, QConvError> {
        let Some(name) = std::env::var_os(KERNEL_VARIABLE) else {
            return Ok(Self::fastest());
        };
        name.to_str()
            .and_then(Self::named)
            .filter(|kernel| kernel.is_available())
            .ok_or_else(|| QConvError::KernelUnavailable(name.to_string_lossy().into_owned()))
    }

    /// The kernel of this name, whether or not this processor runs it.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "portable" => Some(Self::Portable),
            "avx2" => Some(Self::Avx2),
            _ => None,
        }
    }

    /// The fastest kernel that this processor runs.
    pub fn fastest() -> Self {
        if Self::Avx2.is_available() { Self::Avx2 } else { Self::Portable }
    }

    /// Whether this processor runs the kernel.
    pub fn is_available(self) -> bool {
        Backend::new(self).is_some()
    }
}

/// A kernel that is known to run here.
#[derive(Clone, Copy, Debug)]
enum Backend {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
}

impl Backend {
    fn new(kernel: Kernel) -> Option<Self> {
        match kernel {
            Kernel::Portable => Some(Self::Portable),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => avx2::Avx2::detect().map(Self::Avx2),
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Avx2 => None,
        }
    }

    /// Run values per group of packed weights.
    fn lanes(self, shape: &ConvShape) -> usize {
        match self {
            Self::Portable => portable::lanes(shape),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => avx2::LANES,
        }
    }

    fn widen_rows(self, x: &[i8], x_zero: i8, plane: &Plane, first_row: usize, out: &mut [i16]) {
        match self {
            Self::Portable => portable::widen_rows(x, x_zero, plane, first_row, out),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.widen_rows(x, x_zero, plane, first_row, out),
        }
    }

    fn convolve(self, range: &BlockRange<'_>, y: &mut [i8]) {
        match self {
            Self::Portable => portable::convolve(range, y),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.convolve(range, y),
        }
    }
}

/// Consecutive blocks of output channels, and the widened input that they all read.
struct BlockRange<'a> {
    plane: &'a Plane,
    /// [`Plane::widened_len`] values.
    input: &'a [i16],
    weights: &'a [i8],
    bias: &'a [[i32; BLOCK]],
    multipliers: &'a [[f32; BLOCK]],
    y_zero: i8,
}

/// A quantized convolution with its weights packed for one kernel.
#[derive(Clone, Debug)]
pub struct QConv {
    shape: ConvShape,
    backend: Backend,
    packed: Packed,
    x_zero: i8,
    y_zero: i8,
}

impl QConv {
    /// Packs a convolution for the kernel that [`Kernel::from_environment`] chooses.
    ///
    /// # Errors
    /// As [`QConv::with_kernel`], and an unusable [`KERNEL_VARIABLE`].
    pub fn new(params: &QConvParams<'_>) -> Result<Self, QConvError> {
        Self::with_kernel(params, Kernel::from_environment()?)
    }

    /// Packs a convolution for the given kernel.
    ///
    /// # Errors
    /// A size of zero, a slice of the wrong length, a scale that is negative or not finite,
    /// weights whose sum can overflow, or a kernel that this processor cannot run.
    pub fn with_kernel(params: &QConvParams<'_>, kernel: Kernel) -> Result<Self, QConvError> {
        let backend = Backend::new(kernel)
            .ok_or_else(|| QConvError::KernelUnavailable(format!("{kernel:?}")))?;
        check_lengths(params)?;
        check_sums(params)?;
        let packed = Packed {
            weights: pack_weights(params.weights, &params.shape, backend.lanes(&params.shape)),
            bias: pack_channels(params.bias),
            multipliers: pack_channels(&multipliers(params)?),
        };
        let (shape, x_zero, y_zero) = (params.shape, params.x_zero, params.y_zero);
        Ok(Self { shape, backend, packed, x_zero, y_zero })
    }

    /// The convolution's shape.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Height and width of the output for an input of `h` x `w` pixels; a side is 0 where the
    /// kernel does not fit.
    pub fn output_size(&self, h: usize, w: usize) -> (usize, usize) {
        let plane = Plane::new(self.shape, h, w);
        (plane.output_height, plane.output_width)
    }

    /// How long [`QConv::run`] makes its scratch for an input of `h` x `w` pixels.
    pub fn scratch_len(&self, h: usize, w: usize) -> usize {
        Plane::new(self.shape, h, w).widened_len()
    }

    /// Convolves `x`, `[ic, h, w]`, into `y`, `[oc, output height, output width]`.
    ///
    /// `scratch` grows to [`QConv::scratch_len`] when it is shorter and may serve every layer in
    /// turn; nothing else is allocated by a single thread. With more `threads` the work is split
    /// among as many scoped threads, by rows and then by blocks of 16 output channels.
    ///
    /// # Errors
    /// [`QConvError::WrongLength`] if `x` or `y` does not have the length that the sizes imply.
    pub fn run(
        &self,
        x: &[i8],
        h: usize,
        w: usize,
        y: &mut [i8],
        scratch: &mut Vec<i16>,
        threads: usize,
    ) -> Result<(), QConvError> {
        let plane = Plane::new(self.shape, h, w);
        check_length("input", x.len(), self.shape.input_channels * h * w)?;
        check_length("output", y.len(), self.shape.output_channels * plane.output_pixels())?;
        if y.is_empty() {
            return Ok(());
        }
        if scratch.len() < plane.widened_len() {
            scratch.resize(plane.widened_len(), 0);
        }
        let widened = &mut scratch[..plane.widened_len()];
        self.widen(x, &plane, widened, threads.max(1));
        self.convolve(&plane, widened, y, threads.max(1));
        Ok(())
    }

    /// Fills the padded buffer with `x - x_zero`, and with zeros around it.
    fn widen(&self, x: &[i8], plane: &Plane, widened: &mut [i16], threads: usize) {
        let row_len = plane.row_len();
        let (top, rest) = widened.split_at_mut(self.shape.padding[0] * row_len);
        let (rows, bottom) = rest.split_at_mut(plane.height * row_len);
        top.fill(0);
        bottom.fill(0);
        let rows_each = plane.height.div_ceil(threads).max(1);
        let parts = rows.chunks_mut(rows_each * row_len).enumerate();
        for_each_in_parallel(parts, |(index, rows)| {
            self.backend.widen_rows(x, self.x_zero, plane, index * rows_each, rows);
        });
    }

    fn convolve(&self, plane: &Plane, input: &[i16], y: &mut [i8], threads: usize) {
        let blocks_each = self.packed.bias.len().div_ceil(threads);
        let block_weights =
            packed_row_len(&self.shape, self.backend.lanes(&self.shape)) * self.shape.kernel[0];
        let parts = y
            .chunks_mut(blocks_each * BLOCK * plane.output_pixels())
            .zip(self.packed.weights.chunks(blocks_each * block_weights))
            .zip(self.packed.bias.chunks(blocks_each))
            .zip(self.packed.multipliers.chunks(blocks_each));
        for_each_in_parallel(parts, |(((y, weights), bias), multipliers)| {
            let y_zero = self.y_zero;
            let range = BlockRange { plane, input, weights, bias, multipliers, y_zero };
            self.backend.convolve(&range, y);
        });
    }
}

/// Does the first part on this thread and every other part on a thread of its own.
fn for_each_in_parallel<T: Send>(mut parts: impl Iterator<Item = T>, work: impl Fn(T) + Sync) {
    let Some(first) = parts.next() else { return };
    std::thread::scope(|scope| {
        for part in parts {
            let work = &work;
            scope.spawn(move || work(part));
        }
        work(first);
    });
}

fn check_length(what: &'static str, actual: usize, expected: usize) -> Result<(), QConvError> {
    if actual == expected {
        Ok(())
    } else {
        Err(QConvError::WrongLength { what, actual, expected })
    }
}

fn check_lengths(params: &QConvParams<'_>) -> Result<(), QConvError> {
    let shape = &params.shape;
    if !shape.is_proper() {
        return Err(QConvError::EmptyShape(*shape));
    }
    let weights = shape.output_channels * shape.weights_per_output();
    check_length("weights", params.weights.len(), weights)?;
    check_length("weight scales", params.w_scales.len(), shape.output_channels)?;
    check_length("bias", params.bias.len(), shape.output_channels)
}

/// Rejects a channel whose bias and weights could leave `i32`, even halfway through its sum.
fn check_sums(params: &QConvParams<'_>) -> Result<(), QConvError> {
    let zero = i64::from(params.x_zero);
    let largest_input = (128 + zero).max(127 - zero);
    let channels = params.weights.chunks(params.shape.weights_per_output()).zip(params.bias);
    for (channel, (weights, &bias)) in channels.enumerate() {
        let magnitude: i64 = weights.iter().map(|&w| i64::from(w).abs()).sum();
        if i64::from(bias).abs() + magnitude * largest_input > i64::from(i32::MAX) {
            return Err(QConvError::SumOverflow { channel });
        }
    }
    Ok(())
}

/// `x_scale * w_scale / y_scale` for each output channel, evaluated in this order in `f32`.
fn multipliers(params: &QConvParams<'_>) -> Result<Vec<f32>, QConvError> {
    let combine = |(channel, &w_scale): (usize, &f32)| {
        let multiplier = params.x_scale * w_scale / params.y_scale;
        if multiplier.is_finite() && multiplier >= 0.0 {
            Ok(multiplier)
        } else {
            Err(QConvError::BadScale { channel, multiplier })
        }
    };
    params.w_scales.iter().enumerate().map(combine).collect()
}
