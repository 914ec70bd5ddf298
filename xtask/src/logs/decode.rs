//! Frames become lines.

use std::io::Write;
use std::rc::Rc;

use anyhow::Result;
use defmt_decoder::Frame;
use serde_json::json;

use super::elf::Program;
use super::frames::{Splitter, announced_build, decoded};
use super::programs::Programs;

/// How a line is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `12.345 INFO  message (file:line)`: seconds since the program started.
    Text,
    /// A JSON object.
    Json,
}

/// Prints one log as it comes, and says at its end how many frames were damaged.
pub struct Printer<'p> {
    programs: &'p Programs,
    /// What messages call the log.
    name: String,
    style: Style,
    splitter: Splitter,
    /// Unknown before the first frame of a log that does not say by which build it was written.
    program: Option<Rc<Program>>,
    damaged: u64,
}

impl<'p> Printer<'p> {
    /// A log of a known build, or of one that its frames may tell.
    ///
    /// # Errors
    /// When the program of the known build is not here.
    pub fn new(
        programs: &'p Programs,
        name: String,
        build: Option<&str>,
        style: Style,
    ) -> Result<Printer<'p>> {
        let program = build.map(|build| programs.of_build(build, &name)).transpose()?;
        Ok(Printer { programs, name, style, splitter: Splitter::default(), program, damaged: 0 })
    }

    /// Prints the frames that these bytes complete.
    ///
    /// # Errors
    /// When the program that wrote them is not here, or the output does not take a line.
    pub fn take(&mut self, bytes: &[u8], out: &mut impl Write) -> Result<()> {
        let mut splitter = std::mem::take(&mut self.splitter);
        splitter.take(bytes, |frame| self.print(frame, out))?;
        self.splitter = splitter;
        Ok(out.flush()?)
    }

    fn print(&mut self, frame: &[u8], out: &mut impl Write) -> Result<()> {
        let Some(bytes) = decoded(frame) else {
            self.damaged += 1;
            return Ok(());
        };
        let program = self.program_of(&bytes)?;
        match program.table.decode(&bytes) {
            Ok((frame, _)) => writeln!(out, "{}", line(&program, &frame, self.style))?,
            Err(_) => self.damaged += 1,
        }
        Ok(())
    }

    /// The program that wrote a frame. A first frame names its build: on a serial port, another one
    /// may follow after an update.
    fn program_of(&mut self, frame: &[u8]) -> Result<Rc<Program>> {
        let build = announced_build(frame);
        let program = match (&self.program, build) {
            (Some(program), None) => Rc::clone(program),
            (Some(program), Some(build)) if program.build_id == build => Rc::clone(program),
            (_, Some(build)) => self.programs.of_build(build, &self.name)?,
            (None, None) => self.programs.assumed(&self.name)?,
        };
        self.program = Some(Rc::clone(&program));
        Ok(program)
    }
}

impl Drop for Printer<'_> {
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
