//! Counters of the running service, for Prometheus: how much and how fast, never about whom.
//!
//! Labels hold fixed words and the destinations' names from the configuration. Neither a scan's
//! name nor its sender is ever one, so a listing has a bounded size and no patient data.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::event::Event;
use crate::record::Verdict;

/// Upper bounds of the latency histogram's buckets, in milliseconds.
const BOUNDS_MS: [u32; 12] =
    [50, 100, 200, 300, 500, 750, 1_000, 2_000, 5_000, 10_000, 30_000, 120_000];

/// The media type of [`Metrics::text`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that is counted; each number is exact, all together are of nearly the same moment.
#[derive(Debug)]
pub struct Metrics {
    received: Counter,
    refused: Counter,
    judged: [Counter; 3],
    unjudged: Counter,
    unreported: Counter,
    acknowledged: Counter,
    expired: Counter,
    bundle_changes: Counter,
    verdict_latency: Histogram,
    deliveries: Vec<Deliveries>,
    requests: [Counter; 5],
    sign_ins: [Counter; 3],
}

/// What became of the deliveries to one destination.
#[derive(Debug, Default)]
struct Deliveries {
    destination: String,
    delivered: Counter,
    retried: Counter,
    given_up: Counter,
    committed: Counter,
}

/// How an attempt to sign in ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignIn {
    /// With a session.
    Accepted,
    /// With a wrong secret.
    Wrong,
    /// Too soon after others.
    Limited,
}

/// A number that goes up and down, as it is at this moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauge {
    /// Prometheus' name, with its unit, such as `spinesight_disk_free_bytes`.
    pub name: &'static str,
    /// One sentence about it.
    pub help: &'static str,
    /// Its values, each with a label's name and value where there are several.
    pub values: Vec<(Option<(&'static str, String)>, f64)>,
}

impl Gauge {
    /// A gauge with one value.
    pub fn single(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, values: vec![(None, value)] }
    }
}

impl Metrics {
    /// Nothing counted yet. Deliveries are counted for each of these destinations by its name in
    /// the configuration, and for all others together as `other`.
    pub fn new(destinations: &[String]) -> Self {
        let names = destinations.iter().map(String::as_str).chain(["other"]);
        let deliveries =
            names.map(|name| Deliveries { destination: name.into(), ..Deliveries::default() });
        Self {
            received: Counter::default(),
            refused: Counter::default(),
            judged: Default::default(),
            unjudged: Counter::default(),
            unreported: Counter::default(),
            acknowledged: Counter::default(),
            expired: Counter::default(),
            bundle_changes: Counter::default(),
            verdict_latency: Histogram::default(),
            deliveries: deliveries.collect(),
            requests: Default::default(),
            sign_ins: Default::default(),
        }
    }

    /// Counts an event; call it once for each.
    pub fn observe(&self, event: &Event) {
        match event {
            Event::Received { .. } => self.received.add(),
            Event::Refused { .. } => self.refused.add(),
            Event::Judged { verdict, latency_ms, .. } => {
                self.judged[*verdict as usize].add();
                self.verdict_latency.observe(*latency_ms);
            }
            Event::Unjudged { .. } => self.unjudged.add(),
            Event::Unreported { .. } => self.unreported.add(),
            Event::Delivered { destination, .. } => self.to(destination, |d| &d.delivered),
            Event::Retried { destination, .. } => self.to(destination, |d| &d.retried),
            Event::GivenUp { destination, .. } => self.to(destination, |d| &d.given_up),
            Event::Committed { destination, .. } => self.to(destination, |d| &d.committed),
            Event::Acknowledged { .. } => self.acknowledged.add(),
            Event::Expired { .. } => self.expired.add(),
            Event::BundleChanged { .. } => self.bundle_changes.add(),
            // A gauge of the disk tells this.
            Event::DiskFull(_) => {}
        }
    }

    /// Counts an answer of the web server by its HTTP status.
    pub fn answered(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.requests[class].add();
    }

    /// Counts an attempt to sign in.
    pub fn signed_in(&self, how: SignIn) {
        self.sign_ins[how as usize].add();
    }

