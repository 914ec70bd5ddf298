//! What the spool does while all is well, or refuses to.

use std::fs;
use std::io::{ErrorKind, Write};
use std::thread;
use std::time::Duration;

use super::world::{
    ARCHIVE, PACS, World, arrival, entries, id_of, inputs, judged, objects, options, send, work,
};
use crate::durable::forgetful::fast_dir;
use crate::record::Record;
use crate::spool::{DeliveryState, Due, Options, Outcome, Outlook, Spool, SpoolError, Stage};

fn open(options: Options) -> Spool {
    Spool::open(options).expect("opens").0
}

#[test]
fn scans_come_to_their_end_once() {
    let dir = fast_dir();
    let world = World::new(dir.path());
    let spool = open(options(&world.spool()));
    let inputs = inputs(5);
    world.drive(&spool, &inputs).expect("drives");
    world.check_promises(&spool, &inputs);
    world.check_end(&spool, &inputs);
}

#[test]
fn the_same_scan_is_accepted_again_without_effect() {
    let dir = fast_dir();
    let spool = open(options(dir.path()));
    for input in inputs(3) {
        assert!(send(&spool, &input).expect("accepted").is_new);
        let again = send(&spool, &input).expect("accepted");
        assert_eq!((again.id, again.is_new), (id_of(&input), false));
    }
    assert_eq!(spool.list(10, 0).expect("lists").len(), 3);
    assert_eq!(entries(&dir.path().join("incoming")), 0);
}

/// Covers: RCV-2
#[test]
fn other_bytes_under_a_known_uid_are_refused_and_the_first_stay() {
    let dir = fast_dir();
    let spool = open(options(dir.path()));
    let first = inputs(1).remove(0);
    let id = send(&spool, &first).expect("accepted").id;
    let mut other = first.clone();
    other.bytes.push(0);
    assert!(matches!(send(&spool, &other), Err(SpoolError::Conflict)));
    assert_eq!(fs::read(spool.source(id).expect("has one")).expect("reads"), first.bytes);
}

#[test]
fn an_expired_scan_is_accepted_anew() {
    let dir = fast_dir();
    let world = World::new(dir.path());
    let spool = open(options(&world.spool()));
    let inputs = inputs(1);
    world.drive(&spool, &inputs).expect("drives");
    assert!(send(&spool, &inputs[0]).expect("accepted").is_new);
    assert_eq!(spool.get(id_of(&inputs[0])).expect("known").stage, Stage::Received);
    assert_eq!(spool.list(10, 0).expect("lists").len(), 1);
}

#[test]
fn a_dropped_or_refused_scan_leaves_nothing() {
    let dir = fast_dir();
    let spool = open(Options { max_scan: 10, ..options(dir.path()) });
    let mut incoming = spool.begin().expect("begins");
    incoming.write_all(b"0123456789").expect("fits");
    let error = incoming.write_all(b"x").expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    drop(incoming);
    let empty = spool.begin().expect("begins");
    let input = inputs(1).remove(0);
    assert!(matches!(empty.commit(arrival(&input)), Err(SpoolError::Invalid(_))));
    let mut long = spool.begin().expect("begins");
    long.write_all(b"x").expect("fits");
    let mut too_long = arrival(&input);
    too_long.from = "X".repeat(65);
    assert!(matches!(long.commit(too_long), Err(SpoolError::Invalid(_))));
    assert_eq!(entries(&dir.path().join("incoming")), 0);
    assert_eq!(entries(&dir.path().join("scans")), 0);
}

/// Covers: RCV-7
#[test]
fn scans_are_refused_under_the_watermark() {
    let dir = fast_dir();
    let spool = open(Options { keep_free: u64::MAX, ..options(dir.path()) });
    assert!(matches!(spool.begin(), Err(SpoolError::DiskFull)));
    assert!(spool.is_full().expect("known"));
}

