//! The spool: every scan from its arrival to its last delivery, on disk before it is promised.
//!
//! A scan is *received*, then *judged*, then *rendered* into result objects. From there each
//! destination has a delivery of its own: *pending*, *delivered*, *committed* where the
//! destination is asked for storage commitment; or *dead* when it was given up, until a human
//! sends it again or abandons it. A scan whose deliveries are all done *expires* after its time.
//!
//! - [`Incoming`] takes a scan's bytes; [`Spool::judged`] and [`Spool::rendered`] move it on;
//! - `delivery`: what is due where, retries, dead letters, commitment;
//! - `retention`: when content may go; `recovery`: what a start finds and mends;
//! - `untold`: what the audit trail may not know yet;
//! - `view`: what pages and metrics show.
//!
//! Invariants:
//! - what returned `Ok` survives SIGKILL and power loss: files are written aside, synced and
//!   renamed, their folder is synced, and only then does the database say so;
//! - the folders alone tell the whole story of every scan but its deliveries, so that a damaged
//!   database is rebuilt from them; deliveries are then repeated under the same UIDs;
//! - content goes only after every delivery is done and its time has passed;
//! - times are measured by a clock that only runs forward; wall time is for display.
//!
//! The spool holds UIDs, AE titles, times and verdicts; patient data only inside the received
//! files and what is made of them.

mod clock;
mod database;
mod delivery;
mod error;
mod incoming;
mod layout;
mod recovery;
mod retention;
mod stage;
mod untold;
mod view;
mod work;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::durable;
use crate::event::ScanId;
use crate::failpoint::reach;

use clock::RunningClock;
use layout::Layout;

pub use delivery::{Delivery, Due, ObjectPath, Outlook};
pub use error::SpoolError;
pub use incoming::{Accepted, Arrival, Incoming};
pub use recovery::Recovery;
pub use stage::{DeliveryState, Outcome, Stage};
pub use view::{Counts, DeliveryView, DestinationCounts, ScanView};
pub use work::{Judged, Object, Work};

/// How a spool behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its folder; made where missing. Nothing else may write there.
    pub dir: PathBuf,
    /// Scans are refused when accepting them would leave fewer free bytes on the disk.
    pub keep_free: u64,
    /// Most bytes of one scan.
    pub max_scan: u64,
    /// How long content stays at least, in time the service has run since the scan came.
    pub retention: Duration,
    /// Where the results of every scan go.
    pub destinations: Vec<Rule>,
    /// How failed deliveries are repeated.
    pub retry: Retry,
}

/// One destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name in the configuration.
    pub name: String,
    /// Which kinds of objects it gets; empty for all.
    pub kinds: Vec<String>,
    /// Whether content must be kept until the destination has promised to store the results
    /// (storage commitment, DICOM PS3.4 annex J).
    pub wants_commitment: bool,
}

/// When failed deliveries are repeated: the wait doubles from `first` up to `most`, each time
/// shortened by chance by up to a half, so that many scans do not return at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Wait after the first failure.
    pub first: Duration,
    /// Longest wait.
    pub most: Duration,
    /// Attempts before a delivery becomes a dead letter.
    pub attempts: u32,
}

/// The spool; clones share it.
#[derive(Clone, Debug)]
pub struct Spool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    layout: Layout,
    db: Mutex<Connection>,
    /// Held while a scan's folder takes or leaves its place.
    placing: Mutex<()>,
    clock: RunningClock,
    /// When a delivery is tried again; none means at once.
    timers: Mutex<HashMap<(ScanId, String), Instant>>,
    /// Entries that the audit trail has, and that are still noted as untold.
    told: Mutex<Vec<String>>,
    /// Counts changes, for those who wait.
    changes: Mutex<u64>,
    changed: Condvar,
    /// Numbers folders in `incoming` and `trash`.
    number: AtomicU64,
    _lock: File,
}

