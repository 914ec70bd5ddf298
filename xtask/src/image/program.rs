//! The board's program as it goes into the image: without symbols, known by its build id.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::image::scratch::Scratch;
use crate::paths::Paths;
use crate::process;

/// Where a cross build leaves the program, inside the cache folder.
const BUILT: &str = "cross/aarch64-unknown-linux-gnu/dist/device";

/// A program for AArch64 without symbols.
#[derive(Debug)]
pub struct Program {
    file: PathBuf,
    build_id: String,
}

impl Program {
    /// Takes the given program, else the one that was built last, and strips a copy of it.
    ///
    /// # Errors
    /// When there is none, or it is none for AArch64 or has no build id.
    pub fn prepare(paths: &Paths, given: Option<&Path>, scratch: &Scratch) -> Result<Program> {
        let source = given.map_or_else(|| paths.cache.join(BUILT), Path::to_path_buf);
        if !source.is_file() {
            bail!(
                "there is no program for the board at {}: build it with `cargo xtask dist`, or \
                 name one with --program",
                source.display()
            );
        }
        let describe = || format!("{} is no program for AArch64", source.display());
        let mut readelf = Command::new("readelf");
        readelf.env("LC_ALL", "C").args(["--wide", "--file-header", "--notes"]).arg(&source);
        let description = process::output(&mut readelf).with_context(describe)?;
        if !description.contains("AArch64") {
            bail!(describe());
        }
        let build_id = build_id(&description)
            .with_context(|| format!("{} has no build id", source.display()))?;
        let file = scratch.path("spinesight");
        let mut strip = Command::new("aarch64-linux-gnu-objcopy");
        process::run(strip.arg("--strip-all").arg(&source).arg(&file))?;
        Ok(Program { file, build_id })
    }

    /// The stripped copy.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// In hexadecimal; its log files carry the same.
    pub fn build_id(&self) -> &str {
        &self.build_id
    }
}

/// From what `readelf --notes` prints.
fn build_id(description: &str) -> Option<String> {
    let (_, rest) = description.split_once("Build ID: ")?;
    let id = rest.split_whitespace().next()?;
    Some(id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_id_is_found_in_the_description() {
        let text = "  GNU  0x14  NT_GNU_BUILD_ID (unique)    Build ID: 9cffa3\n  next";
        assert_eq!(build_id(text).unwrap(), "9cffa3");
        assert_eq!(build_id("Displaying notes"), None);
    }
}
