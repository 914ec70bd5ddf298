//! The bundle: network, weight path, card and golden case, written and then verified.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

use indicatif::ProgressBar;
use models::bundle::{
    Attribution, Bundle, BundleError, CamLayer, Card, Decision, Expected, FORMAT, InputRule, Parts,
    Precision, Provenance, Quantization, Results,
};
use models::label::Class;
use models::radiograph::{Radiograph, RadiographError};

use super::graph::model_from_network;
use super::head::{HeadExportError, head_from_network, outliers_from_images};
use super::verify::{self, VerifyError};
use crate::evaluate::Evaluation;
use crate::phantom::{PhantomSpec, render};
use crate::quantize::quantizer::{Settings, quantize};
use crate::train::fit::at_positions;
use crate::train::network::{Network, NetworkError};
use crate::train::run::{Plan, Regime};
use crate::train::samples::Samples;

const ABNORMAL_AT: f32 = 0.5;
const REFER_BELOW: f32 = 0.6;
/// A picture counts as unfamiliar beyond this multiple of the training pictures' largest distance.
const OUTLIER_MARGIN: f64 = 2.0;
const GOLDEN_SEED: u64 = 2022;

/// What a bundle is made from.
pub struct Source<'a> {
    /// The run's plan.
    pub plan: &'a Plan,
    /// The fold whose network is exported.
    pub fold: usize,
    /// The trained network.
    pub network: &'a Network,
    /// The data set.
    pub samples: &'a Samples,
    /// Positions of the training images.
    pub training: &'a [usize],
    /// The run's evaluation.
    pub evaluation: &'a Evaluation,
    /// Float or int8.
    pub precision: Precision,
    /// Most calibration images.
    pub calibration_images: usize,
    /// How int8 is reached.
    pub quantization: Settings,
    /// Where its progress is shown.
    pub progress: &'a ProgressBar,
    /// Name of the bundle.
    pub name: String,
    /// The data set in words, with its attribution.
    pub dataset: String,
    /// Source revision of this program.
    pub revision: String,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The network is incomplete.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The head cannot be formed.
    #[error(transparent)]
    Head(#[from] HeadExportError),
    /// The bundle cannot be written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The golden picture cannot be drawn.
    #[error(transparent)]
    Golden(#[from] RadiographError),
    /// The golden picture cannot be encoded.
    #[error(transparent)]
    Encode(#[from] image::ImageError),
    /// The device refuses what was made.
    #[error("the finished bundle fails on the device: {0}")]
    Verify(#[from] VerifyError),
}

/// Writes a bundle into `dir` and runs its self-test with the device's library; returns its digest.
///
/// # Errors
/// When a part cannot be made, or the device does not accept the result.
pub fn assemble(source: &Source<'_>, dir: &Path) -> Result<String, AssembleError> {
    let calibration = spread(source.training, source.calibration_images);
    let quantized = match source.precision {
        Precision::Int8 => {
            let images = at_positions(&source.samples.inputs, &calibration);
            Some(quantize(source.network, &images, &source.quantization, source.progress)?)
        }
        _ => None,
    };
    let model = model_from_network(source.network, quantized.as_ref())?;
    let head = head_from_network(source.network)?;
    let classes: Vec<Class> = source.training.iter().map(|&i| source.samples.classes[i]).collect();
    let images = at_positions(&source.samples.inputs, source.training);
    let (outliers, largest) = outliers_from_images(source.network, &images, &classes)?;
    let card = card(source, largest, quantized.is_some().then_some(calibration.len()));
    let golden_input = golden_input()?;
    // The device itself says what the golden case gives, so a first version goes without.
    let mut expected =
        Expected { logits: [0.0; 3], verdict: String::new(), heat_digest: String::new() };
    for _ in 0..2 {
        let parts = Parts {
            model: &model,
            head: &head,
            outliers: &outliers,
            golden_input: &golden_input,
            expected: &expected,
        };
        Bundle::save(card.clone(), &parts, dir)?;
        expected = verify::golden_result(dir)?;
    }
    verify::self_test(dir)?;
    Ok(Bundle::load(dir)?.digest)
}

/// At most `count` positions, evenly spread over all.
pub fn spread(positions: &[usize], count: usize) -> Vec<usize> {
    let step = (positions.len() as f64 / count.max(1) as f64).max(1.0);
    let picks = (positions.len() as f64 / step) as usize;
    (0..picks).map(|i| positions[(i as f64 * step) as usize]).collect()
}

fn golden_input() -> Result<Vec<u8>, AssembleError> {
    let spec = PhantomSpec { class: Class::Scoliosis, seed: GOLDEN_SEED, width: 224, height: 448 };
    let phantom: Radiograph = render(&spec)?.image;
    let bytes = phantom.samples().iter().map(|&s| (s >> 8) as u8).collect();
    let picture = image::GrayImage::from_raw(phantom.width(), phantom.height(), bytes)
        .unwrap_or_else(|| image::GrayImage::new(phantom.width(), phantom.height()));
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png)?;
    Ok(png.into_inner())
}

fn card(source: &Source<'_>, largest_distance: f64, calibrated_on: Option<usize>) -> Card {
    let architecture = source.network.architecture();
    let Plan { recipe, pretrained_sha256, manifest_digest, folds_digest, .. } = source.plan;
    Card {
        format: FORMAT,
        name: source.name.clone(),
        architecture: architecture.kind,
        regime: regime_name(source.plan.regime).into(),
        intended_use: "Decision support: flags spine X-rays for a human and shows why. Not a \
                       diagnosis."
            .into(),
        precision: source.precision,
        classes: Class::ALL.to_vec(),
        input: InputRule::default(),
        cam: CamLayer { layer: architecture.cam_layer().into(), shape: architecture.cam_shape },
        quantization: calibrated_on.map(|calibration_images| Quantization {
            scheme: "symmetric i8 weights per output channel, asymmetric i8 activations per \
                     tensor, i32 bias; residual streams, what is summed or captured, and the head \
                     in float"
                .into(),
            calibration: format!("{}; training folds only", source.quantization),
            calibration_images,
        }),
        decision: Decision {
            temperature: source.evaluation.metrics.temperature.value as f32,
            abnormal_at: ABNORMAL_AT,
            refer_below: REFER_BELOW,
            outlier_above: (largest_distance * OUTLIER_MARGIN) as f32,
        },
        provenance: Provenance {
            dataset: source.dataset.clone(),
            dataset_digest: manifest_digest.clone(),
            folds_digest: folds_digest.clone(),
            held_out_fold: source.fold,
            training_images: source.training.len(),
            pretrained_sha256: pretrained_sha256.clone(),
            seed: recipe.seed,
            training: training_in_words(source.plan),
            source_revision: source.revision.clone(),
            tools: BTreeMap::from([
                ("spinesight".into(), env!("CARGO_PKG_VERSION").into()),
                ("libtorch".into(), "2.11".into()),
            ]),
        },
        results: results(source),
        attributions: attributions(source),
        files: BTreeMap::new(),
    }
}

fn regime_name(regime: Regime) -> &'static str {
    match regime {
        Regime::Random => "random",
        Regime::FeatureExtraction => "feature-extraction",
        Regime::FineTune => "fine-tune",
    }
}

fn training_in_words(plan: &Plan) -> String {
    let recipe = &plan.recipe;
    let frozen = plan
        .frozen_through
        .as_ref()
        .map_or(String::new(), |l| format!("; frozen through {l}, {} cached views", plan.views));
    format!(
        "{} epochs ({} at half resolution), AdamW at {}, batch {}, class-weighted cross-entropy \
         with label smoothing {}, seeded augmentation, on {}{frozen}",
        recipe.epochs,
        recipe.half_resolution_epochs,
        recipe.learning_rate,
        recipe.batch,
        recipe.label_smoothing,
        plan.device
    )
}

fn results(source: &Source<'_>) -> Results {
    let evaluation = source.evaluation;
    let accuracy = &evaluation.metrics.accuracy;
    let own = evaluation.folds.iter().find(|f| f.fold == source.fold);
    let own = own.map_or(String::new(), |f| {
        format!("; this network itself judged {} of {} right", f.accuracy.hits, f.accuracy.of)
    });
    let folds: Vec<String> = evaluation.folds.iter().map(|f| f.fold.to_string()).collect();
    let mut controls = BTreeMap::new();
    if let Some(baselines) = &evaluation.baselines {
        controls.insert("picture size alone".into(), baselines.picture_size.value);
        controls.insert("majority class".into(), baselines.majority_class.value);
    }
    Results {
        measured_on: format!(
            "held-out images of fold {} by the float networks of this recipe{own}",
            folds.join(", ")
        ),
        images: accuracy.of,
        correct: accuracy.hits,
        accuracy: accuracy.value,
        interval: [accuracy.low, accuracy.high],
        balanced_accuracy: evaluation.metrics.balanced_accuracy,
        controls,
        limits: "One public data set with known shortcuts (sources, views, film labels); the \
                 temperature was fitted on the same held-out predictions; no external test."
            .into(),
    }
}

fn attributions(source: &Source<'_>) -> Vec<Attribution> {
    let mut all = vec![Attribution {
        work: "Fraiwan M., Audat Z., Manasreh T., A dataset of scoliosis, spondylolisthesis, and \
               normal vertebrae X-ray images, Mendeley Data, 2022, doi 10.17632/xkt857dsxk.1; \
               converted to luminance and letterboxed for training"
            .into(),
        licence: "CC BY 4.0".into(),
    }];
    if source.plan.pretrained_sha256.is_some() {
        all.push(Attribution {
            work: "ResNet-50 ImageNet weights, He et al. 2015 (MSRA)".into(),
            licence: "MIT".into(),
        });
    }
    all
}
