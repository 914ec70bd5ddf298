//! Any bytes from a peer are answered or end the connection, and what is kept is a DICOM file.
//!
//! A panic counts even where the service catches it: the fuzzer ends the process at once.
#![no_main]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use device::dicom::scp::{Inbox, Reception, Refusal, Scp, ScpOptions};
use device::spool::Arrival;
use libfuzzer_sys::fuzz_target;

/// Most bytes of a data set that the service takes.
const MAX_OBJECT: u64 = 2048;
/// Most bytes of preamble and meta group before it.
const MAX_HEAD: u64 = 1024;
/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(15);

static SERVICE: LazyLock<SocketAddr> = LazyLock::new(|| {
    let mut options = ScpOptions::new((Ipv4Addr::LOCALHOST, 0).into(), "BOARD");
    options.allowed = vec!["*".into()];
    options.require_called = false;
    options.max_object = MAX_OBJECT;
    let scp = Scp::bind(options, Arc::new(Door)).expect("listens");
    let address = scp.local_addr();
    thread::spawn(move || scp.run(&AtomicBool::new(false)));
    address
});

fuzz_target!(|bytes: &[u8]| {
    let mut peer = TcpStream::connect(*SERVICE).expect("connects");
    // The service may have enough before the end.
    let _ = peer.write_all(bytes);
    let _ = peer.shutdown(Shutdown::Write);
    read_to_end(peer);
});

/// Everything that the service says. It sees the end of the input, and so must end itself.
fn read_to_end(mut peer: TcpStream) {
    peer.set_read_timeout(Some(PATIENCE)).expect("sets a time-out");
    let mut answer = [0; 4096];
    loop {
        match peer.read(&mut answer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            // The fuzzer's own clock.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("the service neither answers nor closes: {error}"),
        }
    }
}

struct Door;

impl Inbox for Door {
    fn begin(&self) -> Result<Box<dyn Reception>, Refusal> {
        Ok(Box::new(Arriving(Vec::new())))
    }

    fn refused(&self, _: &str, reason: &'static str) {
        assert!(!reason.contains("internal fault"), "{reason}");
    }
}

struct Arriving(Vec<u8>);

impl io::Write for Arriving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend(bytes);
        assert!(self.0.len() as u64 <= MAX_OBJECT + MAX_HEAD, "more is kept than allowed");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Reception for Arriving {
    fn finish(self: Box<Self>, arrival: Arrival) -> Result<bool, Refusal> {
        assert_eq!(self.0.get(128..132), Some(&b"DICM"[..]));
        assert!(!arrival.sop_instance.is_empty());
        Ok(true)
    }
}
