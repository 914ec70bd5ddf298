//! The table of a data set's images, `manifest.csv`, and its digest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use models::label::Class;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::files::write_whole;

/// The table's name inside a data set's folder.
pub const FILE_NAME: &str = "manifest.csv";

/// The columns, in their order in the file.
pub const COLUMNS: [&str; 12] = [
    "id",
    "file",
    "class",
    "group",
    "age_years",
    "sex",
    "source_batch",
    "native_width",
    "native_height",
    "sha256",
    "phash",
    "duplicate_of",
];

/// Oldest patient accepted, in years.
pub const MAX_AGE_YEARS: u16 = 130;

/// The images of a data set, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    records: Vec<Record>,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Name of the image in every file of the project: `<class>-<8 hex digits>`.
    pub id: String,
    /// Path of the picture below the data set's folder, with `/` between the parts.
    pub file: String,
    /// The finding the source gives.
    pub class: Class,
    /// Images that may show the same patient share it; a fold never splits it.
    pub group: String,
    /// Patient's age in whole years, where known.
    pub age_years: Option<u16>,
    /// Patient's sex, where known.
    pub sex: Option<Sex>,
    /// Where the source got the image from: a known shortcut, so results are given by batch.
    pub source_batch: String,
    /// Width of the source's original picture, in pixels.
    pub native_width: u32,
    /// Height of the source's original picture, in pixels.
    pub native_height: u32,
    /// SHA-256 of the original file's bytes, 64 hex digits.
    pub sha256: String,
    /// Perceptual hash of the picture, 64 hex digits.
    pub phash: String,
    /// The first image that shows the same picture, where there is one.
    pub duplicate_of: Option<String>,
}

/// A patient's sex as the sources write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Sex {
    /// Female.
    F,
    /// Male.
    M,
}

/// Why a table is not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read or written.
    #[error("{path} cannot be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// The header is not [`COLUMNS`].
    #[error("line 1: the columns are `{found}`, expected `{}`", COLUMNS.join(","))]
    Columns {
        /// The header as found.
        found: String,
    },
    /// A row does not parse.
    #[error("line {line}: {reason}")]
    Row {
        /// Line of the file, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The table has no rows.
    #[error("the manifest lists no image")]
    Empty,
    /// Writing a row failed.
    #[error("a row cannot be written: {0}")]
    Write(csv::Error),
}

impl Manifest {
    /// Sorts the records by id and checks them.
    ///
    /// # Errors
    /// [`ManifestError::Empty`], or [`ManifestError::Row`] with the line that the record would
    /// have in the file.
    pub fn new(mut records: Vec<Record>) -> Result<Self, ManifestError> {
        records.sort_by(|a, b| a.id.cmp(&b.id));
        let lines: Vec<u64> = (2..).take(records.len()).collect();
        check(&records, &lines)?;
        Ok(Self { records })
    }

