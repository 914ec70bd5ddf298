//! The listener: who may reach it, and its life from bind to stop.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};

use crate::metrics::Metrics;

use super::Board;
use super::app::{App, BOARD_CALLS, Clock, STREAMS};
use super::connection::Bounded;
use super::limit::Limiter;
use super::routes;
use super::secret::{SecretError, Verifier};
use super::session::Sessions;
use super::tls::{self, TlsError};
use super::token::Token;

/// How long a request's head may take to arrive.
const HEAD: Duration = Duration::from_secs(10);
/// The longest head in bytes, and its most lines.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// How long answers may go on after the server was told to stop.
const GRACE: Duration = Duration::from_secs(3);

/// Where and how the pages are served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes any.
    pub address: SocketAddr,
    /// Host names by which browsers may address the board, beside its IP addresses and
    /// `localhost`.
    pub names: Vec<String>,
    /// Serves HTTPS with these; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// Argon2id hash of the secret, in PHC form, from [`hash_secret`](super::provision::hash_secret);
    /// none before the board is provisioned.
    pub secret_hash: Option<String>,
    /// A bearer token that opens `/metrics` from anywhere; none allows only this machine and
    /// whoever is signed in.
    pub metrics_token: Option<String>,
    /// The longest time that one signs in for.
    pub session: Duration,
    /// The longest time that a signed-in person may do nothing.
    pub idle: Duration,
}

/// PEM files for HTTPS.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate, and after it those that vouch for it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why the pages cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// Without a secret, the address would let anyone in.
    #[error("{0} can be reached from elsewhere; without a secret, only loopback is allowed")]
    NoSecret(SocketAddr),
    /// Without TLS, the secret would cross the network in the clear.
    #[error("{0} can be reached from elsewhere; without a certificate, only loopback is allowed")]
    NoCertificate(SocketAddr),
    /// The secret's hash is unusable.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Certificate or key is unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be listened at.
    #[error("cannot listen at {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The system gives no thread or event queue.
    #[error("cannot start: {0}")]
    Start(io::Error),
}

/// A server that listens but does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<RustlsConfig>,
    router: Router,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Checks the options and listens.
    ///
    /// # Errors
    /// When an option is unusable, the address may be reached from elsewhere although the board is
    /// not provisioned, or the address cannot be listened at.
    pub fn bind(
        options: Options,
        board: Arc<dyn Board>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, WebError> {
        Self::bind_with_clock(options, board, metrics, Arc::new(Instant::now))
    }

    /// As [`Server::bind`], with another clock, for tests in which sessions end.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub fn bind_with_clock(
        options: Options,
        board: Arc<dyn Board>,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Self, WebError> {
        let verifier = options.secret_hash.as_deref().map(Verifier::new).transpose()?;
        if !options.address.ip().to_canonical().is_loopback() {
            if verifier.is_none() {
                return Err(WebError::NoSecret(options.address));
            }
            if options.tls.is_none() {
                return Err(WebError::NoCertificate(options.address));
            }
        }
        let tls = options.tls.map(|files| tls::config(&files.certificate, &files.key));
        let tls = tls.transpose()?.map(|config| RustlsConfig::from_config(Arc::new(config)));
        let listening = |e| WebError::Listen(options.address, e);
        let listener = TcpListener::bind(options.address).map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        let (stop, stopping) = watch::channel(false);
        let app = App {
            board,
            metrics,
            sessions: Sessions::new(options.session, options.idle),
            limiter: Limiter::new(clock()),
            verifier: verifier.map(Arc::new),
            metrics_token: options.metrics_token.as_deref().map(Token::new),
            names: options.names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            tls: tls.is_some(),
            clock,
            checks: Arc::new(Semaphore::new(1)),
            board_calls: Arc::new(Semaphore::new(BOARD_CALLS)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            stopping,
        };
        Ok(Self { listener, address, tls, router: routes::router(app), stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where a browser on this machine finds it.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Answers from now on, on a thread of its own.
    ///
    /// # Errors
    /// When the system gives no thread or event queue.
    pub fn start(self) -> Result<Running, WebError> {
        let runtime = runtime().map_err(WebError::Start)?;
        let (stop, handle) = (self.stop.clone(), Handle::new());
        let own_handle = handle.clone();
        let thread = Builder::new().name("web".into()).spawn(move || {
            let served = runtime.block_on(self.serve(own_handle));
            runtime.shutdown_timeout(GRACE);
            served
        });
        Ok(Running { stop, handle, thread: Some(thread.map_err(WebError::Start)?) })
    }

    async fn serve(self, handle: Handle<SocketAddr>) -> io::Result<()> {
        let mut server = axum_server::from_tcp(self.listener)?.handle(handle).http1_only();
        let mut http = server.http_builder().http1();
        http.header_read_timeout(HEAD).max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
        let answers = self.router.into_make_service_with_connect_info::<SocketAddr>();
        let bounded = Bounded::default();
        match self.tls {
            None => server.acceptor(bounded).serve(answers).await,
            Some(config) => {
                let acceptor = RustlsAcceptor::new(config).acceptor(bounded);
                server.acceptor(acceptor).serve(answers).await
            }
        }
    }
}

/// A server that answers; dropped, it stops.
pub struct Running {
    stop: watch::Sender<bool>,
    handle: Handle<SocketAddr>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// Whether it still answers.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Lets answers under way finish, for seconds at most, and stops.
    ///
    /// # Errors
    /// What made it stop before.
    pub fn stop(mut self) -> io::Result<()> {
        self.halt()
    }

    fn halt(&mut self) -> io::Result<()> {
        self.stop.send_replace(true);
        self.handle.graceful_shutdown(Some(GRACE));
        let ended = self.thread.take().map(JoinHandle::join);
        ended.unwrap_or(Ok(Ok(()))).unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever wants to know why it had stopped calls `stop`.
        let _ = self.halt();
    }
}

/// One thread answers; a few more ask the board and check secrets.
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("web-blocking")
        .max_blocking_threads(BOARD_CALLS + 1)
        .build()
}
