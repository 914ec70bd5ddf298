//! One file per subcommand: command-line parsing and printing, nothing else.

pub mod audit;
pub mod bench;
pub mod config;
pub mod engine;
pub mod first_boot;
pub mod health;
pub mod info;
pub mod model;
pub mod provision;
pub mod scan;
pub mod selftest;
pub mod serve;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use models::bundle::CARD_FILE;

/// Where bundles are looked for when none is named.
const DEFAULT_BUNDLES: &str = "models/zoo";

/// The bundle folders behind `--bundle` arguments: each is a bundle or a folder of bundles.
fn bundle_dirs(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let default = [PathBuf::from(DEFAULT_BUNDLES)];
    let named = if named.is_empty() { &default[..] } else { named };
    let mut dirs = Vec::new();
    for path in named {
        if path.join(CARD_FILE).exists() {
            dirs.push(path.clone());
            continue;
        }
        let inside = bundles_inside(path)?;
        if inside.is_empty() {
            bail!("{} holds no {CARD_FILE}: name a model bundle with --bundle", path.display());
        }
        dirs.extend(inside);
    }
    Ok(dirs)
}

fn bundles_inside(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path).with_context(|| {
        format!("no model bundle at {}: name one with --bundle", path.display())
    })?;
    let mut inside = Vec::new();
    for entry in entries {
        let dir = entry?.path();
        if dir.join(CARD_FILE).exists() {
            inside.push(dir);
        }
    }
    inside.sort();
    Ok(inside)
}