    /// Reads a manifest's text.
    ///
    /// # Errors
    /// The first thing wrong, with its line.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        let mut reader = csv::ReaderBuilder::new().from_reader(text);
        let header = reader.headers().map_err(row_error)?.clone();
        if header.iter().ne(COLUMNS) {
            let found = header.iter().collect::<Vec<_>>().join(",");
            return Err(ManifestError::Columns { found });
        }
        let (mut records, mut lines) = (Vec::new(), Vec::new());
        for row in reader.records() {
            let row = row.map_err(row_error)?;
            lines.push(row.position().map_or(0, csv::Position::line));
            records.push(row.deserialize(Some(&header)).map_err(row_error)?);
        }
        check(&records, &lines)?;
        records.sort_by(|a: &Record, b| a.id.cmp(&b.id));
        Ok(Self { records })
    }

    /// Reads `manifest.csv` of a data set's folder.
    ///
    /// # Errors
    /// As [`Manifest::parse`], or [`ManifestError::File`].
    pub fn load(dir: &Path) -> Result<Self, ManifestError> {
        let path = dir.join(FILE_NAME);
        let text = fs::read(&path).map_err(|source| ManifestError::File { path, source })?;
        Self::parse(&text)
    }

    /// The table as text: header, then rows in the order of the ids.
    ///
    /// # Errors
    /// [`ManifestError::Write`] when the table cannot be formed.
    pub fn to_csv(&self) -> Result<Vec<u8>, ManifestError> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for record in &self.records {
            writer.serialize(record).map_err(ManifestError::Write)?;
        }
        writer.into_inner().map_err(|e| ManifestError::Write(e.into_error().into()))
    }

    /// Writes `manifest.csv` into a data set's folder.
    ///
    /// # Errors
    /// As [`Manifest::to_csv`], or [`ManifestError::File`].
    pub fn save(&self, dir: &Path) -> Result<(), ManifestError> {
        let path = dir.join(FILE_NAME);
        write_whole(&path, &self.to_csv()?).map_err(|source| ManifestError::File { path, source })
    }

    /// The images, in the order of their ids.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The image with an id.
    pub fn get(&self, id: &str) -> Option<&Record> {
        let at = self.records.binary_search_by(|r| r.id.as_str().cmp(id)).ok()?;
        self.records.get(at)
    }

    /// Images of each class, in the order of [`Class::ALL`].
    pub fn class_counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for record in &self.records {
            counts[record.class.index()] += 1;
        }
        counts
    }

    /// The images of each patient group.
    pub fn groups(&self) -> BTreeMap<&str, Vec<&Record>> {
        let mut groups: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
        for record in &self.records {
            groups.entry(&record.group).or_default().push(record);
        }
        groups
    }

    /// Names the content: SHA-256, in hex, over every row's fields in order. A field is preceded
    /// by its length in bytes (64-bit little endian), so no two tables write the same bytes.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"spinesight manifest 1\n");
        for record in &self.records {
            for field in record.fields() {
                hash.update((field.len() as u64).to_le_bytes());
                hash.update(field.as_bytes());
            }
        }
        hex::encode(hash.finalize())
    }
}

impl Record {
    fn fields(&self) -> [String; COLUMNS.len()] {
        [
            self.id.clone(),
            self.file.clone(),
            self.class.to_string(),
            self.group.clone(),
            self.age_years.map(|a| a.to_string()).unwrap_or_default(),
            self.sex.map(|s| s.name().to_string()).unwrap_or_default(),
            self.source_batch.clone(),
            self.native_width.to_string(),
            self.native_height.to_string(),
            self.sha256.clone(),
            self.phash.clone(),
            self.duplicate_of.clone().unwrap_or_default(),
        ]
    }

    /// The rules a single row must keep; the text says which is broken.
    fn fault(&self) -> Option<String> {
        let broken = |rule: &str, value: &str| Some(format!("{rule}: `{value}`"));
        if !is_token(&self.id) {
            return broken("the id must be made of a-z, 0-9 and -", &self.id);
        }
        if !is_relative(&self.file) {
            return broken("the file must be a path below the data set's folder", &self.file);
        }
        if self.group.trim().is_empty() {
            return broken("the group must not be empty", &self.group);
        }
        if self.age_years.is_some_and(|age| age > MAX_AGE_YEARS) {
            return broken("the age is out of range", &self.fields()[4]);
        }
        if !is_token(&self.source_batch) {
            return broken("the source batch must be made of a-z, 0-9 and -", &self.source_batch);
        }
        if self.native_width == 0 || self.native_height == 0 {
            return broken("the native size must not be zero", &self.id);
        }
        [&self.sha256, &self.phash]
            .into_iter()
            .find(|h| !is_hex_64(h))
            .and_then(|value| broken("sha256 and phash must be 64 lower-case hex digits", value))
    }
}

impl Sex {
    /// One capital letter.
    pub fn name(self) -> &'static str {
        match self {
            Sex::F => "F",
            Sex::M => "M",
        }
    }
}

