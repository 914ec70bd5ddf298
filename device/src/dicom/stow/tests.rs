use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use rustls::{ServerConnection, StreamOwned};

use super::*;
use crate::dicom::tls;
use crate::dicom::tls::testing::Authority;

const PATIENCE: Duration = Duration::from_secs(20);
/// A server's answer that lists two objects as stored.
const BOTH_STORED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n\
                           {\"00081199\":{\"Value\":[{},{}]}}";

/// A server that takes one request, keeps it and gives this answer.
fn serve(answer: &'static str) -> (String, JoinHandle<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("http://{}/studies", listener.local_addr().expect("address"));
    let thread = thread::spawn(move || {
        let (tcp, _) = listener.accept().expect("accept");
        take_one(tcp, answer).expect("request")
    });
    (url, thread)
}

fn take_one(stream: impl Read + Write, answer: &str) -> io::Result<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head)?, 0);
    }
    let length = head.to_lowercase();
    let length = length.split("content-length: ").nth(1).expect("length");
    let length: usize = length.lines().next().expect("line").parse().expect("number");
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    reader.get_mut().write_all(answer.as_bytes())?;
    reader.get_mut().flush()?;
    Ok((head, body))
}

fn destination(url: String) -> WebDestination {
    let (credentials, ca) = (Credentials::None, None);
    WebDestination { url, credentials, ca, connect: PATIENCE, request: PATIENCE }
}

fn object(path: PathBuf) -> ObjectFile {
    let [sop_class, sop_instance, transfer_syntax] =
        ["1.2", "1.3", "1.2.840.10008.1.2.1"].map(String::from);
    ObjectFile { path, sop_class, sop_instance, transfer_syntax }
}

#[test]
fn objects_are_the_parts_of_one_request() {
    let folder = tempfile::tempdir().expect("folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("a"), b"first\r\nobject").expect("write");
    std::fs::write(path("b"), vec![7; 100_000]).expect("write");
    std::fs::write(path("secret"), "name:pass\n").expect("write");
    let (url, server) = serve(BOTH_STORED);
    let mut destination = destination(url);
    destination.credentials = Credentials::Basic(path("secret"));
    store(&destination, &[object(path("a")), object(path("b"))]).expect("store");

    let (head, body) = server.join().expect("server");
    assert!(head.starts_with("POST /studies HTTP/1.1\r\n"));
    assert!(head.to_lowercase().contains("authorization: basic bmftztpwyxnz"), "{head}");
    let boundary = head.split("boundary=").nth(1).unwrap().lines().next().unwrap();
    let part = format!("--{boundary}\r\nContent-Type: application/dicom\r\n\r\n");
    let mut expected = format!("{part}first\r\nobject\r\n{part}").into_bytes();
    expected.extend([7; 100_000]);
    expected.extend(format!("\r\n--{boundary}--\r\n").bytes());
    assert_eq!(body, expected);
}

#[test]
fn answers_are_judged() {
    let failed = |reason: u16| {
        format!(
            r#"{{"00081198":{{"vr":"SQ","Value":[{{"00081197":{{"vr":"US","Value":[{reason}]}}}}]}}}}"#
        )
    };
    let stored = r#"{"00081199":{"vr":"SQ","Value":[{}]}}"#.to_owned();
    // HTTP status, body, and whether it is worth another attempt; none for a success.
    let cases = [
        (200, stored.clone(), None),
        (200, String::new(), Some(true)),
        (200, r#"{"00081198":{"vr":"SQ"},"00081199":{"vr":"SQ"}}"#.into(), Some(true)),
        (200, failed(0xC000), Some(false)),
        (202, stored.clone(), None),
        (202, format!("[{stored}]"), None),
        (202, "{}".into(), Some(true)),
        (202, "no JSON".into(), Some(true)),
        (202, failed(0xA700), Some(true)),
        (409, failed(0x0110), Some(true)),
        (409, failed(0xC000), Some(false)),
        (409, failed(0x0122), Some(false)),
        (409, failed(0x0111), None),
        (409, "{}".into(), Some(false)),
        (301, String::new(), Some(false)),
        (400, String::new(), Some(false)),
        (401, String::new(), Some(false)),
        (403, String::new(), Some(false)),
        (404, String::new(), Some(false)),
        (413, String::new(), Some(false)),
        (415, String::new(), Some(false)),
        (429, String::new(), Some(true)),
        (500, String::new(), Some(true)),
        (503, String::new(), Some(true)),
        (507, String::new(), Some(true)),
    ];
    for (status, body, expected) in cases {
        let judged = judge(status, || Ok(body.clone().into_bytes()), 1);
        let found = judged.err().map(|error| error.is_transient());
        assert_eq!(found, expected, "{status} {body}");
    }
}

#[test]
fn a_silent_server_ends_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let file = tempfile::NamedTempFile::new().expect("file");
    let url = format!("http://{}/", listener.local_addr().expect("address"));
    let mut destination = destination(url);
    destination.request = Duration::from_millis(200);
    let error = store(&destination, &[object(file.path().into())]).expect_err("silence");
    assert!(error.is_transient(), "{error}");
}

#[test]
fn a_server_is_trusted_through_the_given_authority_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let authority = Authority::new();
    let ca = authority.write(folder.path(), "ca");
    let other = Authority::new().write(folder.path(), "other");
    let config = tls::server(&authority.issue(folder.path(), "server"), None).expect("server");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let server = thread::spawn(move || {
        let take = || {
            let (tcp, _) = listener.accept().expect("accept");
            let connection = ServerConnection::new(config.clone()).expect("connection");
            take_one(StreamOwned::new(connection, tcp), BOTH_STORED).is_ok()
        };
        [take(), take()]
    });
    let mut destination = destination(format!("https://localhost:{port}/studies"));
    let object = object(other.clone());
    let mut send = |ca| {
        destination.ca = Some(ca);
        store(&destination, std::slice::from_ref(&object))
    };
    send(other).expect_err("not trusted");
    send(ca).expect("trusted");
    assert_eq!(server.join().expect("server"), [false, true]);
}

#[test]
fn a_password_is_not_sent_in_the_clear() {
    assert!(check_url("http://pacs.example/studies", true).is_err());
    assert!(check_url("http://pacs.example/studies", false).is_ok());
    assert!(check_url("https://pacs.example/studies", true).is_ok());
    assert!(check_url("ftp://pacs.example", false).is_err());
    assert!(check_url("no address", false).is_err());
}

#[test]
fn missing_credentials_are_no_passing_trouble() {
    let mut destination = destination("http://127.0.0.1:9/".into());
    destination.credentials = Credentials::Bearer("/no/such/file".into());
    let error = store(&destination, &[object("/no/such/object".into())]).expect_err("no token");
    assert!(!error.is_transient());
}

#[test]
fn base64_is_the_standard_one() {
    for (plain, coded) in
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
    {
        assert_eq!(base64(plain.as_bytes()), coded);
    }
}
