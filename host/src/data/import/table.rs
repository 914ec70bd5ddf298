//! A source's own `manifest.csv`: class, group, age, sex, batch, native size and original hash.
//!
//! Needed columns: `file` (relative to the table) and `class`. Taken where present: `group`,
//! `age_years`, `sex`, `source_batch`, `native_width`, `native_height`, and `original_sha256` or
//! `sha256`. Other columns are ignored, so an imported data set can be imported again.

use std::collections::{BTreeMap, BTreeSet};

use models::label::Class;
use serde::Deserialize;

use super::ImportError;
use crate::data::manifest::{MAX_AGE_YEARS, Sex, is_hex_64, is_token};

/// The table's name.
pub const FILE_NAME: &str = "manifest.csv";

/// A source's table, and where in the source it lies.
#[derive(Debug)]
pub struct SourceTable {
    at: String,
    rows: BTreeMap<String, SourceRow>,
}

/// What a source says of an image.
#[derive(Clone, Debug, Deserialize)]
pub struct SourceRow {
    /// Path relative to the table's folder.
    pub file: String,
    /// The finding.
    pub class: Class,
    /// Key of the patient, in the source's own words.
    #[serde(default)]
    pub group: Option<String>,
    /// Age in whole years.
    #[serde(default)]
    pub age_years: Option<u16>,
    /// Sex.
    #[serde(default)]
    pub sex: Option<Sex>,
    /// Batch.
    #[serde(default)]
    pub source_batch: Option<String>,
    /// Width of the original picture, in pixels.
    #[serde(default)]
    pub native_width: Option<u32>,
    /// Height of the original picture, in pixels.
    #[serde(default)]
    pub native_height: Option<u32>,
    /// SHA-256 of the original file, 64 hex digits.
    #[serde(default, alias = "original_sha256")]
    pub sha256: Option<String>,
}

impl SourceTable {
    /// Reads the table found at `at`, a path inside the source.
    ///
    /// # Errors
    /// [`ImportError::Table`] with the line.
    pub fn parse(at: &str, text: &[u8]) -> Result<Self, ImportError> {
        let mut reader = csv::Reader::from_reader(text);
        let header = reader.headers().map_err(row_error)?.clone();
        let folder = at.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut rows = BTreeMap::new();
        for row in reader.records() {
            let row = row.map_err(row_error)?;
            let line = row.position().map_or(0, csv::Position::line);
            let row: SourceRow = row.deserialize(Some(&header)).map_err(row_error)?;
            let fault = row.fault();
            let path =
                if folder.is_empty() { row.file.clone() } else { format!("{folder}/{}", row.file) };
            let twice = rows.insert(path, row).is_some().then_some("the file is listed twice");
            if let Some(reason) = fault.or(twice) {
                return Err(ImportError::Table { line, reason: reason.into() });
            }
        }
        Ok(Self { at: at.to_string(), rows })
    }

    /// Whether a path inside the source is this table.
    pub fn is_at(&self, path: &str) -> bool {
        self.at == path
    }

    /// The row of a path inside the source.
    pub fn row(&self, path: &str) -> Option<&SourceRow> {
        self.rows.get(path)
    }

    /// Paths that rows name but the source does not have.
    pub fn rows_without_file<'a>(&self, present: impl Iterator<Item = &'a str>) -> Vec<String> {
        let present: BTreeSet<&str> = present.collect();
        self.rows.keys().filter(|path| !present.contains(path.as_str())).cloned().collect()
    }
}

impl SourceRow {
    fn fault(&self) -> Option<&'static str> {
        if self.sha256.as_deref().is_some_and(|hash| !is_hex_64(hash)) {
            return Some("the original's SHA-256 must be 64 lower-case hex digits");
        }
        if self.source_batch.as_deref().is_some_and(|batch| !is_token(batch)) {
            return Some("the source batch must be made of a-z, 0-9 and -");
        }
        if self.age_years.is_some_and(|age| age > MAX_AGE_YEARS) {
            return Some("the age is out of range");
        }
        if self.native_width == Some(0) || self.native_height == Some(0) {
            return Some("the native size must not be zero");
        }
        None
    }
}

fn row_error(error: csv::Error) -> ImportError {
    let line = error.position().map_or(1, csv::Position::line);
    let reason = match error.into_kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.to_string(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields, expected {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "not UTF-8 text".to_string(),
        other => format!("{other:?}"),
    };
    ImportError::Table { line, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optional_columns_may_be_absent_and_paths_are_the_sources() {
        let table = SourceTable::parse("a/manifest.csv", b"file,class\nx/1.png,normal\n")
            .expect("two columns suffice");
        let row = table.row("a/x/1.png").expect("row");
        assert_eq!((row.class, row.age_years), (Class::Normal, None));
        assert!(table.is_at("a/manifest.csv"));
        assert_eq!(table.rows_without_file(["a/x/2.png"].into_iter()), ["a/x/1.png"]);
    }

    #[test]
    fn errors_name_the_line() {
        for text in [
            "file,class\n1.png,normal\n2.png,healthy\n",
            "file,class\n1.png,normal\n1.png,normal\n",
            "file,class,sha256\n1.png,normal,\n2.png,normal,12\n",
            "file,class,source_batch\n1.png,normal,a\n2.png,normal,Jane Doe\n",
            "file,class,age_years\n1.png,normal,3\n2.png,normal,300\n",
        ] {
            match SourceTable::parse("manifest.csv", text.as_bytes()) {
                Err(ImportError::Table { line: 3, .. }) => {}
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