/// Whether a text is a plain name: 1 to 64 of `a-z`, `0-9` and `-`.
pub(crate) fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Whether a text is 64 lower-case hex digits.
pub(crate) fn is_hex_64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A path that stays below the folder it is joined to, on every platform.
fn is_relative(file: &str) -> bool {
    !file.contains(['\\', ':'])
        && file.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

fn check(records: &[Record], lines: &[u64]) -> Result<(), ManifestError> {
    if records.is_empty() {
        return Err(ManifestError::Empty);
    }
    let mut ids = BTreeSet::new();
    for (record, &line) in records.iter().zip(lines) {
        if let Some(reason) = record.fault() {
            return Err(ManifestError::Row { line, reason });
        }
        if !ids.insert(record.id.as_str()) {
            let reason = format!("the id `{}` is used twice", record.id);
            return Err(ManifestError::Row { line, reason });
        }
    }
    for (record, &line) in records.iter().zip(lines) {
        let Some(other) = &record.duplicate_of else { continue };
        if other == &record.id || !ids.contains(other.as_str()) {
            let reason = format!("duplicate_of names `{other}`, which is no other image");
            return Err(ManifestError::Row { line, reason });
        }
    }
    Ok(())
}

fn row_error(error: csv::Error) -> ManifestError {
    let line = error.position().map_or(1, csv::Position::line);
    let reason = match error.into_kind() {
        csv::ErrorKind::Deserialize { err, .. } => {
            let column = err.field().and_then(|f| COLUMNS.get(f as usize)).unwrap_or(&"?");
            format!("column {column}: {}", err.kind())
        }
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields, expected {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "not UTF-8 text".to_string(),
        other => format!("{other:?}"),
    };
    ManifestError::Row { line, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> Record {
        Record {
            id: id.into(),
            file: format!("images/normal/{id}.png"),
            class: Class::Normal,
            group: "g1".into(),
            age_years: Some(17),
            sex: Some(Sex::F),
            source_batch: "export".into(),
            native_width: 187,
            native_height: 672,
            sha256: "ab".repeat(32),
            phash: "0".repeat(64),
            duplicate_of: None,
        }
    }

    fn line_of(error: ManifestError) -> u64 {
        match error {
            ManifestError::Row { line, .. } => line,
            other => panic!("no line in {other}"),
        }
    }

    #[test]
    fn text_round_trips_with_exactly_the_columns() {
        let mut second = record("normal-b");
        second.age_years = None;
        second.sex = None;
        second.duplicate_of = Some("normal-a".into());
        let manifest = Manifest::new(vec![second, record("normal-a")]).expect("valid");
        let text = manifest.to_csv().expect("csv");
        let header = text.split(|&b| b == b'\n').next().expect("header");
        assert_eq!(header, COLUMNS.join(",").as_bytes());
        assert_eq!(Manifest::parse(&text).expect("parses"), manifest);
    }

    #[test]
    fn digest_names_the_content_and_not_the_order() {
        let ab = Manifest::new(vec![record("normal-a"), record("normal-b")]).expect("valid");
        let ba = Manifest::new(vec![record("normal-b"), record("normal-a")]).expect("valid");
        assert_eq!(ab.digest(), ba.digest());
        let mut changed = record("normal-b");
        changed.group = "g2".into();
        let other = Manifest::new(vec![record("normal-a"), changed]).expect("valid");
        assert_ne!(ab.digest(), other.digest());
    }

    #[test]
    fn errors_name_the_line() {
        let good = Manifest::new(vec![record("normal-a"), record("normal-b")]).expect("valid");
        let text = String::from_utf8(good.to_csv().expect("csv")).expect("text");
        let parse = |from: &str, to: &str| {
            let at = text.rfind(from).expect("present");
            let changed = format!("{}{to}{}", &text[..at], &text[at + from.len()..]);
            Manifest::parse(changed.as_bytes()).expect_err("must be refused")
        };
        assert_eq!(line_of(parse(",17,", ",seventeen,")), 3);
        assert_eq!(line_of(parse(",17,", ",170,")), 3);
        assert_eq!(line_of(parse(",F,", ",X,")), 3);
        assert_eq!(line_of(parse(",normal,", ",Normal,")), 3);
        assert_eq!(line_of(parse("normal-b,", "normal-a,")), 3);
        assert_eq!(line_of(parse("images/normal/", "../")), 3);
        assert_eq!(line_of(parse("00,\n", "00,normal-z\n")), 3);
        assert_eq!(line_of(parse(",187,672", ",187")), 3);
        assert!(matches!(
            Manifest::parse(b"file,class\n").expect_err("columns"),
            ManifestError::Columns { .. }
        ));
        let empty = format!("{}\n", COLUMNS.join(","));
        assert!(matches!(Manifest::parse(empty.as_bytes()), Err(ManifestError::Empty)));
    }
}
