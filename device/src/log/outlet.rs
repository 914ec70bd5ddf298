//! A place that frames go to, opened again when it fails.

use std::io;
use std::time::{Duration, Instant};

/// How long a place that failed is left alone.
const RETRY: Duration = Duration::from_secs(1);

/// Writes frames to one place.
pub(super) trait Sink: Send {
    /// Writes one frame, without waiting for longer than a fraction of [`RETRY`].
    ///
    /// # Errors
    /// When the frame is not written as a whole; the sink is then closed.
    fn write(&mut self, frame: &[u8]) -> io::Result<()>;
}

/// Opens a place, again after each failure.
pub(super) type Opener = Box<dyn FnMut() -> io::Result<Box<dyn Sink>> + Send>;

/// One place with its failures.
pub(super) struct Outlet {
    /// How messages call it.
    pub(super) name: &'static str,
    open: Opener,
    sink: Option<Box<dyn Sink>>,
    failed_at: Option<Instant>,
    lost: u64,
}

/// How a frame fared.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Written; so many frames before it were not, which is told once.
    Written {
        /// Frames lost since the last one that was written.
        lost_before: u64,
    },
    /// Not written, because the place failed just now.
    Failed(io::Error),
    /// Not written, because the place failed a moment ago.
    Skipped,
}

impl Outlet {
    /// A place that is opened for its first frame.
    pub(super) fn new(name: &'static str, open: Opener) -> Self {
        Self { name, open, sink: None, failed_at: None, lost: 0 }
    }

    /// Writes a frame where the place works, or is due to be tried again.
    pub(super) fn write(&mut self, frame: &[u8], now: Instant) -> Outcome {
        if self.failed_at.is_some_and(|then| now.saturating_duration_since(then) < RETRY) {
            self.lost += 1;
            return Outcome::Skipped;
        }
        match self.attempt(frame) {
            Ok(()) => {
                self.failed_at = None;
                Outcome::Written { lost_before: std::mem::take(&mut self.lost) }
            }
            Err(error) => {
                self.sink = None;
                self.failed_at = Some(now);
                self.lost += 1;
                Outcome::Failed(error)
            }
        }
    }

    fn attempt(&mut self, frame: &[u8]) -> io::Result<()> {
        let sink = match self.sink.take() {
            Some(sink) => self.sink.insert(sink),
            None => self.sink.insert((self.open)()?),
        };
        sink.write(frame)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Place {
        is_broken: Arc<AtomicBool>,
        opened: Arc<AtomicU32>,
        frames: Arc<Mutex<Vec<u8>>>,
    }

    impl Sink for Place {
        fn write(&mut self, frame: &[u8]) -> io::Result<()> {
            if self.is_broken.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.frames.lock().unwrap().extend(frame);
            Ok(())
        }
    }

    #[test]
    fn a_broken_place_is_left_alone_and_then_opened_again() {
        let place = Place::default();
        let opened = place.clone();
        let open: Opener = Box::new(move || {
            opened.opened.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(opened.clone()))
        });
        let mut outlet = Outlet::new("file", open);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert!(matches!(outlet.write(&[1], at(0)), Outcome::Written { lost_before: 0 }));
        place.is_broken.store(true, Ordering::Relaxed);
        assert!(matches!(outlet.write(&[2], at(10)), Outcome::Failed(_)));
        place.is_broken.store(false, Ordering::Relaxed);
        assert!(matches!(outlet.write(&[3], at(500)), Outcome::Skipped));
        assert_eq!(place.opened.load(Ordering::Relaxed), 1);
        assert!(matches!(outlet.write(&[4], at(1010)), Outcome::Written { lost_before: 2 }));
        assert!(matches!(outlet.write(&[5], at(1020)), Outcome::Written { lost_before: 0 }));
        assert_eq!(place.opened.load(Ordering::Relaxed), 2);
        assert_eq!(*place.frames.lock().unwrap(), [1, 4, 5]);
    }

    #[test]
    fn a_place_that_does_not_open_fails_like_one_that_does_not_write() {
        let mut outlet = Outlet::new("serial", Box::new(|| Err(io::ErrorKind::NotFound.into())));
        let now = Instant::now();
        assert!(matches!(outlet.write(&[1], now), Outcome::Failed(_)));
        assert!(matches!(outlet.write(&[1], now), Outcome::Skipped));
        assert!(matches!(outlet.write(&[1], now + RETRY), Outcome::Failed(_)));
    }
}
