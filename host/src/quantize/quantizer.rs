//! From a trained network and calibration images to int8.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use indicatif::ProgressBar;
use models::arch::{Architecture, Op};
use tch::{Kind, Tensor};

use super::affine::Affine;
use super::equalize::equalize;
use super::forward::{Forward, convolutions, folded_layers};
use super::observe::{Moments, Observations, channel_extremes, observations};
use super::range::{Histogram, RangeMethod};
use super::rounding::{LARGEST, nearest, second_order};
use super::scheme::{Convolution, IntegerLayer, Quantized, source, sources};
use super::sensitivity::{chosen_within, output_sides, sensitivities};
use crate::export::fold::Layer;
use crate::train::network::{Network, NetworkError};

/// How a network is quantized. The defaults are the best measured on both shipped networks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How activation ranges are chosen.
    pub ranges: RangeMethod,
    /// Whether channels are equalised first.
    pub equalize: bool,
    /// Whether weights are rounded by their effect on the output, instead of to the nearest step.
    pub second_order: bool,
    /// Whether biases make up for the mean error of rounded weights.
    pub correct_biases: bool,
    /// Part of all multiply-adds that may stay in float, spent on the layers that lose most.
    pub float_budget: f64,
    /// Most that the root mean square of a channel's weights may be, in steps, where boards may add
    /// products of bytes up in 16 bits: at 17, hardly four of them overflow, which costs time; but
    /// the steps are 1.6 times as coarse.
    pub weight_rms: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ranges: RangeMethod::MinMax,
            equalize: true,
            second_order: true,
            correct_biases: true,
            float_budget: 0.03,
            weight_rms: LARGEST,
        }
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ranges by {}", self.ranges)?;
        let parts = [
            (self.equalize, "channels equalised"),
            (self.second_order, "second-order weight rounding"),
            (self.correct_biases, "biases corrected"),
        ];
        parts.iter().filter(|(on, _)| *on).try_for_each(|(_, what)| write!(f, ", {what}"))?;
        if self.weight_rms < LARGEST {
            write!(f, ", weights of at most {} steps root mean square", self.weight_rms)?;
        }
        match self.float_budget {
            b if b > 0.0 => write!(f, ", {} % of multiply-adds in float", b * 100.0),
            _ => Ok(()),
        }
    }
}

/// Calibration images used to measure sensitivities; each costs one run per layer.
const SENSITIVITY_IMAGES: i64 = 6;

/// Quantizes a network on calibration images `[count, 1, SIDE, SIDE]`.
///
/// # Errors
/// When the network lacks a tensor or libtorch fails.
pub fn quantize(
    network: &Network,
    images: &Tensor,
    settings: &Settings,
    progress: &ProgressBar,
) -> Result<Quantized, NetworkError> {
    let architecture = network.architecture();
    let all: Vec<usize> = convolutions(architecture).collect();
    let probes = images.size()[0].min(SENSITIVITY_IMAGES);
    let sensing =
        if settings.float_budget > 0.0 { probes as u64 * (all.len() as u64 + 1) } else { 0 };
    progress.set_length(2 * images.size()[0] as u64 + all.len() as u64 + sensing);

    let mut layers = folded_layers(network)?;
    let folded = Forward::new(network, &layers, BTreeMap::new());
    let mut extremes = channel_extremes(&folded, images, &|| progress.inc(1));
    if settings.equalize {
        let factors = equalize(architecture, &mut layers, &extremes.magnitudes());
        extremes = extremes.divided_by(&factors);
    }
    let equalized = Forward::new(network, &layers, BTreeMap::new());
    let histograms: BTreeMap<usize, Histogram> = match settings.ranges {
        RangeMethod::MinMax => BTreeMap::new(),
        _ => {
            let nodes = sources(architecture, &BTreeSet::new());
            nodes.into_iter().map(|at| (at, Histogram::new(extremes.of(at)))).collect()
        }
    };
    let measured = if settings.second_order || settings.correct_biases { &all[..] } else { &[] };
    let observed =
        observations(network, &equalized, measured, histograms, images, &|| progress.inc(1));
    let affine = |at: usize| match observed.histograms.get(&at) {
        Some(histogram) => Affine::covering(histogram.range(settings.ranges)),
        None => Affine::covering(extremes.of(at)),
    };
    let steps: BTreeMap<usize, Affine> =
        sources(architecture, &BTreeSet::new()).into_iter().map(|at| (at, affine(at))).collect();
    let mut quantized = Quantized { convolutions: BTreeMap::new(), steps, origin: layers };
    for &at in &all {
        let layer = integer_layer(architecture, at, &quantized, &observed, settings)?;
        quantized.convolutions.insert(at, Convolution::Integer(layer));
        progress.inc(1);
    }
    if settings.float_budget > 0.0 {
        let probes = spread_rows(images, probes);
        let losses = sensitivities(network, &quantized, &probes, &|| progress.inc(1));
        for at in chosen_within(architecture, &losses, settings.float_budget) {
            quantized.keep_float(architecture, at);
        }
    }
    Ok(quantized)
}

