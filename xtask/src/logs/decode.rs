//! Frames become lines.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use defmt_decoder::{DecodeError, Frame, StreamDecoder};
use serde_json::json;

use super::elf::Program;
use super::files;

/// How often a followed file is looked at.
const PAUSE: Duration = Duration::from_millis(250);

/// How a line is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `12.345 INFO  message (file:line)`: seconds since the program started.
    Text,
    /// A JSON object.
    Json,
}

impl Program {
    /// Prints files, each by itself, and says on standard error how many frames were damaged.
    ///
    /// With `follow` the last file and its successors are printed as they grow, without end.
    ///
    /// # Errors
    /// When a file cannot be read or is another program's, or the output does not take a line.
    pub fn print(
        &self,
        logs: &[PathBuf],
        style: Style,
        follow: bool,
        out: &mut impl Write,
    ) -> Result<()> {
        for log in logs {
            self.check_wrote(log)?;
        }
        let (last, before) = logs.split_last().context("there is no log file")?;
        for log in before {
            Reader::open(self, log, style)?.read(out)?;
        }
        let mut reader = Reader::open(self, last, style)?;
        reader.read(out)?;
        if follow { self.follow(reader, last, out) } else { Ok(()) }
    }

    /// Ends with an error alone: a reader's, or that of an output that takes no more.
    fn follow<'p>(
        &'p self,
        mut reader: Reader<'p>,
        last: &Path,
        out: &mut impl Write,
    ) -> Result<()> {
        let mut log = last.to_path_buf();
        loop {
            // Looked up first: what the older file has was written before.
            let next = files::successor(&log);
            reader.read(out)?;
            match next {
                Some(next) => {
                    reader = Reader::open(self, &next, reader.style)?;
                    log = next;
                }
                None => thread::sleep(PAUSE),
            }
        }
    }
}

/// One log file, read so far.
struct Reader<'p> {
    program: &'p Program,
    name: String,
    style: Style,
    file: File,
    decoder: Box<dyn StreamDecoder + Send + Sync + 'p>,
    damaged: u64,
}

impl<'p> Reader<'p> {
    fn open(program: &'p Program, log: &Path, style: Style) -> Result<Reader<'p>> {
        let name = log.display().to_string();
        let file = File::open(log).with_context(|| format!("cannot read {name}"))?;
        let decoder = program.table.new_stream_decoder();
        Ok(Reader { program, name, style, file, decoder, damaged: 0 })
    }

    /// Prints what the file has beyond what was read before.
    fn read(&mut self, out: &mut impl Write) -> Result<()> {
        let mut part = [0; 4096];
        loop {
            let length = self.file.read(&mut part);
            let length = length.with_context(|| format!("cannot read {}", self.name))?;
            if length == 0 {
                return Ok(out.flush()?);
            }
            self.decoder.received(&part[..length]);
            self.print_frames(out)?;
        }
    }

    fn print_frames(&mut self, out: &mut impl Write) -> Result<()> {
        loop {
            match self.decoder.decode() {
                Ok(frame) => {
                    let line = line(self.program, &frame, self.style);
                    writeln!(out, "{line}")?;
                }
                Err(DecodeError::Malformed) => self.damaged += 1,
                Err(DecodeError::UnexpectedEof) => return Ok(()),
            }
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if self.damaged > 0 {
            eprintln!("{}: damaged frames skipped: {}", self.name, self.damaged);
        }
    }
}

fn line(program: &Program, frame: &Frame<'_>, style: Style) -> String {
    let time = frame.display_timestamp().map(|time| time.to_string()).unwrap_or_default();
    let level = frame.level().map_or("-", |level| level.as_str());
    let message = frame.display_message().to_string();
    let place = program.locations.get(&frame.index());
    let file = place.map(|place| place.file.display().to_string());
    let number = place.map(|place| place.line);
    match style {
        Style::Text => {
            let level = level.to_uppercase();
            let place = file.zip(number).map(|(file, line)| format!(" ({file}:{line})"));
            format!("{time} {level:<5} {message}{}", place.unwrap_or_default())
        }
        Style::Json => json!({
            "time_s": time.parse::<f64>().ok(),
            "level": level,
            "message": message,
            "file": file,
            "line": number,
        })
        .to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::paths::{self, Paths};
    use crate::process;

    /// A program of the board, what it says its log must hold, and the log.
    struct Sample {
        program: Program,
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
            Sample { program: Program::read(&elf).unwrap(), expected, folder }
        }

        fn log(&self) -> PathBuf {
            let mut files = paths::entries(self.folder.path()).unwrap();
            assert_eq!(files.len(), 1, "{files:?}");
            files.remove(0)
        }

        fn lines(&self, log: &Path, style: Style) -> Vec<String> {
            let mut out = Vec::new();
            self.program.print(&[log.into()], style, false, &mut out).unwrap();
            String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
        }
    }

    #[test]
    #[ignore = "builds a program of the board, minutes at first: `cargo xtask test` runs it"]
    fn what_a_program_logs_is_read_back() {
        let sample = Sample::make();
        let log = sample.log();
        let lines = sample.lines(&log, Style::Json);
        let read: Vec<serde_json::Value> =
            lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let messages: Vec<&str> =
            read.iter().map(|line| line["message"].as_str().unwrap()).collect();
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
        every_damaged_byte_costs_one_frame_at_most(&sample, &log);
        another_build_is_refused(&sample, &log);
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
            sample.program.print(&[other], Style::Text, false, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("was written by build 0123abcd"), "{error}");
    }
}
