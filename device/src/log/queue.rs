//! The bounded way from the threads that log to the thread that writes.
//!
//! A thread that logs never waits: where there is no writer, or the writer is behind, the frame is
//! dropped and counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

/// Frames that wait for the writer: with the longest frames, one MiB.
pub(super) const CAPACITY: usize = 1024;

static SENDER: RwLock<Option<SyncSender<Message>>> = RwLock::new(None);
static LOST: AtomicU64 = AtomicU64::new(0);

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Message {
    /// One encoded frame with the separators around it.
    Frame(Box<[u8]>),
    /// Answer when everything before this is written.
    Flush(SyncSender<()>),
}

/// Opens the queue; none when it is open already.
pub(super) fn open() -> Option<Receiver<Message>> {
    let mut slot = SENDER.write().unwrap_or_else(PoisonError::into_inner);
    if slot.is_some() {
        return None;
    }
    let (sender, receiver) = sync_channel(CAPACITY);
    *slot = Some(sender);
    Some(receiver)
}

/// Closes the queue: its receiver gets what is in it, then the end.
pub(super) fn close() {
    *SENDER.write().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Passes a frame on, or counts it as lost.
pub(super) fn send(frame: &[u8]) {
    let slot = SENDER.read().unwrap_or_else(PoisonError::into_inner);
    let message = || Message::Frame(frame.into());
    if slot.as_ref().is_none_or(|sender| sender.try_send(message()).is_err()) {
        count_lost();
    }
}

/// Waits until everything logged so far is written, at most this long; whether it is.
pub(super) fn flush(patience: Duration) -> bool {
    let sender = SENDER.read().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(sender) = sender else { return false };
    let (done, answer) = sync_channel(1);
    sender.try_send(Message::Flush(done)).is_ok() && answer.recv_timeout(patience).is_ok()
}

/// Counts one frame that was dropped before it reached the writer.
pub(super) fn count_lost() {
    LOST.fetch_add(1, Ordering::Relaxed);
}

/// Frames dropped before they reached the writer, since the program started.
pub(super) fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}
