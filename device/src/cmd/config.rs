//! `device config`: check a configuration, or show a documented one.

use std::path::PathBuf;

use clap::Args;

use crate::config::{self, Config};

/// Check a configuration and report all its mistakes, or show a documented one.
#[derive(Args)]
pub struct ConfigArgs {
    /// The file to check; without it, every key is shown with its meaning and default
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Runs `device config`.
///
/// # Errors
/// When the file has mistakes.
pub fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    match &args.file {
        None => print!("{}", config::example()),
        Some(file) => {
            let (_, digest) = Config::load(file)?;
            println!("{} is a valid configuration, SHA-256 {}", file.display(), digest.0);
        }
    }
    Ok(())
}
