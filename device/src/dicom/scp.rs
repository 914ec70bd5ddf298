//! Receiving: C-ECHO, C-STORE and storage commitment reports from other application entities
//! (PS3.4 annexes A, B and J).
//!
//! One thread per association. Connections that have not yet asked for an association are few and
//! short-lived: when there are too many, the oldest one of the address that has most of them goes,
//! so that idle ones neither fill the memory nor keep a sender out.

mod desk;
mod negotiation;
mod reception;
mod service;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::association::socket::{Socket, Transport, deadline_in};
use super::association::wire::{Wire, WireError};
use super::identity::is_ae_title;
use super::syntaxes::STORAGE;
use crate::spool::Arrival;
use desk::{Desk, Visit};

/// Bounds of [`ScpOptions::max_pdu`], in bytes.
pub const MAX_PDU: std::ops::RangeInclusive<u32> = 4096..=131_072;
/// How often the accepting thread looks whether to stop.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
/// How long to wait when the system has no more connections to give.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// Stack of an association's thread, in bytes.
const STACK: usize = 1024 * 1024;

/// How to receive.
#[derive(Clone)]
pub struct ScpOptions {
    /// Address and port to listen on; port 0 for any.
    pub address: SocketAddr,
    /// The board's AE title.
    pub ae_title: String,
    /// Whether a sender must call the board by its AE title.
    pub require_called: bool,
    /// AE titles that may connect; `*` for any. Empty for none.
    pub allowed: Vec<String>,
    /// SOP classes of the objects that can be stored.
    pub classes: Vec<String>,
    /// Most associations at a time.
    pub max_associations: usize,
    /// Most connections at a time that have not asked for an association yet.
    pub max_waiting: usize,
    /// Longest P-DATA unit accepted, in bytes; within [`MAX_PDU`].
    pub max_pdu: u32,
    /// Largest data set accepted, in bytes.
    pub max_object: u64,
    /// How long things may take.
    pub timeouts: ScpTimeouts,
    /// TLS, where it is wanted, from [`crate::dicom::tls::server`].
    pub tls: Option<Arc<ServerConfig>>,
}

impl ScpOptions {
    /// Usual values for a board of this AE title at this address, letting in nobody yet.
    pub fn new(address: SocketAddr, ae_title: impl Into<String>) -> Self {
        Self {
            address,
            ae_title: ae_title.into(),
            require_called: true,
            allowed: Vec::new(),
            classes: STORAGE.map(String::from).to_vec(),
            max_associations: 16,
            max_waiting: 32,
            max_pdu: 64 * 1024,
            max_object: 256 * 1024 * 1024,
            timeouts: ScpTimeouts::default(),
            tls: None,
        }
    }
}

/// How long a sender may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScpTimeouts {
    /// For a single read or write.
    pub pause: Duration,
    /// From the connection to the association, a TLS handshake included.
    pub request: Duration,
    /// Between two messages.
    pub idle: Duration,
    /// For a whole message, an object included.
    pub object: Duration,
    /// For associations to come to an end when the service stops.
    pub stop: Duration,
}

impl Default for ScpTimeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            pause: seconds(15),
            request: seconds(10),
            idle: seconds(60),
            object: seconds(300),
            stop: seconds(5),
        }
    }
}

/// Where received objects go.
pub trait Inbox: Send + Sync {
    /// Makes room for an object that is about to arrive.
    ///
    /// # Errors
    /// Why it cannot be taken.
    fn begin(&self) -> Result<Box<dyn Reception>, Refusal>;

