//! `device bench`: one contender of `cargo xtask bench`, run whenever it is asked to.

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Args;
use models::label::COUNT;
use models::preprocess::{SIDE, input_from_radiograph};
use models::radiograph::Radiograph;
use serde::Deserialize;
use serde_json::json;
use tract_onnx::prelude::*;

use crate::decode::radiograph_from_bytes;
use crate::runtime::engine::EngineOptions;
use crate::scanner::Scanner;

/// Time a network as `cargo xtask bench` asks for it.
///
/// Speaks lines of JSON. First it says `{"ready": {"runtime": ..., "logits": [...]}}` once it has
/// judged the first picture, or `{"failed": reason}`. Then it answers each `{"run": N}` with
/// `{"ns": [...], "cam_ns": [...]}`: the wall time of each of N inferences in nanoseconds, after
/// one that is not counted, and that of a heat map. It ends with its input.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    task: Task,
    /// Threads of an inference.
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Pictures; only the first one is judged.
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Task {
    /// Bundle to run.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Float ONNX file to run instead, on tract as it comes.
    #[arg(long, value_name = "FILE")]
    tract: Option<PathBuf>,
    /// Run nothing: write the network inputs of all pictures, as little-endian float32.
    #[arg(long, value_name = "FILE")]
    save_inputs: Option<PathBuf>,
}

/// Runs `device bench`.
///
/// # Errors
/// When inputs cannot be saved, a line is no request, or a loaded network cannot be run.
pub fn run(args: BenchArgs) -> anyhow::Result<()> {
    if let Some(file) = &args.task.save_inputs {
        return save_inputs(file, &args.pictures);
    }
    let mut contender = match loaded(&args).and_then(|mut c| Ok((c.logits()?, c))) {
        Ok((logits, contender)) => {
            answer(json!({"ready": {"runtime": contender.runtime(), "logits": logits}}))?;
            contender
        }
        Err(error) => {
            // Whoever asked puts the reason into its table and goes on.
            answer(json!({"failed": format!("{error:#}")}))?;
            return Ok(());
        }
    };
    for line in io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line?).context("not a request")?;
        let (ns, cam_ns) = contender.times(request.run)?;
        answer(json!({"ns": ns, "cam_ns": cam_ns}))?;
    }
    Ok(())
}

/// A request for a turn.
#[derive(Deserialize)]
struct Request {
    /// Counted inferences.
    run: usize,
}

fn answer(line: serde_json::Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// A network with a picture in front of it.
enum Contender {
    Bundle { scanner: Box<Scanner>, scan: Radiograph },
    Tract { plan: Arc<TypedRunnableModel>, input: TValue },
}

fn loaded(args: &BenchArgs) -> anyhow::Result<Contender> {
    let scan = decoded(&args.pictures[0])?;
    match (&args.task.bundle, &args.task.tract) {
        (Some(dir), _) => {
            let options = EngineOptions { threads: args.threads, ..EngineOptions::default() };
            let scanner = Box::new(Scanner::load_with(dir, options)?);
            Ok(Contender::Bundle { scanner, scan })
        }
        (None, Some(file)) => {
            ensure!(args.threads == 1, "plain tract runs on one thread");
            let plan =
                tract_onnx::onnx().model_for_path(file)?.into_optimized()?.into_runnable()?;
            let input = input_from_radiograph(&scan);
            let side = SIDE as usize;
            let input = Tensor::from_shape(&[1, 1, side, side], &input.values)?.into_tvalue();
            Ok(Contender::Tract { plan, input })
        }
        (None, None) => bail!("nothing to run: name --bundle or --tract"),
    }
}

impl Contender {
    fn runtime(&self) -> &'static str {
        match self {
            Self::Bundle { .. } => concat!("Spinesight ", env!("CARGO_PKG_VERSION")),
            Self::Tract { .. } => "tract",
        }
    }

    /// Raw outputs for the picture, in class order.
    fn logits(&mut self) -> anyhow::Result<[f32; COUNT]> {
        match self {
            Self::Bundle { scanner, scan } => Ok(scanner.scan(scan)?.logits),
            Self::Tract { plan, input } => {
                let outputs = plan.run(tvec!(input.clone()))?;
                let logits = outputs[0].to_plain_array_view::<f32>()?;
                let logits: Vec<f32> = logits.iter().copied().collect();
                logits.try_into().map_err(|_| anyhow::anyhow!("the first output is not the logits"))
            }
        }
    }

    /// Wall times in nanoseconds: of `count` inferences, after one that is not counted; and of
    /// what a bundle needs behind an inference for logits and heat map.
    fn times(&mut self, count: usize) -> anyhow::Result<(Vec<u128>, Vec<u128>)> {
        match self {
            Self::Bundle { scanner, scan } => {
                let cam = scanner.scan(scan)?.latency.cam * 1e6;
                let input = input_from_radiograph(scan);
                let ns = timed(count, || Ok(scanner.engine().run(&input)?))?;
                Ok((ns, vec![cam as u128]))
            }
            Self::Tract { plan, input } => {
                let run = || plan.run(tvec!(input.clone()));
                run()?;
                Ok((timed(count, run)?, Vec::new()))
            }
        }
    }
}

