//! The pages as a client meets them, on a real listener.

mod client;
mod fake;

use std::sync::Arc;
use std::time::{Duration, Instant};

use models::label::Class;

use crate::event::{Event, ScanId};
use crate::metrics::Metrics;
use crate::record::{Record, Verdict};

use super::board::DeliveryState;
use super::provision::certificate;
use super::{Options, Server, TlsFiles, WebError};
use client::line;
use fake::{FakeBoard, FakeServer, SECRET, flagged, options};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn pages_and_pictures_are_for_the_signed_in() {
    let server = FakeServer::new(vec![flagged(1)]);
    let scan = format!("/scans/{}", flagged(1).id);
    for path in ["/", "/health", &scan] {
        let answer = server.get(path).set("Accept", "text/html").send();
        assert_eq!((answer.status, answer.body.as_str()), (303, ""), "{path}");
        assert_eq!(answer.header("location"), format!("/sign-in?next={path}"));
    }
    for path in ["/events".into(), format!("{scan}/scan.png"), format!("{scan}/overlay.png")] {
        assert_eq!(server.get(&path).send().status, 401, "{path}");
    }
    let cookie = server.sign_in();
    for path in ["/", "/health", &scan, &format!("{scan}/scan.png")] {
        assert_eq!(server.get(path).set("Cookie", &cookie).send().status, 200, "{path}");
    }
}

#[test]
fn signing_in_leads_on_and_signing_out_ends_it() {
    let server = FakeServer::new(vec![]);
    let form = format!("secret={SECRET}&next=/health");
    let answer = server.post("/sign-in", &form).send();
    assert_eq!((answer.status, answer.header("location")), (303, "/health"));
    let cookie = answer.cookie();
    let csrf = server.csrf(&cookie);
    let out = |csrf: &str| {
        server.post("/sign-out", &format!("csrf={csrf}")).set("Cookie", &cookie).send()
    };
    assert_eq!(out("0123").status, 403);
    assert_eq!(out(&csrf).status, 303);
    assert_eq!(server.get("/").set("Cookie", &cookie).send().status, 401);
}

#[test]
fn a_new_session_takes_the_place_of_the_old() {
    let server = FakeServer::new(vec![]);
    let old = server.sign_in();
    let form = format!("secret={SECRET}");
    let new = server.post("/sign-in", &form).set("Cookie", &old).send().cookie();
    assert_ne!(old, new);
    assert_eq!(server.get("/").set("Cookie", &old).send().status, 401);
    assert_eq!(server.get("/").set("Cookie", &new).send().status, 200);
}

/// Covers: PAG-2
#[test]
fn wrong_secrets_are_refused_ever_more_slowly() {
    let server = FakeServer::new(vec![]);
    let attempt = |secret: &str| server.post("/sign-in", &format!("secret={secret}")).send();
    for _ in 0..3 {
        let answer = attempt("k3v7q-00000");
        assert_eq!((answer.status, answer.header("set-cookie")), (403, ""));
        assert!(!answer.body.contains("k3v7q"), "the answer quotes the secret");
    }
    // Even the right one has to wait, but not for ever.
    let answer = attempt(SECRET);
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.header("retry-after").parse().expect("seconds");
    server.pass(Duration::from_secs(wait));
    assert_eq!(attempt(SECRET).status, 303);
}

/// Covers: PAG-2
#[test]
fn sessions_end() {
    let server = FakeServer::new(vec![]);
    let cookie = server.sign_in();
    let get = |name: &str| server.get("/").set("Cookie", &cookie).set(name, "1").send().status;
    server.pass(9 * MINUTE);
    assert_eq!(get("X-Nothing"), 200);
    server.pass(9 * MINUTE);
    // A page that refreshes itself is nobody there.
    assert_eq!(get("Spinesight-Refresh"), 200);
    server.pass(2 * MINUTE);
    assert_eq!(get("X-Nothing"), 401);
}