#[test]
fn one_process_has_a_spool() {
    let dir = fast_dir();
    let spool = open(options(dir.path()));
    assert!(matches!(Spool::open(options(dir.path())), Err(SpoolError::InUse)));
    drop(spool);
    open(options(dir.path()));
}

#[test]
fn names_from_elsewhere_stay_in_the_folder() {
    let dir = fast_dir();
    let spool = open(options(dir.path()));
    let id = send(&spool, &inputs(1)[0]).expect("accepted").id;
    for name in ["../x", "", "arrival.json", ".x", "a/b", "source.dcm", "RESULTS"] {
        let mut bad = judged(id);
        bad.files[0].0 = name.into();
        assert!(matches!(spool.judged(id, bad), Err(SpoolError::Invalid(_))), "{name}");
        assert!(matches!(spool.file(id, name), Err(SpoolError::Unknown)), "{name}");
    }
    spool.judged(id, judged(id)).expect("judged");
    let mut twice = objects(id);
    twice[1].kind = twice[0].kind.clone();
    assert!(matches!(spool.rendered(id, twice), Err(SpoolError::Invalid(_))));
}

#[test]
fn a_judgement_is_kept_without_the_files_name() {
    let dir = fast_dir();
    let spool = open(options(dir.path()));
    let id = send(&spool, &inputs(1)[0]).expect("accepted").id;
    assert_eq!(spool.judgement(id), None);
    spool.judged(id, judged(id)).expect("judged");
    let file = match spool.judgement(id).expect("kept") {
        Record::Scan(scan) => scan.file,
        Record::Failed(failed) => failed.file,
    };
    assert_eq!(file, id.to_string());
    assert_eq!(spool.file(id, "overlay.png").expect("kept"), id.to_string().into_bytes());
    assert!(matches!(spool.judged(id, judged(id)), Err(SpoolError::WrongStage)));
}

#[test]
fn tries_tell_of_steps_that_never_end() {
    let dir = fast_dir();
    let spool = open(options(dir.path()));
    let id = send(&spool, &inputs(1)[0]).expect("accepted").id;
    for tries in 0..3 {
        let work = spool.next_received().expect("reads").expect("one waits");
        assert_eq!((work.id, work.tries), (id, tries));
    }
    spool.judged(id, judged(id)).expect("judged");
    assert_eq!(spool.next_received().expect("reads"), None);
    assert_eq!(spool.next_judged().expect("reads").expect("one waits").tries, 0);
}

#[test]
fn a_scan_without_objects_or_destinations_is_done() {
    let dir = fast_dir();
    let spool = open(options(dir.path()));
    let id = send(&spool, &inputs(1)[0]).expect("accepted").id;
    spool.judged(id, judged(id)).expect("judged");
    spool.rendered(id, Vec::new()).expect("rendered");
    assert_eq!(spool.due(PACS).expect("reads"), Due::Nothing);
    assert_eq!(spool.expire().expect("expires"), [id]);
    drop(spool);
    let spool = open(Options { destinations: Vec::new(), ..options(dir.path()) });
    let id = send(&spool, &inputs(2)[1]).expect("accepted").id;
    work(&spool).expect("works");
    assert_eq!(spool.expire().expect("expires"), [id]);
}

/// Covers: SPL-4
#[test]
fn content_stays_for_its_time() {
    let dir = fast_dir();
    let long = Duration::from_secs(1 << 40);
    let spool = open(Options { destinations: vec![], retention: long, ..options(dir.path()) });
    send(&spool, &inputs(1)[0]).expect("accepted");
    work(&spool).expect("works");
    assert!(spool.expire().expect("looks").is_empty());
}

/// A spool with one rendered scan.
fn rendered(dir: &std::path::Path) -> (Spool, crate::event::ScanId) {
    let spool = open(options(dir));
    let id = send(&spool, &inputs(1)[0]).expect("accepted").id;
    work(&spool).expect("works");
    (spool, id)
}

fn state(spool: &Spool, id: crate::event::ScanId, destination: &str) -> DeliveryState {
    let scan = spool.get(id).expect("known");
    let delivery = scan.deliveries.iter().find(|d| d.destination == destination);
    delivery.expect("has one").state
}

