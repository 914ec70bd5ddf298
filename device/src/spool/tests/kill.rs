//! SIGKILL at every durable step: nothing lost, nothing duplicated, nothing half-delivered.

use std::env;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use super::world::{World, inputs, options};
use crate::durable::forgetful::{self, CHILD, fast_dir};
use crate::failpoint;
use crate::spool::Spool;

/// Scans of each run.
pub(super) const SCANS: usize = 2;

/// This test binary, to run one of its ignored tests in a world.
pub(super) fn child(test: &str, dir: &Path) -> Command {
    let module = module_path!().rsplit_once("::").map_or("", |(parent, _)| parent);
    let module = module.split_once("::").map_or("", |(_, path)| path);
    forgetful::child(&format!("{module}::{test}"), dir)
}

#[test]
#[ignore = "the child's part: does something only where its parent says so"]
fn lives() {
    let Some(dir) = env::var_os(CHILD) else { return };
    let world = World::new(Path::new(&dir));
    let (spool, _) = Spool::open(options(&world.spool())).expect("opens");
    world.drive(&spool, &inputs(SCANS)).expect("drives");
}

fn killed_at(point: &str, dir: &Path) -> ExitStatus {
    child("kill::lives", dir).env(failpoint::VARIABLE, point).status().expect("runs")
}

/// Kills at the Nth time a point is reached and once more while that is mended, checks, and lets
/// the next life finish.
fn check(point: &str, n: u32) -> bool {
    let dir = fast_dir();
    let status = killed_at(&format!("{point}:{n}"), dir.path());
    let was_killed = status.signal() == Some(9);
    assert!(was_killed || status.success(), "{point}:{n}: {status}");
    if was_killed && n == 1 {
        killed_at("recovery.commit", dir.path());
    }
    let world = World::new(dir.path());
    let (spool, recovery) = Spool::open(options(&world.spool())).expect("opens");
    assert_eq!(recovery.damaged_database, None, "{point}:{n}");
    assert!(recovery.lost.is_empty() && recovery.unreadable.is_empty(), "{point}:{n}");
    assert!(recovery.set_back.is_empty(), "{point}:{n}");
    world.check_promises(&spool, &inputs(SCANS));
    world.drive(&spool, &inputs(SCANS)).expect("finishes");
    world.check_end(&spool, &inputs(SCANS));
    was_killed
}

/// The spool's fail points.
pub(super) fn points() -> impl Iterator<Item = &'static str> + Clone {
    let others = ["audit.", "courier.", "folder.", "start."];
    let is_ours = move |point: &&str| !others.iter().any(|other| point.starts_with(other));
    failpoint::ALL.iter().copied().filter(is_ours)
}

/// Covers: SPL-1
#[test]
fn a_kill_at_any_durable_step_loses_and_repeats_nothing() {
    for point in points() {
        let times = (1..1000).take_while(|n| check(point, *n)).count();
        let is_once = point.starts_with("expire.") || point.starts_with("recovery.");
        assert!(is_once || times >= SCANS, "{point} was reached {times} times");
        assert!(times > 0, "{point} was never reached");
    }
}

/// How many scans the long test sends, and how many at a time.
const MANY: usize = 10_000;
const BATCH: usize = 100;

#[test]
#[ignore = "the child's part: does something only where its parent says so"]
fn lives_long() {
    let Some(dir) = env::var_os(CHILD) else { return };
    let world = World::new(Path::new(&dir));
    let (spool, _) = Spool::open(options(&world.spool())).expect("opens");
    let inputs = inputs(MANY);
    for end in (BATCH..=MANY).step_by(BATCH) {
        world.drive(&spool, &inputs[..end]).expect("drives");
    }
}

#[test]
#[ignore = "takes minutes"]
fn ten_thousand_scans_outlive_a_kill_at_every_durable_step() {
    let dir = fast_dir();
    let mut kills = 0;
    for (round, point) in points().cycle().enumerate() {
        // Late enough to get on, at another scan each time.
        let n = if is_rare(point) { 1 } else { 50 + (7 * round) % 100 };
        let life = child("kill::lives_long", dir.path())
            .env(failpoint::VARIABLE, format!("{point}:{n}"))
            .status()
            .expect("runs");
        if life.success() {
            break;
        }
        assert_eq!(life.signal(), Some(9), "{point}:{n}");
        kills += 1;
        let world = World::new(dir.path());
        let (spool, recovery) = Spool::open(options(&world.spool())).expect("opens");
        assert!(recovery.lost.is_empty() && recovery.set_back.is_empty(), "{point}:{n}");
        assert!(recovery.damaged_database.is_none() && recovery.unreadable.is_empty());
        drop(spool);
    }
    assert!(kills > points().count(), "each step was met, {kills} kills in all");
    World::new(dir.path()).check_receivers(&inputs(MANY));
}

/// Steps that come once for many scans.
fn is_rare(point: &str) -> bool {
    ["expire.commit", "expire.marked", "recovery.commit", "recovery.committed"].contains(&point)
}
