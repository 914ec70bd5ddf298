//! A board at work, as a process of its own, for the tests of the service.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use device::audit;
use device::dicom::scu::{self, Destination, ObjectFile, SendError, Timeouts};
use dicom_object::OpenFileOptions;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::zoo;

/// Longest wait for something that takes a second or two on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// The AE title that the board lets in.
pub const CALLER: &str = "XRAY";
/// The board's own AE title.
pub const BOARD: &str = "BOARD";

/// A running `device serve` on loopback; killed when dropped.
pub struct Board {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Everything it keeps, its configuration and what it printed.
    pub folder: PathBuf,
    /// Where it receives.
    pub dicom: SocketAddr,
    /// Where its page is.
    pub page: String,
}

/// How to start a board.
#[derive(Clone, Default)]
pub struct Plan {
    /// Sections added to the configuration.
    pub config: String,
    /// Keys added to its `[board]` section.
    pub board: String,
    /// AE titles that the board lets in beside [`CALLER`].
    pub callers: Vec<String>,
    /// Keys added to its `[receive]` section.
    pub receive: String,
    /// Keys of its `[storage]` section; without any, all but a megabyte of the disk may be filled.
    pub storage: String,
    /// Keys added to its `[page]` section; without an address, any port of this machine is taken.
    pub page: String,
    /// The bundle; the first of the zoo without one.
    pub bundle: Option<PathBuf>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
}

impl Plan {
    /// With these sections in the configuration.
    pub fn with(config: impl Into<String>) -> Self {
        Self { config: config.into(), ..Self::default() }
    }

    /// Starts a board that keeps its things in a folder, and waits until it is ready.
    pub fn start(&self, folder: &Path) -> Board {
        self.try_start(folder).expect("the board starts")
    }

    /// As [`Plan::start`]; nothing when the board ends before it is ready.
    pub fn try_start(&self, folder: &Path) -> Option<Board> {
        let config = folder.join("device.toml");
        fs::write(&config, self.configuration(folder)).expect("writes the configuration");
        let errors = fs::OpenOptions::new().create(true).append(true).open(folder.join("stderr"));
        let mut command = Command::new(program());
        command.arg("serve").arg("--config").arg(&config);
        command.envs(self.environment.iter().cloned());
        command.stdout(Stdio::piped()).stderr(errors.expect("opens"));
        let mut child = command.spawn().expect("the device program starts");
        let mut output = BufReader::new(child.stdout.take().expect("is piped"));
        let dicom = announced(&mut output, "receiving DICOM at ");
        let page = announced(&mut output, "page at ");
        let (Some(dicom), Some(page)) = (dicom, page) else {
            child.wait().expect("ends");
            return None;
        };
        let dicom = dicom.parse().expect("an address");
        Some(Board { child, output, folder: folder.to_owned(), dicom, page })
    }

    fn configuration(&self, folder: &Path) -> String {
        let bundle = self.bundle.clone().unwrap_or_else(|| zoo().swap_remove(0));
        let Self { board, config, receive, page, .. } = self;
        let callers = [&[CALLER.to_owned()][..], &self.callers].concat();
        let storage = if self.storage.is_empty() { "keep_free_mb = 1" } else { &self.storage };
        let has_address = page.starts_with("address");
        let address = if has_address { "" } else { "address = \"127.0.0.1:0\"" };
        format!(
            "[board]\ndata = {data:?}\nbundle = {bundle:?}\n{board}\n\
             [receive]\naddress = \"127.0.0.1:0\"\nae_title = \"{BOARD}\"\n\
             callers = {callers:?}\n{receive}\n\
             [storage]\n{storage}\n\
             [page]\n{address}\n{page}\n{config}\n",
            data = folder.join("data"),
        )
    }
}

/// The rest of the first line that begins so; nothing when the output ends.
fn announced(output: &mut impl BufRead, beginning: &str) -> Option<String> {
    let mut line = String::new();
    while output.read_line(&mut line).expect("reads") > 0 {
        if let Some(rest) = line.trim_end().strip_prefix(beginning) {
            return Some(rest.to_owned());
        }
        line.clear();
    }
    None
}

/// The program under test: what `SPINESIGHT_DEVICE` names, else the one beside the tests.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("SPINESIGHT_DEVICE") {
        return named.into();
    }
    let tests = std::env::current_exe().expect("this program's path");
    let beside = tests.parent().and_then(Path::parent).expect("a build folder").join("device");
    assert!(beside.exists(), "build the device program first, as `cargo xtask test` does");
    beside
}

impl Board {
    /// Starts a board in a new folder.
    pub fn new(plan: &Plan) -> (Self, TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        (plan.start(folder.path()), folder)
    }

    /// The board as the X-ray unit reaches it.
    pub fn destination(&self) -> Destination {
        Destination {
            address: self.dicom.to_string(),
            called: BOARD.into(),
            calling: CALLER.into(),
            tls: None,
            timeouts: Timeouts { connect: PATIENCE, pause: PATIENCE, association: PATIENCE },
        }
    }

    /// Sends DICOM files in one association.
    ///
    /// # Errors
    /// Why the board did not take them all.
    pub fn send(&self, files: &[Vec<u8>]) -> Result<(), SendError> {
        let folder = tempfile::tempdir().expect("a folder");
        let objects: Vec<_> = files
            .iter()
            .enumerate()
            .map(|(place, bytes)| {
                let path = folder.path().join(place.to_string());
                fs::write(&path, bytes).expect("writes");
                object_file(&path)
            })
            .collect();
        scu::store(&self.destination(), &objects).map(drop)
    }

    /// The process, for signals and `/proc`.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let process = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(process.expect("a process"), signal).expect("signals");
    }

    /// Asks it to end, and waits for that.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait().expect("ends in time")
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("waits")
    }

    /// Waits until it ends, by itself or because it was killed.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// What is left of its output.
    pub fn rest_of_output(&mut self) -> String {
        let mut rest = String::new();
        while self.output.read_line(&mut rest).expect("reads") > 0 {}
        rest
    }

    /// Its audit trail as text, one JSON object a line.
    pub fn audit_text(&self) -> String {
        let folder = self.folder.join("data/audit");
        audit::verify(&folder, &[]).expect("the trail is whole");
        let mut files: Vec<_> = fs::read_dir(&folder)
            .expect("lists")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
            .collect();
        files.sort();
        files.iter().map(|path| fs::read_to_string(path).expect("reads")).collect()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A DICOM file as something to send.
pub fn object_file(path: &Path) -> ObjectFile {
    let object = OpenFileOptions::new().open_file(path).expect("a DICOM file");
    let text = |uid: &str| uid.trim_end_matches('\0').to_owned();
    let meta = object.meta();
    ObjectFile {
        path: path.to_owned(),
        sop_class: text(&meta.media_storage_sop_class_uid),
        sop_instance: text(&meta.media_storage_sop_instance_uid),
        transfer_syntax: text(&meta.transfer_syntax),
    }
}

/// Waits until something is there.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
