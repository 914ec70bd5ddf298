//! `host verify`: a bundle, run by the device's library, against the float network it came from.

use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;

use super::trained::TrainedArgs;
use crate::export::verify::compare;
use crate::train::fit::at_positions;

/// Compare a bundle with the float network it came from: labels, probabilities, heat maps.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    trained: TrainedArgs,
    /// The bundle.
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// Compare on the held-out images only, instead of all.
    #[arg(long)]
    held_out: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `host verify`.
///
/// # Errors
/// When bundle or network fail on an image.
pub fn run(args: VerifyArgs) -> anyhow::Result<()> {
    let trained = args.trained.load()?;
    let positions: Vec<usize> = if args.held_out {
        trained.held_out(args.trained.fold)
    } else {
        (0..trained.samples.ids.len()).collect()
    };
    let bar = ProgressBar::new(positions.len() as u64);
    let images = at_positions(&trained.samples.inputs, &positions);
    let agreement = compare(&args.bundle, &trained.network, &images, &|| bar.inc(1))?;
    bar.finish_and_clear();
    if args.json {
        println!("{}", serde_json::to_string(&agreement)?);
        return Ok(());
    }
    println!("images compared                {}", agreement.images);
    println!("label flips                    {}", agreement.label_flips);
    println!("largest probability change     {:.4}", agreement.max_probability_change);
    println!("raw map correlation, median    {:.4}", agreement.map_correlation_median);
    println!("raw map correlation, smallest  {:.4}", agreement.map_correlation_min);
    Ok(())
}
