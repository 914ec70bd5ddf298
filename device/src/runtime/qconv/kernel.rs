//! The inner loops, one implementation per instruction set, chosen at run time.
//!
//! Invariant: every kernel gives the same bytes. Sums are exact integers and each output takes the
//! same `f32` operations in the same order.

use super::Finish;
#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
#[cfg(target_arch = "aarch64")]
use super::neon::Neon;
use super::pack::BLOCK;
use super::pairs::Part;
use super::portable;
#[cfg(target_arch = "aarch64")]
use super::sdot::Sdot;
use super::target::Sink;

/// The environment variable that names the kernel to use, as [`Kernel::name`] gives it.
pub const KERNEL_VARIABLE: &str = "SPINESIGHT_KERNEL";

/// An implementation of the inner loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Plain Rust, for any processor.
    Portable,
    /// Plain Rust that computes as `Sdot` does, for any processor.
    PortableBytes,
    /// Plain Rust that computes as `Avx2` does, for any processor.
    PortablePairs,
    /// x86-64 with AVX2: direct convolutions on bytes where their weights allow that.
    Avx2,
    /// Any AArch64: products of 16-bit operands.
    Neon,
    /// AArch64 with the dot products of ARMv8.2: direct convolutions on bytes.
    Sdot,
}

/// The kernel asked for does not exist or this processor cannot run it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kernel {0:?} is unknown or not supported by this processor")]
pub struct KernelUnavailable(pub String);

impl Kernel {
    /// Every kernel, for any processor.
    pub const ALL: [Self; 6] = [
        Self::Portable,
        Self::PortableBytes,
        Self::PortablePairs,
        Self::Avx2,
        Self::Neon,
        Self::Sdot,
    ];

    /// The kernel that [`KERNEL_VARIABLE`] names, else the fastest that this processor runs.
    ///
    /// # Errors
    /// When the variable names no kernel of this processor.
    pub fn from_environment() -> Result<Self, KernelUnavailable> {
        let Some(name) = std::env::var_os(KERNEL_VARIABLE) else {
            return Ok(Self::fastest());
        };
        name.to_str()
            .and_then(Self::named)
            .filter(|kernel| kernel.is_available())
            .ok_or_else(|| KernelUnavailable(name.to_string_lossy().into_owned()))
    }

    /// The kernel's name, as [`KERNEL_VARIABLE`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::PortableBytes => "portable-bytes",
            Self::PortablePairs => "portable-pairs",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Sdot => "sdot",
        }
    }

    /// The kernel of this name, whether or not this processor runs it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kernel| kernel.name() == name)
    }

    /// The fastest kernel that this processor runs.
    pub fn fastest() -> Self {
        let fast = [Self::Sdot, Self::Neon, Self::Avx2];
        fast.into_iter().find(|kernel| kernel.is_available()).unwrap_or(Self::Portable)
    }

    /// Whether this processor runs the kernel.
    pub fn is_available(self) -> bool {
        Backend::new(self).is_ok()
    }
}

/// A stretch of adjacent input values that a convolution multiplies, relative to the first input
/// value of an output pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub offset: usize,
    /// Groups of as many values as the weights have lanes.
    pub steps: usize,
}

/// Steps of some chunks together.
pub(super) fn steps_of(chunks: &[Chunk]) -> usize {
    chunks.iter().map(|chunk| chunk.steps).sum()
}

/// Input values per group of packed weights, `[step][BLOCK][LANES]`, of most backends: the pair
/// that one multiply-add of x86 consumes. [`Backend::lanes`] tells them all.
pub(super) const LANES: usize = 2;

/// How sums become output steps for the sixteen channels of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requantize {
    /// Accumulator units to output units.
    pub multipliers: [f32; BLOCK],
    /// Smallest and largest output, less the zero point.
    pub range: [f32; 2],
}

