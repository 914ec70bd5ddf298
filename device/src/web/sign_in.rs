//! Signing in and out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use tokio::task::spawn_blocking;

use crate::event::ScanId;
use crate::metrics::SignIn;

use super::app::App;
use super::failure::Failure;
use super::pages::sign_in::{Problem, page};
use super::person::{Person, cookie_name, session_token};
use super::session::Use;

/// Where to go after signing in.
#[derive(Deserialize)]
pub struct Destination {
    #[serde(default)]
    next: String,
}

/// What the form says.
#[derive(Deserialize)]
pub struct Credentials {
    secret: String,
    #[serde(default)]
    next: String,
}

/// A token alone, as in every form of a session.
#[derive(Deserialize)]
pub struct Vouched {
    csrf: String,
}

impl Vouched {
    /// Refuses a form that was not made for the session.
    ///
    /// # Errors
    /// [`Failure::Csrf`].
    pub fn check(&self, person: &Person) -> Result<(), Failure> {
        person.session.vouches_for(&self.csrf).then_some(()).ok_or(Failure::Csrf)
    }
}

/// The form; whoever is signed in is led on.
pub async fn form(
    State(app): State<Arc<App>>,
    destination: Result<Query<Destination>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let next = destination.map_or("/".into(), |Query(to)| own_page(&to.next));
    match Person::find(&app, &headers, Use::Page) {
        Some(_) => Redirect::to(&next).into_response(),
        None => page(None, &next).into_response(),
    }
}

/// Checks the secret and starts a session.
///
/// # Errors
/// When the form is unusable or the system has no random numbers.
pub async fn sign_in(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    form: Result<Form<Credentials>, FormRejection>,
) -> Result<Response, Failure> {
    let Form(given) = form.map_err(|_| Failure::Form)?;
    let next = own_page(&given.next);
    if let Err(wait) = app.limiter.begin(peer.ip(), app.now()) {
        app.metrics.signed_in(SignIn::Limited);
        return Ok(too_early(wait, &next));
    }
    if !is_right(&app, given.secret).await? {
        app.metrics.signed_in(SignIn::Wrong);
        return Ok((StatusCode::FORBIDDEN, page(Some(Problem::Wrong), &next)).into_response());
    }
    app.limiter.succeeded(peer.ip());
    app.metrics.signed_in(SignIn::Accepted);
    // Whatever session the browser had before is not carried over.
    if let Some(old) = session_token(&headers, cookie_name(app.tls)) {
        app.sessions.end(old);
    }
    let token = app.sessions.start(app.now())?;
    Ok(([(header::SET_COOKIE, cookie(&token, app.tls))], Redirect::to(&next)).into_response())
}

/// Ends the session.
///
/// # Errors
/// When the form is not the session's.
pub async fn sign_out(
    State(app): State<Arc<App>>,
    person: Person,
    form: Result<Form<Vouched>, FormRejection>,
) -> Result<Response, Failure> {
    let Form(form) = form.map_err(|_| Failure::Form)?;
    form.check(&person)?;
    app.sessions.end(&person.token);
    let forget = format!("{}; Max-Age=0", cookie("", app.tls));
    // Also what the browser would show on the way back.
    let clear = (HeaderName::from_static("clear-site-data"), "\"cache\"".to_string());
    Ok(([(header::SET_COOKIE, forget), clear], Redirect::to("/sign-in")).into_response())
}

/// Whether the secret is right; one check at a time, off the threads that answer.
async fn is_right(app: &App, secret: String) -> Result<bool, Failure> {
    let Some(verifier) = app.verifier.clone() else { return Ok(false) };
    let turn = Arc::clone(&app.checks).acquire_owned().await.map_err(|_| Failure::Broken)?;
    let check = spawn_blocking(move || {
        let right = verifier.accepts(&secret);
        drop(turn);
        right
    });
    check.await.map_err(|_| Failure::Broken)
}

fn too_early(wait: Duration, next: &str) -> Response {
    let seconds = wait.as_secs() + 1;
    (
        StatusCode::TOO_MANY_REQUESTS,
        [(header::RETRY_AFTER, seconds.to_string())],
        page(Some(Problem::TooEarly { seconds }), next),
    )
        .into_response()
}

fn cookie(token: &str, tls: bool) -> String {
    let name = cookie_name(tls);
    let secure = if tls { "; Secure" } else { "" };
    format!("{name}={token}; Path=/; HttpOnly; SameSite=Strict{secure}")
}

/// The address of a page of ours: for anything of a scan its page, else the list.
fn own_page(address: &str) -> String {
    let scan = |address: &str| -> Option<ScanId> {
        address.strip_prefix("/scans/")?.split('/').next()?.parse().ok()
    };
    match address {
        "/health" => address.into(),
        _ => scan(address).map_or("/".into(), |id| format!("/scans/{id}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_elsewhere() {
        for address in ["/", "/health", "/scans/0123456789abcdef"] {
            assert_eq!(own_page(address), address);
        }
        let form = "/scans/0123456789abcdef/acknowledge";
        assert_eq!(own_page(form), "/scans/0123456789abcdef");
        for address in ["", "//evil.example", "https://evil.example", "/scans/../x", "/\\evil"] {
            assert_eq!(own_page(address), "/", "{address}");
        }
    }

    #[test]
    fn cookies_are_kept_from_scripts_and_other_sites() {
        assert_eq!(cookie("ab", false), "spinesight=ab; Path=/; HttpOnly; SameSite=Strict");
        assert_eq!(
            cookie("ab", true),
            "__Host-spinesight=ab; Path=/; HttpOnly; SameSite=Strict; Secure"
        );
    }
}
