//! One scan at full size in memory at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

static FULL_SIZE: Mutex<()> = Mutex::new(());

/// Waits until no other part of the service decodes a scan or makes results of one; none does until
/// the turn is dropped. The largest ones together would exceed the bound on memory.
pub(super) fn turn() -> MutexGuard<'static, ()> {
    FULL_SIZE.lock().unwrap_or_else(PoisonError::into_inner)
}
