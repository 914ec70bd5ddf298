//! From a log statement to one encoded frame, on the thread that logs.
//!
//! Every thread encodes into a buffer of its own, so no lock is held while values format
//! themselves, and a panic in the middle of a statement spoils that statement alone. Each frame
//! begins with a separator of its own beside the one that ends it: a damaged byte, or a frame torn
//! by a full disk, costs one frame and never its neighbour.

#![allow(
    unsafe_code,
    reason = "defmt's logger trait and its linker symbols are unsafe by contract"
)]

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::Instant;

use super::queue;

/// Longest encoded frame in bytes; a longer one is dropped and counted.
pub(super) const MAX_FRAME: usize = 1024;

#[defmt::global_logger]
struct FrameLogger;

defmt::timestamp!("{=u64:ms}", milliseconds());

thread_local! {
    static FRAME: RefCell<Frame> = const { RefCell::new(Frame::new()) };
}

/// Milliseconds since the first call, by a clock that is never set.
pub(super) fn milliseconds() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}

// SAFETY: a context is a thread. Each has its own buffer, so calls of different threads share
// nothing; a statement inside another one abandons the outer frame instead of mixing with it.
unsafe impl defmt::Logger for FrameLogger {
    fn acquire() {
        with_frame(Frame::begin);
    }

    unsafe fn flush() {
        // Frames go to the queue when they are complete; `log::flush` waits for the disk.
    }

    unsafe fn release() {
        with_frame(Frame::end);
    }

    unsafe fn write(bytes: &[u8]) {
        with_frame(|frame| frame.write(bytes));
    }
}

fn with_frame(action: impl FnOnce(&mut Frame)) {
    // Both fail only while the thread ends, or inside this very function: the frame is lost.
    let done = FRAME.try_with(|frame| frame.try_borrow_mut().map(|mut frame| action(&mut frame)));
    if !matches!(done, Ok(Ok(()))) {
        queue::count_lost();
    }
}

/// The frame a thread is writing.
struct Frame {
    encoder: defmt::Encoder,
    bytes: Vec<u8>,
    is_open: bool,
}

impl Frame {
    const fn new() -> Self {
        Self { encoder: defmt::Encoder::new(), bytes: Vec::new(), is_open: false }
    }

    fn begin(&mut self) {
        if self.is_open {
            queue::count_lost();
        }
        // A new encoder begins with a separator.
        self.encoder = defmt::Encoder::new();
        self.bytes.clear();
        self.is_open = true;
        let bytes = &mut self.bytes;
        self.encoder.start_frame(|part| append(bytes, part));
    }

    fn write(&mut self, part: &[u8]) {
        if self.is_open {
            let bytes = &mut self.bytes;
            self.encoder.write(part, |encoded| append(bytes, encoded));
        }
    }

    fn end(&mut self) {
        if self.is_open {
            self.is_open = false;
            let bytes = &mut self.bytes;
            self.encoder.end_frame(|part| append(bytes, part));
            if self.bytes.len() > MAX_FRAME {
                queue::count_lost();
            } else {
                queue::send(&self.bytes);
            }
        }
    }
}

/// Appends up to one byte more than a frame may have, which tells that it is too long.
fn append(bytes: &mut Vec<u8>, part: &[u8]) {
    let space = (MAX_FRAME + 1).saturating_sub(bytes.len());
    bytes.extend_from_slice(&part[..part.len().min(space)]);
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc::Receiver;

    use super::super::queue::Message;
    use super::*;

    /// Logs while it is logged.
    struct Nested;

    impl defmt::Format for Nested {
        fn format(&self, f: defmt::Formatter<'_>) {
            defmt::info!("{=str}", "INNER-INNER");
            defmt::write!(f, "nested");
        }
    }

    struct Panics;

    impl defmt::Format for Panics {
        fn format(&self, _: defmt::Formatter<'_>) {
            panic!("on purpose");
        }
    }

    /// Frames that hold a text of ours; other tests may log meanwhile.
    fn frames(receiver: &Receiver<Message>, text: &str) -> Vec<Box<[u8]>> {
        let of_message = |message| match message {
            Message::Frame(frame) => frame,
            Message::Flush(_) => Box::default(),
        };
        let holds = |frame: &[u8]| frame.windows(text.len()).any(|part| part == text.as_bytes());
        receiver.try_iter().map(of_message).filter(|frame| holds(frame)).collect()
    }

    /// One test, because a process has one queue.
    #[test]
    fn a_statement_is_one_frame_or_counted() {
        // The beginning of a text is mixed with what encodes the zeros before it.
        let log = |text: &str| defmt::error!("{=str}", format!("-------{text}").as_str());
        let before = queue::lost();
        log("BEFORE-START");
        assert!(queue::lost() > before);

        let receiver = queue::open().unwrap();
        assert!(queue::open().is_none());
        log("PLAIN-PLAIN");
        let plain = frames(&receiver, "PLAIN-PLAIN");
        let [0, inside @ .., 0] = &*plain[0] else { panic!("{plain:?}") };
        assert!(plain.len() == 1 && !inside.contains(&0), "{plain:?}");

        let before = queue::lost();
        log(&"LONG".repeat(MAX_FRAME));
        assert!(frames(&receiver, "LONG").is_empty());
        defmt::error!("{} {=str}", Nested, "-------OUTER-OUTER");
        assert!(frames(&receiver, "OUTER-OUTER").is_empty());
        let panics = AssertUnwindSafe(|| defmt::error!("{} {=str}", Panics, "-------PANIC-PANIC"));
        assert!(catch_unwind(panics).is_err());
        log("AFTER-AFTER");
        assert_eq!(frames(&receiver, "AFTER-AFTER").len(), 1);
        assert!(queue::lost() >= before + 3);

        let before = queue::lost();
        (0..queue::CAPACITY + 10).for_each(|_| log("FULL-FULL"));
        assert!(queue::lost() >= before + 10);
        assert!(!queue::flush(std::time::Duration::from_millis(10)));
        queue::close();
        assert!(frames(&receiver, "FULL-FULL").len() > queue::CAPACITY / 2);
        assert!(receiver.recv().is_err());
    }
}
