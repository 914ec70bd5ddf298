//! What the judging worker takes and gives back.

use std::fs;
use std::io;
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, params};

use super::Spool;
use super::error::SpoolError;
use super::layout::{JUDGEMENT, ObjectFile, RESULTS, is_plain_name};
use super::stage::{DeliveryState, Outcome, Stage};
use super::untold::{note, verdict};
use crate::durable::{sync_dir, write_file};
use crate::event::ScanId;
use crate::failpoint::reach;
use crate::record::Record;

/// A scan to be worked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Which scan.
    pub id: ScanId,
    /// How often this step began before without coming to its end. A scan that makes the process
    /// die should be recorded as one that cannot be judged after a few.
    pub tries: u32,
    /// The received file.
    pub source: PathBuf,
    /// SOP Class UID; empty for a plain picture.
    pub sop_class: String,
    /// SOP Instance UID; empty for a plain picture.
    pub sop_instance: String,
    /// Calling AE title, or `folder`.
    pub from: String,
}

/// What came out of judging one scan.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The record; its `file` is replaced by the scan's name, for file names may tell of patients.
    pub record: Record,
    /// Pictures and the like by plain file names, such as `overlay.png`.
    pub files: Vec<(String, Vec<u8>)>,
}

/// A result object to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is in one plain word, such as `sr`; unique in its scan.
    pub kind: String,
    /// SOP Class UID.
    pub sop_class: String,
    /// SOP Instance UID.
    pub sop_instance: String,
    /// A DICOM file (PS3.10).
    pub bytes: Vec<u8>,
}

impl Spool {
    /// The oldest scan that was not yet judged, if any. Counts a try; one worker at a time.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub fn next_received(&self) -> Result<Option<Work>, SpoolError> {
        self.next(Stage::Received)
    }

    /// The oldest judged scan without result objects, if any. Counts a try; one worker at a time.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub fn next_judged(&self) -> Result<Option<Work>, SpoolError> {
        self.next(Stage::Judged)
    }

    /// Stores a judgement: after `Ok` it is durable and the scan waits for its result objects.
    ///
    /// # Errors
    /// [`SpoolError::WrongStage`] unless the scan was received and not yet judged,
    /// [`SpoolError::Invalid`] for file names that are not plain, failures of disk or database.
    pub fn judged(&self, id: ScanId, judged: Judged) -> Result<(), SpoolError> {
        if judged.files.iter().any(|(name, _)| !is_plain_name(name)) {
            return Err(SpoolError::Invalid("a file name is not plain"));
        }
        self.expect_stage(id, Stage::Received)?;
        let record = anonymous(judged.record, id);
        self.write_judgement(id, &record, &judged.files)
            .map_err(SpoolError::io("store a judgement"))?;
        reach("judged.synced");
        let mut db = self.db();
        let change = db.transaction()?;
        set_judged(&change, id, Outcome::of(&record))?;
        note(&change, &verdict(id, &record))?;
        reach("judged.commit");
        change.commit()?;
        reach("judged.recorded");
        drop(db);
        self.announce();
        Ok(())
    }

    /// Stores the result objects and opens a delivery for each destination: after `Ok` they are
    /// durable. Without objects there is nothing to deliver.
    ///
    /// # Errors
    /// [`SpoolError::WrongStage`] unless the scan was judged and not yet rendered,
    /// [`SpoolError::Invalid`] for kinds that are not plain or not unique, failures of disk or
    /// database.
    pub fn rendered(&self, id: ScanId, objects: Vec<Object>) -> Result<(), SpoolError> {
        check_objects(&objects)?;
        self.expect_stage(id, Stage::Judged)?;
        self.write_objects(id, &objects).map_err(SpoolError::io("store result objects"))?;
        reach("rendered.synced");
        let list: Vec<ObjectFile> = objects.iter().map(described).collect();
        let mut db = self.db();
        let change = db.transaction()?;
        set_rendered(&change, id, &list, &self.shared.options.destinations)?;
        reach("rendered.commit");
        change.commit()?;
        reach("rendered.recorded");
        drop(db);
        self.announce();
        Ok(())
    }

    fn next(&self, stage: Stage) -> Result<Option<Work>, SpoolError> {
        let db = self.db();
        let oldest = "SELECT id, tries, sop_class, sop_instance, sender FROM scan
                      WHERE stage = ?1 ORDER BY seq LIMIT 1";
        let row = db.prepare_cached(oldest)?.query_row([stage], |row| {
            let id: String = row.get(0)?;
            Ok((id, row.get(1)?, row.get(2)?, row.get::<_, String>(3)?, row.get(4)?))
        });
        let Some((id, tries, sop_class, sop_instance, from)) = row.optional()? else {
            return Ok(None);
        };
        let id: ScanId = id.parse().map_err(|_| SpoolError::Damaged)?;
        db.execute("UPDATE scan SET tries = tries + 1 WHERE id = ?1", [id.to_string()])?;
        let source = self.shared.layout.source(id, !sop_instance.is_empty());
        Ok(Some(Work { id, tries, source, sop_class, sop_instance, from }))
    }

    fn expect_stage(&self, id: ScanId, wanted: Stage) -> Result<(), SpoolError> {
        match stage_of(&self.db(), id)? {
            None => Err(SpoolError::UnknownScan),
            Some(stage) if stage == wanted => Ok(()),
            Some(_) => Err(SpoolError::WrongStage),
        }
    }

    fn write_judgement(
        &self,
        id: ScanId,
        record: &Record,
        files: &[(String, Vec<u8>)],
    ) -> io::Result<()> {
        let home = self.shared.layout.scan(id);
        for (name, bytes) in files {
            write_file(&home, name, bytes)?;
        }
        // The pictures' names first: a judgement must not outlive what belongs to it.
        sync_dir(&home)?;
        write_file(&home, JUDGEMENT, &serde_json::to_vec(record)?)?;
        sync_dir(&home)
    }

    fn write_objects(&self, id: ScanId, objects: &[Object]) -> io::Result<()> {
        let (home, results) = (self.shared.layout.scan(id), self.shared.layout.results(id));
        fs::create_dir_all(&results)?;
        for object in objects {
            write_file(&results, &format!("{}.dcm", object.kind), &object.bytes)?;
        }
        sync_dir(&results)?;
        sync_dir(&home)?;
        reach("rendered.described");
        let list: Vec<ObjectFile> = objects.iter().map(described).collect();
        write_file(&home, RESULTS, &serde_json::to_vec(&list)?)?;
        sync_dir(&home)
    }
}

