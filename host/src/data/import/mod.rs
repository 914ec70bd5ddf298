//! A folder or a zip archive, as downloaded, becomes a data set without personal data.
//!
//! Read: the original archive of Fraiwan et al. 2022 (doi 10.17632/xkt857dsxk.1), or any tree
//! with a folder per class, or a tree with its own `manifest.csv` (see [`table`]).
//! Written: `images/<class>/<id>.png`, `manifest.csv` and `import-report.json`. An id is the
//! class and the first 8 hex digits of the original's SHA-256, and a picture is encoded anew from
//! its luminance, so neither a name, a path nor embedded metadata survives. Text burnt into the
//! pixels does.
//!
//! The result is built beside the target and renamed over it: an interrupted import leaves no
//! half data set, and repeating a complete one changes nothing.

mod commit;
pub mod duplicates;
mod groups;
mod intake;
mod naming;
mod png;
pub mod report;
pub mod source;
pub mod table;

use std::io;
use std::path::{Path, PathBuf};

use self::commit::Staging;
use self::intake::Intake;
use self::report::ImportReport;
use self::source::Source;
use super::manifest::{Manifest, ManifestError};

pub use self::commit::Outcome;

/// Why nothing was imported. A file that is merely left out is in the report instead.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file or folder cannot be read or written.
    #[error("{path} cannot be read or written")]
    File {
        /// Where.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// The source file is not a zip archive that can be read.
    #[error("{path} is not a readable zip archive")]
    Archive {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        source: zip::result::ZipError,
    },
    /// The archive is built to mislead or to exhaust the reader.
    #[error("the archive is refused: {0}")]
    HostileArchive(&'static str),
    /// More files than any data set of X-rays has.
    #[error("the source lists more than {} files", source::MAX_ENTRIES)]
    TooManyFiles,
    /// The source's own `manifest.csv` does not parse.
    #[error("the source's manifest.csv, line {line}: {reason}")]
    Table {
        /// Line of the file, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The result would be written into the folder it is read from.
    #[error("the output folder lies inside the source: choose another")]
    OutputInsideSource,
    /// The output folder holds something else.
    #[error("{0} holds files that are no imported data set: choose an empty or new folder")]
    OutputInUse(PathBuf),
    /// The output folder holds a data set with other content.
    #[error("{0} holds a different data set: choose another folder, or remove it first")]
    DifferentDataSet(PathBuf),
    /// Two originals share the digits that make an id.
    #[error("two different originals would both be called `{0}`")]
    IdCollision(String),
    /// The report cannot be written as JSON.
    #[error("the report cannot be written")]
    Report(#[from] serde_json::Error),
    /// Not one image could be used.
    #[error("no image could be imported; {0} files were left out")]
    NothingUsable(usize),
    /// A picture cannot be written as PNG.
    #[error("a picture cannot be encoded")]
    Encode(#[from] image::ImageError),
    /// The resulting table is not valid.
    #[error("the imported table is not valid")]
    Manifest(#[from] ManifestError),
}

/// What an import did.
#[derive(Debug)]
pub struct Imported {
    /// The data set's table.
    pub manifest: Manifest,
    /// What was found and what was left out.
    pub report: ImportReport,
    /// Whether the folder was written, or held the same data set already.
    pub outcome: Outcome,
}

/// Imports `source`, a folder or a zip archive, into the folder `out`.
///
/// `progress(done, total)` is called after each file of the source.
///
/// # Errors
/// See [`ImportError`]; `out` is then as it was.
pub fn import(
    source: &Path,
    out: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Imported, ImportError> {
    let staging = Staging::beside(out, source)?;
    let mut source = Source::open(source)?;
    let table = source.table()?;
    let mut intake = Intake::new(&staging, &source, table);
    let total = source.len();
    for index in 0..total {
        intake.take(&mut source, index)?;
        progress(index + 1, total);
    }
    let (manifest, report) = intake.finish(source.kind())?;
    manifest.save(staging.path())?;
    staging.write(report::FILE_NAME, report.to_json()?.as_bytes())?;
    let outcome = staging.commit(&manifest)?;
    Ok(Imported { manifest, report, outcome })
}

#[cfg(test)]
mod tests;