impl Spool {
    /// Opens the spool, mends what an abrupt end left behind and tells what it did.
    ///
    /// # Errors
    /// [`SpoolError::InUse`] when another process has it open, [`SpoolError::DiskFull`],
    /// [`SpoolError::ReadOnly`], or what else keeps the folder from being written.
    pub fn open(options: Options) -> Result<(Self, Recovery), SpoolError> {
        let cannot = SpoolError::io("make the spool's folders");
        let layout = Layout::new(options.dir.clone());
        for dir in [layout.incoming(), layout.scans(), layout.trash(), layout.damaged()] {
            fs::create_dir_all(&dir).map_err(&cannot)?;
        }
        // The spool's own name must survive, too; the names in it are synced with the database.
        if let Some(parent) = layout.root().parent().filter(|dir| dir.is_dir()) {
            durable::sync_dir(parent).map_err(&cannot)?;
        }
        let lock = durable::lock(&layout.lock()).map_err(SpoolError::io("lock the spool"))?;
        let lock = lock.ok_or(SpoolError::InUse)?;
        let (mut db, damaged) = database::open(&layout.database())?;
        let recovery = recovery::recover(&mut db, &layout, &options, damaged)?;
        let timers = delivery::first_timers(&db, &options.retry)?;
        let shared = Shared {
            clock: RunningClock::load(&db)?,
            layout,
            db: Mutex::new(db),
            placing: Mutex::new(()),
            timers: Mutex::new(timers),
            told: Mutex::default(),
            changes: Mutex::new(0),
            changed: Condvar::new(),
            number: AtomicU64::new(0),
            options,
            _lock: lock,
        };
        Ok((Self { shared: Arc::new(shared) }, recovery))
    }

    /// How many changes there were; for [`Spool::wait`].
    pub fn changes(&self) -> u64 {
        *locked_mutex(&self.shared.changes)
    }

    /// Blocks until there were more changes than `seen`, or for `timeout`; returns their number.
    ///
    /// A worker reads [`Spool::changes`], looks for work, and waits where it found none: no
    /// change between the two is missed.
    pub fn wait(&self, seen: u64, timeout: Duration) -> u64 {
        let changes = locked_mutex(&self.shared.changes);
        let waited = self.shared.changed.wait_timeout_while(changes, timeout, |now| *now == seen);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The spool's folder.
    pub fn dir(&self) -> &Path {
        self.shared.layout.root()
    }

    /// Free bytes on the spool's disk.
    ///
    /// # Errors
    /// When the disk does not say.
    pub fn free_bytes(&self) -> Result<u64, SpoolError> {
        durable::free_bytes(self.shared.layout.root()).map_err(SpoolError::io("ask for free space"))
    }

    /// Whether scans are refused for want of space; see [`Options::keep_free`].
    ///
    /// # Errors
    /// When the disk does not say.
    pub fn is_full(&self) -> Result<bool, SpoolError> {
        Ok(self.free_bytes()? < self.shared.options.keep_free)
    }

    /// The kinds of objects that a destination gets; empty for all.
    fn kinds(&self, destination: &str) -> &[String] {
        let mut rules = self.shared.options.destinations.iter();
        rules.find(|rule| rule.name == destination).map_or(&[], |rule| &rule.kinds)
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        // A panic under the lock rolled its transaction back, so the connection is sound.
        locked_mutex(&self.shared.db)
    }

    fn announce(&self) {
        *locked_mutex(&self.shared.changes) += 1;
        self.shared.changed.notify_all();
    }

    fn next_number(&self) -> String {
        self.shared.number.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// Removes a scan's folder; after `Ok` no start finds it again.
    fn discard(&self, id: ScanId) -> std::io::Result<()> {
        let home = self.shared.layout.scan(id);
        if !home.exists() {
            return Ok(());
        }
        let trash = self.shared.layout.trash().join(self.next_number());
        fs::rename(&home, &trash)?;
        durable::sync_dir(&self.shared.layout.scans())?;
        reach("expire.unlinked");
        // What cannot be removed now is swept later.
        let _ = fs::remove_dir_all(&trash);
        Ok(())
    }
}

fn locked_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
