//! `host train`: cross-validated training.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use models::arch::{Architecture, Kind, VggHead};
use tch::Device;

use crate::data::folds::Folds;
use crate::data::manifest::Manifest;
use crate::train::accelerator::{Choice, device_from_choice};
use crate::train::fit::Recipe;
use crate::train::network::Network;
use crate::train::pretrained::Pretrained;
use crate::train::run::{Plan, Regime, Setting, sha256_of_file, train};

/// Train a network under cross-validation; repeat the same call to continue an interrupted run.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Network: resnet50 or vgg16 (the variant that the weights call for), or a variant by name:
    /// resnet50-v1, resnet50-v1.5, the same with -stage4, vgg16, vgg16-gap, the same with -bn.
    #[arg(long)]
    arch: String,
    /// How the network starts and what of it learns.
    #[arg(long, value_enum)]
    regime: RegimeName,
    /// Published weights to start from: .safetensors, or a PyTorch .pth.
    #[arg(long, value_name = "FILE")]
    pretrained: Option<PathBuf>,
    /// Folder of an imported data set with its fold plan.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Fold to train, from 0, or all.
    #[arg(long, default_value = "all")]
    fold: FoldChoice,
    /// Folder of the run [default: runs/ARCH-REGIME].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// auto, cpu or cuda.
    #[arg(long, default_value = "auto", value_parser = Choice::from_str)]
    device: Choice,
    /// Last layer that does not learn while fine-tuning, or none [default: on a CPU all that
    /// the weights cover, on CUDA none].
    #[arg(long, value_name = "LAYER")]
    freeze: Option<String>,
    /// Augmented views of every picture cached behind frozen layers, the first unaugmented
    /// [default: 2 for feature extraction, 6 for fine-tuning].
    #[arg(long)]
    views: Option<usize>,
    /// Passes over the training images [default: 30; 60 for the random regime].
    #[arg(long)]
    epochs: Option<usize>,
    /// First epochs at half resolution, a quarter of the work (heads that average only).
    #[arg(long, default_value_t = 0)]
    half_resolution_epochs: usize,
    /// Images a step.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Highest learning rate [default: 1e-4 for fine-tuning, 5e-4 for random].
    #[arg(long)]
    learning_rate: Option<f64>,
    /// Decoupled weight decay.
    #[arg(long, default_value_t = 0.02)]
    weight_decay: f64,
    /// Share of the target probability spread over all classes.
    #[arg(long, default_value_t = 0.05)]
    label_smoothing: f64,
    /// Seed of initialisation, order and augmentation.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// CPU threads [default: libtorch's choice].
    #[arg(long)]
    threads: Option<i32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RegimeName {
    /// Everything from random values.
    Random,
    /// Published layers stay, logistic regression on their features.
    FeatureExtraction,
    /// Published layers are the start.
    FineTune,
}

impl From<RegimeName> for Regime {
    fn from(name: RegimeName) -> Regime {
        match name {
            RegimeName::Random => Regime::Random,
            RegimeName::FeatureExtraction => Regime::FeatureExtraction,
            RegimeName::FineTune => Regime::FineTune,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum FoldChoice {
    All,
    One(usize),
}

impl FromStr for FoldChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(FoldChoice::All);
        }
        text.parse().map(FoldChoice::One).map_err(|_| format!("`{text}` is neither a fold nor all"))
    }
}

/// Runs `host train`.
///
/// # Errors
/// Whatever keeps the run from its predictions; a repeated call continues.
pub fn run(args: TrainArgs) -> anyhow::Result<()> {
    let manifest = Manifest::load(&args.data).context(
        "no usable data set there: make one with `host dataset import` or `host phantom`",
    )?;
    let folds = Folds::load(&args.data, &manifest)
        .context("no usable fold plan there: make one with `host dataset folds`")?;
    let device = device_from_choice(args.device)?;
    if let Some(threads) = args.threads {
        tch::set_num_threads(threads);
    }
    let pretrained = args.pretrained.as_deref().map(Pretrained::load).transpose()?;
    let plan = plan(&args, &manifest, &folds, device, pretrained.as_ref())?;
    let out = args.out.clone().unwrap_or_else(|| default_out(&args, &plan));
    let chosen: Vec<usize> = match args.fold {
        FoldChoice::All => (0..folds.k()).collect(),
        FoldChoice::One(fold) => vec![fold],
    };
    announce(&plan, device, chosen.len());
    let setting = Setting {
        data: &args.data,
        manifest: &manifest,
        folds: &folds,
        pretrained: pretrained.as_ref(),
        device,
        out: &out,
    };
    train(&plan, &setting, &chosen)?;
    println!("Held-out predictions of {} folds are in {}.", chosen.len(), out.display());
    let evaluation = crate::evaluate::evaluate(
        &crate::evaluate::prediction::read_run(&out, Some(folds.k()))?,
        Some((&manifest, &folds)),
    )?;
    print!("{}", crate::evaluate::text::text_from_evaluation(&evaluation));
    Ok(())
}

