//! The judge: takes scans from the spool, oldest first, and writes verdicts back.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, ImageResult};
use models::radiograph::Radiograph;

use super::memory;
use super::model::Model;
use super::worker::{Step, Worker};
use crate::decode::radiograph_from_vec;
use crate::event::Event;
use crate::overlay::{overlay_on_picture, picture_from_scan};
use crate::record::{FailedRecord, Record, ScanRecord};
use crate::scanner::Scanner;
use crate::spool::{Judged, SpoolError, Work};

/// The scan in plain grey.
pub(super) const SCAN_PICTURE: &str = "scan.png";
/// The scan under its heat map.
pub(super) const OVERLAY_PICTURE: &str = "overlay.png";
/// The heat map: 224 x 224 little-endian 32-bit floats in row order.
pub(super) const HEAT: &str = "heat.f32";
/// Pixels across and down of a scan with a heat map: two little-endian 32-bit numbers.
pub(super) const SIZE: &str = "size.u32";

/// How often a scan may make the service die before it counts as one that cannot be judged.
const MOST_TRIES: u32 = 3;

/// Judges the oldest waiting scan.
///
/// # Errors
/// When the spool fails; the scan stays where it is and is judged again.
pub(super) fn step(worker: &Worker, model: &mut Model) -> Result<Step, SpoolError> {
    model.refresh(worker);
    let Some(work) = worker.spool.next_received()? else { return Ok(Step::Idle) };
    let started = Instant::now();
    let judged = if work.tries < MOST_TRIES {
        judged(&work, model.scanner())
    } else {
        failed("judging it ended the service three times")
    };
    let event = event(&work, &judged.record, worker.hub.age(work.id, started));
    worker.spool.judged(work.id, judged)?;
    worker.hub.tell(event);
    Ok(Step::Worked)
}

fn event(work: &Work, record: &Record, latency_ms: u32) -> Event {
    match record {
        Record::Failed(_) => Event::Unjudged { scan: work.id },
        Record::Scan(scan) => Event::Judged {
            scan: work.id,
            verdict: scan.verdict,
            class: scan.class,
            probability: scan.probabilities.of(scan.class),
            bundle: scan.bundle.digest.clone(),
            latency_ms,
        },
    }
}

/// Decoders are not ours and the file is not trusted: a panic is a scan that cannot be judged.
fn judged(work: &Work, scanner: &Scanner) -> Judged {
    let outcome = catch_unwind(AssertUnwindSafe(|| judgement(work, scanner)));
    match outcome {
        Ok(Ok(judged)) => judged,
        Ok(Err(reason)) => failed(&reason),
        Err(_) => failed("its content made the decoder fail"),
    }
}

fn failed(reason: &str) -> Judged {
    let record = FailedRecord { file: String::new(), error: reason.to_owned() };
    Judged { record: Record::Failed(record), files: Vec::new() }
}

fn judgement(work: &Work, scanner: &Scanner) -> Result<Judged, String> {
    let start = Instant::now();
    let turn = memory::turn();
    let bytes = std::fs::read(&work.source).map_err(|error| format!("cannot be read: {error}"))?;
    let scan = radiograph_from_vec(bytes).map_err(|error| error.without_content())?;
    drop(turn);
    let decode = start.elapsed().as_secs_f64() * 1e3;
    let mut judgement = scanner.scan(&scan).map_err(|error| error.to_string())?;
    judgement.latency.decode = decode;
    let record = scanner.record(work.id.to_string(), &scan, &judgement);
    let heat = judgement.cam.as_ref().map(|map| (map.heat.as_slice(), judgement.frame));
    let files = pictures(&scan, heat).map_err(|error| error.to_string())?;
    let overlay = heat.map(|_| OVERLAY_PICTURE.to_owned());
    Ok(Judged { record: Record::Scan(Box::new(ScanRecord { overlay, ..record })), files })
}

fn pictures(
    scan: &Radiograph,
    heat: Option<(&[f32], models::preprocess::Letterbox)>,
) -> ImageResult<Vec<(String, Vec<u8>)>> {
    let grey = picture_from_scan(scan);
    let mut files = Vec::new();
    if let Some((heat, frame)) = heat {
        let overlay = overlay_on_picture(&grey, heat, frame);
        files.push((OVERLAY_PICTURE.to_owned(), png(&overlay.into())?));
        files.push((HEAT.to_owned(), heat.iter().flat_map(|value| value.to_le_bytes()).collect()));
        let size = [scan.width(), scan.height()];
        files.push((SIZE.to_owned(), size.iter().flat_map(|side| side.to_le_bytes()).collect()));
    }
    files.push((SCAN_PICTURE.to_owned(), png(&grey.into())?));
    Ok(files)
}

/// Fast rather than small: the files live for days, the operator waits now.
fn png(picture: &DynamicImage) -> ImageResult<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    let encoder =
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive);
    picture.write_with_encoder(encoder)?;
    Ok(bytes.into_inner())
}
