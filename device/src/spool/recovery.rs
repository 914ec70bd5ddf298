//! What a start finds after an abrupt end, and what it does about it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::error::SpoolError;
use super::incoming::{insert_arrival, name};
use super::layout::{
    ARRIVAL, ArrivalFile, JUDGEMENT, Layout, ObjectFile, RESULTS, file_size, read_json, source_name,
};
use super::stage::{Outcome, Stage};
use super::untold::note;
use super::work::{set_judged, set_rendered};
use super::{Options, Rule};
use crate::audit::Entry;
use crate::durable::{UNFINISHED, sync_dir};
use crate::event::ScanId;
use crate::failpoint::reach;
use crate::record::Record;

/// What a start found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Where a damaged database was kept; a new one was built from the scans' folders, and all
    /// deliveries are repeated.
    pub damaged_database: Option<PathBuf>,
    /// Unfinished files and folders that were removed; their senders had no promise.
    pub swept: usize,
    /// Scans whose folder was complete but which the database did not know.
    pub adopted: Vec<ScanId>,
    /// Scans that the database knows but whose content is gone: a human must know.
    pub lost: Vec<ScanId>,
    /// Scans whose judgement or results are gone, and which are judged or rendered again.
    pub set_back: Vec<ScanId>,
    /// Folders moved to `damaged/` because they cannot be understood.
    pub unreadable: Vec<ScanId>,
    /// Destinations that are no longer configured but have deliveries waiting: a human must
    /// configure them again or abandon those.
    pub unknown_destinations: Vec<String>,
}

/// Makes folders and database agree, where a `damaged_database` may have been replaced.
pub(super) fn recover(
    db: &mut Connection,
    layout: &Layout,
    options: &Options,
    damaged_database: Option<PathBuf>,
) -> Result<Recovery, SpoolError> {
    let cannot = SpoolError::io("mend the spool");
    let mut recovery = Recovery { damaged_database, ..Recovery::default() };
    for dir in [layout.incoming(), layout.trash()] {
        recovery.swept += swept(&dir, |_| true).map_err(&cannot)?;
    }
    let change = db.transaction()?;
    let born: i64 = change.query_row("SELECT ms FROM running", [], |row| row.get(0))?;
    let mut rows = rows(&change)?;
    let mut strays = Vec::new();
    for id in folders(&layout.scans()).map_err(&cannot)? {
        sweep_scan(layout, id, &mut recovery).map_err(&cannot)?;
        match rows.remove(&id) {
            Some(Stage::Expired) => set_removed(&change, id, false)?,
            Some(Stage::Lost) | None => strays.push(id),
            Some(stage) => set_back(&change, layout, id, stage, &mut recovery)?,
        }
    }
    for stray in adoptable(layout, strays, &mut recovery).map_err(&cannot)? {
        adopt(&change, layout, &stray, born, &options.destinations)?;
        recovery.adopted.push(stray.id);
    }
    // Rows that are left have no folder.
    for (id, stage) in rows {
        match stage {
            Stage::Lost => {}
            Stage::Expired => set_removed(&change, id, true)?,
            _ => mark_lost(&change, id, &mut recovery)?,
        }
    }
    follow_configuration(&change, &options.destinations, &mut recovery)?;
    for entry in told_of(&recovery) {
        note(&change, &entry)?;
    }
    reach("recovery.commit");
    change.commit()?;
    reach("recovery.committed");
    Ok(recovery)
}

/// What the audit trail is told of what a start found.
fn told_of(recovery: &Recovery) -> Vec<Entry> {
    let mut entries: Vec<Entry> =
        recovery.set_back.iter().map(|scan| Entry::SetBack { scan: *scan }).collect();
    entries.extend(recovery.lost.iter().map(|scan| Entry::Lost { scan: *scan }));
    if recovery.damaged_database.is_some() {
        // Every scan is taken up again, nearly all of which the trail knows.
        entries.push(Entry::Rebuilt);
    } else {
        entries.extend(recovery.adopted.iter().map(|scan| Entry::Adopted { scan: *scan }));
    }
    entries
}

