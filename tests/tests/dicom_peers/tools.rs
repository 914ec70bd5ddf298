//! Programs of others, run to their end.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use tests::board::{BOARD, Board, CALLER};

/// What a program did.
#[derive(Debug)]
pub struct Done {
    /// Whether its exit status was 0.
    pub success: bool,
    /// All it printed.
    pub said: String,
}

impl Done {
    /// How many lines hold these words.
    pub fn lines_with(&self, words: &str) -> usize {
        self.said.lines().filter(|line| line.contains(words)).count()
    }

    /// The same, for a program that must succeed.
    pub fn expect_success(self, what: &str) -> Self {
        assert!(self.success, "{what}: {}", self.said);
        self
    }
}

/// Runs a program to its end.
pub fn run(program: &str, arguments: &[&OsStr]) -> Done {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} does not run: {error}"));
    let said = [output.stdout, output.stderr].concat();
    Done { success: output.status.success(), said: String::from_utf8_lossy(&said).into_owned() }
}

/// Runs one of DCMTK's senders against a board, as the board's X-ray unit: options, the board's
/// address, and files or folders.
pub fn send(program: &str, board: &Board, options: &[&str], files: &[&Path]) -> Done {
    send_as(CALLER, program, board, options, files)
}

/// As [`send`], under another AE title.
pub fn send_as(
    calling: &str,
    program: &str,
    board: &Board,
    options: &[&str],
    files: &[&Path],
) -> Done {
    let (host, port) = (board.dicom.ip().to_string(), board.dicom.port().to_string());
    let mut arguments: Vec<&OsStr> = Vec::new();
    arguments.extend(["-v", "-aet", calling, "-aec", BOARD].map(OsStr::new));
    arguments.extend(options.iter().map(OsStr::new));
    arguments.extend([host.as_ref(), port.as_ref()].map(|text: &str| OsStr::new(text)));
    arguments.extend(files.iter().map(|file| file.as_os_str()));
    run(program, &arguments)
}