/// How sums become real numbers for the sixteen channels of a block:
/// `max(sum * multiplier + skip, floor)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Realize {
    pub multipliers: [f32; BLOCK],
    /// 0 where a ReLU follows, else negative infinity.
    pub floor: f32,
}

/// QuantizeLinear: `clamp(round_ties_even(value / scale))`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantize {
    pub scale: f32,
    /// One by the scale.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "others divide"))]
    pub reciprocal: f32,
    /// Smallest and largest step, less the zero point.
    pub range: [f32; 2],
}

/// The nearest whole number, ties to even, of a value below 2^22 in magnitude.
///
/// Adding and taking away 1.5 * 2^23 leaves no bits for a fraction, so the addition itself rounds;
/// unlike `f32::round_ties_even` this is two instructions on every processor.
pub fn nearest_whole(value: f32) -> f32 {
    const NO_FRACTION: f32 = 12_582_912.0;
    (value + NO_FRACTION) - NO_FRACTION
}

/// Where the sums of some pixels begin: at `bias` less each pixel's surplus.
///
/// A kernel may compute sums that are too large by a number that depends on the pixel alone and
/// one that depends on the channel alone, if that is faster: it says by how much in
/// [`Backend::pixel_surplus`] and [`Backend::channel_surplus`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Start<'a> {
    /// Less the channels' surplus.
    pub bias: &'a [i32; BLOCK],
    /// One for each pixel.
    pub surplus: &'a [i32],
}

/// Where accumulation begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sums<'a> {
    /// At the start.
    First(Start<'a>),
    /// At what an earlier part of the weights left, one for each pixel.
    Later(&'a [[i32; BLOCK]]),
}

/// A kernel that is known to run here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Backend {
    Portable,
    PortableBytes,
    PortablePairs,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    #[cfg(target_arch = "aarch64")]
    Sdot(Neon, Sdot),
}

