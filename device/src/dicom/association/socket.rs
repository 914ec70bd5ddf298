//! A connection on which nothing waits beyond a deadline.
//!
//! A time-out on each read alone lets a peer that sends one byte now and then hold a connection
//! for ever. Here each read and write waits at most until a deadline that lies ahead of all of
//! them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, ServerConnection, StreamOwned};

/// The longest that any deadline lies ahead.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// A socket takes no shorter time-out than this.
const SHORTEST: Duration = Duration::from_millis(1);

/// The moment so far ahead, at most a day.
pub fn deadline_in(time: Duration) -> Instant {
    Instant::now() + time.min(LONGEST)
}

/// A TCP connection with a deadline.
pub struct Socket {
    tcp: Arc<TcpStream>,
    /// The longest time for one read or write.
    pause: Duration,
    deadline: Instant,
}

impl Socket {
    /// A socket on which a single read or write takes at most `pause` and all of them end at
    /// `deadline`. The connection is shared so that another thread can shut it.
    pub fn new(tcp: Arc<TcpStream>, pause: Duration, deadline: Instant) -> Self {
        Self { tcp, pause, deadline }
    }

    /// How long the next read or write may take.
    fn allowance(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(Some(left.min(self.pause).max(SHORTEST)))
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.set_read_timeout(self.allowance()?)?;
        (&*self.tcp).read(buffer).map_err(timed_out)
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(self.allowance()?)?;
        (&*self.tcp).write(buffer).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Linux reports a socket's time-out as an operation that would block.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}

/// A socket, with or without TLS. The handshake takes place at the first read or write.
pub enum Transport {
    /// In the clear.
    Plain(Socket),
    /// TLS, this end having been connected to.
    TlsServer(Box<StreamOwned<ServerConnection, Socket>>),
    /// TLS, this end having connected.
    TlsClient(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Transport {
    /// Moves the deadline.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.socket().deadline = deadline;
    }

    /// Shuts the connection. A failure is of no interest: it is over either way.
    pub fn close(&mut self) {
        let _ = self.socket().tcp.shutdown(Shutdown::Both);
    }

    /// Tells the peer that nothing more is sent. A failure is of no interest either.
    pub fn end_writing(&mut self) {
        match self {
            Transport::Plain(_) => {}
            Transport::TlsServer(tls) => {
                tls.conn.send_close_notify();
                let _ = tls.flush();
            }
            Transport::TlsClient(tls) => {
                tls.conn.send_close_notify();
                let _ = tls.flush();
            }
        }
        let _ = self.socket().tcp.shutdown(Shutdown::Write);
    }

    fn socket(&mut self) -> &mut Socket {
        match self {
            Transport::Plain(socket) => socket,
            Transport::TlsServer(tls) => &mut tls.sock,
            Transport::TlsClient(tls) => &mut tls.sock,
        }
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.read(buffer),
            Transport::TlsServer(tls) => tls.read(buffer),
            Transport::TlsClient(tls) => tls.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.write(buffer),
            Transport::TlsServer(tls) => tls.write(buffer),
            Transport::TlsClient(tls) => tls.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.flush(),
            Transport::TlsServer(tls) => tls.flush(),
            Transport::TlsClient(tls) => tls.flush(),
        }
    }
}
