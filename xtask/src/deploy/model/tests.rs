//! Models sent to a made-up board: this machine, with a made-up program in place of the board's.

use super::*;
use std::fs;
use std::time::Duration;

use crate::board::Board;
use crate::ssh::fake;

/// What a board with the made-up program says it judges with after a model came, and what ran.
fn deployed(program: &str, dry_run: bool) -> (Result<Outcome>, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["bin", "models", "incoming"] {
        fs::create_dir(path(name)).unwrap();
    }
    std::os::unix::fs::symlink("shipped", path("models/current")).unwrap();
    for name in ["m.tar", "m.tar.sig", "key"] {
        fs::write(path(name), name).unwrap();
    }
    let top = folder.path().display();
    fake::program(&path("bin"), "spinesight", &format!("echo \"$1 $2\" >>{top}/calls\n{program}"));
    let does = format!(
        "export TOP={top} PATH={top}/bin:$PATH MODELS={top}/models TRIES=2 PAUSE_S=0\n{}",
        fake::RUN
    );
    let host = fake::host(folder.path(), &does);
    let board = Board::find(&Paths::from_env().unwrap(), "rpi5").unwrap();
    let incoming = path("incoming");
    let target = Target {
        board: &board,
        host: &host,
        dry_run,
        patience: Duration::ZERO,
        incoming: incoming.to_str().unwrap(),
        pause: Duration::ZERO,
    };
    let outcome = install(&target, &path("m.tar"), path("key").to_str().unwrap());
    assert_eq!(fs::read_dir(incoming).unwrap().count(), 0, "nothing is left behind");
    (outcome, fs::read_to_string(path("calls")).unwrap_or_default())
}

const INSTALLS: &str = r#"if [ "$1 $2" = "model install" ]; then
cmp -s "$3" "$TOP/m.tar" && cmp -s "$5" "$TOP/m.tar.sig" && [ "$7" = "$TOP/key" ] || exit 9
ln -sfn new "$TOP/models/current"; fi
"#;

#[test]
fn a_model_that_the_board_is_well_with_judges() {
    let (outcome, _) = deployed(INSTALLS, false);
    let outcome = outcome.unwrap();
    assert_eq!(outcome.result, Ending::Kept);
    assert_eq!((outcome.from.as_deref(), outcome.to.as_deref()), (Some("shipped"), Some("new")));
}

#[test]
fn a_model_that_the_board_is_not_well_with_is_taken_back() {
    let (outcome, calls) = deployed(&format!("{INSTALLS}[ \"$1\" != health ]"), false);
    assert!(outcome.is_err());
    assert_eq!(calls.lines().last(), Some("model rollback"));
}

#[test]
fn a_refused_model_is_an_error() {
    let (outcome, calls) = deployed("exit 1", false);
    assert!(outcome.unwrap_err().to_string().contains("refused the model"));
    assert_eq!(calls, "model install\n");
}

#[test]
fn a_dry_run_runs_nothing() {
    let (outcome, calls) = deployed(INSTALLS, true);
    assert_eq!(outcome.unwrap().result, Ending::Planned);
    assert_eq!(calls, "");
}
