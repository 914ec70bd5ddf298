//! Verdicts and their acknowledgement, between spool and panel.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use models::label::Class;

use super::hub::Hub;
use super::worker::Worker;
use crate::event::{Event, ScanId};
use crate::panel;
use crate::record::{Record, Verdict};
use crate::spool::{Spool, SpoolError};

/// Who acknowledges with the button.
const PANEL: &str = "panel";
/// Longest wait without a look whether the service ends.
const IDLE: Duration = Duration::from_secs(1);

/// Shows again what nobody had acknowledged when the last run ended.
///
/// # Errors
/// When the spool fails.
pub(super) fn show_again(spool: &Spool, hub: &Hub) -> Result<(), SpoolError> {
    for id in spool.unacknowledged()? {
        hub.panel().send(match spool.judgement(id) {
            Some(Record::Scan(scan)) => {
                panel::judged(scan.verdict, scan.class, scan.probabilities.of(scan.class))
            }
            _ => panel::judged(Verdict::Refer, Class::Normal, 0.0),
        });
    }
    Ok(())
}

/// Notes that someone has seen a verdict; the panel goes quiet with the last one.
///
/// # Errors
/// When there is no such verdict, or the spool fails.
pub(super) fn acknowledge(
    spool: &Spool,
    hub: &Hub,
    scan: ScanId,
    by: &str,
) -> Result<(), SpoolError> {
    if spool.acknowledge(scan, by)? {
        hub.tell(Event::Acknowledged { scan, by: by.to_owned() });
    }
    if spool.unacknowledged()?.is_empty() {
        hub.panel().send(panel::Event::Acknowledged);
    }
    Ok(())
}

/// Acknowledges everything at each press of the button, until the service ends.
pub(super) fn run(worker: &Worker, presses: &Receiver<()>) {
    while !worker.stop.is_set() {
        worker.pulse.beat();
        match presses.recv_timeout(IDLE) {
            Ok(()) => {
                if let Err(error) = acknowledge_all(worker) {
                    worker.hub.spool_failed("acknowledgement", &error);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn acknowledge_all(worker: &Worker) -> Result<(), SpoolError> {
    for scan in worker.spool.unacknowledged()? {
        acknowledge(&worker.spool, &worker.hub, scan, PANEL)?;
    }
    Ok(())
}
