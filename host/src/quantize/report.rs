//! How close a quantized network is to its float network: layer by layer, in labels and
//! probabilities, and in heat maps.

use std::collections::BTreeMap;

use models::arch::Op;
use models::cam::{CamError, raw_map};
use models::head::{Captured, Head};
use models::label::{COUNT, Class};
use serde::Serialize;
use tch::{Kind, Tensor};

use super::forward::Forward;
use super::scheme::{Convolution, Quantized};
use super::sensitivity::multiply_adds;
use crate::explain::grad_cam;
use crate::export::head::{HeadExportError, head_from_network};
use crate::export::verify::pearson;
use crate::train::network::{Network, NetworkError};
use models::logits::probabilities;

/// What quantization costs, over a set of images.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Images compared.
    pub images: usize,
    /// Images to which the two give different classes.
    pub label_flips: usize,
    /// Largest difference of a class's calibrated probability.
    pub max_probability_change: f64,
    /// Root mean square of the logits' differences, their mean per image left out: it cancels in
    /// every probability.
    pub logit_error: f64,
    /// Class, as the float network sees it, with the largest probability change.
    pub worst_class: Class,
    /// Figures by class, as the float network sees it.
    pub classes: Vec<ClassReport>,
    /// Pearson correlation of raw maps with float autograd Grad-CAM of the same class: median.
    pub map_correlation_median: f64,
    /// The same: smallest.
    pub map_correlation_min: f64,
    /// Part of all multiply-adds of convolutions that is done in float.
    pub float_share: f64,
    /// The convolutions, first to last.
    pub layers: Vec<LayerReport>,
}

/// One class in a [`Report`].
#[derive(Clone, Debug, Serialize)]
pub struct ClassReport {
    /// The class.
    pub class: Class,
    /// Images that the float network assigns to it.
    pub images: usize,
    /// Those of them that get another class.
    pub label_flips: usize,
    /// Largest difference of a probability among them.
    pub max_probability_change: f64,
}

