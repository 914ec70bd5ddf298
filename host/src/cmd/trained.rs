//! What several subcommands need of a finished fold: its plan, network, data set and split.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use indicatif::ProgressBar;
use models::arch::Architecture;
use tch::Device;

use crate::data::folds::Folds;
use crate::data::manifest::Manifest;
use crate::train::network::Network;
use crate::train::run::{Plan, WEIGHTS_FILE, fold_dir};
use crate::train::samples::Samples;

/// A finished fold and the data set it was trained on.
#[derive(Debug, Args)]
pub struct TrainedArgs {
    /// Folder of a training run.
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// The fold whose network is meant.
    #[arg(long, default_value_t = 0)]
    pub fold: usize,
    /// Folder of the data set it was trained on.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
}

/// A finished fold, loaded.
pub struct Trained {
    /// The run's plan.
    pub plan: Plan,
    /// The trained network, on the CPU.
    pub network: Network,
    /// The data set's table.
    pub manifest: Manifest,
    /// Its split.
    pub folds: Folds,
    /// Its pictures.
    pub samples: Samples,
}

impl TrainedArgs {
    /// Loads everything and checks that it belongs together.
    ///
    /// # Errors
    /// When the fold is not finished or the data set is another one.
    pub fn load(&self) -> anyhow::Result<Trained> {
        let plan =
            Plan::load(&self.run).context("no training run there: make one with `host train`")?;
        let manifest = Manifest::load(&self.data)?;
        let folds = Folds::load(&self.data, &manifest)?;
        if plan.manifest_digest != manifest.digest() || plan.folds_digest != folds.digest() {
            bail!("{} was not trained on {}", self.run.display(), self.data.display());
        }
        let weights = weights_file(&self.run, self.fold);
        let network = Network::load(Architecture::new(plan.architecture), &weights, Device::Cpu)
            .with_context(|| format!("fold {} is not finished: repeat `host train`", self.fold))?;
        let samples = Samples::load(&self.data, &manifest, &ProgressBar::new(0))?;
        Ok(Trained { plan, network, manifest, folds, samples })
    }
}

impl Trained {
    /// Positions of the images that a fold's training saw.
    pub fn training(&self, fold: usize) -> Vec<usize> {
        self.positions(|f| f != Some(fold))
    }

    /// Positions of the images that a fold held out.
    pub fn held_out(&self, fold: usize) -> Vec<usize> {
        self.positions(|f| f == Some(fold))
    }

    fn positions(&self, keep: impl Fn(Option<usize>) -> bool) -> Vec<usize> {
        let ids = &self.samples.ids;
        (0..ids.len()).filter(|&i| keep(self.folds.fold_of(&ids[i]))).collect()
    }
}

fn weights_file(run: &Path, fold: usize) -> PathBuf {
    fold_dir(run, fold).join(WEIGHTS_FILE)
}
