//! What pages, metrics and humans see of the spool, and what they may say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, Row, params};
use serde::Serialize;

use super::Spool;
use super::clock::wall_time;
use super::error::SpoolError;
use super::incoming::Arrival;
use super::layout::{ARRIVAL, ArrivalFile, JUDGEMENT, is_plain_name, read_json};
use super::retention::IS_DONE;
use super::stage::{DeliveryState, Outcome, Stage};
use super::untold::note;
use super::work::stage_of;
use crate::audit::Entry;
use crate::event::ScanId;
use crate::record::Record;

/// Most bytes of a picture that [`Spool::file`] returns.
const MOST_PICTURE: u64 = 64 << 20;

/// A scan as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScanView {
    /// Its place in the order of arrival.
    pub(super) seq: i64,
    /// Its name.
    pub id: ScanId,
    /// How far it has come.
    pub stage: Stage,
    /// What came out of judging; none before.
    pub outcome: Option<Outcome>,
    /// Calling AE title, or `folder`.
    pub from: String,
    /// Wall time of arrival in seconds since 1970; the clock may have been wrong.
    pub received: i64,
    /// Size of the received file in bytes.
    pub bytes: u64,
    /// Who has seen the verdict.
    pub acknowledged_by: Option<String>,
    /// Wall time of that in seconds since 1970.
    pub acknowledged_at: Option<i64>,
    /// One for each destination, by name; empty before results are made.
    pub deliveries: Vec<DeliveryView>,
}

/// A delivery as shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveryView {
    /// The destination's name in the configuration.
    pub destination: String,
    /// How far it has come.
    pub state: DeliveryState,
    /// Whether storage commitment is asked for.
    pub wants_commitment: bool,
    /// Failed attempts since it last went on.
    pub attempts: u32,
    /// Why the last attempt failed, or why it was given up.
    pub reason: Option<String>,
}

/// How much there is of what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Scans in each stage, by [`Stage::name`]; missing stages have none.
    pub stages: BTreeMap<&'static str, u32>,
    /// How long the oldest scan without a verdict has waited, in time the service has run.
    pub oldest_unjudged: Option<Duration>,
    /// Verdicts that nobody has acknowledged yet.
    pub unacknowledged: u32,
    /// Each destination that has or had deliveries, or is configured.
    pub destinations: Vec<DestinationCounts>,
}

/// How much there is for a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DestinationCounts {
    /// Its name in the configuration.
    pub name: String,
    /// Deliveries to be sent.
    pub pending: u32,
    /// Deliveries sent for which commitment is still to come.
    pub uncommitted: u32,
    /// Deliveries that need nothing more and whose content is still here.
    pub done: u32,
    /// Dead letters.
    pub dead: u32,
    /// How long the oldest scan still to be sent has been here, in time the service has run.
    pub oldest_pending: Option<Duration>,
}

impl Spool {
    /// At most `limit` scans, newest first, behind the `skip` newest.
    ///
    /// # Errors
    /// Failures of the database.
    pub fn list(&self, limit: u32, skip: u64) -> Result<Vec<ScanView>, SpoolError> {
        let db = self.db();
        let mut query =
            db.prepare_cached("SELECT * FROM scan ORDER BY seq DESC LIMIT ?1 OFFSET ?2")?;
        let skip = i64::try_from(skip).unwrap_or(i64::MAX);
        let rows = query.query_map(params![limit, skip], scan_view)?;
        let mut scans = rows.collect::<Result<Vec<_>, _>>()?;
        for scan in &mut scans {
            scan.deliveries = deliveries(&db, scan.seq)?;
        }
        Ok(scans)
    }

    /// One scan.
    ///
    /// # Errors
    /// [`SpoolError::UnknownScan`]; failures of the database.
    pub fn get(&self, id: ScanId) -> Result<ScanView, SpoolError> {
        let db = self.db();
        let mut query = db.prepare_cached("SELECT * FROM scan WHERE id = ?1")?;
        let mut rows = query.query_map([id.to_string()], scan_view)?;
        let mut scan = rows.next().ok_or(SpoolError::UnknownScan)??;
        scan.deliveries = deliveries(&db, scan.seq)?;
        Ok(scan)
    }

