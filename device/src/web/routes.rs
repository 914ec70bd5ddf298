//! What is answered where.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use serde::Deserialize;

use crate::event::ScanId;
use crate::metrics;

use super::app::{App, STREAMS};
use super::board::{Page, Picture};
use super::failure::Failure;
use super::gauges::gauges_from_health;
use super::guard::guard;
use super::pages::{health, list, scan, unprovisioned};
use super::person::{Named, Person};
use super::session::Use;
use super::{assets, live, sign_in};

/// Scans on one page of the list.
const PAGE: u32 = 20;
/// The longest form in bytes.
const MAX_FORM: usize = 4096;
/// Who acknowledges from here.
const HERE: &str = "page";

/// All answers behind the guard. Before the board is provisioned there is only the page that says
/// how to do it, and what machines ask.
pub fn router(app: App) -> Router {
    let common = Router::new()
        .route("/style.css", get(assets::style))
        .route("/script.js", get(assets::script))
        .route("/icon.svg", get(assets::icon))
        // Browsers ask for it beside pictures, which name no icon.
        .route("/favicon.ico", get(assets::icon))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics_text));
    let router = if app.verifier.is_some() {
        common
            .route("/", get(list_page))
            .route("/scans/{id}", get(scan_page))
            .route("/scans/{id}/scan.png", get(scan_picture))
            .route("/scans/{id}/overlay.png", get(overlay_picture))
            .route("/scans/{id}/acknowledge", post(acknowledge))
            .route("/scans/{id}/redeliver", post(redeliver))
            .route("/health", get(health_page))
            .route("/events", get(live::events))
            .route("/sign-in", get(sign_in::form).post(sign_in::sign_in))
            .route("/sign-out", post(sign_in::sign_out))
    } else {
        common.route("/", get(|| async { unprovisioned::page() }))
    };
    let app = Arc::new(app);
    router
        .fallback(|| async { Failure::NotFound })
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .layer(from_fn_with_state(Arc::clone(&app), guard))
        .with_state(app)
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    page: u32,
}

async fn list_page(
    State(app): State<Arc<App>>,
    person: Person,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let number = query.map_or(0, |Query(query)| query.page);
    // One more than is shown tells whether there are older ones.
    let page = Page { skip: u64::from(number) * u64::from(PAGE), take: PAGE + 1 };
    let (mut scans, health) = app.ask(move |board| (board.scans(page), board.health())).await?;
    let older = scans.len() > PAGE as usize;
    scans.truncate(PAGE as usize);
    Ok(list::page(&scans, list::Place { number, older }, &health, &person.session).into_response())
}

async fn scan_page(
    State(app): State<Arc<App>>,
    person: Person,
    Named(id): Named,
) -> Result<Response, Failure> {
    let view = app.ask(move |board| board.scan(id)).await?.ok_or(Failure::NotFound)?;
    Ok(scan::page(&view, &person.session).into_response())
}

async fn scan_picture(
    State(app): State<Arc<App>>,
    _: Person,
    Named(id): Named,
) -> Result<Response, Failure> {
    picture(&app, id, Picture::Scan).await
}

async fn overlay_picture(
    State(app): State<Arc<App>>,
    _: Person,
    Named(id): Named,
) -> Result<Response, Failure> {
    picture(&app, id, Picture::Overlay).await
}

async fn picture(app: &App, id: ScanId, which: Picture) -> Result<Response, Failure> {
    let png = app.ask(move |board| board.picture(id, which)).await?.ok_or(Failure::NotFound)?;
    Ok(([(header::CONTENT_TYPE, "image/png")], png).into_response())
}

async fn health_page(State(app): State<Arc<App>>, person: Person) -> Result<Response, Failure> {
    let health = app.ask(|board| board.health()).await?;
    Ok(health::page(&health, &person.session).into_response())
}

async fn acknowledge(
    State(app): State<Arc<App>>,
    person: Person,
    Named(id): Named,
    form: Result<Form<sign_in::Vouched>, FormRejection>,
) -> Result<Redirect, Failure> {
    let Form(form) = form.map_err(|_| Failure::Form)?;
    form.check(&person)?;
    app.ask(move |board| board.acknowledge(id, HERE)).await??;
    Ok(Redirect::to(&format!("/scans/{id}")))
}

#[derive(Deserialize)]
struct Redelivery {
    #[serde(flatten)]
    vouched: sign_in::Vouched,
    destination: String,
}

async fn redeliver(
    State(app): State<Arc<App>>,
    person: Person,
    Named(id): Named,
    form: Result<Form<Redelivery>, FormRejection>,
) -> Result<Redirect, Failure> {
    let Form(form) = form.map_err(|_| Failure::Form)?;
    form.vouched.check(&person)?;
    app.ask(move |board| board.redeliver(id, &form.destination)).await??;
    Ok(Redirect::to(&format!("/scans/{id}")))
}

/// For monitors: 200 when all is well, else 503; why not only to whoever is signed in.
async fn healthz(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Failure> {
    let health = app.ask(|board| board.health()).await?;
    let (status, word) = match health.is_well() {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "degraded"),
    };
    let mut answer = serde_json::json!({ "status": word });
    if Person::find(&app, &headers, Use::Page).is_some() {
        answer["version"] = health.version.into();
        answer["reasons"] = health.degraded.into();
    }
    Ok((status, [(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response())
}

/// For Prometheus: to this machine, to whoever is signed in or has the token.
async fn metrics_text(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let opened = app.metrics_token.as_ref().zip(given).is_some_and(|(token, it)| token.opens(it));
    let allowed = peer.ip().to_canonical().is_loopback()
        || opened
        || Person::find(&app, &headers, Use::Page).is_some();
    if !allowed {
        return Err(Failure::SignedOut);
    }
    let health = app.ask(|board| board.health()).await?;
    let open = STREAMS - app.streams.available_permits().min(STREAMS);
    let text = app.metrics.text(&gauges_from_health(&health, open));
    Ok(([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response())
}
