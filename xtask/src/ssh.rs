//! A machine reached over SSH, through the system's own `ssh`: its keys, hosts and agents count.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};

use crate::board::Board;
use crate::debian::{self, Program};
use crate::process;

const CLIENT: [Program; 1] = [Program { name: "ssh", package: "openssh-client" }];
/// What `ssh` ends with when there is no connection; else it ends as the command there does.
const NO_CONNECTION: i32 = 255;
/// A board that is off must not be waited for, nor one that went away.
const OPTIONS: [&str; 6] = [
    "-oConnectTimeout=10",
    "-oServerAliveInterval=10",
    "-oServerAliveCountMax=3",
    "-oClearAllForwardings=yes",
    "-oLogLevel=ERROR",
    "-T",
];

/// Where to log in: `[USER@]HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// `[USER@]HOST`, or a name in the user's SSH configuration.
    destination: String,
    port: Option<u16>,
    client: PathBuf,
}

impl FromStr for Ssh {
    type Err = Error;

    fn from_str(text: &str) -> Result<Ssh> {
        // More than one colon: an IPv6 address without a port.
        let (destination, port) = match text.rsplit_once(':') {
            Some((destination, port)) if !destination.contains(':') => {
                let port = port.parse().with_context(|| format!("`{port}` is no port"))?;
                (destination, Some(port))
            }
            _ => (text, None),
        };
        ensure!(
            !destination.is_empty() && !destination.starts_with('-'),
            "`{text}` is not USER@HOST or USER@HOST:PORT"
        );
        Ok(Ssh { destination: destination.to_owned(), port, client: "ssh".into() })
    }
}

impl fmt::Display for Ssh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.destination)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Ssh {
    /// Where a board is: as the user says, else as its file does.
    ///
    /// # Errors
    /// When there is no SSH client, or the board's file is wrong.
    pub fn of(board: &Board, given: Option<&Ssh>) -> Result<Ssh> {
        let ssh = given.cloned().map_or_else(|| board.reach.ssh.parse(), Ok);
        ssh.with_context(|| format!("reach.ssh in the board file {}.toml", board.name))?.ready()
    }

    /// Itself, with a client on this machine.
    ///
    /// # Errors
    /// Says what to install where it is missing.
    pub fn ready(self) -> Result<Ssh> {
        debian::ensure(&CLIENT, "SSH")?;
        Ok(self)
    }

    /// Another client, for tests.
    #[cfg(test)]
    pub fn through(client: &Path) -> Ssh {
        Ssh { destination: "board".into(), port: None, client: client.into() }
    }

    /// The command that runs a shell script there.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new(&self.client);
        command.args(OPTIONS);
        if let Some(port) = self.port {
            command.arg("-p").arg(port.to_string());
        }
        command.args(["--", &self.destination, script]);
        command
    }

    /// Runs a shell script there and returns what it prints, trimmed.
    ///
    /// # Errors
    /// When nobody answers there, or the script fails; with what `ssh` or the script said.
    pub fn output(&self, script: &str) -> Result<String> {
        let mut command = self.command(script);
        let output = command.stdin(Stdio::null()).output().context("cannot start ssh")?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            Some(NO_CONNECTION) => bail!(
                "no board answers at {self}: {}. Is it on, is its name known here, and is your key \
                 on it? Another way to it is named with --ssh USER@HOST[:PORT]",
                said.trim().trim_end_matches('.')
            ),
            _ => bail!("`{script}` failed at {self} ({}): {}", output.status, said.trim()),
        }
    }

    /// Copies files and folders into a folder there, each under its own name; links are followed.
    ///
    /// # Errors
    /// When one cannot be read, or does not arrive.
    pub fn send(&self, sources: &[PathBuf], folder: &str) -> Result<()> {
        let mut pack = Command::new("tar");
        pack.args(["--create", "--dereference", "--owner=0", "--group=0"]);
        for source in sources {
            let (Some(parent), Some(name)) = (source.parent(), source.file_name()) else {
                bail!("{} has no name", source.display());
            };
            let parent = if parent == Path::new("") { Path::new(".") } else { parent };
            pack.arg("-C").arg(std::path::absolute(parent)?).arg(name);
        }
        let mut packing = pack.stdout(Stdio::piped()).spawn().context("cannot start tar")?;
        let packed = packing.stdout.take().context("tar's output is not connected")?;
        let mut unpack = self.command(&format!("tar -x -C {}", quoted(folder)));
        let received = process::run(unpack.stdin(packed));
        let status = packing.wait().context("cannot wait for tar")?;
        received.with_context(|| format!("files do not arrive at {self}"))?;
        ensure!(status.success(), "tar failed ({status})");
        Ok(())
    }
}

