//! The list of scans, newest first, under a line that tells how the board is.

use axum::response::Html;
use maud::{Markup, html};

use super::layout::{self, Here};
use super::words::{self, Mark, alert, badge, headline, mark, moment, symbol};
use crate::page::words as results;
use crate::record::{Record, ScanRecord, Verdict};
use crate::web::board::{DeliveryState, Health, ScanView};
use crate::web::session::SignedIn;

/// Which piece of the list this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counted from the newest, from 0.
    pub number: u32,
    /// Whether there are older scans.
    pub older: bool,
}

/// The page.
pub fn page(scans: &[ScanView], place: Place, health: &Health, session: &SignedIn) -> Html<String> {
    let content = html! {
        (status(health))
        section #scans data-live="" aria-labelledby="scans-title" {
            h1 #scans-title { "Scans" @if place.number > 0 { " · page " (u64::from(place.number) + 1) } }
            @if scans.is_empty() {
                (empty(place))
            } @else {
                ol.scans { @for view in scans { li { (row(view)) } } }
            }
            (pages(place))
        }
    };
    layout::page("Scans", Here::Scans, session, &content)
}

/// What keeps the board from its work, or that nothing does.
fn status(health: &Health) -> Markup {
    let silent: Vec<_> =
        health.destinations.iter().filter(|d| d.reachable == Some(false)).collect();
    let well = health.is_well() && silent.is_empty();
    html! {
        section #status data-live="" aria-label="How the board is" {
            (words::illnesses(health))
            @for destination in silent {
                (alert(Mark::Unsure, &html! {
                    (destination.name) " does not answer. "
                    @if destination.waiting > 0 {
                        (words::count(destination.waiting, "scan waits", "scans wait"))
                        " for it; none is lost."
                    }
                }))
            }
            @if well {
                (alert(Mark::Good, &html! { "Ready" (waiting(health)) }))
            }
        }
    }
}

fn waiting(health: &Health) -> Markup {
    html! {
        @for queue in health.queues.iter().filter(|queue| queue.length > 0) {
            " · " (queue.length) " " (queue.name)
        }
    }
}

fn empty(place: Place) -> Markup {
    html! {
        p.empty {
            @if place.number == 0 {
                "No scans yet. Send one by DICOM, and it appears here by itself."
            } @else {
                "There are no scans this old."
            }
        }
    }
}

fn row(view: &ScanView) -> Markup {
    let record = match &view.record {
        Some(Record::Scan(record)) => Some(record),
        _ => None,
    };
    html! {
        a.row href={ "/scans/" (view.id) } {
            span.verdict { (badge(view)) }
            span.what {
                b { (headline(view)) }
                @if let Some(record) = record { span.muted { (how_sure(record)) } }
            }
            span.when {
                (moment(view.received))
                span.muted { "from " (view.from) }
            }
            span.state {
                (progress(view))
                @if view.acknowledged.is_some() { span.seen { (symbol(Mark::Good)) "Seen" } }
                @else if needs_eyes(view) { span.unseen-yet { "Not seen yet" } }
            }
        }
    }
}

fn how_sure(record: &ScanRecord) -> String {
    let sure = results::percent(record.probabilities.of(record.class));
    match record.verdict {
        Verdict::Refer => format!("closest: {}, {sure}", record.class),
        Verdict::Normal | Verdict::Abnormal => sure,
    }
}

/// Whether someone should look at it and nobody has said so.
fn needs_eyes(view: &ScanView) -> bool {
    match &view.record {
        Some(Record::Scan(record)) => record.verdict != Verdict::Normal,
        Some(Record::Failed(_)) => true,
        None => false,
    }
}

/// The deliveries in one mark, worst first; without any, how far the scan has come.
fn progress(view: &ScanView) -> Markup {
    let any = |state| view.deliveries.iter().filter(|d| d.state == state).count() as u64;
    let (given_up, waiting) = (any(DeliveryState::GivenUp), any(DeliveryState::Waiting));
    html! {
        @if given_up > 0 {
            (mark(Mark::Bad, "Not delivered"))
        } @else if waiting > 0 && waiting == view.deliveries.len() as u64 {
            span.muted { "To be delivered" }
        } @else if waiting > 0 {
            span.muted { (view.deliveries.len() as u64 - waiting) " of " (view.deliveries.len()) " delivered" }
        } @else {
            span.muted { (words::stage(view)) }
        }
    }
}

fn pages(place: Place) -> Markup {
    html! {
        @if place.number > 0 || place.older {
            nav.pages aria-label="More scans" {
                @match place.number {
                    0 => {}
                    1 => a.button.quiet rel="prev" href="/" { "Newer" },
                    number => {
                        a.button.quiet rel="prev" href={ "/?page=" (number - 1) } { "Newer" }
                    }
                }
                @if place.older {
                    a.button.quiet.older rel="next"
                        href={ "/?page=" (u64::from(place.number) + 1) } { "Older" }
                }
            }
        }
    }
}
