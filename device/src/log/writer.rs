//! The thread that writes frames to their places.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::outlet::{Outcome, Outlet};
use super::queue::{self, Message};

/// Frames that did not arrive, and why, shared with who asks.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Frames lost by each place.
    pub(super) lost: BTreeMap<&'static str, u64>,
    /// What is wrong now with each place that fails.
    pub(super) troubles: BTreeMap<&'static str, String>,
}

/// Writes until the queue is closed and empty.
pub(super) fn run(
    receiver: &Receiver<Message>,
    mut outlets: Vec<Outlet>,
    account: &Mutex<Account>,
) {
    let mut reported = 0;
    loop {
        let next = receiver.try_recv().or_else(|_| {
            // The queue is empty: what is told now finds its place in it.
            reported = report_queue(reported);
            receiver.recv()
        });
        match next {
            Ok(Message::Frame(frame)) => {
                for outlet in &mut outlets {
                    write(outlet, &frame, account);
                }
            }
            // Who asked may have stopped waiting.
            Ok(Message::Flush(done)) => _ = done.try_send(()),
            Err(_) => return,
        }
    }
}

fn write(outlet: &mut Outlet, frame: &[u8], account: &Mutex<Account>) {
    let outcome = outlet.write(frame, Instant::now());
    let mut account = account.lock().unwrap_or_else(PoisonError::into_inner);
    match outcome {
        Outcome::Written { lost_before } => {
            account.troubles.remove(outlet.name);
            drop(account);
            if lost_before > 0 {
                defmt::warn!(
                    "log {=str}: works again, frames lost: {=u64}",
                    outlet.name,
                    lost_before
                );
            }
        }
        Outcome::Failed(error) => {
            *account.lost.entry(outlet.name).or_default() += 1;
            account.troubles.insert(outlet.name, error.to_string());
        }
        Outcome::Skipped => *account.lost.entry(outlet.name).or_default() += 1,
    }
}

/// Tells once about frames that did not reach the queue; how many are told by now.
fn report_queue(reported: u64) -> u64 {
    let lost = queue::lost();
    if lost > reported {
        defmt::warn!("log: frames dropped before they were written: {=u64}", lost - reported);
    }
    lost
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::sync_channel;

    use super::super::outlet::Sink;
    use super::*;

    /// Takes every frame but those that begin with 9.
    struct Picky(std::sync::mpsc::SyncSender<Box<[u8]>>);

    impl Sink for Picky {
        fn write(&mut self, frame: &[u8]) -> io::Result<()> {
            if frame.starts_with(&[9]) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.send(frame.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
        }
    }

    /// Covers: LOG-2
    #[test]
    fn one_place_fails_and_the_other_gets_everything() {
        let (taken, frames) = sync_channel(8);
        let full: Outlet = Outlet::new("file", Box::new(|| Err(io::ErrorKind::StorageFull.into())));
        let works = move || Ok(Box::new(Picky(taken.clone())) as Box<dyn Sink>);
        let (sender, receiver) = sync_channel(8);
        let (done, answer) = sync_channel(1);
        for byte in [1, 2, 9] {
            sender.send(Message::Frame([byte].into())).unwrap();
        }
        sender.send(Message::Flush(done)).unwrap();
        drop(sender);
        let account = Mutex::default();
        run(&receiver, vec![full, Outlet::new("serial port", Box::new(works))], &account);
        answer.recv().unwrap();
        assert_eq!(frames.try_iter().collect::<Vec<_>>(), [[1].into(), [2].into()]);
        let account = account.into_inner().unwrap();
        assert_eq!(account.lost, BTreeMap::from([("file", 3), ("serial port", 1)]));
        assert_eq!(account.troubles.keys().copied().collect::<Vec<_>>(), ["file", "serial port"]);
    }
}
