//! `device serve` in trouble: killed, on failing disks, with failing destinations, with a damaged
//! database and with a wrong clock.

#[path = "faults/destinations.rs"]
mod destinations;
#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/kills.rs"]
mod kills;
#[path = "faults/state.rs"]
mod state;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use device::event::ScanId;
use serde_json::Value;
use tempfile::TempDir;
use tests::archive::Archive;
use tests::board::{Board, eventually};

/// What `/healthz` answers when all is well.
const OK: u16 = 200;
/// What `/healthz` answers when a human should look.
const DEGRADED: u16 = 503;

/// Short pauses between attempts.
const IMPATIENT: &str = "[retry]\nfirst = \"50ms\"\nmost = \"200ms\"\nattempts = 1000\n";

/// A folder in memory where there is one, for a killed process leaves it as a disk would.
fn fast_folder() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a folder")
}

/// Numbers that look random and are the same each time (splitmix64).
struct Chance(u64);

impl Chance {
    /// The next number below a limit.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// The status that `/healthz` answers with.
fn health(board: &Board) -> u16 {
    let request = ureq::get(format!("{}/healthz", board.page)).config().http_status_as_error(false);
    request.build().call().expect("answers").status().as_u16()
}

/// Waits until an archive has three objects of each of so many scans.
fn all_delivered(archive: &Archive, scans: usize) {
    eventually("all results in the archive", || {
        let objects = archive.objects();
        let names: BTreeSet<_> = objects.iter().map(|object| &object.sop_instance).collect();
        (names.len() >= 3 * scans).then_some(())
    });
}

/// Compiles a library to be loaded before libc.
fn library(folder: &Path, name: &str, source: &str) -> PathBuf {
    let [code, library] = ["c", "so"].map(|end| folder.join(format!("{name}.{end}")));
    fs::write(&code, source).expect("writes");
    let flags = ["-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-o"];
    let compiled = Command::new("cc").args(flags).args([&library, &code]).status();
    assert!(compiled.expect("cc, which Rust itself needs, runs").success());
    library
}

/// How often what stands in an audit trail.
struct TrailCounts(HashMap<(String, String), usize>);

impl TrailCounts {
    /// How often an event of a scan.
    fn of(&self, sop_instance: &str, event: &str) -> usize {
        let scan = ScanId::of(sop_instance.as_bytes()).to_string();
        self.0.get(&(scan, event.to_owned())).copied().unwrap_or_default()
    }

    /// How often an event of any scan.
    fn all(&self, event: &str) -> usize {
        self.0.iter().filter(|((_, one), _)| one == event).map(|(_, count)| count).sum()
    }
}

/// Counts the entries of the audit trail of a board that keeps its things in a folder.
fn trail_counts(folder: &Path) -> TrailCounts {
    let mut counts = HashMap::new();
    for path in trail_files(folder) {
        let text = fs::read_to_string(path).expect("reads");
        // A last line without its end is just being written.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let line: Value = serde_json::from_str(line).expect("an entry");
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            *counts.entry((text("scan"), text("event"))).or_default() += 1;
        }
    }
    TrailCounts(counts)
}

/// The files of an audit trail, oldest first.
fn trail_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("data/audit")).expect("lists");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect();
    files.sort();
    files
}
