//! Finding a file in a Python package index, by the index's JSON pages (PEP 691).

use std::env;
use std::io::BufReader;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ureq::Agent;

use super::download::Source;
use super::wheel::Wheel;

const PYPI: &str = "https://pypi.org/simple";
const JSON_PAGE: &str = "application/vnd.pypi.simple.v1+json";

/// Base address of the index: `$PIP_INDEX_URL`, as pip reads it, else PyPI.
pub fn base_from_env() -> String {
    let chosen = env::var("PIP_INDEX_URL").unwrap_or_default();
    if chosen.is_empty() { PYPI.to_owned() } else { chosen }
}

/// Where the index keeps a wheel.
///
/// # Errors
/// When the index cannot be reached, does not speak JSON, has no such file, or has another file
/// of that name.
pub fn locate(agent: &Agent, base: &str, wheel: &Wheel) -> Result<Source> {
    let page = format!("{}/{}/", base.trim_end_matches('/'), wheel.project);
    let shown = without_credentials(&page);
    let response = agent.get(&page).header("Accept", JSON_PAGE).call().with_context(|| {
        format!(
            "cannot read {shown} (a proxy is read from HTTPS_PROXY, an own certificate authority \
             from SSL_CERT_FILE, another index from PIP_INDEX_URL)"
        )
    })?;
    let listing: Value = serde_json::from_reader(BufReader::new(
        response.into_body().into_reader(),
    ))
    .with_context(|| format!("{shown} does not answer in JSON: choose another PIP_INDEX_URL"))?;
    source_from_listing(&listing, wheel, &page).with_context(|| format!("in {shown}"))
}

fn source_from_listing(listing: &Value, wheel: &Wheel, page: &str) -> Result<Source> {
    let mut files = listing["files"].as_array().context("the index lists no files")?.iter();
    let Some(file) = files.find(|file| file["filename"] == wheel.file) else {
        bail!("the index has no {}", wheel.file);
    };
    if let Some(digest) = file["hashes"]["sha256"].as_str().filter(|d| *d != wheel.sha256) {
        bail!("{} has SHA-256 {digest} there, and must have {}", wheel.file, wheel.sha256);
    }
    let reference = file["url"].as_str().context("the index gives no address of the file")?;
    Ok(Source { url: resolve(page, reference), size: file["size"].as_u64() })
}

/// An absolute address from one that may be relative to a page (whose address ends in `/`).
fn resolve(page: &str, reference: &str) -> String {
    if reference.contains("://") {
        return reference.to_owned();
    }
    let authority = page.find("://").map_or(0, |i| i + 3);
    let origin = page[authority..].find('/').map_or(page.len(), |i| authority + i);
    let (origin, folder) = page.split_at(origin);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    if reference.starts_with('/') {
        parts.clear();
    }
    for part in reference.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    format!("{origin}/{}", parts.join("/"))
}

/// The address without user name and password, for messages.
fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::wheel::WHEELS;
    use serde_json::json;

    #[test]
    fn addresses_resolve_against_their_page() {
        let check = |reference: &str, expected: &str| {
            assert_eq!(resolve("https://i.example/simple/torch/", reference), expected);
        };
        check("https://f.example/t.whl", "https://f.example/t.whl");
        check("t.whl", "https://i.example/simple/torch/t.whl");
        check("../../files/t.whl", "https://i.example/files/t.whl");
        check("/files/t.whl", "https://i.example/files/t.whl");
    }

    #[test]
    fn credentials_stay_out_of_messages() {
        assert_eq!(without_credentials("https://u:p@localhost/x/"), "https://localhost/x/");
        assert_eq!(without_credentials("https://localhost/a@b"), "https://localhost/a@b");
    }

    fn listing(name: &str, digest: &str) -> Value {
        json!({"files": [
            {"filename": "other.whl", "url": "other.whl", "hashes": {}},
            {"filename": name, "url": "../t.whl", "size": 7, "hashes": {"sha256": digest}},
        ]})
    }

    #[test]
    fn the_file_of_that_name_and_digest_is_found() {
        let wheel = &WHEELS[0];
        let found = listing(wheel.file, wheel.sha256);
        let source = source_from_listing(&found, wheel, "https://i.example/torch/").unwrap();
        assert_eq!(source.url, "https://i.example/t.whl");
        assert_eq!(source.size, Some(7));
    }

    #[test]
    fn a_missing_or_different_file_is_an_error() {
        let wheel = &WHEELS[0];
        let check = |listing: Value, message: &str| {
            let error = source_from_listing(&listing, wheel, "https://i.example/").unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
        };
        check(listing("third.whl", wheel.sha256), "has no torch");
        check(listing(wheel.file, "00"), "SHA-256 00 there");
        check(json!({}), "lists no files");
    }
}
