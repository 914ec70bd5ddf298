//! The spool's database: its tables, and what is done about a damaged one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::error::SpoolError;
use crate::durable::sync_dir;

/// Changes when the tables do. A database of another version is set aside and rebuilt.
const VERSION: i64 = 2;

const TABLES: &str = "
    CREATE TABLE scan (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        stage TEXT NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        sop_class TEXT NOT NULL,
        sop_instance TEXT NOT NULL,
        transfer_syntax TEXT NOT NULL,
        sender TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        received INTEGER NOT NULL,
        born INTEGER NOT NULL,
        outcome TEXT,
        acknowledged_by TEXT,
        acknowledged_at INTEGER,
        removed INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX scan_stage ON scan (stage, seq);
    CREATE TABLE object (
        scan INTEGER NOT NULL REFERENCES scan (seq) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        sop_class TEXT NOT NULL,
        sop_instance TEXT NOT NULL,
        PRIMARY KEY (scan, kind)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX object_instance ON object (sop_instance);
    CREATE TABLE delivery (
        scan INTEGER NOT NULL REFERENCES scan (seq) ON DELETE CASCADE,
        destination TEXT NOT NULL,
        state TEXT NOT NULL,
        wants_commitment INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        reason TEXT,
        txn TEXT,
        PRIMARY KEY (scan, destination)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX delivery_state ON delivery (destination, state, scan);
    CREATE TABLE committed (
        scan INTEGER NOT NULL REFERENCES scan (seq) ON DELETE CASCADE,
        destination TEXT NOT NULL,
        kind TEXT NOT NULL,
        PRIMARY KEY (scan, destination, kind)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE untold (number INTEGER PRIMARY KEY AUTOINCREMENT, entry TEXT NOT NULL) STRICT;
    CREATE TABLE running (one INTEGER PRIMARY KEY CHECK (one = 1), ms INTEGER NOT NULL) STRICT;
    INSERT INTO running VALUES (1, 0);
";

/// Opens the database, or a new one where it is missing or damaged.
///
/// Returns also where a damaged one was kept.
pub(super) fn open(path: &Path) -> Result<(Connection, Option<PathBuf>), SpoolError> {
    match open_sound(path) {
        Err(SpoolError::Damaged) => {
            let kept = set_aside(path).map_err(SpoolError::io("set the database aside"))?;
            Ok((open_sound(path)?, Some(kept)))
        }
        opened => Ok((opened?, None)),
    }
}

fn open_sound(path: &Path) -> Result<Connection, SpoolError> {
    let mut db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(5))?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        let change = db.transaction()?;
        change.execute_batch(TABLES)?;
        change.pragma_update(None, "user_version", VERSION)?;
        change.commit()?;
    }
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let check: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if version != VERSION || check != "ok" {
        return Err(SpoolError::Damaged);
    }
    if let Some(dir) = path.parent() {
        sync_dir(dir).map_err(SpoolError::io("sync the spool's folder"))?;
    }
    Ok(db)
}

/// Renames the database and its journal to the first free number.
fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let numbered = |n: u32| path.with_file_name(format!("damaged-{n}.sqlite"));
    let free = (1..u32::MAX).map(numbered).find(|kept| !kept.exists());
    let kept = free.unwrap_or_else(|| numbered(u32::MAX));
    let with = |base: &Path, end: &str| {
        let mut name = base.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    // The database first: a journal without its database is discarded, one without its journal
    // would be read as an older state.
    fs::rename(path, &kept)?;
    if with(path, "-wal").exists() {
        fs::rename(with(path, "-wal"), with(&kept, "-wal"))?;
    }
    if with(path, "-shm").exists() {
        fs::remove_file(with(path, "-shm"))?;
    }
    if let Some(dir) = path.parent() {
        sync_dir(dir)?;
    }
    Ok(kept)
}