/// Every row's stage.
fn rows(db: &Connection) -> Result<HashMap<ScanId, Stage>, SpoolError> {
    let mut query = db.prepare("SELECT id, stage FROM scan")?;
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    rows.map(|row| {
        let (id, stage) = row?;
        Ok((id.parse().map_err(|_| SpoolError::Damaged)?, stage))
    })
    .collect()
}

/// The scans' folders; what is not named like a scan is not ours and left alone.
fn folders(scans: &Path) -> io::Result<Vec<ScanId>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(scans)? {
        let name = entry?.file_name();
        ids.extend(name.to_str().and_then(|name| name.parse::<ScanId>().ok()));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Removes entries of a folder; returns how many.
pub(super) fn swept(dir: &Path, is_rubbish: impl Fn(&str) -> bool) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !is_rubbish(&entry.file_name().to_string_lossy()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
        count += 1;
    }
    Ok(count)
}

fn sweep_scan(layout: &Layout, id: ScanId, recovery: &mut Recovery) -> io::Result<()> {
    let unfinished = |name: &str| name.starts_with('.') && name.ends_with(UNFINISHED);
    recovery.swept += swept(&layout.scan(id), unfinished)?;
    if layout.results(id).is_dir() {
        recovery.swept += swept(&layout.results(id), unfinished)?;
    }
    Ok(())
}

/// What a folder proves about its scan.
enum Proof {
    /// There is no source.
    Nothing,
    Received,
    Judged(Outcome),
    Rendered(Outcome, Vec<ObjectFile>),
}

impl Proof {
    fn of(layout: &Layout, id: ScanId, is_dicom: bool) -> Self {
        if file_size(&layout.source(id, is_dicom)).is_none() {
            return Self::Nothing;
        }
        let home = layout.scan(id);
        let Some(record) = read_json::<Record>(&home.join(JUDGEMENT)) else {
            return Self::Received;
        };
        let outcome = Outcome::of(&record);
        let Some(objects) = read_json::<Vec<ObjectFile>>(&home.join(RESULTS)) else {
            return Self::Judged(outcome);
        };
        let is_there = |object: &ObjectFile| file_size(&layout.object(id, &object.kind)).is_some();
        match objects.iter().all(is_there) {
            true => Self::Rendered(outcome, objects),
            false => Self::Judged(outcome),
        }
    }
}

/// Sets a row back to what its folder proves. A folder that proves more is of a step that ended
/// before it was recorded; it is repeated.
fn set_back(
    db: &Connection,
    layout: &Layout,
    id: ScanId,
    stage: Stage,
    recovery: &mut Recovery,
) -> Result<(), SpoolError> {
    let is_dicom = db.query_row(
        "SELECT sop_instance <> '' FROM scan WHERE id = ?1",
        [id.to_string()],
        |row| row.get(0),
    )?;
    let proven = match Proof::of(layout, id, is_dicom) {
        Proof::Nothing => return mark_lost(db, id, recovery),
        Proof::Received => Stage::Received,
        Proof::Judged(_) => Stage::Judged,
        Proof::Rendered(..) => return Ok(()),
    };
    let is_proven = match stage {
        Stage::Judged => proven == Stage::Judged,
        Stage::Rendered => false,
        _ => true,
    };
    if !is_proven {
        let scan = "(SELECT seq FROM scan WHERE id = ?1)";
        for table in ["object", "delivery", "committed"] {
            db.execute(&format!("DELETE FROM {table} WHERE scan = {scan}"), [id.to_string()])?;
        }
        db.execute("UPDATE scan SET stage = ?2 WHERE id = ?1", params![id.to_string(), proven])?;
        recovery.set_back.push(id);
    }
    Ok(())
}

/// A complete folder without a row.
struct Stray {
    id: ScanId,
    arrival: ArrivalFile,
}

