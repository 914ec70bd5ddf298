//! The log: one compact defmt frame for each event, never patient data.
//!
//! A frame holds the number of its format string and the values; the strings stay in the program's
//! ELF file. `cargo xtask logs` decodes with the ELF whose build id is in the log file's name.
//! Statements are `defmt::info!` and its like anywhere in this crate; [`event()`] logs the service's
//! events. What they may hold: scan names, states, counts, names from the configuration, and at
//! most 16 printable characters of a calling AE title; never a patient's name or ID, a file name,
//! or received bytes.
//!
//! Invariants: a thread that logs never waits for a disk or a port; frames that cannot be written
//! are counted, and the count is logged when the place works again; until [`start`] frames go
//! nowhere, and in programs not linked for the log (see `build.rs`) it does not start.

mod build_id;
mod events;
mod files;
mod frame;
mod outlet;
mod panics;
mod queue;
mod serial;
mod writer;

pub use events::{event, trouble};

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use files::{Limits, LogFiles};
use outlet::Outlet;
use queue::Message;
use serial::SerialPort;
use writer::Account;

/// How long starting and stopping wait for the writer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the log goes and how much of it is kept.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Folder of the log files; made where it is missing.
    pub folder: PathBuf,
    /// Size in bytes at which a file is followed by a new one.
    pub file_bytes: u64,
    /// Number of files kept, of all builds together; at least one is.
    pub files: usize,
    /// A port that gets every frame too.
    pub serial: Option<SerialOptions>,
}

/// A serial port: 8 data bits, no parity, one stop bit, no flow control.
#[derive(Clone, Debug)]
pub struct SerialOptions {
    /// The device, for example `/dev/ttyS1`.
    pub path: PathBuf,
    /// Speed in baud, for example 115200.
    pub baud: u32,
}

/// Why the log does not start. A folder or port that fails is no such reason: it is tried again
/// every second, and [`Logger::status`] tells.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// One log is enough for a process.
    #[error("the log runs already")]
    AlreadyStarted,
    /// The program's frames could not be decoded.
    #[error("this program is not linked for the log: only the board's own programs are")]
    NotLinkedForLog,
    /// The program's own file cannot be read.
    #[error("cannot read the build id of this program")]
    Program(#[source] io::Error),
    /// No thread for the writer.
    #[error("cannot start the thread that writes the log")]
    Thread(#[source] io::Error),
}

/// How the log fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStatus {
    /// Frames that were not written, since the program started: dropped before they reached the
    /// writer, or not taken by a place (each counts).
    pub lost: u64,
    /// What is wrong now, one plain sentence for each place that fails; without paths.
    pub troubles: Vec<String>,
}

/// The running log; stops when dropped, after what was logged so far is written.
#[derive(Debug)]
pub struct Logger {
    build_id: String,
    account: Arc<Mutex<Account>>,
    ended: Mutex<Receiver<()>>,
}

/// Starts to write the log, and to log panics.
///
/// # Errors
/// When it runs already, or this program is not linked for it.
pub fn start(options: LogOptions) -> Result<Logger, LogError> {
    let build_id = build_id::of_this_program()?;
    let receiver = queue::open().ok_or(LogError::AlreadyStarted)?;
    let outlets = outlets(options, &build_id);
    let (account, ended) = spawn(receiver, outlets).inspect_err(|_| queue::close())?;
    panics::log_from_now_on();
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let version = env!("CARGO_PKG_VERSION");
    defmt::info!("device {=str} started at {=str}, build {=str}", version, &*now, &*build_id);
    queue::flush(PATIENCE);
    Ok(Logger { build_id, account, ended: Mutex::new(ended) })
}

impl Logger {
    /// Build id of this program in hexadecimal digits: a part of the log files' names.
    pub fn build_id(&self) -> &str {
        &self.build_id
    }

    /// What was lost, and what is wrong now.
    pub fn status(&self) -> LogStatus {
        let account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = queue::lost() + account.lost.values().sum::<u64>();
        let troubles = account.troubles.iter().map(|(name, why)| format!("log {name}: {why}"));
        LogStatus { lost, troubles: troubles.collect() }
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        defmt::info!("log ends");
        queue::close();
        // Ends with an error, too, when the writer is gone; a disk that hangs is not waited for.
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(PATIENCE);
    }
}

/// Waits until everything logged so far is written, at most this long; whether it is.
pub fn flush(patience: Duration) -> bool {
    queue::flush(patience)
}

fn outlets(options: LogOptions, build_id: &str) -> Vec<Outlet> {
    let LogOptions { folder, file_bytes, files, serial } = options;
    let limits = Limits { file_bytes, files };
    let build_id = build_id.to_owned();
    let open = move || {
        let files = LogFiles::open(&folder, &build_id, limits)?;
        Ok(Box::new(files) as Box<dyn outlet::Sink>)
    };
    let mut outlets = vec![Outlet::new("file", Box::new(open))];
    outlets.extend(serial.map(|SerialOptions { path, baud }| {
        let open = move || Ok(Box::new(SerialPort::open(&path, baud)?) as Box<dyn outlet::Sink>);
        Outlet::new("serial port", Box::new(open))
    }));
    outlets
}

type Writer = (Arc<Mutex<Account>>, Receiver<()>);

fn spawn(receiver: Receiver<Message>, outlets: Vec<Outlet>) -> Result<Writer, LogError> {
    let account = Arc::default();
    let shared = Arc::clone(&account);
    let (end, ended) = sync_channel(1);
    let body = move || {
        writer::run(&receiver, outlets, &shared);
        // Nobody may wait any more.
        let _ = end.send(());
    };
    thread::Builder::new().name("log".into()).spawn(body).map_err(LogError::Thread)?;
    Ok((account, ended))
}
