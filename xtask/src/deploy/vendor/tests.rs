//! Archives installed on a made-up board: this machine, with made-up programs in the archive.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::board::Board;
use crate::paths::Paths;
use crate::process;
use crate::ssh::fake;

/// Installs as the real one does, into `$OPT`.
const INSTALLER: &str = r#"
if [ "${1:-}" = --back ]; then ln -sfn "$(readlink "$OPT/previous")" "$OPT/current"; exit; fi
v=$(sed -n 's/^VERSION=//p' release); mkdir "$OPT/$v"; cp -R . "$OPT/$v/"
[ ! -L "$OPT/current" ] || ln -sfn "$(readlink "$OPT/current")" "$OPT/previous"
ln -sfn "$v" "$OPT/current"
"#;
/// Is well, and computes rightly.
const WELL: &str = "exit 0";
const UNWELL: &str = r#"[ "$1" = health ] || exit 0
echo '{"checks":[{"name":"spool","state":"failed","sentence":"full"}]}'; exit 1"#;
const WRONG: &str = r#"[ "$1" != selftest ]"#;

struct Bench {
    top: TempDir,
}

impl Bench {
    /// A board that runs version 7, after 6 and 5.
    fn new() -> Bench {
        let bench = Bench::empty();
        for version in ["5", "6", "7"] {
            fs::create_dir_all(bench.path("opt").join(version)).unwrap();
            bench.write(&format!("opt/{version}/release"), &format!("VERSION={version}\n"));
        }
        symlink("7", bench.path("opt/current")).unwrap();
        symlink("6", bench.path("opt/previous")).unwrap();
        bench
    }

    fn empty() -> Bench {
        let bench = Bench { top: tempfile::tempdir().unwrap() };
        for folder in ["bin", "opt", "incoming"] {
            fs::create_dir(bench.path(folder)).unwrap();
        }
        fake::program(&bench.path("bin"), "systemctl", "echo \"$*\" >>\"$OPT/../calls\"");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn current(&self) -> Option<PathBuf> {
        fs::read_link(self.path("opt/current")).ok()
    }

    /// An archive of that version with that program.
    fn archive(&self, version: &str, compatible: &str, program: &str) -> PathBuf {
        let folder = self.path("made/spinesight");
        fs::create_dir_all(folder.join("bin")).unwrap();
        fs::create_dir_all(folder.join("bundles/net")).unwrap();
        self.write(
            "made/spinesight/release",
            &format!("VERSION={version}\nCOMPATIBLE={compatible}\n"),
        );
        self.write("made/spinesight/bundles/net/bundle.toml", "");
        self.write("made/spinesight/install.sh", INSTALLER);
        fake::program(&folder.join("bin"), "spinesight", program);
        let seal = "sha256sum release install.sh bin/spinesight >SHA256SUMS";
        process::run(Command::new("sh").args(["-c", seal]).current_dir(&folder)).unwrap();
        let archive = self.path("made/archive.tar.gz");
        let mut tar = Command::new("tar");
        tar.arg("-czf").arg(&archive).arg("-C").arg(self.path("made")).arg("spinesight");
        process::run(&mut tar).unwrap();
        archive
    }

    fn install(&self, archive: &Path) -> Result<Outcome> {
        let top = self.top.path().display();
        let does = format!(
            "export PATH={top}/bin:$PATH OPT={top}/opt CONFIG={top}/config TRIES=2 PAUSE_S=0\n{}",
            fake::RUN
        );
        let host = fake::host(self.top.path(), &does);
        let board = Board::find(&Paths::from_env().unwrap(), "rpi5").unwrap();
        let incoming = self.path("incoming");
        let target = Target {
            board: &board,
            host: &host,
            dry_run: false,
            patience: Duration::ZERO,
            incoming: incoming.to_str().unwrap(),
            pause: Duration::ZERO,
        };
        let outcome = install(&target, archive);
        assert_eq!(fs::read_dir(&incoming).unwrap().count(), 0, "nothing is left behind");
        outcome
    }
}

const OURS: &str = "spinesight-rpi5";

#[test]
fn a_release_that_the_board_is_well_with_stays() {
    let bench = Bench::new();
    let outcome = bench.install(&bench.archive("8", OURS, WELL)).unwrap();
    assert_eq!(outcome.result, Ending::Kept);
    assert_eq!((outcome.from.as_deref(), outcome.to.as_deref()), (Some("7"), Some("8")));
    assert_eq!(bench.current().unwrap(), Path::new("8"));
    assert!(bench.path("opt/7/release").exists(), "the way back stays");
    assert!(!bench.path("opt/5").exists(), "what is older goes");
}

#[test]
fn a_release_that_the_board_is_not_well_with_goes() {
    let bench = Bench::new();
    let outcome = bench.install(&bench.archive("8", OURS, UNWELL)).unwrap();
    assert_eq!(outcome.result, Ending::FellBack);
    assert_eq!(outcome.reasons, ["spool: full"]);
    assert_eq!(bench.current().unwrap(), Path::new("7"));
}

#[test]
fn a_first_release_that_the_board_is_not_well_with_is_stopped() {
    let bench = Bench::empty();
    let outcome = bench.install(&bench.archive("8", OURS, UNWELL)).unwrap();
    assert_eq!((outcome.result, outcome.from), (Ending::FellBack, None));
    let calls = fs::read_to_string(bench.path("calls")).unwrap();
    assert_eq!(calls, "stop spinesight.service\n");
}

#[track_caller]
fn check_refused(bench: &Bench, archive: &Path, why: &str) {
    let error = format!("{:#}", bench.install(archive).unwrap_err());
    assert!(error.contains(why), "{error}");
    assert_eq!(bench.current().unwrap(), Path::new("7"));
    assert!(!bench.path("opt/8").exists());
}

#[test]
fn a_release_that_does_not_fit_changes_nothing() {
    let bench = Bench::new();
    check_refused(&bench, &bench.archive("8", OURS, WRONG), "computes wrongly");
    check_refused(&bench, &bench.archive("6", OURS, WELL), "older than the running");
    check_refused(&bench, &bench.archive("8", "spinesight-rpi4", WELL), "not for spinesight-rpi5");
    check_refused(&bench, &bench.archive("new", OURS, WELL), "no usable VERSION");
}

#[test]
fn a_damaged_archive_changes_nothing() {
    let bench = Bench::new();
    let archive = bench.archive("8", OURS, WELL);
    let bytes = fs::read(&archive).unwrap();
    fs::write(&archive, &bytes[..bytes.len() / 2]).unwrap();
    assert!(bench.install(&archive).is_err());
    let archive = bench.archive("8", OURS, WELL);
    bench.write("made/spinesight/bin/spinesight", "another");
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(&archive).arg("-C").arg(bench.path("made")).arg("spinesight");
    process::run(&mut tar).unwrap();
    check_refused(&bench, &archive, "damaged");
}