macro_rules! dispatch {
    ($backend:expr, $name:ident($($argument:expr),*)) => {
        match $backend {
            Backend::Portable | Backend::PortableBytes | Backend::PortablePairs => {
                portable::$name($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2(avx2) => avx2.$name($($argument),*),
            #[cfg(target_arch = "aarch64")]
            Backend::Neon(neon) | Backend::Sdot(neon, _) => neon.$name($($argument),*),
        }
    };
}

impl Backend {
    pub fn new(kernel: Kernel) -> Result<Self, KernelUnavailable> {
        let backend = match kernel {
            Kernel::Portable => Some(Self::Portable),
            Kernel::PortableBytes => Some(Self::PortableBytes),
            Kernel::PortablePairs => Some(Self::PortablePairs),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => Neon::detect().map(Self::Neon),
            #[cfg(target_arch = "aarch64")]
            Kernel::Sdot => Neon::detect().zip(Sdot::detect()).map(|(n, s)| Self::Sdot(n, s)),
            _ => None,
        };
        backend.ok_or_else(|| KernelUnavailable(kernel.name().into()))
    }

    /// What multiplies bytes, where that is how convolutions are computed.
    pub fn bytes(self) -> Option<ByteBackend> {
        match self {
            Self::PortableBytes => Some(ByteBackend::Portable),
            #[cfg(target_arch = "aarch64")]
            Self::Sdot(_, sdot) => Some(ByteBackend::Sdot(sdot)),
            _ => None,
        }
    }

    /// What multiplies bytes in pairs of steps, where that is how convolutions are computed that
    /// Winograd's arithmetic does not suit.
    pub fn pairs(self) -> Option<PairBackend> {
        match self {
            Self::PortablePairs => Some(PairBackend::Portable),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => Some(PairBackend::Avx2(avx2)),
            _ => None,
        }
    }

    /// Input values per group of packed weights, `[step][BLOCK][lanes]`.
    pub fn lanes(self) -> usize {
        match self {
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) | Self::Sdot(..) => super::neon::LANES,
            _ => LANES,
        }
    }

    /// Adds to `surplus[i]` what the sums of the pixel that begins at `x[starts[i]]` are too large
    /// by, for these chunks.
    pub fn pixel_surplus(self, x: &[i16], starts: &[usize], chunks: &[Chunk], surplus: &mut [i32]) {
        match self {
            Self::Portable | Self::PortableBytes | Self::PortablePairs => {}
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.pixel_surplus(x, starts, chunks, surplus),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(neon) | Self::Sdot(neon, _) => {
                neon.pixel_surplus(x, starts, chunks, surplus);
            }
        }
    }

    /// What a block's sums are too large by, for these chunks and their weights.
    pub fn channel_surplus(self, chunks: &[Chunk], weights: &[i16]) -> [i32; BLOCK] {
        match self {
            Self::Portable | Self::PortableBytes | Self::PortablePairs => [0; BLOCK],
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => channel_surplus::<LANES>(chunks, weights),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) | Self::Sdot(..) => {
                channel_surplus::<{ super::neon::LANES }>(chunks, weights)
            }
        }
    }

    /// Adds to `sums[i]` the products of `weights` with the chunks that begin at `x[starts[i]]`;
    /// `first`, where given, replaces what `sums` held.
    pub fn accumulate(
        self,
        x: &[i16],
        starts: &[usize],
        chunks: &[Chunk],
        weights: &[i16],
        first: Option<Start<'_>>,
        sums: &mut [[i32; BLOCK]],
    ) {
        dispatch!(self, accumulate(x, starts, chunks, weights, first, sums))
    }

    /// As [`Backend::accumulate`] followed by [`Backend::requantize`].
    pub fn accumulate_to_steps(
        self,
        x: &[i16],
        starts: &[usize],
        chunks: &[Chunk],
        weights: &[i16],
        sums: Sums<'_>,
        to: &Requantize,
        out: &mut [[i16; BLOCK]],
    ) {
        dispatch!(self, accumulate_to_steps(x, starts, chunks, weights, sums, to, out))
    }

    /// As [`Backend::accumulate`] followed by [`Backend::realize`].
    pub fn accumulate_to_reals(
        self,
        x: &[i16],
        starts: &[usize],
        chunks: &[Chunk],
        weights: &[i16],
        sums: Sums<'_>,
        to: &Realize,
        out: &mut [[f32; BLOCK]],
    ) {
        dispatch!(self, accumulate_to_reals(x, starts, chunks, weights, sums, to, out))
    }

    /// `max(bias + Σ x * weight + out, floor)`, each sum in the order of its values; a step of the
    /// chunks is one value, and `weights` are `[value][BLOCK]`.
    pub fn multiply_reals(
        self,
        x: &[f32],
        starts: &[usize],
        chunks: &[Chunk],
        weights: &[f32],
        bias: &[f32; BLOCK],
        floor: f32,
        out: &mut [[f32; BLOCK]],
    ) {
        dispatch!(self, multiply_reals(x, starts, chunks, weights, bias, floor, out))
    }

    /// `clamp(round_ties_even(sum * multiplier))`.
    pub fn requantize(self, sums: &[[i32; BLOCK]], to: &Requantize, out: &mut [[i16; BLOCK]]) {
        dispatch!(self, requantize(sums, to, out))
    }

    /// `max(sum * multiplier + out, floor)`.
    pub fn realize(self, sums: &[[i32; BLOCK]], to: &Realize, out: &mut [[f32; BLOCK]]) {
        dispatch!(self, realize(sums, to, out))
    }

    /// `clamp(round_ties_even(value / scale))`.
    pub fn quantize(self, values: &[[f32; BLOCK]], to: &Quantize, out: &mut [[i16; BLOCK]]) {
        dispatch!(self, quantize(values, to, out))
    }

    /// Winograd's input transform of one 4x4 tile, all channels: see [`super::winograd`].
    ///
    /// Row `i` of the tile begins at `x[start + i * row_len]`; position `p` of the result goes to
    /// `out[p * stride..][..channels]`.
    pub fn transform_input(
        self,
        x: &[i16],
        start: usize,
        row_len: usize,
        channels: usize,
        out: &mut [i16],
        stride: usize,
    ) {
        dispatch!(self, transform_input(x, start, row_len, channels, out, stride))
    }

    /// Winograd's output transform of one tile, four sums with `bias` added:
    /// `out[2 * row + column]`. `products[p * stride]` is the tile's position `p`.
    pub fn transform_output(
        self,
        products: &[[i32; BLOCK]],
        stride: usize,
        bias: &[i32; BLOCK],
        out: &mut [[i32; BLOCK]; 4],
    ) {
        dispatch!(self, transform_output(products, stride, bias, out))
    }
}