    /// A sender was turned away or an object refused. `from` is its AE title, or its IP address
    /// where it gave none. Of connections that come to no association, each reason is told once a
    /// second at most.
    fn refused(&self, _from: &str, _reason: &'static str) {}

    /// A destination reports on a request for storage commitment: SOP Instance UIDs that it will
    /// keep, and those that it will not with their failure reasons.
    fn commitment(&self, _transaction: &str, _committed: &[String], _failed: &[(String, u16)]) {}
}

/// An object while it arrives: takes the bytes of a DICOM file (PS3.10). Dropped unfinished, it
/// leaves nothing behind.
pub trait Reception: io::Write + Send {
    /// The object is complete. Returns only when it is safe on disk; says whether it is new.
    ///
    /// # Errors
    /// Why it cannot be kept.
    fn finish(self: Box<Self>, arrival: Arrival) -> Result<bool, Refusal>;
}

/// Why an object is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No space, or too little.
    #[error("there is no space")]
    OutOfResources,
    /// Another object of this SOP Instance UID is here.
    #[error("another object has the same identity")]
    Duplicate,
    /// Larger than allowed.
    #[error("the object is too large")]
    TooLarge,
    /// The data set is of another class or instance than the message says.
    #[error("the object is not what the sender announced")]
    Mismatch,
    /// The data set does not parse.
    #[error("the object cannot be read")]
    Unreadable,
    /// Anything else, on the board's side.
    #[error("the object cannot be stored")]
    Failed,
}

impl Refusal {
    /// The status in the response (PS3.4 table B.2-1, PS3.7 annex C).
    pub fn status(self) -> u16 {
        match self {
            Refusal::OutOfResources | Refusal::TooLarge => 0xA700,
            Refusal::Duplicate => 0x0111,
            Refusal::Mismatch => 0xA900,
            Refusal::Unreadable => 0xC000,
            Refusal::Failed => 0x0110,
        }
    }

    /// The same in words.
    pub fn reason(self) -> &'static str {
        match self {
            Refusal::OutOfResources => "there is no space",
            Refusal::Duplicate => "another object has the same identity",
            Refusal::TooLarge => "the object is too large",
            Refusal::Mismatch => "the object is not what the sender announced",
            Refusal::Unreadable => "the object cannot be read",
            Refusal::Failed => "the object cannot be stored",
        }
    }
}

/// Why receiving cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ScpError {
    /// The address is taken or not there.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// An option is out of its bounds.
    #[error("{0}")]
    Option(&'static str),
}

/// A service that receives.
pub struct Scp {
    listener: TcpListener,
    local: SocketAddr,
    options: ScpOptions,
    inbox: Arc<dyn Inbox>,
}

impl Scp {
    /// Starts to listen. Nobody is answered before [`Scp::run`].
    ///
    /// # Errors
    /// [`ScpError`] for options out of bounds and addresses that cannot be listened on.
    pub fn bind(options: ScpOptions, inbox: Arc<dyn Inbox>) -> Result<Self, ScpError> {
        check(&options)?;
        let address = options.address;
        let listen = |source| ScpError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let local = listener.local_addr().map_err(listen)?;
        Ok(Self { listener, local, options, inbox })
    }

    /// The address listened on, with the port that was chosen.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Receives until `stop` is set; then lets messages in progress end, within
    /// [`ScpTimeouts::stop`], and returns when no association is left.
    pub fn run(&self, stop: &AtomicBool) {
        let desk = Desk::new(self.options.max_waiting, self.options.max_associations);
        thread::scope(|scope| {
            while !stop.load(Ordering::Acquire) {
                match self.listener.accept() {
                    Ok((tcp, address)) => self.admit(scope, &desk, stop, tcp, address.ip()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(),
                    // A connection that ended before it was accepted, or no file handles left.
                    Err(_) => thread::sleep(EXHAUSTED),
                }
            }
            desk.close(self.options.timeouts.stop);
        });
    }

    /// Waits for a connection, or a while. A failure is as good as a while.
    fn wait(&self) {
        let mut listener = [PollFd::new(&self.listener, PollFlags::IN)];
        if poll(&mut listener, Some(&TICK)).is_err() {
            thread::sleep(EXHAUSTED);
        }
    }

    fn admit<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        desk: &Arc<Desk>,
        stop: &'env AtomicBool,
        tcp: TcpStream,
        address: IpAddr,
    ) {
        let tcp = Arc::new(tcp);
        if tcp.set_nonblocking(false).is_err() || tcp.set_nodelay(true).is_err() {
            return;
        }
        let Some(visit) = desk.enter(address, tcp.clone()) else {
            self.refused_visit(desk, address, "there are too many connections");
            return;
        };
        let thread = thread::Builder::new().name("association".into()).stack_size(STACK);
        let spawned = thread.spawn_scoped(scope, move || self.serve(visit, tcp, stop));
        if spawned.is_err() {
            self.refused_visit(desk, address, "there are too many connections");
        }
    }

