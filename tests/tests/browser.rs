//! The page as people meet it: headless Chromium against a board at work.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;

use device::web::provision::certificate;
use device::web::secret;
use host::phantom::{Phantom, PhantomSpec, render};
use models::label::Class;
use models::radiograph::Radiograph;
use tempfile::TempDir;
use tests::archive::Archive;
use tests::board::{Board, Plan, eventually};
use tests::scan;

/// Where the page looks well on a large screen, and the network still has a second's work at most.
const SIZE: (u32, u32) = (420, 760);
/// Scans that lie there when the browser comes.
const PRESENT: usize = 9;

/// Covers: PAG-2, PAG-3, PAG-4
#[test]
#[ignore = "cargo xtask test --with browser"]
fn the_page_works_in_a_browser() {
    browse("http", "");
}

/// Covers: PAG-2, PAG-3, PAG-4
#[test]
#[ignore = "cargo xtask test --with browser"]
fn the_page_works_over_https() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = certificate(&["127.0.0.1".into()]).expect("a certificate");
    let keep = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("writes");
        path
    };
    let certificate = keep("board.pem", &made.certificate_pem);
    let key = keep("board.key", &made.key_pem);
    browse("https", &format!("certificate = {certificate:?}\nkey = {key:?}\n"));
}

/// Runs every step of the browser's script against a board with these keys for its page.
fn browse(name: &str, keys: &str) {
    let python = std::env::var_os("SPINESIGHT_PEERS")
        .expect("SPINESIGHT_PEERS names a Python with Selenium: cargo xtask test --with browser");
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser").join(name);
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listens");
    let mut ward = Ward::open(keys);
    let mut script = Command::new(python);
    script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/browser_peer.py"));
    script.args([&ward.board().page, &ward.secret]);
    script.args(["--control", &control(&listener)]).arg("--shots").arg(&shots);
    let status = obey(&listener, script, |word| ward.obey(word));
    println!("screenshots: {}", shots.display());
    assert!(status.success(), "the browser is not content");
}

/// The command by which the script asks for something: it passes a word on, and waits.
fn control(listener: &TcpListener) -> String {
    let port = listener.local_addr().expect("an address").port();
    let ask = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo $0 >&3; read -r done <&3");
    format!("bash -c '{ask}'")
}

/// Runs a program and does what it asks for, until it ends.
fn obey(listener: &TcpListener, mut program: Command, mut act: impl FnMut(&str)) -> ExitStatus {
    let end = control(listener);
    let mut child = program.spawn().expect("starts");
    let waiting = thread::spawn(move || {
        let status = child.wait().expect("ends");
        let told = Command::new("sh").arg("-c").arg(format!("{end} end")).status();
        assert!(told.expect("tells").success());
        status
    });
    for connection in listener.incoming() {
        let mut connection = BufReader::new(connection.expect("connects"));
        let mut word = String::new();
        connection.read_line(&mut word).expect("reads");
        let ended = word.trim_end() == "end";
        if !ended {
            act(word.trim_end());
        }
        connection.get_mut().write_all(b"done\n").expect("answers");
        if ended {
            break;
        }
    }
    waiting.join().expect("ended")
}

/// A board at work: scans of every verdict, an archive that takes them, one that does not answer.
struct Ward {
    plan: Plan,
    board: Option<Board>,
    secret: String,
    scans: usize,
    folder: TempDir,
    _archive: Archive,
}

impl Ward {
    fn open(keys: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = secret::generate().expect("a secret");
        let kept = folder.path().join("page.secret");
        fs::write(&kept, secret::hash(&secret).expect("a hash")).expect("writes");
        let archive = Archive::start();
        let inbox = inbox(folder.path());
        let config = format!(
            "[folder]\ninbox = {inbox:?}\ninterval = \"100ms\"\n\
             [retry]\nfirst = \"100ms\"\nmost = \"200ms\"\nattempts = 3\n{}\
             [[destination]]\nname = \"ward\"\naddress = \"127.0.0.1:9\"\nae_title = \"WARD\"\n",
            archive.section("archive", "")
        );
        // The browser comes back to the same address after a restart.
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|port| port.local_addr());
        let address = free.expect("a free port");
        let page = format!("address = \"{address}\"\nsecret = {kept:?}\n{keys}");
        let plan = Plan { page, ..Plan::with(config) };
        let board = Some(plan.start(folder.path()));
        let mut ward = Self { plan, board, secret, scans: 0, folder, _archive: archive };
        ward.send(&faint());
        (1..PRESENT).for_each(|_| ward.scan());
        ward.broken_file();
        ward
    }

    fn board(&self) -> &Board {
        self.board.as_ref().expect("is at work")
    }

    fn obey(&mut self, word: &str) {
        match word {
            "scan" => self.scan(),
            "expire" => self.restart(),
            other => panic!("asked for {other}"),
        }
    }

    /// A new scan, judged; the classes take turns.
    fn scan(&mut self) {
        self.send(&phantom(Class::ALL[self.scans % Class::ALL.len()], self.scans as u64));
    }

    fn send(&mut self, phantom: &Phantom) {
        self.board().send(&[scan(phantom, self.scans)]).expect("takes the scan");
        self.scans += 1;
        eventually("the scan is judged", || {
            (self.board().audit_text().matches("\"judged\"").count() == self.scans).then_some(())
        });
    }

    /// A file that no network can judge.
    fn broken_file(&self) {
        let file = inbox(self.folder.path()).join("a.png");
        fs::write(file, b"\x89PNG\r\n\x1a\nno picture").expect("writes");
        eventually("it is told", || {
            self.board().audit_text().contains("\"unjudged\"").then_some(())
        });
    }

    /// Ends every session, which a board keeps in its memory alone.
    fn restart(&mut self) {
        let board = self.board.take().expect("is at work");
        assert!(board.stop().success());
        self.board = Some(self.plan.start(self.folder.path()));
    }
}

fn phantom(class: Class, seed: u64) -> Phantom {
    let (width, height) = SIZE;
    render(&PhantomSpec { class, seed, width, height }).expect("renders")
}

/// A scan with hardly any contrast, which a human must judge.
fn faint() -> Phantom {
    let phantom = phantom(Class::Normal, 0);
    let faded = phantom.image.samples().iter().map(|sample| 30_000 + sample / 100).collect();
    let image = Radiograph::new(SIZE.0, SIZE.1, faded).expect("a picture");
    Phantom { image, ..phantom }
}

fn inbox(folder: &Path) -> PathBuf {
    let inbox = folder.join("inbox");
    fs::create_dir_all(&inbox).expect("makes");
    inbox
}
