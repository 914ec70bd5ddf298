//! What the audit trail may not have been told.

use super::world::{PACS, id_of, inputs, judged, objects, options, send};
use crate::audit::Entry;
use crate::durable::forgetful::fast_dir;
use crate::spool::{Options, Spool};

/// Covers: AUD-1
#[test]
fn a_change_is_untold_until_it_was_told_and_that_was_written_down() {
    let dir = fast_dir();
    let input = &inputs(2)[1];
    let scan = id_of(input);
    let (spool, _) = Spool::open(options(dir.path())).expect("opens");
    send(&spool, input).expect("accepted");
    spool.judged(scan, judged(scan)).expect("judged");
    spool.rendered(scan, objects(scan)).expect("rendered");
    spool.delivered(scan, PACS).expect("delivered");
    spool.delivered(scan, PACS).expect("says it again");
    let untold = spool.untold().expect("reads");
    let delivered = Entry::Delivered { scan, destination: PACS.into() };
    assert_eq!(untold.len(), 3, "{untold:?}");
    assert!(matches!(untold[0], Entry::Received { .. }));
    assert_eq!(untold[2], delivered);
    spool.told(&untold[0]);
    spool.told(&untold[1]);
    spool.expire().expect("looks");
    drop(spool);
    let (spool, _) = Spool::open(options(dir.path())).expect("opens again");
    assert_eq!(spool.untold().expect("reads"), [delivered]);
    spool.told_all().expect("forgets");
    assert_eq!(spool.untold().expect("reads"), []);
}

/// Covers: AUD-1
#[test]
fn what_a_start_finds_is_to_be_told() {
    let dir = fast_dir();
    let inputs = inputs(2);
    let all = || Options { destinations: Vec::new(), ..options(dir.path()) };
    let (spool, _) = Spool::open(all()).expect("opens");
    for input in &inputs {
        send(&spool, input).expect("accepted");
    }
    spool.told_all().expect("forgets");
    drop(spool);
    std::fs::remove_dir_all(dir.path().join("scans").join(id_of(&inputs[0]).to_string()))
        .expect("removes");
    let (spool, _) = Spool::open(all()).expect("opens");
    let lost = Entry::Lost { scan: id_of(&inputs[0]) };
    assert_eq!(spool.untold().expect("reads"), [lost]);
    drop(spool);
    std::fs::write(dir.path().join("spool.sqlite"), "no database").expect("damages");
    let (spool, _) = Spool::open(all()).expect("opens");
    assert_eq!(spool.untold().expect("reads"), [Entry::Rebuilt]);
}
