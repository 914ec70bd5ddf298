//! Bounds on connections: how many, how many from one address, and how long one may be silent.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// Connections at the same time.
const MAX: usize = 128;
/// Connections from one address, so that one machine cannot take all; a browser opens six or so.
const MAX_EACH: usize = 32;
/// The longest time without a byte either way. Longer than a live page's sign of life.
const SILENCE: Duration = Duration::from_secs(45);

/// Takes connections while there is room, and closes the others at once.
#[derive(Clone, Debug, Default)]
pub struct Bounded(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl<S> Accept<TcpStream, S> for Bounded {
    type Stream = Guarded;
    type Service = S;
    type Future = Ready<io::Result<(Guarded, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(self.admit(stream).map(|guarded| (guarded, service)))
    }
}

impl Bounded {
    fn admit(&self, stream: TcpStream) -> io::Result<Guarded> {
        let place = self.place(stream.peer_addr()?.ip().to_canonical());
        let place = place.ok_or_else(|| io::Error::from(io::ErrorKind::QuotaExceeded))?;
        stream.set_nodelay(true)?;
        Ok(Guarded { stream, silence: Box::pin(sleep(SILENCE)), _place: place })
    }

    fn place(&self, address: IpAddr) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.get(&address).copied().unwrap_or_default();
        if all >= MAX || own >= MAX_EACH {
            return None;
        }
        open.insert(address, own + 1);
        Some(Place { open: self.clone(), address })
    }
}

/// A connection's share of the bounds, given back when dropped.
#[derive(Debug)]
struct Place {
    open: Bounded,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.remove(&self.address);
            }
        }
    }
}

/// A connection that fails when nothing moves for [`SILENCE`].
#[derive(Debug)]
pub struct Guarded {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    _place: Place,
}

impl Guarded {
    fn watch<T>(
        &mut self,
        moved: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            self.silence.as_mut().reset(Instant::now() + SILENCE);
            return moved;
        }
        match self.silence.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.watch(moved, cx)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(moved, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn places_are_bounded_and_given_back() {
        let bounded = Bounded::default();
        let address = |number: u32| IpAddr::from(Ipv4Addr::from_bits(number));
        let mut one: Vec<Place> = std::iter::from_fn(|| bounded.place(address(1))).collect();
        assert_eq!(one.len(), MAX_EACH);
        let others: Vec<Place> = (2..500).filter_map(|n| bounded.place(address(n))).collect();
        assert_eq!(one.len() + others.len(), MAX);
        one.pop();
        let again = bounded.place(address(1));
        assert!(again.is_some());
        drop((one, others, again));
        assert!(bounded.0.lock().expect("whole").is_empty());
    }
}
