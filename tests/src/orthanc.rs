//! Orthanc, an archive, as a process of its own.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::board::{BOARD, Board, eventually};

/// Orthanc's AE title.
pub const ORTHANC: &str = "ORTHANC";
/// Debian's program.
const PROGRAM: &str = "/usr/sbin/Orthanc";
/// Debian's DICOMweb plugin.
const DICOM_WEB: &str = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so";

/// A running Orthanc with an empty archive; killed when dropped.
pub struct Orthanc {
    child: Child,
    folder: TempDir,
    /// Where it receives DICOM.
    pub dicom: u16,
    http: u16,
}

impl Orthanc {
    /// Starts one that takes objects from anyone on this machine.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let [dicom, http] = free_ports();
        let config = folder.path().join("orthanc.json");
        let text = configuration(folder.path(), dicom, http).to_string();
        fs::write(&config, text).expect("writes the configuration");
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let child = Command::new(PROGRAM)
            .arg("--verbose")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the same log"))
            .stderr(log)
            .spawn()
            .expect("Orthanc starts");
        let orthanc = Self { child, folder, dicom, http };
        eventually("Orthanc answers", || orthanc.ask("/system"));
        orthanc
    }

    /// The section of a board's configuration that sends here by C-STORE.
    pub fn dicom_section(&self, more: &str) -> String {
        format!(
            "[[destination]]\nname = \"orthanc\"\naddress = \"127.0.0.1:{}\"\n\
             ae_title = \"{ORTHANC}\"\n{more}\n",
            self.dicom
        )
    }

    /// The section of a board's configuration that sends here by STOW-RS.
    pub fn stow_section(&self) -> String {
        format!(
            "[[destination]]\nname = \"orthanc\"\nkind = \"stow\"\nurl = \"{}\"\n",
            self.url("/dicom-web/studies")
        )
    }

    /// Tells it where a board is, and whether it makes promises to it.
    pub fn introduce(&self, board: &Board, commits: bool) {
        let modality = json!({
            "AET": BOARD,
            "Host": "127.0.0.1",
            "Port": board.dicom.port(),
            "AllowStorageCommitment": commits,
        });
        let answer = ureq::put(self.url("/modalities/board")).send(modality.to_string());
        answer.expect("Orthanc takes the modality");
    }

    /// The objects of a study: their names in Orthanc.
    pub fn find(&self, study: &str) -> Vec<String> {
        let question = json!({ "Level": "Instance", "Query": { "StudyInstanceUID": study } });
        let mut answer = ureq::post(self.url("/tools/find"))
            .send(question.to_string())
            .expect("Orthanc searches");
        let text = answer.body_mut().read_to_string().expect("text");
        serde_json::from_str(&text).expect("a list of names")
    }

    /// An object's data set as Orthanc reads it: values by `gggg,eeee`, sequences as lists.
    pub fn tags(&self, name: &str) -> Value {
        self.ask(&format!("/instances/{name}/tags?short")).expect("Orthanc has the object")
    }

    /// An object's DICOM file.
    pub fn file(&self, name: &str) -> Vec<u8> {
        let path = format!("/instances/{name}/file");
        let mut answer = ureq::get(self.url(&path)).call().expect("Orthanc has the object");
        answer.body_mut().with_config().limit(1 << 30).read_to_vec().expect("a file")
    }

    /// What it printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    fn ask(&self, path: &str) -> Option<Value> {
        let mut answer = ureq::get(self.url(path)).call().ok()?;
        serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }
}

impl Drop for Orthanc {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(folder: &Path, dicom: u16, http: u16) -> Value {
    json!({
        "Name": "Tests",
        "StorageDirectory": folder.join("archive"),
        "IndexDirectory": folder.join("archive"),
        "Plugins": [DICOM_WEB],
        "HttpServerEnabled": true,
        "HttpPort": http,
        "RemoteAccessAllowed": false,
        "AuthenticationEnabled": false,
        "DicomServerEnabled": true,
        "DicomAet": ORTHANC,
        "DicomCheckCalledAet": true,
        "DicomCheckModalityHost": true,
        "DicomPort": dicom,
        "DicomWeb": { "Enable": true, "Root": "/dicom-web/" },
    })
}

/// Ports that nobody listens on now: Orthanc cannot choose its own.
fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}
