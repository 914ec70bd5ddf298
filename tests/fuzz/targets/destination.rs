//! Whatever a destination answers, asking it comes to an end.
#![no_main]

use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use device::dicom::association::wire::WireError;
use device::dicom::scu::{self, Destination, SendError, Timeouts};
use device::dicom::worklist::{self, Key};
use device::dicom::{commitment, identity};
use libfuzzer_sys::fuzz_target;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the peer says next.
static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

static PEER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listens");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || listener.incoming().for_each(|peer| speak(peer.expect("connects"))));
    address
});

fuzz_target!(|input: (u8, &[u8])| {
    let (which, answer) = input;
    ANSWER.lock().expect("not poisoned").clear();
    ANSWER.lock().expect("not poisoned").extend(answer);
    let destination = Destination {
        address: PEER.to_string(),
        called: "ARCHIVE".into(),
        calling: "BOARD".into(),
        tls: None,
        timeouts: Timeouts { connect: PATIENCE, pause: PATIENCE, association: PATIENCE },
    };
    let outcome = match which % 3 {
        0 => scu::echo(&destination),
        1 => {
            let objects = [("1.2".to_owned(), "1.2.5".to_owned())];
            let asked = commitment::request(&destination, "1.2.7", &objects, PATIENCE);
            asked.map(|report| report.into_iter().for_each(|report| check(&report)))
        }
        _ => worklist::find(&destination, &Key::Accession("A-7".into()), 2)
            .map(|entries| assert!(entries.len() <= 2)),
    };
    let is_late = matches!(outcome, Err(SendError::Wire(WireError::TimedOut)));
    assert!(!is_late, "asking goes on after the answer's end");
});

/// A report is about what was asked, and names nothing that is no UID.
fn check(report: &commitment::Report) {
    assert_eq!(report.transaction, "1.2.7");
    let failed = report.failed.iter().map(|(instance, _)| instance);
    assert!(report.committed.iter().chain(failed).all(|uid| identity::is_uid(uid)));
}

/// Says the answer, and then listens until the other side has enough.
fn speak(mut peer: TcpStream) {
    let answer = ANSWER.lock().expect("not poisoned").clone();
    let _ = peer.write_all(&answer);
    let _ = peer.shutdown(Shutdown::Write);
    let _ = io::copy(&mut peer, &mut io::sink());
}
