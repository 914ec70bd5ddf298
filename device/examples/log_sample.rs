//! Logs one event of every kind into a folder, and prints what a reader of the log must see.
//!
//! `log_sample FOLDER`: the program behind the check that logs can be read back.

use std::path::PathBuf;
use std::thread;

use device::event::{Event, ScanId};
use device::log::{self, LogOptions};
use device::record::Verdict;
use models::label::Class;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| anyhow::anyhow!("usage: log_sample FOLDER"))?;
    let _log = log::start(LogOptions { folder, file_bytes: 1 << 20, files: 4, serial: None })?;
    for (event, line) in samples() {
        log::event(&event);
        println!("{line}");
    }
    println!("{}", panic_in_thread("sample")?);
    Ok(())
}

/// A panic whose message must not be in the log, but its place.
fn panic_in_thread(name: &str) -> anyhow::Result<String> {
    let line = line!() + 1;
    let panics = || panic!("may quote a patient's name");
    let thread = thread::Builder::new().name(name.into()).spawn(panics)?;
    anyhow::ensure!(thread.join().is_err(), "the thread did not panic");
    Ok(format!("panic in thread {name} at {}:{line}", file!()))
}

fn samples() -> Vec<(Event, String)> {
    let scan = ScanId::of(b"1.2.3");
    let destination = || "archive".to_owned();
    let digest = || "0123456789abcdef0123".to_owned();
    let about = |line: &str| format!("scan {scan}: {line}");
    vec![
        (Event::Received { scan, from: "CT\nSCANNER".into() }, about("received from CT?SCANNER")),
        (
            Event::Refused { from: "STRANGER".into(), reason: "not on the list" },
            "refused from STRANGER: not on the list".into(),
        ),
        (
            Event::Judged {
                scan,
                verdict: Verdict::Refer,
                class: Class::Normal,
                probability: 0.5,
                bundle: digest(),
                latency_ms: 321,
            },
            about("judged refer in 321 ms by bundle 0123456789abcdef"),
        ),
        (Event::Unjudged { scan }, about("cannot be judged")),
        (Event::Unreported { scan }, about("no result objects can be made")),
        (Event::Delivered { scan, destination: destination() }, about("delivered to archive")),
        (
            Event::Retried { scan, destination: destination(), attempts: 7 },
            about("delivery to archive failed, attempt 7"),
        ),
        (
            Event::GivenUp { scan, destination: destination() },
            about("delivery to archive given up"),
        ),
        (Event::Committed { scan, destination: destination() }, about("kept by archive")),
        (Event::Acknowledged { scan, by: "panel".into() }, about("acknowledged at the panel")),
        (Event::Expired { scan }, about("expired")),
        (Event::DiskFull(true), "disk full: scans are refused".into()),
        (Event::DiskFull(false), "disk has space again".into()),
        (
            Event::BundleChanged { digest: digest() },
            "bundle 0123456789abcdef judges from now on".into(),
        ),
    ]
}
