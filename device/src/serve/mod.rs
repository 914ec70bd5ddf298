//! The service: everything at work together.
//!
//! - `intake`: scans from the network and from folders (`folder`) into the spool;
//! - `judge`, with its `model`: verdicts; `render`: result objects; `deliver`: one courier for
//!   each destination; `keeper`: what expires. Each is a `worker` with a thread of its own that
//!   takes its work from the spool, so a slow one holds up nobody and a restart continues where
//!   the last run stopped;
//! - `hub`: tells log, counters, audit trail, panel and page what happens;
//! - `signals`: what the panel shows until someone acknowledges it;
//! - `board`: what the page sees;
//! - `setup`: from the configuration to the options of each part;
//! - `pulse`, `stop`: the watchdog's proof of life, and the end.

mod board;
mod deliver;
mod folder;
mod hub;
mod intake;
mod judge;
mod keeper;
mod memory;
mod model;
mod pulse;
mod render;
mod setup;
mod signals;
mod stop;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::audit::{Audit, AuditError, Entry};
use crate::config::{Config, ConfigDigest};
use crate::dicom::scp::{Scp, ScpError};
use crate::dicom::tls::TlsError;
use crate::failpoint::reach;
use crate::log::{self, LogError, Logger};
use crate::metrics::Metrics;
use crate::panel::{self, PanelError};
use crate::scanner::ScannerError;
use crate::spool::{Recovery, Spool, SpoolError};
use crate::web::{self, Running};

use deliver::Courier;
use folder::{After, Watched};
use hub::Hub;
use intake::Intake;
use keeper::Keeper;
use model::Model;
use pulse::{Pulse, Pulses};
pub use setup::engine as engine_options;
pub use stop::Stop;
use worker::Worker;