    /// Serves one connection to its end. A fault of ours ends this connection alone.
    fn serve(&self, visit: Visit, tcp: Arc<TcpStream>, stop: &AtomicBool) {
        let address = visit.address();
        let conversation = AssertUnwindSafe(|| self.converse(&visit, tcp, stop));
        if catch_unwind(conversation).is_err() {
            self.inbox.refused(&address.to_string(), "an internal fault ended the association");
        }
    }

    fn converse(&self, visit: &Visit, tcp: Arc<TcpStream>, stop: &AtomicBool) {
        let timeouts = &self.options.timeouts;
        let socket = Socket::new(tcp, timeouts.pause, deadline_in(timeouts.request));
        let Ok(transport) = self.transport(socket) else {
            self.refused_visit(visit.desk(), visit.address(), "TLS cannot be started");
            return;
        };
        let mut wire = Wire::new(transport, self.options.max_pdu);
        match negotiation::negotiate(&mut wire, &self.options, || visit.promote()) {
            Ok(agreement) => {
                service::serve(&mut wire, &agreement, &self.options, &*self.inbox, visit, stop);
            }
            Err(negotiation::TurnedAway::Request { from, reason }) => {
                wire.finish();
                if visit.desk().may_tell(reason) {
                    self.inbox.refused(&from, reason);
                }
            }
            Err(negotiation::TurnedAway::Wire(error)) => {
                wire.abort(error);
                self.refused_visit(visit.desk(), visit.address(), no_request(error));
            }
        }
    }

    fn transport(&self, socket: Socket) -> Result<Transport, rustls::Error> {
        let Some(config) = &self.options.tls else { return Ok(Transport::Plain(socket)) };
        let connection = ServerConnection::new(config.clone())?;
        Ok(Transport::TlsServer(Box::new(StreamOwned::new(connection, socket))))
    }

    /// Tells of a connection that is no sender, unless the like was told of just now.
    fn refused_visit(&self, desk: &Desk, address: IpAddr, reason: &'static str) {
        if desk.may_tell(reason) {
            self.inbox.refused(&address.to_string(), reason);
        }
    }
}

/// Why a connection never asked for an association.
fn no_request(error: WireError) -> &'static str {
    match error {
        WireError::TimedOut => "a connection asked for nothing",
        WireError::Closed | WireError::Broken(_) => "a connection ended before it asked",
        WireError::Insecure => "a connection failed its TLS handshake",
        _ => "a connection asked for something that is not DICOM",
    }
}

fn check(options: &ScpOptions) -> Result<(), ScpError> {
    let timeouts = &options.timeouts;
    let zero = [timeouts.pause, timeouts.request, timeouts.idle, timeouts.object]
        .iter()
        .any(Duration::is_zero);
    let lawful = |title: &String| title == "*" || is_ae_title(title);
    if !is_ae_title(&options.ae_title) || !options.allowed.iter().all(lawful) {
        return Err(ScpError::Option("an AE title has 1 to 16 printable ASCII characters"));
    }
    if !MAX_PDU.contains(&options.max_pdu) {
        return Err(ScpError::Option("the maximum PDU length is 4096 to 131072 bytes"));
    }
    if options.max_associations == 0 || options.max_waiting == 0 || options.max_object == 0 {
        return Err(ScpError::Option("a maximum is at least 1"));
    }
    if zero {
        return Err(ScpError::Option("a time-out is more than nothing"));
    }
    Ok(())
}
