//! A contender's process, which computes when it is asked to and else waits.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// A process that has given its first answer.
#[derive(Debug)]
pub struct Process {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What a process says once it is ready.
#[derive(Debug)]
pub struct Ready {
    /// The runtime with its version.
    pub runtime: String,
    /// Raw outputs for the picture.
    pub logits: Vec<f64>,
    /// From the start of the process to that first result, in seconds.
    pub cold_start: f64,
}

/// What a turn took.
#[derive(Debug)]
pub struct Turn {
    /// Wall time of each counted inference, in milliseconds.
    pub inferences: Vec<f64>,
    /// Wall time of heat maps behind inferences, in milliseconds.
    pub maps: Vec<f64>,
}

impl Process {
    /// Starts a process and waits until it has judged its picture.
    ///
    /// # Errors
    /// With the reason when it cannot do so.
    pub fn start(command: &mut Command) -> Result<(Process, Ready)> {
        // NumPy's own threads have nothing to do here.
        command.env("OPENBLAS_NUM_THREADS", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn().context("cannot be started")?;
        let requests = child.stdin.take().context("its input is not connected")?;
        let answers = BufReader::new(child.stdout.take().context("its output is not connected")?);
        let mut process = Process { child, requests, answers };
        let answer = process.answer()?;
        let cold_start = start.elapsed().as_secs_f64();
        if let Some(reason) = answer["failed"].as_str() {
            bail!("{reason}");
        }
        let runtime = answer["ready"]["runtime"].as_str().context("it does not name itself")?;
        let logits = numbers(&answer["ready"]["logits"]).context("it has no logits")?;
        let ready = Ready { runtime: runtime.to_owned(), logits, cold_start };
        Ok((process, ready))
    }

    /// Lets the process run one inference that is not counted, then `count` that are.
    ///
    /// # Errors
    /// When it dies or answers something else.
    pub fn turn(&mut self, count: usize) -> Result<Turn> {
        writeln!(self.requests, "{}", json!({"run": count})).context("it has ended")?;
        let answer = self.answer()?;
        let milliseconds = |value: &Value| -> Option<Vec<f64>> {
            Some(numbers(value)?.into_iter().map(|ns| ns / 1e6).collect())
        };
        let inferences = milliseconds(&answer["ns"]).filter(|times| times.len() == count);
        let inferences = inferences.context("its answer has other times than asked for")?;
        Ok(Turn { inferences, maps: milliseconds(&answer["cam_ns"]).unwrap_or_default() })
    }

    /// Most memory the process has ever had resident, in bytes, where the system tells.
    pub fn peak_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        peak_in(&status)
    }

    /// Processor time the process has used so far, in seconds, where the system tells.
    pub fn processor_time(&self) -> Option<f64> {
        processor_time_in(&fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?)
    }

    /// Ends the process, which ends with its input.
    ///
    /// # Errors
    /// When it fails at the last moment.
    pub fn finish(self) -> Result<()> {
        let Process { mut child, requests, .. } = self;
        drop(requests);
        let status = child.wait()?;
        if !status.success() {
            bail!("ended with {status}");
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("ended without an answer ({})", self.child.wait()?);
        }
        serde_json::from_str(&line).with_context(|| format!("not an answer: {line}"))
    }
}

fn numbers(value: &Value) -> Option<Vec<f64>> {
    value.as_array()?.iter().map(Value::as_f64).collect()
}

/// Most memory a process has ever had resident, in bytes, from its file `status` in `/proc`.
pub fn peak_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Fields 14 and 15, user and system time, in ticks of which Linux shows 100 a second.
fn processor_time_in(stat: &str) -> Option<f64> {
    // The name in field 2 may hold spaces, and ends with the last parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<(Process, Ready)> {
        Process::start(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn a_process_is_asked_and_answers() {
        let ready = r#"echo '{"ready":{"runtime":"x 1","logits":[1.0,-2.0]}}'"#;
        let script = format!(r#"{ready}; read line; echo '{{"ns":[2e6],"cam_ns":[5e5]}}'"#);
        let (mut process, ready) = shell(&script).unwrap();
        assert_eq!((ready.runtime.as_str(), ready.logits), ("x 1", vec![1.0, -2.0]));
        let turn = process.turn(1).unwrap();
        assert_eq!((turn.inferences, turn.maps), (vec![2.0], vec![0.5]));
        process.finish().unwrap();
    }

    #[test]
    fn why_a_process_is_not_ready_is_told() {
        let reason = |script: &str| format!("{:#}", shell(script).unwrap_err());
        assert_eq!(reason(r#"echo '{"failed":"no wheel"}'"#), "no wheel");
        assert!(reason("exit 3").contains("without an answer (exit status: 3)"));
        assert!(reason("echo hello").contains("not an answer: hello"));
    }

    #[test]
    fn a_turn_with_other_times_is_refused() {
        let ready = r#"echo '{"ready":{"runtime":"x","logits":[]}}'"#;
        let (mut process, _) = shell(&format!(r#"{ready}; read l; echo '{{"ns":[1]}}'"#)).unwrap();
        assert!(process.turn(2).is_err());
    }

    #[test]
    fn the_systems_files_are_understood() {
        assert_eq!(peak_in("VmPeak:\t  9 kB\nVmHWM:\t  2 kB\n"), Some(2048));
        assert_eq!(peak_in("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB"), Some(2 << 20));
        assert_eq!(peak_in("Name:\tx\nState:\tZ (zombie)"), None);
        let stat = "7 (a b) c) S 1 1 1 0 -1 4 100 0 0 0 250 50 0 0 20 0 1";
        assert_eq!(processor_time_in(stat), Some(3.0));
    }
}
