//! What the pages see of the service: a view, without files, queues or patient data.

use std::time::Duration;

use tokio::sync::broadcast;

use crate::event::{Event, ScanId};
use crate::record::Record;

/// The service as the pages need it.
///
/// Calls may block on disk or database: the server makes them on threads for that, a few at a
/// time. None may panic or answer with anything that names a patient.
pub trait Board: Send + Sync + 'static {
    /// The scans of one page, newest first.
    fn scans(&self, page: Page) -> Vec<ScanView>;

    /// One scan; none when the board does not have it.
    fn scan(&self, id: ScanId) -> Option<ScanView>;

    /// A scan's picture as PNG, with no side longer than [`crate::overlay::MAX_SIDE`]; none when
    /// there is none (yet, or any more).
    fn picture(&self, id: ScanId, which: Picture) -> Option<Vec<u8>>;

    /// How the board is.
    fn health(&self) -> Health;

    /// Notes that a human has seen the verdict; again is no error. `by` is `page`.
    ///
    /// # Errors
    /// When there is no such scan or the note could not be kept.
    fn acknowledge(&self, id: ScanId, by: &str) -> Result<(), BoardError>;

    /// Puts a delivery that was given up back in its queue.
    ///
    /// # Errors
    /// When there is no such scan, no such destination, nothing was given up, or the change could
    /// not be kept.
    fn redeliver(&self, id: ScanId, destination: &str) -> Result<(), BoardError>;

    /// Everything that happens from now on.
    fn subscribe(&self) -> broadcast::Receiver<Event>;
}

/// A piece of the list of scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many of the newest scans come before it.
    pub skip: u64,
    /// How many scans it holds at most.
    pub take: u32,
}

/// Which picture of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picture {
    /// The scan in plain grey.
    Scan,
    /// The scan under its heat map, in the size of [`Picture::Scan`].
    Overlay,
}

/// A scan as the pages show it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanView {
    /// Its name on the board.
    pub id: ScanId,
    /// When it arrived, in milliseconds since 1970, UTC.
    pub received: i64,
    /// Calling AE title, `folder` or `usb`.
    pub from: String,
    /// How far it has come.
    pub stage: Stage,
    /// Pixels across and down of the scan itself, in which the record's `peak_xy` counts.
    pub size: Option<[u32; 2]>,
    /// What the model says, or why it cannot; none before it was asked.
    pub record: Option<Record>,
    /// One for each destination.
    pub deliveries: Vec<Delivery>,
    /// Who has seen the verdict, and when.
    pub acknowledged: Option<Acknowledged>,
}

/// How far a scan has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// On disk, waiting for the network.
    Received,
    /// Judged, or found impossible to judge; result objects are being made.
    Judged,
    /// Result objects are on disk, on their way to the destinations.
    Rendered,
    /// Every destination has them.
    Delivered,
    /// Every destination has promised to keep them.
    Committed,
    /// The files were removed at the end of their time.
    Expired,
}

/// The way of a scan's results to one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The destination's name in the configuration.
    pub destination: String,
    /// How far it has come.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last attempt failed, in words of ours alone.
    pub reason: Option<String>,
}

/// How far a delivery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// In the queue, for the first time or again.
    Waiting,
    /// The destination has everything.
    Delivered,
    /// The destination has promised to keep it.
    Committed,
    /// Given up: a human must act.
    GivenUp,
}

/// That a human has seen a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// `panel` or `page`.
    pub by: String,
    /// In milliseconds since 1970, UTC.
    pub at: i64,
}

/// How the board is.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// The program's version.
    pub version: String,
    /// Since the program started.
    pub uptime: Duration,
    /// The model in use; none when there is none that may be used.
    pub bundle: Option<BundleView>,
    /// The last self-test of that model.
    pub self_test: Option<SelfTest>,
    /// The disk that holds the scans.
    pub disk: Disk,
    /// What waits, by queue, such as `to judge` and `to deliver`.
    pub queues: Vec<Queue>,
    /// Where results go.
    pub destinations: Vec<Destination>,
    /// The processor's temperature in degrees Celsius, where there is a sensor.
    pub temperature: Option<f32>,
    /// Why else the board is not as it should be, in plain sentences. A full disk and silent
    /// destinations are told by their own fields.
    pub degraded: Vec<String>,
}

impl Health {
    /// Whether the board takes and judges scans as it should; decides over the status of
    /// `/healthz`. A silent destination is no illness of the board.
    pub fn is_well(&self) -> bool {
        self.degraded.is_empty() && !self.disk.full
    }
}

/// Which model judges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleView {
    /// The bundle's name.
    pub name: String,
    /// SHA-256 of its manifest in hexadecimal digits.
    pub digest: String,
}

/// A run of the self-test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfTest {
    /// In milliseconds since 1970, UTC.
    pub at: i64,
    /// Whether this board computes what the bundle's maker computed.
    pub passed: bool,
}

/// A disk's room, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Free for scans.
    pub free: u64,
    /// Altogether.
    pub total: u64,
    /// So little is free that new scans are refused.
    pub full: bool,
}

/// A queue and how many scans wait in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// What they wait for.
    pub name: String,
    /// How many.
    pub length: u64,
}

/// A place that results go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its name in the configuration.
    pub name: String,
    /// Whether it answered last time; none when nothing was sent yet.
    pub reachable: Option<bool>,
    /// Scans that wait for it.
    pub waiting: u64,
    /// Deliveries that were given up.
    pub given_up: u64,
    /// When it last took something, in milliseconds since 1970, UTC.
    pub last_delivery: Option<i64>,
}

/// Why the board did not do what a page asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BoardError {
    /// There is no such scan or destination.
    #[error("there is no such scan or destination")]
    Unknown,
    /// The scan is not in a state for it.
    #[error("the scan is not in a state for this")]
    OutOfTurn,
    /// The change could not be kept.
    #[error("the board could not store the change")]
    Storage,
}
