//! Power cuts that take every write not yet synced, and disks that fill up or fail.

use std::env;
use std::fs;
use std::path::Path;

use super::kill::{SCANS, child, points};
use super::world::{World, inputs, options};
use crate::durable::forgetful::{CHILD, fast_dir, library, on_disk, restore};
use crate::failpoint;
use crate::spool::{Spool, SpoolError};

/// Cuts the power at the Nth time a point is reached, checks, and lets the next life finish.
fn check(library: &Path, point: &str, n: u32) -> bool {
    let dir = fast_dir();
    let (before, after, store) =
        (dir.path().join("before"), dir.path().join("after"), dir.path().join("store"));
    fs::create_dir_all(&store).expect("makes");
    let world = World::new(&before);
    fs::create_dir_all(world.spool()).expect("makes");
    let mut command = on_disk(child("kill::lives", &before), library, &world.spool());
    command.env("DISK_STORE", &store).env(failpoint::VARIABLE, format!("{point}:{n}"));
    let was_cut = !command.status().expect("runs").success();

    // The receivers and the promises are on other machines.
    fs::rename(&before, &after).expect("renames");
    let world = World::new(&after);
    let old = after.join("old");
    fs::rename(world.spool(), &old).expect("renames");
    restore(&store, &old, &world.spool());
    let (spool, recovery) = Spool::open(options(&world.spool())).expect("opens");
    assert_eq!(recovery.damaged_database, None, "{point}:{n}");
    assert!(recovery.lost.is_empty() && recovery.unreadable.is_empty(), "{point}:{n}");
    assert!(recovery.set_back.is_empty(), "{point}:{n}");
    world.check_promises(&spool, &inputs(SCANS));
    world.drive(&spool, &inputs(SCANS)).expect("finishes");
    world.check_end(&spool, &inputs(SCANS));
    was_cut
}

/// Covers: RCV-1, SPL-2
#[test]
fn a_power_cut_at_any_durable_step_loses_nothing() {
    let dir = fast_dir();
    let library = library(dir.path());
    for point in points() {
        let times = (1..1000).take_while(|n| check(&library, point, *n)).count();
        assert!(times > 0, "{point} was never reached");
    }
}

/// `ENOSPC`, `EROFS`, `EIO`, as numbered on Linux.
const ERRORS: [i32; 3] = [28, 30, 5];

#[test]
#[ignore = "the child's part: does something only where its parent says so"]
fn outlives_faults() {
    let (Some(dir), Some(fault)) = (env::var_os(CHILD), env::var_os("DISK_FAULT")) else { return };
    let (dir, fault) = (Path::new(&dir), Path::new(&fault));
    for (start, errno) in ERRORS.into_iter().enumerate() {
        for allowed in (3 * start..).step_by(9) {
            let world = World::new(&dir.join(format!("{errno}-{allowed}")));
            let (spool, _) = Spool::open(options(&world.spool())).expect("opens");
            fs::write(fault, format!("{allowed} {errno}")).expect("writes");
            let failed = world.drive(&spool, &inputs(SCANS));
            fs::remove_file(fault).expect("removes");
            let Err(error) = failed else { break };
            assert!(is_named(&error, errno), "{errno}, {allowed} allowed: {error:?}");
            world.check_promises(&spool, &inputs(SCANS));
            world.drive(&spool, &inputs(SCANS)).expect("works again");
            world.check_end(&spool, &inputs(SCANS));
            assert!(allowed < 1000, "there is an end");
        }
    }
}

/// Whether an error tells what the disk said. SQLite calls most of it an input-output error.
fn is_named(error: &SpoolError, errno: i32) -> bool {
    match errno {
        _ if matches!(error, SpoolError::Database(_)) => true,
        28 => matches!(error, SpoolError::DiskFull),
        30 => matches!(error, SpoolError::ReadOnly),
        _ => matches!(error, SpoolError::Io { .. }),
    }
}

/// Covers: SPL-6
#[test]
fn a_full_or_failing_disk_loses_nothing_and_the_spool_goes_on_with_it() {
    let dir = fast_dir();
    let library = library(dir.path());
    let worlds = dir.path().join("worlds");
    let mut command = on_disk(child("power::outlives_faults", &worlds), &library, &worlds);
    command.env("DISK_FAULT", dir.path().join("fault"));
    assert!(command.status().expect("runs").success());
}
