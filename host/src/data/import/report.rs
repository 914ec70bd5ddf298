//! What an import found and left out, without a name of the source in it.

use std::collections::BTreeMap;

use models::label::Class;
use models::radiograph::RadiographError;
use serde::{Serialize, Serializer};

use super::duplicates::{Match, NEAR_BITS};
use crate::data::manifest::{Manifest, Record};

/// The report's name inside a data set's folder.
pub const FILE_NAME: &str = "import-report.json";

/// An import in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct ImportReport {
    /// `folder` or `zip`.
    pub source: &'static str,
    /// Where class, age, sex and group come from: `manifest` or `names`.
    pub facts_from: &'static str,
    /// Images in the data set.
    pub images: usize,
    /// Images by class.
    pub classes: BTreeMap<Class, usize>,
    /// Images by batch.
    pub batches: BTreeMap<String, usize>,
    /// Patient groups.
    pub groups: usize,
    /// Digest of the manifest.
    pub manifest_digest: String,
    /// Most differing bits of two perceptual hashes, of 256, that count as the same picture.
    pub near_bits: u32,
    /// Pairs whose samples are equal.
    pub exact_duplicates: Vec<Duplicate>,
    /// Pairs that look the same.
    pub near_duplicates: Vec<Duplicate>,
    /// Pairs of either kind whose two images carry different classes: one label is wrong.
    pub conflicting_classes: Vec<Duplicate>,
    /// Files of the source that are not in the data set.
    pub skipped: Vec<Skipped>,
}

/// Two images that show the same picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Duplicate {
    /// The later id.
    pub id: String,
    /// The earlier id.
    pub same_as: String,
    /// Differing bits of the perceptual hashes, of 256.
    pub distance: u32,
}

/// A file of the source that is not in the data set.
#[derive(Clone, Debug, Serialize)]
pub struct Skipped {
    /// Position in the source's list of files, sorted by name, from 1; none for a row of the
    /// source's manifest without a file.
    pub number: Option<usize>,
    /// First 8 hex digits of the file's SHA-256, where it was read.
    pub sha256_prefix: Option<String>,
    /// Why, in words that hold nothing of the file.
    #[serde(serialize_with = "publish")]
    pub reason: SkipReason,
    /// The file's name: for the person at the terminal, never stored.
    #[serde(skip)]
    pub name: String,
}

/// Why a file is left out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SkipReason {
    /// Content that is no usable radiograph.
    #[error("{text}")]
    Picture {
        /// The full reason.
        text: String,
        /// The reason without what the decoder quotes.
        public: String,
    },
    /// No folder on the way to it names a class.
    #[error("not in a folder named after a class")]
    NoClassFolder,
    /// The archive has full-size pictures, and this is another copy.
    #[error("outside the folder of original-size images")]
    OtherSize,
    /// Left behind by an operating system.
    #[error("a system file")]
    SystemFile,
    /// An archive inside the source.
    #[error("an archive inside the source: unpack it and import the result")]
    NestedArchive,
    /// A path that would leave the folder it is unpacked to.
    #[error("the archive gives it a path outside itself")]
    UnsafePath,
    /// A symbolic link.
    #[error("a link, which is not followed")]
    Link,
    /// Needs a password.
    #[error("encrypted")]
    Encrypted,
    /// Longer than any radiograph.
    #[error("larger than {} MiB", super::source::MAX_FILE_BYTES >> 20)]
    TooLarge,
    /// The source's table does not list it.
    #[error("not listed in the source's manifest.csv")]
    NotInTable,
    /// The source's table lists it, but there is no such file.
    #[error("listed in the source's manifest.csv, but there is no such file")]
    MissingFile,
    /// The same file was taken before.
    #[error("the same original as {id}")]
    SameFile {
        /// The image taken.
        id: String,
    },
    /// The file cannot be read.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// The source's own table: read, but no image.
    #[error("the source's manifest.csv")]
    SourceTable,
}

