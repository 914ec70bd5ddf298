//! Sending over the web: DICOMweb STOW-RS (PS3.18 section 10.5).

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, SendBody};

use super::scu::{ObjectFile, Outcome, SendError};
use super::tls::certificates;

/// Separates the parts of the body. Its 32 random hexadecimal digits stand in no object but by a
/// chance of nothing.
const BOUNDARY: &str = "spinesight-5f0c7b7b6a3e4f19a2d4c80f6d1e9b73";
/// Most bytes of an answer.
const MAX_ANSWER: u64 = 1024 * 1024;
/// Most bytes of a file with a token or a name and password.
const MAX_SECRET: u64 = 16 * 1024;
/// Failed SOP Sequence and Failure Reason, as the DICOM JSON model names them (PS3.18 annex F).
const FAILED_SEQUENCE: &str = "00081198";
const FAILURE_REASON: &str = "00081197";
/// Referenced SOP Sequence: what was stored.
const STORED_SEQUENCE: &str = "00081199";

/// A DICOMweb server.
#[derive(Clone, Debug)]
pub struct WebDestination {
    /// Where studies are stored, such as `https://pacs.example/dicom-web/studies`.
    pub url: String,
    /// How to sign in.
    pub credentials: Credentials,
    /// PEM file with the authorities to trust; those of the system without it.
    pub ca: Option<PathBuf>,
    /// For the connection.
    pub connect: Duration,
    /// For a whole request and its answer.
    pub request: Duration,
}

/// How to sign in to a server. Files are read for each delivery, so that they can be renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Not at all.
    None,
    /// With the bearer token in this file (RFC 6750).
    Bearer(PathBuf),
    /// With the name, colon and password in this file (RFC 7617).
    Basic(PathBuf),
}

/// Stores objects on a server, in one request.
///
/// # Errors
/// Why the server does not have them all; sending them again does no harm.
pub fn store(destination: &WebDestination, objects: &[ObjectFile]) -> Result<(), SendError> {
    if objects.is_empty() {
        return Ok(());
    }
    let authorization = authorization(&destination.credentials)?;
    check_url(&destination.url, authorization.is_some())?;
    let (mut body, length) = body(objects)?;
    let mut request = agent(destination)?
        .post(&destination.url)
        .header("Accept", "application/dicom+json")
        .header("Content-Length", length.to_string())
        .header(
            "Content-Type",
            format!("multipart/related; type=\"application/dicom\"; boundary={BOUNDARY}"),
        );
    if let Some(authorization) = authorization {
        request = request.header("Authorization", authorization);
    }
    let mut answer = request.send(SendBody::from_reader(&mut body)).map_err(web)?;
    let text = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec().map_err(web);
    judge(answer.status().as_u16(), || text, objects.len())
}

/// What an answer means (PS3.18 section 10.5.3.1). 200: all is stored. 202: some, or some with
/// warnings. 409: nothing, for the reasons in the body. Only what the body lists counts as stored:
/// there are servers that answer 200 to a request of which they understood nothing.
fn judge(
    status: u16,
    body: impl FnOnce() -> Result<Vec<u8>, SendError>,
    sent: usize,
) -> Result<(), SendError> {
    match status {
        200 | 202 | 409 => judge_items(status, &body()?, sent),
        other => Err(SendError::Http(other)),
    }
}

fn judge_items(status: u16, body: &[u8], sent: usize) -> Result<(), SendError> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| SendError::Answer)?;
    // Some servers wrap the only object into a list.
    let answer = answer.get(0).unwrap_or(&answer);
    let items = |name: &str| answer[name]["Value"].as_array().map_or(&[][..], Vec::as_slice);
    let reasons = items(FAILED_SEQUENCE).iter().map(|item| {
        let reason = item[FAILURE_REASON]["Value"][0].as_u64();
        reason.and_then(|reason| u16::try_from(reason).ok()).unwrap_or(0x0110)
    });
    // One that will never be taken is told before one that may be.
    let refused = |reason: &u16| Outcome::of(*reason) == Outcome::Refused;
    // Duplicates are no failures: the server has the objects.
    let (failures, duplicates): (Vec<u16>, Vec<u16>) = reasons.partition(|one| is_failure(*one));
    let worst = failures.iter().copied().find(refused).or(failures.first().copied());
    match worst {
        Some(reason) => Err(SendError::Status(reason)),
        None if items(STORED_SEQUENCE).len() + duplicates.len() >= sent => Ok(()),
        None if status == 409 => Err(SendError::Http(status)),
        None => Err(SendError::Answer),
    }
}