/// One convolution in a [`Report`].
#[derive(Clone, Debug, Serialize)]
pub struct LayerReport {
    /// Its name.
    pub name: String,
    /// Whether it computes in float.
    pub float: bool,
    /// Multiply-adds for one picture.
    pub multiply_adds: u64,
    /// Signal-to-noise ratio of its output, all errors up to there included, in decibels; the float
    /// network is the signal. Absent where there is no error at all.
    pub snr_db: Option<f64>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The float network fails.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The head cannot be formed.
    #[error(transparent)]
    Head(#[from] HeadExportError),
    /// A map cannot be computed.
    #[error(transparent)]
    Cam(#[from] CamError),
    /// A tensor is not what it should be.
    #[error(transparent)]
    Torch(#[from] tch::TchError),
    /// There is nothing to compare.
    #[error("no images to compare")]
    Empty,
}

/// Compares over images `[count, 1, SIDE, SIDE]`, with probabilities at a temperature.
///
/// # Errors
/// When there are no images, or a network or map fails.
pub fn report(
    network: &Network,
    quantized: &Quantized,
    images: &Tensor,
    temperature: f64,
    progress: &dyn Fn(),
) -> Result<Report, ReportError> {
    let head = head_from_network(network)?;
    let (float, rounded) =
        (Forward::new(network, &quantized.origin, BTreeMap::new()), quantized.forward(network));
    let mut power = Power::default();
    let mut pictures = Vec::new();
    for image in images.split(1, 0) {
        let logits = power.compare(network, &float, &rounded, &image);
        pictures.push(compared(network, &head, &rounded, &image, &logits, temperature)?);
        progress();
    }
    summary(network, quantized, &pictures, &power)
}

/// One image's figures.
struct Picture {
    class: Class,
    flips: bool,
    change: f64,
    squared_logit_error: f64,
    correlation: f64,
}

fn compared(
    network: &Network,
    head: &Head,
    rounded: &Forward<'_>,
    image: &Tensor,
    float_logits: &Tensor,
    temperature: f64,
) -> Result<Picture, ReportError> {
    let architecture = network.architecture();
    let hidden_nodes = architecture.head_layers();
    let hidden_nodes = &hidden_nodes[..hidden_nodes.len().saturating_sub(1)];
    let (mut features, mut hidden) = (Tensor::default(), Vec::new());
    let logits = rounded.run(image, &mut |at, value| {
        if at == architecture.cam {
            features = value.shallow_clone();
        }
        if hidden_nodes.iter().any(|n| n.name == architecture.nodes[at].name) {
            hidden.push(value.shallow_clone());
        }
    });
    let (float, ours) = (three(float_logits)?, three(&logits)?);
    let class = likeliest(&float);
    let gaps: Vec<f64> = float.iter().zip(&ours).map(|(a, b)| f64::from(b - a)).collect();
    let mean = gaps.iter().sum::<f64>() / COUNT as f64;
    let changes = probabilities(&float, temperature);
    let changes = changes.iter().zip(probabilities(&ours, temperature)).map(|(a, b)| (a - b).abs());
    let features: Vec<f32> = Vec::try_from(features.flatten(0, -1))?;
    let hidden: Vec<Vec<f32>> =
        hidden.iter().map(|h| Vec::try_from(h.flatten(0, -1))).collect::<Result<_, _>>()?;
    let raw = raw_map(head, class, Captured { features: &features, hidden: &hidden })?;
    Ok(Picture {
        class,
        flips: likeliest(&ours) != class,
        change: changes.fold(0.0, f64::max),
        squared_logit_error: gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / COUNT as f64,
        correlation: pearson(&raw, &grad_cam(network, image, class)?.raw),
    })
}

/// Power of each convolution's output and of its error.
#[derive(Default)]
struct Power {
    signal: BTreeMap<usize, f64>,
    noise: BTreeMap<usize, f64>,
}

impl Power {
    /// Runs both networks over an image; returns the float logits.
    fn compare(
        &mut self,
        network: &Network,
        float: &Forward<'_>,
        rounded: &Forward<'_>,
        image: &Tensor,
    ) -> Tensor {
        let nodes = &network.architecture().nodes;
        let energy = |t: &Tensor| (t * t).sum(Kind::Double).double_value(&[]);
        let mut outputs = BTreeMap::new();
        let is_conv = |at: usize| matches!(nodes[at].op, Op::Conv(_));
        let logits = float.run(image, &mut |at, value| {
            if is_conv(at) {
                *self.signal.entry(at).or_default() += energy(value);
                outputs.insert(at, value.shallow_clone());
            }
        });
        let _ = rounded.run(image, &mut |at, value| {
            if let Some(truth) = outputs.get(&at) {
                *self.noise.entry(at).or_default() += energy(&(value - truth));
            }
        });
        logits
    }

    fn decibels(&self, at: usize) -> Option<f64> {
        let noise = self.noise.get(&at).copied().filter(|n| *n > 0.0)?;
        Some(10.0 * (self.signal.get(&at)? / noise).log10())
    }
}

fn summary(
    network: &Network,
    quantized: &Quantized,
    pictures: &[Picture],
    power: &Power,
) -> Result<Report, ReportError> {
    let classes = Class::ALL.map(|class| {
        let of: Vec<&Picture> = pictures.iter().filter(|p| p.class == class).collect();
        ClassReport {
            class,
            images: of.len(),
            label_flips: of.iter().filter(|p| p.flips).count(),
            max_probability_change: of.iter().map(|p| p.change).fold(0.0, f64::max),
        }
    });
    let by_change = |a: &&ClassReport, b: &&ClassReport| {
        a.max_probability_change.total_cmp(&b.max_probability_change)
    };
    let worst = classes.iter().max_by(by_change).ok_or(ReportError::Empty)?;
    let mut correlations: Vec<f64> = pictures.iter().map(|p| p.correlation).collect();
    correlations.sort_by(f64::total_cmp);
    let median = correlations.get(correlations.len() / 2).copied().ok_or(ReportError::Empty)?;
    let squared = pictures.iter().map(|p| p.squared_logit_error).sum::<f64>();
    let architecture = network.architecture();
    let costs = multiply_adds(architecture);
    let layers: Vec<LayerReport> = quantized
        .convolutions
        .iter()
        .map(|(&at, convolution)| LayerReport {
            name: architecture.nodes[at].name.clone(),
            float: matches!(convolution, Convolution::Float(_)),
            multiply_adds: costs.get(&at).copied().unwrap_or(0),
            snr_db: power.decibels(at),
        })
        .collect();
    let in_float: u64 = layers.iter().filter(|l| l.float).map(|l| l.multiply_adds).sum();
    Ok(Report {
        images: pictures.len(),
        label_flips: pictures.iter().filter(|p| p.flips).count(),
        max_probability_change: worst.max_probability_change,
        logit_error: (squared / pictures.len() as f64).sqrt(),
        worst_class: worst.class,
        map_correlation_median: median,
        map_correlation_min: correlations[0],
        float_share: in_float as f64 / costs.values().sum::<u64>().max(1) as f64,
        layers,
        classes: classes.into(),
    })
}

fn three(logits: &Tensor) -> Result<[f32; COUNT], ReportError> {
    let values: Vec<f32> = Vec::try_from(logits.flatten(0, -1))?;
    values.try_into().map_err(|_| ReportError::Empty)
}

fn likeliest(logits: &[f32; COUNT]) -> Class {
    Class::ALL.into_iter().fold(Class::Normal, |best, class| {
        if logits[class.index()] > logits[best.index()] { class } else { best }
    })
}

impl Report {
    /// The figures in words and a table.
    pub fn text(&self) -> String {
        let mut lines = vec![
            format!("images compared                {}", self.images),
            format!("label flips                    {}", self.label_flips),
            format!("largest probability change     {:.4}", self.max_probability_change),
            format!("logit error                    {:.4}", self.logit_error),
            format!("worst class                    {}", self.worst_class),
            format!("raw map correlation, median    {:.4}", self.map_correlation_median),
            format!("raw map correlation, smallest  {:.4}", self.map_correlation_min),
            format!("multiply-adds in float         {:.2} %", self.float_share * 100.0),
            String::new(),
            format!("{:<20} {:>6} {:>6} {:>12}", "class", "images", "flips", "change"),
        ];
        for c in &self.classes {
            let change = c.max_probability_change;
            let class = c.class.to_string();
            lines.push(format!("{class:<20} {:>6} {:>6} {change:>12.4}", c.images, c.label_flips));
        }
        lines.push(String::new());
        lines.push(format!("{:<22} {:>7} {:>8} {:>8}", "layer", "numbers", "M madds", "SNR dB"));
        for layer in &self.layers {
            let numbers = if layer.float { "float" } else { "int8" };
            let millions = layer.multiply_adds as f64 / 1e6;
            let snr = layer.snr_db.map_or("exact".into(), |snr| format!("{snr:.1}"));
            let name = &layer.name;
            lines.push(format!("{name:<22} {numbers:>7} {millions:>8.1} {snr:>8}"));
        }
        lines.join("\n") + "\n"
    }
}
