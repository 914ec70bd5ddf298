//! The file that says which release a slot holds: `/usr/lib/spinesight/release`, one `NAME=value`
//! a line, also beside the images of a slot.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// What a slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Grows with every release; an older one is not installed over a newer one.
    pub version: u64,
    /// The clone's revision, `-dirty` where files were changed.
    pub revision: String,
    /// The boards it is for.
    pub compatible: String,
}

impl Release {
    /// Reads the file beside a slot's images.
    ///
    /// # Errors
    /// When it is missing or lacks a line.
    pub fn read(file: &Path) -> Result<Release> {
        let text = fs::read_to_string(file).with_context(|| {
            format!("cannot read {}: `cargo xtask image` writes it", file.display())
        })?;
        Release::parse(&text).with_context(|| format!("{} is wrong", file.display()))
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// When a line is missing or the version is no number.
    pub fn parse(text: &str) -> Result<Release> {
        let version = value(text, "VERSION")?;
        let Ok(version) = version.parse() else { bail!("version `{version}` is no number") };
        Ok(Release {
            version,
            revision: value(text, "REVISION")?.to_owned(),
            compatible: value(text, "COMPATIBLE")?.to_owned(),
        })
    }
}

/// The value of a name in a text of `NAME=value` lines.
///
/// # Errors
/// When no line has that name.
pub fn value<'a>(text: &'a str, name: &str) -> Result<&'a str> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    values.next_back().with_context(|| format!("there is no line {name}="))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "VERSION=412\nREVISION=0123456789ab-dirty\nCOMPATIBLE=spinesight-rpi4\n\
                        BOARD=rpi4\nBUILD_ID=00ff\n";

    #[test]
    fn a_release_file_is_read() {
        let release = Release::parse(TEXT).unwrap();
        assert_eq!((release.version, release.revision.as_str()), (412, "0123456789ab-dirty"));
        assert_eq!(release.compatible, "spinesight-rpi4");
    }

    #[test]
    fn an_incomplete_one_is_refused() {
        assert!(Release::parse(&TEXT.replace("412", "1.2")).is_err());
        let error = Release::parse(&TEXT.replace("COMPATIBLE", "C")).unwrap_err().to_string();
        assert!(error.contains("COMPATIBLE="), "{error}");
    }
}
