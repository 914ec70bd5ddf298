//! Taking the source's files one by one, and what only shows once all are known.

use std::collections::BTreeMap;

use models::label::Class;
use models::radiograph::Radiograph;
use sha2::{Digest, Sha256};

use super::ImportError;
use super::commit::Staging;
use super::duplicates::{self, Fingerprint, Match};
use super::groups::{self, Partition};
use super::naming::{self, Facts, UNKNOWN_BATCH};
use super::png::png_from_picture;
use super::report::{ImportReport, SkipReason, Skipped};
use super::source::Source;
use super::table::{SourceRow, SourceTable};
use crate::data::manifest::{Manifest, Record};

/// Hex digits of the original's SHA-256 in an id.
const ID_DIGITS: usize = 8;

/// The images taken so far.
pub(super) struct Intake<'a> {
    staging: &'a Staging,
    table: Option<SourceTable>,
    only_original_size: bool,
    images: Vec<Taken>,
    by_id: BTreeMap<String, usize>,
    skipped: Vec<Skipped>,
}

/// An image that was decoded and written.
struct Taken {
    record: Record,
    /// Keys of the patients that the source takes it for; more than one where the same file
    /// occurs under several names.
    patients: Vec<String>,
    fingerprint: Fingerprint,
}

/// What is known of an image before its pixels are looked at.
struct Origin {
    class: Class,
    facts: Facts,
    patient: Option<String>,
    native_size: Option<(u32, u32)>,
    sha256: Option<String>,
}

impl<'a> Intake<'a> {
    pub(super) fn new(staging: &'a Staging, source: &Source, table: Option<SourceTable>) -> Self {
        let only_original_size = table.is_none() && source.names().any(naming::is_original_size);
        let missing = table.as_ref().map(|t| t.rows_without_file(source.names()));
        let skipped = missing.into_iter().flatten().map(Skipped::missing).collect();
        let (images, by_id) = (Vec::new(), BTreeMap::new());
        Self { staging, table, only_original_size, images, by_id, skipped }
    }

    /// Takes one file of the source, or lists it with the reason why not.
    pub(super) fn take(&mut self, source: &mut Source, index: usize) -> Result<(), ImportError> {
        let name = source.name(index).to_string();
        let origin = source.refusal(index).map_or_else(|| self.origin(&name), Err);
        let (origin, bytes) = match origin.and_then(|o| Ok((o, source.read(index)?))) {
            Ok(both) => both,
            Err(SkipReason::SourceTable) => return Ok(()),
            Err(reason) => {
                self.skip(index, name, None, reason);
                return Ok(());
            }
        };
        let digest = hex::encode(Sha256::digest(&bytes));
        match Radiograph::decode(&bytes) {
            Ok(picture) => self.keep(index, name, origin, digest, &picture),
            Err(error) => {
                self.skip(index, name, Some(digest), error.into());
                Ok(())
            }
        }
    }

    fn origin(&self, name: &str) -> Result<Origin, SkipReason> {
        if naming::is_system_file(name) {
            return Err(SkipReason::SystemFile);
        }
        if let Some(table) = &self.table {
            if table.is_at(name) {
                return Err(SkipReason::SourceTable);
            }
            return table.row(name).map(origin_from_row).ok_or(SkipReason::NotInTable);
        }
        if naming::is_archive(name) {
            return Err(SkipReason::NestedArchive);
        }
        if self.only_original_size && !naming::is_original_size(name) {
            return Err(SkipReason::OtherSize);
        }
        let class = naming::class_from_path(name).ok_or(SkipReason::NoClassFolder)?;
        let facts = naming::facts_from_name(name);
        let patient = facts.patient(class);
        Ok(Origin { class, facts, patient, native_size: None, sha256: None })
    }

