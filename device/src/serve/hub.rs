//! Where every event goes: log, counters, audit trail, panel, page.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use models::label::Class;
use tokio::sync::broadcast;

use super::model::now;
use super::stop::Stop;
use crate::audit::{Audit, Entry};
use crate::event::{Event, ScanId};
use crate::log;
use crate::metrics::Metrics;
use crate::panel::{self, Condition, PanelHandle};
use crate::record::Verdict;
use crate::spool::{Spool, SpoolError};

/// Events that a slow listener may lag behind.
const BACKLOG: usize = 256;
/// Shortest time between two refusals that are written down.
const REFUSALS_APART: Duration = Duration::from_secs(1);
/// Scans whose arrival is remembered for their latency.
const MOST_ARRIVALS: usize = 100_000;

/// Tells everyone. Nothing that listens can hold the pipeline up for long or stop it.
pub(super) struct Hub {
    /// Counters.
    pub metrics: Arc<Metrics>,
    audit: Audit,
    spool: Spool,
    stop: Stop,
    panel: PanelHandle,
    sender: broadcast::Sender<Event>,
    arrivals: Mutex<HashMap<ScanId, Instant>>,
    destinations: Mutex<HashMap<String, Reach>>,
    troubles: Mutex<HashMap<&'static str, Instant>>,
    refusal: Mutex<Option<Instant>>,
}

/// What is known of a destination.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    /// Whether the last delivery succeeded.
    pub answered: bool,
    /// When one last did, in milliseconds since 1970.
    pub last_delivery: Option<i64>,
}

impl Hub {
    pub fn new(
        metrics: Arc<Metrics>,
        audit: Audit,
        spool: Spool,
        stop: Stop,
        panel: PanelHandle,
    ) -> Self {
        Self {
            metrics,
            audit,
            spool,
            stop,
            panel,
            sender: broadcast::channel(BACKLOG).0,
            arrivals: Mutex::default(),
            destinations: Mutex::default(),
            troubles: Mutex::default(),
            refusal: Mutex::default(),
        }
    }

    /// Tells of an event.
    pub fn tell(&self, event: Event) {
        self.metrics.observe(&event);
        if !self.is_flood(&event) {
            log::event(&event);
            self.note(Entry::of(&event));
        }
        if let Some(signal) = signal(&event) {
            self.panel.send(signal);
        }
        // Nobody may be listening.
        let _ = self.sender.send(event);
    }

    /// Lamps, buzzer and display.
    pub fn panel(&self) -> &PanelHandle {
        &self.panel
    }

    /// A part has a problem that it will get over by trying again.
    pub fn trouble(&self, part: &'static str, error: &dyn Display) {
        log::trouble(part, &error.to_string());
        held(&self.troubles).insert(part, Instant::now());
    }

    /// The spool failed a part. A damaged database is rebuilt by a start, so the service ends.
    pub fn spool_failed(&self, part: &'static str, error: &SpoolError) {
        self.trouble(part, error);
        if matches!(error, SpoolError::Damaged) {
            self.stop.fail();
        }
    }

    /// Parts that had a problem since this moment.
    pub fn troubled_since(&self, since: Instant) -> Vec<&'static str> {
        let troubles = held(&self.troubles);
        let mut parts: Vec<_> =
            troubles.iter().filter(|(_, at)| **at >= since).map(|(part, _)| *part).collect();
        parts.sort_unstable();
        parts
    }

    /// Adds to the audit trail what is no event.
    pub fn note(&self, entry: impl Into<Option<Entry>>) {
        let Some(entry) = entry.into() else { return };
        match self.audit.record(&entry) {
            Ok(()) => self.spool.told(&entry),
            // What the spool remembers is told at the next start.
            Err(error) => self.trouble("audit", &error),
        }
    }

    /// Whether an event is one of many refusals in a row: those are counted, but may not fill the
    /// disk.
    fn is_flood(&self, event: &Event) -> bool {
        if !matches!(event, Event::Refused { .. }) {
            return false;
        }
        let (mut told, now) = (held(&self.refusal), Instant::now());
        let is_flood = told.is_some_and(|last| now - last < REFUSALS_APART);
        if !is_flood {
            *told = Some(now);
        }
        is_flood
    }

    /// Everything from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    /// Remembers when a scan came.
    pub fn arrived(&self, scan: ScanId, at: Instant) {
        let mut arrivals = held(&self.arrivals);
        if arrivals.len() < MOST_ARRIVALS {
            arrivals.insert(scan, at);
        }
    }

    /// Milliseconds since a scan came; since `started` when it came before the service did.
    pub fn age(&self, scan: ScanId, started: Instant) -> u32 {
        let since = held(&self.arrivals).remove(&scan).unwrap_or(started);
        u32::try_from(since.elapsed().as_millis()).unwrap_or(u32::MAX)
    }

    /// Remembers whether a destination answered.
    pub fn reached(&self, destination: &str, answered: bool) {
        let mut destinations = held(&self.destinations);
        let reach = destinations.entry(destination.to_owned()).or_default();
        reach.answered = answered;
        if answered {
            reach.last_delivery = Some(now());
        }
    }

    /// What is known of a destination; nothing before the first delivery.
    pub fn reach(&self, destination: &str) -> Option<Reach> {
        held(&self.destinations).get(destination).copied()
    }
}

/// What the panel shows of an event. That all is acknowledged is told by whoever knows.
fn signal(event: &Event) -> Option<panel::Event> {
    match event {
        Event::Received { .. } => Some(panel::Event::Receiving),
        Event::Judged { verdict, class, probability, .. } => {
            Some(panel::judged(*verdict, *class, *probability))
        }
        Event::Unjudged { .. } | Event::Unreported { .. } => {
            Some(panel::judged(Verdict::Refer, Class::Normal, 0.0))
        }
        Event::DiskFull(true) => Some(panel::Event::DiskFull),
        Event::DiskFull(false) => Some(panel::Event::Recovered(Condition::DiskFull)),
        Event::GivenUp { .. } => Some(panel::Event::DeliveryStuck),
        _ => None,
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
