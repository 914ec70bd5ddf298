//! `storescu` over TLS.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tests::board::{Board, Plan, eventually};
use tests::scans;

use super::tools::{Done, send};

/// Covers: RCV-11
#[test]
#[ignore = "cargo xtask test --with dicom-peers"]
fn storescu_gets_in_with_a_certificate_of_the_authority_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let ours = Authority::new(folder.path(), "ours");
    let other = Authority::new(folder.path(), "other");
    let board = board(&ours, folder.path());
    let scan = folder.path().join("scan.dcm");
    fs::write(&scan, scans(1).remove(0)).expect("writes");
    let store = |options: &[&str]| send("storescu", &board, options, &[&scan]);
    let trusting = |identity: &Identity| store(&identity.options(&ours.certificate));

    refused(store(&[]), "without TLS");
    let nobody = ["+tla", "+cf", path(&ours.certificate)];
    refused(store(&nobody), "without a certificate");
    refused(trusting(&other.issue(folder.path(), "stranger")), "with another's certificate");
    let text = board.audit_text();
    assert!(!text.contains("\"received\""), "{text}");

    let known = trusting(&ours.issue(folder.path(), "sender")).expect_success("storescu");
    assert_eq!(known.lines_with("Received Store Response (Success)"), 1, "{}", known.said);
    eventually("the scan is judged", || board.audit_text().contains("\"judged\"").then_some(()));
}

fn refused(done: Done, how: &str) {
    assert!(!done.success, "{how}: {}", done.said);
    assert_eq!(done.lines_with("Received Store Response"), 0, "{how}: {}", done.said);
}

/// A board that lets in who has a certificate of an authority.
fn board(authority: &Authority, folder: &Path) -> Board {
    let Identity { certificate, key } = authority.issue(folder, "board");
    let client_ca = &authority.certificate;
    let receive =
        format!("certificate = {certificate:?}\nkey = {key:?}\nclient_ca = {client_ca:?}");
    Plan { receive, ..Plan::default() }.start(folder)
}

/// A certificate authority, and the file with its certificate.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: PathBuf,
}

/// Files with a certificate and its key.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, format!("{name} authority"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let own: Certificate = params.self_signed(&key).expect("signs");
        let certificate = written(folder, &format!("{name}.pem"), &own.pem());
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Writes a certificate for this machine and its key.
    fn issue(&self, folder: &Path, name: &str) -> Identity {
        let names = vec!["localhost".into(), "127.0.0.1".into()];
        let mut params = CertificateParams::new(names).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("signs");
        Identity {
            certificate: written(folder, &format!("{name}.pem"), &signed.pem()),
            key: written(folder, &format!("{name}.key"), &key.serialize_pem()),
        }
    }
}

impl Identity {
    /// DCMTK's options for this identity that trusts an authority.
    fn options<'a>(&'a self, trusted: &'a Path) -> [&'a str; 5] {
        ["+tls", path(&self.key), path(&self.certificate), "+cf", path(trusted)]
    }
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("writes");
    path
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of ASCII")
}
