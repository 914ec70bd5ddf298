//! `cargo xtask logs`: a board's log files as lines.
//!
//! The decoder is a feature of xtask that daily work does without; the task builds xtask with it
//! when it is needed, and becomes that.

#[cfg(feature = "logs")]
mod decode;
#[cfg(feature = "logs")]
mod elf;
#[cfg(feature = "logs")]
mod files;

use std::path::PathBuf;

use anyhow::Result;

use crate::paths::Paths;

/// Command line of the log reader.
#[derive(clap::Args)]
pub struct Arguments {
    /// Log files, or folders of them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The program that wrote the log [default: the device program that was built last]
    #[arg(long, value_name = "PATH")]
    elf: Option<PathBuf>,
    /// One JSON object a line: time_s, level, message, file, line
    #[arg(long)]
    json: bool,
    /// Stay, and print what is appended to the last file and its successors
    #[arg(long)]
    follow: bool,
}

/// Prints log files; see the `decode` module.
///
/// # Errors
/// When a file cannot be read, or the program did not write it.
#[cfg(feature = "logs")]
pub fn run(paths: &Paths, arguments: &Arguments) -> Result<()> {
    let elf = arguments.elf.clone().unwrap_or_else(|| paths.target.join("debug/device"));
    let program = elf::Program::read(&elf)?;
    let files = files::all(&arguments.files)?;
    let style = if arguments.json { decode::Style::Json } else { decode::Style::Text };
    let printed = program.print(&files, style, arguments.follow, &mut std::io::stdout().lock());
    match printed {
        // Whoever read the lines, `head` for one, has enough.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        other => other,
    }
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
    let Arguments { files: _, elf: _, json: _, follow: _ } = arguments;
    let mut command = crate::process::cargo_in(&std::env::current_dir()?);
    command.env("CARGO_TARGET_DIR", &paths.own_target);
    command.args(["run", "--quiet", "--profile", "xtask", "--package", "xtask"]);
    command.args(["--features", "logs", "--"]).args(std::env::args_os().skip(1));
    crate::process::replace(&mut command)
}