/// A word as a POSIX shell reads it as one.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A program that stands for `ssh` in tests: it runs the script on this machine.
#[cfg(test)]
pub mod fake {
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    use super::Ssh;

    /// What `ssh` does with its last argument, the script.
    pub const RUN: &str = r#"for script; do :; done; exec sh -c "$script""#;

    /// A client that does what a shell script says.
    pub fn ssh(folder: &Path, does: &str) -> Ssh {
        Ssh::through(&program(folder, "ssh", does))
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
    use std::fs;

    use super::*;

    #[test]
    fn a_port_may_stand_behind_the_host() {
        let parts = |text: &str| {
            let ssh: Ssh = text.parse().ok()?;
            Some((ssh.destination, ssh.port))
        };
        let is = |destination: &str, port| Some((destination.to_owned(), port));
        assert_eq!(parts("root@board.local"), is("root@board.local", None));
        assert_eq!(parts("root@127.0.0.1:2222"), is("root@127.0.0.1", Some(2222)));
        assert_eq!(parts("fe80::1"), is("fe80::1", None));
        for wrong in ["", ":22", "host:ssh", "-oProxyCommand=x", "host:99999"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
        assert_eq!("a@b:5".parse::<Ssh>().unwrap().to_string(), "a@b:5");
    }

    #[test]
    fn the_script_is_the_clients_last_word() {
        let ssh: Ssh = "root@board:2222".parse().unwrap();
        let command = ssh.command("uname -m");
        let words: Vec<_> = command.get_args().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(words[OPTIONS.len()..], ["-p", "2222", "--", "root@board", "uname -m"]);
    }

    #[test]
    fn what_is_said_over_there_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let ssh = fake::ssh(folder.path(), fake::RUN);
        assert_eq!(ssh.output("echo \"a  b\"").unwrap(), "a  b");
        let error = ssh.output("echo why >&2; exit 3").unwrap_err().to_string();
        assert!(error.contains("failed at board") && error.ends_with("why"), "{error}");
        let nobody = fake::ssh(folder.path(), "echo 'connection refused.' >&2; exit 255");
        let error = nobody.output("true").unwrap_err().to_string();
        assert!(error.starts_with("no board answers at board: connection refused. Is"), "{error}");
    }

    #[test]
    fn files_and_folders_arrive() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["here/bundle", "there's"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        fs::write(path("here/a"), "1").unwrap();
        fs::write(path("here/bundle/b"), "2").unwrap();
        let ssh = fake::ssh(folder.path(), fake::RUN);
        let there = path("there's");
        ssh.send(&[path("here/a"), path("here/bundle")], there.to_str().unwrap()).unwrap();
        assert_eq!(fs::read(there.join("a")).unwrap(), b"1");
        assert_eq!(fs::read(there.join("bundle/b")).unwrap(), b"2");
        assert!(ssh.send(&[path("missing")], there.to_str().unwrap()).is_err());
        assert!(ssh.send(&[path("here/a")], "/no/such/folder").is_err());
    }

    #[test]
    fn words_stay_words() {
        assert_eq!(quoted("/a/b-1.2=x"), "/a/b-1.2=x");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }
}