/// The sum of `w * v` over all groups of two steps, `w` being the first one's weights and `v` the
/// second one's: the surplus of Winograd's inner product.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn channel_surplus<const LANES: usize>(chunks: &[Chunk], weights: &[i16]) -> [i32; BLOCK] {
    let mut surplus = [0i32; BLOCK];
    let mut weights = weights;
    for chunk in chunks {
        let own;
        (own, weights) = weights.split_at(chunk.steps * LANES * BLOCK);
        for steps in own.chunks_exact(2 * LANES * BLOCK) {
            let (first, second) = steps.split_at(LANES * BLOCK);
            for (i, (w, v)) in first.iter().zip(second).enumerate() {
                let product = i32::from(*w) * i32::from(*v);
                surplus[i / LANES] = surplus[i / LANES].wrapping_add(product);
            }
        }
    }
    surplus
}

/// A kernel for sums of products of bytes that is known to run here.
#[derive(Clone, Copy, Debug)]
pub(super) enum ByteBackend {
    Portable,
    #[cfg(target_arch = "aarch64")]
    Sdot(Sdot),
}

impl ByteBackend {
    /// Input values per group of packed weights: what one dot product of ARM consumes.
    pub const LANES: usize = 4;

    /// As [`Backend::accumulate`], without a surplus. Sums on the way may wrap around 32 bits.
    pub fn accumulate(
        self,
        x: &[i8],
        starts: &[usize],
        chunks: &[Chunk],
        weights: &[i8],
        first: Option<&[i32; BLOCK]>,
        sums: &mut [[i32; BLOCK]],
    ) {
        match self {
            Self::Portable => portable::accumulate_groups::<_, { Self::LANES }>(
                x, starts, chunks, weights, first, sums,
            ),
            #[cfg(target_arch = "aarch64")]
            Self::Sdot(sdot) => sdot.accumulate(x, starts, chunks, weights, first, sums),
        }
    }
}

/// A kernel for bytes in pairs of steps that is known to run here. The bytes of `x` have no sign,
/// whatever their type says.
#[derive(Clone, Copy, Debug)]
pub(super) enum PairBackend {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
}

impl PairBackend {
    /// Adds to `sums[i]` the products of a part's weights with the values around `x[starts[i]]`;
    /// `first`, where given, replaces what `sums` held.
    pub fn accumulate(
        self,
        x: &[i8],
        starts: &[usize],
        part: &Part,
        first: Option<Start<'_>>,
        sums: &mut [[i32; BLOCK]],
    ) {
        match self {
            Self::Portable => portable::accumulate_pairs(x, starts, part, first, sums),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.accumulate_pairs(x, starts, part, first, sums),
        }
    }

    /// As [`PairBackend::accumulate`], and all that is to become of the sums, written where it
    /// belongs.
    pub fn accumulate_into(
        self,
        x: &[i8],
        starts: &[usize],
        part: &Part,
        sums: Sums<'_>,
        finish: &Finish,
        sink: &Sink<'_>,
    ) {
        match self {
            Self::Portable => portable::accumulate_into(x, starts, part, sums, finish, sink),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.accumulate_into(x, starts, part, sums, finish, sink),
        }
    }
}
