//! The epochs of one fold: minibatches, a cosine learning rate, a checkpoint after every epoch.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use models::arch::Op;
use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Reduction, Tensor};

use super::augment::{augmented, generator};
use super::network::{Mode, Network, NetworkError};
use super::optimizer::AdamW;

const WARM_UP_SHARE: f64 = 0.1;

/// How to learn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Passes over the training images.
    pub epochs: usize,
    /// Epochs, at the start, that see pictures at half resolution (progressive resizing): a
    /// quarter of the work. Only for heads that average over positions.
    pub half_resolution_epochs: usize,
    /// Images a step.
    pub batch: usize,
    /// Highest learning rate, reached after a tenth of the steps; a cosine leads to zero.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Share of the target probability spread over all classes.
    pub label_smoothing: f64,
    /// Seed of initialisation, order and augmentation.
    pub seed: u64,
}

/// Where training pictures come from.
pub enum Views {
    /// Pictures `[count, 1, SIDE, SIDE]`, augmented anew at each use.
    Fresh(Tensor),
    /// Outputs of a frozen prefix for several augmentations of every picture, each
    /// `[count, ...]` in half precision; one is drawn at each use.
    Cached(Vec<Tensor>),
}

/// What one fold learns from.
pub struct Lesson<'a> {
    /// Pictures or cached activations of the whole data set.
    pub views: &'a Views,
    /// Class indices of the whole data set, `[count]`.
    pub labels: &'a Tensor,
    /// Positions of the training images.
    pub training: &'a [usize],
    /// Last node of the frozen prefix (0: nothing is frozen).
    pub cut: usize,
    /// Number of the fold: distinguishes the random streams.
    pub fold: usize,
}

/// Why a fold cannot be fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// libtorch or a checkpoint fails.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A checkpoint cannot be written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
    /// The loss is no longer a number.
    #[error("the loss became {loss} in epoch {epoch}: lower --learning-rate")]
    Diverged {
        /// Epoch, from 1.
        epoch: usize,
        /// The loss.
        loss: f64,
    },
    /// Half resolution was asked of a head with fixed positions.
    #[error("--half-resolution-epochs needs a head that averages over positions")]
    FixedPositions,
}

/// Trains `network` in place; resumes from `checkpoint` where it exists.
///
/// # Errors
/// When libtorch fails, the loss diverges or a checkpoint cannot be written.
pub fn fit(
    network: &mut Network,
    lesson: &Lesson<'_>,
    recipe: &Recipe,
    checkpoint: &Path,
    progress: &ProgressBar,
) -> Result<(), FitError> {
    fit_epochs(network, lesson, recipe, recipe.epochs, checkpoint, progress)
}

/// [`fit`], stopped after `until` of the recipe's epochs.
///
/// # Errors
/// As [`fit`].
pub fn fit_epochs(
    network: &mut Network,
    lesson: &Lesson<'_>,
    recipe: &Recipe,
    until: usize,
    checkpoint: &Path,
    progress: &ProgressBar,
) -> Result<(), FitError> {
    let averages = network.architecture().nodes.iter().any(|n| n.op == Op::GlobalAveragePool);
    if recipe.half_resolution_epochs > 0 && !(averages && matches!(lesson.views, Views::Fresh(_))) {
        return Err(FitError::FixedPositions);
    }
    let saved = if checkpoint.exists() { Some(restored(network, checkpoint)?) } else { None };
    let mut optimizer = AdamW::new(network, network.learnable(lesson.cut), recipe.weight_decay)?;
    let mut first = 0;
    if let Some((epochs, state)) = saved {
        optimizer.restore(&state)?;
        first = epochs;
    }
    let steps = lesson.training.len().div_ceil(recipe.batch);
    progress.set_length((recipe.epochs * steps) as u64);
    progress.set_position((first * steps) as u64);
    let weights = class_weights(lesson).to_device(network.device());
    for epoch in first..until.min(recipe.epochs) {
        let loss = one_epoch(network, lesson, recipe, &mut optimizer, &weights, epoch, progress)?;
        if !loss.is_finite() {
            return Err(FitError::Diverged { epoch: epoch + 1, loss });
        }
        progress.set_message(format!("epoch {} loss {loss:.4}", epoch + 1));
        save(network, &optimizer, epoch + 1, checkpoint)?;
    }
    for name in network.learnable(lesson.cut) {
        let _ = network.tensor(&name)?.set_requires_grad(false);
    }
    Ok(())
}

