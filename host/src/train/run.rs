//! A cross-validation run on disk: `run.toml`, then a folder per fold with its checkpoint, weights
//! and held-out predictions. Repeating the same call continues where it stopped.

use std::fs;
use std::path::{Path, PathBuf};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use models::arch::{Architecture, Kind};
use models::label;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

use super::augment::{augmented, generator};
use super::fit::{FitError, Lesson, Recipe, Views, at_positions, class_weights, fit};
use super::network::{Mode, Network, NetworkError};
use super::pretrained::{Pretrained, PretrainedError};
use super::probe;
use super::samples::{Samples, SamplesError};
use crate::data::folds::Folds;
use crate::data::manifest::Manifest;
use crate::evaluate::prediction::{self, Prediction, PredictionError};

/// Name of the plan inside a run's folder.
pub const PLAN_FILE: &str = "run.toml";
/// Name of a fold's trained network.
pub const WEIGHTS_FILE: &str = "weights.safetensors";

const CHECKPOINT_FILE: &str = "checkpoint.safetensors";
const CACHE_FILE: &str = "prefix-cache.safetensors";
const PREDICTION_BATCH: i64 = 8;
/// Random stream of cached augmentations, apart from those of the folds' epochs.
const CACHE_STREAM: u64 = u64::MAX;

/// How the network starts and what of it learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Regime {
    /// Everything from random values.
    Random,
    /// Published weights stay; only the classifier is fitted.
    FeatureExtraction,
    /// Published weights are the start; all behind the frozen prefix learns.
    FineTune,
}

/// Everything that decides a run's outcome; two runs with equal plans give equal results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of this file.
    pub format: u32,
    /// The network.
    pub architecture: Kind,
    /// How it starts.
    pub regime: Regime,
    /// SHA-256 of the starting weights' file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pretrained_sha256: Option<String>,
    /// Last node that does not learn, where some do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_through: Option<String>,
    /// Views of every picture cached behind the frozen prefix (the first unaugmented).
    pub views: usize,
    /// Device the run was trained on.
    pub device: String,
    /// Digest of the data set's manifest.
    pub manifest_digest: String,
    /// Digest of the fold plan.
    pub folds_digest: String,
    /// How to learn.
    pub recipe: Recipe,
}

/// What a run works on.
pub struct Setting<'a> {
    /// Folder of the data set.
    pub data: &'a Path,
    /// Its table.
    pub manifest: &'a Manifest,
    /// Its fold plan.
    pub folds: &'a Folds,
    /// Starting weights.
    pub pretrained: Option<&'a Pretrained>,
    /// Where to compute.
    pub device: Device,
    /// The run's folder.
    pub out: &'a Path,
}

