//! Every kernel against the definition, on random and extreme cases.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

/// A small deterministic generator (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `low..=high`.
    fn within(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1) as u64) as i64
    }

    fn size(&mut self, low: usize, high: usize) -> usize {
        self.within(low as i64, high as i64) as usize
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.size(0, choices.len() - 1)]
    }

    /// Values over all of `i8`, or only its two ends.
    fn bytes(&mut self, len: usize) -> Vec<i8> {
        let extreme = self.within(0, 3) == 0;
        let mut byte = || {
            let bits = self.next();
            if extreme { if bits & 1 == 0 { i8::MIN } else { i8::MAX } } else { bits as i8 }
        };
        (0..len).map(|_| byte()).collect()
    }
}

/// A convolution with the data that its parameters borrow, and one input.
#[derive(Debug)]
struct Case {
    shape: ConvShape,
    size: [usize; 2],
    scales: [f32; 2],
    zeros: [i8; 2],
    w_scales: Vec<f32>,
    weights: Vec<i8>,
    bias: Vec<i32>,
    x: Vec<i8>,
}

impl Case {
    fn random(random: &mut Random, shape: ConvShape, size: [usize; 2]) -> Self {
        let weights = random.bytes(shape.output_channels * shape.weights_per_output());
        let bias_limit = random.pick(&[0, 1000, 1 << 20, 1 << 30]);
        let bias = (0..shape.output_channels)
            .map(|_| random.within(-bias_limit, bias_limit) as i32)
            .collect();
        // From outputs that are all zero, through exact ties, to outputs that all saturate.
        let base = random.pick(&[1e-9, 0.5, 1.0 / 512.0, 3e-5, 7e-4, 1.0, 1e20]);
        let w_scales = (0..shape.output_channels)
            .map(|_| base * random.pick(&[1.0, 1.0, 0.5, 0.123, 1.7]))
            .collect();
        Self {
            shape,
            size,
            scales: [random.pick(&[1.0, 0.02, 0.5]), random.pick(&[1.0, 0.031, 0.25])],
            zeros: [random.next() as i8, random.next() as i8],
            w_scales,
            weights,
            bias,
            x: random.bytes(shape.input_channels * size[0] * size[1]),
        }
    }

    fn params(&self) -> QConvParams<'_> {
        QConvParams {
            shape: self.shape,
            x_scale: self.scales[0],
            x_zero: self.zeros[0],
            w_scales: &self.w_scales,
            y_scale: self.scales[1],
            y_zero: self.zeros[1],
            weights: &self.weights,
            bias: &self.bias,
        }
    }

    /// The output, straight from the definition.
    fn reference(&self) -> Vec<i8> {
        let [top, left, bottom, right] = self.shape.padding;
        let [kernel_height, kernel_width] = self.shape.kernel;
        let stride = self.shape.stride;
        let mut y = Vec::new();
        for channel in 0..self.shape.output_channels {
            let mut oy = 0;
            while oy * stride + kernel_height <= top + self.size[0] + bottom {
                let mut ox = 0;
                while ox * stride + kernel_width <= left + self.size[1] + right {
                    let corner = [oy * stride, ox * stride].map(|v| v as isize);
                    let corner = [corner[0] - top as isize, corner[1] - left as isize];
                    y.push(self.output_of(self.sum(channel, corner), channel));
                    ox += 1;
                }
                oy += 1;
            }
        }
        y
    }

    /// The sum of one output whose kernel's corner lies at the given input row and column.
    fn sum(&self, channel: usize, corner: [isize; 2]) -> i32 {
        let [kernel_height, kernel_width] = self.shape.kernel;
        let [height, width] = self.size;
        let weights = &self.weights[channel * self.shape.weights_per_output()..];
        let mut sum = self.bias[channel];
        for ky in 0..kernel_height {
            let row = corner[0] + ky as isize;
            for kx in 0..kernel_width {
                let column = corner[1] + kx as isize;
                let inside =
                    (0..height as isize).contains(&row) && (0..width as isize).contains(&column);
                for ic in 0..if inside { self.shape.input_channels } else { 0 } {
                    let x = self.x[(ic * height + row as usize) * width + column as usize];
                    let w = weights[(ic * kernel_height + ky) * kernel_width + kx];
                    sum += (i32::from(x) - i32::from(self.zeros[0])) * i32::from(w);
                }
            }
        }
        sum
    }

    fn output_of(&self, sum: i32, channel: usize) -> i8 {
        let multiplier = self.scales[0] * self.w_scales[channel] / self.scales[1];
        let rounded = f64::from(sum as f32 * multiplier).round_ties_even();
        (rounded + f64::from(self.zeros[1])).clamp(-128.0, 127.0) as i8
    }

    fn run(&self, kernel: Kernel, scratch: &mut Vec<i16>, threads: usize) -> Vec<i8> {
        let conv = QConv::with_kernel(&self.params(), kernel).unwrap();
        let [height, width] = self.size;
        let (output_height, output_width) = conv.output_size(height, width);
        let mut y = vec![0x55; self.shape.output_channels * output_height * output_width];
        conv.run(&self.x, height, width, &mut y, scratch, threads).unwrap();
        y
    }
}

