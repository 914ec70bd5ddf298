//! What a start mends: damaged databases, strays, losses, changed configuration.

use std::fs;
use std::path::Path;

use super::world::{ARCHIVE, PACS, World, id_of, inputs, objects, options, send, work};
use crate::durable::forgetful::fast_dir;
use crate::spool::{DeliveryState, Due, Options, Recovery, Spool, Stage};

/// Writes into the middle of the database and its journal.
fn damage(spool: &Path) {
    for name in ["spool.sqlite", "spool.sqlite-wal"] {
        let path = spool.join(name);
        let Ok(mut bytes) = fs::read(&path) else { continue };
        let end = bytes.len();
        bytes[end / 3..].fill(0xA5);
        fs::write(&path, bytes).expect("writes");
    }
}

/// Covers: SPL-3
#[test]
fn a_damaged_database_is_kept_and_rebuilt_from_the_folders() {
    type Damage = fn(&Path);
    let ways: [(Damage, bool); 4] = [
        (damage, true),
        (|spool| fs::write(spool.join("spool.sqlite"), "no database").expect("writes"), true),
        (|spool| fs::write(spool.join("spool.sqlite"), "").expect("writes"), false),
        (|spool| fs::remove_file(spool.join("spool.sqlite")).expect("removes"), false),
    ];
    for (damage, is_kept) in ways {
        let dir = fast_dir();
        let world = World::new(dir.path());
        let inputs = inputs(6);
        let (spool, _) = Spool::open(options(&world.spool())).expect("opens");
        for input in &inputs[..3] {
            send(&spool, input).expect("accepted");
        }
        work(&spool).expect("works");
        spool.delivered(id_of(&inputs[0]), PACS).expect("delivered");
        send(&spool, &inputs[3]).expect("accepted");
        drop(spool);
        damage(&world.spool());
        let (spool, recovery) = Spool::open(options(&world.spool())).expect("opens");
        assert_eq!(recovery.damaged_database.is_some(), is_kept);
        assert!(recovery.damaged_database.is_none_or(|kept| kept.exists()));
        assert_eq!(recovery.adopted.len(), 4);
        let stages = inputs[..4].iter().map(|input| spool.get(id_of(input)).expect("known").stage);
        let rendered = Stage::Rendered;
        assert_eq!(stages.collect::<Vec<_>>(), [rendered, rendered, rendered, Stage::Received]);
        world.drive(&spool, &inputs).expect("finishes");
        world.check_end(&spool, &inputs);
    }
}

#[test]
fn a_database_damaged_twice_is_kept_twice() {
    let dir = fast_dir();
    let mut kept = Vec::new();
    for _ in 0..2 {
        drop(Spool::open(options(dir.path())).expect("opens"));
        fs::write(dir.path().join("spool.sqlite"), "no database").expect("writes");
        let (_, recovery) = Spool::open(options(dir.path())).expect("opens");
        kept.extend(recovery.damaged_database);
    }
    assert_eq!(kept.iter().filter(|path| path.exists()).count(), 2, "{kept:?}");
    assert_ne!(kept[0], kept[1]);
}

/// A spool with two rendered scans, closed; what was done to it; and what the next start finds.
fn after(change: impl FnOnce(&Path)) -> (tempfile::TempDir, Spool, Recovery) {
    let dir = fast_dir();
    let (spool, _) = Spool::open(options(dir.path())).expect("opens");
    for input in inputs(2) {
        send(&spool, &input).expect("accepted");
    }
    work(&spool).expect("works");
    drop(spool);
    change(dir.path());
    let (spool, recovery) = Spool::open(options(dir.path())).expect("opens");
    (dir, spool, recovery)
}

fn first_scan(spool: &Path) -> std::path::PathBuf {
    spool.join("scans").join(id_of(&inputs(1)[0]).to_string())
}

#[test]
fn a_clean_start_finds_nothing_to_do() {
    let (_dir, _spool, recovery) = after(|_| {});
    assert_eq!(recovery, Recovery::default());
}

