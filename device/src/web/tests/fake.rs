//! A board in memory, and a server of its pages whose clock a test moves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use models::label::Class;
use tokio::sync::broadcast;

use crate::event::{Event, ScanId};
use crate::metrics::Metrics;
use crate::record::{BundleRef, CamRecord, Latency, Record, ScanRecord, Verdict};
use crate::web::board::{
    Acknowledged, Board, BoardError, BundleView, Delivery, DeliveryState, Destination, Disk,
    Health, Page, Picture, Queue, ScanView, SelfTest, Stage,
};
use crate::web::secret::canonical;
use crate::web::{Options, Running, Server};

/// The secret of every fake board.
pub const SECRET: &str = "k3v7q-9mz2t";

/// A hash of [`SECRET`] that costs next to nothing.
pub static CHEAP_HASH: LazyLock<String> = LazyLock::new(|| {
    let params = Params::new(8, 1, 1, None).expect("parameters");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(canonical(SECRET).as_bytes(), b"some salt of ours");
    hash.expect("a hash").to_string()
});

/// What a fake board holds.
pub struct FakeBoard {
    pub scans: Mutex<Vec<ScanView>>,
    pub health: Mutex<Health>,
    pub events: broadcast::Sender<Event>,
}

impl FakeBoard {
    pub fn new(scans: Vec<ScanView>) -> Arc<Self> {
        let (events, _) = broadcast::channel(16);
        Arc::new(Self { scans: Mutex::new(scans), health: Mutex::new(health()), events })
    }

    fn change(&self, id: ScanId, change: impl FnOnce(&mut ScanView)) -> Result<(), BoardError> {
        let mut scans = self.scans.lock().expect("whole");
        scans.iter_mut().find(|scan| scan.id == id).map(change).ok_or(BoardError::Unknown)
    }
}

impl Board for FakeBoard {
    fn scans(&self, page: Page) -> Vec<ScanView> {
        let scans = self.scans.lock().expect("whole");
        scans.iter().skip(page.skip as usize).take(page.take as usize).cloned().collect()
    }

    fn scan(&self, id: ScanId) -> Option<ScanView> {
        self.scans.lock().expect("whole").iter().find(|scan| scan.id == id).cloned()
    }

    fn picture(&self, id: ScanId, which: Picture) -> Option<Vec<u8>> {
        self.scan(id).map(|_| format!("{which:?}").into_bytes())
    }

    fn health(&self) -> Health {
        self.health.lock().expect("whole").clone()
    }

    fn acknowledge(&self, id: ScanId, by: &str) -> Result<(), BoardError> {
        self.change(id, |scan| scan.acknowledged = Some(Acknowledged { by: by.into(), at: 0 }))
    }

    fn redeliver(&self, id: ScanId, destination: &str) -> Result<(), BoardError> {
        let mut found = Err(BoardError::Unknown);
        self.change(id, |scan| {
            if let Some(sent) = scan.deliveries.iter_mut().find(|d| d.destination == destination) {
                sent.state = DeliveryState::Waiting;
                found = Ok(());
            }
        })?;
        found
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}

/// A scan flagged abnormal, one of whose deliveries was given up.
pub fn flagged(number: u32) -> ScanView {
    let record = ScanRecord {
        file: "Doe^Jane.dcm".into(),
        verdict: Verdict::Abnormal,
        class: Class::Scoliosis,
        probabilities: [0.02, 0.905, 0.075].into(),
        logits: [-1.0, 3.0, 0.5],
        reasons: vec!["Findings together have 98.0 %.".into()],
        cam: Some(CamRecord {
            layer: "relu5_3".into(),
            peak_xy: [250, 100],
            method: "grad-cam".into(),
            digest: "feed".into(),
        }),
        overlay: None,
        latency_ms: Latency { decode: 10.0, preprocess: 5.0, inference: 80.0, cam: 5.0 },
        bundle: BundleRef { name: "net".into(), digest: "0123456789abcdef".into() },
    };
    let delivery = Delivery {
        destination: "pacs".into(),
        state: DeliveryState::GivenUp,
        attempts: 7,
        reason: Some("the destination refused it".into()),
    };
    ScanView {
        id: ScanId::of(&number.to_be_bytes()),
        received: 1_750_000_000_000 + i64::from(number),
        from: format!("ROOM_{number}"),
        stage: Stage::Rendered,
        size: Some([500, 1000]),
        record: Some(Record::Scan(Box::new(record))),
        deliveries: vec![delivery],
        acknowledged: None,
    }
}

fn health() -> Health {
    Health {
        version: "0.1.0".into(),
        uptime: Duration::from_secs(90),
        bundle: Some(BundleView { name: "net".into(), digest: "0123456789abcdef".into() }),
        self_test: Some(SelfTest { at: 0, passed: true }),
        disk: Disk { free: 1_000_000_000, total: 32_000_000_000, full: false },
        queues: vec![Queue { name: "to judge".into(), length: 3 }],
        destinations: vec![Destination {
            name: "pacs".into(),
            reachable: Some(true),
            waiting: 2,
            given_up: 0,
            last_delivery: Some(0),
        }],
        temperature: Some(51.5),
        degraded: vec![],
    }
}

/// A server on loopback.
pub struct FakeServer {
    pub board: Arc<FakeBoard>,
    pub port: u16,
    passed: Arc<AtomicU64>,
    running: Running,
}

impl FakeServer {
    pub fn new(scans: Vec<ScanView>) -> Self {
        Self::with_options(scans, options())
    }

    pub fn with_options(scans: Vec<ScanView>, options: Options) -> Self {
        let board = FakeBoard::new(scans);
        let (passed, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let clock = {
            let passed = Arc::clone(&passed);
            Arc::new(move || start + Duration::from_secs(passed.load(Ordering::Relaxed)))
        };
        let metrics = Arc::new(Metrics::new(&["pacs".into()]));
        let server = Server::bind_with_clock(options, board.clone(), metrics, clock);
        let server = server.expect("a server");
        let port = server.address().port();
        Self { board, port, passed, running: server.start().expect("a running server") }
    }

    /// Stops it, as the service does.
    pub fn stop(self) {
        assert!(self.running.is_alive());
        self.running.stop().expect("a clean stop");
    }

    /// Makes time pass.
    pub fn pass(&self, time: Duration) {
        self.passed.fetch_add(time.as_secs(), Ordering::Relaxed);
    }
}

/// A provisioned server on loopback, without TLS.
pub fn options() -> Options {
    Options {
        address: ([127, 0, 0, 1], 0).into(),
        names: vec!["board.example".into()],
        tls: None,
        secret_hash: Some(CHEAP_HASH.clone()),
        metrics_token: None,
        session: Duration::from_secs(3600),
        idle: Duration::from_secs(600),
    }
}
