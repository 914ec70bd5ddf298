//! Normal work that goes on during an attack, and what the board needs meanwhile.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tests::board::{Board, Plan, eventually};
use tests::{scan, small_phantom};

/// Most memory that the board may ever have resident, in KiB.
const MOST_MEMORY: u64 = 512 * 1024;
/// Between two pieces of normal work.
const PAUSE: Duration = Duration::from_millis(100);
/// Scans that wait to be judged before the normal sender waits too: the attack's own scans stand
/// in the same queue.
const WAITING: usize = 10;
/// Pieces of normal work at least, however soon the attack is over.
const LEAST: usize = 20;

/// Attacks a new board while a normal sender stores scans. Each of them is taken at the first
/// attempt and judged, the memory stays bounded, and the board ends in good order.
pub fn endure(what: &str, plan: &Plan, attack: impl FnOnce(&Board)) {
    let (board, _folder) = Board::new(plan);
    let phantom = small_phantom();
    let judged = || board.audit_text().matches("\"judged\"").count();
    let store = |number| {
        eventually("scans are judged", || (number < judged() + WAITING).then_some(()));
        let scan = scan(&phantom, number);
        let started = Instant::now();
        board.send(&[scan]).expect("the normal sender's scan is taken");
        started.elapsed()
    };
    let times = beside(store, || attack(&board));
    eventually("the normal sender's scans are judged", || (judged() >= times.len()).then_some(()));
    report(what, &board, "scans stored", times);
    assert!(board.stop().success(), "the service ends in good order");
}

/// Does normal work, numbered from 0, again and again while an attack lasts; how long each took.
pub fn beside(
    work: impl Fn(usize) -> Duration + Send + Sync,
    attack: impl FnOnce(),
) -> Vec<Duration> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut times = Vec::new();
            while !over.load(Ordering::Acquire) || times.len() < LEAST {
                times.push(work(times.len()));
                thread::sleep(PAUSE);
            }
            times
        });
        let end = Over(&over);
        attack();
        drop(end);
        worker.join().expect("the normal work succeeds")
    })
}

/// Tells the normal worker that the attack is over, even when it fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Prints what an attack cost, and checks the memory.
pub fn report(what: &str, board: &Board, done: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_millis();
    let peak = peak_memory(board);
    println!(
        "{what}: peak memory {} MiB; {} {done}, p50 {} ms, p95 {} ms, max {} ms",
        peak / 1024,
        times.len(),
        at(50),
        at(95),
        at(100)
    );
    assert!(peak < MOST_MEMORY, "{what}: {peak} KiB");
}

/// Lets this process open as many connections as it may.
pub fn open_many() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("is allowed");
}

/// The most memory that the board ever had resident, in KiB.
pub fn peak_memory(board: &Board) -> u64 {
    let path = format!("/proc/{}/status", board.process());
    let status = fs::read_to_string(path).expect("the board runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
