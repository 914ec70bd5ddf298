//! Where programs for another processor run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::board::Board;
use crate::cross::Cross;
use crate::process;
use crate::scratch::Scratch;
use crate::ssh::Host;

/// Runs cross-compiled programs.
pub trait Place {
    /// What messages call it.
    fn name(&self) -> &str;

    /// Takes files and folders, each under its own name.
    ///
    /// # Errors
    /// When they do not arrive.
    fn bring(&self, files: &[PathBuf]) -> Result<()>;

    /// The command that runs a program of this machine there, once it was brought.
    ///
    /// # Errors
    /// When the program's name cannot be told to it.
    fn command(&self, program: &Path, arguments: &[&str]) -> Result<Command>;
}

/// A processor that QEMU emulates; it sees this machine's files.
pub struct Emulated<'a> {
    /// The emulator.
    pub cross: &'a Cross,
    /// By the emulator's name.
    pub processor: &'static str,
}

impl Place for Emulated<'_> {
    fn name(&self) -> &str {
        self.processor
    }

    fn bring(&self, _: &[PathBuf]) -> Result<()> {
        Ok(())
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Result<Command> {
        let mut command = self.cross.emulated(program, self.processor);
        command.args(arguments);
        Ok(command)
    }
}

/// A new folder on a board; removed when dropped.
pub struct RemoteFolder<'a> {
    host: &'a Host,
    name: &'a str,
    folder: String,
    /// For what is packed before it is sent.
    scratch: Scratch,
}

/// On disk: the temporary folder of a board may be in memory, which is what is measured there.
const MAKE: &str = "mktemp -d /var/tmp/spinesight.XXXXXX";
const UNPACK: &str = r#"cd "$1" && tar -x -f pack.tar && rm pack.tar"#;
const REMOVE: &str = r#"rm -r "$1""#;

impl<'a> RemoteFolder<'a> {
    /// Makes the folder on a board that has the processor its file says; `scratch` is a folder of
    /// this machine, which is emptied.
    ///
    /// # Errors
    /// When no board answers, or another one does.
    pub fn make(board: &'a Board, host: &'a Host, scratch: &Path) -> Result<RemoteFolder<'a>> {
        let answer = host.ask("uname -m", &[]).with_context(|| {
            format!(
                "{} cannot be used: is it on, is its address right, is your key on it? Another \
                 address is named with --ssh USER@HOST[:PORT], a key with --identity FILE",
                board.title
            )
        })?;
        let processor = board.triple.split('-').next().unwrap_or_default();
        ensure!(
            answer.trim() == processor,
            "{host} has a processor `{}`, but {} has `{processor}`: is it the right board?",
            answer.trim(),
            board.title
        );
        let folder = host.ask(MAKE, &[])?.trim().to_owned();
        ensure!(folder.starts_with('/'), "{host} made no folder, but says `{folder}`");
        Ok(RemoteFolder { host, name: &board.name, folder, scratch: Scratch::new(scratch)? })
    }

    /// What a file that was brought is called there.
    ///
    /// # Errors
    /// When its name is no Unicode.
    pub fn path(&self, file: &Path) -> Result<String> {
        let name = file.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("{} has an odd name", file.display()))?;
        Ok(format!("{}/{name}", self.folder))
    }

    /// The folder's path on the board.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// The board.
    pub fn host(&self) -> &Host {
        self.host
    }
}

impl Place for RemoteFolder<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn bring(&self, files: &[PathBuf]) -> Result<()> {
        let pack = self.scratch.path("pack.tar");
        let mut tar = Command::new("tar");
        tar.arg("--create").arg("--file").arg(&pack);
        tar.args(["--dereference", "--owner=0", "--group=0", "--numeric-owner"]);
        for file in files {
            let file = std::path::absolute(file)?;
            let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
                anyhow::bail!("{} has no name", file.display());
            };
            tar.arg("-C").arg(folder).arg(name);
        }
        process::run(&mut tar)?;
        self.host.send(&pack, &format!("{}/pack.tar", self.folder))?;
        self.host.ask(UNPACK, &[&self.folder])?;
        Ok(())
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Result<Command> {
        let program = self.path(program)?;
        let parameters = [&[self.folder.as_str(), &program], arguments].concat();
        // A signal ends the program as well, where the connection breaks.
        Ok(self.host.command(r#"cd "$1" && shift && exec "$@""#, &parameters))
    }
}

impl Drop for RemoteFolder<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.host.ask(REMOVE, &[&self.folder]) {
            eprintln!("{} stays on {}: {error:#}", self.folder, self.host);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::paths::Paths;
    use crate::ssh::fake;

    fn board() -> Board {
        Board::find(&Paths::from_env().unwrap(), "rpi4").unwrap()
    }

    #[test]
    fn a_program_is_brought_and_runs_there_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        // The script of a board is `sh -c SCRIPT sh ...`: `uname` is a program of this path.
        let tools = folder.path().join("tools");
        fs::create_dir(&tools).unwrap();
        fake::program(&tools, "uname", "echo aarch64");
        let does = format!("PATH={}:$PATH; {}", tools.display(), fake::RUN);
        let host = fake::host(folder.path(), &does);
        let program = fake::program(folder.path(), "a program", r#"pwd; echo "$#" "$2""#);
        let board = board();
        let place = RemoteFolder::make(&board, &host, &folder.path().join("scratch")).unwrap();
        place.bring(&[program.clone(), tools]).unwrap();
        let output = place.command(&program, &["a", "b  c"]).unwrap().output().unwrap();
        let there = place.folder.clone();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{there}\n2 b  c\n"));
        assert!(Path::new(&there).join("tools/uname").is_file());
        drop(place);
        assert!(!Path::new(&there).exists());
    }

    #[test]
    fn another_machine_is_refused_and_one_that_is_off_told() {
        let folder = tempfile::tempdir().unwrap();
        let board = board();
        let message = |does: &str| {
            let host = fake::host(folder.path(), does);
            let made = RemoteFolder::make(&board, &host, &folder.path().join("scratch"));
            format!("{:#}", made.err().unwrap())
        };
        let error = message("echo riscv64");
        assert!(error.contains("processor `riscv64`") && error.contains("right board"), "{error}");
        let error = message("echo 'no route' >&2; exit 255");
        assert!(error.contains("--ssh") && error.ends_with("root@board: no route"), "{error}");
    }
}