fn one_epoch(
    network: &Network,
    lesson: &Lesson<'_>,
    recipe: &Recipe,
    optimizer: &mut AdamW,
    class_weights: &Tensor,
    epoch: usize,
    progress: &ProgressBar,
) -> Result<f64, FitError> {
    let stream = ((lesson.fold as u64) << 32) | epoch as u64;
    let mut random = generator(recipe.seed, stream);
    tch::manual_seed((recipe.seed ^ stream.rotate_left(17)) as i64);
    let mut order = lesson.training.to_vec();
    order.shuffle(&mut random);
    let batches: Vec<&[usize]> = order.chunks(recipe.batch).collect();
    let last = network.architecture().nodes.len() - 1;
    let mut total = 0.0;
    for (step, positions) in batches.iter().enumerate() {
        let mut input = batch(lesson.views, positions, network.device(), &mut random);
        if epoch < recipe.half_resolution_epochs {
            input = input.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>);
        }
        let labels = at_positions(lesson.labels, positions).to_device(network.device());
        let logits = network.forward(&input, lesson.cut, last, Mode::Train);
        let loss = logits.cross_entropy_loss(
            &labels,
            Some(class_weights),
            Reduction::Mean,
            -100,
            recipe.label_smoothing,
        );
        let done = (epoch * batches.len() + step) as f64 / (recipe.epochs * batches.len()) as f64;
        optimizer.minimise(network, &loss, recipe.learning_rate * schedule(done))?;
        total += loss.double_value(&[]);
        progress.inc(1);
    }
    Ok(total / batches.len() as f64)
}

/// Share of the highest learning rate when a share of all steps is done.
fn schedule(done: f64) -> f64 {
    if done < WARM_UP_SHARE {
        return (done / WARM_UP_SHARE).max(0.01);
    }
    let rest = (done - WARM_UP_SHARE) / (1.0 - WARM_UP_SHARE);
    0.5 * (1.0 + (std::f64::consts::PI * rest).cos())
}

fn batch(
    views: &Views,
    positions: &[usize],
    device: Device,
    random: &mut impl rand::Rng,
) -> Tensor {
    match views {
        Views::Fresh(inputs) => {
            augmented(&at_positions(inputs, positions).to_device(device), random)
        }
        Views::Cached(views) => {
            let drawn: Vec<Tensor> = positions
                .iter()
                .map(|&at| views[random.random_range(0..views.len())].get(at as i64))
                .collect();
            Tensor::stack(&drawn, 0).to_device(device).to_kind(Kind::Float)
        }
    }
}

/// The rows of a tensor at the given positions.
pub fn at_positions(tensor: &Tensor, positions: &[usize]) -> Tensor {
    let positions: Vec<i64> = positions.iter().map(|&p| p as i64).collect();
    tensor.index_select(0, &Tensor::from_slice(&positions).to_device(tensor.device()))
}

/// Weights that give every class the same say, however few its training images.
pub fn class_weights(lesson: &Lesson<'_>) -> Tensor {
    let labels = at_positions(lesson.labels, lesson.training);
    let counts = labels.bincount(None::<&Tensor>, models::label::COUNT as i64).to_kind(Kind::Float);
    let total = counts.sum(Kind::Float);
    total / (counts.clamp_min(1.0) * models::label::COUNT as f64)
}

fn save(
    network: &Network,
    optimizer: &AdamW,
    epochs_done: usize,
    checkpoint: &Path,
) -> Result<(), FitError> {
    let mut named = optimizer.state();
    named.push(("epochs".into(), Tensor::from_slice(&[epochs_done as i64])));
    let weights = network.tensors().iter();
    named.extend(weights.map(|(n, t)| (format!("weights.{n}"), t.detach().to_device(Device::Cpu))));
    let part = checkpoint.with_extension("part");
    Tensor::write_safetensors(&named, &part).map_err(NetworkError::from)?;
    fs::rename(&part, checkpoint)
        .map_err(|source| FitError::File { path: checkpoint.into(), source })
}

/// Takes up a checkpoint's weights; returns the number of epochs done and all saved tensors.
fn restored(
    network: &mut Network,
    checkpoint: &Path,
) -> Result<(usize, BTreeMap<String, Tensor>), FitError> {
    let saved: BTreeMap<String, Tensor> =
        Tensor::read_safetensors(checkpoint).map_err(NetworkError::from)?.into_iter().collect();
    for (name, tensor) in &saved {
        if let Some(name) = name.strip_prefix("weights.") {
            network.set(name, tensor)?;
        }
    }
    let epochs = saved.get("epochs").ok_or_else(|| NetworkError::Missing("epochs".into()))?;
    let epochs = epochs.f_int64_value(&[0]).map_err(NetworkError::from)?;
    Ok((epochs as usize, saved))
}
