//! What every request must pass, and what every answer carries.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::app::App;
use super::failure::Failure;

/// How long an answer may take to begin.
const PATIENCE: Duration = Duration::from_secs(30);

/// Nothing inline, nothing from elsewhere, in nobody's frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// On every answer. The referrer policy is not `no-referrer`, under which browsers send forms
/// with `Origin: null`.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
];

/// For a year, also after the last visit.
const TRANSPORT: &str = "max-age=31536000";

/// Refuses what comes from the wrong place, bounds the time, adds the headers and counts.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let mut answer = match refusal(&app, &request) {
        Some(status) => (status, "refused\n").into_response(),
        None => match tokio::time::timeout(PATIENCE, next.run(request)).await {
            Ok(answer) => answer,
            Err(_) => Failure::Slow.into_response(),
        },
    };
    app.metrics.answered(answer.status().as_u16());
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if app.tls {
        let always = HeaderValue::from_static(TRANSPORT);
        headers.insert(header::STRICT_TRANSPORT_SECURITY, always);
    }
    // Only what holds for everyone says otherwise.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

fn refusal(app: &App, request: &Request) -> Option<StatusCode> {
    let named_once = request.headers().get_all(header::HOST).iter().count() == 1;
    let host = text(request.headers(), header::HOST);
    let Some(host) = host.filter(|host| named_once && is_ours(host, &app.names)) else {
        return Some(StatusCode::MISDIRECTED_REQUEST);
    };
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let allowed = reads || is_same_origin(request.headers(), host, app.tls);
    (!allowed).then_some(StatusCode::FORBIDDEN)
}

/// Whether a host is an address or one of our names. A page elsewhere whose name is made to
/// resolve to this board (DNS rebinding) has a name of its own.
fn is_ours(host: &str, names: &[String]) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    if let Some(v6) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return v6.parse::<Ipv6Addr>().is_ok();
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.parse::<Ipv4Addr>().is_ok() || names.contains(&name)
}

/// Whether a form comes from a page of ours. Browsers name the origin of every form they send;
/// one that says nothing is no browser of today.
fn is_same_origin(headers: &HeaderMap, host: &str, tls: bool) -> bool {
    let site = text(headers, HeaderName::from_static("sec-fetch-site"));
    let origin = text(headers, header::ORIGIN);
    let scheme = if tls { "https" } else { "http" };
    let own = format!("{scheme}://{host}");
    (site.is_some() || origin.is_some())
        && site.is_none_or(|site| site == "same-origin")
        && origin.is_none_or(|origin| origin.eq_ignore_ascii_case(&own))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_own_names_are_hosts() {
        let names = ["board.example".to_string()];
        for host in [
            "127.0.0.1",
            "127.0.0.1:8443",
            "[::1]",
            "[2001:db8::7]:443",
            "localhost:1",
            "Board.Example",
            "board.example.:8443",
        ] {
            assert!(is_ours(host, &names), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "board.example.evil.example",
            "127.0.0.1.evil.example",
            "board.example:evil",
            "[evil]",
            "board.example@evil",
            "a:b:c",
        ] {
            assert!(!is_ours(host, &names), "{host}");
        }
    }

    #[test]
    fn forms_come_from_our_own_pages() {
        let same = |headers: &[(&'static str, &'static str)]| {
            let pairs = headers.iter().map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            is_same_origin(&pairs.collect(), "board.example:8443", true)
        };
        assert!(same(&[("origin", "https://board.example:8443")]));
        assert!(same(&[("sec-fetch-site", "same-origin")]));
        assert!(!same(&[]));
        assert!(!same(&[("origin", "null")]));
        assert!(!same(&[("origin", "http://board.example:8443")]));
        assert!(!same(&[("origin", "https://board.example")]));
        for site in ["cross-site", "same-site", "none"] {
            assert!(!same(&[("sec-fetch-site", site), ("origin", "https://board.example:8443")]));
        }
    }
}
