//! Where results go: what is due, retries, dead letters and storage commitment.
//!
//! One worker per destination asks [`Spool::due`] and answers with [`Spool::delivered`],
//! [`Spool::retry`] or [`Spool::give_up`]. A worker that dies in between has lost nothing: the
//! delivery is due again, and the receiver sees the same UIDs.
//!
//! Where a destination is asked for storage commitment (DICOM PS3.4 annex J), the worker then asks
//! [`Spool::commitment_due`], requests it, tells [`Spool::requested`], and passes what the
//! destination reports to [`Spool::committed`] or [`Spool::retry`].

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::error::SpoolError;
use super::stage::DeliveryState;
use super::untold::note;
use super::{Retry, Spool, locked_mutex};
use crate::audit::Entry;
use crate::event::ScanId;
use crate::failpoint::reach;

/// Most bytes of a reason kept for a failed delivery.
const LONGEST_REASON: usize = 200;

/// The results of one scan for one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Which scan.
    pub id: ScanId,
    /// The destination's name in the configuration.
    pub destination: String,
    /// How often it was tried before.
    pub attempts: u32,
    /// What to send, or to ask commitment for.
    pub objects: Vec<ObjectPath>,
}

/// A result object on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPath {
    /// What it is in one plain word.
    pub kind: String,
    /// SOP Class UID.
    pub sop_class: String,
    /// SOP Instance UID.
    pub sop_instance: String,
    /// A DICOM file (PS3.10).
    pub path: PathBuf,
}

/// What a destination's worker should do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// This, now.
    Now(Delivery),
    /// Nothing for this long, unless something changes: see [`Spool::wait`].
    In(Duration),
    /// Nothing until something changes.
    Nothing,
}

/// What becomes of a delivery that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It is tried again.
    Again {
        /// How often it was tried.
        attempts: u32,
        /// When.
        after: Duration,
    },
    /// It was tried often enough and is now a dead letter.
    Dead,
}

