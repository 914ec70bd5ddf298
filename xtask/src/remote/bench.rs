//! `cargo xtask bench --on BOARD`: what a board's program takes on the board, and whether that is
//! within the board's budget.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::Address;
use super::place::{Place, RemoteFolder};
use crate::bench::child::{self, Process};
use crate::bench::stats::Spread;
use crate::board::Board;
use crate::demo;
use crate::paths::{Paths, entries};
use crate::process;
use crate::scratch::Scratch;

/// Where `cargo xtask dist` leaves its archives, in the current folder.
const DIST: &str = "dist";
/// The program in an archive.
const PROGRAM: &str = "bin/spinesight";
/// A program whose process is found again: `$$` stays its number.
const START: &str = r#"cd "$1" && shift && echo $$ > pid && exec "$@""#;
const MEMORY: &str = r#"cd "$1" && cat "/proc/$(cat pid)/status""#;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Turns of the network alone, and times that each sample is scanned.
    pub rounds: u32,
    /// Inferences of a turn.
    pub runs: u32,
}

/// Measures every bundle of the board's archive at every number of threads; prints a table, saves it
/// and the figures, and compares the first bundle with the board's budget.
///
/// # Errors
/// When there is no archive, no board answers, something does not run there, the answer depends on
/// the number of threads, or the budget is exceeded.
pub fn run(
    paths: &Paths,
    name: &str,
    address: &Address,
    archive: Option<&Path>,
    effort: Effort,
    out: Option<&Path>,
) -> Result<()> {
    let board = Board::find(paths, name)?;
    let archive = match archive {
        Some(archive) => archive.to_owned(),
        None => newest_archive(Path::new(DIST), &board)?,
    };
    let host = address.host(paths, &board)?;
    let folder = paths.cache.join("bench-on-board");
    let place = RemoteFolder::make(&board, &host, &folder.join("packed"))?;
    let unpacked = Scratch::new(&folder.join("unpacked"))?;
    let release = Release::unpack(&archive, &unpacked.folder("release")?, &board)?;
    let samples = demo::samples(&paths.root.join("models/samples"))?;
    eprintln!("sending {} and samples to {host}", archive.display());
    let program = std::slice::from_ref(&release.program);
    place.bring(&[program, &*release.bundles, &samples].concat())?;
    let bench = Bench { place, release, samples, effort };
    let mut results = Vec::new();
    for bundle in &bench.release.bundles {
        for threads in 1..=board.cores {
            eprintln!("measuring {}, threads: {threads}", file_name(bundle));
            results.push(bench.measure(bundle, threads)?);
        }
    }
    let machine = bench.machine()?;
    let out = out.map_or_else(|| paths.root.join("bench").join(name), Path::to_path_buf);
    save(&out, &board, &machine, &archive, &results)?;
    check_same(&results)?;
    check_budget(&board, &results)
}

/// The newest archive of a board.
fn newest_archive(folder: &Path, board: &Board) -> Result<PathBuf> {
    let beginning = format!("spinesight-{}-", board.name);
    let is_archive = |path: &PathBuf| {
        let name = file_name(path);
        name.starts_with(&beginning) && name.ends_with(".tar.gz") && path.is_file()
    };
    let archives = entries(folder)?.into_iter().filter(is_archive);
    let newest = archives.max_by_key(|path| fs::metadata(path).and_then(|m| m.modified()).ok());
    newest.with_context(|| {
        format!(
            "there is no archive for {} in {}: make it with `cargo xtask dist --board {}`, or name \
             one with --archive",
            board.title,
            folder.display(),
            board.name
        )
    })
}

/// What an archive holds of use here.
struct Release {
    program: PathBuf,
    /// The board's, in its order.
    bundles: Vec<PathBuf>,
}

