//! `cargo xtask logs`: a board's log as lines, from files, a serial port or the board itself.
//!
//! The decoder is a feature of xtask that daily work does without; the task builds xtask with it
//! when it is needed, and becomes that.

#[cfg(feature = "logs")]
mod board;
#[cfg(feature = "logs")]
mod decode;
#[cfg(feature = "logs")]
mod elf;
#[cfg(feature = "logs")]
mod files;
#[cfg(feature = "logs")]
mod frames;
#[cfg(feature = "logs")]
mod programs;
#[cfg(feature = "logs")]
mod serial;
#[cfg(test)]
#[cfg(feature = "logs")]
mod tests;

use std::path::PathBuf;

use anyhow::Result;

use crate::paths::Paths;

/// Command line of the log reader.
#[derive(clap::Args)]
pub struct Arguments {
    /// Log files, or folders of them
    #[arg(value_name = "FILE", required_unless_present_any = ["serial", "ssh", "board"],
          conflicts_with_all = ["serial", "ssh", "board"])]
    files: Vec<PathBuf>,
    /// The log of a board that is reached over SSH [default: as the board's file says]
    #[arg(long, value_name = "USER@HOST[:PORT]", conflicts_with = "serial")]
    ssh: Option<String>,
    /// File of a private key for SSH [default: the SSH client's choice]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["files", "serial"])]
    identity: Option<PathBuf>,
    /// The log of a board of `xtask/boards`: over SSH, or with --serial from its serial port
    #[arg(long, value_name = "BOARD")]
    board: Option<String>,
    /// The log as a board sends it to this serial port, until it is interrupted
    #[arg(long, value_name = "PORT", num_args = 0..=1)]
    serial: Option<Option<PathBuf>>,
    /// Speed of the serial port [default: as the board's file says, else 115200]
    #[arg(long, value_name = "N", requires = "serial", conflicts_with_all = ["files", "ssh"])]
    baud: Option<u32>,
    /// Folder of the log on the board [default: /var/lib/spinesight/log]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["files", "serial"])]
    folder: Option<String>,
    /// The program that wrote the log, unstripped [default: found by its build id]
    #[arg(long, value_name = "PATH")]
    elf: Option<PathBuf>,
    /// One JSON object a line: time_s, level, message, file, line
    #[arg(long)]
    json: bool,
    /// Stay, and print what is appended to the last file and its successors
    #[arg(long)]
    follow: bool,
}

/// Prints a log.
///
/// # Errors
/// When the log cannot be read, or its program is not here.
#[cfg(feature = "logs")]
pub fn run(paths: &Paths, arguments: &Arguments) -> Result<()> {
    let programs = match &arguments.elf {
        Some(elf) => programs::Programs::named(elf),
        None => programs::Programs::on_this_machine(paths)?,
    };
    match print(paths, arguments, &programs) {
        // Whoever read the lines, `head` for one, has enough.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        other => other,
    }
}

#[cfg(feature = "logs")]
fn print(paths: &Paths, arguments: &Arguments, programs: &programs::Programs) -> Result<()> {
    use anyhow::Context;

    let style = if arguments.json { decode::Style::Json } else { decode::Style::Text };
    let out = &mut std::io::stdout().lock();
    let board = arguments.board.as_deref().map(|name| crate::board::Board::find(paths, name));
    let board = board.transpose()?;
    if let Some(port) = &arguments.serial {
        let reach = board.as_ref().map(|board| &board.reach);
        let its = reach.and_then(|reach| reach.serial.as_ref().map(PathBuf::from));
        let port = port.clone().or(its);
        let port = port.context("name the serial port: --serial PORT, or one in a board's file")?;
        let baud = arguments.baud.or(reach.and_then(|reach| reach.baud));
        return serial::print(&port, baud.unwrap_or(serial::BAUD), programs, style, out);
    }
    let address = arguments.ssh.as_ref().or(board.as_ref().map(|board| &board.reach.ssh));
    if let Some(address) = address {
        let host = crate::ssh::Host::at(paths, address, arguments.identity.as_deref())?;
        let folder = arguments.folder.as_deref().unwrap_or(board::FOLDER);
        return board::print(&host, folder, programs, style, arguments.follow, out);
    }
    files::print(programs, &files::all(&arguments.files)?, style, arguments.follow, out)
}

#[cfg(feature = "logs")]
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}

/// Builds xtask with the decoder and becomes it; returns only on failure.
///
/// # Errors
/// When cargo cannot be started.
#[cfg(not(feature = "logs"))]
pub fn run(paths: &Paths, arguments: &Arguments) -> Result<()> {
    // The same words go to the other program, which starts in the same folder.
    let Arguments {
        files: _,
        ssh: _,
        identity: _,
        board: _,
        serial: _,
        baud: _,
        folder: _,
        elf: _,
        json: _,
        follow: _,
    } = arguments;
    let mut command = crate::process::cargo_in(&std::env::current_dir()?);
    command.env("CARGO_TARGET_DIR", &paths.own_target);
    command.args(["run", "--quiet", "--profile", "xtask", "--package", "xtask"]);
    command.args(["--features", "logs", "--"]).args(std::env::args_os().skip(1));
    crate::process::replace(&mut command)
}