    /// What was received under this name.
    ///
    /// # Errors
    /// [`SpoolError::UnknownScan`] when its content is not here.
    pub fn arrival(&self, id: ScanId) -> Result<Arrival, SpoolError> {
        let path = self.shared.layout.scan(id).join(ARRIVAL);
        let file: ArrivalFile = read_json(&path).ok_or(SpoolError::UnknownScan)?;
        Ok(Arrival {
            sop_class: file.sop_class,
            sop_instance: file.sop_instance,
            transfer_syntax: file.transfer_syntax,
            from: file.from,
        })
    }

    /// Where the received file is.
    ///
    /// # Errors
    /// [`SpoolError::UnknownScan`] when its content is not here.
    pub fn source(&self, id: ScanId) -> Result<PathBuf, SpoolError> {
        let arrival = self.arrival(id)?;
        Ok(self.shared.layout.source(id, !arrival.sop_instance.is_empty()))
    }

    /// What judging said; none before it, or when the content has expired.
    pub fn judgement(&self, id: ScanId) -> Option<Record> {
        read_json(&self.shared.layout.scan(id).join(JUDGEMENT))
    }

    /// A picture that was stored with the judgement.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] when there is none by this name; failures of the disk.
    pub fn file(&self, id: ScanId, name: &str) -> Result<Vec<u8>, SpoolError> {
        if !is_plain_name(name) {
            return Err(SpoolError::Unknown);
        }
        let cannot = SpoolError::io("read a picture");
        let file = match File::open(self.shared.layout.scan(id).join(name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(SpoolError::Unknown);
            }
            opened => opened.map_err(&cannot)?,
        };
        let mut bytes = Vec::new();
        file.take(MOST_PICTURE).read_to_end(&mut bytes).map_err(&cannot)?;
        Ok(bytes)
    }

    /// Someone has seen the verdict, or that the scan is lost. The first one counts; returns
    /// whether this was it.
    ///
    /// # Errors
    /// [`SpoolError::UnknownScan`], [`SpoolError::WrongStage`] when there is no verdict yet;
    /// failures of the database.
    pub fn acknowledge(&self, id: ScanId, by: &str) -> Result<bool, SpoolError> {
        let mut db = self.db();
        let change = db.transaction()?;
        match stage_of(&change, id)? {
            None => return Err(SpoolError::UnknownScan),
            Some(Stage::Received) => return Err(SpoolError::WrongStage),
            Some(_) => {}
        }
        // A lost scan leaves the list with the expired ones once a human knows.
        let rows = change.execute(
            "UPDATE scan SET acknowledged_by = ?2, acknowledged_at = ?3,
                 stage = CASE stage WHEN 'lost' THEN 'expired' ELSE stage END
             WHERE id = ?1 AND acknowledged_by IS NULL",
            params![id.to_string(), by, wall_time()],
        )?;
        if rows == 1 {
            note(&change, &Entry::Acknowledged { scan: id, by: by.to_owned() })?;
        }
        change.commit()?;
        drop(db);
        self.announce();
        Ok(rows == 1)
    }

    /// Scans that a human must look at and nobody has acknowledged, oldest first: abnormal, to be
    /// referred, impossible to judge, lost.
    ///
    /// # Errors
    /// Failures of the database.
    pub fn unacknowledged(&self) -> Result<Vec<ScanId>, SpoolError> {
        let db = self.db();
        let mut query = db.prepare_cached(
            "SELECT id FROM scan WHERE stage IN ('judged', 'rendered', 'lost')
                 AND acknowledged_by IS NULL AND outcome IS NOT 'normal' ORDER BY seq",
        )?;
        let ids = query.query_map([], |row| row.get::<_, String>(0))?;
        ids.map(|id| id?.parse().map_err(|_| SpoolError::Damaged)).collect()
    }

