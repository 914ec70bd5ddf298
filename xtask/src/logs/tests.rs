//! Whether the log of a program of the board is read back, from files, a serial port and a board.

use std::cell::Cell;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use clap::{Args, FromArgMatches};

use super::board;
use super::decode::Style;
use super::files;
use super::programs::Programs;
use super::serial::{self, tests::pseudo_terminal};
use crate::paths::{self, Paths};
use crate::process;
use crate::ssh::fake;

#[test]
fn one_log_is_named() {
    let parse = |line: &str| {
        let command = super::Arguments::augment_args(clap::Command::new("logs"));
        let matches = command.try_get_matches_from(format!("logs {line}").split_whitespace());
        matches.and_then(|matches| super::Arguments::from_arg_matches(&matches))
    };
    for right in [
        "a b",
        "--board rpi5 --follow",
        "--ssh root@board:22 --identity key --folder /log",
        "--board rpi5 --serial",
        "--serial /dev/ttyUSB0 --baud 9600 --json",
    ] {
        assert!(parse(right).is_ok(), "{right}");
    }
    assert_eq!(parse("--serial --board rpi5").unwrap().serial, Some(None));
    for wrong in
        ["", "--json", "a --board rpi5", "a --ssh b@c", "--baud 9600 a", "--ssh b@c --serial d"]
    {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

/// A program of the board, what it says its log must hold, and the log.
struct Sample {
    programs: Programs,
    expected: Vec<String>,
    folder: tempfile::TempDir,
}

impl Sample {
    fn make() -> Sample {
        let paths = Paths::from_env().unwrap();
        let elf = process::build_example(&paths, "log_sample").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(&elf);
        let output = process::output(command.arg(folder.path()).stdin(Stdio::null())).unwrap();
        let expected = output.lines().map(str::to_owned).collect();
        Sample { programs: Programs::named(&elf), expected, folder }
    }

    fn log(&self) -> PathBuf {
        let mut files = paths::entries(self.folder.path()).unwrap();
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    fn lines(&self, log: &Path, style: Style) -> Vec<String> {
        let mut out = Vec::new();
        files::print(&self.programs, &[log.into()], style, false, &mut out).unwrap();
        lines_of(out)
    }
}

fn lines_of(out: Vec<u8>) -> Vec<String> {
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "builds a program of the board, minutes at first: `cargo xtask test` runs it"]
fn what_a_program_logs_is_read_back() {
    let sample = Sample::make();
    let log = sample.log();
    let lines = sample.lines(&log, Style::Json);
    let read: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<&str> = read.iter().map(|line| line["message"].as_str().unwrap()).collect();
    let own = 1..messages.len() - 1;
    assert!(messages[0].starts_with("device "), "{messages:?}");
    assert_eq!(messages[own.clone()], sample.expected, "{messages:?}");
    assert_eq!(messages.last(), Some(&"log ends"));
    for line in &read[own] {
        let file = line["file"].as_str().unwrap();
        assert!(file.ends_with("log/events.rs") || file.ends_with("log/panics.rs"), "{line}");
        assert!(line["line"].as_u64().unwrap() > 1, "{line}");
        assert!(line["time_s"].as_f64().unwrap() < 60.0, "{line}");
    }
    a_board_sends_the_same(&sample, &log);
    a_serial_port_may_be_joined_in_the_middle_of_a_frame(&sample, &log);
    every_damaged_byte_costs_one_frame_at_most(&sample, &log);
    another_build_is_refused(&sample, &log);
}

fn a_board_sends_the_same(sample: &Sample, log: &Path) {
    let tools = tempfile::tempdir().unwrap();
    let host = fake::host(tools.path(), fake::RUN);
    let mut out = Vec::new();
    let folder = sample.folder.path().to_str().unwrap();
    board::print(&host, folder, &sample.programs, Style::Text, false, &mut out).unwrap();
    assert_eq!(lines_of(out), sample.lines(log, Style::Text));
}

/// Takes so many lines, then no more, as `head` does.
struct Head<'a> {
    left: &'a Cell<usize>,
    taken: Vec<u8>,
}

impl Write for Head<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left.get() == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.taken.extend(bytes);
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        self.left.set(self.left.get().saturating_sub(lines));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn a_serial_port_may_be_joined_in_the_middle_of_a_frame(sample: &Sample, log: &Path) {
    let whole = sample.lines(log, Style::Text);
    let bytes = fs::read(log).unwrap();
    // The first frame, which names the build, is cut; then the program starts once more.
    let sent = [&bytes[3..], &bytes[..]].concat();
    let expected = [&whole[1..], &whole[..]].concat();
    // Stays open to the end: a port that is gone loses what was not read yet.
    let (far_end, port) = pseudo_terminal();
    let left = Cell::new(expected.len());
    let mut head = Head { left: &left, taken: Vec::new() };
    thread::scope(|scope| {
        // The port is opened by its reader, which makes it raw: until then nothing may be sent.
        scope.spawn(|| {
            while !is_raw(&far_end) {
                thread::yield_now();
            }
            // And what follows ends the reader, whose output is then full.
            (&far_end).write_all(&[&sent[..], &sent[..]].concat()).unwrap();
        });
        let error = serial::print(&port, serial::BAUD, &sample.programs, Style::Text, &mut head)
            .unwrap_err();
        assert!(super::is_broken_pipe(&error), "{error:#}");
    });
    assert_eq!(lines_of(head.taken), expected);
}

fn is_raw(terminal: &fs::File) -> bool {
    let settings = rustix::termios::tcgetattr(terminal).unwrap();
    !settings.local_modes.contains(rustix::termios::LocalModes::ICANON)
}

fn every_damaged_byte_costs_one_frame_at_most(sample: &Sample, log: &Path) {
    let bytes = fs::read(log).unwrap();
    let whole = sample.lines(log, Style::Text);
    let copy = sample.folder.path().join("copy");
    for at in 0..bytes.len() {
        for value in [0, !bytes[at]] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            fs::write(&copy, damaged).unwrap();
            let lines = sample.lines(&copy, Style::Text);
            let intact = whole.iter().filter(|line| lines.contains(line)).count();
            assert!(intact + 1 >= whole.len(), "byte {at} as {value}: {lines:?}");
        }
    }
    fs::remove_file(copy).unwrap();
}

fn another_build_is_refused(sample: &Sample, log: &Path) {
    let other = sample.folder.path().join("00000001-0123abcd.defmt");
    fs::copy(log, &other).unwrap();
    let error =
        files::print(&sample.programs, &[other], Style::Text, false, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("was written by build 0123abcd"), "{error}");
}
