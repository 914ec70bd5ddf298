//! The signal that ends the service, and sleep that it interrupts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Clones share the signal.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    flag: Arc<AtomicBool>,
    failed: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Stop {
    /// Ends everything that listens.
    pub fn set(&self) {
        let _held = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.flag.store(true, Ordering::SeqCst);
        self.shared.changed.notify_all();
    }

    /// Ends everything that listens because only a new start helps.
    pub fn fail(&self) {
        self.shared.failed.store(true, Ordering::SeqCst);
        self.set();
    }

    /// Whether the end came by [`Stop::fail`].
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::SeqCst)
    }

    /// Whether the end was asked for.
    pub fn is_set(&self) -> bool {
        self.shared.flag.load(Ordering::SeqCst)
    }

    /// The flag itself, for those that poll it.
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.shared.flag.clone()
    }

    /// Sleeps for `time`, or until the end is asked for; says whether it was.
    pub fn sleep(&self, time: Duration) -> bool {
        let held = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.shared.changed.wait_timeout_while(held, time, |()| !self.is_set());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.is_set()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_wakes_sleepers() {
        let stop = Stop::default();
        assert!(!stop.sleep(Duration::from_millis(1)));
        assert!(!stop.has_failed());
        let sleeper = std::thread::spawn({
            let stop = stop.clone();
            move || stop.sleep(Duration::from_secs(600))
        });
        stop.fail();
        assert!(stop.has_failed());
        assert!(sleeper.join().expect("ends"));
        assert!(stop.flag().load(Ordering::SeqCst));
    }
}
