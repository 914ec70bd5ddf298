//! The board's health as Prometheus' gauges.

use crate::metrics::Gauge;

use super::board::{Health, Queue};

/// The gauges of a health report and of the pages that are kept up to date.
pub fn gauges_from_health(health: &Health, open_pages: usize) -> Vec<Gauge> {
    let mut gauges = vec![
        labelled(
            "spinesight_build_info",
            "The program's version; always 1.",
            [("version", health.version.clone(), 1.0)],
        ),
        Gauge::single(
            "spinesight_ready",
            "1 when all is well, 0 when the health page says why not.",
            flag(health.is_well()),
        ),
        Gauge::single(
            "spinesight_uptime_seconds",
            "Since the program started.",
            health.uptime.as_secs_f64(),
        ),
        Gauge::single(
            "spinesight_disk_free_bytes",
            "Free on the disk that holds the scans.",
            health.disk.free as f64,
        ),
        Gauge::single(
            "spinesight_disk_total_bytes",
            "Size of the disk that holds the scans.",
            health.disk.total as f64,
        ),
        Gauge::single(
            "spinesight_disk_full",
            "1 while new scans are refused.",
            flag(health.disk.full),
        ),
        labelled(
            "spinesight_queue_length",
            "Scans that wait, by what for.",
            health
                .queues
                .iter()
                .map(|Queue { name, length }| ("queue", name.clone(), *length as f64)),
        ),
        labelled(
            "spinesight_destination_waiting",
            "Scans that wait for a destination.",
            health.destinations.iter().map(|d| ("destination", d.name.clone(), d.waiting as f64)),
        ),
        labelled(
            "spinesight_destination_given_up",
            "Deliveries to a destination that wait for a human.",
            health.destinations.iter().map(|d| ("destination", d.name.clone(), d.given_up as f64)),
        ),
        labelled(
            "spinesight_destination_reachable",
            "1 when a destination answered last time.",
            health
                .destinations
                .iter()
                .filter_map(|d| Some(("destination", d.name.clone(), flag(d.reachable?)))),
        ),
        Gauge::single("spinesight_open_pages", "Pages kept up to date.", open_pages as f64),
    ];
    if let Some(test) = health.self_test {
        gauges.push(Gauge::single(
            "spinesight_self_test_passed",
            "1 when this board computes what the bundle's maker computed.",
            flag(test.passed),
        ));
    }
    if let Some(degrees) = health.temperature {
        gauges.push(Gauge::single(
            "spinesight_temperature_celsius",
            "Of the processor.",
            degrees.into(),
        ));
    }
    gauges
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn labelled(
    name: &'static str,
    help: &'static str,
    values: impl IntoIterator<Item = (&'static str, String, f64)>,
) -> Gauge {
    let values = values.into_iter().map(|(label, value, number)| (Some((label, value)), number));
    Gauge { name, help, values: values.collect() }
}
