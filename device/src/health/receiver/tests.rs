use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;

use super::super::State;
use super::*;
use crate::dicom::scp::{Inbox, Reception, Refusal, Scp, ScpOptions};
use crate::dicom::tls::Identity;
use crate::dicom::tls::testing::Authority;

struct NoRoom;

impl Inbox for NoRoom {
    fn begin(&self) -> Result<Box<dyn Reception>, Refusal> {
        Err(Refusal::OutOfResources)
    }
}

/// A receiver at work, and the configuration that says so.
pub(in crate::health) struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Section `[receive]`.
    pub section: String,
}

impl Running {
    /// Starts a receiver that lets these callers in; `tls` has its keys, and an authority where
    /// senders must have a certificate.
    pub fn start(callers: &[&str], tls: Option<(&Identity, Option<&Path>)>) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = ScpOptions {
            allowed: callers.iter().map(|caller| caller.to_string()).collect(),
            tls: tls.map(|(identity, ca)| tls::server(identity, ca).expect("TLS")),
            ..ScpOptions::new(any, "BOARD")
        };
        let scp = Scp::bind(options, Arc::new(NoRoom)).expect("binds");
        let port = scp.local_addr().port();
        let mut section = format!(
            "[receive]\naddress = \"0.0.0.0:{port}\"\nae_title = \"BOARD\"\ncallers = {callers:?}\n"
        );
        if let Some((Identity { certificate, key }, ca)) = tls {
            section += &format!("certificate = {certificate:?}\nkey = {key:?}\n");
            section += &ca.map_or(String::new(), |ca| format!("client_ca = {ca:?}\n"));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = thread::spawn(move || scp.run(&flag));
        Self { stop, thread: Some(thread), section }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn finding(section: &str) -> Finding {
    look(&Config::parse(section).expect("a configuration"))
}

#[track_caller]
fn check(section: &str, state: State, words: &str) {
    let (found, sentence) = finding(section);
    assert_eq!(found, state, "{sentence}");
    assert!(sentence.contains(words), "{sentence}");
}

fn keys() -> (TempDir, Identity) {
    let folder = TempDir::new().expect("a folder");
    let identity = Authority::new().issue(folder.path(), "board");
    (folder, identity)
}

/// Covers: HLT-1
#[test]
fn a_receiver_answers_those_it_lets_in() {
    check(&Running::start(&["XRAY1"], None).section, State::Ok, "XRAY1's echo.");
    check(&Running::start(&["*"], None).section, State::Ok, "BOARD's echo.");
    check(&Running::start(&[], None).section, State::Ok, "turns everyone away");
}

/// Covers: HLT-1
#[test]
fn a_receiver_that_is_gone_or_another_one_fails() {
    let running = Running::start(&["XRAY1"], None);
    let other = running.section.replace("BOARD", "OTHER");
    check(&other, State::Failed, "rejected");
    let gone = running.section.clone();
    drop(running);
    check(&gone, State::Failed, "no connection");
}

/// Covers: HLT-1
#[test]
fn a_receiver_proves_to_have_our_certificate() {
    let (folder, identity) = keys();
    let running = Running::start(&["XRAY1"], Some((&identity, None)));
    check(&running.section, State::Ok, "over TLS");
    let other = Authority::new().issue(folder.path(), "other");
    fs::copy(&other.certificate, &identity.certificate).expect("copies");
    check(&running.section, State::Failed, "secure connection failed");
}

/// Covers: HLT-1
#[test]
fn a_demanded_certificate_is_told_of() {
    let (folder, identity) = keys();
    let ca = Authority::new().write(folder.path(), "senders");
    let running = Running::start(&["XRAY1"], Some((&identity, Some(&ca))));
    check(&running.section, State::Ok, "no echo was tried");
    let other = Authority::new().issue(folder.path(), "other");
    fs::copy(&other.certificate, &identity.certificate).expect("copies");
    check(&running.section, State::Failed, "does not answer");
}