    fn keep(
        &mut self,
        index: usize,
        name: String,
        origin: Origin,
        digest: String,
        picture: &Radiograph,
    ) -> Result<(), ImportError> {
        let sha256 = origin.sha256.unwrap_or_else(|| digest.clone());
        let id = format!("{}-{}", origin.class, &sha256[..ID_DIGITS]);
        if let Some(&earlier) = self.by_id.get(&id) {
            if self.images[earlier].record.sha256 != sha256 {
                return Err(ImportError::IdCollision(id));
            }
            self.images[earlier].patients.extend(origin.patient);
            self.skip(index, name, Some(digest), SkipReason::SameFile { id });
            return Ok(());
        }
        let file = format!("images/{}/{id}.png", origin.class);
        self.staging.write(&file, &png_from_picture(picture)?)?;
        let fingerprint = Fingerprint::new(picture);
        let (native_width, native_height) =
            origin.native_size.unwrap_or((picture.width(), picture.height()));
        let record = Record {
            id: id.clone(),
            file,
            class: origin.class,
            group: String::new(),
            age_years: origin.facts.age_years,
            sex: origin.facts.sex,
            source_batch: origin.facts.batch,
            native_width,
            native_height,
            sha256,
            phash: fingerprint.perceptual_hex(),
            duplicate_of: None,
        };
        self.by_id.insert(id, self.images.len());
        let patients = origin.patient.into_iter().collect();
        self.images.push(Taken { record, patients, fingerprint });
        Ok(())
    }

    fn skip(&mut self, index: usize, name: String, digest: Option<String>, reason: SkipReason) {
        self.skipped.push(Skipped::file(index, name, digest.as_deref(), reason));
    }

    /// Names groups and duplicates, once all images are known.
    pub(super) fn finish(
        mut self,
        kind: &'static str,
    ) -> Result<(Manifest, ImportReport), ImportError> {
        if self.images.is_empty() {
            return Err(ImportError::NothingUsable(self.skipped.len()));
        }
        self.images.sort_by(|a, b| a.record.id.cmp(&b.record.id));
        let prints: Vec<&Fingerprint> = self.images.iter().map(|i| &i.fingerprint).collect();
        let matches = duplicates::find(&prints);
        self.name_groups(&matches);
        self.name_duplicates(&matches);
        let facts_from = if self.table.is_some() { "manifest" } else { "names" };
        let records: Vec<Record> = self.images.into_iter().map(|i| i.record).collect();
        let manifest = Manifest::new(records)?;
        let report = ImportReport::new(kind, facts_from, &manifest, &matches, self.skipped);
        Ok((manifest, report))
    }

    fn name_groups(&mut self, matches: &[Match]) {
        let mut partition = Partition::new(self.images.len());
        let mut first_of: BTreeMap<&str, usize> = BTreeMap::new();
        for (at, image) in self.images.iter().enumerate() {
            for patient in &image.patients {
                partition.join(*first_of.entry(patient).or_insert(at), at);
            }
        }
        matches.iter().for_each(|m| partition.join(m.first, m.second));
        let hashes: Vec<&str> = self.images.iter().map(|i| i.record.sha256.as_str()).collect();
        let names = groups::names(&mut partition, &hashes);
        for (image, name) in self.images.iter_mut().zip(names) {
            image.record.group = name;
        }
    }

    fn name_duplicates(&mut self, matches: &[Match]) {
        let mut same = Partition::new(self.images.len());
        matches.iter().for_each(|m| same.join(m.first, m.second));
        for at in 0..self.images.len() {
            let first = same.first(at);
            if first != at {
                self.images[at].record.duplicate_of = Some(self.images[first].record.id.clone());
            }
        }
    }
}

fn origin_from_row(row: &SourceRow) -> Origin {
    let batch = row.source_batch.clone().unwrap_or_else(|| UNKNOWN_BATCH.to_string());
    Origin {
        class: row.class,
        facts: Facts { age_years: row.age_years, sex: row.sex, batch },
        patient: row.group.clone(),
        native_size: row.native_width.zip(row.native_height),
        sha256: row.sha256.clone(),
    }
}
