//! Proof that each part of the service moves, for the watchdog.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The pulses of all parts.
#[derive(Clone, Debug)]
pub struct Pulses {
    start: Instant,
    parts: Arc<Mutex<Vec<Part>>>,
}

#[derive(Debug)]
struct Part {
    name: &'static str,
    limit: Duration,
    last: Arc<AtomicU64>,
}

/// One part's pulse; it ends when this is dropped.
#[derive(Debug)]
pub struct Pulse {
    start: Instant,
    last: Arc<AtomicU64>,
}

/// Stands for a part that has ended on purpose.
const ENDED: u64 = u64::MAX;

impl Pulses {
    /// No parts yet.
    pub fn new() -> Self {
        Self { start: Instant::now(), parts: Arc::default() }
    }

    /// A part that promises to beat at least once in `limit`.
    pub fn part(&self, name: &'static str, limit: Duration) -> Pulse {
        let last = Arc::new(AtomicU64::new(0));
        let pulse = Pulse { start: self.start, last: last.clone() };
        pulse.beat();
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.push(Part { name, limit, last });
        pulse
    }

    /// The parts that broke their promise.
    pub fn stuck(&self) -> Vec<&'static str> {
        let now = milliseconds(self.start.elapsed());
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let late = parts.iter().filter(|part| {
            let last = part.last.load(Ordering::Relaxed);
            last != ENDED && now.saturating_sub(last) > milliseconds(part.limit)
        });
        late.map(|part| part.name).collect()
    }
}

impl Default for Pulses {
    fn default() -> Self {
        Self::new()
    }
}

impl Pulse {
    /// Still moving.
    pub fn beat(&self) {
        self.last.store(milliseconds(self.start.elapsed()), Ordering::Relaxed);
    }
}

impl Drop for Pulse {
    /// A part that panics leaves its last beat behind, and is found stuck.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.last.store(ENDED, Ordering::Relaxed);
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(ENDED - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers: LIF-2
    #[test]
    fn a_part_that_stops_beating_is_stuck_until_it_moves_again() {
        let pulses = Pulses::new();
        let judge = pulses.part("judge", Duration::from_millis(20));
        let _patient = pulses.part("render", Duration::from_secs(3600));
        assert!(pulses.stuck().is_empty());
        std::thread::sleep(Duration::from_millis(40));
        assert_eq!(pulses.stuck(), ["judge"]);
        judge.beat();
        assert!(pulses.stuck().is_empty());
    }

    #[test]
    fn a_part_may_end_but_not_die() {
        let pulses = Pulses::new();
        let ended = pulses.part("ended", Duration::from_millis(1));
        drop(ended);
        let dying = pulses.part("dying", Duration::from_millis(1));
        let died = std::thread::spawn(move || {
            let _dying = dying;
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(died.join().is_err());
        std::thread::sleep(Duration::from_millis(10));
        assert_eq!(pulses.stuck(), ["dying"]);
    }
}
