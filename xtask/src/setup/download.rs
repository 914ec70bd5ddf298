//! Getting one large file: resumable, retried, verified.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use super::wheel::Wheel;

/// Failures in a row, none of which brought a byte, before giving up.
const ATTEMPTS: u32 = 6;
/// Pause after the first failure; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that is silent for so long is dead.
const SILENCE: Duration = Duration::from_secs(60);

/// Where a file can be had.
#[derive(Debug)]
pub struct Source {
    /// Address.
    pub url: String,
    /// Bytes, where the index tells.
    pub size: Option<u64>,
}

/// An HTTP client that trusts the system's certificate authorities (and `$SSL_CERT_FILE`) and
/// uses the proxy that the environment names.
pub fn agent() -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .user_agent(concat!("spinesight-xtask/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(SILENCE))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE));
    config.build().into()
}

/// Downloads a wheel to `part`, continuing what is there, and verifies its digest.
///
/// # Errors
/// When the server refuses, [`ATTEMPTS`] attempts in a row bring nothing, the disk is full, or
/// the whole file has another digest (it is then removed).
pub fn fetch(agent: &Agent, source: &Source, wheel: &Wheel, part: &Path) -> Result<()> {
    let started = Instant::now();
    let progress = progress_bar(wheel.project, source.size)?;
    if progress.is_hidden() {
        eprintln!("downloading {}{}", wheel.file, in_megabytes(source.size));
    }
    if source.size != Some(length(part)?) {
        until_complete(agent, &source.url, part, &progress, FIRST_PAUSE)
            .with_context(|| format!("cannot download {}", wheel.file))?;
    }
    progress.finish_and_clear();
    let digest = digest(part)?;
    if digest != wheel.sha256 {
        fs::remove_file(part).with_context(|| format!("cannot remove {}", part.display()))?;
        bail!("{} came with SHA-256 {digest}, and must have {}", wheel.file, wheel.sha256);
    }
    let size = in_megabytes(Some(length(part)?));
    eprintln!("downloaded {}{size} in {} s", wheel.project, started.elapsed().as_secs());
    Ok(())
}

/// SHA-256 of a file, lower-case hexadecimal.
pub fn digest(path: &Path) -> Result<String> {
    let describe = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(describe)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).with_context(describe)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Why an attempt ended early.
enum Failure {
    /// Another attempt may succeed.
    Passing(anyhow::Error),
    /// No other attempt can.
    Final(anyhow::Error),
}

fn until_complete(
    agent: &Agent,
    url: &str,
    part: &Path,
    progress: &ProgressBar,
    first_pause: Duration,
) -> Result<()> {
    let mut failures = 0;
    loop {
        let before = length(part)?;
        let error = match attempt(agent, url, part, progress) {
            Ok(()) => return Ok(()),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing(error)) => error,
        };
        failures = if length(part)? > before { 1 } else { failures + 1 };
        if failures == ATTEMPTS {
            return Err(error).context(format!("gave up after {ATTEMPTS} attempts"));
        }
        let pause = first_pause * 2u32.pow(failures - 1);
        progress.suspend(|| eprintln!("interrupted ({error:#}); again in {} s", pause.as_secs()));
        thread::sleep(pause);
    }
}

/// One request for what is missing of the file.
fn attempt(agent: &Agent, url: &str, part: &Path, progress: &ProgressBar) -> Result<(), Failure> {
    let have = length(part).map_err(Failure::Final)?;
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = match request.call() {
        Ok(response) => response,
        Err(ureq::Error::StatusCode(416)) => return restart(part),
        Err(error) if is_final(&error) => return Err(Failure::Final(error.into())),
        Err(error) => return Err(Failure::Passing(error.into())),
    };
    // A server that ignores the range sends the file from its start.
    let offset = if response.status() == 206 { have } else { 0 };
    let expected = response.body().content_length().map(|rest| offset + rest);
    progress.set_position(offset);
    let mut file = open_at(part, offset).map_err(Failure::Final)?;
    append(response.into_body().into_reader(), &mut file, progress)?;
    let now = length(part).map_err(Failure::Final)?;
    match expected {
        Some(all) if now < all => Err(Failure::Passing(anyhow::anyhow!("the connection ended"))),
        _ => Ok(()),
    }
}

/// The partial file is longer than the whole: it is of another file.
fn restart(part: &Path) -> Result<(), Failure> {
    let removed = fs::remove_file(part).context("cannot remove the unusable part of a download");
    removed.map_err(Failure::Final)?;
    Err(Failure::Passing(anyhow::anyhow!("the part kept from before does not belong to it")))
}

fn is_final(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::StatusCode(code) => (400..500).contains(code) && ![408, 429].contains(code),
        ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl | ureq::Error::Rustls(_) => true,
        _ => false,
    }
}

fn append(mut body: impl Read, file: &mut File, progress: &ProgressBar) -> Result<(), Failure> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        let n = match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::Passing(error.into())),
        };
        let written = file.write_all(&buffer[..n]).context("cannot write the download");
        written.map_err(Failure::Final)?;
        progress.inc(n as u64);
    }
}

fn open_at(part: &Path, offset: u64) -> Result<File> {
    let open = || {
        let file = OpenOptions::new().create(true).append(true).open(part)?;
        file.set_len(offset)?;
        Ok(file)
    };
    let result: io::Result<File> = open();
    result.with_context(|| format!("cannot write {}", part.display()))
}