impl Quantized {
    /// Puts a convolution back into float, and drops steps that nothing reads any more.
    fn keep_float(&mut self, architecture: &Architecture, at: usize) {
        if let Some(layer) = self.origin.get(&at) {
            self.convolutions.insert(at, Convolution::Float(layer.clone()));
        }
        let float = |c: &Convolution| matches!(c, Convolution::Float(_));
        let floats = self.convolutions.iter().filter(|(_, c)| float(c)).map(|(&at, _)| at);
        let read = sources(architecture, &floats.collect());
        self.steps.retain(|at, _| read.contains(at));
    }
}

/// A float layer in integers, for inputs of a given scale.
fn integer_layer(
    architecture: &Architecture,
    at: usize,
    quantized: &Quantized,
    observed: &Observations,
    settings: &Settings,
) -> Result<IntegerLayer, NetworkError> {
    let layer = quantized.origin.get(&at).ok_or_else(|| missing(architecture, at))?;
    let steps = quantized.steps.get(&source(architecture, at)).copied();
    let steps = steps.ok_or_else(|| missing(architecture, at))?;
    let outputs = layer.bias.len();
    let weight = Tensor::from_slice(&layer.weight).view([outputs as i64, -1]).to_kind(Kind::Double);
    let narrow = adds_in_16_bits(architecture, at);
    let rms = if narrow { settings.weight_rms } else { f64::INFINITY };
    let scales = weight_scales(layer, steps.scale, rms);
    let scale_tensor = Tensor::from_slice(&scales).to_kind(Kind::Double);
    let moments = observed.moments.get(&at);
    let rounded = match moments.filter(|_| settings.second_order) {
        Some(moments) => second_order(&weight, &scale_tensor, &noisy_second(moments, steps))?,
        None => nearest(&weight, &scale_tensor),
    };
    let mut bias: Vec<f64> = layer.bias.iter().map(|&b| f64::from(b)).collect();
    if let Some(moments) = moments.filter(|_| settings.correct_biases) {
        // Mean output error that the rounded weights cause on calibration images (Nagel et al.
        // 2019, arXiv 1906.04721, section 4.2).
        let gap = &rounded * scale_tensor.unsqueeze(1) - &weight;
        let mean = moments.mean.to_device(tch::Device::Cpu).to_kind(Kind::Double);
        let errors: Vec<f64> = Vec::try_from(gap.mv(&mean))?;
        bias.iter_mut().zip(errors).for_each(|(b, e)| *b -= e);
    }
    let product = |s: &f32| f64::from(steps.scale) * f64::from(*s);
    Ok(IntegerLayer {
        weight: Vec::try_from(rounded.to_kind(Kind::Int8).contiguous().flatten(0, -1))?,
        bias: bias.iter().zip(&scales).map(|(b, s)| (b / product(s)).round() as i32).collect(),
        scales,
    })
}