/// Covers: PAG-2
#[test]
fn forms_need_the_sessions_token_and_our_own_origin() {
    let server = FakeServer::new(vec![flagged(1)]);
    let cookie = server.sign_in();
    let form = format!("csrf={}", server.csrf(&cookie));
    let path = format!("/scans/{}/acknowledge", flagged(1).id);
    let post = |form: &str| server.post(&path, form).set("Cookie", &cookie);
    let acknowledged = || server.board.scans.lock().expect("whole")[0].acknowledged.is_some();
    for (request, status) in [
        (post("csrf=0123"), 403),
        (post(""), 400),
        (post(&format!("{form}{}", "0".repeat(5000))), 400),
        (post(&form).set("Origin", "http://evil.example"), 403),
        (post(&form).set("Origin", "null"), 403),
        (post(&form).unset("Origin"), 403),
        (post(&form).set("Sec-Fetch-Site", "cross-site"), 403),
        (post(&form).unset("Cookie"), 401),
    ] {
        assert_eq!(request.send().status, status);
        assert!(!acknowledged());
    }
    assert_eq!(post(&form).send().status, 303);
    assert!(acknowledged());
    let other = server.csrf(&server.sign_in());
    assert_eq!(post(&format!("csrf={other}")).send().status, 403, "another session's token");
}

#[test]
fn a_delivery_given_up_is_sent_again() {
    let server = FakeServer::new(vec![flagged(1)]);
    let cookie = server.sign_in();
    let csrf = server.csrf(&cookie);
    let path = format!("/scans/{}/redeliver", flagged(1).id);
    let post = |destination: &str| {
        let form = format!("csrf={csrf}&destination={destination}");
        server.post(&path, &form).set("Cookie", &cookie).send().status
    };
    assert_eq!(post("nowhere"), 404);
    assert_eq!(post("pacs"), 303);
    let state = server.board.scans.lock().expect("whole")[0].deliveries[0].state;
    assert_eq!(state, DeliveryState::Waiting);
}

/// Covers: PAG-3
#[test]
fn every_answer_carries_its_protection() {
    let server = FakeServer::new(vec![]);
    let cookie = server.sign_in();
    for path in ["/", "/sign-in", "/nowhere", "/healthz", "/style.css"] {
        let answer = server.get(path).set("Cookie", &cookie).send();
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none';"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(answer.header("strict-transport-security"), "", "plain HTTP");
        if path != "/style.css" {
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
            for inline in ["<style", " style=", "onclick=", "javascript:"] {
                assert!(!answer.body.contains(inline), "{path} has {inline}");
            }
        }
    }
}

#[test]
fn unknown_and_strange_addresses_are_nothing() {
    let server = FakeServer::new(vec![flagged(1)]);
    let cookie = server.sign_in();
    for path in [
        "/scans/0123456789abcdef",
        "/scans/0123456789abcdef/scan.png",
        "/scans/..%2f..%2fetc%2fpasswd",
        "/scans/../../etc/passwd",
        "/../../etc/passwd",
        "/scans/%00",
        "/scans/%ff",
        "/style.css/../../x",
    ] {
        assert_eq!(server.get(path).set("Cookie", &cookie).send().status, 404, "{path}");
    }
    for query in ["?page=-1", "?page=x", "?page=4294967295", "?page=99999999999999999999", "?%ff"] {
        assert_eq!(server.get(&format!("/{query}")).set("Cookie", &cookie).send().status, 200);
    }
}

#[test]
fn other_hosts_are_turned_away() {
    let server = FakeServer::new(vec![]);
    let cookie = server.sign_in();
    let get = |host: &str| server.get("/").set("Cookie", &cookie).set("Host", host).send();
    for host in ["evil.example", "127.0.0.1.evil.example", ""] {
        let answer = get(host);
        assert_eq!((answer.status, answer.body.as_str()), (421, "refused\n"), "{host}");
    }
    assert_eq!(server.get("/").set("Cookie", &cookie).unset("Host").send().status, 421);
    assert_eq!(get("board.example:80").status, 200);
}

#[test]
fn long_lists_have_pages() {
    let server = FakeServer::new((0..45).map(flagged).collect());
    let cookie = server.sign_in();
    let get = |path: &str| server.get(path).set("Cookie", &cookie).send().body;
    for (path, scans, newer, older) in
        [("/", 20, false, true), ("/?page=1", 20, true, true), ("/?page=2", 5, true, false)]
    {
        let page = get(path);
        assert_eq!(page.matches("class=\"row\"").count(), scans, "{path}");
        assert_eq!(page.contains("rel=\"prev\""), newer, "{path}");
        assert_eq!(page.contains("rel=\"next\""), older, "{path}");
    }
    assert!(get("/?page=9").contains("no scans this old"));
}

