//! The loop that keeps a panel ticking.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use ::panel::{Panel, Part, Queue};
use embedded_hal::digital::{InputPin, OutputPin};

use super::display::Display;
use super::{QUEUE, Shared};

const TICK: Duration = Duration::from_millis(10);
/// How long a display that failed is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// Ticks until the service's end is gone.
pub(super) fn run<G, A, R, B, K, X, H, D>(
    mut panel: Panel<G, A, R, B, K, X, H, D>,
    shared: &Shared,
    mut on_acknowledge: impl FnMut(),
) where
    G: OutputPin,
    A: OutputPin,
    R: OutputPin,
    B: OutputPin,
    K: InputPin,
    X: InputPin,
    H: OutputPin,
    D: Display,
{
    let _notice = Notice(shared);
    let start = Instant::now();
    let mut failed_at: Option<Instant> = None;
    while !shared.is_ended.load(Ordering::Relaxed) {
        let mut events = take(shared);
        // Milliseconds wrap after 49 days, which the panel allows for.
        let tick = panel.tick(start.elapsed().as_millis() as u32, &mut events);
        if tick.acknowledged {
            on_acknowledge();
        }
        if failed_at.is_none_or(|then| then.elapsed() >= RETRY) {
            let is_shown = show(&mut panel, tick.redrawn, failed_at.is_some());
            failed_at = (!is_shown).then(Instant::now);
        }
        shared.exposure_ready.store(tick.exposure_ready, Ordering::Relaxed);
        for part in Part::ALL {
            shared.errors[part as usize].store(panel.errors(part), Ordering::Relaxed);
        }
        thread::sleep(TICK);
    }
}

/// Says that the thread has ended, however it did.
struct Notice<'a>(&'a Shared);

impl Drop for Notice<'_> {
    fn drop(&mut self) {
        self.0.is_dead.store(true, Ordering::Relaxed);
    }
}

/// Moves the events out, so that nobody waits while lines and display are written. The counts of
/// what was dropped stay.
fn take(shared: &Shared) -> Queue<QUEUE> {
    let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
    let mut events = Queue::new();
    while let Some(event) = queue.pop() {
        events.push(event);
    }
    events
}

/// Brings a new picture to the display, or starts again one that failed; whether it works.
fn show<G, A, R, B, K, X, H, D>(
    panel: &mut Panel<G, A, R, B, K, X, H, D>,
    is_new: bool,
    has_failed: bool,
) -> bool
where
    G: OutputPin,
    A: OutputPin,
    R: OutputPin,
    B: OutputPin,
    K: InputPin,
    X: InputPin,
    H: OutputPin,
    D: Display,
{
    let result = if has_failed {
        panel.display_mut().restart().map(|()| panel.redraw())
    } else {
        panel.display_mut().show(is_new)
    };
    if result.is_err() {
        panel.count_error(Part::Display);
    }
    result.is_ok()
}
