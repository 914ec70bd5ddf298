//! One scan: its picture under the heat map, what the model says and why, and where it went.

use axum::response::Html;
use maud::{Markup, html};

use super::layout::{self, Here, token};
use super::words::{self, Mark, alert, badge, delivery, headline, moment};
use crate::page::{self, card, words as results};
use crate::record::{Record, ScanRecord};
use crate::web::board::{Delivery, DeliveryState, ScanView, Stage};
use crate::web::session::SignedIn;

/// The page.
pub fn page(view: &ScanView, session: &SignedIn) -> Html<String> {
    let content = html! {
        p.back { a href="/" { "← All scans" } }
        header #verdict data-live="" { (badge(view)) h1 { (headline(view)) } (gloss(view)) }
        div.scan-page {
            section #viewer data-live="" aria-label="Picture" { (viewer(view)) }
            div {
                section.panel #finding data-live="" aria-label="Finding" { (finding(view)) }
                section.panel #seen data-live="" aria-label="Acknowledgement" {
                    (acknowledgement(view, session))
                }
                section.panel #deliveries data-live="" aria-labelledby="deliveries-title" {
                    h2 #deliveries-title { "Deliveries" }
                    (deliveries(view, session))
                }
                section.panel #arrival data-live="" aria-labelledby="arrival-title" {
                    h2 #arrival-title { "Arrival" }
                    (arrival(view))
                }
            }
        }
    };
    layout::page("Scan", Here::Scan, session, &content)
}

/// The line under the headline.
fn gloss(view: &ScanView) -> Markup {
    html! {
        @match &view.record {
            Some(Record::Scan(record)) => p.explanation { (results::explanation(record)) },
            Some(Record::Failed(_)) => p.explanation { "No model has judged this scan." },
            None if view.stage == Stage::Expired => {}
            None => p.explanation { "The result appears here by itself." },
        }
    }
}

fn scan_record(view: &ScanView) -> Option<&ScanRecord> {
    match &view.record {
        Some(Record::Scan(record)) => Some(record),
        _ => None,
    }
}

fn viewer(view: &ScanView) -> Markup {
    let address = format!("/scans/{}", view.id);
    let record = scan_record(view);
    let heat = record.filter(|record| record.cam.is_some());
    html! {
        @if view.stage == Stage::Expired {
            div.stage { p.nothing { "The picture was removed at the end of its time." } }
        } @else if view.record.is_none() {
            div.stage { p.nothing { "The picture is shown when the model has judged it." } }
        } @else if record.is_none() {
            div.stage { p.nothing { "There is no picture to show: the file could not be judged." } }
        } @else if let Some(record) = heat {
            div.stage {
                div.pictures {
                    img src={ (address) "/scan.png" } alt="X-ray";
                    img #heat-picture src={ (address) "/overlay.png" }
                        alt={ "Heat map over the X-ray: evidence for " (record.class) };
                    (ring(view, record))
                }
            }
            div.slider.needs-script {
                label for="heat" { "Heat map" }
                input #heat type="range" min="0" max="100" value="100" step="5";
                output #heat-shown for="heat" { "100 %" }
            }
            p.heat-of { "Evidence for " b { (record.class) } }
            (page::colour_scale())
            details.help {
                summary { "How to read the heat map" }
                p {
                    "Heat shows where the evidence for the named class came from. It is not the "
                    "outline of a finding. The ring marks the strongest evidence; the thin line "
                    "surrounds everything at least half as strong. Heat tells " em { "where" }
                    ", the percentages tell " em { "how sure" } "."
                }
                p {
                    a href={ (address) "/scan.png" } { "X-ray alone" } " · "
                    a href={ (address) "/overlay.png" } { "With heat map" }
                }
            }
        } @else {
            div.stage { div.pictures { img src={ (address) "/scan.png" } alt="X-ray"; } }
            p.heat-of { "There is no heat map for this scan." }
        }
    }
}