fn is_failure(status: u16) -> bool {
    !matches!(Outcome::of(status), Outcome::Done | Outcome::Warning)
}

fn agent(destination: &WebDestination) -> Result<Agent, SendError> {
    let roots = match &destination.ca {
        Some(path) => {
            let found = certificates(path).map_err(|e| SendError::Credentials(e.to_string()))?;
            let found = found.iter().map(|each| Certificate::from_der(each).to_owned());
            RootCerts::Specific(Arc::new(found.collect()))
        }
        None => RootCerts::PlatformVerifier,
    };
    Ok(Agent::config_builder()
        .http_status_as_error(false)
        // A redirect would carry patient data, and perhaps a password, elsewhere.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .max_idle_connections(0)
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .timeout_connect(Some(destination.connect))
        .timeout_global(Some(destination.request))
        .build()
        .into())
}

/// A password in the clear is for the board's own machine alone.
fn check_url(url: &str, secret: bool) -> Result<(), SendError> {
    let unusable = |why: &str| SendError::Credentials(why.to_owned());
    let uri: Uri = url.parse().map_err(|_| unusable("the address is no URL"))?;
    let local = matches!(uri.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if !secret || local => Ok(()),
        Some("http") => Err(unusable("a password needs https")),
        _ => Err(unusable("the address is neither http nor https")),
    }
}

fn authorization(credentials: &Credentials) -> Result<Option<String>, SendError> {
    Ok(match credentials {
        Credentials::None => None,
        Credentials::Bearer(path) => Some(format!("Bearer {}", secret(path)?)),
        Credentials::Basic(path) => Some(format!("Basic {}", base64(secret(path)?.as_bytes()))),
    })
}

/// The first line of a file.
fn secret(path: &Path) -> Result<String, SendError> {
    let unusable =
        |why: &dyn std::fmt::Display| SendError::Credentials(format!("{}: {why}", path.display()));
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_SECRET).read_to_string(&mut text))
        .map_err(|error| unusable(&error))?;
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(unusable(&"the file is empty")),
    }
}

/// Base 64 with padding (RFC 4648 section 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// The body, part by part from the files, and its length in bytes. The files themselves say their
/// transfer syntax; a parameter that says it again makes Orthanc's plugin refuse the part.
fn body(objects: &[ObjectFile]) -> Result<(impl Read, u64), SendError> {
    let mut body: Box<dyn Read> = Box::new(io::empty());
    let mut length = 0;
    for object in objects {
        let failure = |error: io::Error| SendError::File(error.kind());
        let file = File::open(&object.path).map_err(failure)?;
        let size = file.metadata().map_err(failure)?.len();
        let head = format!("--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n");
        length += head.len() as u64 + size + 2;
        // Exactly as many bytes as announced, should the file grow.
        let part = Cursor::new(head).chain(file.take(size)).chain(Cursor::new("\r\n"));
        body = Box::new(body.chain(part));
    }
    let tail = format!("--{BOUNDARY}--\r\n");
    length += tail.len() as u64;
    Ok((body.chain(Cursor::new(tail)), length))
}

/// A failure without its details, which may name the server's address and more.
fn web(error: ureq::Error) -> SendError {
    SendError::Web(match error {
        ureq::Error::Timeout(_) => "it took too long",
        ureq::Error::HostNotFound => "its address cannot be found",
        ureq::Error::Io(_) | ureq::Error::ConnectionFailed => "the connection broke",
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => {
            "the secure connection failed"
        }
        ureq::Error::BodyExceedsLimit(_) => "its answer is too long",
        _ => "it does not speak HTTP as expected",
    })
}

#[cfg(test)]
mod tests;
