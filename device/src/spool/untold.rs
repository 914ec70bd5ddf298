//! What happened, as long as it is not sure that the audit trail was told.
//!
//! A kill between a change and its entry in the trail must not cost the entry. So the change
//! writes its entry here, in its own transaction, and the entry goes a little after it was told.
//! What a start finds here may have been told or not: the trail knows.

use rusqlite::Connection;

use super::error::SpoolError;
use super::{Spool, locked_mutex};
use crate::audit::Entry;
use crate::event::ScanId;
use crate::record::Record;

impl Spool {
    /// Entries that the audit trail may lack, oldest first. To be asked before anything else
    /// changes, that is at a start.
    ///
    /// # Errors
    /// Failures of the database.
    pub fn untold(&self) -> Result<Vec<Entry>, SpoolError> {
        let db = self.db();
        let mut query = db.prepare("SELECT entry FROM untold ORDER BY number")?;
        let rows = query.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|text| serde_json::from_str(&text?).map_err(|_| SpoolError::Damaged)).collect()
    }

    /// The audit trail has all of [`Spool::untold`].
    ///
    /// # Errors
    /// Failures of the database.
    pub fn told_all(&self) -> Result<(), SpoolError> {
        self.db().execute("DELETE FROM untold", [])?;
        Ok(())
    }

    /// The audit trail has this entry. Written down with the next [`Spool::expire`].
    pub fn told(&self, entry: &Entry) {
        locked_mutex(&self.shared.told).extend(serde_json::to_string(entry));
    }

    /// Forgets what was told, inside the caller's transaction; returns how many entries.
    pub(super) fn forget_told(&self, change: &Connection) -> Result<usize, SpoolError> {
        let told = locked_mutex(&self.shared.told);
        let mut forget = change.prepare_cached("DELETE FROM untold WHERE entry = ?1")?;
        for entry in told.iter() {
            forget.execute([entry])?;
        }
        Ok(told.len())
    }

    /// The transaction of [`Spool::forget_told`] is durable.
    pub(super) fn forgot(&self, count: usize) {
        locked_mutex(&self.shared.told).drain(..count);
    }
}

/// Notes an entry inside the transaction of what it tells.
pub(super) fn note(change: &Connection, entry: &Entry) -> Result<(), SpoolError> {
    let text = serde_json::to_string(entry).map_err(|_| SpoolError::Invalid("an audit entry"))?;
    change.execute("INSERT INTO untold (entry) VALUES (?1)", [text])?;
    Ok(())
}

/// What the trail tells of a judgement.
pub(super) fn verdict(scan: ScanId, record: &Record) -> Entry {
    match record {
        Record::Failed(_) => Entry::Unjudged { scan },
        Record::Scan(record) => {
            Entry::Judged { scan, verdict: record.verdict, bundle: record.bundle.digest.clone() }
        }
    }
}