#[test]
fn a_failing_delivery_dies_and_a_human_decides() {
    let dir = fast_dir();
    let (spool, id) = rendered(dir.path());
    for attempt in 1..3 {
        let outlook = spool.retry(id, ARCHIVE, "no answer").expect("counts");
        assert!(matches!(outlook, Outlook::Again { attempts, .. } if attempts == attempt));
        assert!(matches!(spool.due(ARCHIVE).expect("reads"), Due::Now(_)));
    }
    assert_eq!(spool.retry(id, ARCHIVE, "no answer").expect("counts"), Outlook::Dead);
    assert_eq!(spool.due(ARCHIVE).expect("reads"), Due::Nothing);
    let scan = spool.get(id).expect("known");
    assert_eq!(scan.deliveries[0].reason.as_deref(), Some("no answer"));
    spool.abandon(id, PACS).expect("abandons");
    assert!(spool.expire().expect("looks").is_empty(), "dead letters are kept");
    spool.redeliver(id, ARCHIVE).expect("sends again");
    assert!(matches!(spool.due(ARCHIVE).expect("reads"), Due::Now(d) if d.attempts == 0));
    spool.give_up(id, ARCHIVE, "refused").expect("gives up");
    assert_eq!(spool.counts().expect("counts").destinations[0].dead, 1);
    spool.abandon(id, ARCHIVE).expect("abandons");
    assert_eq!(spool.expire().expect("expires"), [id]);
    assert!(matches!(spool.redeliver(id, ARCHIVE), Err(SpoolError::WrongStage)));
}

#[test]
fn a_failed_delivery_waits() {
    let dir = fast_dir();
    let mut options = options(dir.path());
    options.retry.first = Duration::from_secs(3600);
    options.retry.most = Duration::from_secs(3600);
    let spool = open(options.clone());
    let id = send(&spool, &inputs(1)[0]).expect("accepted").id;
    work(&spool).expect("works");
    spool.retry(id, PACS, "no answer").expect("counts");
    let Due::In(wait) = spool.due(PACS).expect("reads") else { panic!("is not due") };
    assert!(wait > Duration::from_secs(1700) && wait <= Duration::from_secs(3600));
    assert!(matches!(spool.due(ARCHIVE).expect("reads"), Due::Now(_)), "others do not wait");
    drop(spool);
    options.retry.first = Duration::ZERO;
    let spool = open(options);
    assert!(matches!(spool.due(PACS).expect("reads"), Due::Now(d) if d.attempts == 1));
}

/// Covers: SPL-4
#[test]
fn content_stays_until_every_object_is_committed() {
    let dir = fast_dir();
    let (spool, id) = rendered(dir.path());
    spool.delivered(id, ARCHIVE).expect("delivered");
    spool.delivered(id, PACS).expect("delivered");
    assert!(matches!(spool.commitment_due(ARCHIVE).expect("reads"), Due::Nothing));
    assert!(matches!(spool.commitment_due(PACS).expect("reads"), Due::Now(_)));
    spool.requested(id, PACS, "2.25.7").expect("counts");
    assert_eq!(spool.requested_as(PACS, "2.25.7").expect("reads"), Some(id));
    assert_eq!(spool.requested_as(PACS, "2.25.8").expect("reads"), None);
    let uids: Vec<String> = objects(id).into_iter().map(|o| o.sop_instance).collect();
    assert!(spool.committed(PACS, &["1.2.3".into(), uids[0].clone()]).expect("ok").is_empty());
    assert!(spool.committed(ARCHIVE, &uids[..1]).expect("ok").is_empty());
    assert!(spool.expire().expect("looks").is_empty());
    assert_eq!(spool.committed(PACS, &uids[1..]).expect("commits"), [id]);
    assert_eq!(state(&spool, id, PACS), DeliveryState::Committed);
    assert_eq!(spool.expire().expect("expires"), [id]);
}