fn kernels() -> impl Iterator<Item = Kernel> {
    [Kernel::Portable, Kernel::Avx2].into_iter().filter(|kernel| kernel.is_available())
}

fn random_shape(random: &mut Random) -> (ConvShape, [usize; 2]) {
    let kernel = random.pick(&[1, 3, 3, 7]);
    // Mostly few channels under large kernels, so that the slow reference stays affordable.
    let most = if random.size(0, 7) == 0 { 70 } else { 70 / kernel };
    let pad = |random: &mut Random| random.size(0, kernel / 2 + 1);
    let shape = ConvShape {
        input_channels: random.size(1, most),
        output_channels: random.size(1, most),
        kernel: [kernel, kernel],
        stride: random.size(1, 2),
        padding: [pad(random), pad(random), pad(random), pad(random)],
    };
    let longest = random.pick(&[4, 9, 20]);
    (shape, [random.size(1, longest), random.size(1, longest)])
}

#[test]
fn every_kernel_and_thread_count_gives_the_defined_bytes() {
    let mut random = Random(1);
    let mut scratch = Vec::new();
    for index in 0..2500 {
        let (shape, size) = random_shape(&mut random);
        let case = Case::random(&mut random, shape, size);
        let expected = case.reference();
        let threads = if index % 25 == 0 { random.size(2, 5) } else { 1 };
        for kernel in kernels() {
            let y = case.run(kernel, &mut scratch, threads);
            assert_eq!(y, expected, "{kernel:?}, {threads} threads, {shape:?}, {size:?}");
        }
    }
}

#[test]
fn kernels_agree_where_the_input_exceeds_one_cache_band() {
    let mut random = Random(2);
    for (channels, side) in [(70, 60), (400, 30)] {
        let shape = ConvShape {
            input_channels: channels,
            output_channels: 33,
            kernel: [3, 3],
            stride: 1,
            padding: [1; 4],
        };
        let case = Case::random(&mut random, shape, [side, side]);
        let expected = case.run(Kernel::Portable, &mut Vec::new(), 1);
        for kernel in kernels() {
            assert!(case.run(kernel, &mut Vec::new(), 2) == expected, "{kernel:?}");
        }
    }
}

#[test]
fn kernels_may_be_unequal_sided() {
    let mut random = Random(3);
    for kernel in [[1, 3], [3, 1], [2, 5], [4, 1]] {
        let padding = [0, 1, 2, 0];
        let shape =
            ConvShape { input_channels: 5, output_channels: 19, kernel, stride: 2, padding };
        let case = Case::random(&mut random, shape, [11, 8]);
        for kernel in kernels() {
            assert_eq!(case.run(kernel, &mut Vec::new(), 1), case.reference(), "{kernel:?}");
        }
    }
}

#[test]
fn largest_sums_do_not_overflow() {
    let shape = ConvShape {
        input_channels: 512,
        output_channels: 1,
        kernel: [3, 3],
        stride: 1,
        padding: [0; 4],
    };
    let weights = vec![-128; shape.weights_per_output()];
    let case = Case {
        shape,
        size: [3, 3],
        scales: [1.0, 1.0],
        zeros: [-128, 0],
        w_scales: vec![6e-7],
        bias: vec![0],
        x: vec![127; weights.len()],
        weights,
    };
    for kernel in kernels() {
        // -128 * 255 * 4608 = -150,405,120, times 6e-7.
        assert_eq!(case.run(kernel, &mut Vec::new(), 1), [-90], "{kernel:?}");
    }
}

