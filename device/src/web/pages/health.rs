//! How the board is: model, disk, queues, destinations.

use axum::response::Html;
use maud::{Markup, html};

use super::layout::{self, Here};
use super::words::{self, Mark, alert, mark, moment};
use crate::page::words::short_digest;
use crate::web::board::{Destination, Disk, Health};
use crate::web::session::SignedIn;

/// The page.
pub fn page(health: &Health, session: &SignedIn) -> Html<String> {
    let content = html! {
        section #summary data-live="" aria-label="In short" {
            h1 { "Health" }
            (words::illnesses(health))
            @if health.is_well() { (alert(Mark::Good, &html! { "All is well" })) }
        }
        div #health.panels data-live="" {
            (model(health))
            (disk(health.disk))
            (queues(health))
            (board(health))
            (destinations(&health.destinations))
        }
    };
    layout::page("Health", Here::Health, session, &content)
}

fn model(health: &Health) -> Markup {
    html! {
        section.panel {
            h2 { "Model" }
            @if let Some(bundle) = &health.bundle {
                dl.facts-list {
                    div { dt { "Bundle" } dd { b { (bundle.name) } } }
                    div {
                        dt { "Digest" }
                        dd { code title=(bundle.digest) { (short_digest(&bundle.digest)) } }
                    }
                    div { dt { "Self-test" } dd { (self_test(health)) } }
                }
            } @else {
                p { (mark(Mark::Bad, "None")) }
                p.muted { "No model may be used. Scans are stored and wait." }
            }
        }
    }
}

fn self_test(health: &Health) -> Markup {
    html! {
        @match health.self_test {
            Some(test) if test.passed => { (mark(Mark::Good, "Passed")) }
            Some(_) => { (mark(Mark::Bad, "Failed")) }
            None => { (mark(Mark::Unsure, "Not run")) }
        }
        @if let Some(test) = health.self_test { span.line.muted.small { (moment(test.at)) } }
    }
}

fn disk(disk: Disk) -> Markup {
    let used = disk.total.saturating_sub(disk.free);
    let share = 100.0 * used as f64 / disk.total.max(1) as f64;
    html! {
        section.panel {
            h2 { "Disk" }
            dl.facts-list {
                div {
                    dt { "Free" }
                    dd {
                        b.size { (words::bytes(disk.free)) } " of "
                        span.size { (words::bytes(disk.total)) }
                    }
                }
                div {
                    dt { "State" }
                    dd {
                        @if disk.full { (mark(Mark::Bad, "Full")) }
                        @else { (mark(Mark::Good, "Has room")) }
                    }
                }
            }
            svg.gauge.full[disk.full] role="img" aria-label={ (format!("{share:.0}")) " % used" } {
                rect height="100%" rx="4" width=(format!("{share:.1}%")) {}
            }
        }
    }
}

fn queues(health: &Health) -> Markup {
    html! {
        section.panel {
            h2 { "Queues" }
            @if health.queues.is_empty() { p.muted { "There are none." } }
            dl.facts-list {
                @for queue in &health.queues {
                    div { dt { (queue.name) } dd { b { (queue.length) } } }
                }
            }
        }
    }
}

fn board(health: &Health) -> Markup {
    html! {
        section.panel {
            h2 { "Board" }
            dl.facts-list {
                div { dt { "Running for" } dd { (words::duration(health.uptime)) } }
                div {
                    dt { "Temperature" }
                    dd {
                        @match health.temperature {
                            Some(degrees) => { (format!("{degrees:.0} °C")) }
                            None => { span.muted { "no sensor" } }
                        }
                    }
                }
                div { dt { "Version" } dd { (health.version) } }
            }
        }
    }
}

fn destinations(destinations: &[Destination]) -> Markup {
    html! {
        section.panel.broad {
            h2 { "Destinations" }
            @if destinations.is_empty() {
                p.muted { "This board sends results nowhere." }
            } @else {
                div.scrolls tabindex="0" role="group" aria-label="Destinations" {
                    table.destinations {
                        thead {
                            tr {
                                th scope="col" { "Name" }
                                th scope="col" { "State" }
                                th.number scope="col" { "Waiting" }
                                th.number scope="col" { "Given up" }
                                th scope="col" { "Last delivery" }
                            }
                        }
                        tbody { @for destination in destinations { (destination_row(destination)) } }
                    }
                }
            }
        }
    }
}

fn destination_row(destination: &Destination) -> Markup {
    html! {
        tr {
            th scope="row" { (destination.name) }
            td {
                @match destination.reachable {
                    Some(true) => { (mark(Mark::Good, "Answers")) }
                    Some(false) => { (mark(Mark::Unsure, "Does not answer")) }
                    None => { (mark(Mark::Quiet, "Not used yet")) }
                }
            }
            td.number { (destination.waiting) }
            td.number { (destination.given_up) }
            td {
                @match destination.last_delivery {
                    Some(at) => { (moment(at)) }
                    None => { span.muted { "never" } }
                }
            }
        }
    }
}
