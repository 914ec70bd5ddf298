//! How child programs run: cargo with a clean environment, failures as errors that name the
//! command, a binary found from cargo's own messages.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::paths::Paths;
use crate::setup::Libtorch;

/// What every build selects. Cargo unifies features over the selected packages; with one
/// selection for the demo, the tests and daily work, no dependency is compiled twice (with
/// `--package device` the whole inference engine would be).
pub const SELECTION: [&str; 3] = ["--workspace", "--exclude", "xtask"];

/// `cargo` in the clone, building into `target`.
pub fn cargo(paths: &Paths, target: &Path) -> Command {
    let mut command = cargo_in(&paths.root);
    command.env("CARGO_TARGET_DIR", target);
    command
}

/// `cargo` in a folder.
pub fn cargo_in(folder: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder);
    // `cargo run` describes xtask to this process; build scripts that watch such variables
    // would run again each time if the children inherited them.
    for (name, _) in env::vars_os() {
        if describes_a_package(&name) {
            command.env_remove(name);
        }
    }
    command
}

fn describes_a_package(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// Runs a command to its end, its output going to the user.
///
/// # Errors
/// When it cannot be started or does not succeed; the message holds the command line.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", line(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", line(command));
    }
    Ok(())
}

/// Standard output of a command, trimmed; `None` when it cannot be started or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Standard output of a command that says nothing unless it fails.
///
/// # Errors
/// When it cannot be started or does not succeed; the message holds what it said.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {}", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", line(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Replaces this process by a command, so that signals and the exit status are the command's.
///
/// # Errors
/// Returns only when the command cannot be started.
pub fn replace(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", line(command)))
}

/// Builds one binary of the workspace and says where cargo put it.
///
/// Only binaries that need no libtorch may go without it.
pub fn build_binary(paths: &Paths, name: &str, libtorch: Option<&Libtorch>) -> Result<PathBuf> {
    build(paths, "bin", name, libtorch)
}

/// Builds one example of the workspace, which may not need libtorch, and says where cargo put it.
#[cfg(all(test, feature = "logs"))]
pub fn build_example(paths: &Paths, name: &str) -> Result<PathBuf> {
    build(paths, "example", name, None)
}

fn build(paths: &Paths, kind: &str, name: &str, libtorch: Option<&Libtorch>) -> Result<PathBuf> {
    if !paths.target.exists() {
        eprintln!("building `{name}`: the first build takes several minutes, later ones seconds");
    }
    let mut command = cargo(paths, &paths.target);
    command.arg("build").args(SELECTION).args([&format!("--{kind}"), name]);
    if let Some(libtorch) = libtorch {
        libtorch.apply(&mut command);
    }
    built(&mut command, kind, name)
}

/// Runs a `cargo build` and says where cargo put the executable `name` of a kind: `bin` or
/// `example`.
///
/// # Errors
/// When it does not build.
pub fn built(command: &mut Command, kind: &str, name: &str) -> Result<PathBuf> {
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", line(command)))?;
    let messages = child.stdout.take().context("cargo's output is not connected")?;
    let mut executable = None;
    for message in BufReader::new(messages).lines() {
        executable = executable_in(&message.context("cannot read cargo's output")?, kind, name)
            .or(executable);
    }
    if !child.wait().context("cannot wait for cargo")?.success() {
        bail!("`{name}` does not build: see cargo's messages above");
    }
    executable.with_context(|| format!("cargo built no {kind} `{name}`"))
}

/// The executable's path, where a line of cargo's JSON messages announces the target `name` of a
/// kind: `bin` or `example`.
fn executable_in(message: &str, kind: &str, name: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_of_kind = message["target"]["kind"].as_array()?.iter().any(|its| its == kind);
    let path = message["executable"].as_str()?;
    (is_of_kind && message["target"]["name"] == name).then(|| path.into())
}

/// Holds `path` against other processes until the returned file is dropped.
pub fn lock(path: &Path, activity: &str) -> Result<File> {
    let describe = || format!("cannot lock {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(describe)?;
    }
    let file = File::create(path).with_context(describe)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("waiting: another process is {activity}");
            file.lock().with_context(describe)?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(describe),
    }
    Ok(file)
}

/// The command as one would type it, near enough for a message.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    format!("`{}`", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_in_its_error() {
        let error = run(Command::new("false").arg("--why")).unwrap_err().to_string();
        assert!(error.contains("`false --why` failed"), "{error}");
        assert!(run(&mut Command::new("true")).is_ok());
    }

    #[test]
    fn a_silent_commands_failure_holds_what_it_said() {
        let error = capture(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().ends_with(": why"), "{error}");
        assert_eq!(capture(Command::new("echo").arg("spine")).unwrap(), "spine\n");
    }

    #[test]
    fn output_is_trimmed_and_absent_on_failure() {
        assert_eq!(output(Command::new("echo").arg("spine")).as_deref(), Some("spine"));
        assert_eq!(output(&mut Command::new("false")), None);
        assert_eq!(output(&mut Command::new("no-such-program-anywhere")), None);
    }

    #[test]
    fn only_the_wanted_binary_is_taken_from_cargos_messages() {
        let message = |kind: &str, name: &str| {
            format!(r#"{{"target":{{"kind":["{kind}"],"name":"{name}"}},"executable":"/t/x"}}"#)
        };
        let found = |message: String| executable_in(&message, "bin", "device");
        assert_eq!(found(message("bin", "device")), Some("/t/x".into()));
        assert_eq!(found(message("bin", "host")), None);
        assert_eq!(found(message("lib", "device")), None);
        assert_eq!(found(r#"{"reason":"build-finished"}"#.into()), None);
        assert_eq!(found("no JSON".into()), None);
    }

    #[test]
    fn cargos_view_of_xtask_is_kept_from_its_children() {
        assert!(describes_a_package("CARGO_PKG_VERSION".as_ref()));
        assert!(describes_a_package("CARGO_MANIFEST_DIR".as_ref()));
        assert!(!describes_a_package("CARGO_HOME".as_ref()));
        assert!(!describes_a_package("CARGO_BUILD_JOBS".as_ref()));
    }

    #[test]
    fn a_lock_is_free_again_after_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/setup.lock");
        let held = lock(&path, "testing").unwrap();
        let rival = File::create(&path).unwrap();
        assert!(matches!(rival.try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        assert!(rival.try_lock().is_ok());
    }
}