/// Wall times in nanoseconds of `count` calls.
fn timed<T>(count: usize, run: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<Vec<u128>> {
    let once = |_| {
        let start = Instant::now();
        run()?;
        Ok(start.elapsed().as_nanos())
    };
    (0..count).map(once).collect()
}

fn save_inputs(file: &Path, pictures: &[PathBuf]) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    for picture in pictures {
        let input = input_from_radiograph(&decoded(picture)?);
        bytes.extend(input.values.iter().flat_map(|value| value.to_le_bytes()));
    }
    fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

fn decoded(picture: &Path) -> anyhow::Result<Radiograph> {
    let bytes = fs::read(picture).with_context(|| format!("cannot read {}", picture.display()))?;
    radiograph_from_bytes(&bytes).with_context(|| format!("cannot decode {}", picture.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(format!("bench {line}").split_whitespace())
    }

    #[test]
    fn a_call_names_one_task_and_a_picture() {
        assert_eq!(parse("--bundle zoo/a --threads 2 a.png").unwrap().args.threads, 2);
        assert_eq!(parse("--save-inputs f a.png b.png").unwrap().args.pictures.len(), 2);
        assert!(parse("a.png").is_err());
        assert!(parse("--bundle zoo/a").is_err());
        assert!(parse("--bundle zoo/a --tract f.onnx a.png").is_err());
    }

    #[test]
    fn a_turn_has_the_times_asked_for() {
        let dir =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/zoo/resnet50-finetuned-int8");
        let picture = dir.join("golden/input.png");
        let line = format!("--bundle {} {}", dir.display(), picture.display());
        let mut contender = loaded(&parse(&line).unwrap().args).unwrap();
        let Contender::Bundle { scanner, .. } = &contender else { panic!("not a bundle") };
        let expected = scanner.bundle().golden.expected.logits;
        assert_eq!(contender.logits().unwrap(), expected);
        let (ns, cam_ns) = contender.times(2).unwrap();
        assert_eq!((ns.len(), cam_ns.len()), (2, 1));
        assert!(
            loaded(&parse(&format!("--tract no-such-file {}", picture.display())).unwrap().args)
                .is_err()
        );
    }

    #[test]
    fn saved_inputs_are_what_the_network_sees() {
        let folder = tempfile::tempdir().unwrap();
        let picture = folder.path().join("a.png");
        image::GrayImage::from_fn(60, 70, |x, y| image::Luma([(x * y) as u8]))
            .save(&picture)
            .unwrap();
        let file = folder.path().join("inputs");
        save_inputs(&file, &[picture.clone(), picture.clone()]).unwrap();
        let input = input_from_radiograph(&decoded(&picture).unwrap());
        let saved = fs::read(&file).unwrap();
        let values = saved.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        let expected = input.values.iter().chain(&input.values).copied();
        assert!(values.eq(expected));
    }
}