    /// How many scans wait to be judged.
    ///
    /// # Errors
    /// Failures of the database.
    pub fn waiting(&self) -> Result<u32, SpoolError> {
        let db = self.db();
        let mut query = db.prepare_cached("SELECT count(*) FROM scan WHERE stage = 'received'")?;
        Ok(query.query_row([], |row| row.get(0))?)
    }

    /// How much there is of what, for metrics and the page's head.
    ///
    /// # Errors
    /// Failures of the database.
    pub fn counts(&self) -> Result<Counts, SpoolError> {
        let db = self.db();
        let mut counts = Counts::default();
        let mut query = db.prepare_cached("SELECT stage, count(*) FROM scan GROUP BY stage")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            counts.stages.insert(row.get::<_, Stage>(0)?.name(), row.get(1)?);
        }
        let oldest = "SELECT min(born) FROM scan WHERE stage = 'received'";
        let born: Option<i64> = db.query_row(oldest, [], |row| row.get(0))?;
        counts.oldest_unjudged = born.map(|born| self.age_of(born));
        counts.unacknowledged = db.query_row(
            "SELECT count(*) FROM scan
             WHERE stage IN ('judged', 'rendered', 'lost') AND acknowledged_by IS NULL",
            [],
            |row| row.get(0),
        )?;
        counts.destinations = self.destination_counts(&db)?;
        Ok(counts)
    }

    fn destination_counts(&self, db: &Connection) -> Result<Vec<DestinationCounts>, SpoolError> {
        let configured = self.shared.options.destinations.iter().map(|rule| rule.name.clone());
        let mut named: BTreeMap<String, DestinationCounts> =
            configured.map(|name| (name, DestinationCounts::default())).collect();
        let mut query = db.prepare_cached(&format!(
            "SELECT destination, sum(state = 'pending'),
                    sum(state = 'delivered' AND wants_commitment), sum({IS_DONE}),
                    sum(state = 'dead'), min(born) FILTER (WHERE state = 'pending')
             FROM delivery JOIN scan ON scan.seq = delivery.scan WHERE stage = 'rendered'
             GROUP BY destination"
        ))?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let born: Option<i64> = row.get(5)?;
            named.insert(
                row.get(0)?,
                DestinationCounts {
                    name: String::new(),
                    pending: row.get(1)?,
                    uncommitted: row.get(2)?,
                    done: row.get(3)?,
                    dead: row.get(4)?,
                    oldest_pending: born.map(|born| self.age_of(born)),
                },
            );
        }
        Ok(named.into_iter().map(|(name, counts)| DestinationCounts { name, ..counts }).collect())
    }
}

fn scan_view(row: &Row<'_>) -> rusqlite::Result<ScanView> {
    let id: String = row.get("id")?;
    let bad = |_| rusqlite::Error::InvalidQuery;
    Ok(ScanView {
        seq: row.get("seq")?,
        id: id.parse().map_err(bad)?,
        stage: row.get("stage")?,
        outcome: row.get("outcome")?,
        from: row.get("sender")?,
        received: row.get("received")?,
        bytes: u64::try_from(row.get::<_, i64>("bytes")?).unwrap_or(0),
        acknowledged_by: row.get("acknowledged_by")?,
        acknowledged_at: row.get("acknowledged_at")?,
        deliveries: Vec::new(),
    })
}

fn deliveries(db: &Connection, seq: i64) -> Result<Vec<DeliveryView>, SpoolError> {
    let mut query = db.prepare_cached(
        "SELECT destination, state, wants_commitment, attempts, reason FROM delivery
         WHERE scan = ?1 ORDER BY destination",
    )?;
    let rows = query.query_map([seq], |row| {
        Ok(DeliveryView {
            destination: row.get(0)?,
            state: row.get(1)?,
            wants_commitment: row.get(2)?,
            attempts: row.get(3)?,
            reason: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
