//! A test program of Rust's harness, run somewhere and read.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use super::place::Place;

/// Runs all tests of a program that was brought to a place, and says how many passed.
///
/// # Errors
/// When the program does not run, a test fails, or one is not heard of.
pub fn run(place: &dyn Place, program: &Path) -> Result<String> {
    let expected = listed(place, program)?;
    let mut command = place.command(program, &[])?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run a program on {}", place.name()))?;
    let lines = BufReader::new(child.stdout.take().context("its output is not connected")?).lines();
    let mut heard = BTreeMap::new();
    for line in lines {
        let line = line.context("cannot read what the tests say")?;
        eprintln!("{line}");
        if let Some((test, end)) = end_in(&line) {
            heard.insert(test.to_owned(), end);
        }
    }
    let status = child.wait().context("cannot wait for the tests")?;
    let summary = summary(&expected, &heard)?;
    ensure!(status.success(), "every test was well, but the program ended with {status}");
    Ok(summary)
}

/// The tests that a program has.
fn listed(place: &dyn Place, program: &Path) -> Result<Vec<String>> {
    let mut command = place.command(program, &["--list", "--format", "terse"])?;
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run a program on {}", place.name()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("the tests do not run on {} ({}): {}", place.name(), output.status, said.trim());
    }
    let listing = String::from_utf8_lossy(&output.stdout);
    Ok(listing.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Passed,
    Failed,
    Ignored,
}

/// The test that a line of the harness's report is about.
fn end_in(line: &str) -> Option<(&str, End)> {
    let (test, end) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let end = match end.split([',', ' ', '(']).next()? {
        "ok" => End::Passed,
        "FAILED" => End::Failed,
        "ignored" => End::Ignored,
        _ => return None,
    };
    Some((test.strip_suffix(" - should panic").unwrap_or(test), end))
}

fn summary(expected: &[String], heard: &BTreeMap<String, End>) -> Result<String> {
    let with = |end: End| {
        let names = expected.iter().filter(move |test| heard.get(*test) == Some(&end));
        names.map(String::as_str).collect::<Vec<_>>()
    };
    let failed = with(End::Failed);
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    let silent = expected.iter().filter(|test| !heard.contains_key(*test));
    let silent: Vec<_> = silent.map(String::as_str).collect();
    ensure!(silent.is_empty(), "not heard of: {}", silent.join(", "));
    let (passed, ignored) = (with(End::Passed).len(), with(End::Ignored).len());
    ensure!(passed > 0, "no test ran");
    let ignored = if ignored > 0 { format!(", {ignored} ignored") } else { String::new() };
    Ok(format!("{passed} tests passed{ignored}"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;
    use crate::ssh::fake;

    /// This machine.
    struct Here;

    impl Place for Here {
        fn name(&self) -> &str {
            "this machine"
        }

        fn bring(&self, _: &[PathBuf]) -> Result<()> {
            Ok(())
        }

        fn command(&self, program: &Path, arguments: &[&str]) -> Result<Command> {
            let mut command = Command::new(program);
            command.args(arguments);
            Ok(command)
        }
    }

    /// A program with tests `a::b` and `c` that says something when it runs them.
    fn suite(says: &str, status: u8) -> Result<String> {
        let folder = tempfile::tempdir().unwrap();
        let list = r"printf 'a::b: test\nc: test\nd: benchmark\n'; exit";
        let script =
            format!("test \"$1\" = --list && {{ {list}; }}\nprintf '{says}'; exit {status}");
        run(&Here, &fake::program(folder.path(), "suite", &script))
    }

    #[test]
    fn every_listed_test_is_counted() {
        let all = r"\nrunning 2 tests\ntest a::b - should panic ... ok\ntest c ... ok\n\ntest result: ok. 2 passed\n";
        assert_eq!(suite(all, 0).unwrap(), "2 tests passed");
        let one = r"test a::b ... ok\ntest c ... ignored, needs a disk\n";
        assert_eq!(suite(one, 0).unwrap(), "1 tests passed, 1 ignored");
    }

    #[test]
    fn what_failed_or_was_never_heard_of_is_named() {
        let message = |says: &str, status| suite(says, status).unwrap_err().to_string();
        assert_eq!(message(r"test c ... FAILED\ntest a::b ... ok\n", 101), "failed: c");
        assert_eq!(message(r"test a::b ... ok\n", 0), "not heard of: c");
        assert_eq!(message("", 139), "not heard of: a::b, c");
        assert_eq!(message(r"test a::b ... ignored\ntest c ... ignored\n", 0), "no test ran");
        let error = message(r"test a::b ... ok\ntest c ... ok\n", 3);
        assert!(error.ends_with("ended with exit status: 3"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_run_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let program = fake::program(folder.path(), "suite", "echo 'no such libc' >&2; exit 1");
        let error = run(&Here, &program).unwrap_err().to_string();
        assert!(error.contains("do not run on this machine"), "{error}");
        assert!(error.ends_with("no such libc"), "{error}");
    }

    #[test]
    fn other_lines_are_not_taken_for_results() {
        assert_eq!(end_in("test a ... ok"), Some(("a", End::Passed)));
        assert_eq!(end_in("test a ... ok <0.1s>"), Some(("a", End::Passed)));
        assert_eq!(end_in("test result: ok. 2 passed; 0 failed"), None);
        assert_eq!(end_in("testing ... ok"), None);
        assert_eq!(end_in("test a ... "), None);
    }
}