/// Sorts out folders without a row: complete ones, by arrival; others go.
fn adoptable(
    layout: &Layout,
    strays: Vec<ScanId>,
    recovery: &mut Recovery,
) -> io::Result<Vec<Stray>> {
    let mut adoptable = Vec::new();
    for id in strays {
        let home = layout.scan(id);
        if !home.join(ARRIVAL).exists() {
            fs::remove_dir_all(&home)?;
            recovery.swept += 1;
            continue;
        }
        match read_json::<ArrivalFile>(&home.join(ARRIVAL)).filter(|a| is_sound(&home, id, a)) {
            Some(arrival) => adoptable.push(Stray { id, arrival }),
            None => {
                keep_damaged(layout, id)?;
                recovery.unreadable.push(id);
            }
        }
    }
    adoptable.sort_by_key(|stray| (stray.arrival.received, stray.id));
    Ok(adoptable)
}

/// Whether a folder holds what its description says.
fn is_sound(home: &Path, id: ScanId, arrival: &ArrivalFile) -> bool {
    let source = home.join(source_name(!arrival.sop_instance.is_empty()));
    name(arrival).is_ok_and(|name| name == id) && file_size(&source) == Some(arrival.bytes)
}

/// Moves a folder to the first free name in `damaged/`.
fn keep_damaged(layout: &Layout, id: ScanId) -> io::Result<()> {
    let numbered = |n: u32| layout.damaged().join(format!("{id}-{n}"));
    let free = (1..u32::MAX).map(numbered).find(|kept| !kept.exists());
    fs::rename(layout.scan(id), free.unwrap_or_else(|| numbered(u32::MAX)))?;
    sync_dir(&layout.damaged())?;
    sync_dir(&layout.scans())
}

fn adopt(
    db: &Connection,
    layout: &Layout,
    stray: &Stray,
    born: i64,
    destinations: &[Rule],
) -> Result<(), SpoolError> {
    let Stray { id, arrival } = stray;
    db.execute("DELETE FROM scan WHERE id = ?1", [id.to_string()])?;
    insert_arrival(db, *id, arrival, born)?;
    match Proof::of(layout, *id, !arrival.sop_instance.is_empty()) {
        Proof::Nothing | Proof::Received => Ok(()),
        Proof::Judged(outcome) => set_judged(db, *id, outcome),
        Proof::Rendered(outcome, objects) => {
            set_judged(db, *id, outcome)?;
            set_rendered(db, *id, &objects, destinations)
        }
    }
}

fn mark_lost(db: &Connection, id: ScanId, recovery: &mut Recovery) -> Result<(), SpoolError> {
    let change = "UPDATE scan SET stage = ?2, acknowledged_by = NULL WHERE id = ?1";
    db.execute(change, params![id.to_string(), Stage::Lost])?;
    recovery.lost.push(id);
    Ok(())
}

/// Says whether an expired scan's folder is gone.
fn set_removed(db: &Connection, id: ScanId, is_removed: bool) -> Result<(), SpoolError> {
    let change = "UPDATE scan SET removed = ?2 WHERE id = ?1";
    db.execute(change, params![id.to_string(), is_removed])?;
    Ok(())
}

/// Open deliveries want commitment as the configuration now says; unknown destinations are told.
fn follow_configuration(
    db: &Connection,
    destinations: &[Rule],
    recovery: &mut Recovery,
) -> Result<(), SpoolError> {
    for rule in destinations {
        // What was delivered without wanting commitment stays done.
        db.execute(
            "UPDATE delivery SET wants_commitment = ?2 WHERE destination = ?1
             AND (state IN ('pending', 'dead') OR (state = 'delivered' AND NOT ?2))",
            params![rule.name, rule.wants_commitment],
        )?;
    }
    let open = "SELECT DISTINCT destination FROM delivery JOIN scan ON scan.seq = delivery.scan
                WHERE stage = 'rendered' AND (state IN ('pending', 'dead')
                      OR (state = 'delivered' AND wants_commitment))
                ORDER BY destination";
    let names =
        db.prepare(open)?.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    let is_unknown = |name: &String| !destinations.iter().any(|rule| rule.name == *name);
    recovery.unknown_destinations = names.into_iter().filter(is_unknown).collect();
    Ok(())
}
