//! Times, sizes and states in plain language, and the marks that go with them.

use std::time::Duration;

use chrono::{DateTime, Local};
use maud::{Markup, PreEscaped, html};

use crate::page::card::badge as verdict_badge;
use crate::page::words;
use crate::record::Record;
use crate::web::board::{DeliveryState, Health, ScanView, Stage};

/// A scan's verdict as symbol and word, or why it has none yet.
pub fn badge(view: &ScanView) -> Markup {
    match (&view.record, view.stage) {
        (Some(Record::Scan(record)), _) => verdict_badge(record.verdict),
        (Some(Record::Failed(_)), _) => mark(Mark::Bad, "Not judged"),
        (None, Stage::Expired) => mark(Mark::Quiet, "Removed"),
        (None, _) => mark(Mark::Waits, "Waiting"),
    }
}

/// The one thing to know about a scan.
pub fn headline(view: &ScanView) -> &'static str {
    match (&view.record, view.stage) {
        (Some(Record::Scan(record)), _) => words::headline(record),
        (Some(Record::Failed(_)), _) => "A human must read it",
        (None, Stage::Expired) => "Removed at the end of its time",
        (None, _) => "Waiting for the model",
    }
}

/// How far a scan has come, as one word or two.
pub fn stage(view: &ScanView) -> &'static str {
    let has_result = matches!(view.record, Some(Record::Scan(_)));
    match view.stage {
        Stage::Rendered if view.deliveries.is_empty() && has_result => "Judged",
        Stage::Judged | Stage::Rendered if view.deliveries.is_empty() && !has_result => "Stored",
        Stage::Received => "Stored",
        Stage::Judged => "Judged",
        Stage::Rendered => "On its way",
        Stage::Delivered => "Delivered",
        Stage::Committed => "Delivered and kept",
        Stage::Expired => "Removed",
    }
}

/// A delivery's state as symbol and word.
pub fn delivery(state: DeliveryState) -> Markup {
    match state {
        DeliveryState::Waiting => mark(Mark::Waits, "Waiting"),
        DeliveryState::Delivered => mark(Mark::Good, "Delivered"),
        DeliveryState::Committed => mark(Mark::Good, "Delivered and kept"),
        DeliveryState::GivenUp => mark(Mark::Bad, "Given up"),
    }
}

/// What a mark's symbol and colour say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// As it should be.
    Good,
    /// In time.
    Waits,
    /// Needs a look soon.
    Unsure,
    /// A human must act.
    Bad,
    /// Over.
    Quiet,
}

/// A symbol and a word; the symbol differs in outline too.
pub fn mark(kind: Mark, word: &str) -> Markup {
    let key = match kind {
        Mark::Good => "normal",
        Mark::Waits | Mark::Quiet => "neutral",
        Mark::Unsure => "referred",
        Mark::Bad => "flagged",
    };
    html! { span.badge.(key) { (symbol(kind)) (word) } }
}

/// A mark's symbol alone.
pub fn symbol(kind: Mark) -> Markup {
    let strokes = match kind {
        Mark::Good => "<path d='m5 12.500 4.500 4.500L19 7.500'/>",
        Mark::Waits => "<circle cx='12' cy='12' r='9'/><path d='M12 7v5.300l3.300 2'/>",
        Mark::Unsure => "<path d='M12 3.500 21.500 20h-19Z'/><path d='M12 10v4.600M12 17.200v.1'/>",
        Mark::Bad => {
            "<path d='M8 3h8l5 5v8l-5 5H8l-5-5V8Z'/><path d='M12 7.500v5.500M12 16.300v.1'/>"
        }
        Mark::Quiet => "<path d='M5 12h14'/>",
    };
    html! {
        svg.icon viewBox="0 0 24 24" aria-hidden="true" focusable="false" { (PreEscaped(strokes)) }
    }
}

/// A sentence about the board that cannot be missed.
pub fn alert(kind: Mark, text: &Markup) -> Markup {
    let key = match kind {
        Mark::Good => "good",
        Mark::Bad => "bad",
        Mark::Unsure | Mark::Waits | Mark::Quiet => "unsure",
    };
    html! { p.alert.(key) { (symbol(kind)) span { (text) } } }
}

/// What keeps the board from taking and judging scans.
pub fn illnesses(health: &Health) -> Markup {
    html! {
        @if health.disk.full {
            (alert(Mark::Bad, &html! { "The disk is full: new scans are refused. Free space." }))
        }
        @for reason in &health.degraded { (alert(Mark::Bad, &html! { (reason) })) }
    }
}

/// A moment in the board's own time zone, from milliseconds since 1970, UTC.
pub fn moment(milliseconds: i64) -> Markup {
    match DateTime::from_timestamp_millis(milliseconds) {
        None => html! { "unknown time" },
        Some(utc) => html! {
            time datetime=(utc.format("%Y-%m-%dT%H:%M:%SZ")) {
                (utc.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S"))
            }
        },
    }
}

/// A duration in its two largest units.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A number of bytes in decimal units.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000_000 => format!("{} kB", count / 1000),
        1_000_000..1_000_000_000 => format!("{} MB", count / 1_000_000),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

/// A number of things.
pub fn count(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_fitting_units() {
        let said = [59, 61, 3661, 90_061].map(|s| duration(Duration::from_secs(s)));
        assert_eq!(said, ["59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn sizes_have_fitting_units() {
        assert_eq!([999, 2_500_000, 31_900_000_000].map(bytes), ["0 kB", "2 MB", "31.9 GB"]);
    }

    #[test]
    fn any_clock_has_a_time() {
        assert_eq!(moment(i64::MAX).into_string(), "unknown time");
        assert!(moment(0).into_string().contains("1970-01-01T00:00:00Z"));
        assert!(moment(-1).into_string().contains("1969-12-31T23:59:59Z"));
    }
}
