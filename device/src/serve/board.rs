//! What the page sees of the service.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use tokio::sync::broadcast;

use super::hub::Hub;
use super::judge::{OVERLAY_PICTURE, SCAN_PICTURE, SIZE};
use super::model::ModelState;
use super::pulse::Pulses;
use super::signals::acknowledge;
use crate::audit::Entry;
use crate::event::{Event, ScanId};
use crate::health::temperature::{self, HOT};
use crate::spool::{self, Counts, Spool, SpoolError};
use crate::web::board::{
    Acknowledged, Board, BoardError, BundleView, Delivery, DeliveryState, Destination, Disk,
    Health, Page, Picture, Queue, ScanView, SelfTest, Stage,
};

/// A problem is told of for this long after it last showed.
const RECENT: Duration = Duration::from_secs(60);

/// The service as the page sees it.
pub(super) struct View {
    pub spool: Spool,
    pub hub: Arc<Hub>,
    pub model: Arc<Mutex<ModelState>>,
    pub pulses: Pulses,
    pub started: Instant,
}

impl Board for View {
    fn scans(&self, page: Page) -> Vec<ScanView> {
        let listed = self.spool.list(page.take, page.skip);
        listed.unwrap_or_default().into_iter().map(|scan| self.view(scan)).collect()
    }

    fn scan(&self, id: ScanId) -> Option<ScanView> {
        let scan = self.spool.get(id).ok()?;
        Some(ScanView { size: self.size(id), ..self.view(scan) })
    }

    fn picture(&self, id: ScanId, which: Picture) -> Option<Vec<u8>> {
        let name = match which {
            Picture::Scan => SCAN_PICTURE,
            Picture::Overlay => OVERLAY_PICTURE,
        };
        self.spool.file(id, name).ok()
    }

    fn health(&self) -> Health {
        let counts = self.spool.counts().unwrap_or_default();
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let disk = self.disk();
        let temperature = temperature::hottest(Path::new(temperature::ZONES));
        let degraded = self.degraded(&counts, &model, temperature);
        let (at, passed) = model.self_test;
        Health {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.started.elapsed(),
            bundle: Some(BundleView { name: model.bundle.name, digest: model.bundle.digest }),
            self_test: Some(SelfTest { at, passed }),
            disk,
            queues: queues(&counts),
            destinations: self.destinations(&counts),
            temperature,
            degraded,
        }
    }

    fn acknowledge(&self, id: ScanId, by: &str) -> Result<(), BoardError> {
        acknowledge(&self.spool, &self.hub, id, by).map_err(board_error)
    }

    fn redeliver(&self, id: ScanId, destination: &str) -> Result<(), BoardError> {
        self.spool.redeliver(id, destination).map_err(board_error)?;
        let (destination, by) = (destination.to_owned(), "page".to_owned());
        self.hub.note(Entry::Redelivered { scan: id, destination, by });
        Ok(())
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.hub.subscribe()
    }
}

impl View {
    fn view(&self, scan: spool::ScanView) -> ScanView {
        let record = self.spool.judgement(scan.id);
        let at = scan.acknowledged_at.unwrap_or_default().saturating_mul(1_000);
        let acknowledged = scan.acknowledged_by.map(|by| Acknowledged { by, at });
        ScanView {
            id: scan.id,
            received: scan.received.saturating_mul(1_000),
            from: scan.from,
            stage: stage(scan.stage, &scan.deliveries),
            size: None,
            record,
            deliveries: scan.deliveries.into_iter().map(delivery).collect(),
            acknowledged,
        }
    }

    /// The size of a scan with a heat map.
    fn size(&self, id: ScanId) -> Option<[u32; 2]> {
        let bytes = self.spool.file(id, SIZE).ok()?;
        let [width, height] = bytes.as_chunks::<4>().0 else { return None };
        Some([*width, *height].map(u32::from_le_bytes))
    }

