//! Tells open pages what happens, by server-sent events, so that they fetch themselves again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;

use crate::event::Event;
use crate::record::Verdict;

use super::app::App;
use super::failure::Failure;
use super::person::Person;
use super::session::Use;

/// Messages that wait for a slow reader; with one more its stream ends, and the page asks anew.
const BACKLOG: usize = 32;
/// How often a stream is checked for the end of its session.
const CHECK: Duration = Duration::from_secs(1);
/// How often a silent stream shows that it lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// What happens from now on: `change` for anything that a page may show, with a sentence for
/// screen readers where there is one; `ended` at the end of the session.
///
/// # Errors
/// When too many pages listen already.
pub async fn events(State(app): State<Arc<App>>, person: Person) -> Result<Response, Failure> {
    let place = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| Failure::Busy)?;
    let heard = app.ask(|board| board.subscribe()).await?;
    let (tell, told) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        relay(&app, &person.token, heard, tell).await;
        drop(place);
    });
    let signs = KeepAlive::new().interval(SIGN_OF_LIFE);
    Ok(Sse::new(ReceiverStream::new(told)).keep_alive(signs).into_response())
}

type Told = Result<sse::Event, Infallible>;

/// Passes events on until the page goes, its session ends or the server stops.
async fn relay(app: &App, token: &str, mut heard: Receiver<Event>, tell: mpsc::Sender<Told>) {
    let mut stopping = app.stopping.clone();
    let mut checks = interval(CHECK);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = None;
    loop {
        if let Some(message) = next.take()
            && tell.try_send(Ok(message)).is_err()
        {
            return;
        }
        tokio::select! {
            event = heard.recv() => match event {
                Ok(event) => next = Some(message("change", sentence(&event))),
                Err(RecvError::Lagged(_)) => next = Some(message("change", "")),
                Err(RecvError::Closed) => return,
            },
            _ = checks.tick() => {
                if app.sessions.find(token, Use::Page, app.now()).is_none() {
                    // A page that does not hear this finds out with its next request.
                    let _ = tell.try_send(Ok(message("ended", "")));
                    return;
                }
            }
            () = tell.closed() => return,
            _ = stopping.changed() => return,
        }
    }
}

fn message(name: &str, sentence: &str) -> sse::Event {
    // A browser ignores a message without data, so there is always some.
    let said = if sentence.is_empty() { "-" } else { sentence };
    sse::Event::default().event(name).data(said)
}

/// What a screen reader says about an event; nothing for those that ask nothing of anyone.
fn sentence(event: &Event) -> &'static str {
    match event {
        Event::Received { .. } => "A scan has arrived.",
        Event::Judged { verdict: Verdict::Normal, .. } => "A scan was judged normal.",
        Event::Judged { verdict: Verdict::Abnormal, .. } => "A scan was flagged abnormal.",
        Event::Judged { verdict: Verdict::Refer, .. } => "A scan was referred to a human.",
        Event::Unjudged { .. } => "A scan could not be judged. A human must look at it.",
        Event::Unreported { .. } => "A scan could not be reported. A human must look at it.",
        Event::GivenUp { .. } => "A delivery was given up.",
        Event::DiskFull(true) => "The disk is full. New scans are refused.",
        Event::DiskFull(false) => "The disk has space again.",
        Event::Refused { .. }
        | Event::Delivered { .. }
        | Event::Retried { .. }
        | Event::Committed { .. }
        | Event::Acknowledged { .. }
        | Event::Expired { .. }
        | Event::BundleChanged { .. } => "",
    }
}
