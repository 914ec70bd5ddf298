//! Where things are on disk, and the small files that make a scan's folder tell its own story.
//!
//! ```text
//! spool.sqlite                 state of every scan
//! lock                         held by the running service
//! incoming/N/                  being received; swept at start
//! scans/ID/source.dcm          as received (`source` for a plain picture)
//!          arrival.json        what it is and who sent it
//!          judgement.json      what the network said; present once judged
//!          NAME                pictures
//!          results/KIND.dcm    objects to deliver
//!          results.json        their UIDs; present once rendered
//! trash/N/                     being removed; swept at start
//! damaged/ID/                  folders that recovery could not read, kept for a human
//! ```

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::event::ScanId;

/// What the network said.
pub(super) const JUDGEMENT: &str = "judgement.json";
/// What was received.
pub(super) const ARRIVAL: &str = "arrival.json";
/// Which objects are to be delivered.
pub(super) const RESULTS: &str = "results.json";
/// Most bytes that a small file may have.
const MOST_JSON: u64 = 1 << 20;

/// The spool's folder.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn database(&self) -> PathBuf {
        self.root.join("spool.sqlite")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    pub(super) fn scans(&self) -> PathBuf {
        self.root.join("scans")
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    pub(super) fn damaged(&self) -> PathBuf {
        self.root.join("damaged")
    }

    pub(super) fn scan(&self, id: ScanId) -> PathBuf {
        self.scans().join(id.to_string())
    }

    pub(super) fn results(&self, id: ScanId) -> PathBuf {
        self.scan(id).join("results")
    }

    pub(super) fn object(&self, id: ScanId, kind: &str) -> PathBuf {
        self.results(id).join(format!("{kind}.dcm"))
    }

    pub(super) fn source(&self, id: ScanId, is_dicom: bool) -> PathBuf {
        self.scan(id).join(source_name(is_dicom))
    }
}

/// The name of the received file in its folder.
pub(super) fn source_name(is_dicom: bool) -> &'static str {
    if is_dicom { "source.dcm" } else { "source" }
}

/// Whether a word may name a picture or a kind of object: short, plain, and no other file's name.
pub(super) fn is_plain_name(name: &str) -> bool {
    let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    let own = [ARRIVAL, JUDGEMENT, RESULTS, "results", "source", "source.dcm"];
    (1..=64).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with('.')
        && !own.contains(&name)
}

/// `arrival.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ArrivalFile {
    pub(super) sop_class: String,
    pub(super) sop_instance: String,
    pub(super) transfer_syntax: String,
    pub(super) from: String,
    /// SHA-256 of the source in hexadecimal digits.
    pub(super) sha256: String,
    /// Size of the source.
    pub(super) bytes: u64,
    /// Wall time in seconds since 1970, for display and order alone.
    pub(super) received: i64,
}

/// One object of `results.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ObjectFile {
    pub(super) kind: String,
    pub(super) sop_class: String,
    pub(super) sop_instance: String,
}

/// Reads a small file; none where it is missing or not what was written.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST_JSON).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The size of a regular file; none where there is none.
pub(super) fn file_size(path: &Path) -> Option<u64> {
    let about = fs::symlink_metadata(path).ok()?;
    about.is_file().then_some(about.len())
}
