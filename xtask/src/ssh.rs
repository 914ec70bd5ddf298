//! A board reached over SSH: scripts run on it, files sent to it.
//!
//! OpenSSH's client does the work, so that the user's agent, keys and `~/.ssh/config` count.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use crate::board::Board;
use crate::debian::{self, Program};
use crate::paths::Paths;

const CLIENT: Program = Program { name: "ssh", package: "openssh-client" };
/// Receives a file: in full and on disk, or not under that name; answers its SHA-256.
const RECEIVE: &str = r#"set -e; umask 077; mkdir -p "$(dirname "$1")"; cat > "$1.part"
sync "$1.part"; mv "$1.part" "$1"; sha256sum < "$1""#;
/// Exit status of OpenSSH's client when the connection fails.
const NO_CONNECTION: i32 = 255;

/// Somewhere to log in without a password.
#[derive(Clone, Debug)]
pub struct Host {
    user_and_host: String,
    port: Option<u16>,
    identity: Option<PathBuf>,
    known_hosts: PathBuf,
    client: PathBuf,
}

impl Host {
    /// The board at `to`, `USER@HOST[:PORT]`, else where its file says it usually is.
    ///
    /// `identity` is the file of a private key; without one, the client's own choice counts. A
    /// board's host key is trusted at first sight and remembered in the cache folder; a board on
    /// this machine, which is emulated, is not asked for one.
    ///
    /// # Errors
    /// When the address has no such form, or the SSH client is missing.
    pub fn of(
        paths: &Paths,
        board: &Board,
        to: Option<&str>,
        identity: Option<&Path>,
    ) -> Result<Host> {
        Host::at(paths, to.unwrap_or(&board.reach.ssh), identity)
    }

    /// The machine at `to`, else as [`Host::of`].
    ///
    /// # Errors
    /// When the address has no such form, or the SSH client is missing.
    pub fn at(paths: &Paths, to: &str, identity: Option<&Path>) -> Result<Host> {
        debian::ensure(&[CLIENT], "reaching a board")?;
        let (user_and_host, port) = parse(to)?;
        if let Some(identity) = identity.filter(|file| !file.is_file()) {
            bail!("there is no key file {}", identity.display());
        }
        let known_hosts = paths.cache.join("known_hosts");
        let (identity, client) = (identity.map(PathBuf::from), CLIENT.name.into());
        Ok(Host { user_and_host, port, identity, known_hosts, client })
    }

    /// Runs a shell script there, its parameters being `$1` and so on; returns what it printed.
    ///
    /// # Errors
    /// When the board cannot be reached or the script fails, with what it said last.
    pub fn ask(&self, script: &str, parameters: &[&str]) -> Result<String> {
        let mut command = self.command(script, parameters);
        let output = command.stdin(Stdio::null()).output().context("cannot start ssh")?;
        self.answer(output)
    }

    /// Runs a shell script there, what it says going to the user's standard error.
    ///
    /// # Errors
    /// When the board cannot be reached or the script fails.
    pub fn run(&self, script: &str, parameters: &[&str]) -> Result<()> {
        let mut command = self.command(script, parameters);
        command.stdin(Stdio::null()).stdout(std::io::stderr());
        let status = command.status().context("cannot start ssh")?;
        match status.code() {
            Some(0) => Ok(()),
            Some(NO_CONNECTION) => bail!("the connection to {self} failed"),
            _ => bail!("the command on {self} failed ({status})"),
        }
    }

