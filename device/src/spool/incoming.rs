//! A scan on its way in: bytes first, then the promise.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use rusqlite::{OptionalExtension, params};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::clock::wall_time;
use super::error::SpoolError;
use super::layout::{ARRIVAL, ArrivalFile, source_name};
use super::stage::Stage;
use super::untold::note;
use super::{Spool, locked_mutex};
use crate::audit::Entry;
use crate::durable::{sync_dir, write_file};
use crate::event::ScanId;
use crate::failpoint::reach;

/// Bytes between two looks at the disk's free space.
const LOOK_EVERY: u64 = 4 << 20;

/// The name of the file while it is received.
const UNNAMED: &str = "source";

/// What a received scan is. Texts may have 64 bytes at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// SOP Class UID; empty for a plain picture.
    pub sop_class: String,
    /// SOP Instance UID, the scan's identity; empty for a plain picture, which is identified by
    /// its bytes.
    pub sop_instance: String,
    /// Transfer syntax UID of the stored bytes; empty for a plain picture.
    pub transfer_syntax: String,
    /// Calling AE title, or `folder`.
    pub from: String,
}

/// A scan that is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// Its name.
    pub id: ScanId,
    /// Whether it was not there before.
    pub is_new: bool,
}

/// A scan being received. Dropped without [`Incoming::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct Incoming {
    spool: Spool,
    dir: PathBuf,
    file: File,
    digest: Sha256,
    bytes: u64,
    looked_at: u64,
    is_placed: bool,
}

impl Spool {
    /// Begins to receive a scan.
    ///
    /// # Errors
    /// [`SpoolError::DiskFull`] under the watermark: the sender must try later;
    /// [`SpoolError::ReadOnly`]; any other failure of the disk.
    pub fn begin(&self) -> Result<Incoming, SpoolError> {
        if self.is_full()? {
            return Err(SpoolError::DiskFull);
        }
        let dir = self.shared.layout.incoming().join(self.next_number());
        let made = || -> io::Result<File> {
            fs::create_dir(&dir)?;
            File::create(dir.join(UNNAMED))
        };
        let file = made().map_err(|error| {
            let _ = fs::remove_dir_all(&dir);
            SpoolError::io("begin a scan")(error)
        })?;
        reach("incoming.begun");
        Ok(Incoming {
            spool: self.clone(),
            dir,
            file,
            digest: Sha256::new(),
            bytes: 0,
            looked_at: 0,
            is_placed: false,
        })
    }
}

impl Incoming {
    /// Bytes received so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the scan durable: after `Ok` the sender may be told that it is kept.
    ///
    /// The same bytes under the same SOP Instance UID are accepted again without effect, so the
    /// bytes must not depend on who sends them or when. What expired or was lost is accepted anew.
    /// After an error the sender must send again.
    ///
    /// # Errors
    /// [`SpoolError::Conflict`] when other bytes came under this UID before: those stay;
    /// [`SpoolError::Invalid`] for an empty scan or over-long texts; [`SpoolError::DiskFull`],
    /// [`SpoolError::ReadOnly`], any other failure of disk or database.
    pub fn commit(mut self, arrival: Arrival) -> Result<Accepted, SpoolError> {
        check(&arrival, self.bytes)?;
        self.file.sync_all().map_err(SpoolError::io("sync a scan"))?;
        reach("incoming.synced");
        let described = self.described(arrival);
        let id = name(&described)?;
        let spool = self.spool.clone();
        let _placing = locked_mutex(&spool.shared.placing);
        if let Some(before) = spool.digest_of_live(id)? {
            return match before == (described.sha256, described.sop_instance) {
                true => Ok(Accepted { id, is_new: false }),
                false => Err(SpoolError::Conflict),
            };
        }
        self.place(id, &described).map_err(SpoolError::io("store a scan"))?;
        spool.record_arrival(id, &described)?;
        spool.announce();
        Ok(Accepted { id, is_new: true })
    }

    fn described(&mut self, arrival: Arrival) -> ArrivalFile {
        ArrivalFile {
            sop_class: arrival.sop_class,
            sop_instance: arrival.sop_instance,
            transfer_syntax: arrival.transfer_syntax,
            from: arrival.from,
            sha256: hex::encode(std::mem::take(&mut self.digest).finalize()),
            bytes: self.bytes,
            received: wall_time(),
        }
    }

