//! `cargo xtask bench`: this machine's answer to how fast, how large and how hungry the board's
//! program is beside other runtimes.
//!
//! One comparison for each network and number of threads: all contenders ([`contender`]) run as
//! processes ([`child`]) that wait for their turn. A round gives each a turn of a few inferences,
//! and each round starts with another one, so that drift of the machine hits all alike. [`report`]
//! and [`chart`] show what came out.

mod chart;
pub mod child;
mod contender;
mod energy;
mod report;
pub mod stats;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::demo;
use crate::paths::Paths;
use crate::remote;
use child::{Process, Turn};
use contender::{Contender, Course, Launch, Programs};
use energy::Meter;
use report::{Comparison, Figures, Machine, Row};
use stats::Spread;

/// Pause after each turn, in which the thread pool of that contender stops spinning.
const PAUSE: Duration = Duration::from_millis(50);
/// Answers may differ by this share of the largest logit: int8 against float, on one picture.
const SAME: f64 = 0.35;

/// Command line of the comparison.
#[derive(clap::Args)]
pub struct Arguments {
    /// Rounds in which each contender has a turn
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Counted inferences of a turn, behind one that is not
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Process starts that the cold start is taken from
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    starts: u32,
    /// Few rounds, runs and starts: a look, not a measurement
    #[arg(long, conflicts_with_all = ["rounds", "runs", "starts"])]
    quick: bool,
    /// Numbers of threads to compare at
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_name = "N,N",
          value_parser = clap::value_parser!(u16).range(1..))]
    threads: Vec<u16>,
    /// Bundles of the zoo, by the beginning of their names
    #[arg(long, value_delimiter = ',', default_value = "resnet50,vgg16-gap", value_name = "NAMES")]
    models: Vec<String>,
    /// Only these contenders
    #[arg(long, value_enum, value_delimiter = ',', value_name = "CONTENDER")]
    only: Vec<Contender>,
    /// Another copy of the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Folder for table.md, results.json and chart.svg [default: `bench` in the clone]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Measure what `cargo xtask dist` made for a board of `xtask/boards` on that board, over SSH,
    /// and compare it with the board's budget; results are saved in `bench/BOARD`
    #[arg(long, value_name = "BOARD",
          conflicts_with_all = ["starts", "threads", "models", "only", "json"])]
    on: Option<String>,
    /// With --on: the archive [default: the newest for that board in `dist`]
    #[arg(long, value_name = "FILE", requires = "on")]
    archive: Option<PathBuf>,
    #[command(flatten)]
    address: remote::Address,
}