#[test]
fn a_kernel_larger_than_the_padded_input_gives_no_output() {
    let mut random = Random(4);
    let shape = ConvShape {
        input_channels: 1,
        output_channels: 2,
        kernel: [7, 7],
        stride: 1,
        padding: [1; 4],
    };
    let case = Case::random(&mut random, shape, [4, 9]);
    assert!(case.run(Kernel::Portable, &mut Vec::new(), 1).is_empty());
}

#[test]
fn kernels_are_chosen_by_name() {
    assert_eq!(Kernel::named("portable"), Some(Kernel::Portable));
    assert_eq!(Kernel::named("avx2"), Some(Kernel::Avx2));
    assert_eq!(Kernel::named("AVX2"), None);
    assert!(Kernel::Portable.is_available());
    assert!(Kernel::fastest().is_available());
}

#[test]
fn scratch_grows_once_to_the_announced_length() {
    let mut random = Random(5);
    let padding = [2, 0, 1, 3];
    let shape =
        ConvShape { input_channels: 3, output_channels: 4, kernel: [3, 3], stride: 1, padding };
    let case = Case::random(&mut random, shape, [6, 5]);
    let conv = QConv::with_kernel(&case.params(), Kernel::Portable).unwrap();
    let mut scratch = Vec::new();
    case.run(Kernel::Portable, &mut scratch, 1);
    assert_eq!(scratch.len(), conv.scratch_len(6, 5));
}

/// The error that building a changed copy of a small valid case gives.
fn rejection(change: impl FnOnce(&mut Case)) -> QConvError {
    let shape = ConvShape {
        input_channels: 2,
        output_channels: 3,
        kernel: [1, 1],
        stride: 1,
        padding: [0; 4],
    };
    let mut case = Case {
        shape,
        size: [1, 1],
        scales: [1.0, 1.0],
        zeros: [0, 0],
        w_scales: vec![1.0; 3],
        weights: vec![1; 6],
        bias: vec![0; 3],
        x: vec![0; 2],
    };
    assert!(QConv::with_kernel(&case.params(), Kernel::Portable).is_ok());
    change(&mut case);
    QConv::with_kernel(&case.params(), Kernel::Portable).unwrap_err()
}

#[test]
fn unusable_parameters_are_rejected() {
    assert!(matches!(rejection(|c| c.shape.stride = 0), QConvError::EmptyShape(_)));
    assert_eq!(
        rejection(|c| c.weights.truncate(5)),
        QConvError::WrongLength { what: "weights", actual: 5, expected: 6 }
    );
    assert_eq!(
        rejection(|c| c.bias.truncate(1)),
        QConvError::WrongLength { what: "bias", actual: 1, expected: 3 }
    );
    assert!(matches!(
        rejection(|c| c.w_scales[2] = f32::NAN),
        QConvError::BadScale { channel: 2, .. }
    ));
    assert!(matches!(rejection(|c| c.scales[1] = 0.0), QConvError::BadScale { channel: 0, .. }));
    assert_eq!(rejection(|c| c.bias[1] = i32::MAX), QConvError::SumOverflow { channel: 1 });
    assert_eq!(rejection(|c| c.bias[0] = i32::MIN), QConvError::SumOverflow { channel: 0 });
}

#[test]
fn a_wrong_input_or_output_length_is_rejected() {
    let mut random = Random(6);
    let shape = ConvShape {
        input_channels: 2,
        output_channels: 3,
        kernel: [1, 1],
        stride: 1,
        padding: [0; 4],
    };
    let case = Case::random(&mut random, shape, [2, 2]);
    let conv = QConv::with_kernel(&case.params(), Kernel::Portable).unwrap();
    let run = |x: &[i8], y: &mut [i8]| conv.run(x, 2, 2, y, &mut Vec::new(), 1);
    assert!(run(&[0; 8], &mut [0; 12]).is_ok());
    assert!(matches!(
        run(&[0; 7], &mut [0; 12]),
        Err(QConvError::WrongLength { what: "input", .. })
    ));
    assert!(matches!(
        run(&[0; 8], &mut [0; 13]),
        Err(QConvError::WrongLength { what: "output", .. })
    ));
}