/// A ring around the hottest point, where the scan's size is known.
fn ring(view: &ScanView, record: &ScanRecord) -> Markup {
    let share = |at: u32, length: u32| {
        format!("{:.2}%", (100.0 * (f64::from(at) + 0.5) / f64::from(length.max(1))).min(100.0))
    };
    let peak = record.cam.as_ref().map(|cam| cam.peak_xy);
    html! {
        @if let (Some([width, height]), Some([x, y])) = (view.size, peak) {
            svg.ring aria-hidden="true" focusable="false" {
                circle.outer cx=(share(x, width)) cy=(share(y, height)) r="9" {}
                circle.inner cx=(share(x, width)) cy=(share(y, height)) r="9" {}
            }
        }
    }
}

fn finding(view: &ScanView) -> Markup {
    html! {
        @match &view.record {
            Some(Record::Scan(record)) => { (judged(view, record)) }
            Some(Record::Failed(failed)) => { h2 { "Why" } p { (failed.error) } }
            None if view.stage == Stage::Expired => p.muted { "The result was removed too." },
            None => p.muted { "There is no result yet." },
        }
    }
}

fn judged(view: &ScanView, record: &ScanRecord) -> Markup {
    let address = format!("/scans/{}/scan.png", view.id);
    let picture = view.size.map(|[width, height]| page::Picture { path: address, width, height });
    html! {
        (card::probabilities(record))
        @if !record.reasons.is_empty() {
            h2 { "Why" }
            ul.reasons { @for reason in &record.reasons { li { (reason) } } }
        }
        @if let Some(cam) = &record.cam {
            h2 { "Where the model looked" }
            (card::place(cam, picture.as_ref()))
        }
        (card::facts(record))
    }
}

fn acknowledgement(view: &ScanView, session: &SignedIn) -> Markup {
    html! {
        @if let Some(seen) = &view.acknowledged {
            @let place = match seen.by.as_str() {
                "panel" => "at the panel",
                "page" => "on this page",
                _ => "elsewhere",
            };
            (alert(Mark::Good, &html! { "Seen " (moment(seen.at)) ", " (place) }))
        } @else if view.record.is_some() && view.stage != Stage::Expired {
            form method="post" action={ "/scans/" (view.id) "/acknowledge" } {
                (token(session))
                button #acknowledge.wide type="submit" { "Acknowledge" }
            }
            p.muted.small { "Says that a human has seen this result. It changes nothing in it." }
        } @else {
            p.muted.small { "Without a result there is nothing to acknowledge." }
        }
    }
}

fn deliveries(view: &ScanView, session: &SignedIn) -> Markup {
    html! {
        @if matches!(view.record, Some(Record::Failed(_))) && view.deliveries.is_empty() {
            p.muted { "Without a result there is nothing to send." }
        } @else if view.deliveries.is_empty() {
            p.muted { "This board sends results nowhere." }
        } @else {
            ul.deliveries { @for sent in &view.deliveries { li { (one_delivery(view, sent, session)) } } }
        }
    }
}

fn one_delivery(view: &ScanView, sent: &Delivery, session: &SignedIn) -> Markup {
    html! {
        div {
            b { (sent.destination) }
            (delivery(sent.state))
        }
        @if sent.attempts > 1 || sent.reason.is_some() {
            p.muted.small {
                (words::count(sent.attempts.into(), "attempt", "attempts"))
                @if let Some(reason) = &sent.reason { ": " (reason) }
            }
        }
        @if sent.state == DeliveryState::GivenUp {
            form method="post" action={ "/scans/" (view.id) "/redeliver" } {
                (token(session))
                input type="hidden" name="destination" value=(sent.destination);
                button.quiet type="submit" { "Send again" }
            }
        }
    }
}

fn arrival(view: &ScanView) -> Markup {
    html! {
        dl.facts-list {
            div { dt { "Received" } dd { (moment(view.received)) } }
            div { dt { "From" } dd { (view.from) } }
            div { dt { "State" } dd { (words::stage(view)) } }
            div { dt { "Name" } dd { code { (view.id) } } }
        }
    }
}
