//! Whether the board's program computes what the workstation's does, bit for bit.
//!
//! Both judge the sample X-rays with every bundle of `models/zoo`. The board's runs under
//! `qemu-aarch64`, as on a processor without dot products and on one with every extension, so that
//! both integer kernels are tried. Everything but times must be the same: logits, probabilities,
//! the heat map's digest and hottest pixel, verdict, reasons.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cross::Cross;
use crate::paths::{Paths, entries};
use crate::process;

/// Processors by the emulator's names.
const PROCESSORS: [&str; 2] = ["cortex-a72", "max"];

/// Compares a program for the board with this machine's; tells how much was compared.
///
/// # Errors
/// When they differ, and where; when a program or tool does not run.
pub fn run(paths: &Paths, program: &Path) -> Result<String> {
    let cross = Cross::find(paths)?;
    let native = process::build_binary(paths, "device", None)?;
    let expected = judged(paths, &mut Command::new(native))?;
    ensure!(!expected.is_empty(), "models/samples or models/zoo is empty");
    for processor in PROCESSORS {
        let found = judged(paths, &mut cross.emulated(program, processor))?;
        let differences = differences(&expected, &found);
        if !differences.is_empty() {
            bail!("x86-64 and {processor} differ:\n{}", differences.join("\n"));
        }
        eprintln!("{processor}: the same bits");
    }
    let processors = PROCESSORS.join(" and ");
    Ok(format!("{} records have the same bits on x86-64, {processors}", expected.len()))
}

/// What a program says of every sample and bundle.
fn judged(paths: &Paths, program: &mut Command) -> Result<Vec<Value>> {
    let folders: Vec<PathBuf> =
        ["models/zoo", "models/samples"].map(|name| paths.root.join(name)).into();
    program.args(["scan", "--json", "--bundle"]).arg(&folders[0]).args(entries(&folders[1])?);
    let lines = process::output(program)
        .with_context(|| format!("{} does not judge the samples", process::line(program)))?;
    let records = lines.lines().map(serde_json::from_str);
    records.collect::<Result<_, _>>().context("the program's output is no JSON")
}

/// Where records differ in anything but times, each with both values.
fn differences(expected: &[Value], found: &[Value]) -> Vec<String> {
    if expected.len() != found.len() {
        return vec![format!("{} records and {}", expected.len(), found.len())];
    }
    let mut differences = Vec::new();
    for (one, other) in expected.iter().zip(found) {
        let name = format!("{} {}", one["file"], one["bundle"]["name"]);
        let keys = |record: &Value| -> Vec<String> {
            record.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
        };
        if keys(one) != keys(other) {
            differences.push(format!("{name}: other fields"));
        }
        for key in keys(one).iter().filter(|key| *key != "latency_ms") {
            if one[key] != other[key] {
                differences.push(format!("{name}: {key}: {} and {}", one[key], other[key]));
            }
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(logit: f64, time: u32) -> Value {
        json!({
            "file": "a.png",
            "logits": [logit, 1.0],
            "latency_ms": time,
            "bundle": {"name": "b"},
        })
    }

    #[test]
    fn times_may_differ_and_nothing_else() {
        let expected = [record(0.25, 3)];
        assert!(differences(&expected, &[record(0.25, 99)]).is_empty());
        let last_bit = f64::from_bits(0.25f64.to_bits() + 1);
        let told = differences(&expected, &[record(last_bit, 3)]);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("logits") && told[0].contains("a.png"), "{told:?}");
        assert!(!differences(&expected, &[]).is_empty());
        assert!(!differences(&expected, &[json!({"file": "a.png", "error": "no"})]).is_empty());
    }
}
