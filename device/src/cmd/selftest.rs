//! `device selftest`: does this machine compute what the bundle's maker computed?

use std::path::PathBuf;

use clap::Args;

use super::bundle_dirs;
use super::engine::EngineArgs;
use crate::scanner::Scanner;

/// Run every bundle's golden case on this machine.
#[derive(Debug, Args)]
pub struct SelftestArgs {
    /// Bundle, or folder of bundles [default: models/zoo].
    #[arg(long, value_name = "DIR")]
    bundle: Vec<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Runs `device selftest`.
///
/// # Errors
/// When a bundle is damaged or computes something else here.
pub fn run(args: SelftestArgs) -> anyhow::Result<()> {
    for dir in bundle_dirs(&args.bundle)? {
        let scanner = Scanner::load_with(&dir, args.engine.options())?;
        scanner.self_test()?;
        println!("{}: the golden case is reproduced", scanner.bundle().card.name);
    }
    Ok(())
}
