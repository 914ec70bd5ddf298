//! `host evaluate`: a run's held-out predictions in numbers, beside its controls.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::data::folds::Folds;
use crate::data::manifest::Manifest;
use crate::evaluate::evaluate;
use crate::evaluate::prediction::read_run;
use crate::evaluate::text::text_from_evaluation;

/// Evaluate the held-out predictions of a training run.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Run directory with fold-0/predictions.csv and so on.
    run: PathBuf,
    /// Folder of the data set, for results by source batch and for the controls.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Also write the JSON to this file.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs `host evaluate`.
///
/// # Errors
/// Whatever keeps the subcommand from its result.
pub fn run(args: EvaluateArgs) -> anyhow::Result<()> {
    let data = args.data.as_deref().map(|dir| -> anyhow::Result<_> {
        let manifest = Manifest::load(dir)?;
        let folds = Folds::load(dir, &manifest)?;
        Ok((manifest, folds))
    });
    let data = data.transpose().context("reading the data set and its fold plan")?;
    let predictions = read_run(&args.run, data.as_ref().map(|(_, folds)| folds.k()))?;
    let evaluation = evaluate(&predictions, data.as_ref().map(|(m, f)| (m, f)))?;
    let json = serde_json::to_string_pretty(&evaluation)? + "\n";
    if let Some(out) = &args.out {
        fs::write(out, &json).with_context(|| format!("writing {}", out.display()))?;
    }
    if args.json {
        print!("{json}");
    } else {
        print!("{}", text_from_evaluation(&evaluation));
    }
    Ok(())
}
