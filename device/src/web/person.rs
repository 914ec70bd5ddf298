//! Who makes a request: the session behind its cookie.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Redirect, Response};

use crate::event::ScanId;

use super::app::App;
use super::failure::Failure;
use super::session::{SignedIn, Use};

/// The script's own requests carry this header; they do not count as use by a person.
const REFRESH: &str = "spinesight-refresh";

/// A signed-in person; without one, a page leads to the sign-in and anything else is refused.
pub struct Person {
    /// The cookie's token.
    pub token: String,
    /// The session.
    pub session: SignedIn,
}

impl Person {
    /// Who makes this request, if anyone; `by` says whether that counts as use.
    pub fn find(app: &App, headers: &HeaderMap, by: Use) -> Option<Self> {
        let token = session_token(headers, cookie_name(app.tls))?.to_owned();
        let session = app.sessions.find(&token, by, app.now())?;
        Some(Self { token, session })
    }
}

impl FromRequestParts<Arc<App>> for Person {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let refresh = parts.headers.contains_key(REFRESH);
        let by =
            if refresh || accepts(parts, "text/event-stream") { Use::Page } else { Use::Person };
        Person::find(app, &parts.headers, by).ok_or_else(|| {
            if accepts(parts, "text/html") && !refresh {
                Redirect::to(&format!("/sign-in?next={}", parts.uri.path())).into_response()
            } else {
                Failure::SignedOut.into_response()
            }
        })
    }
}

/// The scan that an address names.
pub struct Named(pub ScanId);

impl FromRequestParts<Arc<App>> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        let Path(name) = path.map_err(|_| Failure::NotFound)?;
        name.parse().map(Named).map_err(|_| Failure::NotFound)
    }
}

/// The cookie's name. The prefix makes browsers keep other hosts and plain HTTP from setting it
/// (RFC 6265bis, section 4.1.3.2).
pub fn cookie_name(tls: bool) -> &'static str {
    if tls { "__Host-spinesight" } else { "spinesight" }
}

/// The session's token in a request's cookies.
pub fn session_token<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

fn accepts(parts: &Parts, media_type: &str) -> bool {
    let accepted = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains(media_type))
}