/// Covers: PAG-4
#[test]
fn pages_hear_of_new_scans_and_of_the_end_of_the_session() {
    let server = FakeServer::new(vec![]);
    let cookie = server.sign_in();
    let (head, mut stream) = server.get("/events").set("Cookie", &cookie).open();
    assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"));
    let scan = ScanId::of(b"1.2.3");
    let event = Event::Judged {
        scan,
        verdict: Verdict::Abnormal,
        class: Class::Scoliosis,
        probability: 0.9,
        bundle: "ab".into(),
        latency_ms: 9,
    };
    server.board.events.send(event).expect("someone listens");
    let mut until = |wanted: &str| while line(&mut stream) != wanted {};
    until("event: change");
    until("data: A scan was flagged abnormal.");
    server.pass(11 * MINUTE);
    until("event: ended");
}

#[test]
fn only_so_many_pages_are_kept_up_to_date() {
    let server = FakeServer::new(vec![]);
    let cookie = server.sign_in();
    let open = || server.get("/events").set("Cookie", &cookie).open();
    let streams: Vec<_> = (0..super::app::STREAMS).map(|_| open()).collect();
    assert!(streams.iter().all(|(head, _)| head.status == 200));
    assert_eq!(open().0.status, 503);
    drop(streams);
    let deadline = Instant::now() + Duration::from_secs(10);
    while open().0.status != 200 {
        assert!(Instant::now() < deadline, "places are not given back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Covers: RES-3
#[test]
fn results_are_shown_with_reasons_and_the_statement_and_escaped() {
    let mut scan = flagged(1);
    scan.from = "<script>alert(1)</script>".into();
    let server = FakeServer::new(vec![scan.clone()]);
    let cookie = server.sign_in();
    let page = server.get(&format!("/scans/{}", scan.id)).set("Cookie", &cookie).send().body;
    for text in [
        "not a diagnosis",
        "Scoliosis",
        "90.5 %",
        "Findings together have 98.0 %.",
        "upper third, centre",
        "the destination refused it",
        "Send again",
        "Acknowledge",
        "cx=\"50.10%\"",
        "0123456789ab",
    ] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script>alert"));
    assert!(!page.contains("Doe"), "the file's name is shown");
}

#[test]
fn scans_in_every_state_have_a_page() {
    use super::board::Stage;
    use crate::record::FailedRecord;
    let failed = FailedRecord { file: "Doe^Jane.dcm".into(), error: "no pixels".into() };
    let mut scans = vec![flagged(0), flagged(1), flagged(2), flagged(3)];
    scans[0].record = None;
    scans[1].record = Some(Record::Failed(failed));
    (scans[2].record, scans[2].stage) = (None, Stage::Expired);
    (scans[3].size, scans[3].deliveries) = (None, vec![]);
    let server = FakeServer::new(scans.clone());
    let cookie = server.sign_in();
    let said = ["Waiting for the model", "no pixels", "Removed", "sends results nowhere"];
    for (scan, said) in scans.iter().zip(said) {
        let page = server.get(&format!("/scans/{}", scan.id)).set("Cookie", &cookie).send().body;
        assert!(page.contains(said) && !page.contains("Doe"), "{said} is not in {page}");
    }
}

#[test]
fn monitors_learn_how_the_board_is_and_no_more() {
    let server = FakeServer::new(vec![flagged(1)]);
    let answer = server.get("/healthz").send();
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"status":"ok"}"#));
    server.board.health.lock().expect("whole").degraded = vec!["No sensor.".into()];
    let answer = server.get("/healthz").send();
    assert_eq!((answer.status, answer.body.as_str()), (503, r#"{"status":"degraded"}"#));
    let cookie = server.sign_in();
    assert!(server.get("/healthz").set("Cookie", &cookie).send().body.contains("No sensor."));
}

/// Covers: PAG-5
#[test]
fn metrics_tell_of_no_scan() {
    let server = FakeServer::new(vec![flagged(1)]);
    let text = server.get("/metrics").send().body;
    for line in [
        "spinesight_ready 1",
        "spinesight_queue_length{queue=\"to judge\"} 3",
        "spinesight_destination_waiting{destination=\"pacs\"} 2",
        "spinesight_temperature_celsius 51.5",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in {text}");
    }
    for word in ["Doe", "ROOM_1", &flagged(1).id.to_string()] {
        assert!(!text.contains(word), "{word} is in {text}");
    }
}

/// Covers: PAG-1
#[test]
fn without_a_secret_there_is_only_advice() {
    let server =
        FakeServer::with_options(vec![flagged(1)], Options { secret_hash: None, ..options() });
    let page = server.get("/").send();
    assert_eq!(page.status, 200);
    assert!(page.body.contains("device provision") && !page.body.contains("ROOM_1"));
    let scan = format!("/scans/{}", flagged(1).id);
    for path in ["/health", "/events", "/sign-in", &scan, &format!("{scan}/scan.png")] {
        assert_eq!(server.get(path).send().status, 404, "{path}");
    }
    assert_eq!(server.post("/sign-in", "secret=").send().status, 404);
    assert_eq!(server.get("/healthz").send().status, 200);
}

/// Covers: PAG-1
#[test]
fn other_machines_come_in_by_secret_and_tls_only() {
    let refused = |options: Options| {
        Server::bind(options, FakeBoard::new(vec![]), Arc::new(Metrics::new(&[]))).err()
    };
    let everywhere = Options { address: ([0, 0, 0, 0], 0).into(), ..options() };
    assert!(matches!(refused(everywhere.clone()), Some(WebError::NoCertificate(_))));
    let open = Options { secret_hash: None, ..everywhere };
    assert!(matches!(refused(open), Some(WebError::NoSecret(_))));
    let bad = Options { secret_hash: Some("k3v7q".into()), ..options() };
    assert!(matches!(refused(bad), Some(WebError::Secret(_))));
    let nowhere = TlsFiles { certificate: "/nowhere/c.pem".into(), key: "/nowhere/k.pem".into() };
    let bad = Options { tls: Some(nowhere), ..options() };
    assert!(matches!(refused(bad), Some(WebError::Tls(_))));
}

#[test]
fn a_provisioned_certificate_serves_https() {
    let made = certificate(&["127.0.0.1".into(), "board.example".into()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let files = TlsFiles {
        certificate: write("certificate.pem", &made.certificate_pem),
        key: write("key.pem", &made.key_pem),
    };
    let server = FakeServer::with_options(vec![], Options { tls: Some(files), ..options() });
    let trusted = ureq::tls::Certificate::from_pem(made.certificate_pem.as_bytes());
    let tls = ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::new_with_certs(&[trusted.expect("a certificate")]))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let agent: ureq::Agent =
        ureq::Agent::config_builder().tls_config(tls).max_redirects(0).build().into();
    let origin = format!("https://127.0.0.1:{}", server.port);
    let answer = agent
        .post(format!("{origin}/sign-in"))
        .header("Origin", &origin)
        .send_form([("secret", SECRET)])
        .expect("an answer");
    let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
    assert_eq!(answer.status(), 303);
    assert!(header("set-cookie").starts_with("__Host-spinesight="));
    assert!(header("set-cookie").ends_with("; HttpOnly; SameSite=Strict; Secure"));
    assert_eq!(header("strict-transport-security"), "max-age=31536000");
}

#[test]
fn a_stopped_server_ends_its_streams() {
    use std::io::Read;
    let server = FakeServer::new(vec![]);
    let cookie = server.sign_in();
    let (head, mut stream) = server.get("/events").set("Cookie", &cookie).open();
    assert_eq!(head.status, 200);
    server.stop();
    stream.read_to_string(&mut String::new()).expect("a clean end");
}

#[test]
fn one_machine_cannot_take_all_connections() {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    let server = FakeServer::new(vec![]);
    let connect = || TcpStream::connect(("127.0.0.1", server.port)).expect("connect");
    let mut streams: Vec<_> = (0..100).map(|_| connect()).collect();
    let mut last = streams.pop().expect("one");
    last.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    // Closed, with or without a reset: nothing is answered.
    assert_eq!(last.read(&mut [0]).unwrap_or(0), 0);
    drop(streams);
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut byte = [0];
    loop {
        let mut stream = connect();
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        if stream.read(&mut byte).is_ok_and(|count| count == 1) {
            break;
        }
        assert!(Instant::now() < deadline, "places are not given back");
        std::thread::sleep(Duration::from_millis(20));
    }
}
