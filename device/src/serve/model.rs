//! The bundle that judges, and its replacement while scans go on.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use models::bundle::CARD_FILE;

use super::worker::Worker;
use crate::event::Event;
use crate::record::BundleRef;
use crate::runtime::engine::EngineOptions;
use crate::scanner::{Scanner, ScannerError};

/// How often the bundle's folder is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// When a refused bundle is tried again: it may have been incomplete.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// The network in use, and where its successor would come from.
pub(super) struct Model {
    scanner: Scanner,
    source: Source,
    state: Arc<Mutex<ModelState>>,
    next_look: Instant,
    manifest: Vec<u8>,
    coming: Option<Receiver<Result<Scanner, ScannerError>>>,
}

#[derive(Clone)]
struct Source {
    folder: PathBuf,
    options: EngineOptions,
}

/// What the page tells of the model.
#[derive(Clone, Debug)]
pub(super) struct ModelState {
    /// Which bundle judges.
    pub bundle: BundleRef,
    /// When the last self-test was, in milliseconds since 1970, and whether it passed.
    pub self_test: (i64, bool),
    /// Why the bundle in the folder is not the one that judges.
    pub refused: Option<String>,
}

impl Source {
    /// Loads the bundle and lets it prove itself on this machine.
    fn load(&self) -> Result<Scanner, ScannerError> {
        let scanner = Scanner::load_with(&self.folder, self.options)?;
        scanner.self_test()?;
        Ok(scanner)
    }

    /// The manifest as it is now: it holds the digest of every other file.
    fn manifest(&self) -> Vec<u8> {
        fs::read(self.folder.join(CARD_FILE)).unwrap_or_default()
    }
}

impl Model {
    /// Loads the bundle that judges first.
    ///
    /// # Errors
    /// When it is unusable or fails its self-test: the service must not start with it.
    pub fn load(folder: PathBuf, options: EngineOptions) -> Result<Self, ScannerError> {
        let source = Source { folder, options };
        let manifest = source.manifest();
        let scanner = source.load()?;
        let bundle = reference(&scanner);
        let state = ModelState { bundle, self_test: (now(), true), refused: None };
        let state = Arc::new(Mutex::new(state));
        Ok(Self { scanner, source, state, next_look: Instant::now(), manifest, coming: None })
    }

    /// The network.
    pub fn scanner(&self) -> &Scanner {
        &self.scanner
    }

    /// What the page tells, kept up to date.
    pub fn state(&self) -> Arc<Mutex<ModelState>> {
        self.state.clone()
    }

    /// Switches to the bundle in the folder when it has changed, has loaded beside the judging,
    /// and has passed its self-test; one that does not pass changes nothing.
    pub fn refresh(&mut self, worker: &Worker) {
        match self.coming.as_ref().map(Receiver::try_recv) {
            Some(Ok(Ok(scanner))) => self.switch(scanner, worker),
            Some(Ok(Err(error))) => self.refuse(error.to_string()),
            Some(Err(TryRecvError::Disconnected)) => self.refuse("loading it failed".into()),
            Some(Err(TryRecvError::Empty)) => return,
            None => return self.look(),
        }
        self.coming = None;
    }

    fn look(&mut self) {
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_EVERY;
        let manifest = self.source.manifest();
        if manifest.is_empty() || manifest == self.manifest {
            return;
        }
        self.manifest = manifest;
        let (sender, receiver) = channel();
        let source = self.source.clone();
        // A receiver that is gone means that the service ends.
        let load = move || drop(sender.send(source.load()));
        let thread = std::thread::Builder::new().name("bundle".into()).spawn(load);
        self.coming = thread.is_ok().then_some(receiver);
    }

    fn switch(&mut self, scanner: Scanner, worker: &Worker) {
        let bundle = reference(&scanner);
        let digest = bundle.digest.clone();
        self.scanner = scanner;
        let state = ModelState { bundle, self_test: (now(), true), refused: None };
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        worker.hub.tell(Event::BundleChanged { digest });
    }

    fn refuse(&mut self, why: String) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.refused = Some(why);
        state.self_test = (now(), false);
        drop(state);
        self.manifest = Vec::new();
        self.next_look = Instant::now() + TRY_AGAIN;
    }
}

fn reference(scanner: &Scanner) -> BundleRef {
    let bundle = scanner.bundle();
    BundleRef { name: bundle.card.name.clone(), digest: bundle.digest.clone() }
}

/// Milliseconds since 1970, for display.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