/// Longest silence of a part that only waits for work.
const QUICK: Duration = Duration::from_secs(30);
/// Longest time for judging or rendering one scan on a slow board.
const SLOW: Duration = Duration::from_secs(120);
/// Time beyond a delivery's own for a courier to move on.
const COURIER_SPARE: Duration = Duration::from_secs(60);

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The log cannot be written.
    #[error("log: {0}")]
    Log(#[from] LogError),
    /// The audit trail cannot be written or is broken.
    #[error("audit trail: {0}")]
    Audit(#[from] AuditError),
    /// The spool cannot be opened.
    #[error("spool: {0}")]
    Spool(#[from] SpoolError),
    /// The bundle is unusable or fails its self-test.
    #[error("model bundle: {0}")]
    Model(#[from] ScannerError),
    /// Scans cannot be received.
    #[error("receiving: {0}")]
    Receive(#[from] ScpError),
    /// Certificates or keys are unusable.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// The panel's hardware is not there.
    #[error("panel: {0}")]
    Panel(#[from] PanelError),
    /// The page cannot be served.
    #[error("page: {0}")]
    Page(#[from] web::WebError),
    /// A file that the configuration names cannot be read.
    #[error("cannot read {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The system gives no threads.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// A running service.
pub struct Service {
    stop: Stop,
    pulses: Pulses,
    spool: Spool,
    hub: Arc<Hub>,
    threads: Vec<JoinHandle<()>>,
    page: Running,
    logger: Logger,
    /// Where scans are received.
    pub receiving_at: SocketAddr,
    /// Where a browser on this machine finds the page.
    pub page_url: String,
    /// What the spool found and mended at the start.
    pub recovery: Recovery,
}

impl Service {
    /// Starts everything that a configuration asks for. What starts is stopped again when a later
    /// part fails.
    ///
    /// # Errors
    /// Says which part, and why.
    pub fn start(config: &Config, digest: &ConfigDigest) -> Result<Self, ServeError> {
        let data = &config.board.data;
        let logger = log::start(setup::log(config))?;
        let audit = Audit::open(&data.join("audit"))?;
        let (spool, recovery) = Spool::open(setup::spool(config))?;
        catch_up(&spool, &audit)?;
        let model = Model::load(config.board.bundle.clone(), setup::engine(config))?;
        audit.record(&Entry::Started {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            configuration: digest.0.clone(),
            bundle: model.scanner().bundle().digest.clone(),
        })?;
        let names: Vec<_> = config.destinations.iter().map(|one| one.name.clone()).collect();
        let metrics = Arc::new(Metrics::new(&names));
        let stop = Stop::default();
        let (press, presses) = mpsc::channel();
        let on_press = move || {
            // A press that nobody takes came while the service ended.
            let _ = press.send(());
        };
        let panel = panel::start(setup::panel(&config.panel), on_press)?;
        let hub = Arc::new(Hub::new(metrics.clone(), audit, spool.clone(), stop.clone(), panel));
        signals::show_again(&spool, &hub)?;
        let mut parts = Parts {
            spool: spool.clone(),
            hub: hub.clone(),
            stop: stop.clone(),
            pulses: Pulses::new(),
            threads: Vec::new(),
        };
        match parts.start(config, model, metrics, presses) {
            Ok((receiving_at, page_url, page)) => {
                let Parts { stop, pulses, threads, .. } = parts;
                Ok(Self {
                    stop,
                    pulses,
                    spool,
                    hub,
                    threads,
                    page,
                    logger,
                    receiving_at,
                    page_url,
                    recovery,
                })
            }
            Err(error) => {
                stop.set();
                parts.threads.into_iter().for_each(|thread| drop(thread.join()));
                Err(error)
            }
        }
    }

    /// The signal that ends it.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Parts that do not move; empty when all is well. Tells the panel as well, whose red lamp
    /// lights when nobody does.
    pub fn stuck(&self) -> Vec<&'static str> {
        let stuck = self.pulses.stuck();
        if stuck.is_empty() {
            let waiting = self.spool.waiting().unwrap_or_default();
            let waiting = u16::try_from(waiting).unwrap_or(u16::MAX);
            self.hub.panel().send(panel::Event::Heartbeat { waiting });
        }
        stuck
    }

    /// Waits for every part to end, after [`Stop::set`].
    pub fn join(self) {
        drop(self.page);
        for thread in self.threads {
            // A part that panicked has been logged.
            let _ = thread.join();
        }
        self.hub.note(Entry::Stopped);
        drop(self.logger);
    }
}

/// Adds to the trail what the last run was killed before telling, and what the spool found.
fn catch_up(spool: &Spool, audit: &Audit) -> Result<(), ServeError> {
    let untold = spool.untold()?;
    if untold.is_empty() {
        return Ok(());
    }
    let told = audit.of_last_run()?;
    for entry in untold.iter().filter(|entry| !told.contains(entry)) {
        audit.record(entry)?;
    }
    reach("start.told");
    Ok(spool.told_all()?)
}

/// The parts as they start.
struct Parts {
    spool: Spool,
    hub: Arc<Hub>,
    stop: Stop,
    pulses: Pulses,
    threads: Vec<JoinHandle<()>>,
}

impl Parts {
    fn start(
        &mut self,
        config: &Config,
        mut model: Model,
        metrics: Arc<Metrics>,
        presses: Receiver<()>,
    ) -> Result<(SocketAddr, String, Running), ServeError> {
        let scp = self.scp(config)?;
        let receiving_at = scp.local_addr();
        let view = board::View {
            spool: self.spool.clone(),
            hub: self.hub.clone(),
            model: model.state(),
            pulses: self.pulses.clone(),
            started: Instant::now(),
        };
        let page = web::Server::bind(setup::page(&config.page)?, Arc::new(view), metrics)?;
        let page_url = page.url();
        let couriers = setup::couriers(config)?;

        let flag = self.stop.flag();
        self.thread("receive", move || scp.run(&flag))?;
        self.worker("judge", SLOW, move |worker| {
            worker.run(|worker| judge::step(worker, &mut model));
        })?;
        let (device, forward) = (setup::results(config), setup::forwards(config));
        self.worker("render", SLOW, move |worker| {
            worker.run(|worker| render::step(worker, &device, forward));
        })?;
        self.worker("keeper", SLOW, |worker| {
            let mut keeper = Keeper::default();
            worker.run(|worker| keeper.step(worker));
        })?;
        for (courier, limit) in couriers {
            self.courier(courier, limit + COURIER_SPARE)?;
        }
        self.folders(config)?;
        self.worker("acknowledge", QUICK, move |worker| signals::run(worker, &presses))?;
        self.hub.panel().send(panel::Event::Ready);
        Ok((receiving_at, page_url, page.start()?))
    }

    fn scp(&self, config: &Config) -> Result<Scp, ServeError> {
        let intake = self.intake(config);
        Ok(Scp::bind(setup::scp(config)?, Arc::new(intake))?)
    }

    fn intake(&self, config: &Config) -> Intake {
        let all = config.destinations.iter();
        let committing = all.filter(|destination| setup::wants_commitment(destination));
        Intake {
            spool: self.spool.clone(),
            hub: self.hub.clone(),
            committing: committing.map(|one| one.name.clone()).collect(),
        }
    }

    fn courier(&mut self, courier: Courier, limit: Duration) -> Result<(), ServeError> {
        self.worker("courier", limit, move |worker| worker.run(|worker| courier.step(worker)))
    }

    fn folders(&mut self, config: &Config) -> Result<(), ServeError> {
        let inbox = config.folder.inbox.clone().map(|path| Watched::new(path, After::Remove));
        let usb = config.folder.usb.clone().map(|path| Watched::new(path, After::Keep));
        for mut watched in inbox.into_iter().chain(usb) {
            let (intake, interval) = (self.intake(config), config.folder.interval);
            // A large stick takes a while; the spool's own limits bound each file.
            self.worker("folder", interval + SLOW, move |worker| {
                while !worker.stop.is_set() {
                    worker.pulse.beat();
                    if let Err(error) = watched.round(&intake, &worker.pulse) {
                        worker.hub.spool_failed("folder", &error);
                    }
                    worker.stop.sleep(interval);
                }
            })?;
        }
        Ok(())
    }

    fn worker(
        &mut self,
        name: &'static str,
        limit: Duration,
        work: impl FnOnce(&Worker) + Send + 'static,
    ) -> Result<(), ServeError> {
        let worker = Worker {
            spool: self.spool.clone(),
            hub: self.hub.clone(),
            stop: self.stop.clone(),
            pulse: self.pulse(name, limit),
        };
        self.thread(name, move || work(&worker))
    }

    fn pulse(&self, name: &'static str, limit: Duration) -> Pulse {
        self.pulses.part(name, limit.max(QUICK))
    }

    fn thread(
        &mut self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), ServeError> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
        self.threads.push(thread.map_err(ServeError::Thread)?);
        Ok(())
    }
}
