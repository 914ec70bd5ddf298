//! The shape of a convolution, and where its input pixels lie in the widened buffer.

/// Bytes of widened input that all output channels use before the next part is read: half of a
/// common second-level cache, so that the weights of a block of channels fit beside it.
const BAND_BYTES: usize = 256 * 1024;

/// The fixed part of a 2-D convolution: batch 1, one group, one stride for both axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Input channels.
    pub input_channels: usize,
    /// Output channels.
    pub output_channels: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Step between output pixels, in input pixels, along both axes.
    pub stride: usize,
    /// Pixels of padding at the top, left, bottom and right.
    pub padding: [usize; 4],
}

impl ConvShape {
    /// Weights per output channel.
    pub fn weights_per_output(&self) -> usize {
        self.input_channels * self.kernel[0] * self.kernel[1]
    }

    /// Whether every size that must be positive is.
    pub(super) fn is_proper(&self) -> bool {
        self.weights_per_output() > 0 && self.output_channels > 0 && self.stride > 0
    }

    /// Adjacent widened values under one row of the kernel: its pixels times their channels.
    pub(super) fn run(&self) -> usize {
        self.kernel[1] * self.input_channels
    }
}

/// A convolution applied to one input size.
///
/// The input is widened to `i16` in the order row, column, channel, with its padding stored as
/// zeros. One kernel row then covers [`ConvShape::run`] adjacent values, whatever its width.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plane {
    pub shape: ConvShape,
    pub height: usize,
    pub width: usize,
    pub output_height: usize,
    pub output_width: usize,
}

impl Plane {
    pub fn new(shape: ConvShape, height: usize, width: usize) -> Self {
        let [top, left, bottom, right] = shape.padding;
        let steps = |padded: usize, kernel: usize| {
            if padded < kernel { 0 } else { (padded - kernel) / shape.stride + 1 }
        };
        let output_height = steps(top + height + bottom, shape.kernel[0]);
        let output_width = steps(left + width + right, shape.kernel[1]);
        Self { shape, height, width, output_height, output_width }
    }

    pub fn output_pixels(&self) -> usize {
        self.output_height * self.output_width
    }

    pub fn padded_height(&self) -> usize {
        self.shape.padding[0] + self.height + self.shape.padding[2]
    }

    /// Widened values per padded row.
    pub fn row_len(&self) -> usize {
        let [_, left, _, right] = self.shape.padding;
        (left + self.width + right) * self.shape.input_channels
    }

    /// Widened values in all, and one more: kernels that take values in pairs read one value past
    /// an odd run and multiply it by a zero weight.
    pub fn widened_len(&self) -> usize {
        self.padded_height() * self.row_len() + 1
    }

    /// Output pixels, in whole groups of the given size, whose input fills about [`BAND_BYTES`].
    pub fn band(&self, group: usize) -> usize {
        let row_bytes = self.shape.stride * self.row_len() * size_of::<i16>();
        let pixels = BAND_BYTES * self.output_width / row_bytes;
        (pixels / group).max(1) * group
    }

    /// Where the kernel's first value lies for each output pixel, row by row, from pixel `first`.
    pub fn offsets(&self, first: usize) -> impl Iterator<Item = usize> {
        let row_step = self.shape.stride * self.row_len();
        let column_step = self.shape.stride * self.shape.input_channels;
        let width = self.output_width;
        let (mut row, mut column) = (first / width, first % width);
        std::iter::from_fn(move || {
            let offset = row * row_step + column * column_step;
            column += 1;
            if column == width {
                (row, column) = (row + 1, 0);
            }
            Some(offset)
        })
    }
}
