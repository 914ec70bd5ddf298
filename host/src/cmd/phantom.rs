//! `host phantom`: synthetic spine X-rays with ground truth.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use models::label::Class;

use crate::phantom::dataset::{self, DatasetOptions, Format};

/// Make synthetic spine X-rays with exact vertebra masks and known findings.
///
/// They are computed, show no patient, and are free to publish. A series is a function of its
/// options: the same command writes the same bytes.
#[derive(Debug, Args)]
pub struct PhantomArgs {
    /// Folder to write: images, masks, truth.json and manifest.csv.
    #[arg(long)]
    out: PathBuf,
    /// Number of X-rays.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// Which finding they show; `all` deals the three classes out in turn.
    #[arg(long, value_enum, default_value_t = ClassChoice::All)]
    class: ClassChoice,
    /// Seed of the series.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How pictures are stored.
    #[arg(long, value_enum, default_value_t = FormatChoice::Png8)]
    format: FormatChoice,
    /// Height of the tallest picture in pixels; the others are up to a fifth lower.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(200..=4096))]
    height: u32,
    /// Write into a folder that is not empty, replacing files of the same name.
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ClassChoice {
    Normal,
    Scoliosis,
    Spondylolisthesis,
    All,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatChoice {
    Png8,
    Png16,
    Dicom,
}

/// Runs `host phantom`.
///
/// # Errors
/// When the folder is not empty or cannot be written.
pub fn run(args: PhantomArgs) -> anyhow::Result<()> {
    let options = DatasetOptions {
        count: args.count as usize,
        classes: classes(args.class),
        seed: args.seed,
        height: args.height,
        format: match args.format {
            FormatChoice::Png8 => Format::Png8,
            FormatChoice::Png16 => Format::Png16,
            FormatChoice::Dicom => Format::Dicom,
        },
        force: args.force,
    };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} phantoms, {eta} left")?;
    let bar = ProgressBar::new(u64::from(args.count)).with_style(style);
    let written = dataset::write(&args.out, &options, &mut || bar.inc(1));
    bar.finish_and_clear();
    let hint = "making phantoms (--force writes into a folder that is not empty)";
    let entries = written.context(hint)?;
    println!("{} phantoms written to {}", entries.len(), args.out.display());
    Ok(())
}

fn classes(choice: ClassChoice) -> Vec<Class> {
    match choice {
        ClassChoice::Normal => vec![Class::Normal],
        ClassChoice::Scoliosis => vec![Class::Scoliosis],
        ClassChoice::Spondylolisthesis => vec![Class::Spondylolisthesis],
        ClassChoice::All => Class::ALL.to_vec(),
    }
}
