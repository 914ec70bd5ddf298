//! The panel on a board or on a desk: drives the `panel` crate on Linux.
//!
//! [`start`] runs the panel on a thread of its own, every 10 ms; the service sends [`Event`]s with
//! [`PanelHandle::send`], among them a heartbeat once a second, and is told of acknowledgements by a
//! callback. A line or display that fails later is counted and tried again; when the thread or the
//! process ends, its heartbeat ends, and the red lamp lights by the wiring that the `panel` crate
//! describes.

mod board;
mod display;
mod driver;
mod terminal;

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use models::label::Class;

use crate::record;

pub use ::panel::{Active, Condition, Event, Fault, Judged, Part, Verdict, Wiring};
pub use display::{DisplayHeight, DisplayOptions};

/// Events between two ticks: far more than a service has in 10 ms.
const QUEUE: usize = 64;

/// Which panel there is.
pub enum PanelOptions {
    /// None: events are taken and forgotten.
    None,
    /// Text on a terminal, for a desk. There is no button.
    Terminal(Box<dyn Write + Send>),
    /// Lines and display of a board.
    Board(BoardOptions),
}

/// A board's panel.
#[derive(Clone, Debug)]
pub struct BoardOptions {
    /// GPIO character device that all lines belong to, for example `/dev/gpiochip0`.
    pub chip: PathBuf,
    /// Which lines of that chip.
    pub lines: Lines,
    /// At which level each line is on.
    pub wiring: Wiring,
    /// The display, where there is one.
    pub display: Option<DisplayOptions>,
}

/// Offsets of lines in their chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    /// Green lamp.
    pub green: u32,
    /// Amber lamp.
    pub amber: u32,
    /// Red lamp.
    pub red: u32,
    /// Buzzer.
    pub buzzer: u32,
    /// Heartbeat towards the circuit that lights red by itself.
    pub heartbeat: u32,
    /// Acknowledge button.
    pub button: u32,
    /// The X-ray unit's exposure-ready line, where it is connected.
    pub exposure: Option<u32>,
}

/// Why a panel does not start.
#[derive(Debug, thiserror::Error)]
pub enum PanelError {
    /// The chip is absent or may not be used.
    #[error("cannot open the GPIO chip {}: check its path, and that the service may use it", path.display())]
    Chip {
        /// The character device.
        path: PathBuf,
        /// What the system says.
        source: linux_embedded_hal::gpio_cdev::Error,
    },
    /// A line is absent or in use.
    #[error(
        "cannot use line {offset} of {} for the {part}: check its number, and that nothing else uses it",
        chip.display()
    )]
    Line {
        /// What the line is for.
        part: &'static str,
        /// Its offset in the chip.
        offset: u32,
        /// The character device.
        chip: PathBuf,
        /// What the system says.
        source: linux_embedded_hal::gpio_cdev::Error,
    },
    /// The display's bus is absent or may not be used.
    #[error("cannot open the I2C bus {}: check its path, and that the service may use it", path.display())]
    Bus {
        /// The character device.
        path: PathBuf,
        /// What the system says.
        source: linux_embedded_hal::i2cdev::linux::LinuxI2CError,
    },
    /// The display does not answer.
    #[error(
        "no display answers at address {address:#04x} of {}: check its cable and its address",
        bus.display()
    )]
    Display {
        /// The bus's character device.
        bus: PathBuf,
        /// The address that was tried.
        address: u8,
    },
    /// No thread for the panel.
    #[error("cannot start the panel's thread")]
    Thread(#[source] std::io::Error),
}

/// How the panel fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanelStatus {
    /// Whether the panel's thread runs; always, where there is no panel.
    pub is_running: bool,
    /// Whether the X-ray unit is ready to expose.
    pub exposure_ready: bool,
    /// Failures so far of each part that ever failed.
    pub errors: Vec<(Part, u32)>,
    /// Events without alarm that found no place, so far.
    pub dropped: u32,
    /// Alarms that found no place, so far.
    pub dropped_alarms: u32,
}

/// The service's end of the panel; the panel ends with the last clone.
#[derive(Clone, Debug)]
pub struct PanelHandle {
    shared: Arc<Shared>,
    _thread: Arc<Running>,
}

/// What both ends know.
#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<::panel::Queue<QUEUE>>,
    is_ended: AtomicBool,
    is_dead: AtomicBool,
    exposure_ready: AtomicBool,
    errors: [AtomicU32; Part::ALL.len()],
}

