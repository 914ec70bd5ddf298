//! Result objects of a judged scan, for the archive: a picture, a report and a contour.
//!
//! - `capture`, `caption`: the scan under its heat map, with the verdict below (Secondary Capture);
//! - `report`, `content`: the verdict with its numbers and reasons (Comprehensive SR, TID 1500);
//! - `presentation`, `contour`: a line around the half-hot region, drawn over the scan itself by
//!   the viewer (Grayscale Softcopy Presentation State);
//! - [`uid`], `code`, `dataset`, `modules`, `words`: what they share.
//!
//! The same scan judged by the same bundle on the same board gives the same objects, bit for bit.
//! All text of ours is ASCII and so agrees with every character set that a source may declare.

mod caption;
mod capture;
mod code;
mod content;
mod contour;
mod dataset;
mod modules;
mod presentation;
mod report;
pub mod uid;
mod words;

#[cfg(test)]
mod tests;

use chrono::{DateTime, FixedOffset};
use dicom_dictionary_std::uids;
use dicom_object::meta::FileMetaTableBuilder;
use dicom_object::{InMemDicomObject, WithMetaError, WriteError};
use image::RgbImage;
use models::preprocess::{Letterbox, SIDE};

use crate::dicom::source::{Source, Tones};
use crate::record::ScanRecord;

/// What was decided about a scan, and when.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Verdict, probabilities, reasons, model.
    pub record: ScanRecord,
    /// The scan under its heat map; or in plain grey, where it has none.
    pub overlay: RgbImage,
    /// The map that the overlay shows, where there is one.
    pub heat: Option<Heat>,
    /// When the scan arrived, as the wall clock and the time zone of the board had it.
    pub received: DateTime<FixedOffset>,
}

/// A class activation map as [`overlay_from_cam`](crate::overlay::overlay_from_cam) takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Heat {
    /// [`SIDE`] x [`SIDE`] values of 0 to 1 in row order.
    pub values: Vec<f32>,
    /// Where the scan lies in the map.
    pub frame: Letterbox,
}

/// The board, as archives list it. Characters beyond ASCII become question marks, and what exceeds
/// the length of its DICOM attribute is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Manufacturer, up to 64 characters.
    pub manufacturer: String,
    /// Model name, up to 64 characters.
    pub model: String,
    /// Serial number, up to 64 characters; tells boards apart.
    pub serial: String,
    /// Station name, up to 16 characters.
    pub station: String,
    /// Version of the software, up to 64 characters.
    pub software: String,
    /// AE title, up to 16 characters.
    pub ae_title: String,
}

/// A kind of result object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The overlay as a picture that every viewer shows.
    SecondaryCapture,
    /// The structured report.
    Report,
    /// The contour over the source image.
    PresentationState,
}

/// A result object, ready to be sent or stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// SOP Class UID.
    pub sop_class: &'static str,
    /// SOP Instance UID.
    pub sop_instance: String,
    /// A DICOM file (PS3.10) in explicit VR little endian.
    pub bytes: Vec<u8>,
}

/// Why a result object cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// The overlay is empty or larger than a DICOM image may be.
    #[error("an overlay of {0} x {1} pixels does not fit a DICOM image")]
    OverlaySize(u32, u32),
    /// The heat map has another size.
    #[error("a heat map of {0} values instead of {SIDE} x {SIDE}")]
    HeatSize(usize),
    /// The file's meta group is incomplete.
    #[error("the DICOM meta group cannot be formed")]
    Meta(#[source] Box<WithMetaError>),
    /// The encoder failed.
    #[error("the DICOM object cannot be encoded")]
    Write(#[source] Box<WriteError>),
}

impl Kind {
    /// The SOP Class UID of this kind.
    pub fn sop_class(self) -> &'static str {
        match self {
            Kind::SecondaryCapture => uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
            Kind::Report => uids::COMPREHENSIVE_SR_STORAGE,
            Kind::PresentationState => uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE,
        }
    }

    /// The word that tells the UIDs of the kinds apart.
    fn name(self) -> &'static str {
        match self {
            Kind::SecondaryCapture => "capture",
            Kind::Report => "report",
            Kind::PresentationState => "presentation",
        }
    }
}

/// Makes the result objects: always a capture and a report; a presentation state where there is a
/// heat map and the source is a monochrome DICOM image.
///
/// # Errors
/// When overlay or heat map have an impossible size, or the encoder refuses an object.
pub fn make(source: &Source, judged: &Judged, device: &Device) -> Result<Vec<Object>, ResultError> {
    let scene = Scene { source, judged, device };
    let mut made = vec![
        (Kind::SecondaryCapture, capture::data_set(&scene)?),
        (Kind::Report, report::data_set(&scene)),
    ];
    if let Some(heat) = &judged.heat {
        if heat.values.len() != (SIDE * SIDE) as usize {
            return Err(ResultError::HeatSize(heat.values.len()));
        }
        if let Some(image) = source.image.as_ref().filter(|i| i.tones != Tones::Colour) {
            let state = presentation::data_set(&scene, image, heat);
            made.push((Kind::PresentationState, state));
        }
    }
    made.into_iter().map(|(kind, data_set)| encoded(&scene, kind, data_set)).collect()
}

/// All that a result object is made from.
struct Scene<'a> {
    source: &'a Source,
    judged: &'a Judged,
    device: &'a Device,
}

impl Scene<'_> {
    /// A UID for `role`: one for each source, bundle and board.
    fn uid(&self, of: &str, role: &str) -> String {
        let bundle = &self.judged.record.bundle.digest;
        uid::derived(&[of, bundle, &self.device.serial, role])
    }

    /// SOP Instance UID of a kind.
    fn instance(&self, kind: Kind) -> String {
        self.uid(&self.source.instance, kind.name())
    }

    /// Series Instance UID of a kind: one for each series of sources.
    fn series(&self, kind: Kind) -> String {
        self.uid(&self.source.series, &format!("{} series", kind.name()))
    }
}

fn encoded(
    scene: &Scene<'_>,
    kind: Kind,
    data_set: InMemDicomObject,
) -> Result<Object, ResultError> {
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .source_application_entity_title(dataset::ascii(&scene.device.ae_title, 16));
    let file = data_set.with_meta(meta).map_err(|e| ResultError::Meta(Box::new(e)))?;
    let mut bytes = Vec::new();
    file.write_all(&mut bytes).map_err(|e| ResultError::Write(Box::new(e)))?;
    Ok(Object { kind, sop_class: kind.sop_class(), sop_instance: scene.instance(kind), bytes })
}
