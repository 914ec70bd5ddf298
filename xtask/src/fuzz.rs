//! `cargo xtask fuzz`: whatever takes bytes from outside, against inputs that libFuzzer grows.
//!
//! The targets are a package of their own in `tests/fuzz`, built by `cargo fuzz` with address
//! sanitizer, debug assertions and overflow checks. The compiler is the project's own: the switches
//! that cargo-fuzz needs are opened by `RUSTC_BOOTSTRAP`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cached;
use crate::debian::{self, Program};
use crate::paths::{Paths, entries};
use crate::process;

/// The version of cargo-fuzz.
const VERSION: &str = "0.13.2";
const COMPILER: [Program; 1] = [Program { name: "c++", package: "g++" }];
/// Ends a target that takes more memory, asks for too much at once, or thinks for too long over
/// one input. Leaks are not looked for: a thread that is about to end looks like one.
const LIMITS: [&str; 5] = [
    "-rss_limit_mb=2048",
    "-malloc_limit_mb=512",
    "-timeout=60",
    "-print_final_stats=1",
    "-detect_leaks=0",
];
/// How libFuzzer tells at the end how many inputs it tried.
const EXECUTED: &str = "stat::number_of_executed_units:";

/// Command line of the fuzzer.
#[derive(clap::Args)]
pub struct Arguments {
    /// What to try; everything without one
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long to try each
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
}

/// Tries each target for some minutes and tells how many inputs it took.
///
/// # Errors
/// When a tool or target is missing, a target does not build, or an input made one fail.
pub fn run(paths: &Paths, arguments: &Arguments) -> Result<()> {
    let all = targets(paths)?;
    if let Some(unknown) = arguments.targets.iter().find(|name| !all.contains(name)) {
        bail!("there is no target `{unknown}`; there are {}", all.join(", "));
    }
    let wanted = if arguments.targets.is_empty() { &all } else { &arguments.targets };
    debian::ensure(&COMPILER, "fuzzing")?;
    let fuzzer = Fuzzer { paths, program: cached::tool(paths, "cargo-fuzz", VERSION)? };
    let mut failed = Vec::new();
    for target in wanted {
        process::run(fuzzer.command("build").arg(target))?;
    }
    for target in wanted {
        let (executed, is_well) = fuzzer.run(target, arguments.minutes)?;
        let result = if is_well { "no input made it fail" } else { "FAILED" };
        println!("{target}: {executed} inputs in {} min, {result}", arguments.minutes);
        failed.extend((!is_well).then_some(target.as_str()));
    }
    if !failed.is_empty() {
        bail!(
            "made to fail: {}; the inputs are in {}",
            failed.join(", "),
            fuzzer.finds().display()
        );
    }
    Ok(())
}

/// The programs in `tests/fuzz/targets`.
fn targets(paths: &Paths) -> Result<Vec<String>> {
    let files = entries(&package(paths).join("targets"))?;
    Ok(files.iter().filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned())).collect())
}

fn package(paths: &Paths) -> PathBuf {
    paths.root.join("tests/fuzz")
}

struct Fuzzer<'a> {
    paths: &'a Paths,
    program: PathBuf,
}

impl Fuzzer<'_> {
    /// Tries a target; how many inputs it took, and whether it took them all well.
    fn run(&self, target: &str, minutes: u64) -> Result<(u64, bool)> {
        let (grown, finds) = (self.grown(target), self.finds());
        for folder in [&grown, &finds] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let mut command = self.command("run");
        // New inputs go to the first folder, so that the clone stays as it is.
        command.arg(target).arg(grown).arg(package(self.paths).join("corpus").join(target));
        command.arg("--").args(LIMITS).arg(format!("-max_total_time={}", 60 * minutes));
        command.arg(format!("-artifact_prefix={}/{target}-", finds.display()));
        let mut child =
            command.stderr(Stdio::piped()).spawn().context("cannot start cargo-fuzz")?;
        let output = child.stderr.take().context("the fuzzer's output is not connected")?;
        let mut executed = 0;
        for line in BufReader::new(output).lines() {
            let line = line.context("cannot read the fuzzer's output")?;
            executed = executions_in(&line).unwrap_or(executed);
            eprintln!("{line}");
        }
        let status = child.wait().context("cannot wait for the fuzzer")?;
        Ok((executed, status.success()))
    }

    fn command(&self, task: &str) -> Command {
        let target = self.paths.cache.join("fuzz");
        let mut command = Command::new(&self.program);
        command.current_dir(&self.paths.root);
        command.args(["fuzz", task, "--fuzz-dir"]).arg(package(self.paths));
        command.arg("--target-dir").arg(&target);
        command.env("CARGO_TARGET_DIR", target).env("RUSTC_BOOTSTRAP", "1");
        command
    }

    /// Where inputs are kept that reach something new.
    fn grown(&self, target: &str) -> PathBuf {
        self.paths.cache.join("fuzz-corpus").join(target)
    }

    /// Where inputs are kept that make a target fail.
    fn finds(&self) -> PathBuf {
        self.paths.cache.join("fuzz-finds")
    }
}

fn executions_in(line: &str) -> Option<u64> {
    line.strip_prefix(EXECUTED)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_inputs_is_read_from_the_last_lines() {
        assert_eq!(executions_in("stat::number_of_executed_units: 1234"), Some(1234));
        assert_eq!(executions_in("#1234\tNEW    cov: 5 ft: 6"), None);
    }

    #[test]
    fn every_target_is_built_and_has_a_corpus() {
        let paths = Paths::from_env().expect("the clone");
        let manifest = fs::read_to_string(package(&paths).join("Cargo.toml")).expect("reads");
        let targets = targets(&paths).expect("lists");
        assert!(targets.len() > 3, "{targets:?}");
        for target in targets {
            let path = format!("path = \"targets/{target}.rs\"");
            assert!(manifest.contains(&path), "{target} is not built");
            let corpus = package(&paths).join("corpus").join(&target);
            assert!(!entries(&corpus).expect("lists").is_empty(), "{target} has no corpus");
        }
    }
}
