//! Style sheet, script and icon: the same for everyone, and kept by browsers until they change.

use std::sync::LazyLock;

use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::page;

/// The look of the printed results, and what only the pages have.
static STYLE: LazyLock<String> =
    LazyLock::new(|| format!("{}{}", page::STYLE, include_str!("style.css")));
const SCRIPT: &str = include_str!("script.js");
const ICON: &str = include_str!("icon.svg");

/// Addresses with a digest in them, so that a new program is never shown with an old style.
pub static ADDRESSES: LazyLock<Addresses> = LazyLock::new(|| Addresses {
    style: address("style.css", &STYLE),
    script: address("script.js", SCRIPT),
    icon: address("icon.svg", ICON),
});

/// Where the assets are.
pub struct Addresses {
    pub style: String,
    pub script: String,
    pub icon: String,
}

/// The style sheet.
pub async fn style() -> Response {
    asset("text/css; charset=utf-8", STYLE.as_str())
}

/// The script.
pub async fn script() -> Response {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

/// The icon in a browser's tab.
pub async fn icon() -> Response {
    asset("image/svg+xml", ICON)
}

fn asset(media_type: &'static str, content: &'static str) -> Response {
    let headers: [(HeaderName, &str); 2] = [
        (header::CONTENT_TYPE, media_type),
        (header::CACHE_CONTROL, "max-age=31536000, immutable"),
    ];
    (headers, content).into_response()
}

fn address(name: &str, content: &str) -> String {
    let digest = hex::encode(Sha256::digest(content));
    format!("/{name}?{}", &digest[..16])
}
