//! Every event as one frame.

use crate::event::Event;

/// Longest text from outside that a frame holds: that of an AE title (DICOM PS3.5, 6.2).
const MAX_TEXT: usize = 16;
/// Characters of a problem in the log.
const MAX_PROBLEM: usize = 160;

/// Logs an event.
///
/// Names that come from outside are cut to 16 characters, and what is not printable ASCII becomes
/// `?`.
pub fn event(event: &Event) {
    match event {
        Event::Received { scan, from } => {
            defmt::info!("scan {=u64:016x}: received from {=str}", scan.number(), &*shown(from));
        }
        Event::Refused { from, reason } => {
            defmt::warn!("refused from {=str}: {=str}", &*shown(from), *reason);
        }
        Event::Judged { scan, verdict, bundle, latency_ms, .. } => defmt::info!(
            "scan {=u64:016x}: judged {=str} in {=u32} ms by bundle {=str}",
            scan.number(),
            verdict.name(),
            *latency_ms,
            &*shown(bundle)
        ),
        Event::Unjudged { scan } => {
            defmt::warn!("scan {=u64:016x}: cannot be judged", scan.number());
        }
        Event::Unreported { scan } => {
            defmt::error!("scan {=u64:016x}: no result objects can be made", scan.number());
        }
        Event::Acknowledged { scan, by } => {
            defmt::info!(
                "scan {=u64:016x}: acknowledged at the {=str}",
                scan.number(),
                &*shown(by)
            );
        }
        Event::Expired { scan } => defmt::info!("scan {=u64:016x}: expired", scan.number()),
        Event::DiskFull(true) => defmt::error!("disk full: scans are refused"),
        Event::DiskFull(false) => defmt::info!("disk has space again"),
        Event::BundleChanged { digest } => {
            defmt::info!("bundle {=str} judges from now on", &*shown(digest));
        }
        Event::Delivered { .. }
        | Event::Retried { .. }
        | Event::GivenUp { .. }
        | Event::Committed { .. } => delivery(event),
    }
}

/// Logs a problem that a part of the service will get over by trying again. `problem` is in words
/// of ours: it quotes nothing that was received.
pub fn trouble(part: &str, problem: &str) {
    let problem = printable(problem, MAX_PROBLEM);
    defmt::warn!("trouble in {=str}: {=str}", part, &*problem);
}

fn delivery(event: &Event) {
    match event {
        Event::Delivered { scan, destination } => {
            defmt::info!(
                "scan {=u64:016x}: delivered to {=str}",
                scan.number(),
                &*shown(destination)
            );
        }
        Event::Retried { scan, destination, attempts } => defmt::warn!(
            "scan {=u64:016x}: delivery to {=str} failed, attempt {=u32}",
            scan.number(),
            &*shown(destination),
            *attempts
        ),
        Event::GivenUp { scan, destination } => defmt::error!(
            "scan {=u64:016x}: delivery to {=str} given up",
            scan.number(),
            &*shown(destination)
        ),
        Event::Committed { scan, destination } => {
            defmt::info!("scan {=u64:016x}: kept by {=str}", scan.number(), &*shown(destination));
        }
        _ => {}
    }
}

/// The beginning of a text from outside, printable.
fn shown(text: &str) -> String {
    printable(text, MAX_TEXT)
}

fn printable(text: &str, most: usize) -> String {
    let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().take(most).map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_is_short_and_printable() {
        assert_eq!(shown("PORTABLE1"), "PORTABLE1");
        assert_eq!(shown("a\n\u{1b}[31mü\0"), "a??[31m??");
        assert_eq!(shown(&"x".repeat(10_000)), "x".repeat(16));
    }
}