#[test]
fn what_is_never_or_not_committed_goes_to_a_human_or_again() {
    let dir = fast_dir();
    let (spool, id) = rendered(dir.path());
    spool.delivered(id, PACS).expect("delivered");
    for _ in 0..3 {
        let outlook = spool.requested(id, PACS, "2.25.7").expect("counts");
        assert!(matches!(outlook, Outlook::Again { .. }));
    }
    assert_eq!(spool.requested(id, PACS, "2.25.8").expect("counts"), Outlook::Dead);
    // A late answer still counts.
    let uids: Vec<String> = objects(id).into_iter().map(|o| o.sop_instance).collect();
    assert_eq!(spool.committed(PACS, &uids).expect("commits"), [id]);

    let (spool, id) = rendered(&dir.path().join("second"));
    spool.delivered(id, PACS).expect("delivered");
    spool.committed(PACS, &uids[..1]).expect("one");
    spool.retry(id, PACS, "not kept").expect("counts");
    assert!(matches!(spool.due(PACS).expect("reads"), Due::Now(_)), "is sent again");
    spool.delivered(id, PACS).expect("delivered");
    assert!(spool.committed(PACS, &uids[1..]).expect("the other").is_empty(), "starts anew");
}

#[test]
fn pages_go_back_and_verdicts_are_acknowledged_once() {
    let dir = fast_dir();
    let spool = open(options(dir.path()));
    let inputs = inputs(5);
    for input in &inputs {
        send(&spool, input).expect("accepted");
    }
    let id = id_of(&inputs[4]);
    assert!(matches!(spool.acknowledge(id, "page"), Err(SpoolError::WrongStage)));
    work(&spool).expect("works");
    let first = spool.list(2, 0).expect("lists");
    let second = spool.list(10, 2).expect("lists");
    let ids: Vec<_> = first.iter().chain(&second).map(|scan| scan.id).collect();
    assert_eq!(ids, inputs.iter().rev().map(id_of).collect::<Vec<_>>());
    assert_eq!(spool.counts().expect("counts").unacknowledged, 5);
    assert!(spool.acknowledge(id, "panel").expect("first"));
    assert!(!spool.acknowledge(id, "page").expect("second"));
    let scan = spool.get(id).expect("known");
    assert_eq!(scan.acknowledged_by.as_deref(), Some("panel"));
    assert!(matches!(scan.outcome, Some(Outcome::Refer | Outcome::Failed)));
    let counts = spool.counts().expect("counts");
    assert_eq!((counts.unacknowledged, counts.stages.get("rendered")), (4, Some(&5)));
    let pending: Vec<_> = counts.destinations.iter().map(|d| (&*d.name, d.pending)).collect();
    assert_eq!(pending, [(ARCHIVE, 5), (PACS, 5)]);
}

#[test]
fn parallel_senders_of_the_same_scan_make_one() {
    let dir = fast_dir();
    let spool = open(options(dir.path()));
    let inputs = inputs(20);
    let new = |spool: Spool| inputs.iter().filter(|i| send(&spool, i).expect("ok").is_new).count();
    let total: usize = thread::scope(|scope| {
        let senders: Vec<_> = (0..8).map(|_| scope.spawn(|| new(spool.clone()))).collect();
        senders.into_iter().map(|sender| sender.join().expect("ends")).sum()
    });
    assert_eq!(total, 20);
    assert_eq!(spool.list(100, 0).expect("lists").len(), 20);
}

#[test]
fn a_waiting_worker_wakes_for_a_scan() {
    let dir = fast_dir();
    let spool = open(options(dir.path()));
    let seen = spool.changes();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| spool.wait(seen, Duration::from_secs(60)));
        send(&spool, &inputs(1)[0]).expect("accepted");
        assert_ne!(waiter.join().expect("ends"), seen);
    });
    let seen = spool.changes();
    assert_eq!(spool.wait(seen, Duration::from_millis(1)), seen);
}
