//! What all answers share.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;

use crate::metrics::Metrics;

use super::Board;
use super::failure::Failure;
use super::limit::Limiter;
use super::secret::Verifier;
use super::session::Sessions;
use super::token::Token;

/// Calls to the board at the same time; the others wait their turn.
pub const BOARD_CALLS: usize = 4;
/// Pages that are kept up to date at the same time.
pub const STREAMS: usize = 16;

/// Tells the time; a test's tells another.
pub type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// The state behind all answers.
pub struct App {
    pub board: Arc<dyn Board>,
    pub metrics: Arc<Metrics>,
    pub sessions: Sessions,
    pub limiter: Limiter,
    /// None until the board is provisioned.
    pub verifier: Option<Arc<Verifier>>,
    /// What opens `/metrics` from elsewhere.
    pub metrics_token: Option<Token>,
    /// Host names by which the board may be addressed, in lower case.
    pub names: Vec<String>,
    /// Whether answers go out over TLS.
    pub tls: bool,
    pub clock: Clock,
    /// Secrets checked at the same time: each takes a core and tens of megabytes.
    pub checks: Arc<Semaphore>,
    pub board_calls: Arc<Semaphore>,
    pub streams: Arc<Semaphore>,
    /// True from the moment the server stops.
    pub stopping: watch::Receiver<bool>,
}

impl App {
    /// The time.
    pub fn now(&self) -> Instant {
        (self.clock)()
    }

    /// Asks the board, on a thread that may block.
    ///
    /// # Errors
    /// When the board panics.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Board) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let board = Arc::clone(&self.board);
        let turn = Arc::clone(&self.board_calls).acquire_owned().await;
        let turn = turn.map_err(|_| Failure::Broken)?;
        let asked = spawn_blocking(move || {
            let answer = question(&*board);
            drop(turn);
            answer
        });
        asked.await.map_err(|_| Failure::Broken)
    }
}