impl Arguments {
    fn effort(&self) -> Effort {
        if self.quick {
            return Effort { rounds: 3, runs: 2, starts: 1 };
        }
        Effort { rounds: self.rounds, runs: self.runs, starts: self.starts }
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Effort {
    rounds: u32,
    runs: u32,
    starts: u32,
}

/// Runs all comparisons; prints the tables and saves them.
///
/// # Errors
/// When the device program does not build, a bundle is missing, or results cannot be written. A
/// contender that does not run here is a line of the table, not an error.
pub fn run(paths: &Paths, arguments: &Arguments) -> Result<()> {
    let effort = arguments.effort();
    if let Some(board) = &arguments.on {
        let effort = remote::bench::Effort { rounds: effort.rounds, runs: effort.runs };
        let (archive, out) = (arguments.archive.as_deref(), arguments.out.as_deref());
        return remote::bench::run(paths, board, &arguments.address, archive, effort, out);
    }
    let zoo = demo::bundles(&paths.root.join("models/zoo"))?;
    let named = |name: &String| bundle_named(&zoo, name);
    let bundles = arguments.models.iter().map(named).collect::<Result<Vec<_>>>()?;
    let samples = demo::samples(&paths.root.join("models/samples"))?;
    let all = Contender::value_variants();
    let contenders = if arguments.only.is_empty() { all } else { &arguments.only };
    let programs = Programs::provide(paths, contenders)?;
    let meter = Meter::find(Path::new("/sys"));
    let mut courses = Vec::new();
    for bundle in bundles {
        let mut course = Course::new(paths, &programs, bundle.clone(), &samples)?;
        let entries: Vec<_> = contenders.iter().map(|&c| (c, course.launch(c))).collect();
        courses.push((file_name(&bundle), entries));
    }
    // The load of building and converting is over; what is left is not ours.
    let machine = Machine::describe(paths);
    let mut comparisons = Vec::new();
    for (model, entries) in &courses {
        for &threads in &arguments.threads {
            let threads = usize::from(threads);
            eprintln!("measuring {model}, threads: {threads}");
            let rows = compared(entries, threads, effort, meter.as_ref());
            comparisons.push(Comparison { model: model.clone(), threads, rows });
        }
    }
    let out = arguments.out.clone().unwrap_or_else(|| paths.root.join("bench"));
    save(&out, arguments.json.as_deref(), &machine, &comparisons)
}

fn bundle_named(zoo: &[PathBuf], name: &str) -> Result<PathBuf> {
    let found = zoo.iter().find(|bundle| file_name(bundle).starts_with(name));
    found.cloned().with_context(|| {
        let all: Vec<String> = zoo.iter().map(|bundle| file_name(bundle)).collect();
        format!("no bundle of the zoo begins with `{name}`: it holds {}", all.join(", "))
    })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A contender's process with what has been measured of it.
struct Running {
    contender: Contender,
    process: Process,
    runtime: String,
    logits: Vec<f64>,
    model_bytes: u64,
    cold_starts: Vec<f64>,
    inferences: Vec<f64>,
    maps: Vec<f64>,
    energy: Vec<f64>,
    /// Processor time at the end of the pause behind the latest turn, in seconds.
    used: Option<f64>,
    /// Processor time used while others ran, in seconds.
    idle: f64,
}

/// Lets all contenders take turns; one row for each, also for those that do not run.
fn compared(
    entries: &[(Contender, Result<Launch>)],
    threads: usize,
    effort: Effort,
    meter: Option<&Meter>,
) -> Vec<Row> {
    let mut field = Field::default();
    for (contender, launch) in entries {
        match launch {
            Ok(launch) => field.admit(*contender, launch, threads, effort.starts),
            Err(error) => field.absent.push((*contender, format!("{error:#}"))),
        }
    }
    let start = Instant::now();
    for round in 0..effort.rounds as usize {
        field.round(round, effort.runs as usize, meter);
    }
    let wall = start.elapsed().as_secs_f64();
    let Field { running, mut absent } = field;
    let mut present = Vec::new();
    for contender in running {
        let name = contender.contender;
        match contender.figures(wall) {
            Ok(figures) => present.push((name, figures)),
            Err(error) => absent.push((name, format!("{error:#}"))),
        }
    }
    let present = present.into_iter().map(|(contender, figures)| (contender, Ok(figures)));
    let absent = absent.into_iter().map(|(contender, reason)| (contender, Err(reason)));
    let rows = present.chain(absent).map(|(contender, outcome)| Row { contender, outcome });
    let mut rows: Vec<Row> = rows.collect();
    rows.sort_by_key(|row| entries.iter().position(|(contender, _)| *contender == row.contender));
    rows
}

/// Those who run, and those who do not, with the reason.
#[derive(Default)]
struct Field {
    running: Vec<Running>,
    absent: Vec<(Contender, String)>,
}

impl Field {
    /// Starts a contender; it stays when it computes what the first one does.
    fn admit(&mut self, contender: Contender, launch: &Launch, threads: usize, starts: u32) {
        let new = match Running::start(contender, launch, threads, starts) {
            Ok(new) => new,
            Err(error) => return self.absent.push((contender, format!("{error:#}"))),
        };
        match self.running.first().filter(|first| !agree(&new.logits, &first.logits)) {
            None => self.running.push(new),
            Some(first) => {
                let (title, found, expected) =
                    (first.contender.title(), &new.logits, &first.logits);
                let reason = format!("answers {found:.2?}, but {title} {expected:.2?}");
                self.absent.push((contender, reason));
            }
        }
    }

    /// A turn for each; who fails is out.
    fn round(&mut self, number: usize, runs: usize, meter: Option<&Meter>) {
        let count = self.running.len();
        let mut failed = Vec::new();
        for position in 0..count {
            let at = (position + number) % count;
            if let Err(error) = self.running[at].turn(runs, meter) {
                failed.push((self.running[at].contender, format!("{error:#}")));
            }
        }
        self.running.retain(|r| failed.iter().all(|(contender, _)| *contender != r.contender));
        self.absent.extend(failed);
    }
}

impl Running {
    fn start(
        contender: Contender,
        launch: &Launch,
        threads: usize,
        starts: u32,
    ) -> Result<Running> {
        let mut cold_starts = Vec::new();
        for _ in 1..starts {
            let (process, ready) = Process::start(&mut launch.command(threads))?;
            cold_starts.push(ready.cold_start);
            process.finish()?;
        }
        let (process, ready) = Process::start(&mut launch.command(threads))?;
        cold_starts.push(ready.cold_start);
        let size = |file: &PathBuf| Ok(fs::metadata(file)?.len());
        Ok(Running {
            contender,
            process,
            runtime: ready.runtime,
            logits: ready.logits,
            model_bytes: launch.model.iter().map(size).sum::<Result<u64>>()?,
            cold_starts,
            inferences: Vec::new(),
            maps: Vec::new(),
            energy: Vec::new(),
            used: None,
            idle: 0.0,
        })
    }

    fn turn(&mut self, runs: usize, meter: Option<&Meter>) -> Result<()> {
        let waited = self.process.processor_time();
        self.idle += waited.zip(self.used).map_or(0.0, |(now, then)| now - then);
        let mut work = || self.process.turn(runs);
        let (turn, joules) = match meter {
            Some(meter) => meter.measure(work),
            None => (work(), None),
        };
        let Turn { inferences, maps } = turn.context("stopped working")?;
        // The turn's first inference is not timed, but costs as much.
        self.energy.extend(joules.map(|joules| joules / (runs + 1) as f64));
        self.inferences.extend(inferences);
        self.maps.extend(maps);
        thread::sleep(PAUSE);
        self.used = self.process.processor_time();
        Ok(())
    }

    fn figures(self, wall: f64) -> Result<Figures> {
        let figures = Figures {
            runtime: self.runtime,
            latency: Spread::of(&self.inferences).context("nothing was measured")?,
            map: Spread::of(&self.maps),
            cold_start: Spread::of(&self.cold_starts).context("nothing was started")?,
            energy: Spread::of(&self.energy),
            peak_memory: self.process.peak_memory(),
            model_bytes: self.model_bytes,
            idle_share: self.idle / wall,
            inferences: self.inferences,
            logits: self.logits,
        };
        self.process.finish()?;
        Ok(figures)
    }
}

fn agree(a: &[f64], b: &[f64]) -> bool {
    let largest = b.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    // A difference that is not a number is a difference too.
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= SAME * largest)
}

fn save(
    out: &Path,
    json: Option<&Path>,
    machine: &Machine,
    comparisons: &[Comparison],
) -> Result<()> {
    ensure!(!comparisons.is_empty(), "nothing was compared");
    let table = report::markdown(machine, comparisons);
    let results = format!("{:#}\n", report::json(machine, comparisons));
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let write = |file: &Path, content: &str| {
        fs::write(file, content).with_context(|| format!("cannot write {}", file.display()))
    };
    write(&out.join("table.md"), &table)?;
    write(&out.join("results.json"), &results)?;
    write(&out.join("chart.svg"), &chart::svg(comparisons))?;
    if let Some(file) = json {
        write(file, &results)?;
    }
    println!("{table}");
    eprintln!("table.md, results.json and chart.svg are in {}", out.display());
    if comparisons.iter().all(|comparison| comparison.rows.iter().all(|r| r.outcome.is_err())) {
        bail!("no contender runs on this machine");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_are_named_by_their_beginning() {
        let zoo = ["a/resnet50-x-int8", "a/vgg16-gap-y-int8"].map(PathBuf::from);
        assert_eq!(bundle_named(&zoo, "vgg16").unwrap(), zoo[1]);
        let error = bundle_named(&zoo, "lenet").unwrap_err().to_string();
        assert!(error.contains("resnet50-x-int8, vgg16-gap-y-int8"), "{error}");
    }

    fn launch(script: &str) -> Launch {
        Launch::of("sh", &["-c", script])
    }

    #[test]
    fn contenders_take_turns_and_who_fails_is_out_with_a_reason() {
        let ready = r#"echo '{"ready":{"runtime":"x","logits":[1,-1]}}'"#;
        let other = r#"echo '{"ready":{"runtime":"x","logits":[-1,1]}}'"#;
        let works = launch(&format!(r#"{ready}; while read l; do echo '{{"ns":[2e6]}}'; done"#));
        let dies = launch(&format!("{ready}; read l"));
        let differs = launch(&format!("{other}; read l"));
        let entries = [
            (Contender::Ours, Ok(works)),
            (Contender::TractFloat, Ok(dies)),
            (Contender::NcnnFloat, Err(anyhow::anyhow!("no wheel"))),
            (Contender::OpenvinoFloat, Ok(differs)),
        ];
        let effort = Effort { rounds: 2, runs: 1, starts: 1 };
        let rows = compared(&entries, 1, effort, None);
        assert_eq!(rows[0].outcome.as_ref().unwrap().inferences, [2.0, 2.0]);
        let reason = |at: usize| rows[at].outcome.as_ref().err().cloned().unwrap_or_default();
        assert!(reason(1).starts_with("stopped working"), "{}", reason(1));
        assert_eq!(reason(2), "no wheel");
        assert!(reason(3).starts_with("answers [-1.00, 1.00]"), "{}", reason(3));
    }

    #[test]
    fn another_function_is_told_from_rounding() {
        assert!(agree(&[-0.13, 2.88, -2.04], &[-0.30, 2.84, -1.91]));
        assert!(!agree(&[2.88, -0.13, -2.04], &[-0.30, 2.84, -1.91]));
        assert!(!agree(&[f64::NAN, 2.88, -2.04], &[-0.30, 2.84, -1.91]));
        assert!(!agree(&[1.0], &[1.0, 1.0]));
    }
}
