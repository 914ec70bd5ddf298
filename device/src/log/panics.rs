//! Panics in the log, by place alone.

use std::panic::{self, PanicHookInfo};
use std::sync::Once;
use std::thread;
use std::time::Duration;

use super::queue;

/// How long a panic waits for the log to reach the disk.
const PATIENCE: Duration = Duration::from_millis(500);

/// Logs every panic from now on, instead of printing it.
///
/// Only the place is told: a panic's message may quote what the program worked on, which may be
/// about a patient.
pub(super) fn log_from_now_on() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| panic::set_hook(Box::new(log)));
}

fn log(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let (file, line) =
        panic.location().map_or(("unknown", 0), |place| (place.file(), place.line()));
    defmt::error!("panic in thread {=str} at {=str}:{=u32}", name, file, line);
    queue::flush(PATIENCE);
    // The service manager's journal is the last witness where the log itself is broken.
    eprintln!("panic in thread {name} at {file}:{line}");
}
