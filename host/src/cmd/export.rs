//! `host export`: from a trained fold to a bundle for the board.

use std::path::PathBuf;
use std::process::Command;

use anyhow::bail;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use models::bundle::Precision;

use super::quantize::QuantizationArgs;
use super::trained::TrainedArgs;
use crate::evaluate::evaluate;
use crate::evaluate::prediction::read_run;
use crate::export::assemble::{Source, assemble};

/// Turn a trained fold into a model bundle: ONNX, weight path, card, golden case.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    trained: TrainedArgs,
    /// Bundle folder to write; its last part is the model's name.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Numbers the network computes with on the board.
    #[arg(long, value_enum, default_value_t = PrecisionName::Int8)]
    precision: PrecisionName,
    #[command(flatten)]
    quantization: QuantizationArgs,
    /// The data set in words, for the card.
    #[arg(
        long,
        default_value = "Spine X-rays of Fraiwan et al. 2022 (CC BY 4.0), scrubbed, luminance only"
    )]
    dataset: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PrecisionName {
    Int8,
    Float32,
}

/// Runs `host export`.
///
/// # Errors
/// When the fold is not finished, the folder is taken, or the device refuses the bundle.
pub fn run(args: ExportArgs) -> anyhow::Result<()> {
    if args.out.exists() {
        bail!("{} exists: remove it or choose another --out", args.out.display());
    }
    let quantization = args.quantization.settings()?;
    let trained = args.trained.load()?;
    let predictions = read_run(&args.trained.run, Some(trained.folds.k()))?;
    let evaluation = evaluate(&predictions, Some((&trained.manifest, &trained.folds)))?;
    let training = trained.training(args.trained.fold);
    let bar = ProgressBar::new(0);
    let source = Source {
        plan: &trained.plan,
        fold: args.trained.fold,
        network: &trained.network,
        samples: &trained.samples,
        training: &training,
        evaluation: &evaluation,
        precision: match args.precision {
            PrecisionName::Int8 => Precision::Int8,
            PrecisionName::Float32 => Precision::Float32,
        },
        calibration_images: args.quantization.calibration_images,
        quantization,
        progress: &bar,
        name: args.out.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        dataset: args.dataset,
        revision: revision(),
    };
    let digest = assemble(&source, &args.out)?;
    bar.finish_and_clear();
    println!("{} is a bundle with digest {digest}; its self-test passes.", args.out.display());
    Ok(())
}

/// The commit this program's source is at, where that can be told.
fn revision() -> String {
    let git = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    match git {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_string()
        }
        _ => "unknown".into(),
    }
}