/// Second moments of the inputs as the board sees them: rounding adds its own noise.
fn noisy_second(moments: &Moments, steps: Affine) -> Tensor {
    let second = moments.second.to_device(tch::Device::Cpu).to_kind(Kind::Double);
    let noise = f64::from(steps.scale).powi(2) / 12.0;
    let eye = Tensor::eye(second.size()[0], (Kind::Double, tch::Device::Cpu));
    second + eye * noise
}

/// Whether boards may multiply a convolution's bytes and add them up in 16 bits: they compute 3x3
/// convolutions with stride 1 and even outputs by Winograd's arithmetic, on words.
fn adds_in_16_bits(architecture: &Architecture, at: usize) -> bool {
    match architecture.nodes[at].op {
        Op::Conv(conv) if conv.kernel == 3 && conv.stride == 1 => {
            !output_sides(architecture)[at].is_multiple_of(2)
        }
        _ => true,
    }
}

/// Real value of one weight step per output channel: the largest weight is 127 steps, or fewer
/// where their root mean square would be more than `rms` steps.
fn weight_scales(layer: &Layer, input_scale: f32, rms: f64) -> Vec<f32> {
    let per_output = layer.weight.len() / layer.bias.len().max(1);
    let rows = layer.weight.chunks_exact(per_output).zip(&layer.bias);
    let scale = |(weights, bias): (&[f32], &f32)| {
        let largest = weights.iter().fold(0.0f32, |m, w| m.max(w.abs()));
        let squares: f64 = weights.iter().map(|&w| f64::from(w).powi(2)).sum();
        let spread = ((squares / per_output as f64).sqrt() / rms) as f32;
        // The floor keeps the bias of a channel with tiny weights within 32 bits.
        let floor = bias.abs() / (input_scale * (1u32 << 29) as f32);
        (largest / LARGEST as f32).max(spread).max(floor).max(1e-12)
    };
    rows.map(scale).collect()
}

/// `count` rows of a tensor, evenly spread.
fn spread_rows(images: &Tensor, count: i64) -> Tensor {
    let rows: Vec<i64> = (0..count).map(|i| i * images.size()[0] / count).collect();
    images.index_select(0, &Tensor::from_slice(&rows).to_device(images.device()))
}