impl Release {
    fn unpack(archive: &Path, folder: &Path, board: &Board) -> Result<Release> {
        let mut tar = Command::new("tar");
        process::run(tar.arg("--extract").arg("--file").arg(archive).arg("-C").arg(folder))?;
        let mut files = Vec::new();
        collect(folder, &mut files)?;
        let program = files.iter().find(|path| path.ends_with(PROGRAM)).cloned();
        let bundle = |name: &String| {
            let card = |path: &&PathBuf| path.ends_with(Path::new(name).join("bundle.toml"));
            let folder = files.iter().find(card).and_then(|card| card.parent());
            let folder = folder.map(Path::to_path_buf);
            folder.with_context(|| format!("{} has no bundle {name}", archive.display()))
        };
        Ok(Release {
            bundles: board.bundles.iter().map(bundle).collect::<Result<_>>()?,
            program: program.with_context(|| format!("{} has no program", archive.display()))?,
        })
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for path in entries(folder)? {
        if path.is_dir() && !path.is_symlink() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// One bundle at one number of threads.
#[derive(Debug)]
struct Measured {
    bundle: String,
    threads: u32,
    /// Of the network alone, ms.
    inference: Spread,
    /// From a picture's bytes to the verdict, ms.
    scan: Spread,
    /// The slowest of those, ms.
    slowest_scan: f64,
    /// From the start of the program, through the connection, to its first answer, s.
    cold_start: f64,
    /// Most memory resident, bytes.
    memory: Option<u64>,
    /// Answer for the first sample.
    logits: Vec<f64>,
}

struct Bench<'a> {
    place: RemoteFolder<'a>,
    release: Release,
    samples: Vec<PathBuf>,
    effort: Effort,
}

impl Bench<'_> {
    fn measure(&self, bundle: &Path, threads: u32) -> Result<Measured> {
        let sample = self.samples.first().context("there is no sample")?;
        let (bundle_there, sample) = (self.place.path(bundle)?, self.place.path(sample)?);
        let (program, count) = (self.place.path(&self.release.program)?, threads.to_string());
        let folder = self.place.folder();
        let parameters =
            [folder, &program, "bench", "--bundle", &bundle_there, "--threads", &count, &sample];
        let host = self.place.host();
        let (mut process, ready) = Process::start(&mut host.command(START, &parameters))?;
        let mut inferences = Vec::new();
        for _ in 0..self.effort.rounds {
            inferences.extend(process.turn(self.effort.runs as usize)?.inferences);
        }
        let memory = child::peak_in(&host.ask(MEMORY, &[folder])?);
        process.finish()?;
        let scans = self.scans(&bundle_there, &count)?;
        Ok(Measured {
            bundle: file_name(bundle),
            threads,
            inference: Spread::of(&inferences).context("nothing was measured")?,
            scan: Spread::of(&scans).context("nothing was scanned")?,
            slowest_scan: scans.iter().copied().fold(0.0, f64::max),
            cold_start: ready.cold_start,
            memory,
            logits: ready.logits,
        })
    }

    /// From each picture's bytes to its verdict, ms.
    fn scans(&self, bundle: &str, threads: &str) -> Result<Vec<f64>> {
        let paths = self.samples.iter().map(|sample| self.place.path(sample));
        let paths = paths.collect::<Result<Vec<_>>>()?;
        let mut arguments = vec!["scan", "--json", "--bundle", bundle, "--threads", threads];
        for _ in 0..self.effort.rounds {
            arguments.extend(paths.iter().map(String::as_str));
        }
        let mut command = self.place.command(&self.release.program, &arguments)?;
        let output = command.stdin(Stdio::null()).output().context("cannot start ssh")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "scanning failed ({}): {}", output.status, said.trim());
        String::from_utf8_lossy(&output.stdout).lines().map(milliseconds).collect()
    }

    /// What the board says it is.
    fn machine(&self) -> Result<String> {
        let model = "cat /sys/firmware/devicetree/base/model 2>/dev/null | tr -d '\\0' || true";
        let model = self.place.host().ask(model, &[])?;
        let kernel = self.place.host().ask("uname -srm", &[])?;
        let parts = [model.trim(), kernel.trim()];
        Ok(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", "))
    }
}

/// The sum of a scan's parts in a line of `scan --json`.
fn milliseconds(line: &str) -> Result<f64> {
    let record: Value = serde_json::from_str(line).with_context(|| format!("no record: {line}"))?;
    let parts = ["decode", "preprocess", "inference", "cam"];
    let times = parts.map(|part| record["latency_ms"][part].as_f64());
    let times: Option<Vec<f64>> = times.into_iter().collect();
    Ok(times.with_context(|| format!("a sample is not judged: {line}"))?.iter().sum())
}