fn plan(
    args: &TrainArgs,
    manifest: &Manifest,
    folds: &Folds,
    device: Device,
    pretrained: Option<&Pretrained>,
) -> anyhow::Result<Plan> {
    let regime = Regime::from(args.regime);
    if regime != Regime::Random && pretrained.is_none() {
        bail!("--regime {regime:?} starts from published weights: name them with --pretrained");
    }
    let architecture = architecture(&args.arch, regime, pretrained)?;
    let frozen_through = frozen_through(args, regime, architecture, device, pretrained)?;
    let frozen = frozen_through.is_some();
    let views = match regime {
        _ if !frozen => 1,
        Regime::FeatureExtraction => args.views.unwrap_or(2),
        _ => args.views.unwrap_or(6),
    };
    let random = regime == Regime::Random;
    Ok(Plan {
        format: 1,
        architecture,
        regime,
        pretrained_sha256: args.pretrained.as_deref().map(sha256_of_file).transpose()?,
        frozen_through,
        views: views.max(1),
        device: if device.is_cuda() { "cuda".into() } else { "cpu".into() },
        manifest_digest: manifest.digest(),
        folds_digest: folds.digest(),
        recipe: Recipe {
            epochs: args.epochs.unwrap_or(if random { 60 } else { 30 }),
            half_resolution_epochs: args.half_resolution_epochs,
            batch: args.batch.max(2),
            learning_rate: args.learning_rate.unwrap_or(if random { 5e-4 } else { 1e-4 }),
            weight_decay: args.weight_decay,
            label_smoothing: args.label_smoothing,
            seed: args.seed,
        },
    })
}

/// A family name becomes the variant that the weights call for.
fn architecture(
    name: &str,
    regime: Regime,
    pretrained: Option<&Pretrained>,
) -> anyhow::Result<Kind> {
    let whole = regime != Regime::FeatureExtraction;
    Ok(match (name, pretrained) {
        ("resnet50", Some(weights)) => weights.resnet50_kind(whole),
        ("resnet50", None) => "resnet50-v1.5".parse()?,
        ("vgg16", Some(weights)) => weights.vgg16_kind(VggHead::Original),
        (name, _) => name.parse()?,
    })
}

/// The layer after which learning starts.
fn frozen_through(
    args: &TrainArgs,
    regime: Regime,
    kind: Kind,
    device: Device,
    pretrained: Option<&Pretrained>,
) -> anyhow::Result<Option<String>> {
    let (Some(weights), false) = (pretrained, regime == Regime::Random) else { return Ok(None) };
    let architecture = Architecture::new(kind);
    if regime == Regime::FeatureExtraction {
        if !architecture.has_linear_head() {
            bail!("feature extraction needs a network with a GAP head: try {kind}-gap");
        }
        let before_classifier = architecture.nodes.len() - 2;
        return Ok(Some(architecture.nodes[before_classifier].name.clone()));
    }
    match args.freeze.as_deref() {
        Some("none") => Ok(None),
        Some(layer) => Ok(Some(layer.to_string())),
        None if device.is_cuda() => Ok(None),
        None => {
            let covered =
                weights.apply(&mut Network::random(architecture.clone(), 0, Device::Cpu))?;
            Ok(Some(architecture.nodes[covered].name.clone()))
        }
    }
}

fn default_out(args: &TrainArgs, plan: &Plan) -> PathBuf {
    let regime = match plan.regime {
        Regime::Random => "random",
        Regime::FeatureExtraction => "feature-extraction",
        Regime::FineTune => "fine-tune",
    };
    PathBuf::from("runs").join(format!("{}-{regime}", args.arch))
}

fn announce(plan: &Plan, device: Device, folds: usize) {
    let where_ = if device.is_cuda() { "CUDA" } else { "the CPU" };
    println!(
        "Training {} on {where_}, {folds} folds, seed {}.",
        plan.architecture, plan.recipe.seed
    );
    if let Some(layer) = &plan.frozen_through {
        println!(
            "Layers through {layer} are frozen; their outputs for {} views of every picture are \
             cached once.",
            plan.views
        );
    }
}
