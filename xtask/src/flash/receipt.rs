//! What remains of a flashed card: which image it got, when, and that it was verified.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::process;

/// Proof that an image was written and read back; without names of people or this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// The board it is for.
    pub board: String,
    /// The image's file name.
    pub image: String,
    /// SHA-256 of the image, which is what was read back.
    pub sha256: String,
    /// Length of the image, in bytes.
    pub bytes: u64,
    /// The program's revision, where the image is ours.
    pub revision: Option<String>,
    /// The disk's file in `/dev`, or the name of the file it was written to.
    pub target: String,
    /// What the card's maker calls it.
    pub model: Option<String>,
    /// The card's own number.
    pub serial: Option<String>,
    /// When it was verified: UTC, as `2026-01-31T12:00:00Z`.
    pub time: String,
    /// How long writing and reading back took.
    pub seconds: u64,
}

impl Receipt {
    /// A table for people.
    pub fn text(&self) -> String {
        let unknown = || "unknown".to_owned();
        let rows = [
            ("image", self.image.clone()),
            ("sha256", self.sha256.clone()),
            ("bytes", self.bytes.to_string()),
            ("board", self.board.clone()),
            ("revision", self.revision.clone().unwrap_or_else(unknown)),
            ("target", self.target.clone()),
            ("model", self.model.clone().unwrap_or_else(unknown)),
            ("serial", self.serial.clone().unwrap_or_else(unknown)),
            ("time", self.time.clone()),
            ("took", format!("{} s", self.seconds)),
        ];
        rows.map(|(name, value)| format!("{name:<9}{value}\n")).concat()
    }

    /// Saves it beside the image, one file per card; returns where.
    ///
    /// # Errors
    /// When the image's folder cannot be written.
    pub fn save(&self, image: &Path) -> Result<PathBuf> {
        let time: String = self.time.chars().filter(char::is_ascii_alphanumeric).collect();
        let path = image.with_file_name(format!("{}.flashed-{time}.json", self.image));
        let json = format!("{}\n", serde_json::to_string_pretty(self)?);
        fs::write(&path, json).with_context(|| format!("cannot save {}", path.display()))?;
        Ok(path)
    }
}

/// The time now.
///
/// # Errors
/// When the system's `date` does not tell it.
pub fn now() -> Result<String> {
    process::output(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]))
        .context("the program `date` does not tell the time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_saved_beside_the_image_under_its_time() {
        let receipt = Receipt {
            board: "rpi4".into(),
            image: "rpi4.img".into(),
            sha256: "ab".into(),
            bytes: 512,
            revision: None,
            target: "/dev/sdb".into(),
            model: None,
            serial: Some("0123".into()),
            time: "2026-01-31T12:00:00Z".into(),
            seconds: 3,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = receipt.save(&folder.path().join("rpi4.img")).unwrap();
        assert_eq!(path, folder.path().join("rpi4.img.flashed-20260131T120000Z.json"));
        let saved: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!((&saved["serial"], &saved["bytes"]), (&"0123".into(), &512.into()));
        assert!(receipt.text().contains("serial   0123\n"), "{}", receipt.text());
    }

    #[test]
    fn the_time_is_in_utc() {
        let now = now().unwrap();
        assert!(now.len() == 20 && now.ends_with('Z'), "{now}");
    }
}
