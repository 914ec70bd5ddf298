//! The page under attack, while someone at another machine reads it and a sender stores scans.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use device::web::secret;
use tests::board::{Board, PATIENCE, Plan};

use super::witness::{beside, endure, open_many, report};

/// Idle connections.
const IDLE: usize = 1000;
/// How long they stay.
const LONG: Duration = Duration::from_secs(20);
/// Heads and bodies that are sent, one after the other.
const TIMES: usize = 20;
/// Bytes of a huge head or body, as far as the board takes them.
const HUGE: usize = 100_000_000;
/// The address of the machine that reads the page. All of 127.0.0.0/8 is this machine, so that
/// attackers at 127.0.0.1 are another one to the board.
const READER: [u8; 4] = [127, 0, 0, 9];

/// Covers: RCV-6
#[test]
#[ignore = "cargo xtask test --with hostile"]
fn a_thousand_idle_readers_keep_nobody_out() {
    attack("1,000 idle readers", |page| {
        open_many();
        let connect = || TcpStream::connect(page).expect("connects");
        let idle: Vec<TcpStream> = (0..IDLE).map(|_| connect()).collect();
        thread::sleep(LONG);
        drop(idle);
    });
}

/// Covers: RCV-6
#[test]
#[ignore = "cargo xtask test --with hostile"]
fn huge_heads_and_bodies_are_refused() {
    attack("huge heads and bodies", |page| {
        let host = format!("Host: {page}\r\nOrigin: http://{page}\r\n");
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        for _ in 0..TIMES {
            // Not even a first line, a line without an end, lines without an end.
            refused(page, "", "A");
            refused(page, &format!("GET /healthz HTTP/1.1\r\n{host}X: "), "A");
            refused(page, &format!("GET /healthz HTTP/1.1\r\n{host}"), "X: A\r\n");
            let post = format!("POST /sign-in HTTP/1.1\r\n{host}{form}");
            refused(page, &format!("{post}Content-Length: 2147483648\r\n\r\nsecret="), "A");
            let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n");
            refused(page, &chunked, "8\r\nsecret=A\r\n");
        }
    });
}

/// Attacks the page of a provisioned board.
fn attack(what: &str, attack: impl FnOnce(SocketAddr)) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("page.secret");
    std::fs::write(&file, secret::hash("ABCD-EFGH-JKMN-PQRS").expect("hashes")).expect("writes");
    let plan = Plan { page: format!("secret = {file:?}"), ..Plan::default() };
    endure(what, &plan, |board| {
        let page = page(board);
        let times = beside(|_| healthy(page), || attack(page));
        report(what, board, "pages read", times);
    });
}

fn page(board: &Board) -> SocketAddr {
    board.page.strip_prefix("http://").expect("no TLS").parse().expect("an address")
}

/// Reads `/healthz` from another machine; how long that took.
fn healthy(page: SocketAddr) -> Duration {
    let started = Instant::now();
    let mut stream = connect_from(READER, page).expect("the reader connects");
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {page}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("asks");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("is answered");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    started.elapsed()
}

fn connect_from(address: [u8; 4], page: SocketAddr) -> io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((address, 0).into())?;
        socket.connect(page).await
    })?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends a beginning and then the same again and again: the board must not take it all, nor answer
/// it with success.
fn refused(page: SocketAddr, beginning: &str, again: &str) {
    let mut stream = TcpStream::connect(page).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("is set");
    stream.set_write_timeout(Some(PATIENCE)).expect("is set");
    let again = again.repeat(64 * 1024 / again.len());
    let mut sent = 0;
    let mut sending = stream.write_all(beginning.as_bytes());
    while sending.is_ok() && sent < HUGE {
        sending = stream.write_all(again.as_bytes());
        sent += again.len();
    }
    assert!(sent < HUGE, "the board took it all");
    let mut answer = Vec::new();
    // The board may have cut the connection before its answer was read.
    let _ = stream.take(1 << 20).read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
}