    /// All counters and the given gauges in Prometheus' text format, version 0.0.4.
    pub fn text(&self, gauges: &[Gauge]) -> String {
        let mut text = Text::default();
        text.counter("spinesight_scans_received_total", "Scans stored.", &self.received);
        text.counter("spinesight_refused_total", "Senders or objects turned away.", &self.refused);
        let verdicts = [Verdict::Normal, Verdict::Abnormal, Verdict::Refer];
        text.counters(
            "spinesight_scans_judged_total",
            "Scans judged, by verdict.",
            verdicts.map(|v| (vec![("verdict", v.name())], &self.judged[v as usize])),
        );
        text.counter(
            "spinesight_scans_unjudged_total",
            "Scans that could not be judged.",
            &self.unjudged,
        );
        text.counter(
            "spinesight_scans_unreported_total",
            "Judged scans of which no result objects could be made.",
            &self.unreported,
        );
        text.counter(
            "spinesight_scans_acknowledged_total",
            "Verdicts that a human has seen.",
            &self.acknowledged,
        );
        text.counter(
            "spinesight_scans_expired_total",
            "Scans removed at the end of their time.",
            &self.expired,
        );
        text.counter(
            "spinesight_bundle_changes_total",
            "Times that another bundle took over.",
            &self.bundle_changes,
        );
        let outcomes = self.deliveries.iter().flat_map(|d| {
            [
                ("delivered", &d.delivered),
                ("retried", &d.retried),
                ("given_up", &d.given_up),
                ("committed", &d.committed),
            ]
            .map(|(outcome, count)| {
                (vec![("destination", d.destination.as_str()), ("outcome", outcome)], count)
            })
        });
        text.counters(
            "spinesight_deliveries_total",
            "What became of deliveries, by destination.",
            outcomes,
        );
        text.histogram(
            "spinesight_verdict_latency_seconds",
            "From a scan's arrival to its verdict.",
            &self.verdict_latency,
        );
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        text.counters(
            "spinesight_http_answers_total",
            "Answers of the web server, by class of status.",
            classes.iter().zip(&self.requests).map(|(class, n)| (vec![("status", *class)], n)),
        );
        let outcomes = ["accepted", "wrong", "limited"];
        text.counters(
            "spinesight_sign_ins_total",
            "Attempts to sign in.",
            outcomes.iter().zip(&self.sign_ins).map(|(how, n)| (vec![("outcome", *how)], n)),
        );
        gauges.iter().for_each(|gauge| text.gauge(gauge));
        text.0
    }

    fn to(&self, destination: &str, of: fn(&Deliveries) -> &Counter) {
        let named = self.deliveries.iter().find(|d| d.destination == destination);
        if let Some(deliveries) = named.or(self.deliveries.last()) {
            of(deliveries).add();
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many values fell under each of [`BOUNDS_MS`]; the last bucket has no bound.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [Counter; BOUNDS_MS.len() + 1],
    sum_ms: AtomicU64,
}

impl Histogram {
    fn observe(&self, milliseconds: u32) {
        self.buckets[BOUNDS_MS.partition_point(|&bound| bound < milliseconds)].add();
        self.sum_ms.fetch_add(milliseconds.into(), Ordering::Relaxed);
    }
}

/// Lines of the text format.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn counter(&mut self, name: &str, help: &str, counter: &Counter) {
        self.counters(name, help, [(vec![], counter)]);
    }

    fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, &'a Counter)>,
    ) {
        self.head(name, help, "counter");
        for (labels, counter) in values {
            self.line(format_args!("{name}{} {}", labelled(&labels), counter.get()));
        }
    }

    fn gauge(&mut self, gauge: &Gauge) {
        self.head(gauge.name, gauge.help, "gauge");
        for (label, value) in &gauge.values {
            let label: Vec<_> = label.iter().map(|(name, value)| (*name, value.as_str())).collect();
            self.line(format_args!("{}{} {value}", gauge.name, labelled(&label)));
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, help, "histogram");
        let mut below = 0;
        for (place, bucket) in histogram.buckets.iter().enumerate() {
            below += bucket.get();
            match BOUNDS_MS.get(place) {
                Some(&bound) => {
                    let seconds = Duration::from_millis(bound.into()).as_secs_f64();
                    self.line(format_args!("{name}_bucket{{le=\"{seconds}\"}} {below}"));
                }
                None => self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {below}")),
            }
        }
        let sum = Duration::from_millis(histogram.sum_ms.load(Ordering::Relaxed));
        self.line(format_args!("{name}_sum {}", sum.as_secs_f64()));
        self.line(format_args!("{name}_count {below}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}

/// Labels in braces, their values escaped.
fn labelled(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escaped =
        |value: &str| value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    let pairs: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ScanId;
    use models::label::Class;

    fn judged(verdict: Verdict, latency_ms: u32) -> Event {
        Event::Judged {
            scan: ScanId::of(b"1.2.3"),
            verdict,
            class: Class::Scoliosis,
            probability: 0.9,
            bundle: "ab".into(),
            latency_ms,
        }
    }

    fn delivered(destination: &str) -> Event {
        Event::Delivered { scan: ScanId::of(b"1.2.3"), destination: destination.into() }
    }

    #[track_caller]
    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }

    #[test]
    fn events_are_counted_by_kind_verdict_and_destination() {
        let metrics = Metrics::new(&["pacs".into()]);
        let scan = ScanId::of(b"1.2.3");
        for event in [
            Event::Received { scan, from: "ROOM^1".into() },
            Event::Received { scan, from: "folder".into() },
            judged(Verdict::Abnormal, 120),
            delivered("pacs"),
            delivered("nowhere"),
        ] {
            metrics.observe(&event);
        }
        let text = metrics.text(&[]);
        has(&text, "spinesight_scans_received_total 2");
        has(&text, "spinesight_scans_judged_total{verdict=\"abnormal\"} 1");
        has(&text, "spinesight_scans_judged_total{verdict=\"normal\"} 0");
        for destination in ["pacs", "other"] {
            let labels = format!("destination=\"{destination}\",outcome=\"delivered\"");
            has(&text, &format!("spinesight_deliveries_total{{{labels}}} 1"));
        }
    }

    #[test]
    fn the_histogram_is_cumulative_and_its_bounds_are_inclusive() {
        let metrics = Metrics::new(&[]);
        for latency in [0, 50, 51, 4_000_000_000] {
            metrics.observe(&judged(Verdict::Refer, latency));
        }
        let text = metrics.text(&[]);
        let name = "spinesight_verdict_latency_seconds";
        has(&text, &format!("{name}_bucket{{le=\"0.05\"}} 2"));
        has(&text, &format!("{name}_bucket{{le=\"0.1\"}} 3"));
        has(&text, &format!("{name}_bucket{{le=\"120\"}} 3"));
        has(&text, &format!("{name}_bucket{{le=\"+Inf\"}} 4"));
        has(&text, &format!("{name}_count 4"));
        has(&text, &format!("{name}_sum 4000000.101"));
    }

    #[test]
    fn no_scan_and_no_sender_is_in_the_text() {
        let metrics = Metrics::new(&[]);
        let scan = ScanId::of(b"1.2.3");
        let from = "SENDERXX".to_string();
        metrics.observe(&Event::Received { scan, from: from.clone() });
        metrics.observe(&Event::Refused { from: from.clone(), reason: "not on the list" });
        metrics.observe(&delivered("unknown-place"));
        let text = metrics.text(&[]);
        for word in [from, scan.to_string(), "unknown-place".into()] {
            assert!(!text.contains(&word), "{word} is in\n{text}");
        }
    }

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let gauge = Gauge {
            name: "spinesight_waiting",
            help: "Scans that wait.",
            values: vec![(Some(("queue", "a\"b\\c\nd".into())), 2.5)],
        };
        let text = Metrics::new(&["pacs".into()]).text(&[gauge]);
        has(&text, r#"spinesight_waiting{queue="a\"b\\c\nd"} 2.5"#);
        assert!(text.ends_with('\n'));
        let mut known = std::collections::HashSet::new();
        for line in text.lines() {
            if let Some(head) = line.strip_prefix("# TYPE ") {
                let name = head.split(' ').next().expect("a name").to_string();
                assert!(known.insert(name), "{line} comes twice");
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').expect("a value");
                let name = name.split('{').next().expect("a name");
                let family = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| name.strip_suffix(end).filter(|n| known.contains(*n)))
                    .unwrap_or(name);
                assert!(known.contains(family), "{line} has no type");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
    }
}
