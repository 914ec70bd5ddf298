//! Too many, too slow, too rude: connections that never become an object.

use std::thread;
use std::time::{Duration, Instant};

use tests::board::{Board, Plan, eventually};

use super::peer::{PIECE, Peer, command_unit, data_unit, identity, request, store, unit};
use super::witness::{endure, open_many};

const SECOND: Duration = Duration::from_secs(1);
/// How long attacks last that only wait.
const LONG: Duration = Duration::from_secs(20);
/// Idle connections.
const IDLE: usize = 1000;
/// Connections that send a byte a second before they have an association.
const SLOW: usize = 200;
/// Associations that send a byte a second: all places but one.
const SLOW_ASSOCIATIONS: usize = 7;

/// Covers: RCV-5, RCV-6
#[test]
#[ignore = "cargo xtask test --with hostile"]
fn a_byte_a_second_keeps_nobody_else_waiting() {
    endure("slow senders", &Plan::default(), |board| {
        let mut inside: Vec<Slow> =
            (0..SLOW_ASSOCIATIONS).map(|n| Slow::inside(board, n)).collect();
        let mut outside: Vec<Slow> = (0..SLOW).map(|_| Slow::outside(board)).collect();
        let started = Instant::now();
        while started.elapsed() < LONG {
            thread::sleep(SECOND);
            inside.iter_mut().for_each(|slow| assert!(slow.go_on(), "may be slow for a while"));
            for slow in &mut outside {
                if !slow.go_on() {
                    *slow = Slow::outside(board);
                }
            }
        }
    });
}

/// Covers: RCV-5
#[test]
#[ignore = "cargo xtask test --with hostile"]
fn an_association_that_stays_slow_is_ended() {
    let plan = Plan { receive: "object = \"5s\"\nsilence = \"3s\"".into(), ..Plan::default() };
    endure("slow objects", &plan, |board| {
        let mut slow = Slow::inside(board, 0);
        eventually("a slow object is ended", || {
            thread::sleep(SECOND);
            (!slow.go_on()).then_some(())
        });
        Peer::associate(board).expect("is accepted").expect_end();
        Peer::connect(board).expect("connects").expect_end();
    });
}

/// Covers: RCV-6
#[test]
#[ignore = "cargo xtask test --with hostile"]
fn a_thousand_idle_connections_keep_nobody_out() {
    endure("1,000 idle connections", &Plan::default(), |board| {
        open_many();
        let idle: Vec<Peer> = (0..IDLE).map(|_| Peer::connect(board).expect("connects")).collect();
        thread::sleep(LONG);
        drop(idle);
    });
}

/// Covers: RCV-10
#[test]
#[ignore = "cargo xtask test --with hostile"]
fn garbage_ends_the_connection_it_came_on_and_nothing_else() {
    endure("garbage", &Plan::default(), |board| {
        for seed in 0..300 {
            let noise = noise(seed, 64 * 1024);
            let mut peer = Peer::connect(board).expect("connects");
            // The board may hang up before all is sent.
            let _ = peer.send(&noise);
            peer.expect_end();
            let mut inside = Peer::associate(board).expect("is accepted");
            let sent = match seed % 3 {
                0 => inside.send(&noise),
                1 => inside.send(&unit(4, &noise[..1000])),
                _ => inside.send(&command_unit(&noise[..1000])),
            };
            drop(sent);
            inside.expect_end();
        }
    });
}

/// Covers: RCV-10, RCV-6
#[test]
#[ignore = "cargo xtask test --with hostile"]
fn connections_that_break_off_in_mid_object_leave_nothing_behind() {
    endure("aborts in mid-object", &Plan::default(), |board| {
        for number in 0..300 {
            let instance = format!("2.25.666.{number}");
            let mut peer = Peer::announce(board, &instance).expect("is accepted");
            peer.send_data(&identity(&instance), false).expect("sends");
            peer.send_data(&[0; PIECE], false).expect("sends");
            match number % 3 {
                0 => peer.send(&unit(7, &[0; 4])).expect("aborts"),
                1 => peer.send(&data_unit(&[0; 4], true)[..9]).expect("sends half a unit"),
                // Ends without a word.
                _ => continue,
            }
            peer.hang_up();
        }
        let incoming = board.folder.join("data/spool/incoming");
        eventually("nothing is left of broken objects", || {
            let own = |text: &str| text.matches("2.25.666").count();
            let left = std::fs::read_dir(&incoming).expect("lists").count();
            // One may be the normal sender's.
            (left <= 1 && own(&board.audit_text()) == 0).then_some(())
        });
    });
}

/// A peer that sends something lawful, a byte at a time.
struct Slow {
    peer: Peer,
    bytes: Vec<u8>,
    sent: usize,
}

impl Slow {
    /// In the middle of its association request.
    fn outside(board: &Board) -> Self {
        Self { peer: Peer::connect(board).expect("connects"), bytes: request(), sent: 0 }
    }

    /// In the middle of an object.
    fn inside(board: &Board, number: usize) -> Self {
        let instance = format!("2.25.667.{number}");
        let mut peer = Peer::associate(board).expect("is accepted");
        peer.send(&command_unit(&store(&instance))).expect("sends");
        peer.send_data(&identity(&instance), false).expect("sends");
        Self { peer, bytes: data_unit(&[0; 1000], true), sent: 0 }
    }

    /// Sends the next byte; says whether the connection still stands.
    fn go_on(&mut self) -> bool {
        let next = self.bytes.get(self.sent..=self.sent).expect("there is more to send");
        self.sent += 1;
        self.peer.send(next).is_ok()
    }
}

/// Bytes without a pattern, the same for the same seed (xorshift).
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..count).map(|_| next()).collect()
}
