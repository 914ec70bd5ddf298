//! Destinations that are down, refuse or hang.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::Duration;

use device::config::Config;
use device::dicom::scp::Refusal;
use device::event::ScanId;
use device::spool::{Options, Retry, Rule, Spool};
use tests::archive::{ARCHIVE, Archive};
use tests::board::{Board, Plan, eventually};
use tests::{scans, uid};

use crate::{DEGRADED, IMPATIENT, OK, all_delivered, health, trail_counts};

/// How much faster time passes in the test of the long outage.
const COMPRESSION: u32 = 240;

/// Covers: DLV-1, DLV-2
///
/// An hour with the default pauses, all of it 240 times faster: fifteen seconds. A destination
/// that is down is shown as unreachable, but the board itself is well.
#[test]
#[ignore = "cargo xtask test --with faults"]
fn a_destination_that_is_down_for_an_hour_gets_everything_afterwards() {
    let defaults = Config::parse("").expect("defaults").retry;
    let [first, most] =
        [defaults.first, defaults.most].map(|pause| (pause / COMPRESSION).as_millis());
    let retry = format!(
        "[retry]\nfirst = \"{first}ms\"\nmost = \"{most}ms\"\nattempts = {}\n",
        defaults.attempts
    );
    let down = Archive::start();
    let (address, section) = (down.address, down.section("pacs", "timeout = \"1s\""));
    drop(down);
    let (board, folder) = Board::new(&Plan::with(format!("{retry}{section}")));
    board.send(&scans(5)).expect("takes scans");
    thread::sleep(Duration::from_secs(3600) / COMPRESSION);
    assert_eq!(health(&board), OK);
    let back = Archive::start_at(address);
    all_delivered(&back, 5);
    assert_eq!(trail_counts(folder.path()).all("given-up"), 0);
}

/// Covers: DLV-1, DLV-3, SPL-4
///
/// Every failure status that an archive may give. Those that may pass are tried until they do;
/// the others make a dead letter, which stays until a human sends it again.
#[test]
#[ignore = "cargo xtask test --with faults"]
fn each_failure_status_is_waited_out_or_told_and_loses_nothing() {
    let (archive, folder) = (Archive::start(), tempfile::tempdir().expect("a folder"));
    let plan = Plan {
        storage: "keep_free_mb = 1\nretention = \"1s\"".into(),
        ..Plan::with(format!("{IMPATIENT}{}", archive.section("pacs", "")))
    };
    let mut board = plan.start(folder.path());
    let mut sent = 0;
    for refusal in [Refusal::OutOfResources, Refusal::TooLarge, Refusal::Failed] {
        archive.refuse(Some(refusal));
        board.send(&scans(sent + 1)[sent..]).expect("takes the scan");
        sent += 1;
        thread::sleep(Duration::from_secs(3));
        assert_eq!(health(&board), OK, "{refusal:?} may pass");
        archive.refuse(None);
        all_delivered(&archive, sent);
    }
    for refusal in [Refusal::Mismatch, Refusal::Unreadable] {
        archive.refuse(Some(refusal));
        board.send(&scans(sent + 1)[sent..]).expect("takes the scan");
        let name = uid(sent);
        sent += 1;
        eventually("it is given up", || {
            (trail_counts(folder.path()).of(&name, "given-up") == 1).then_some(())
        });
        assert_eq!(health(&board), DEGRADED, "{refusal:?} cannot pass");
        archive.refuse(None);
        // Long enough for an expiry, were it due.
        thread::sleep(Duration::from_secs(7));
        assert!(board.stop().success());
        send_again(folder.path(), ScanId::of(name.as_bytes()));
        board = plan.start(folder.path());
        all_delivered(&archive, sent);
    }
    // A duplicate is what arrived before though its answer was lost.
    archive.refuse(Some(Refusal::Duplicate));
    board.send(&scans(sent + 1)[sent..]).expect("takes the scan");
    let name = uid(sent);
    eventually("it counts as delivered", || {
        (trail_counts(folder.path()).of(&name, "delivered") == 1).then_some(())
    });
}

/// What a human does on the page.
fn send_again(folder: &Path, scan: ScanId) {
    let second = Duration::from_secs(1);
    let rule = Rule { name: "pacs".into(), kinds: Vec::new(), wants_commitment: false };
    let options = Options {
        dir: folder.join("data/spool"),
        keep_free: 1,
        max_scan: 1 << 20,
        retention: second,
        destinations: vec![rule],
        retry: Retry { first: second, most: second, attempts: 1 },
    };
    let (spool, _) = Spool::open(options).expect("opens");
    spool.redeliver(scan, "pacs").expect("is a dead letter");
}

/// Covers: DLV-2, DLV-1
///
/// One destination accepts connections and says nothing, another takes objects and never answers;
/// a third gets everything meanwhile. The board is well all the time.
#[test]
#[ignore = "cargo xtask test --with faults"]
fn a_destination_that_hangs_holds_up_nobody_and_gets_everything_later() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("listens");
    let address = silent.local_addr().expect("an address");
    let (hanging, well) = (Archive::start(), Archive::start());
    hanging.hang(true);
    let silent_section = format!(
        "[[destination]]\nname = \"silent\"\naddress = \"{address}\"\nae_title = \"{ARCHIVE}\"\n\
         timeout = \"1s\"\n"
    );
    let (board, folder) = Board::new(&Plan::with(format!(
        "{IMPATIENT}{silent_section}{}{}",
        hanging.section("hanging", "timeout = \"1s\""),
        well.section("well", "")
    )));
    board.send(&scans(4)).expect("takes scans");
    all_delivered(&well, 4);
    assert_eq!(health(&board), OK);
    let delivered = || trail_counts(folder.path()).all("delivered");
    eventually("only one destination answers", || (delivered() == 4).then_some(()));
    hanging.hang(false);
    all_delivered(&hanging, 4);
    drop(silent);
    let answering = Archive::start_at(address);
    all_delivered(&answering, 4);
    eventually("all three are told", || (delivered() == 12).then_some(()));
    let names = |archive: &Archive| -> BTreeSet<String> {
        archive.objects().into_iter().map(|object| object.sop_instance).collect()
    };
    assert_eq!(names(&hanging), names(&well));
    assert_eq!(names(&answering), names(&well));
}