fn save(
    out: &Path,
    board: &Board,
    machine: &str,
    archive: &Path,
    results: &[Measured],
) -> Result<()> {
    let archive = file_name(archive);
    let table = table(board, machine, &archive, results);
    let figures = json!({
        "board": board.name,
        "machine": machine,
        "archive": archive,
        "budget": {"scan_ms": board.budget.scan_ms},
        "results": results.iter().map(figures).collect::<Vec<_>>(),
    });
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    for (name, content) in [("table.md", &table), ("results.json", &format!("{figures:#}\n"))] {
        let file = out.join(name);
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
    }
    println!("{table}");
    eprintln!("table.md and results.json are in {}", out.display());
    Ok(())
}

fn table(board: &Board, machine: &str, archive: &str, results: &[Measured]) -> String {
    let mut table = format!(
        "# {} ({machine})\n\n{archive}; ms, median (a tenth lies above); budget of a scan with {}: \
         {} ms\n\n| bundle | threads | inference | scan | slowest scan | memory, MB | cold start, s \
         |\n|---|--:|--:|--:|--:|--:|--:|\n",
        board.title, board.bundles[0], board.budget.scan_ms
    );
    for result in results {
        let spread = |spread: Spread| format!("{:.1} ({:.1})", spread.median, spread.p90);
        let memory = result.memory.map_or("-".into(), |bytes| (bytes / 1_000_000).to_string());
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {:.1} | {memory} | {:.1} |",
            result.bundle,
            result.threads,
            spread(result.inference),
            spread(result.scan),
            result.slowest_scan,
            result.cold_start
        );
    }
    table
}

fn figures(result: &Measured) -> Value {
    let spread = |spread: Spread| json!({"min": spread.min, "p10": spread.p10, "median": spread.median, "p90": spread.p90});
    json!({
        "bundle": result.bundle,
        "threads": result.threads,
        "inference_ms": spread(result.inference),
        "scan_ms": spread(result.scan),
        "slowest_scan_ms": result.slowest_scan,
        "cold_start_s": result.cold_start,
        "peak_memory_bytes": result.memory,
        "logits": result.logits,
    })
}

/// A bundle answers the same, to the last bit, with any number of threads.
fn check_same(results: &[Measured]) -> Result<()> {
    for result in results {
        let first = results.iter().find(|other| other.bundle == result.bundle);
        if first.is_some_and(|first| first.logits != result.logits) {
            bail!("{} answers something else with {} threads", result.bundle, result.threads);
        }
    }
    Ok(())
}

/// The first bundle, which judges, with all cores, as the service uses them.
fn check_budget(board: &Board, results: &[Measured]) -> Result<()> {
    let judges = |result: &&Measured| result.bundle == board.bundles[0];
    let service = results.iter().filter(judges).max_by_key(|result| result.threads);
    let slowest = service.context("the bundle that judges was not measured")?.slowest_scan;
    let budget = board.budget.scan_ms;
    ensure!(
        slowest <= f64::from(budget),
        "over budget: the slowest scan took {slowest:.0} ms, {} has {budget} ms",
        board.title
    );
    eprintln!("within budget: the slowest scan took {slowest:.0} ms of {budget} ms");
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssh::fake;

    fn board() -> Board {
        Board::find(&Paths::from_env().unwrap(), "rpi5").unwrap()
    }

    /// What the board's program says, in so far as it is asked here.
    const DEVICE: &str = r#"
bundle=$3
case "$1" in
bench)
    test "$5" -le 4 || exit 1
    echo '{"ready": {"runtime": "x", "logits": [1.5, -1]}}'
    while read -r line; do echo '{"ns": [2e6, 4e6], "cam_ns": [1e5]}'; done ;;
scan)
    shift 6
    for file; do
        test -f "$file" || exit 1
        echo '{"latency_ms": {"decode": 1, "preprocess": 2, "inference": 3.5, "cam": 0.5}}'
    done ;;
