//! Updates of a made-up board: this machine, with made-up programs in place of the board's.

use super::*;
use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use crate::board::Board;
use crate::paths::Paths;
use crate::ssh::fake;

const RUNNING: &str = "VERSION=7\nREVISION=0123456789ab\nCOMPATIBLE=spinesight-qemu-virt\n";
/// The board comes up in slot b.
const STARTS_B: &str = "echo rauc.slot=b >\"$COMMAND_LINE_FILE\"; echo 2 >\"$BOOT_ID_FILE\"\n";
const KEEPS_B: &str = "echo 8 >\"$STATE_DIRECTORY/committed-b\"\n";
/// The board comes up in slot a again.
const STARTS_A: &str = "echo 2 >\"$BOOT_ID_FILE\"\n";

/// A board that runs version 7 from slot a; `restart` is what a restart changes.
struct Bench {
    top: TempDir,
}

impl Bench {
    fn new(restart: &str) -> Bench {
        let bench = Bench { top: tempfile::tempdir().unwrap() };
        for folder in ["bin", "state", "incoming"] {
            fs::create_dir(bench.top.path().join(folder)).unwrap();
        }
        bench.write("release", RUNNING);
        bench.write("cmdline", "rauc.slot=a");
        bench.write("boot", "1");
        bench.write("state/committed-a", "7");
        bench.write("update", "an update");
        bench.program("rauc", "cp \"$2\" \"$TOP/installed\"");
        bench.program("systemctl", &format!("[ \"$1\" = reboot ] || exit 0\n{restart}"));
        bench.program("sync", "");
        bench.program("journalctl", "echo 'update refused' >&2");
        bench
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.top.path().join(name), text).unwrap();
    }

    fn program(&self, name: &str, does: &str) {
        fake::program(&self.top.path().join("bin"), name, does);
    }

    fn installed(&self) -> Option<String> {
        fs::read_to_string(self.top.path().join("installed")).ok()
    }

    fn update(&self, version: &str, compatible: &str, dry_run: bool) -> Result<Outcome> {
        let top = self.top.path().display();
        let does = format!(
            "export TOP={top} PATH={top}/bin:$PATH STATE_DIRECTORY={top}/state \
             RELEASE_FILE={top}/release COMMAND_LINE_FILE={top}/cmdline BOOT_ID_FILE={top}/boot\n{}",
            fake::RUN
        );
        let host = fake::host(self.top.path(), &does);
        let board = Board::find(&Paths::from_env().unwrap(), "qemu-virt").unwrap();
        let incoming = self.top.path().join("incoming");
        let target = Target {
            board: &board,
            host: &host,
            dry_run,
            patience: Duration::from_millis(200),
            incoming: incoming.to_str().unwrap(),
            pause: Duration::from_millis(1),
        };
        let (version, compatible) = (version.to_owned(), compatible.to_owned());
        let info = Info { compatible, version };
        let outcome = update(&target, &self.top.path().join("update"), &info);
        assert_eq!(fs::read_dir(&incoming).unwrap().count(), 0, "nothing is left behind");
        outcome
    }
}

const OURS: &str = "spinesight-qemu-virt";

#[test]
fn a_release_that_the_board_keeps_is_a_success() {
    let bench = Bench::new(&[STARTS_B, KEEPS_B].concat());
    let outcome = bench.update("8", OURS, false).unwrap();
    assert_eq!(outcome.result, Ending::Kept);
    assert_eq!((outcome.from.as_deref(), outcome.to.as_deref()), (Some("7"), Some("8")));
    assert_eq!(bench.installed().as_deref(), Some("an update"));
}

#[test]
fn a_board_that_goes_back_says_why() {
    let gives_up = "echo '{\"checks\":[{\"name\":\"self-test\",\"state\":\"failed\",\"sentence\":\
                    \"wrong\"}]}' >\"$STATE_DIRECTORY/failed-b.json\"\n";
    let outcome = Bench::new(&[STARTS_A, gives_up].concat()).update("8", OURS, false).unwrap();
    assert_eq!(outcome.result, Ending::FellBack);
    assert_eq!(outcome.reasons, ["self-test: wrong"]);
}

#[test]
fn a_release_that_does_not_start_is_told() {
    let outcome = Bench::new(STARTS_A).update("8", OURS, false).unwrap();
    assert_eq!(outcome.result, Ending::FellBack);
    assert_eq!(outcome.reasons, ["the new release did not start"]);
    assert!(!outcome.result.is_success());
}

#[test]
fn a_release_that_never_becomes_well_is_undecided() {
    let outcome = Bench::new(STARTS_B).update("8", OURS, false).unwrap();
    assert_eq!(outcome.result, Ending::Undecided);
}

#[test]
fn a_board_that_does_not_restart_is_an_error() {
    let error = Bench::new("").update("8", OURS, false).unwrap_err().to_string();
    assert!(error.contains("did not restart"), "{error}");
}

#[test]
fn what_the_board_would_refuse_is_not_sent() {
    for (version, compatible) in [("6", OURS), ("8", "spinesight-rpi4"), ("new", OURS)] {
        let bench = Bench::new("");
        assert!(bench.update(version, compatible, false).is_err(), "{version} {compatible}");
        assert_eq!(bench.installed(), None);
    }
}

#[test]
fn a_board_that_is_another_than_meant_gets_nothing() {
    let bench = Bench::new("");
    bench.write("release", &RUNNING.replace("qemu-virt", "rpi4"));
    assert!(bench.update("8", OURS, false).is_err());
    assert_eq!(bench.installed(), None);
}

#[test]
fn an_update_that_the_board_refuses_ends_there() {
    let bench = Bench::new(&[STARTS_B, KEEPS_B].concat());
    bench.program("rauc", "exit 1");
    let error = bench.update("8", OURS, false).unwrap_err().to_string();
    assert!(error.contains("refused the update"), "{error}");
    assert_eq!(fs::read_to_string(bench.top.path().join("boot")).unwrap(), "1", "no restart");
}

#[test]
fn a_dry_run_changes_nothing() {
    let bench = Bench::new(&[STARTS_B, KEEPS_B].concat());
    let outcome = bench.update("8", OURS, true).unwrap();
    assert_eq!((outcome.result, outcome.slot.as_deref()), (Ending::Planned, Some("b")));
    assert_eq!(bench.installed(), None);
}
