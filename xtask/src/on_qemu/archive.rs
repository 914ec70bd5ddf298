//! A hospital's archive for tests: DCMTK's `storescp`.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};

use crate::paths::entries;

/// An archive that takes every object, until this process ends.
///
/// `storescp` would listen on all addresses; so this listens on loopback and starts one for each
/// connection, as `inetd` does.
pub struct Archive {
    folder: PathBuf,
    /// Where it listens on loopback; the virtual machine sees it at 10.0.2.2.
    pub port: u16,
}

impl Archive {
    /// Starts an empty one at a free port; it keeps its objects in a folder.
    ///
    /// # Errors
    /// When it cannot listen, or the folder not be emptied.
    pub fn start(folder: &Path) -> Result<Archive> {
        let describe = || format!("cannot empty {}", folder.display());
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(describe)?;
        }
        fs::create_dir_all(folder).with_context(describe)?;
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
        let port = listener.local_addr()?.port();
        let output = folder.to_owned();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                receive(connection.into(), &output);
            }
        });
        Ok(Archive { folder: folder.to_owned(), port })
    }

    /// The objects it has, as files.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn objects(&self) -> Result<Vec<PathBuf>> {
        entries(&self.folder)
    }
}

/// Serves one association; what goes wrong is seen by objects that do not arrive.
fn receive(connection: OwnedFd, folder: &Path) {
    let mut command = Command::new("storescp");
    command.args(["--inetd", "--unique-filenames", "--output-directory"]).arg(folder);
    let status = command.stdin(Stdio::from(connection)).stdout(Stdio::null()).status();
    if !status.is_ok_and(|status| status.success()) {
        eprintln!("storescp did not end an association well");
    }
}