/// Why a run stops.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file of the run fails.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
    /// The folder holds a run of another plan.
    #[error("{0} holds a run with another plan: choose another --out, or remove that folder")]
    OtherPlan(PathBuf),
    /// The plan on disk cannot be read.
    #[error("{path}: {source}")]
    Plan {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: toml::de::Error,
    },
    /// The plan cannot be written.
    #[error("the plan cannot be written: {0}")]
    Encode(#[from] toml::ser::Error),
    /// A node that --freeze names does not exist or is no cut.
    #[error("`{0}` cannot end a frozen prefix: later layers reach back before it")]
    NoCut(String),
    /// A frozen part would start from random values.
    #[error("`{frozen}` lies behind `{covered}`, the last layer that the weights cover")]
    FrozenUncovered {
        /// What was to be frozen.
        frozen: String,
        /// What is covered.
        covered: String,
    },
    /// A regime that needs weights has none.
    #[error("this regime starts from published weights: name them with --pretrained")]
    NoPretrained,
    /// A fold that the plan of the data set does not have.
    #[error("there is no fold {fold}: the data set has folds 0 to {last}", last = k - 1)]
    NoFold {
        /// Asked for.
        fold: usize,
        /// Number of folds.
        k: usize,
    },
    /// The data set cannot be loaded.
    #[error(transparent)]
    Samples(#[from] SamplesError),
    /// The starting weights do not fit.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// libtorch fails.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A fold cannot be fitted.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// Predictions cannot be written.
    #[error(transparent)]
    Prediction(#[from] PredictionError),
}

impl Plan {
    /// Reads the plan of a run's folder.
    ///
    /// # Errors
    /// When there is none or it does not parse.
    pub fn load(run: &Path) -> Result<Self, RunError> {
        let path = run.join(PLAN_FILE);
        let text = fs::read_to_string(&path).map_err(file_error(&path))?;
        toml::from_str(&text).map_err(|source| RunError::Plan { path, source })
    }

    /// Writes the plan into a run's folder, or checks that the folder's plan is the same.
    fn claim(&self, run: &Path) -> Result<(), RunError> {
        let path = run.join(PLAN_FILE);
        if path.exists() {
            let same = Self::load(run)? == *self;
            return if same { Ok(()) } else { Err(RunError::OtherPlan(run.into())) };
        }
        fs::create_dir_all(run).map_err(file_error(run))?;
        fs::write(&path, toml::to_string(self)?).map_err(file_error(&path))
    }
}

/// Folder of one fold inside a run's folder.
pub fn fold_dir(run: &Path, fold: usize) -> PathBuf {
    run.join(format!("fold-{fold}"))
}

/// Trains the given folds and writes their held-out predictions; finished folds are passed over.
///
/// # Errors
/// At the first thing that fails; what is finished stays and is not done again.
pub fn train(plan: &Plan, setting: &Setting<'_>, folds: &[usize]) -> Result<(), RunError> {
    if let Some(&fold) = folds.iter().find(|&&f| f >= setting.folds.k()) {
        return Err(RunError::NoFold { fold, k: setting.folds.k() });
    }
    let cut = cut_of(plan, setting.pretrained)?;
    plan.claim(setting.out)?;
    let pending: Vec<usize> =
        folds.iter().copied().filter(|&f| !predictions_file(setting.out, f).exists()).collect();
    if pending.is_empty() {
        return Ok(());
    }
    let bars = MultiProgress::new();
    let bar = bars.add(bar("preparing pictures"));
    let samples = Samples::load(setting.data, setting.manifest, &bar)?;
    bar.finish_and_clear();
    let views = views(plan, setting, cut, &samples, &bars)?;
    let material = Material { labels: &samples.labels(), samples: &samples, views: &views };
    for fold in pending {
        one_fold(plan, setting, fold, cut, &material, &bars)?;
    }
    let cache = setting.out.join(CACHE_FILE);
    if cache.exists() && (0..setting.folds.k()).all(|f| predictions_file(setting.out, f).exists()) {
        fs::remove_file(&cache).map_err(file_error(&cache))?;
    }
    Ok(())
}

/// The node up to which nothing learns, from the plan; 0 where everything learns.
fn cut_of(plan: &Plan, pretrained: Option<&Pretrained>) -> Result<usize, RunError> {
    let Some(name) = &plan.frozen_through else { return Ok(0) };
    let mut network = Network::random(Architecture::new(plan.architecture), 0, Device::Cpu);
    let covered = pretrained.ok_or(RunError::NoPretrained)?.apply(&mut network)?;
    let nodes = &network.architecture().nodes;
    let at = network.architecture().position(name);
    let at = at.filter(|&at| super::network::is_cut(network.architecture(), at));
    let at = at.ok_or_else(|| RunError::NoCut(name.clone()))?;
    if at > covered {
        let covered = nodes[covered].name.clone();
        return Err(RunError::FrozenUncovered { frozen: name.clone(), covered });
    }
    Ok(at)
}

/// A network as every fold starts it.
fn starting_network(plan: &Plan, setting: &Setting<'_>) -> Result<Network, RunError> {
    let architecture = Architecture::new(plan.architecture);
    let mut network = Network::random(architecture, plan.recipe.seed, setting.device);
    if let Some(pretrained) = setting.pretrained {
        pretrained.apply(&mut network)?;
    }
    Ok(network)
}

/// What all folds share.
struct Material<'a> {
    samples: &'a Samples,
    views: &'a Views,
    labels: &'a Tensor,
}

fn one_fold(
    plan: &Plan,
    setting: &Setting<'_>,
    fold: usize,
    cut: usize,
    material: &Material<'_>,
    bars: &MultiProgress,
) -> Result<(), RunError> {
    let dir = fold_dir(setting.out, fold);
    fs::create_dir_all(&dir).map_err(file_error(&dir))?;
    let ids = &material.samples.ids;
    let held_out: Vec<usize> =
        (0..ids.len()).filter(|&i| setting.folds.fold_of(&ids[i]) == Some(fold)).collect();
    let training: Vec<usize> = (0..ids.len()).filter(|i| !held_out.contains(i)).collect();
    let mut network = starting_network(plan, setting)?;
    let lesson =
        Lesson { views: material.views, labels: material.labels, training: &training, cut, fold };
    let bar = bars.add(bar(&format!("fold {fold}")));
    let checkpoint = dir.join(CHECKPOINT_FILE);
    match (plan.regime, material.views) {
        (Regime::FeatureExtraction, Views::Cached(views)) => {
            fit_classifier(&mut network, views, &lesson)?;
        }
        _ => fit(&mut network, &lesson, &plan.recipe, &checkpoint, &bar)?,
    }
    let logits = held_out_logits(&network, material, cut, &held_out);
    network.save(&dir.join(WEIGHTS_FILE))?;
    write_predictions(setting.out, fold, material.samples, &held_out, &logits)?;
    if checkpoint.exists() {
        fs::remove_file(&checkpoint).map_err(file_error(&checkpoint))?;
    }
    bar.finish_with_message("done");
    Ok(())
}

/// Feature extraction: logistic regression on all views of the training images.
fn fit_classifier(
    network: &mut Network,
    views: &[Tensor],
    lesson: &Lesson<'_>,
) -> Result<(), RunError> {
    let pick = |t: &Tensor| at_positions(t, lesson.training);
    let features: Vec<Tensor> = views.iter().map(pick).collect();
    let labels: Vec<Tensor> = views.iter().map(|_| pick(lesson.labels)).collect();
    let features = Tensor::cat(&features, 0).to_kind(tch::Kind::Float);
    let weights = class_weights(lesson);
    let (weight, bias) = probe::fitted(&features, &Tensor::cat(&labels, 0), &weights);
    let classifier = network.architecture().head_layers()[0].name.clone();
    network.set(&format!("{classifier}.weight"), &weight)?;
    network.set(&format!("{classifier}.bias"), &bias)?;
    Ok(())
}

/// Logits `[held out, classes]` of the unaugmented pictures.
fn held_out_logits(
    network: &Network,
    material: &Material<'_>,
    cut: usize,
    held_out: &[usize],
) -> Tensor {
    let (from, source) = match material.views {
        Views::Fresh(_) => (0, &material.samples.inputs),
        Views::Cached(views) => (cut, &views[0]),
    };
    let last = network.architecture().nodes.len() - 1;
    forward_in_batches(network, &at_positions(source, held_out), from, last)
}

fn forward_in_batches(network: &Network, input: &Tensor, from: usize, to: usize) -> Tensor {
    let parts: Vec<Tensor> = input
        .split(PREDICTION_BATCH, 0)
        .iter()
        .map(|part| {
            let part = part.to_device(network.device()).to_kind(tch::Kind::Float);
            let output = tch::no_grad(|| network.forward(&part, from, to, Mode::Evaluate));
            output.to_device(Device::Cpu)
        })
        .collect();
    Tensor::cat(&parts, 0)
}

fn write_predictions(
    run: &Path,
    fold: usize,
    samples: &Samples,
    held_out: &[usize],
    logits: &Tensor,
) -> Result<(), RunError> {
    let flat: Vec<f32> = Vec::try_from(logits.flatten(0, -1)).map_err(NetworkError::from)?;
    let mut predictions = Vec::new();
    for (&at, row) in held_out.iter().zip(flat.chunks_exact(label::COUNT)) {
        let mut logits = [0.0; label::COUNT];
        logits.copy_from_slice(row);
        let (id, class) = (samples.ids[at].clone(), samples.classes[at]);
        predictions.push(Prediction { id, class, fold, logits });
    }
    Ok(prediction::write(&predictions_file(run, fold), &predictions)?)
}

/// Pictures, or the frozen prefix's outputs for several augmentations of each, from a cache file
/// in the run's folder where one is.
fn views(
    plan: &Plan,
    setting: &Setting<'_>,
    cut: usize,
    samples: &Samples,
    bars: &MultiProgress,
) -> Result<Views, RunError> {
    if cut == 0 {
        return Ok(Views::Fresh(samples.inputs.shallow_clone()));
    }
    let cache = setting.out.join(CACHE_FILE);
    if cache.exists() {
        let mut saved = Tensor::read_safetensors(&cache).map_err(NetworkError::from)?;
        saved.sort_by(|a, b| a.0.cmp(&b.0));
        return Ok(Views::Cached(saved.into_iter().map(|(_, t)| t).collect()));
    }
    let network = starting_network(plan, setting)?;
    let bar = bars.add(bar("frozen layers"));
    bar.set_length(plan.views as u64 * samples.ids.len() as u64);
    let mut random = generator(plan.recipe.seed, CACHE_STREAM);
    let mut named = Vec::new();
    for view in 0..plan.views {
        let mut parts = Vec::new();
        for part in samples.inputs.split(PREDICTION_BATCH, 0) {
            let part = if view == 0 { part } else { augmented(&part, &mut random) };
            let output = forward_in_batches(&network, &part, 0, cut);
            parts.push(output.to_kind(tch::Kind::Half));
            bar.inc(part.size()[0] as u64);
        }
        named.push((format!("view-{view:03}"), Tensor::cat(&parts, 0)));
    }
    bar.finish_and_clear();
    let part = cache.with_extension("part");
    Tensor::write_safetensors(&named, &part).map_err(NetworkError::from)?;
    fs::rename(&part, &cache).map_err(file_error(&cache))?;
    Ok(Views::Cached(named.into_iter().map(|(_, t)| t).collect()))
}

/// Digest of a file of starting weights.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<String, RunError> {
    let bytes = fs::read(path).map_err(file_error(path))?;
    Ok(hex::encode(Sha256::digest(&bytes)))
}

fn predictions_file(run: &Path, fold: usize) -> PathBuf {
    fold_dir(run, fold).join(prediction::FILE_NAME)
}

fn file_error(path: &Path) -> impl FnOnce(std::io::Error) -> RunError {
    let path = path.to_path_buf();
    move |source| RunError::File { path, source }
}

fn bar(what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:20} {wide_bar} {pos}/{len} {eta} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style).with_prefix(what.to_string())
}
