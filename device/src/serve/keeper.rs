//! Housekeeping: what expires, how full the disk is.

use std::time::{Duration, Instant};

use super::worker::{Step, Worker};
use crate::event::Event;
use crate::panel::{self, Condition};
use crate::spool::SpoolError;

/// How often it is done.
const ROUND: Duration = Duration::from_secs(5);

/// Remembers what it has told.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    next: Option<Instant>,
    was_full: bool,
    was_stuck: bool,
}

impl Keeper {
    /// Does one round when it is time.
    ///
    /// # Errors
    /// When the spool fails; the next round does what this one could not.
    pub fn step(&mut self, worker: &Worker) -> Result<Step, SpoolError> {
        let now = Instant::now();
        if let Some(next) = self.next.filter(|next| now < *next) {
            return Ok(Step::Later(next - now));
        }
        self.next = Some(now + ROUND);
        let is_full = worker.spool.is_full()?;
        if is_full != self.was_full {
            self.was_full = is_full;
            worker.hub.tell(Event::DiskFull(is_full));
        }
        let is_stuck = worker.spool.counts()?.destinations.iter().any(|counted| counted.dead > 0);
        if self.was_stuck && !is_stuck {
            worker.hub.panel().send(panel::Event::Recovered(Condition::DeliveryStuck));
        }
        self.was_stuck = is_stuck;
        for scan in worker.spool.expire()? {
            worker.hub.tell(Event::Expired { scan });
        }
        Ok(Step::Later(ROUND))
    }
}
