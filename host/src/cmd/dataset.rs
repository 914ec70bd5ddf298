//! `host dataset`: import X-rays, plan cross-validation folds.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use models::label::Class;
use serde_json::{Value, json};

use crate::data::folds::Folds;
use crate::data::import::{self, Outcome};
use crate::data::manifest::Manifest;

/// Import X-rays and split them for cross-validation.
#[derive(Debug, Args)]
pub struct DatasetArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Turn a folder or a zip archive, as downloaded, into a data set without personal data.
    Import(ImportArgs),
    /// Plan stratified cross-validation folds that never split a patient group.
    Folds(FoldsArgs),
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// Folder or zip archive with a folder per class, or with its own manifest.csv.
    source: PathBuf,
    /// Folder to write: new, empty, or an earlier import of the same source.
    #[arg(long)]
    out: PathBuf,
    /// Print the report as JSON, without names of source files.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct FoldsArgs {
    /// Folder of an imported data set.
    dir: PathBuf,
    /// Number of folds.
    #[arg(long, default_value_t = 5)]
    k: usize,
    /// Seed of the order in which patient groups are dealt out.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the plan's table as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `host dataset`.
///
/// # Errors
/// Whatever keeps the subcommand from its result.
pub fn run(args: DatasetArgs) -> anyhow::Result<()> {
    match args.command {
        Command::Import(args) => run_import(&args),
        Command::Folds(args) => run_folds(&args),
    }
}

fn run_import(args: &ImportArgs) -> anyhow::Result<()> {
    let bar = ProgressBar::new(0).with_style(bar_style()?);
    let imported = import::import(&args.source, &args.out, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let imported = imported.with_context(|| format!("importing {}", args.source.display()))?;
    if args.json {
        for pair in &imported.report.conflicting_classes {
            eprintln!("WARNING: one picture, two classes: {} and {}", pair.same_as, pair.id);
        }
        print!("{}", imported.report.to_json()?);
        return Ok(());
    }
    print!("{}", imported.report.to_text());
    match imported.outcome {
        Outcome::Written => println!("written to {}", args.out.display()),
        Outcome::Unchanged { repaired: 0 } => println!("{} holds it already", args.out.display()),
        Outcome::Unchanged { repaired } => {
            println!("{} held it already; {repaired} files repaired", args.out.display());
        }
    }
    Ok(())
}

fn bar_style() -> anyhow::Result<ProgressStyle> {
    Ok(ProgressStyle::with_template("{bar:40} {pos}/{len} files, {eta} left")?)
}

fn run_folds(args: &FoldsArgs) -> anyhow::Result<()> {
    let manifest = Manifest::load(&args.dir)
        .with_context(|| format!("reading the data set in {}", args.dir.display()))?;
    let folds = Folds::plan(&manifest, args.k, args.seed)?;
    folds.save(&args.dir)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&json_from_folds(&folds, &manifest))?);
    } else {
        print!("{}", text_from_folds(&folds, &manifest));
    }
    Ok(())
}

fn json_from_folds(folds: &Folds, manifest: &Manifest) -> Value {
    json!({
        "k": folds.k(),
        "seed": folds.seed(),
        "manifest_digest": folds.manifest_digest(),
        "digest": folds.digest(),
        "classes": Class::ALL.map(Class::name),
        "images": folds.table(manifest),
    })
}

fn text_from_folds(folds: &Folds, manifest: &Manifest) -> String {
    let mut text = String::from("fold ");
    for class in Class::ALL {
        text += &format!("{class:>19}");
    }
    text += "    all\n";
    let row = |name: &str, counts: &[usize; 3]| {
        let cells: String = counts.iter().map(|n| format!("{n:>19}")).collect();
        format!("{name:<5}{cells}{:>7}\n", counts.iter().sum::<usize>())
    };
    for (fold, counts) in folds.table(manifest).iter().enumerate() {
        text += &row(&fold.to_string(), counts);
    }
    text += &row("all", &manifest.class_counts());
    text + &format!(
        "{} patient groups, none split; seed {}; digest {}\n",
        manifest.groups().len(),
        folds.seed(),
        folds.digest()
    )
}
