//! When content may go.

use rusqlite::{OptionalExtension, params};

use super::clock::age;
use super::error::SpoolError;
use super::stage::Stage;
use super::untold::note;
use super::{Spool, locked_mutex, recovery};
use crate::audit::Entry;
use crate::event::ScanId;
use crate::failpoint::reach;

/// Rows of expired scans that are kept for display.
const KEPT_ROWS: i64 = 1000;

/// True for a delivery that needs nothing more.
pub(super) const IS_DONE: &str = "(delivery.state IN ('committed', 'abandoned')
    OR (delivery.state = 'delivered' AND NOT wants_commitment))";

impl Spool {
    /// Removes the content of scans all of whose deliveries are done and whose time has passed;
    /// returns them. To be called now and then, for it also keeps the clock and forgets what the
    /// audit trail was told.
    ///
    /// A dead letter is kept until a human sends it again or abandons it.
    ///
    /// # Errors
    /// Failures of disk or database; what was not removed is removed by a later call.
    pub fn expire(&self) -> Result<Vec<ScanId>, SpoolError> {
        let _placing = locked_mutex(&self.shared.placing);
        let expired = self.mark_expired()?;
        if !expired.is_empty() {
            self.announce();
        }
        self.remove_expired()?;
        Ok(expired)
    }

    fn mark_expired(&self) -> Result<Vec<ScanId>, SpoolError> {
        let retention = i64::try_from(self.shared.options.retention.as_millis());
        let before = self.shared.clock.now().saturating_sub(retention.unwrap_or(i64::MAX));
        let mut db = self.db();
        let change = db.transaction()?;
        self.shared.clock.save(&change)?;
        let expired = change
            .prepare(&format!(
                "UPDATE scan SET stage = ?1, removed = 0
                 WHERE stage = 'rendered' AND born <= ?2 AND NOT EXISTS (
                     SELECT 1 FROM delivery WHERE delivery.scan = scan.seq AND NOT {IS_DONE})
                 RETURNING id"
            ))?
            .query_map(params![Stage::Expired, before], |row| row.get::<_, String>(0))?
            .map(|id| id?.parse().map_err(|_| SpoolError::Damaged))
            .collect::<Result<Vec<ScanId>, SpoolError>>()?;
        for scan in &expired {
            note(&change, &Entry::Expired { scan: *scan })?;
        }
        let told = self.forget_told(&change)?;
        reach("expire.commit");
        change.commit()?;
        reach("expire.marked");
        drop(db);
        self.forgot(told);
        Ok(expired)
    }

    /// Removes the folders of expired scans, also those that an earlier call had to leave.
    fn remove_expired(&self) -> Result<(), SpoolError> {
        let cannot = SpoolError::io("remove an expired scan");
        while let Some(id) = self.next_expired()? {
            self.discard(id).map_err(&cannot)?;
            reach("expire.removed");
            self.db().execute("UPDATE scan SET removed = 1 WHERE id = ?1", [id.to_string()])?;
        }
        recovery::swept(&self.shared.layout.trash(), |_| true).map_err(&cannot)?;
        self.db().execute(
            "DELETE FROM scan WHERE stage = 'expired' AND removed AND seq <= (
                 SELECT seq FROM scan WHERE stage = 'expired' AND removed
                 ORDER BY seq DESC LIMIT 1 OFFSET ?1)",
            [KEPT_ROWS],
        )?;
        Ok(())
    }

    fn next_expired(&self) -> Result<Option<ScanId>, SpoolError> {
        let db = self.db();
        let mut query =
            db.prepare_cached("SELECT id FROM scan WHERE stage = 'expired' AND NOT removed")?;
        let id: Option<String> = query.query_row([], |row| row.get(0)).optional()?;
        id.map(|id| id.parse().map_err(|_| SpoolError::Damaged)).transpose()
    }

    /// How long the service has run since this moment of its running clock.
    pub(super) fn age_of(&self, born: i64) -> std::time::Duration {
        age(self.shared.clock.now(), born)
    }
}
