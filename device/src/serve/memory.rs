//! One whole scan in memory at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

static WHOLE_SCAN: Mutex<()> = Mutex::new(());

/// Waits until no other part of the service holds the bytes of a whole scan; none does until the
/// turn is dropped. What is judged and what is reported together would exceed the bound on memory.
pub(super) fn turn() -> MutexGuard<'static, ()> {
    WHOLE_SCAN.lock().unwrap_or_else(PoisonError::into_inner)
}
