//! `cargo xtask demo`: every shipped model judges every sample X-ray, on the device program.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::paths::{Paths, entries};
use crate::process;

/// Command line of the demo.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder for the heatmaps, the results and the page [default: `demo` in the clone]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Builds the device program and lets it scan the samples; its table goes to the terminal.
pub fn run(paths: &Paths, arguments: &Arguments) -> Result<()> {
    let bundles = bundles(&paths.root.join("models/zoo"))?;
    let samples = samples(&paths.root.join("models/samples"))?;
    let program = process::build_binary(paths, "device", None)?;
    let mut command = Command::new(program);
    command.arg("scan");
    for bundle in &bundles {
        command.arg("--bundle").arg(bundle);
    }
    let out = arguments.out.clone().unwrap_or_else(|| paths.root.join("demo"));
    process::run(command.arg("--out").arg(out).args(&samples))
}

/// Folders of the zoo that hold a bundle.
pub fn bundles(zoo: &Path) -> Result<Vec<PathBuf>> {
    let mut found = entries(zoo)?;
    found.retain(|folder| folder.join("bundle.toml").is_file());
    if found.is_empty() {
        bail!("no model bundle in {}: is the clone complete?", zoo.display());
    }
    Ok(found)
}

/// Files of the sample folder that the device program reads.
pub fn samples(folder: &Path) -> Result<Vec<PathBuf>> {
    const READABLE: [&str; 6] = ["png", "jpg", "jpeg", "tif", "tiff", "dcm"];
    let mut found = entries(folder)?;
    found.retain(|file| {
        let extension = file.extension().map(|e| e.to_string_lossy().to_lowercase());
        extension.is_some_and(|e| READABLE.contains(&e.as_str()))
    });
    if found.is_empty() {
        bail!("no sample picture in {}: is the clone complete?", folder.display());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn bundles_are_the_folders_with_a_manifest() {
        let zoo = tempfile::tempdir().unwrap();
        assert!(bundles(zoo.path()).unwrap_err().to_string().contains("no model bundle"));
        for name in ["b", "a", "notes"] {
            fs::create_dir(zoo.path().join(name)).unwrap();
        }
        fs::write(zoo.path().join("a/bundle.toml"), "").unwrap();
        fs::write(zoo.path().join("b/bundle.toml"), "").unwrap();
        assert_eq!(bundles(zoo.path()).unwrap(), [zoo.path().join("a"), zoo.path().join("b")]);
    }

    #[test]
    fn samples_are_pictures_only() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["SOURCES.md", "one.PNG", "two.dcm"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let expected = ["one.PNG", "two.dcm"].map(|name| folder.path().join(name));
        assert_eq!(samples(folder.path()).unwrap(), expected);
        assert!(samples(&folder.path().join("missing")).is_err());
    }
}