#[test]
fn rubbish_is_swept() {
    let (dir, _spool, recovery) = after(|spool| {
        fs::create_dir_all(spool.join("incoming/7")).expect("makes");
        fs::write(spool.join("incoming/7/source"), "half").expect("writes");
        fs::create_dir_all(spool.join("trash/1/results")).expect("makes");
        fs::create_dir_all(spool.join("scans/0123456789abcdef")).expect("makes");
        fs::write(spool.join("scans/0123456789abcdef/source.dcm"), "half").expect("writes");
        fs::write(first_scan(spool).join(".overlay.png.part"), "half").expect("writes");
        fs::write(first_scan(spool).join("results/.sr.dcm.part"), "half").expect("writes");
        fs::create_dir(spool.join("scans/not ours")).expect("makes");
    });
    assert_eq!(recovery, Recovery { swept: 5, ..Recovery::default() });
    assert!(dir.path().join("scans/not ours").exists());
    assert!(!dir.path().join("scans/0123456789abcdef").exists());
}

#[test]
fn a_lost_scan_is_told_until_a_human_knows() {
    let (dir, spool, recovery) = after(|spool| {
        fs::remove_dir_all(first_scan(spool)).expect("removes");
    });
    let id = id_of(&inputs(1)[0]);
    assert_eq!(recovery.lost, [id]);
    assert_eq!(spool.get(id).expect("known").stage, Stage::Lost);
    assert_eq!(spool.counts().expect("counts").stages.get("lost"), Some(&1));
    assert!(!matches!(spool.due(PACS).expect("reads"), Due::Now(d) if d.id == id));
    drop(spool);
    let (spool, recovery) = Spool::open(options(dir.path())).expect("opens");
    assert!(recovery.lost.is_empty(), "is told once as news");
    assert!(spool.acknowledge(id, "page").expect("known"));
    assert_eq!(spool.get(id).expect("known").stage, Stage::Expired);
    assert!(send(&spool, &inputs(1)[0]).expect("accepted").is_new);
}

#[test]
fn missing_judgements_and_results_are_made_again() {
    let id = id_of(&inputs(1)[0]);
    for (missing, stage) in [
        ("judgement.json", Stage::Received),
        ("results.json", Stage::Judged),
        ("results/sr.dcm", Stage::Judged),
    ] {
        let (dir, spool, recovery) = after(|spool| {
            fs::remove_file(first_scan(spool).join(missing)).expect("removes");
        });
        assert_eq!(recovery, Recovery { set_back: vec![id], ..Recovery::default() });
        assert_eq!(spool.get(id).expect("known").stage, stage, "{missing}");
        work(&spool).expect("works");
        let Due::Now(delivery) = spool.due(ARCHIVE).expect("reads") else { panic!("is due") };
        assert_eq!((delivery.id, delivery.objects.len()), (id, objects(id).len()));
        drop(dir);
    }
}

#[test]
fn folders_that_cannot_be_understood_are_kept_aside() {
    let (dir, spool, recovery) = after(|spool| {
        fs::remove_file(spool.join("spool.sqlite")).expect("removes");
        fs::write(first_scan(spool).join("arrival.json"), "{").expect("writes");
    });
    let id = id_of(&inputs(1)[0]);
    assert_eq!(recovery.unreadable, [id]);
    assert_eq!(spool.list(10, 0).expect("lists").len(), 1);
    assert!(dir.path().join(format!("damaged/{id}-1/source.dcm")).exists());
}

#[test]
fn deliveries_follow_the_configuration() {
    let dir = fast_dir();
    let (spool, _) = Spool::open(options(dir.path())).expect("opens");
    let id = send(&spool, &inputs(1)[0]).expect("accepted").id;
    work(&spool).expect("works");
    spool.delivered(id, PACS).expect("delivered");
    drop(spool);
    let mut changed = options(dir.path());
    changed.destinations.retain(|rule| rule.name == PACS);
    changed.destinations[0].wants_commitment = false;
    let (spool, recovery) = Spool::open(Options { ..changed }).expect("opens");
    assert_eq!(recovery.unknown_destinations, [ARCHIVE]);
    assert!(spool.expire().expect("looks").is_empty(), "the archive has not got it");
    spool.abandon(id, ARCHIVE).expect("abandons");
    assert_eq!(spool.get(id).expect("known").deliveries[1].state, DeliveryState::Delivered);
    assert_eq!(spool.expire().expect("expires"), [id], "commitment is no longer wanted");
}