    fn disk(&self) -> Disk {
        let full = self.spool.is_full().unwrap_or(true);
        let free = self.spool.free_bytes().unwrap_or_default();
        let total = statvfs(self.spool.dir()).map_or(0, |disk| disk.f_blocks * disk.f_frsize);
        Disk { free, total, full }
    }

    fn destinations(&self, counts: &Counts) -> Vec<Destination> {
        let view = |counted: &spool::DestinationCounts| {
            let reach = self.hub.reach(&counted.name);
            Destination {
                name: counted.name.clone(),
                reachable: reach.map(|reach| reach.answered),
                waiting: counted.pending.into(),
                given_up: counted.dead.into(),
                last_delivery: reach.and_then(|reach| reach.last_delivery),
            }
        };
        counts.destinations.iter().map(view).collect()
    }

    fn degraded(
        &self,
        counts: &Counts,
        model: &ModelState,
        temperature: Option<f32>,
    ) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Some(why) = &model.refused {
            reasons.push(format!("The new model cannot be used, the last one judges on: {why}."));
        }
        for part in self.pulses.stuck() {
            reasons.push(format!("A part of the service is stuck: {part}."));
        }
        for part in self.hub.troubled_since(Instant::now() - RECENT) {
            reasons.push(format!("A part of the service had problems in the last minute: {part}."));
        }
        for destination in counts.destinations.iter().filter(|counted| counted.dead > 0) {
            let (count, name) = (destination.dead, &destination.name);
            reasons.push(format!(
                "Deliveries to {name} were given up: {count}. Open the scans to send them again."
            ));
        }
        if let Some(lost) = counts.stages.get(spool::Stage::Lost.name()) {
            reasons.push(format!("The files of {lost} scans are gone."));
        }
        if let Some(degrees) = temperature.filter(|degrees| *degrees >= HOT) {
            reasons.push(format!("The board is hot: {degrees:.0} °C."));
        }
        reasons
    }
}

fn queues(counts: &Counts) -> Vec<Queue> {
    let of = |stage: spool::Stage| counts.stages.get(stage.name()).copied().unwrap_or_default();
    let pending: u32 = counts.destinations.iter().map(|counted| counted.pending).sum();
    let queue = |name: &str, length: u32| Queue { name: name.to_owned(), length: length.into() };
    vec![
        queue("to judge", of(spool::Stage::Received)),
        queue("to report", of(spool::Stage::Judged)),
        queue("to deliver", pending),
    ]
}

/// A rendered scan is as far as the slowest of its deliveries.
fn stage(stage: spool::Stage, deliveries: &[spool::DeliveryView]) -> Stage {
    use spool::DeliveryState as State;
    match stage {
        spool::Stage::Received => Stage::Received,
        spool::Stage::Judged => Stage::Judged,
        spool::Stage::Expired | spool::Stage::Lost => Stage::Expired,
        spool::Stage::Rendered => {
            let all = |states: &[State]| deliveries.iter().all(|one| states.contains(&one.state));
            let done = [State::Delivered, State::Committed, State::Abandoned];
            if deliveries.is_empty() || !all(&done) {
                Stage::Rendered
            } else if all(&[State::Committed, State::Abandoned]) {
                Stage::Committed
            } else {
                Stage::Delivered
            }
        }
    }
}

fn delivery(one: spool::DeliveryView) -> Delivery {
    let state = match one.state {
        spool::DeliveryState::Pending => DeliveryState::Waiting,
        spool::DeliveryState::Delivered => DeliveryState::Delivered,
        spool::DeliveryState::Committed => DeliveryState::Committed,
        spool::DeliveryState::Dead | spool::DeliveryState::Abandoned => DeliveryState::GivenUp,
    };
    Delivery { destination: one.destination, state, attempts: one.attempts, reason: one.reason }
}

fn board_error(error: SpoolError) -> BoardError {
    match error {
        SpoolError::UnknownScan | SpoolError::Unknown => BoardError::Unknown,
        SpoolError::WrongStage => BoardError::OutOfTurn,
        _ => BoardError::Storage,
    }
}
