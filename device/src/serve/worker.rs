//! The loop that every part of the pipeline runs: work while there is some, wait otherwise.

use std::sync::Arc;
use std::time::Duration;

use super::hub::Hub;
use super::pulse::Pulse;
use super::stop::Stop;
use crate::spool::{Spool, SpoolError};

/// Longest wait without a look for work.
const IDLE: Duration = Duration::from_secs(1);
/// Pause after a failure of the spool.
const TROUBLED: Duration = Duration::from_secs(2);

/// What a look for work came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something was done; there may be more.
    Worked,
    /// Nothing to do until something changes.
    Idle,
    /// Nothing to do for this long, unless something changes.
    Later(Duration),
}

/// What a part of the pipeline works with.
pub(super) struct Worker {
    /// Where scans lie.
    pub spool: Spool,
    /// Who is told.
    pub hub: Arc<Hub>,
    /// When to end.
    pub stop: Stop,
    /// Proof of moving.
    pub pulse: Pulse,
}

impl Worker {
    /// Repeats `step` until the service ends. After a failure of the spool it is tried again a
    /// little later, for nothing is lost.
    pub fn run(&self, mut step: impl FnMut(&Self) -> Result<Step, SpoolError>) {
        while !self.stop.is_set() {
            self.pulse.beat();
            let seen = self.spool.changes();
            let pause = match step(self) {
                Ok(Step::Worked) => continue,
                Ok(Step::Idle) => IDLE,
                Ok(Step::Later(time)) => time.min(IDLE),
                Err(error) => {
                    self.hub.spool_failed("spool", &error);
                    self.stop.sleep(TROUBLED);
                    continue;
                }
            };
            self.spool.wait(seen, pause);
        }
    }
}