    /// Sends a file with a progress bar; it appears under its name only when it arrived whole.
    ///
    /// # Errors
    /// When it cannot be read, the board cannot be reached, has no space, or got other bytes.
    pub fn send(&self, file: &Path, to: &str) -> Result<()> {
        let describe = || format!("cannot read {}", file.display());
        let mut source = File::open(file).with_context(describe)?;
        let length = source.metadata().with_context(describe)?.len();
        let mut command = self.command(RECEIVE, &[to]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start ssh")?;
        let pipe = child.stdin.take().context("ssh is not connected")?;
        let copied = copy(&mut source, pipe, &progress_bar(length)?);
        // A failing board explains itself better than the broken pipe it leaves.
        let answer = self.answer(child.wait_with_output().context("cannot wait for ssh")?)?;
        let digest = copied.with_context(|| format!("cannot send {}", file.display()))?;
        if answer.split_whitespace().next() != Some(&digest) {
            bail!("{self} received other bytes than {} has: try again", file.display());
        }
        Ok(())
    }

    /// The command that runs a shell script there, its parameters being `$1` and so on, connected
    /// to input and output of this process unless told otherwise.
    pub fn command(&self, script: &str, parameters: &[&str]) -> Command {
        let mut command = Command::new(&self.client);
        for option in [
            "BatchMode=yes",
            "ConnectTimeout=20",
            "ServerAliveInterval=10",
            "ServerAliveCountMax=6",
            "StrictHostKeyChecking=accept-new",
            "NoHostAuthenticationForLocalhost=yes",
            "LogLevel=ERROR",
        ] {
            command.args(["-o", option]);
        }
        command.arg("-o").arg(format!("UserKnownHostsFile=\"{}\"", self.known_hosts.display()));
        if let Some(identity) = &self.identity {
            command.args(["-o", "IdentitiesOnly=yes", "-i"]).arg(identity);
        }
        if let Some(port) = self.port {
            command.arg("-p").arg(port.to_string());
        }
        command.arg(&self.user_and_host).arg(remote_line(script, parameters));
        command
    }

    fn answer(&self, output: Output) -> Result<String> {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        match output.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Some(NO_CONNECTION) => bail!("no board answers at {self}: {said}"),
            _ => bail!("the command on {self} failed ({}): {said}", output.status),
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => write!(formatter, "{}, port {port}", self.user_and_host),
            None => formatter.write_str(&self.user_and_host),
        }
    }
}

/// Splits `USER@HOST[:PORT]`; an IPv6 address stands in brackets.
fn parse(to: &str) -> Result<(String, Option<u16>)> {
    let describe = || format!("`{to}` is no USER@HOST or USER@HOST:PORT");
    let (user, rest) = to.split_once('@').with_context(describe)?;
    let (host, port) = match rest.strip_prefix('[') {
        Some(inner) => {
            let (host, behind) = inner.split_once(']').with_context(describe)?;
            (host, behind.strip_prefix(':'))
        }
        None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let is_name = |part: &str, others: &str| {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || others.contains(letter);
        !part.is_empty() && !part.starts_with('-') && part.chars().all(fits)
    };
    if !is_name(user, "_.-") || !is_name(host, "_.-:%") {
        return Err(anyhow::anyhow!(describe()));
    }
    let port = port.map(|port| port.parse().with_context(describe)).transpose()?;
    Ok((format!("{user}@{host}"), port))
}

/// What the remote shell gets: the script and its parameters, each as one word.
fn remote_line(script: &str, parameters: &[&str]) -> String {
    let mut line = format!("sh -c {} sh", quoted(script));
    for parameter in parameters {
        line.push(' ');
        line.push_str(&quoted(parameter));
    }
    line
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Copies everything; returns the SHA-256 of it.
fn copy(from: &mut impl Read, mut to: impl Write, bar: &ProgressBar) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            to.flush()?;
            bar.finish_and_clear();
            return Ok(hex::encode(hasher.finalize()));
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        hasher.update(bytes);
        to.write_all(bytes)?;
        bar.inc(count as u64);
    }
}

fn progress_bar(length: u64) -> Result<ProgressBar> {
    let template = "sending {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    Ok(ProgressBar::new(length).with_style(ProgressStyle::with_template(template)?))
}

/// A program that stands for the client in tests.
#[cfg(test)]
pub mod fake {
    use super::*;

    /// What the client does with its last argument, the script: runs it on this machine.
    pub const RUN: &str = r#"for line; do :; done; exec sh -c "$line""#;