    /// Completes the folder and moves it as a whole to where scans are.
    fn place(&mut self, id: ScanId, described: &ArrivalFile) -> io::Result<()> {
        let name = source_name(!described.sop_instance.is_empty());
        if name != UNNAMED {
            fs::rename(self.dir.join(UNNAMED), self.dir.join(name))?;
        }
        write_file(&self.dir, ARRIVAL, &serde_json::to_vec(described)?)?;
        sync_dir(&self.dir)?;
        reach("incoming.described");
        // A folder without a live row was never promised, has expired, or is incomplete.
        self.spool.discard(id)?;
        let layout = &self.spool.shared.layout;
        fs::rename(&self.dir, layout.scan(id))?;
        self.is_placed = true;
        reach("incoming.renamed");
        sync_dir(&layout.scans())?;
        reach("incoming.placed");
        Ok(())
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let options = &self.spool.shared.options;
        if self.bytes.saturating_add(bytes.len() as u64) > options.max_scan {
            return Err(SpoolError::TooLarge(options.max_scan).into());
        }
        if self.bytes - self.looked_at >= LOOK_EVERY {
            self.looked_at = self.bytes;
            if self.spool.is_full()? {
                return Err(SpoolError::DiskFull.into());
            }
        }
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.is_placed {
            // What cannot be removed now is swept at the next start.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Spool {
    /// Digest and SOP Instance UID of a scan whose content is here.
    fn digest_of_live(&self, id: ScanId) -> Result<Option<(String, String)>, SpoolError> {
        let db = self.db();
        let mut query = db.prepare_cached(
            "SELECT sha256, sop_instance FROM scan
             WHERE id = ?1 AND stage NOT IN ('expired', 'lost')",
        )?;
        let row = query.query_row([id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)));
        Ok(row.optional()?)
    }

    fn record_arrival(&self, id: ScanId, arrival: &ArrivalFile) -> Result<(), SpoolError> {
        let mut db = self.db();
        let change = db.transaction()?;
        change.execute("DELETE FROM scan WHERE id = ?1", [id.to_string()])?;
        insert_arrival(&change, id, arrival, self.shared.clock.now())?;
        note(&change, &Entry::Received { scan: id, from: arrival.from.clone() })?;
        self.shared.clock.save(&change)?;
        reach("incoming.commit");
        change.commit()?;
        reach("incoming.recorded");
        Ok(())
    }
}

/// Adds a scan's row in stage received.
pub(super) fn insert_arrival(
    db: &rusqlite::Connection,
    id: ScanId,
    arrival: &ArrivalFile,
    born: i64,
) -> Result<(), SpoolError> {
    db.execute(
        "INSERT INTO scan (id, stage, sop_class, sop_instance, transfer_syntax, sender, sha256,
                           bytes, received, born)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            id.to_string(),
            Stage::Received,
            arrival.sop_class,
            arrival.sop_instance,
            arrival.transfer_syntax,
            arrival.from,
            arrival.sha256,
            i64::try_from(arrival.bytes).unwrap_or(i64::MAX),
            arrival.received,
            born,
        ],
    )?;
    Ok(())
}

fn check(arrival: &Arrival, bytes: u64) -> Result<(), SpoolError> {
    let texts =
        [&arrival.sop_class, &arrival.sop_instance, &arrival.transfer_syntax, &arrival.from];
    if texts.iter().any(|text| text.len() > 64) {
        return Err(SpoolError::Invalid("a UID or AE title is too long"));
    }
    if bytes == 0 {
        return Err(SpoolError::Invalid("the scan is empty"));
    }
    Ok(())
}

/// The name of a described scan: of its UID, else of its bytes.
pub(super) fn name(arrival: &ArrivalFile) -> Result<ScanId, SpoolError> {
    if !arrival.sop_instance.is_empty() {
        return Ok(ScanId::of(arrival.sop_instance.as_bytes()));
    }
    let head = arrival.sha256.get(..16).and_then(|head| head.parse().ok());
    head.ok_or(SpoolError::Invalid("not a digest"))
}