/// Ends the thread when dropped.
struct Running {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Starts a panel; `on_acknowledge` is called on the panel's thread for each short press, and must
/// not wait.
///
/// # Errors
/// When a line, the bus or the display cannot be used; the message says which and what to do.
pub fn start(
    options: PanelOptions,
    on_acknowledge: impl FnMut() + Send + 'static,
) -> Result<PanelHandle, PanelError> {
    let shared = Arc::new(Shared::default());
    let thread = match options {
        PanelOptions::None => None,
        PanelOptions::Terminal(out) => {
            let shared = Arc::clone(&shared);
            Some(spawn(move || driver::run(terminal::panel(out), &shared, on_acknowledge))?)
        }
        PanelOptions::Board(options) => {
            let panel = board::panel(options)?;
            let shared = Arc::clone(&shared);
            Some(spawn(move || driver::run(panel, &shared, on_acknowledge))?)
        }
    };
    let _thread = Arc::new(Running { shared: Arc::clone(&shared), thread });
    Ok(PanelHandle { shared, _thread })
}

/// The event for a verdict: `probability` of its likeliest class, 0 to 1.
pub fn judged(verdict: record::Verdict, class: Class, probability: f32) -> Event {
    let verdict = match verdict {
        record::Verdict::Normal => Verdict::Normal,
        record::Verdict::Refer => Verdict::Refer,
        record::Verdict::Abnormal => Verdict::Abnormal,
    };
    // A cast of what is no number gives 0.
    let percent = (probability * 100.0).round().clamp(0.0, 100.0) as u8;
    Event::Judged(Judged { verdict, class: class.name(), percent })
}

impl PanelHandle {
    /// Tells the panel of an event; never waits for the hardware.
    pub fn send(&self, event: Event) {
        if self._thread.thread.is_some() {
            self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        }
    }

    /// How the panel fares.
    pub fn status(&self) -> PanelStatus {
        let queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |part: Part| (part, self.shared.errors[part as usize].load(Ordering::Relaxed));
        let errors = Part::ALL.into_iter().map(count).filter(|(_, count)| *count > 0);
        PanelStatus {
            is_running: !self.shared.is_dead.load(Ordering::Relaxed),
            exposure_ready: self.shared.exposure_ready.load(Ordering::Relaxed),
            errors: errors.collect(),
            dropped: queue.dropped(),
            dropped_alarms: queue.dropped_alarms(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.is_ended.store(true, Ordering::Relaxed);
        if let Some(thread) =
            self.thread.take().filter(|t| t.thread().id() != thread::current().id())
        {
            // A panic is in the log already; the lines are free either way.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("thread", &self.thread).finish_non_exhaustive()
    }
}

fn spawn(body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, PanelError> {
    thread::Builder::new().name("panel".into()).spawn(body).map_err(PanelError::Thread)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    /// What was printed, piece by piece.
    struct Printed(Sender<String>);

    impl Write for Printed {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[track_caller]
    fn wait_for(printed: &Receiver<String>, text: &str) {
        let mut all = String::new();
        while !all.contains(text) {
            all += &printed.recv_timeout(Duration::from_secs(20)).unwrap();
        }
    }

    #[test]
    fn a_terminal_shows_lamps_and_ends_with_its_handle() {
        let (sender, printed) = channel();
        let options = PanelOptions::Terminal(Box::new(Printed(sender)));
        let handle = start(options, || {}).unwrap();
        wait_for(&printed, "[ ] green  [#] amber  [ ] red");
        handle.send(Event::Ready);
        wait_for(&printed, "[#] green  [ ] amber  [ ] red");
        handle.clone().send(judged(record::Verdict::Abnormal, Class::Scoliosis, 0.9));
        wait_for(&printed, "[ ] green  [ ] amber  [#] red  [#] buzzer");
        let status = handle.status();
        assert!(status.is_running && status.errors.is_empty(), "{status:?}");
        drop(handle);
        // The other end is gone when the thread is.
        while printed.recv().is_ok() {}
    }

    #[test]
    fn no_panel_takes_every_event() {
        let handle = start(PanelOptions::None, || {}).unwrap();
        (0..1000).for_each(|_| handle.send(Event::DiskFull));
        let status = handle.status();
        assert!(status.is_running);
        assert_eq!((status.dropped, status.dropped_alarms), (0, 0));
    }

    #[test]
    fn missing_hardware_is_named() {
        let lines = Lines {
            green: 1,
            amber: 2,
            red: 3,
            buzzer: 4,
            heartbeat: 5,
            button: 6,
            exposure: None,
        };
        let chip = PathBuf::from("/dev/no-such-chip");
        let options = BoardOptions { chip, lines, wiring: Wiring::default(), display: None };
        let error = start(PanelOptions::Board(options), || {}).unwrap_err();
        assert!(error.to_string().contains("/dev/no-such-chip"), "{error}");
    }

    #[test]
    fn probabilities_become_percents() {
        let percent = |probability| match judged(record::Verdict::Refer, Class::Normal, probability)
        {
            Event::Judged(judged) => judged.percent,
            other => panic!("{other:?}"),
        };
        assert_eq!([0.0, 0.874, 1.0, 7.0, -1.0, f32::NAN].map(percent), [0, 87, 100, 100, 0, 0]);
    }
}