    /// A board at the other end of a client that does what a shell script says.
    pub fn host(folder: &Path, does: &str) -> Host {
        let known_hosts = folder.join("known_hosts");
        let client = program(folder, "ssh", does);
        Host { user_and_host: "root@board".into(), port: None, identity: None, known_hosts, client }
    }

    /// A program that is a shell script.
    ///
    /// Another process writes it: a file that this one has open, and a child that a test beside
    /// this one starts inherits, is "busy" and does not run.
    pub fn program(folder: &Path, name: &str, does: &str) -> PathBuf {
        let path = folder.join(name);
        let mut write = Command::new("sh");
        write.args(["-c", "cat > \"$1\" && chmod +x \"$1\"", "sh"]).arg(&path);
        let mut writing = write.stdin(Stdio::piped()).spawn().unwrap();
        write!(writing.stdin.take().unwrap(), "#!/bin/sh\n{does}\n").unwrap();
        assert!(writing.wait().unwrap().success());
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_over_there_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let host = fake::host(folder.path(), fake::RUN);
        assert_eq!(host.ask("echo \"$1\"", &["a  b"]).unwrap(), "a  b\n");
        let error = host.ask("echo why >&2; exit 3", &[]).unwrap_err().to_string();
        assert!(error.contains("on root@board failed") && error.ends_with("why"), "{error}");
        let nobody = fake::host(folder.path(), "echo 'connection refused' >&2; exit 255");
        let error = nobody.ask("true", &[]).unwrap_err().to_string();
        assert_eq!(error, "no board answers at root@board: connection refused");
        assert!(nobody.run("true", &[]).is_err());
    }

    #[test]
    fn a_file_is_sent_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("here"), "spine").unwrap();
        let to = path("there's/file");
        let to = to.to_str().unwrap();
        fake::host(folder.path(), fake::RUN).send(&path("here"), to).unwrap();
        assert_eq!(std::fs::read(to).unwrap(), b"spine");
        let garbles = r#"for line; do :; done; tr s S | sh -c "$line""#;
        let error = fake::host(folder.path(), garbles).send(&path("here"), to).unwrap_err();
        assert!(error.to_string().contains("received other bytes"), "{error}");
    }

    #[test]
    fn an_address_may_name_a_port() {
        let check = |to: &str, user_and_host: &str, port| {
            assert_eq!(parse(to).unwrap(), (user_and_host.to_owned(), port), "{to}");
        };
        check("root@board.local", "root@board.local", None);
        check("root@127.0.0.1:2222", "root@127.0.0.1", Some(2222));
        check("root@[fe80::1%eth0]:22", "root@fe80::1%eth0", Some(22));
        check("root@[::1]", "root@::1", None);
    }

    #[test]
    fn an_address_that_the_client_would_take_for_an_option_is_refused() {
        for to in ["board", "-oProxyCommand=x@h", "root@-x", "root@h:x", "root@a b", "root@", "@h"]
        {
            assert!(parse(to).is_err(), "{to}");
        }
    }

    #[test]
    fn the_remote_shell_gets_each_parameter_as_one_word() {
        let script = r#"printf '%s|' "$#" "$@""#;
        let line = remote_line(script, &["it's", "a b", "$HOME;x", ""]);
        let output = Command::new("sh").arg("-c").arg(line).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "4|it's|a b|$HOME;x||");
    }

    #[test]
    fn a_received_file_is_whole_and_its_digest_is_that_of_the_sent_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("new/file");
        let mut child = Command::new("sh")
            .args(["-c", RECEIVE, "sh"])
            .arg(&to)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pipe = child.stdin.take().unwrap();
        let digest = copy(&mut &b"spine"[..], pipe, &ProgressBar::hidden()).unwrap();
        let output = child.wait_with_output().unwrap();
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(answer.split_whitespace().next(), Some(digest.as_str()));
        assert_eq!(std::fs::read(&to).unwrap(), b"spine");
    }
}