/// Bytes in a file, 0 when there is none.
fn length(path: &Path) -> Result<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn progress_bar(name: &'static str, size: Option<u64>) -> Result<ProgressBar> {
    let bar = size.map_or_else(ProgressBar::new_spinner, ProgressBar::new).with_message(name);
    let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    bar.set_style(ProgressStyle::with_template(template)?);
    Ok(bar)
}

fn in_megabytes(size: Option<u64>) -> String {
    size.map_or_else(String::new, |bytes| format!(" ({:.1} MB)", bytes as f64 / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const BODY: &[u8] = b"0123456789";

    /// Answers one connection with each of `answers`, in turn; returns the requests received.
    fn serve(answers: Vec<String>) -> (String, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                    request.push(byte[0]);
                }
                stream.write_all(answer.as_bytes()).unwrap();
                requests.push(String::from_utf8(request).unwrap().to_lowercase());
            }
            requests
        });
        (url, server)
    }

    fn answer(status: &str, length: usize, body: &[u8]) -> String {
        let body = String::from_utf8_lossy(body);
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    }

    /// Downloads with `already` in the partial file; gives what was asked and what was stored.
    fn check(already: &[u8], answers: Vec<String>) -> (Result<()>, Vec<String>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("file.part");
        if !already.is_empty() {
            fs::write(&part, already).unwrap();
        }
        let (url, server) = serve(answers);
        let agent: Agent = Agent::config_builder().proxy(None).build().into();
        let pause = Duration::from_millis(1);
        let result = until_complete(&agent, &url, &part, &ProgressBar::hidden(), pause);
        (result, server.join().unwrap(), fs::read(&part).unwrap_or_default())
    }

    #[test]
    fn a_file_is_downloaded_whole() {
        let (result, requests, stored) = check(b"", vec![answer("200 OK", 10, BODY)]);
        result.unwrap();
        assert!(!requests[0].contains("range:"));
        assert_eq!(stored, BODY);
    }

    #[test]
    fn a_download_continues_behind_what_is_there() {
        let rest = answer("206 Partial Content", 6, &BODY[4..]);
        let (result, requests, stored) = check(&BODY[..4], vec![rest]);
        result.unwrap();
        assert!(requests[0].contains("range: bytes=4-"));
        assert_eq!(stored, BODY);
    }

    #[test]
    fn a_server_without_ranges_starts_anew() {
        let (result, _, stored) = check(b"4444", vec![answer("200 OK", 10, BODY)]);
        result.unwrap();
        assert_eq!(stored, BODY);
    }

    #[test]
    fn a_cut_connection_is_continued() {
        let cut = answer("200 OK", 10, &BODY[..3]);
        let rest = answer("206 Partial Content", 7, &BODY[3..]);
        let (result, requests, stored) = check(b"", vec![cut, rest]);
        result.unwrap();
        assert!(requests[1].contains("range: bytes=3-"));
        assert_eq!(stored, BODY);
    }

    #[test]
    fn a_part_of_another_file_is_dropped() {
        let refusal = answer("416 Range Not Satisfiable", 0, b"");
        let answers = vec![refusal, answer("200 OK", 10, BODY)];
        let (result, requests, stored) = check(b"far too long a part", answers);
        result.unwrap();
        assert!(!requests[1].contains("range:"));
        assert_eq!(stored, BODY);
    }

    #[test]
    fn a_missing_file_is_not_asked_for_again() {
        let (result, requests, _) = check(b"", vec![answer("404 Not Found", 0, b"")]);
        assert!(result.is_err());
        assert_eq!(requests.len(), 1);
    }

    #[test]
    fn a_busy_server_is_asked_again_but_not_forever() {
        let busy = || answer("503 Service Unavailable", 0, b"");
        let (result, _, stored) = check(b"", vec![busy(), busy(), answer("200 OK", 10, BODY)]);
        result.unwrap();
        assert_eq!(stored, BODY);
        let (result, requests, _) = check(b"", (0..ATTEMPTS).map(|_| busy()).collect());
        assert!(result.unwrap_err().to_string().contains("gave up"));
        assert_eq!(requests.len() as u32, ATTEMPTS);
    }

    #[test]
    fn a_wrong_digest_removes_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("file.part");
        let (url, _server) = serve(vec![answer("200 OK", 10, BODY)]);
        let agent: Agent = Agent::config_builder().proxy(None).build().into();
        let wheel = &super::super::wheel::WHEELS[0];
        let error = fetch(&agent, &Source { url, size: None }, wheel, &part).unwrap_err();
        assert!(error.to_string().contains("SHA-256"), "{error}");
        assert!(!part.exists());
    }

    #[test]
    fn a_part_of_full_size_is_verified_without_asking() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("file.part");
        fs::write(&part, BODY).unwrap();
        let source = Source { url: "http://127.0.0.1:1/file".into(), size: Some(10) };
        let wheel = &super::super::wheel::WHEELS[0];
        let error = fetch(&agent(), &source, wheel, &part).unwrap_err();
        assert!(error.to_string().contains("SHA-256"), "{error}");
    }

    #[test]
    fn the_digest_is_sha_256() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(&path).unwrap(), expected);
    }
}
