//! The renderer: makes the result objects of judged scans.

use std::fs;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use chrono::{DateTime, FixedOffset, Local, TimeZone};
use image::DynamicImage;
use image::codecs::png::PngDecoder;
use models::preprocess::Letterbox;

use super::judge::{HEAT, OVERLAY_PICTURE, SCAN_PICTURE};
use super::memory;
use super::worker::{Step, Worker};
use crate::dicom::results::{self, Device, Heat, Kind};
use crate::dicom::source::Source;
use crate::event::Event;
use crate::record::{Record, ScanRecord};
use crate::spool::{Object, Spool, SpoolError, Work};

/// The received scan itself among the objects to deliver.
pub(super) const SOURCE: &str = "source";

/// How often a scan may make the service die before it goes without result objects.
const MOST_TRIES: u32 = 3;

/// Makes the result objects of the oldest scan that waits for them.
///
/// # Errors
/// When the spool fails; the scan stays where it is and is rendered again.
pub(super) fn step(worker: &Worker, device: &Device, forward: bool) -> Result<Step, SpoolError> {
    let Some(work) = worker.spool.next_judged()? else { return Ok(Step::Idle) };
    let made = match worker.spool.judgement(work.id) {
        Some(Record::Scan(record)) if work.tries < MOST_TRIES => {
            let make = AssertUnwindSafe(|| objects(&worker.spool, &work, &record, device));
            catch_unwind(make).unwrap_or_else(|_| Err("making the result objects failed".into()))
        }
        Some(Record::Failed(_)) => Ok(Vec::new()),
        _ => Err("there is no judgement to report".into()),
    };
    let mut objects = made.unwrap_or_else(|reason: String| {
        worker.hub.trouble("results", &reason);
        worker.hub.tell(Event::Unreported { scan: work.id });
        Vec::new()
    });
    if forward && !work.sop_instance.is_empty() {
        objects.extend(source_object(&work));
    }
    worker.spool.rendered(work.id, objects)?;
    Ok(Step::Worked)
}

fn objects(
    spool: &Spool,
    work: &Work,
    record: &ScanRecord,
    device: &Device,
) -> Result<Vec<Object>, String> {
    let words = |error: &dyn std::error::Error| error.to_string();
    let _turn = memory::turn();
    let bytes = fs::read(&work.source).map_err(|error| words(&error))?;
    let source = Source::from_bytes(&bytes).map_err(|error| words(&error))?;
    drop(bytes);
    let judged = judged(spool, work, record, &source)?;
    let made = results::make(&source, &judged, device).map_err(|error| words(&error))?;
    Ok(made
        .into_iter()
        .map(|object| Object {
            kind: word(object.kind).to_owned(),
            sop_class: object.sop_class.to_owned(),
            sop_instance: object.sop_instance,
            bytes: object.bytes,
        })
        .collect())
}

fn judged(
    spool: &Spool,
    work: &Work,
    record: &ScanRecord,
    source: &Source,
) -> Result<results::Judged, String> {
    let picture = if record.overlay.is_some() { OVERLAY_PICTURE } else { SCAN_PICTURE };
    let png = spool.file(work.id, picture).map_err(|error| error.to_string())?;
    let overlay = PngDecoder::new(Cursor::new(&png)).and_then(DynamicImage::from_decoder);
    let overlay = overlay.map_err(|error| error.to_string())?.into_rgb8();
    let heat = spool.file(work.id, HEAT).ok().map(|bytes| Heat {
        values: bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect(),
        frame: Letterbox::fit(source.columns, source.rows),
    });
    let view = spool.get(work.id).map_err(|error| error.to_string())?;
    Ok(results::Judged { record: record.clone(), overlay, heat, received: moment(view.received) })
}

/// A stored time in the board's time zone.
fn moment(seconds: i64) -> DateTime<FixedOffset> {
    let local = Local.timestamp_opt(seconds, 0).single();
    local.map_or_else(|| DateTime::UNIX_EPOCH.fixed_offset(), |time| time.fixed_offset())
}

/// The word for a kind of object in the spool and the configuration.
pub(super) fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::SecondaryCapture => "secondary-capture",
        Kind::Report => "report",
        Kind::PresentationState => "presentation-state",
    }
}

/// The scan itself, for destinations that want it too. A file that cannot be read is not sent.
fn source_object(work: &Work) -> Option<Object> {
    let bytes = fs::read(&work.source).ok()?;
    Some(Object {
        kind: SOURCE.to_owned(),
        sop_class: work.sop_class.clone(),
        sop_instance: work.sop_instance.clone(),
        bytes,
    })
}