/// The stage of a scan, if there is one by this name.
pub(super) fn stage_of(db: &Connection, id: ScanId) -> Result<Option<Stage>, SpoolError> {
    let mut query = db.prepare_cached("SELECT stage FROM scan WHERE id = ?1")?;
    Ok(query.query_row([id.to_string()], |row| row.get(0)).optional()?)
}

/// Moves a row from received to judged.
pub(super) fn set_judged(db: &Connection, id: ScanId, outcome: Outcome) -> Result<(), SpoolError> {
    let rows = db.execute(
        "UPDATE scan SET stage = ?2, outcome = ?3, tries = 0 WHERE id = ?1 AND stage = ?4",
        params![id.to_string(), Stage::Judged, outcome, Stage::Received],
    )?;
    if rows == 1 { Ok(()) } else { Err(SpoolError::WrongStage) }
}

/// Moves a row from judged to rendered and opens its deliveries.
pub(super) fn set_rendered(
    db: &Connection,
    id: ScanId,
    objects: &[ObjectFile],
    destinations: &[super::Rule],
) -> Result<(), SpoolError> {
    let rows = db.execute(
        "UPDATE scan SET stage = ?2, tries = 0 WHERE id = ?1 AND stage = ?3",
        params![id.to_string(), Stage::Rendered, Stage::Judged],
    )?;
    if rows != 1 {
        return Err(SpoolError::WrongStage);
    }
    for object in objects {
        db.execute(
            "INSERT INTO object SELECT seq, ?2, ?3, ?4 FROM scan WHERE id = ?1",
            params![id.to_string(), object.kind, object.sop_class, object.sop_instance],
        )?;
    }
    let destinations = if objects.is_empty() { &[] } else { destinations };
    for rule in destinations {
        db.execute(
            "INSERT INTO delivery (scan, destination, state, wants_commitment)
             SELECT seq, ?2, ?3, ?4 FROM scan WHERE id = ?1",
            params![id.to_string(), rule.name, DeliveryState::Pending, rule.wants_commitment],
        )?;
    }
    Ok(())
}

fn described(object: &Object) -> ObjectFile {
    ObjectFile {
        kind: object.kind.clone(),
        sop_class: object.sop_class.clone(),
        sop_instance: object.sop_instance.clone(),
    }
}

fn check_objects(objects: &[Object]) -> Result<(), SpoolError> {
    if objects.iter().any(|object| !is_plain_name(&object.kind)) {
        return Err(SpoolError::Invalid("an object's kind is not plain"));
    }
    let mut kinds: Vec<&str> = objects.iter().map(|object| object.kind.as_str()).collect();
    kinds.sort_unstable();
    if kinds.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(SpoolError::Invalid("two objects are of one kind"));
    }
    if objects.iter().any(|object| object.sop_instance.len() > 64 || object.sop_class.len() > 64) {
        return Err(SpoolError::Invalid("a UID is too long"));
    }
    Ok(())
}

fn anonymous(record: Record, id: ScanId) -> Record {
    match record {
        Record::Scan(mut scan) => {
            scan.file = id.to_string();
            Record::Scan(scan)
        }
        Record::Failed(mut failed) => {
            failed.file = id.to_string();
            Record::Failed(failed)
        }
    }
}
