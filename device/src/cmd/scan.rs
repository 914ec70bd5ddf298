//! `device scan`: judge picture files.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use image::codecs::png::PngEncoder;
use image::{ImageBuffer, ImageResult, PixelWithColorType};
use models::radiograph::Radiograph;

use super::bundle_dirs;
use super::engine::EngineArgs;
use crate::decode::{DecodeError, radiograph_from_bytes};
use crate::overlay::{overlay_on_picture, picture_from_scan};
use crate::page::{self, ModelCard, Origin, PageEntry, Picture};
use crate::record::{FailedRecord, Record, ScanRecord};
use crate::scanner::{Judgement, Scanner};

/// Judge X-ray pictures: PNG, JPEG, TIFF and DICOM files, and folders of them.
///
/// Decision support that flags and explains. Not a diagnosis.
#[derive(Debug, Args)]
pub struct ScanArgs {
    /// Bundle, or folder of bundles; may be given several times [default: models/zoo].
    #[arg(long, value_name = "DIR")]
    bundle: Vec<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Print one JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
    /// Write overlays, results.jsonl and index.html into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Files and folders to judge.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
}

/// Runs `device scan`; the exit code is 1 when a file could not be judged.
///
/// # Errors
/// When a bundle is unusable or results cannot be written; an unusable picture is a result.
pub fn run(args: ScanArgs) -> anyhow::Result<ExitCode> {
    let load = |dir: &PathBuf| {
        let scanner = Scanner::load_with(dir, args.engine.options());
        scanner.with_context(|| format!("bundle {}", dir.display()))
    };
    let scanners =
        bundle_dirs(&args.bundle)?.iter().map(load).collect::<anyhow::Result<Vec<_>>>()?;
    let files = files(&args.images);
    if let Some(out) = &args.out {
        fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    }
    if !args.json {
        println!(
            "{:32} {:22} {:9} {:18} {:>6} {:>9}",
            "image", "model", "verdict", "class", "prob.", "time"
        );
    }
    let mut stems = Stems::default();
    let mut entries = Vec::new();
    for file in &files {
        for entry in judged(file, &scanners, args.out.as_deref(), &mut stems)? {
            print_record(&entry.record, args.json)?;
            entries.push(entry);
        }
    }
    if let Some(out) = &args.out {
        let page = write_results(out, &entries, &scanners)?;
        if !args.json {
            println!("\n{}\nOpen {} to see the pictures.", page::STATEMENT, page.display());
        }
    } else if !args.json {
        println!("\n{}", page::STATEMENT);
    }
    let failed = entries.iter().any(|e| matches!(e.record, Record::Failed(_)));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Every named file, and every file below a named folder, hidden ones aside.
fn files(named: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in named {
        if path.is_dir() { collect(path, &mut found) } else { found.push(path.clone()) }
    }
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else {
        // Reported like an unreadable file.
        found.push(dir.to_path_buf());
        return;
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(Result::ok).map(|e| e.path()).collect();
    paths.sort();
    let hidden = |p: &Path| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
    for path in paths.into_iter().filter(|p| !hidden(p)) {
        if path.is_dir() { collect(&path, found) } else { found.push(path) }
    }
}

/// What all bundles say of one file; a single failure when it cannot be decoded.
fn judged(
    file: &Path,
    scanners: &[Scanner],
    out: Option<&Path>,
    stems: &mut Stems,
) -> anyhow::Result<Vec<PageEntry>> {
    let start = Instant::now();
    let scan = match decoded(file) {
        Ok(scan) => scan,
        Err(error) => {
            let record = FailedRecord { file: file.display().to_string(), error };
            return Ok(vec![PageEntry { record: Record::Failed(record), picture: None }]);
        }
    };
    let decode = start.elapsed().as_secs_f64() * 1e3;
    let files = out.map(|dir| Pictures::write(dir, &stems.unique(file), &scan)).transpose()?;
    let mut entries = Vec::new();
    for scanner in scanners {
        let mut judgement = scanner.scan(&scan)?;
        judgement.latency.decode = decode;
        let name = &scanner.bundle().card.name;
        let overlay = files.as_ref().map(|f| f.write_overlay(name, &judgement)).transpose()?;
        let record = ScanRecord {
            overlay: overlay.flatten(),
            ..scanner.record(file.display().to_string(), &scan, &judgement)
        };
        let picture = files.as_ref().map(|f| f.picture.clone());
        entries.push(PageEntry { record: Record::Scan(Box::new(record)), picture });
    }
    Ok(entries)
}

fn decoded(file: &Path) -> Result<Radiograph, String> {
    let bytes = fs::read(file).map_err(|e| format!("cannot be read: {e}"))?;
    radiograph_from_bytes(&bytes).map_err(|e: DecodeError| e.to_string())
}

/// The pictures of one scan in the output folder.
struct Pictures {
    dir: PathBuf,
    stem: String,
    grey: image::GrayImage,
    picture: Picture,
}

impl Pictures {
    fn write(dir: &Path, stem: &str, scan: &Radiograph) -> anyhow::Result<Self> {
        let grey = picture_from_scan(scan);
        let path = format!("{stem}.scan.png");
        save(&grey, &dir.join(&path))?;
        let picture = Picture { path, width: scan.width(), height: scan.height() };
        Ok(Self { dir: dir.to_path_buf(), stem: stem.to_string(), grey, picture })
    }

    /// Writes a bundle's overlay; none where there is no map to show.
    fn write_overlay(&self, bundle: &str, judgement: &Judgement) -> anyhow::Result<Option<String>> {
        let Some(map) = &judgement.cam else { return Ok(None) };
        let name = format!("{}.{bundle}.overlay.png", self.stem);
        let overlay = overlay_on_picture(&self.grey, &map.heat, judgement.frame);
        save(&overlay, &self.dir.join(&name))?;
        Ok(Some(name))
    }
}

/// Writes a picture as PNG.
fn save<P>(picture: &ImageBuffer<P, Vec<u8>>, path: &Path) -> anyhow::Result<()>
where
    P: PixelWithColorType<Subpixel = u8>,
{
    let write = || -> ImageResult<()> {
        let mut file = BufWriter::new(File::create(path)?);
        picture.write_with_encoder(PngEncoder::new(&mut file))?;
        Ok(file.flush()?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Names for output files: a source's own, numbered where two sources share it.
#[derive(Default)]
struct Stems {
    seen: HashMap<String, usize>,
}

impl Stems {
    fn unique(&mut self, file: &Path) -> String {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let count = self.seen.entry(stem.clone()).or_insert(0);
        *count += 1;
        if *count == 1 { stem } else { format!("{stem}-{count}") }
    }
}

fn print_record(record: &Record, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(record)?);
        return Ok(());
    }
    let leaf =
        |file: &str| Path::new(file).file_name().unwrap_or_default().to_string_lossy().into_owned();
    match record {
        Record::Scan(scan) => println!(
            "{:32} {:22} {:9} {:18} {:>5.1}% {:>6.0} ms",
            leaf(&scan.file),
            scan.bundle.name,
            scan.verdict.name(),
            scan.class,
            scan.probabilities.of(scan.class) * 100.0,
            scan.latency_ms.total()
        ),
        Record::Failed(failed) => println!("{:32} error: {}", leaf(&failed.file), failed.error),
    }
    Ok(())
}

/// Writes `results.jsonl` and `index.html`; returns the page's path.
fn write_results(
    out: &Path,
    entries: &[PageEntry],
    scanners: &[Scanner],
) -> anyhow::Result<PathBuf> {
    let mut lines = String::new();
    for entry in entries {
        lines.push_str(&serde_json::to_string(&entry.record)?);
        lines.push('\n');
    }
    fs::write(out.join("results.jsonl"), lines).context("cannot write results.jsonl")?;
    let cards: Vec<ModelCard> = scanners.iter().map(model_card).collect();
    let origin = Origin {
        program: format!("Spinesight device {}", env!("CARGO_PKG_VERSION")),
        time: chrono::Local::now().format("%Y-%m-%d %H:%M").to_string(),
    };
    let page = out.join("index.html");
    fs::write(&page, page::render(entries, &cards, &origin)).context("cannot write index.html")?;
    Ok(page)
}

fn model_card(scanner: &Scanner) -> ModelCard {
    let bundle = scanner.bundle();
    let results = &bundle.card.results;
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let controls: Vec<String> = results
        .controls
        .iter()
        .map(|(name, share)| format!("{name} {}", percent(*share)))
        .collect();
    ModelCard {
        name: bundle.card.name.clone(),
        architecture: bundle.card.architecture.to_string(),
        accuracy: format!("{} of {} images", percent(results.accuracy), results.images),
        interval: format!("{} to {}", percent(results.interval[0]), percent(results.interval[1])),
        controls: controls.join(", "),
        digest: bundle.digest.clone(),
    }
}