esac"#;

    /// An archive for a Raspberry Pi 5 whose program is a script.
    fn archive(folder: &Path) -> PathBuf {
        let content = folder.join("content/spinesight-1");
        for bundle in board().bundles {
            let bundle = content.join("bundles").join(bundle);
            fs::create_dir_all(&bundle).unwrap();
            fs::write(bundle.join("bundle.toml"), "").unwrap();
        }
        fs::create_dir(content.join("bin")).unwrap();
        fake::program(&content.join("bin"), "spinesight", DEVICE);
        let archive = folder.join("spinesight-rpi5-7-0123456789ab.tar.gz");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(folder.join("content")).arg("-czf").arg(&archive).arg("spinesight-1");
        process::run(&mut tar).unwrap();
        archive
    }

    #[test]
    fn a_board_is_measured_and_its_figures_are_saved() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(folder.path());
        let tools = folder.path().join("tools");
        fs::create_dir(&tools).unwrap();
        fake::program(&tools, "uname", "echo aarch64");
        let does = format!("PATH={}:$PATH; {}", tools.display(), fake::RUN);
        let host = fake::host(folder.path(), &does);
        let board = board();
        let place = RemoteFolder::make(&board, &host, &folder.path().join("packed")).unwrap();
        let unpacked = folder.path().join("unpacked");
        fs::create_dir(&unpacked).unwrap();
        let release = Release::unpack(&archive, &unpacked, &board).unwrap();
        let sample = folder.path().join("a sample.png");
        fs::write(&sample, "").unwrap();
        let brought = [&[release.program.clone(), sample.clone()], &*release.bundles].concat();
        place.bring(&brought).unwrap();
        let effort = Effort { rounds: 2, runs: 2 };
        let bench = Bench { place, release, samples: vec![sample], effort };
        let result = bench.measure(&bench.release.bundles[1], 4).unwrap();
        assert_eq!((result.inference.median, result.scan.median), (3.0, 7.0));
        assert_eq!((result.slowest_scan, result.logits.as_slice()), (7.0, &[1.5, -1.0][..]));
        assert!(result.memory.unwrap() > 100_000);
        assert!(bench.measure(&bench.release.bundles[0], 5).is_err());
        let out = folder.path().join("out");
        save(&out, &board, &bench.machine().unwrap(), &archive, &[result]).unwrap();
        let table = fs::read_to_string(out.join("table.md")).unwrap();
        assert!(table.contains("| vgg16-gap-random-int8 | 4 | 3.0 (4.0) | 7.0 (7.0) |"), "{table}");
        let json = fs::read_to_string(out.join("results.json")).unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["results"][0]["scan_ms"]["median"], 7.0);
    }

    fn measured(bundle: &str, threads: u32, slowest_scan: f64, logit: f64) -> Measured {
        let spread = Spread { min: 1.0, p10: 1.0, median: 1.0, p90: 1.0 };
        Measured {
            bundle: bundle.into(),
            threads,
            inference: spread,
            scan: spread,
            slowest_scan,
            cold_start: 1.0,
            memory: None,
            logits: vec![logit],
        }
    }

    #[test]
    fn the_budget_is_for_the_judging_bundle_with_all_cores() {
        let board = board();
        let [first, second] = [&*board.bundles[0], &*board.bundles[1]];
        let good = [measured(first, 1, 900.0, 1.0), measured(first, 4, 250.0, 1.0)];
        assert!(check_budget(&board, &good).is_ok());
        let slow = [measured(first, 1, 1.0, 1.0), measured(first, 4, 251.0, 1.0)];
        let error = check_budget(&board, &slow).unwrap_err().to_string();
        assert!(error.contains("took 251 ms, Raspberry Pi 5 has 250 ms"), "{error}");
        assert!(check_budget(&board, &[measured(second, 4, 1.0, 1.0)]).is_err());
    }

    #[test]
    fn threads_do_not_change_the_answer() {
        let same = [measured("a", 1, 1.0, 0.5), measured("a", 2, 1.0, 0.5)];
        assert!(check_same(&same).is_ok());
        let other = [measured("a", 1, 1.0, 0.5), measured("b", 1, 1.0, 7.0)];
        assert!(check_same(&other).is_ok());
        let differ = [measured("a", 1, 1.0, 0.5), measured("a", 2, 1.0, 0.500_001)];
        assert!(check_same(&differ).is_err());
    }

    #[test]
    fn without_an_archive_it_is_said_how_to_make_one() {
        let folder = tempfile::tempdir().unwrap();
        let error = newest_archive(folder.path(), &board()).unwrap_err().to_string();
        assert!(error.contains("cargo xtask dist --board rpi5"), "{error}");
        let archive = archive(folder.path());
        assert_eq!(newest_archive(folder.path(), &board()).unwrap(), archive);
    }

    #[test]
    fn a_sample_that_is_not_judged_is_no_measurement() {
        let line = r#"{"file": "a.png", "error": "no picture"}"#;
        assert!(milliseconds(line).unwrap_err().to_string().contains("no picture"));
        assert!(milliseconds("hello").is_err());
    }
}
