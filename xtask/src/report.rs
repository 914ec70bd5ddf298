//! Checks that run one after the other, all failures collected.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// What ran, and how it ended.
#[derive(Default)]
pub struct Report {
    steps: Vec<Step>,
}

struct Step {
    name: String,
    time: Duration,
    /// What was found, or why it failed.
    outcome: Result<String, String>,
}

impl Report {
    /// Runs a check.
    pub fn step(&mut self, name: &str, check: impl FnOnce() -> Result<()>) {
        self.tell(name, || check().map(|()| String::new()));
    }

    /// Runs a check that has something to tell of its success.
    pub fn tell(&mut self, name: &str, check: impl FnOnce() -> Result<String>) {
        eprintln!("\n== {name}");
        let started = Instant::now();
        let outcome = check().map_err(|error| format!("{error:#}"));
        match &outcome {
            Ok(found) if found.is_empty() => {}
            Ok(found) => eprintln!("{name}: {found}"),
            Err(error) => eprintln!("{name}: {error}"),
        }
        self.steps.push(Step { name: name.to_owned(), time: started.elapsed(), outcome });
    }

    /// A table in Markdown, a line for each check.
    pub fn table(&self) -> String {
        let mut table = "| check | result | time | found |\n|---|---|--:|---|\n".to_owned();
        for Step { name, time, outcome } in &self.steps {
            let text = outcome.as_ref().unwrap_or_else(|error| error);
            let text = text.replace('|', "\\|").replace('\n', " ");
            let word = word(outcome.is_ok());
            let _ = writeln!(table, "| {name} | {word} | {} s | {text} |", time.as_secs());
        }
        table
    }

    /// Prints how everything ended.
    ///
    /// # Errors
    /// When a check failed.
    pub fn finish(self) -> Result<()> {
        eprintln!();
        for Step { name, time, outcome } in &self.steps {
            eprintln!("{}  {name} ({} s)", word(outcome.is_ok()), time.as_secs());
        }
        let failed = self.steps.iter().filter(|step| step.outcome.is_err());
        let failed: Vec<_> = failed.map(|step| step.name.as_str()).collect();
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }
}

fn word(passed: bool) -> &'static str {
    if passed { "passed" } else { "FAILED" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_fails_the_whole_and_later_steps_still_run() {
        let mut report = Report::default();
        let mut ran = false;
        report.step("first", || bail!("broken"));
        report.step("second", || {
            ran = true;
            Ok(())
        });
        assert!(ran);
        let error = report.finish().unwrap_err().to_string();
        assert_eq!(error, "failed: first");
    }

    #[test]
    fn no_failure_is_success() {
        let mut report = Report::default();
        report.step("only", || Ok(()));
        assert!(report.finish().is_ok());
    }

    #[test]
    fn the_table_has_a_line_for_each_check() {
        let mut report = Report::default();
        report.tell("first", || Ok("7 of 7".to_owned()));
        report.step("second", || bail!("a | b\nc"));
        let table = report.table();
        let lines: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            lines,
            ["| first | passed | 0 s | 7 of 7 |", "| second | FAILED | 0 s | a \\| b c |"]
        );
    }
}
