//! The shape of a convolution, and how activations lie in memory.

use std::ops::Range;

/// The fixed part of a 2-D convolution: batch 1, one stride for both axes, no dilation.
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
    /// Groups: input and output channels are cut into as many parts that do not mix.
    pub groups: usize,
}

impl ConvShape {
    /// Weights per output channel.
    pub fn weights_per_output(&self) -> usize {
        self.group_inputs() * self.kernel[0] * self.kernel[1]
    }

    /// Height and width of the output for an input of these sides; a side is 0 where the kernel
    /// does not fit.
    pub fn output_size(&self, height: usize, width: usize) -> [usize; 2] {
        let [top, left, bottom, right] = self.padding;
        let steps = |padded: usize, kernel: usize| {
            padded.checked_sub(kernel).map_or(0, |span| span / self.stride + 1)
        };
        [steps(top + height + bottom, self.kernel[0]), steps(left + width + right, self.kernel[1])]
    }

    /// Pixels of border that the input needs so that no padding has to be imagined.
    pub fn border(&self) -> usize {
        self.padding.into_iter().max().unwrap_or(0)
    }

    /// Whether every size that must be positive is, and the groups divide the channels.
    pub(super) fn is_proper(&self) -> bool {
        self.groups > 0
            && self.input_channels.is_multiple_of(self.groups)
            && self.output_channels.is_multiple_of(self.groups)
            && self.weights_per_output() > 0
            && self.output_channels > 0
            && self.stride > 0
    }

    /// Input channels that one output channel sees.
    pub(super) fn group_inputs(&self) -> usize {
        self.input_channels / self.groups
    }

    /// Output channels of one group.
    pub(super) fn group_outputs(&self) -> usize {
        self.output_channels / self.groups
    }
}

/// Row and column of some pixels of a picture, numbered row by row.
pub(super) fn places(pixels: Range<usize>, width: usize) -> impl Iterator<Item = [usize; 2]> {
    let width = width.max(1);
    let (mut row, mut column) = (pixels.start / width, pixels.start % width);
    // Counting on is cheaper than dividing for every pixel.
    pixels.map(move |_| {
        let place = [row, column];
        column += 1;
        if column == width {
            (row, column) = (row + 1, 0);
        }
        place
    })
}

/// How an activation lies in memory: rows, pixels, channels innermost, each value an `i16` that
/// holds `step - zero point`, inside a border of pixels that are zero.
///
/// With the zero point gone, padding is plain zeros, and the border makes it plain memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canvas {
    /// Rows of the picture.
    pub height: usize,
    /// Columns of the picture.
    pub width: usize,
    /// Values per pixel.
    pub channels: usize,
    /// Zero pixels on every side.
    pub border: usize,
}

impl Canvas {
    /// Values per row, its border included.
    pub fn row_len(&self) -> usize {
        (self.width + 2 * self.border) * self.channels
    }

    /// How long an activation in steps is: one more than its values, because kernels that take
    /// values in pairs read one past an odd run and multiply it by a zero weight.
    pub fn len(&self) -> usize {
        self.values() + 1
    }

    /// Values in all; an activation in real numbers is so long.
    pub fn values(&self) -> usize {
        (self.height + 2 * self.border) * self.row_len()
    }

    /// Whether there is no pixel.
    pub fn is_empty(&self) -> bool {
        self.pixels() == 0
    }

    /// Pixels without the border.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Where a pixel's first value lies; rows and columns of the border count from -`border`.
    pub fn offset(&self, row: usize, column: usize) -> usize {
        (row + self.border) * self.row_len() + (column + self.border) * self.channels
    }

    /// Writes zeros to the border.
    pub fn clear_border(&self, values: &mut [i16]) {
        let row_len = self.row_len();
        let side = self.border * self.channels;
        let (top, rest) = values.split_at_mut(self.border * row_len);
        let (rows, bottom) = rest.split_at_mut(self.height * row_len);
        top.fill(0);
        bottom.fill(0);
        for row in rows.chunks_exact_mut(row_len.max(1)) {
            row[..side].fill(0);
            row[row_len - side..].fill(0);
        }
    }
}
