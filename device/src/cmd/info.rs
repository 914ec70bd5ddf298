//! `device info`: what the bundles are and how well they do.

use std::path::PathBuf;

use clap::Args;
use models::bundle::Bundle;

use super::bundle_dirs;

/// Describe model bundles.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Bundle, or folder of bundles [default: models/zoo].
    #[arg(long, value_name = "DIR")]
    bundle: Vec<PathBuf>,
    /// Print each card as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `device info`.
///
/// # Errors
/// When a bundle is damaged.
pub fn run(args: InfoArgs) -> anyhow::Result<()> {
    for dir in bundle_dirs(&args.bundle)? {
        let bundle = Bundle::load(&dir)?;
        if args.json {
            println!("{}", serde_json::to_string(&bundle.card)?);
        } else {
            print_card(&bundle);
        }
    }
    Ok(())
}

fn print_card(bundle: &Bundle) {
    let (card, results) = (&bundle.card, &bundle.card.results);
    println!("{}", card.name);
    println!("  network    {} ({:?}), {}", card.architecture, card.precision, card.regime);
    println!("  digest     {}", bundle.digest);
    println!(
        "  accuracy   {:.1} % ({:.1} to {:.1}), {} of {}: {}",
        results.accuracy * 100.0,
        results.interval[0] * 100.0,
        results.interval[1] * 100.0,
        results.correct,
        results.images,
        results.measured_on
    );
    for (control, accuracy) in &results.controls {
        println!("  control    {:.1} % {control}", accuracy * 100.0);
    }
    println!(
        "  heat map   {} ({2} x {2}, {1} channels)",
        card.cam.layer, card.cam.shape.channels, card.cam.shape.side
    );
    println!("  limits     {}", results.limits);
    println!("  use        {}", card.intended_use);
    for attribution in &card.attributions {
        println!("  builds on  {} ({})", attribution.work, attribution.licence);
    }
}