impl ImportReport {
    /// Counts a finished import; `matches` refer to the manifest's order.
    pub(super) fn new(
        source: &'static str,
        facts_from: &'static str,
        manifest: &Manifest,
        matches: &[Match],
        skipped: Vec<Skipped>,
    ) -> Self {
        let records = manifest.records();
        let mut batches = BTreeMap::new();
        for record in records {
            *batches.entry(record.source_batch.clone()).or_insert(0) += 1;
        }
        let pick = |keep: &dyn Fn(&Match) -> bool| -> Vec<Duplicate> {
            matches.iter().filter(|m| keep(m)).map(|m| Duplicate::new(records, m)).collect()
        };
        Self {
            source,
            facts_from,
            images: records.len(),
            classes: Class::ALL.into_iter().zip(manifest.class_counts()).collect(),
            batches,
            groups: manifest.groups().len(),
            manifest_digest: manifest.digest(),
            near_bits: NEAR_BITS,
            exact_duplicates: pick(&|m| m.exact),
            near_duplicates: pick(&|m| !m.exact),
            conflicting_classes: pick(&|m| records[m.first].class != records[m.second].class),
            skipped,
        }
    }

    /// The report as it is stored: indented JSON.
    ///
    /// # Errors
    /// What the serialiser reports.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// The report for a person, with the names of the files left out: for a terminal only, so
    /// control characters in a name are escaped.
    pub fn to_text(&self) -> String {
        let mut text = format!("{} images in {} patient groups:", self.images, self.groups);
        for (class, count) in &self.classes {
            text += &format!("  {class} {count}");
        }
        text += "\nbatches:";
        for (batch, count) in &self.batches {
            text += &format!("  {batch} {count}");
        }
        let (exact, near) = (self.exact_duplicates.len(), self.near_duplicates.len());
        text += &format!("\nduplicates: {exact} exact, {near} near (pairs)\n");
        for pair in self.exact_duplicates.iter().chain(&self.near_duplicates) {
            text += &format!("  {} = {} ({} bits)\n", pair.id, pair.same_as, pair.distance);
        }
        for pair in &self.conflicting_classes {
            text += &format!(
                "WARNING: one picture, two classes: {} and {}: one label is wrong\n",
                pair.same_as, pair.id
            );
        }
        text += &format!("left out: {}\n", self.skipped.len());
        for skip in &self.skipped {
            text += &format!("  {}: {}\n", skip.name.escape_debug(), skip.reason);
        }
        text + &format!("manifest digest {}\n", self.manifest_digest)
    }
}

impl Duplicate {
    fn new(records: &[Record], found: &Match) -> Self {
        Self {
            id: records[found.second].id.clone(),
            same_as: records[found.first].id.clone(),
            distance: found.distance,
        }
    }
}

impl Skipped {
    /// A file of the source; `index` counts from 0.
    pub(super) fn file(
        index: usize,
        name: String,
        digest: Option<&str>,
        reason: SkipReason,
    ) -> Self {
        let sha256_prefix = digest.map(|d| d.chars().take(8).collect());
        Self { number: Some(index + 1), sha256_prefix, reason, name }
    }

    /// A row of the source's table without a file.
    pub(super) fn missing(name: String) -> Self {
        Self { number: None, sha256_prefix: None, reason: SkipReason::MissingFile, name }
    }
}

impl SkipReason {
    /// The reason in words that hold nothing of the file.
    pub fn public(&self) -> String {
        match self {
            SkipReason::Picture { public, .. } => public.clone(),
            SkipReason::Unreadable(_) => "unreadable".to_string(),
            other => other.to_string(),
        }
    }
}

impl From<RadiographError> for SkipReason {
    fn from(error: RadiographError) -> Self {
        let text = error.to_string();
        let public = match error {
            RadiographError::Damaged(_) => "the image is damaged".to_string(),
            _ => text.clone(),
        };
        SkipReason::Picture { text, public }
    }
}

fn publish<S: Serializer>(reason: &SkipReason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&reason.public())
}