fn missing(architecture: &Architecture, at: usize) -> NetworkError {
    NetworkError::Missing(architecture.nodes[at].name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::network::Mode;
    use tch::Device;

    fn network(kind: &str) -> Network {
        Network::random(Architecture::new(kind.parse().expect("known")), 4, Device::Cpu)
    }

    fn images(count: i64) -> Tensor {
        tch::manual_seed(9);
        Tensor::randn([count, 1, 64, 64], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn layers_survive_within_half_a_step_when_rounded_to_the_nearest() {
        let network = network("vgg16-gap-bn");
        let settings = Settings {
            equalize: false,
            second_order: false,
            correct_biases: false,
            float_budget: 0.0,
            ..Settings::default()
        };
        let quantized =
            quantize(&network, &images(1), &settings, &ProgressBar::hidden()).expect("quantizes");
        for (at, layer) in folded_layers(&network).expect("folds") {
            let Some(Convolution::Integer(integer)) = quantized.convolutions.get(&at) else {
                panic!("{at} is not in integers");
            };
            let steps = quantized.input_steps(network.architecture(), at).expect("steps");
            let back = integer.as_floats(steps.scale);
            let fan_in = layer.weight.len() / layer.bias.len();
            for (i, (a, b)) in layer.weight.iter().zip(&back.weight).enumerate() {
                assert!((a - b).abs() <= integer.scales[i / fan_in] * 0.5001);
            }
            for (c, (a, b)) in layer.bias.iter().zip(&back.bias).enumerate() {
                let step = steps.scale * integer.scales[c];
                assert!((a - b).abs() <= step.max(1e-6 * a.abs()), "{a} and {b}");
            }
        }
    }

    #[test]
    fn a_channels_mean_weight_bounds_its_steps() {
        let layer =
            Layer { weight: vec![1.0, -1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 2.0], bias: vec![0.0; 2] };
        let steps = |rms| {
            let scales = weight_scales(&layer, 1.0, rms);
            let rows = layer.weight.chunks(4).zip(scales);
            rows.flat_map(|(row, s)| row.iter().map(move |w| (w / s).round())).collect::<Vec<_>>()
        };
        assert_eq!(steps(f64::INFINITY), [127.0, -127.0, 127.0, -127.0, 0.0, 0.0, 0.0, 127.0]);
        assert_eq!(steps(17.0), [17.0, -17.0, 17.0, -17.0, 0.0, 0.0, 0.0, 34.0]);
        let narrow = |kind: &str, name: &str| {
            let architecture = Architecture::new(kind.parse().expect("known"));
            adds_in_16_bits(&architecture, architecture.position(name).expect("exists"))
        };
        assert!(narrow("resnet50-v1", "layer1.0.conv1") && narrow("resnet50-v1", "layer4.1.conv2"));
        assert!(!narrow("resnet50-v1", "layer3.1.conv2") && !narrow("vgg16-gap", "conv1_2"));
    }

    #[test]
    fn a_full_float_budget_leaves_the_float_network() {
        let network = network("resnet50-v1-stage4");
        let image = images(1);
        let settings = Settings {
            second_order: false,
            correct_biases: false,
            float_budget: 1.0,
            ..Settings::default()
        };
        let quantized =
            quantize(&network, &image, &settings, &ProgressBar::hidden()).expect("quantizes");
        assert!(quantized.steps.is_empty());
        assert!(quantized.convolutions.values().all(|c| matches!(c, Convolution::Float(_))));
        let float = network.logits(&image, Mode::Evaluate);
        let gap = quantized.forward(&network).run(&image, &mut |_, _| {}) - &float;
        let (gap, size) = (gap.abs().max(), float.abs().max());
        assert!(gap.double_value(&[]) < 1e-3 * size.double_value(&[]).max(1.0));
    }

    #[test]
    fn corrected_biases_restore_the_mean_of_rounded_layers() {
        let network = network("vgg16-gap-bn");
        let image = images(1);
        let mean_error = |correct_biases: bool| {
            let settings = Settings {
                equalize: false,
                second_order: false,
                correct_biases,
                float_budget: 0.0,
                ..Settings::default()
            };
            let quantized =
                quantize(&network, &image, &settings, &ProgressBar::hidden()).expect("quantizes");
            // The last layer has few positions: all of them are counted.
            let at = convolutions(network.architecture()).last().expect("convolutions");
            let steps = quantized.input_steps(network.architecture(), at).expect("steps");
            let Some(Convolution::Integer(layer)) = quantized.convolutions.get(&at) else {
                panic!("in integers");
            };
            let mut mixed = quantized.origin.clone();
            mixed.insert(at, layer.as_floats(steps.scale));
            let output = |layers: &crate::quantize::forward::Layers| {
                let mut output = Tensor::default();
                let forward = Forward::new(&network, layers, BTreeMap::new());
                let _ = forward.run(&image, &mut |node, value| {
                    if node == at {
                        output = value.shallow_clone();
                    }
                });
                output
            };
            let gap = output(&mixed) - output(&quantized.origin);
            gap.mean_dim(&[0i64, 2, 3][..], false, None::<Kind>).abs().mean(Kind::Double)
        };
        let (corrected, left) =
            (mean_error(true).double_value(&[]), mean_error(false).double_value(&[]));
        assert!(corrected < 0.2 * left, "{corrected} and {left}");
    }
}
