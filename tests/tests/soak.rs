//! An hour of steady load: does `device serve` stay as small and as quick as it was?

use std::collections::HashMap;
use std::env;
use std::fs;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use device::event::ScanId;
use host::phantom::{Phantom, PhantomSpec, render};
use models::label::Class;
use serde_json::Value;
use tests::archive::Archive;
use tests::board::{Board, Plan, eventually};
use tests::{scan, uid};

/// How long the load lasts, in minutes.
const MINUTES: &str = "SPINESIGHT_SOAK_MINUTES";
/// From one scan to the next.
const PACE: Duration = Duration::from_secs(2);
/// From one look at the process to the next.
const LOOK: Duration = Duration::from_secs(10);
/// What a memory's slope may be beyond its own error, in KiB per hour.
const MOST_SLOPE: f64 = 1024.0;

/// Covers: LIF-3
///
/// Resident memory and open files are looked at every ten seconds. The first sixth of the time
/// (ten minutes of an hour) is warm-up. The test fails
/// - when the slope of resident memory over the last two thirds (forty minutes of an hour), by
///   least squares, exceeds 1 MiB an hour by more than twice its standard error;
/// - when the fewest open files of the last third are more than the fewest of the third before:
///   associations come and go, but what is held must not grow;
/// - when a scan has no verdict, or its results do not arrive, or its content does not expire.
#[test]
#[ignore = "cargo xtask test --with soak"]
fn an_hour_of_steady_load_makes_it_neither_larger_nor_slower() {
    let minutes: f64 = env::var(MINUTES).map_or(60.0, |text| text.parse().expect("minutes"));
    let time = Duration::from_secs_f64(minutes * 60.0);
    let archive = Archive::start();
    let plan = Plan {
        storage: "keep_free_mb = 1\nretention = \"30s\"".into(),
        ..Plan::with(archive.section("pacs", ""))
    };
    let (board, _folder) = Board::new(&plan);
    let (sent, looks) = load(&board, &archive, time);
    let trail = eventually("everything is delivered and expired", || {
        archive.clear();
        let trail = board.audit_text();
        let all = |what: &str| trail.matches(what).count() == sent;
        (all("\"delivered\"") && all("\"expired\"")).then_some(trail)
    });
    report_times(&trail, sent);
    assert!(board.stop().success());
    judge_files(&looks);
    judge_memory(&looks);
}

/// One look at the process.
struct Sample {
    /// Since the load began, in hours.
    hours: f64,
    /// Resident memory in KiB.
    memory: f64,
    /// Open files.
    files: usize,
}

/// Sends scan after scan; returns how many, and what the process looked like meanwhile.
fn load(board: &Board, archive: &Archive, time: Duration) -> (usize, Vec<Sample>) {
    let phantoms = phantoms();
    let (start, mut looks) = (Instant::now(), Vec::new());
    let mut next_look = start;
    let mut sent = 0;
    while start.elapsed() < time {
        let file = scan(&phantoms[sent % phantoms.len()], sent);
        board.send(&[file]).expect("takes the scan");
        sent += 1;
        if next_look <= Instant::now() {
            next_look += LOOK;
            archive.clear();
            let sample = sample(board, start);
            if looks.len() % 6 == 0 {
                let Sample { hours, memory, files } = sample;
                println!(
                    "{:5.1} min {sent:5} scans {memory:8.0} KiB {files:3} files",
                    hours * 60.0
                );
            }
            looks.push(sample);
        }
        let due = start + PACE * u32::try_from(sent).expect("few");
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    (sent, looks)
}

/// Pictures of a detector's usual size, each class twice.
fn phantoms() -> Vec<Phantom> {
    let phantom = |seed: u64| {
        let class = Class::ALL[seed as usize % Class::ALL.len()];
        render(&PhantomSpec { class, seed, width: 1024, height: 2048 }).expect("renders")
    };
    (0..6).map(phantom).collect()
}

fn sample(board: &Board, start: Instant) -> Sample {
    let process = format!("/proc/{}", board.process());
    let status = fs::read_to_string(format!("{process}/status")).expect("the board runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("is told");
    let memory = line.trim().trim_end_matches(" kB").parse().expect("a number");
    let files = fs::read_dir(format!("{process}/fd")).expect("lists").count();
    Sample { hours: start.elapsed().as_secs_f64() / 3600.0, memory, files }
}

fn judge_files(looks: &[Sample]) {
    let third = looks.len() / 3;
    let fewest = |part: &[Sample]| part.iter().map(|look| look.files).min().expect("looks");
    let (before, after) = (fewest(&looks[third..2 * third]), fewest(&looks[2 * third..]));
    println!("open files: at least {before} in the second third, {after} in the last");
    assert!(after <= before, "open files grow");
}

fn judge_memory(looks: &[Sample]) {
    let report = |name: &str, part: &[Sample]| {
        let (slope, error) = slope(part);
        println!("resident memory, {name}: {slope:+.0} KiB an hour, standard error {error:.0}");
        (slope, error)
    };
    report("after the warm-up", &looks[looks.len() / 6..]);
    let (slope, error) = report("last two thirds", &looks[looks.len() / 3..]);
    assert!(slope - 2.0 * error <= MOST_SLOPE, "resident memory grows");
}

/// The slope of memory by least squares and its standard error, in KiB per hour.
fn slope(looks: &[Sample]) -> (f64, f64) {
    let count = looks.len() as f64;
    let mean = |value: &dyn Fn(&Sample) -> f64| looks.iter().map(value).sum::<f64>() / count;
    let (x, y) = (mean(&|look| look.hours), mean(&|look| look.memory));
    let spread: f64 = looks.iter().map(|look| (look.hours - x).powi(2)).sum();
    let both: f64 = looks.iter().map(|look| (look.hours - x) * (look.memory - y)).sum();
    let slope = both / spread;
    let rest = |look: &Sample| (look.memory - y - slope * (look.hours - x)).powi(2);
    let rest: f64 = looks.iter().map(rest).sum();
    (slope, (rest / (count - 2.0) / spread).sqrt())
}

/// Prints how long verdicts and deliveries took, by the audit trail's own times, which are of one
/// clock and exact to a millisecond: a scan is `received` when its last byte is safe on disk and
/// just before its sender is told so, `judged` when the verdict is, `delivered` when the archive
/// has answered for the last of its result objects.
fn report_times(trail: &str, sent: usize) {
    let mut times: HashMap<(String, String), DateTime<Utc>> = HashMap::new();
    for line in trail.lines() {
        let line: Value = serde_json::from_str(line).expect("an entry");
        let text = |key: &str| line[key].as_str().map(str::to_owned);
        if let (Some(event), Some(scan)) = (text("event"), text("scan")) {
            let time = text("time").expect("a time").parse().expect("a time");
            assert!(times.insert((event, scan), time).is_none(), "once for each scan: {line}");
        }
    }
    for event in ["judged", "delivered"] {
        let mut all: Vec<i64> = (0..sent)
            .map(|number| {
                let scan = ScanId::of(uid(number).as_bytes()).to_string();
                let at = |event: &str| times[&(event.to_owned(), scan.clone())];
                (at(event) - at("received")).num_milliseconds()
            })
            .collect();
        all.sort_unstable();
        let percentile = |part: usize| all[(all.len() - 1) * part / 100];
        let [p50, p95, p99, most] = [50, 95, 99, 100].map(percentile);
        println!("received to {event}: p50 {p50} p95 {p95} p99 {p99} most {most} ms");
    }
}