impl Spool {
    /// What to send to a destination now: the oldest pending delivery whose wait is over.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn due(&self, destination: &str) -> Result<Due, SpoolError> {
        self.due_in(
            destination,
            "SELECT scan.id, delivery.attempts FROM delivery
             JOIN scan ON scan.seq = delivery.scan
             WHERE destination = ?1 AND delivery.state = 'pending' AND scan.stage = 'rendered'
             ORDER BY delivery.scan",
        )
    }

    /// What to ask a destination's storage commitment for now: the oldest delivered results not
    /// yet committed that were not asked for, or asked for too long ago.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn commitment_due(&self, destination: &str) -> Result<Due, SpoolError> {
        self.due_in(
            destination,
            "SELECT scan.id, delivery.attempts FROM delivery
             JOIN scan ON scan.seq = delivery.scan
             WHERE destination = ?1 AND delivery.state = 'delivered' AND wants_commitment
                   AND scan.stage = 'rendered'
             ORDER BY delivery.scan",
        )
    }

    /// The destination has all objects of a scan. Saying so again does nothing.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] without such a delivery; failures of the database.
    pub fn delivered(&self, id: ScanId, destination: &str) -> Result<(), SpoolError> {
        self.change(id, destination, |change, row| match row.state {
            DeliveryState::Pending | DeliveryState::Dead => {
                set(change, row, DeliveryState::Delivered, 0, None)?;
                let destination = destination.to_owned();
                note(change, &Entry::Delivered { scan: id, destination })
            }
            _ => Ok(()),
        })?;
        self.forget_timer(id, destination);
        Ok(())
    }

    /// A delivery failed, or the destination will not commit to it, for a reason that may pass:
    /// it is sent again after a wait, or given up after [`Retry::attempts`].
    ///
    /// The reason is shown to users: words of ours, never received ones.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] without such a delivery, [`SpoolError::WrongStage`] when it is
    /// already done or given up; failures of the database.
    pub fn retry(
        &self,
        id: ScanId,
        destination: &str,
        reason: &str,
    ) -> Result<Outlook, SpoolError> {
        self.count(id, destination, |change, row, retry| {
            let attempts = row.attempts.saturating_add(1);
            if attempts >= retry.attempts {
                set(change, row, DeliveryState::Dead, attempts, Some(reason))?;
                return Ok(Outlook::Dead);
            }
            set(change, row, DeliveryState::Pending, attempts, Some(reason))?;
            Ok(Outlook::Again { attempts, after: retry.wait(attempts) })
        })
    }

    /// Storage commitment was requested under a Transaction UID, or could not be. Without an
    /// answer it is requested again after a wait; when it was requested [`Retry::attempts`] times
    /// before, the delivery becomes a dead letter.
    ///
    /// # Errors
    /// As [`Spool::retry`]; [`SpoolError::Invalid`] for an over-long UID.
    pub fn requested(
        &self,
        id: ScanId,
        destination: &str,
        transaction: &str,
    ) -> Result<Outlook, SpoolError> {
        if transaction.len() > 64 {
            return Err(SpoolError::Invalid("a UID is too long"));
        }
        self.count(id, destination, |change, row, retry| {
            let reason = Some("storage commitment was not answered");
            let attempts = row.attempts.saturating_add(1);
            if attempts > retry.attempts {
                set(change, row, DeliveryState::Dead, row.attempts, reason)?;
                return Ok(Outlook::Dead);
            }
            set(change, row, DeliveryState::Delivered, attempts, reason)?;
            change.execute(
                "UPDATE delivery SET txn = ?3 WHERE scan = ?1 AND destination = ?2",
                params![row.scan, row.destination, transaction],
            )?;
            Ok(Outlook::Again { attempts, after: retry.wait(attempts) })
        })
    }

    /// Which scan a Transaction UID of a destination's storage commitment was for.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn requested_as(
        &self,
        destination: &str,
        transaction: &str,
    ) -> Result<Option<ScanId>, SpoolError> {
        let db = self.db();
        let mut query = db.prepare_cached(
            "SELECT scan.id FROM delivery JOIN scan ON scan.seq = delivery.scan
             WHERE destination = ?1 AND txn = ?2",
        )?;
        let id: Option<String> =
            query.query_row([destination, transaction], |row| row.get(0)).optional()?;
        id.map(|id| id.parse().map_err(|_| SpoolError::Damaged)).transpose()
    }

    /// The destination promised to keep these objects; returns the scans whose delivery is thereby
    /// complete. UIDs of others are ignored.
    ///
    /// # Errors
    /// Failures of the database.
    pub fn committed(
        &self,
        destination: &str,
        sop_instances: &[String],
    ) -> Result<Vec<ScanId>, SpoolError> {
        let mut db = self.db();
        let change = db.transaction()?;
        for uid in sop_instances {
            change.execute(
                "INSERT OR IGNORE INTO committed
                 SELECT object.scan, ?1, object.kind FROM object JOIN delivery
                 ON delivery.scan = object.scan AND destination = ?1
                 WHERE sop_instance = ?2 AND state IN ('delivered', 'dead')",
                [destination, uid],
            )?;
        }
        let kinds = self.kinds(destination);
        if !kinds.is_empty() {
            // What it does not get needs no promise.
            change.execute(
                "INSERT OR IGNORE INTO committed SELECT scan, ?1, kind FROM object
                 WHERE scan IN (SELECT scan FROM committed WHERE destination = ?1)
                       AND kind NOT IN (SELECT value FROM json_each(?2))",
                params![destination, serde_json::json!(kinds).to_string()],
            )?;
        }
        let complete = complete_commitments(&change, destination)?;
        for scan in &complete {
            let destination = destination.to_owned();
            note(&change, &Entry::Committed { scan: *scan, destination })?;
        }
        reach("delivery.commit");
        change.commit()?;
        reach("delivery.committed");
        drop(db);
        complete.iter().for_each(|id| self.forget_timer(*id, destination));
        self.announce();
        Ok(complete)
    }

    /// A delivery can never succeed: it becomes a dead letter with this reason.
    ///
    /// The reason is shown to users: words of ours, never received ones.
    ///
    /// # Errors
    /// As [`Spool::retry`].
    pub fn give_up(&self, id: ScanId, destination: &str, reason: &str) -> Result<(), SpoolError> {
        self.change(id, destination, |change, row| {
            row.expect_open()?;
            set(change, row, DeliveryState::Dead, row.attempts, Some(reason))
        })?;
        self.forget_timer(id, destination);
        Ok(())
    }

    /// A human sends a dead or abandoned letter again: it is due at once, with fresh attempts.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] without such a delivery, [`SpoolError::WrongStage`] when the
    /// content has expired or the delivery was not given up; failures of the database.
    pub fn redeliver(&self, id: ScanId, destination: &str) -> Result<(), SpoolError> {
        self.change(id, destination, |change, row| match row.state {
            DeliveryState::Dead | DeliveryState::Abandoned if row.has_content => {
                set(change, row, DeliveryState::Pending, 0, None)
            }
            _ => Err(SpoolError::WrongStage),
        })?;
        self.forget_timer(id, destination);
        Ok(())
    }

    /// A human decides that a delivery is not needed, so that the content may expire.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] without such a delivery, [`SpoolError::WrongStage`] when it is
    /// already done; failures of the database.
    pub fn abandon(&self, id: ScanId, destination: &str) -> Result<(), SpoolError> {
        self.change(id, destination, |change, row| match row.state {
            DeliveryState::Committed => Err(SpoolError::WrongStage),
            _ => set(change, row, DeliveryState::Abandoned, row.attempts, None),
        })?;
        self.forget_timer(id, destination);
        Ok(())
    }

    fn due_in(&self, destination: &str, query: &str) -> Result<Due, SpoolError> {
        let db = self.db();
        let mut query = db.prepare_cached(query)?;
        let mut rows = query.query([destination])?;
        let now = Instant::now();
        let mut soonest: Option<Duration> = None;
        while let Some(row) = rows.next()? {
            let id: String = row.get(0)?;
            let id: ScanId = id.parse().map_err(|_| SpoolError::Damaged)?;
            let wait = self.wait_for(id, destination, now);
            if wait.is_zero() {
                let attempts = row.get(1)?;
                let objects = self.objects(&db, id, destination)?;
                let destination = destination.to_string();
                return Ok(Due::Now(Delivery { id, destination, attempts, objects }));
            }
            soonest = Some(soonest.map_or(wait, |least| least.min(wait)));
        }
        Ok(soonest.map_or(Due::Nothing, Due::In))
    }

    fn wait_for(&self, id: ScanId, destination: &str, now: Instant) -> Duration {
        let timers = locked_mutex(&self.shared.timers);
        let at = timers.get(&(id, destination.to_string()));
        at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    fn objects(
        &self,
        db: &Connection,
        id: ScanId,
        destination: &str,
    ) -> Result<Vec<ObjectPath>, SpoolError> {
        let kinds = self.kinds(destination);
        let mut query = db.prepare_cached(
            "SELECT kind, object.sop_class, object.sop_instance FROM object
             JOIN scan ON scan.seq = object.scan WHERE id = ?1 ORDER BY kind",
        )?;
        let rows = query.query_map([id.to_string()], |row| {
            let kind: String = row.get(0)?;
            Ok(ObjectPath {
                path: self.shared.layout.object(id, &kind),
                kind,
                sop_class: row.get(1)?,
                sop_instance: row.get(2)?,
            })
        })?;
        let mut objects = rows.collect::<Result<Vec<ObjectPath>, _>>()?;
        objects.retain(|object| kinds.is_empty() || kinds.contains(&object.kind));
        Ok(objects)
    }

    /// Counts an attempt on an open delivery and sets the timer that its outlook asks for.
    fn count(
        &self,
        id: ScanId,
        destination: &str,
        how: impl FnOnce(&Transaction<'_>, &Row, &Retry) -> Result<Outlook, SpoolError>,
    ) -> Result<Outlook, SpoolError> {
        let outlook = self.change(id, destination, |change, row| {
            row.expect_open()?;
            how(change, row, &self.shared.options.retry)
        })?;
        match outlook {
            Outlook::Dead => self.forget_timer(id, destination),
            Outlook::Again { after, .. } => {
                let at = Instant::now() + after;
                locked_mutex(&self.shared.timers).insert((id, destination.to_string()), at);
            }
        }
        Ok(outlook)
    }

    /// Changes one delivery in a transaction of its own.
    fn change<T>(
        &self,
        id: ScanId,
        destination: &str,
        how: impl FnOnce(&Transaction<'_>, &Row) -> Result<T, SpoolError>,
    ) -> Result<T, SpoolError> {
        let mut db = self.db();
        let change = db.transaction()?;
        let row = Row::read(&change, id, destination)?;
        let result = how(&change, &row)?;
        reach("delivery.commit");
        change.commit()?;
        reach("delivery.committed");
        drop(db);
        self.announce();
        Ok(result)
    }

    fn forget_timer(&self, id: ScanId, destination: &str) {
        locked_mutex(&self.shared.timers).remove(&(id, destination.to_string()));
    }
}

/// The row of a delivery.
struct Row {
    scan: i64,
    id: ScanId,
    destination: String,
    state: DeliveryState,
    attempts: u32,
    has_content: bool,
}

impl Row {
    fn read(db: &Connection, id: ScanId, destination: &str) -> Result<Self, SpoolError> {
        let mut query = db.prepare_cached(
            "SELECT seq, destination, state, attempts, stage = 'rendered' FROM delivery
             JOIN scan ON scan.seq = delivery.scan WHERE id = ?1 AND destination = ?2",
        )?;
        let row = query.query_row([id.to_string().as_str(), destination], |row| {
            Ok(Self {
                scan: row.get(0)?,
                id,
                destination: row.get(1)?,
                state: row.get(2)?,
                attempts: row.get(3)?,
                has_content: row.get(4)?,
            })
        });
        row.optional()?.ok_or(SpoolError::Unknown)
    }

    fn expect_open(&self) -> Result<(), SpoolError> {
        match self.state {
            DeliveryState::Pending | DeliveryState::Delivered => Ok(()),
            _ => Err(SpoolError::WrongStage),
        }
    }
}

fn set(
    change: &Transaction<'_>,
    row: &Row,
    state: DeliveryState,
    attempts: u32,
    reason: Option<&str>,
) -> Result<(), SpoolError> {
    let reason = reason.map(|reason| &reason[..reason.floor_char_boundary(LONGEST_REASON)]);
    change.execute(
        "UPDATE delivery SET state = ?3, attempts = ?4, reason = ?5
         WHERE scan = ?1 AND destination = ?2",
        params![row.scan, row.destination, state, attempts, reason],
    )?;
    if state == DeliveryState::Dead {
        let destination = row.destination.clone();
        note(change, &Entry::GivenUp { scan: row.id, destination })?;
    }
    if state == DeliveryState::Pending {
        // What is sent again must be committed again.
        change.execute(
            "DELETE FROM committed WHERE scan = ?1 AND destination = ?2",
            params![row.scan, row.destination],
        )?;
    }
    Ok(())
}

/// Marks the deliveries all of whose objects are committed; returns their scans.
fn complete_commitments(
    change: &Transaction<'_>,
    destination: &str,
) -> Result<Vec<ScanId>, SpoolError> {
    let mut query = change.prepare(
        "UPDATE delivery SET state = 'committed', reason = NULL
         WHERE destination = ?1 AND state IN ('delivered', 'dead')
               AND scan IN (SELECT scan FROM committed WHERE destination = ?1)
               AND NOT EXISTS (
                   SELECT 1 FROM object WHERE object.scan = delivery.scan AND NOT EXISTS (
                       SELECT 1 FROM committed WHERE committed.scan = object.scan
                       AND committed.kind = object.kind AND committed.destination = ?1))
         RETURNING (SELECT id FROM scan WHERE seq = delivery.scan)",
    )?;
    let ids = query.query_map([destination], |row| row.get::<_, String>(0))?;
    ids.map(|id| id?.parse().map_err(|_| SpoolError::Damaged)).collect()
}

/// After a start everything open is due soon, spread by chance.
pub(super) fn first_timers(
    db: &Connection,
    retry: &Retry,
) -> Result<HashMap<(ScanId, String), Instant>, SpoolError> {
    let mut query = db.prepare(
        "SELECT id, destination FROM delivery JOIN scan ON scan.seq = delivery.scan
         WHERE state IN ('pending', 'delivered') AND attempts > 0",
    )?;
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    let now = Instant::now();
    let mut timers = HashMap::new();
    for row in rows {
        let (id, destination) = row?;
        let id = id.parse().map_err(|_| SpoolError::Damaged)?;
        timers.insert((id, destination), now + retry.first.mul_f64(chance()));
    }
    Ok(timers)
}

impl Retry {
    /// The wait after this many failures.
    fn wait(&self, failures: u32) -> Duration {
        let doubled = 2_u32.checked_pow(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let full = self.first.checked_mul(doubled).unwrap_or(self.most).min(self.most);
        full.mul_f64(1.0 - chance() / 2.0)
    }
}

/// A number from 0 to 1, by the operating system's chance.
fn chance() -> f64 {
    // The standard library keys each hasher at random.
    let random = RandomState::new().hash_one(0_u8);
    random as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_vary() {
        let retry =
            Retry { first: Duration::from_secs(10), most: Duration::from_secs(60), attempts: 9 };
        for (failures, full) in [(1, 10), (2, 20), (3, 40), (4, 60), (40, 60)] {
            let full = Duration::from_secs(full);
            let waits: Vec<Duration> = (0..50).map(|_| retry.wait(failures)).collect();
            assert!(waits.iter().all(|wait| *wait <= full && *wait >= full / 2), "{failures}");
            assert!(waits.iter().any(|wait| *wait != waits[0]), "{failures}");
        }
    }
}
