//! Tests of the files in `xtask/update` that an image holds: its shell scripts are run here, with
//! made-up programs in place of the board's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const PRE_INSTALL: &str = include_str!("../../update/pre-install");
const COMMIT: &str = include_str!("../../update/commit");
const SYSTEM: &str = include_str!("../../update/system.conf");

/// Looks at the board: not well until the given number of looks.
const HEALTH: &str = r#"#!/bin/sh
echo look >>"$TOP/looks"
[ "$(wc -l <"$TOP/looks")" -gt "$WELL_AFTER" ] && echo '{"well":true,"checks":[]}' && exit 0
echo "{\"well\":false,\"checks\":[{\"name\":\"$FAILING\",\"state\":\"failed\"}]}"
exit 1
"#;
/// Writes down how it was called.
const CALLED: &str = "#!/bin/sh\necho \"$(basename \"$0\") $*\" >>\"$TOP/calls\"\n";
/// A restart ends the script, as everything else.
const RESTARTED: &str = "#!/bin/sh\necho restart >>\"$TOP/calls\"\nkill \"$PPID\"\n";

/// A made-up board that runs slot b.
struct Bench {
    top: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let top = tempfile::tempdir().unwrap();
        let bench = Bench { top };
        for folder in ["bin", "state", "update"] {
            fs::create_dir(bench.path(folder)).unwrap();
        }
        bench.program("spinesight", HEALTH);
        bench.program("rauc", CALLED);
        bench.program("fw_setenv", CALLED);
        bench.program("systemctl", RESTARTED);
        bench.program("sync", "#!/bin/sh\n");
        bench.write("cmdline", "console=ttyAMA0 rauc.slot=b quiet\n");
        bench.write("release", "VERSION=7\nREVISION=0123456789ab\n");
        bench
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.top.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        self.write(&format!("bin/{name}"), text);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path(&format!("bin/{name}")), mode).unwrap();
    }

    /// Lines of the file that the made-up programs write.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.path("state").join(name).exists()
    }

    fn run(&self, script: &str, variables: &[(&str, &str)]) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).env_clear().env("PATH", path).env("TOP", self.top.path());
        command.env("RELEASE_FILE", self.path("release"));
        command.env("COMMAND_LINE_FILE", self.path("cmdline"));
        command.env("STATE_DIRECTORY", self.path("state"));
        command.envs([("TRIES", "4"), ("PAUSE_S", "0"), ("LATER_S", "0")]);
        command.envs(variables.iter().copied()).output().unwrap()
    }

    /// Runs `commit`; the board is well after so many looks.
    fn commit(&self, well_after: u32, failing: &str) -> Output {
        let well_after = well_after.to_string();
        self.run(COMMIT, &[("WELL_AFTER", &well_after), ("FAILING", failing)])
    }

    /// Runs `pre-install` for an update with that line in its manifest.
    fn offer(&self, line: &str, running_slot: &str) -> Result<(), String> {
        self.write("update/manifest.raucm", &format!("[update]\ncompatible=c\n{line}\n"));
        let source = self.path("update");
        let variables =
            [("RAUC_UPDATE_SOURCE", text(&source)), ("RAUC_CURRENT_BOOTNAME", running_slot)];
        let output = self.run(PRE_INSTALL, &variables);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_release_that_is_well_is_kept() {
    let bench = Bench::new();
    bench.write("state/failed-b.json", "{}");
    assert!(bench.commit(0, "receiver").status.success());
    assert_eq!(bench.calls(), ["rauc status mark-good"]);
    assert_eq!(fs::read_to_string(bench.path("state/committed-b")).unwrap(), "7\n");
    assert!(!bench.has("failed-b.json"));
}

#[test]
fn a_board_that_needs_time_gets_it() {
    let bench = Bench::new();
    bench.write("state/committed-a", "6");
    assert!(bench.commit(3, "receiver").status.success());
    assert_eq!(bench.calls(), ["rauc status mark-good"]);
}

#[test]
fn an_unproven_release_that_is_not_well_gives_way() {
    let bench = Bench::new();
    bench.write("state/committed-a", "6");
    assert!(!bench.commit(1000, "receiver").status.success());
    assert_eq!(bench.calls(), ["rauc status mark-bad", "restart"]);
    let report = fs::read_to_string(bench.path("state/failed-b.json")).unwrap();
    assert!(report.contains("\"receiver\""), "{report}");
    assert!(!bench.has("committed-b"));
    assert_eq!(fs::read_to_string(bench.path("looks")).unwrap().lines().count(), 4);
}

#[test]
fn a_release_that_computes_wrongly_gets_no_patience() {
    let bench = Bench::new();
    bench.write("state/committed-a", "6");
    bench.commit(1000, "self-test");
    assert_eq!(fs::read_to_string(bench.path("looks")).unwrap().lines().count(), 3);
    assert_eq!(bench.calls(), ["rauc status mark-bad", "restart"]);
}

#[test]
fn without_the_updater_the_boot_loader_is_told_directly() {
    let bench = Bench::new();
    bench.write("state/committed-a", "6");
    bench.program("rauc", "#!/bin/sh\nexit 1\n");
    bench.commit(0, "receiver");
    assert_eq!(bench.calls(), ["fw_setenv BOOT_b_LEFT 0", "restart"]);
}

#[test]
fn a_program_that_does_not_even_start_is_reported() {
    let bench = Bench::new();
    bench.write("state/committed-a", "6");
    bench.program("spinesight", "#!/bin/sh\nexit 132\n");
    bench.commit(0, "receiver");
    let report = fs::read_to_string(bench.path("state/failed-b.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["checks"][0]["sentence"], "the program ended with status 132");
}

/// It stays, and is kept as soon as the board is well.
#[track_caller]
fn check_stays(prepare: impl Fn(&Bench)) {
    let bench = Bench::new();
    prepare(&bench);
    assert!(bench.commit(8, "receiver").status.success());
    assert_eq!(bench.calls(), ["rauc status mark-good"]);
    assert!(bench.has("committed-b"));
}

#[test]
fn a_release_that_was_well_before_stays() {
    check_stays(|bench| {
        bench.write("state/committed-a", "6");
        bench.write("state/committed-b", "7");
    });
}

#[test]
fn a_release_without_a_proven_one_beside_it_stays() {
    check_stays(|_| {});
}

#[test]
fn after_three_returns_in_vain_a_release_stays() {
    check_stays(|bench| {
        bench.write("state/committed-a", "6");
        bench.write("state/failures-b", "3");
    });
}

#[test]
fn each_return_is_counted() {
    let bench = Bench::new();
    bench.write("state/committed-a", "6");
    bench.write("state/failures-b", "1");
    bench.commit(1000, "receiver");
    assert_eq!(fs::read_to_string(bench.path("state/failures-b")).unwrap(), "2\n");
}

#[test]
fn a_start_without_a_slot_decides_nothing() {
    let bench = Bench::new();
    bench.write("cmdline", "console=ttyAMA0\n");
    assert!(!bench.commit(0, "receiver").status.success());
    assert!(bench.calls().is_empty());
}

#[test]
fn the_same_or_a_newer_version_may_be_installed() {
    for version in ["version=7", "version=8", "version=10"] {
        let bench = Bench::new();
        bench.write("state/committed-a", "6");
        bench.write("state/failures-a", "2");
        bench.write("state/committed-b", "7");
        assert_eq!(bench.offer(version, "b"), Ok(()), "{version}");
        assert!(!bench.has("committed-a") && !bench.has("failures-a"), "its content goes");
        assert!(bench.has("committed-b"));
    }
}

#[test]
fn an_older_version_is_refused_before_anything_changes() {
    let bench = Bench::new();
    bench.write("state/committed-a", "6");
    let refusal = bench.offer("version=6", "b").unwrap_err();
    assert!(refusal.contains("version 6 is older than the running version 7"), "{refusal}");
    assert!(bench.has("committed-a"));
}

#[test]
fn a_version_that_is_no_single_number_is_refused() {
    for line in ["version=7.1", "version=", "build=9", "version=9\nversion=1", "version=-9"] {
        assert!(Bench::new().offer(line, "b").is_err(), "{line}");
    }
    assert!(Bench::new().offer("version=99999999999999999999", "b").is_err(), "too long");
    assert!(Bench::new().offer("version=9", "external").is_err());
}

#[test]
fn each_slot_is_a_boot_and_a_root_partition() {
    for (number, slot) in [(0, "a"), (1, "b")] {
        let device = "device=/dev/disk/by-partlabel";
        let root = format!("[slot.rootfs.{number}]\n{device}/root-{slot}\n");
        let boot = format!("[slot.boot.{number}]\n{device}/boot-{slot}\n");
        assert!(SYSTEM.contains(&root) && SYSTEM.contains(&boot), "{slot}");
        assert!(SYSTEM.contains(&format!("\nbootname={slot}\n")));
        assert!(SYSTEM.contains(&format!("\nparent=rootfs.{number}\n")));
    }
    assert!(SYSTEM.contains("\ncompatible=@COMPATIBLE@\n"), "filled in by the image");
}
