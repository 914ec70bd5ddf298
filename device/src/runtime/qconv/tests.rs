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
        let mut weights = random.bytes(shape.output_channels * shape.weights_per_output());
        // Of eight, seven or six bits.
        let shift = random.pick(&[0, 0, 1, 2]);
        weights.iter_mut().for_each(|weight| *weight >>= shift);
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

    fn input(&self) -> Canvas {
        let [height, width] = self.size;
        let border = self.shape.border();
        Canvas { height, width, channels: self.shape.input_channels, border }
    }

    fn params(&self) -> QConvParams<'_> {
        QConvParams {
            shape: self.shape,
            x_zero: self.zeros[0],
            weights: &self.weights,
            bias: &self.bias,
            output: Output::Steps {
                x_scale: self.scales[0],
                w_scales: &self.w_scales,
                y: Affine { scale: self.scales[1], zero: self.zeros[1] },
            },
        }
    }

    /// The output, straight from the definition.
    fn reference(&self) -> Vec<i8> {
        let sums = self.reference_sums();
        let area = (sums.len() / self.shape.output_channels).max(1);
        sums.iter().enumerate().map(|(at, sum)| self.output_of(*sum, at / area)).collect()
    }

    /// The sums, straight from the definition.
    fn reference_sums(&self) -> Vec<i32> {
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
                    y.push(self.sum(channel, corner));
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
                for ic in 0..if inside { self.shape.group_inputs() } else { 0 } {
                    let plane = channel / self.shape.group_outputs() * self.shape.group_inputs();
                    let x =
                        self.x[((plane + ic) * height + row as usize) * width + column as usize];
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

    fn build(&self, kernel: Kernel) -> QConv {
        QConv::new(&self.params(), self.input(), 0, kernel).unwrap()
    }

    /// In pairs of steps whether or not that pays, where the kernel multiplies those.
    fn build_in_pairs(&self, kernel: Kernel) -> Option<QConv> {
        let pairs = Backend::new(kernel).unwrap().pairs()?;
        let pairs = Pairs::new(&self.params(), &self.input(), pairs);
        Some(QConv { arithmetic: Arithmetic::Pairs(pairs), ..self.build(kernel) })
    }

    fn run(&self, kernel: Kernel, runner: &mut Runner) -> Vec<i8> {
        let y = runner.run(&self.build(kernel), &self.centred());
        steps(&y.0, y.1, self.zeros[1])
    }

    /// Runs with real outputs, channel-major as `skip`, and their quantization.
    fn run_reals(
        &self,
        kernel: Kernel,
        runner: &mut Runner,
        skip: Option<&Vec<f32>>,
        relu: bool,
        to: Affine,
    ) -> (Vec<f32>, Vec<i8>) {
        let params = QConvParams { output: Output::Reals(&self.w_scales), ..self.params() };
        let mut conv = QConv::new(&params, self.input(), 1, kernel).unwrap();
        assert!(skip.is_none() || conv.fuse_add());
        assert!(!relu || conv.fuse_relu());
        assert!(conv.fuse_quantize(to));
        let canvas = conv.output();
        let (channels, pixels) = (canvas.channels, canvas.pixels());
        let by_pixel = |values: &Vec<f32>| -> Vec<f32> {
            (0..pixels * channels).map(|i| values[i % channels * pixels + i / channels]).collect()
        };
        let skip = skip.map(by_pixel);
        let (mut reals, mut y) = (vec![0.5; pixels * channels], vec![0x55; canvas.len()]);
        let outputs = Outputs { steps: Some(&mut y), reals: Some(&mut reals) };
        let Runner { pool, workers } = runner;
        let x = self.centred();
        conv.run(Input::Steps(&x), skip.as_deref(), outputs, pool, workers).unwrap();
        let by_channel = |i: usize| reals[i % pixels.max(1) * channels + i / pixels.max(1)];
        ((0..reals.len()).map(by_channel).collect(), steps(&y, canvas, to.zero))
    }

    /// The input as a canvas holds it; the border holds rubbish outside `clear_border`.
    fn centred(&self) -> Vec<i16> {
        filled(&self.x, self.input(), self.zeros[0])
    }
}

/// Channel-major steps as a canvas holds them.
fn filled(x: &[i8], canvas: Canvas, zero: i8) -> Vec<i16> {
    let mut values = vec![77; canvas.len()];
    canvas.clear_border(&mut values);
    for channel in 0..canvas.channels {
        for (pixel, at) in pixels(canvas).enumerate() {
            let step = x[channel * canvas.pixels() + pixel];
            values[at + channel] = i16::from(step) - i16::from(zero);
        }
    }
    values
}

/// The inverse of [`filled`].
fn steps(values: &[i16], canvas: Canvas, zero: i8) -> Vec<i8> {
    let step = |value: i16| i8::try_from(value + i16::from(zero)).expect("in range");
    let channels = 0..canvas.channels;
    channels.flat_map(|c| pixels(canvas).map(move |at| step(values[at + c]))).collect()
}

fn pixels(canvas: Canvas) -> impl Iterator<Item = usize> {
    (0..canvas.height)
        .flat_map(move |row| (0..canvas.width).map(move |column| canvas.offset(row, column)))
}

/// Threads and working memory, which tests share as layers do.
struct Runner {
    pool: Pool,
    workers: Vec<Mutex<Worker>>,
}

impl Runner {
    fn new(threads: usize) -> Self {
        let workers = (0..threads).map(|_| Mutex::default()).collect();
        Self { pool: Pool::new(threads).unwrap(), workers }
    }

    fn run(&mut self, conv: &QConv, x: &[i16]) -> (Vec<i16>, Canvas) {
        let mut y = vec![0x55; conv.output().len()];
        let outputs = Outputs { steps: Some(&mut y), reals: None };
        conv.run(Input::Steps(x), None, outputs, &mut self.pool, &self.workers).unwrap();
        (y, conv.output())
    }
}

fn kernels() -> impl Iterator<Item = Kernel> {
    Kernel::ALL.into_iter().filter(|kernel| kernel.is_available())
}

/// Whether a kernel convolves on bytes, where Winograd's arithmetic does not pay.
fn multiplies_bytes(kernel: Kernel) -> bool {
    [Kernel::PortableBytes, Kernel::Sdot].contains(&kernel)
}

fn random_shape(random: &mut Random) -> (ConvShape, [usize; 2]) {
    let kernel = random.pick(&[1, 3, 3, 7]);
    // Mostly few channels under large kernels, so that the slow reference stays affordable.
    let most = if random.size(0, 7) == 0 { 70 } else { 70 / kernel };
    let pad = |random: &mut Random| random.size(0, kernel / 2 + 1);
    let groups = random.pick(&[1, 1, 1, 2, 3]);
    // Some kernels write whole blocks of channels in a way of their own.
    let outputs = match random.size(0, 3) {
        0 => BLOCK * random.size(1, 3),
        _ => random.size(1, most.div_ceil(groups)),
    };
    let shape = ConvShape {
        input_channels: groups * random.size(1, most.div_ceil(groups)),
        output_channels: groups * outputs,
        kernel: [kernel, kernel],
        stride: random.size(1, 2),
        padding: [pad(random), pad(random), pad(random), pad(random)],
        groups,
    };
    let longest = random.pick(&[4, 9, 20]);
    (shape, [random.size(1, longest), random.size(1, longest)])
}

/// A shape that Winograd's arithmetic takes.
fn winograd_shape(random: &mut Random) -> (ConvShape, [usize; 2]) {
    let padding = random.pick(&[[1; 4], [0; 4], [2, 0, 0, 2], [1, 0, 2, 1]]);
    let [top, left, bottom, right] = padding;
    let shape = ConvShape {
        input_channels: 16 * random.size(1, 3),
        output_channels: random.size(1, 40),
        kernel: [3, 3],
        stride: 1,
        padding,
        groups: 1,
    };
    let side = |random: &mut Random, padding| 2 * random.size(2, 8) - padding % 2;
    (shape, [side(random, top + bottom), side(random, left + right)])
}

#[test]
fn every_kernel_and_thread_count_gives_the_defined_bytes() {
    let mut random = Random(1);
    let mut runners = [Runner::new(1), Runner::new(3)];
    let (mut winograd, mut pairs) = (0, 0);
    for index in 0..2500 {
        let (shape, size) =
            if index % 5 == 0 { winograd_shape(&mut random) } else { random_shape(&mut random) };
        let case = Case::random(&mut random, shape, size);
        let expected = case.reference();
        let runner = &mut runners[usize::from(index % 7 == 0)];
        for kernel in kernels() {
            let y = case.run(kernel, runner);
            assert_eq!(y, expected, "{kernel:?}, {shape:?}, {size:?}");
            if let Some(conv) = case.build_in_pairs(kernel) {
                let y = runner.run(&conv, &case.centred());
                let y = steps(&y.0, y.1, case.zeros[1]);
                assert_eq!(y, expected, "{kernel:?} in pairs, {shape:?}, {size:?}");
            }
        }
        winograd += usize::from(case.build(Kernel::Portable).arithmetic() == "winograd");
        pairs += usize::from(case.build(Kernel::PortablePairs).arithmetic() == "pairs");
    }
    assert!(winograd > 300, "only {winograd} cases went through Winograd's arithmetic");
    assert!(pairs > 500, "only {pairs} cases paid in pairs");
}

#[test]
fn kernels_agree_on_layers_of_many_bands() {
    let mut random = Random(2);
    let mut runner = Runner::new(2);
    for (channels, side, stride) in [(70, 60, 1), (400, 30, 2), (256, 28, 1)] {
        let shape = ConvShape {
            input_channels: channels,
            output_channels: 133,
            kernel: [3, 3],
            stride,
            padding: [1; 4],
            groups: 1,
        };
        let case = Case::random(&mut random, shape, [side, side]);
        let expected = case.run(Kernel::Portable, &mut Runner::new(1));
        for kernel in kernels() {
            assert!(case.run(kernel, &mut runner) == expected, "{kernel:?}");
            if let Some(conv) = case.build_in_pairs(kernel) {
                let y = runner.run(&conv, &case.centred());
                assert!(steps(&y.0, y.1, case.zeros[1]) == expected, "{kernel:?} in pairs");
            }
        }
    }
}

#[test]
fn kernels_may_be_unequal_sided() {
    let mut random = Random(3);
    for kernel in [[1, 3], [3, 1], [2, 5], [4, 1]] {
        let padding = [0, 1, 2, 0];
        let shape = ConvShape {
            input_channels: 5,
            output_channels: 19,
            kernel,
            stride: 2,
            padding,
            groups: 1,
        };
        let case = Case::random(&mut random, shape, [11, 8]);
        for kernel in kernels() {
            assert_eq!(case.run(kernel, &mut Runner::new(1)), case.reference(), "{kernel:?}");
        }
    }
}

/// The defined result of a 2x2 max-pool with stride 2.
fn max_pooled(y: &[i8], [height, width]: [usize; 2]) -> Vec<i8> {
    let mut pooled = Vec::new();
    for channel in y.chunks_exact(height * width) {
        for row in (0..height).step_by(2) {
            for column in (0..width).step_by(2) {
                let at = |r: usize, c: usize| channel[(row + r) * width + column + c];
                pooled.push(at(0, 0).max(at(0, 1)).max(at(1, 0)).max(at(1, 1)));
            }
        }
    }
    pooled
}

#[test]
fn a_fused_max_pool_gives_the_defined_bytes() {
    let mut random = Random(7);
    let mut runner = Runner::new(2);
    let mut fused = 0;
    for _ in 0..100 {
        let (shape, size) = winograd_shape(&mut random);
        let case = Case::random(&mut random, shape, size);
        let expected = max_pooled(&case.reference(), shape.output_size(size[0], size[1]));
        for kernel in kernels() {
            let mut conv = case.build(kernel);
            // Weights whose sums could be too large are left to the definition.
            if conv.fuse_max_pool() {
                let (y, canvas) = runner.run(&conv, &case.centred());
                assert_eq!(steps(&y, canvas, case.zeros[1]), expected, "{kernel:?}, {shape:?}");
                fused += 1;
            }
        }
    }
    assert!(fused > 100);
}

#[test]
fn fused_real_numbers_give_the_defined_bytes() {
    let mut random = Random(8);
    let mut runner = Runner::new(2);
    let mut near_ties = 0;
    for index in 0..300 {
        let (shape, size) =
            if index % 3 == 0 { winograd_shape(&mut random) } else { random_shape(&mut random) };
        let case = Case::random(&mut random, shape, size);
        let mut expected = case.reference_sums();
        let area = expected.len() / shape.output_channels;
        let scaled = |(at, sum): (usize, i32)| sum as f32 * case.w_scales[at / area.max(1)];
        let mut expected: Vec<f32> = expected.drain(..).enumerate().map(scaled).collect();
        let (adds, relu) = (random.size(0, 1) == 1, random.size(0, 1) == 1);
        // Multiples of a half, so that quotients are often exact ties.
        let skip: Vec<f32> =
            expected.iter().map(|_| random.within(-300, 300) as f32 / 2.0).collect();
        for (value, skip) in expected.iter_mut().zip(&skip) {
            *value = if adds { *value + skip } else { *value + 0.0 };
            *value = if relu { value.max(0.0) } else { *value };
        }
        let to = Affine { scale: random.pick(&[1.0, 0.07, 0.3]), zero: random.next() as i8 };
        let quotients = expected.iter().map(|value| (value / to.scale).abs());
        near_ties += quotients.filter(|q| *q < 255.0 && q.fract() == 0.5).count();
        let quantized: Vec<i8> = expected.iter().map(|value| defined_step(*value, to)).collect();
        for kernel in kernels() {
            let (reals, steps) =
                case.run_reals(kernel, &mut runner, adds.then_some(&skip), relu, to);
            assert_eq!(steps, quantized, "{kernel:?}, {shape:?}");
            assert_eq!(reals, expected, "{kernel:?}, {shape:?}");
        }
    }
    assert!(near_ties > 200, "{near_ties} ties");
}

/// QuantizeLinear, as ONNX defines it.
fn defined_step(value: f32, to: Affine) -> i8 {
    let rounded = f64::from(value / to.scale).round_ties_even();
    (rounded + f64::from(to.zero)).clamp(-128.0, 127.0) as i8
}

#[test]
fn real_numbers_are_convolved_in_the_defined_order() {
    let mut random = Random(10);
    let mut runner = Runner::new(2);
    for _ in 0..200 {
        let (shape, size) = random_shape(&mut random);
        let case = Case::random(&mut random, shape, size);
        let real = |value: &i8| f32::from(*value) * 0.37 + 1e-3;
        let weights: Vec<f32> = case.weights.iter().map(real).collect();
        let bias: Vec<f32> = case.bias.iter().map(|&bias| bias as f32 * 1e-4).collect();
        let params = FloatParams { shape, weights: &weights, bias: &bias };
        let canvas = case.input();
        let mut x: Vec<f32> = case.centred().iter().map(|&value| f32::from(value) * 0.11).collect();
        x.truncate(canvas.values());
        let mut results = kernels().map(|kernel| {
            let mut conv = QConv::in_floats(&params, canvas, kernel).unwrap();
            assert!(conv.fuse_relu());
            let mut reals = vec![0.0; conv.output().pixels() * conv.output().channels];
            let outputs = Outputs { steps: None, reals: Some(&mut reals) };
            conv.run(Input::Reals(&x), None, outputs, &mut runner.pool, &runner.workers).unwrap();
            reals
        });
        let first = results.next().unwrap();
        assert_eq!(first, defined_reals(&params, canvas, &x));
        assert!(results.all(|other| other == first), "{shape:?}");
    }
}

/// ReLU of the convolution, values in the order of kernel row, kernel column, channel.
fn defined_reals(params: &FloatParams<'_>, input: Canvas, x: &[f32]) -> Vec<f32> {
    let shape = params.shape;
    let [height, width] = shape.output_size(input.height, input.width);
    let [top, left, ..] = shape.padding;
    let [kernel_height, kernel_width] = shape.kernel;
    let mut y = Vec::new();
    for pixel in 0..height * width {
        let row = pixel / width * shape.stride + input.border - top;
        let column = pixel % width * shape.stride + input.border - left;
        for oc in 0..shape.output_channels {
            let mut sum = params.bias[oc];
            for ky in 0..kernel_height {
                for kx in 0..kernel_width {
                    for ic in 0..shape.group_inputs() {
                        let plane = oc / shape.group_outputs() * shape.group_inputs() + ic;
                        let place = (row + ky) * input.row_len() + (column + kx) * input.channels;
                        let weight = (oc * shape.group_inputs() + ic) * kernel_height + ky;
                        sum += x[place + plane] * params.weights[weight * kernel_width + kx];
                    }
                }
            }
            y.push(sum.max(0.0));
        }
    }
    y
}

#[test]
fn the_border_of_the_output_is_cleared() {
    let mut random = Random(9);
    let (shape, size) = winograd_shape(&mut random);
    let case = Case::random(&mut random, shape, size);
    for kernel in kernels() {
        let mut conv = case.build(kernel);
        conv.set_border(2);
        let (y, canvas) = Runner::new(2).run(&conv, &case.centred());
        let mut cleared = y.clone();
        canvas.clear_border(&mut cleared);
        assert_eq!(cleared, y);
        assert_eq!(steps(&y, canvas, case.zeros[1]), case.reference());
    }
}

#[test]
fn largest_sums_do_not_overflow() {
    let shape = ConvShape {
        input_channels: 512,
        output_channels: 1,
        kernel: [3, 3],
        stride: 1,
        padding: [1; 4],
        groups: 1,
    };
    let weights = vec![-128; shape.weights_per_output()];
    let case = Case {
        shape,
        size: [4, 4],
        scales: [1.0, 1.0],
        zeros: [-128, 0],
        w_scales: vec![6e-7],
        bias: vec![0],
        x: vec![127; 16 * 512],
        weights,
    };
    for kernel in kernels() {
        // -128 * 255 * 4608 = -150,405,120, times 6e-7.
        let arithmetic = if multiplies_bytes(kernel) { "bytes" } else { "winograd" };
        assert_eq!(case.build(kernel).arithmetic(), arithmetic);
        assert_eq!(case.run(kernel, &mut Runner::new(1))[5], -90, "{kernel:?}");
        assert_eq!(case.run(kernel, &mut Runner::new(1)), case.reference());
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
        groups: 1,
    };
    let case = Case::random(&mut random, shape, [4, 9]);
    assert!(case.run(Kernel::Portable, &mut Runner::new(1)).is_empty());
}

#[test]
fn kernels_are_chosen_by_name() {
    assert_eq!(Kernel::named("portable"), Some(Kernel::Portable));
    assert_eq!(Kernel::named("avx2"), Some(Kernel::Avx2));
    assert_eq!(Kernel::named("AVX2"), None);
    assert!(Kernel::ALL.iter().all(|kernel| Kernel::named(kernel.name()) == Some(*kernel)));
    assert!(Kernel::Portable.is_available());
    assert!(Kernel::fastest().is_available());
}

fn small_case() -> Case {
    let shape = ConvShape {
        input_channels: 2,
        output_channels: 3,
        kernel: [1, 1],
        stride: 1,
        padding: [0; 4],
        groups: 1,
    };
    Case {
        shape,
        size: [1, 1],
        scales: [1.0, 1.0],
        zeros: [0, 0],
        w_scales: vec![1.0; 3],
        weights: vec![1; 6],
        bias: vec![0; 3],
        x: vec![0; 2],
    }
}

/// The error that building a changed copy of a small valid case gives.
fn rejection(change: impl FnOnce(&mut Case)) -> QConvError {
    let mut case = small_case();
    case.build(Kernel::Portable);
    change(&mut case);
    QConv::new(&case.params(), case.input(), 0, Kernel::Portable).unwrap_err()
}

#[test]
fn unusable_parameters_are_rejected() {
    assert!(matches!(rejection(|c| c.shape.stride = 0), QConvError::EmptyShape(_)));
    assert!(matches!(rejection(|c| c.shape.groups = 2), QConvError::EmptyShape(_)));
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
    let mut case = small_case();
    case.shape.padding = [1; 4];
    let narrow = Canvas { border: 0, ..case.input() };
    let refused = QConv::new(&case.params(), narrow, 0, Kernel::Portable);
    assert!(matches!(refused, Err(QConvError::Input(_))));
}

#[test]
fn wrong_operands_are_rejected() {
    let case = small_case();
    let conv = case.build(Kernel::Portable);
    let Runner { mut pool, workers } = Runner::new(1);
    let mut run = |x: usize, steps: usize, reals: Option<usize>, skip: Option<&[f32]>| {
        let (mut steps, mut reals) = (vec![0; steps], reals.map(|len| vec![0.0; len]));
        let outputs = Outputs { steps: Some(&mut steps), reals: reals.as_deref_mut() };
        conv.run(Input::Steps(&vec![0; x]), skip, outputs, &mut pool, &workers)
    };
    let (x, y) = (conv.input().len(), conv.output().len());
    assert!(run(x, y, None, None).is_ok());
    let wrong = |result| matches!(result, Err(QConvError::WrongLength { .. }));
    assert!(wrong(run(x - 1, y, None, None)));
    assert!(wrong(run(x, y + 1, None, None)));
    assert!(matches!(run(x, y, Some(3), None), Err(QConvError::Operands(_))));
    assert!(matches!(run(x, y, None, Some(&[0.0; 3])), Err(QConvError::Operands(_))));
}

#[test]
fn what_cannot_be_fused_is_refused() {
    let case = small_case();
    let mut steps = case.build(Kernel::Portable);
    let to = Affine { scale: 1.0, zero: 0 };
    assert!(!steps.fuse_add() && !steps.fuse_relu() && !steps.fuse_quantize(to));
    assert!(!steps.fuse_max_pool(), "a 1x1 convolution has no tiles");
    let params = QConvParams { output: Output::Reals(&case.w_scales), ..case.params() };
    let mut reals = QConv::new(&params, case.input(), 0, Kernel::Portable).unwrap();
    assert!(!reals.fuse_quantize(Affine { scale: 1e-45, zero: 0 }), "no reciprocal");
    assert!(reals.fuse_add() && !reals.fuse_add());
    assert!(reals.fuse_relu() && !reals.fuse_relu());
    assert!(reals.fuse_quantize(to) && !reals.fuse_quantize(to));
}
