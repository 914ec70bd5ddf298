//! Time that only runs forward: how long the service has run in all its lives.
//!
//! A board's wall clock may jump by years when the network or a battery comes; ages are therefore
//! measured by the monotonic clock, and its sum is kept in the database. Time spent switched off
//! does not count, so that content is rather kept too long than too short.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use super::error::SpoolError;

/// See the module.
#[derive(Debug)]
pub(super) struct RunningClock {
    before: Duration,
    start: Instant,
}

impl RunningClock {
    pub(super) fn load(db: &Connection) -> Result<Self, SpoolError> {
        let ms: i64 = db.query_row("SELECT ms FROM running", [], |row| row.get(0))?;
        let before = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        Ok(Self { before, start: Instant::now() })
    }

    /// Milliseconds the service has run.
    pub(super) fn now(&self) -> i64 {
        let all = self.before.saturating_add(self.start.elapsed());
        i64::try_from(all.as_millis()).unwrap_or(i64::MAX)
    }

    /// Writes the sum, inside the caller's transaction where there is one.
    pub(super) fn save(&self, db: &Connection) -> Result<(), SpoolError> {
        db.execute("UPDATE running SET ms = ?1", [self.now()])?;
        Ok(())
    }
}

/// Seconds since 1970, for display.
pub(super) fn wall_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The age of something born at `born`, both in milliseconds.
pub(super) fn age(now: i64, born: i64) -> Duration {
    Duration::from_millis(u64::try_from(now.saturating_sub(born)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_time_adds_up_over_starts_and_never_runs_back() {
        let db = Connection::open_in_memory().expect("opens");
        db.execute_batch("CREATE TABLE running (ms INTEGER); INSERT INTO running VALUES (5000)")
            .expect("makes");
        let mut before = 5000;
        for _ in 0..3 {
            let clock = RunningClock::load(&db).expect("loads");
            assert!(clock.now() >= before);
            std::thread::sleep(Duration::from_millis(2));
            assert!(clock.now() > before);
            before = clock.now();
            clock.save(&db).expect("saves");
        }
        assert_eq!(age(1000, 400), Duration::from_millis(600));
        assert_eq!(age(400, 1000), Duration::ZERO);
    }
}
