//! One scan: its picture, and beside it each model's heat map, verdict and reasons.

use maud::{Markup, html};
use models::label::Class;

use crate::record::{CamRecord, ScanRecord, Verdict};

use super::{Picture, Scan, icon, words};

/// The scan's card. With one model, scan, heat map and finding stand side by side; with several,
/// each model has a column of its own beside the scan.
pub(super) fn card(scan: &Scan<'_>) -> Markup {
    let layout = if scan.results.len() == 1 { "single" } else { "several" };
    html! {
        article.card {
            header {
                h3 { (scan.file) }
                @if let Some(picture) = scan.picture {
                    p.muted { (picture.width) " × " (picture.height) " pixels" }
                }
                @if scan.is_disputed() { p.disputed { "The models disagree" } }
            }
            div.views.(layout) {
                div.original {
                    (scan_figure(scan))
                    @if scan.results.len() > 1 { (comparison(&scan.results)) }
                }
                @for result in &scan.results { (result_column(result, scan)) }
            }
        }
    }
}

/// A verdict as symbol and word.
pub fn badge(verdict: Verdict) -> Markup {
    html! { span.badge.(words::key(verdict)) { (icon::verdict(verdict)) (words::badge(verdict)) } }
}

fn scan_figure(scan: &Scan<'_>) -> Markup {
    html! {
        figure.view.scan {
            @match scan.picture {
                Some(picture) => {
                    (shot(&picture.path, &format!("X-ray {}", scan.file), Some(picture), None))
                }
                None => (missing("No picture of the scan.", None)),
            }
            figcaption { "Scan" }
        }
    }
}

/// Every model's verdict and surest class at a glance.
fn comparison(results: &[&ScanRecord]) -> Markup {
    html! {
        table.comparison {
            caption { "The models compared" }
            tbody {
                @for record in results {
                    tr {
                        th scope="row" { (record.bundle.name) }
                        td { (badge(record.verdict)) }
                        td.number {
                            span.line { (record.class.name()) }
                            (words::percent(record.probabilities.of(record.class)))
                        }
                    }
                }
            }
        }
    }
}

fn result_column(record: &ScanRecord, scan: &Scan<'_>) -> Markup {
    html! {
        section.result aria-label={ "Result of " (record.bundle.name) } {
            (heat_figure(record, scan))
            (finding(record, scan.picture))
        }
    }
}

fn heat_figure(record: &ScanRecord, scan: &Scan<'_>) -> Markup {
    let peak = record.cam.as_ref().map(|cam| cam.peak_xy);
    html! {
        figure.view.heat {
            @match &record.overlay {
                Some(overlay) => {
                    (shot(overlay, &heat_description(record, scan), scan.picture, peak))
                }
                None => (missing("No heat map for this result.", scan.picture)),
            }
            figcaption {
                "Evidence for " b { (record.class.name()) }
                span.of { " · " (record.bundle.name) }
            }
        }
    }
}

fn heat_description(record: &ScanRecord, scan: &Scan<'_>) -> String {
    let place = match (&record.cam, scan.picture) {
        (Some(cam), Some(picture)) => {
            format!(", strongest in the {}", words::place(cam.peak_xy, picture))
        }
        _ => String::new(),
    };
    format!(
        "Heat map of {} over X-ray {}: evidence for {}{place}",
        record.bundle.name,
        scan.file,
        record.class.name(),
    )
}

/// A picture on black with, where given, a ring at its `peak` (in pixels of the scan).
fn shot(path: &str, description: &str, scan: Option<&Picture>, peak: Option<[u32; 2]>) -> Markup {
    let ring = scan.zip(peak).map(|(scan, [x, y])| {
        let share = |v: u32, length: u32| {
            (100.0 * (f64::from(v) + 0.5) / f64::from(length.max(1))).min(100.0)
        };
        let round = |share: f64| (share * 100.0).round() / 100.0;
        let (left, top) = (share(x, scan.width), share(y, scan.height));
        format!("left:{}%;top:{}%", round(left), round(top))
    });
    html! {
        div.stage {
            div.shot style=[scan.map(proportions)] {
                img src=(words::address(path)) alt=(description) loading="lazy"
                    width=[scan.map(|s| s.width)] height=[scan.map(|s| s.height)];
                @if let Some(ring) = ring { span.peak style=(ring) aria-hidden="true" {} }
            }
        }
    }
}

/// A black field in the scan's proportions with a sentence instead of a picture.
fn missing(sentence: &str, scan: Option<&Picture>) -> Markup {
    html! {
        div.stage { div.shot.missing style=[scan.map(proportions)] { p { (sentence) } } }
    }
}

fn proportions(scan: &Picture) -> String {
    format!("--ratio:{:.4}", f64::from(scan.width) / f64::from(scan.height.max(1)))
}

fn finding(record: &ScanRecord, picture: Option<&Picture>) -> Markup {
    html! {
        div.finding {
            p.said { (badge(record.verdict)) }
            h4 { (words::headline(record)) }
            p.explanation { (words::explanation(record)) }
            (probabilities(record))
            @if !record.reasons.is_empty() {
                h5 { "Why" }
                ul.reasons { @for reason in &record.reasons { li { (reason) } } }
            }
            @if let Some(cam) = &record.cam {
                h5 { "Where the model looked" }
                (place(cam, picture))
            }
            (facts(record))
        }
    }
}

/// A bar for each class.
pub fn probabilities(record: &ScanRecord) -> Markup {
    html! {
        table.bars {
            caption { "How sure, by class" }
            tbody {
                @for class in Class::ALL {
                    tr.named[class == record.class] {
                        th scope="row" { (words::class(class)) }
                        td.bar aria-hidden="true" {
                            svg {
                                rect height="100%" rx="3"
                                    width=(bar_width(record.probabilities.of(class))) {}
                            }
                        }
                        td.number { (words::percent(record.probabilities.of(class))) }
                    }
                }
            }
        }
    }
}

fn bar_width(probability: f32) -> String {
    format!("{:.1}%", probability.clamp(0.0, 1.0) * 100.0)
}

/// Where the hottest point lies.
pub fn place(cam: &CamRecord, picture: Option<&Picture>) -> Markup {
    let [x, y] = cam.peak_xy;
    html! {
        p.place {
            @if let Some(picture) = picture {
                "Most in the " (words::place(cam.peak_xy, picture)) " "
            }
            span.muted { "(column " (x) ", row " (y) ")" }
        }
    }
}

/// Model and time, with the numbers that only a technician asks for folded away.
pub fn facts(record: &ScanRecord) -> Markup {
    let time = record.latency_ms;
    html! {
        div.facts {
            p {
                b { (record.bundle.name) }
                code title=(record.bundle.digest) { (words::short_digest(&record.bundle.digest)) }
                span.time { (words::milliseconds(time.total())) }
            }
            details {
                summary { "Technical details" }
                dl {
                    div {
                        dt { "Time" }
                        dd {
                            "decode " (words::milliseconds(time.decode))
                            ", prepare " (words::milliseconds(time.preprocess))
                            ", network " (words::milliseconds(time.inference))
                            ", heat map " (words::milliseconds(time.cam))
                        }
                    }
                    div {
                        dt { "Logits" }
                        dd {
                            @for (class, logit) in Class::ALL.iter().zip(record.logits) {
                                span.line { (class) " " (format!("{logit:.3}")) }
                            }
                        }
                    }
                    @if let Some(cam) = &record.cam {
                        div {
                            dt { "Heat map" }
                            dd {
                                (cam.method) " at " (cam.layer) " "
                                code title=(cam.digest) { (words::short_digest(&cam.digest)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
