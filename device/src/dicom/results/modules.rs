//! Modules that all result objects have: patient, study, series, equipment, SOP common.

use chrono::{DateTime, FixedOffset};
use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::dataset::{ascii, complete, copy, put, put_all, put_items};
use super::{Kind, Scene, code};
use crate::dicom::source::{Image, Source, text};

/// A data set with the common modules of a kind.
pub fn common(scene: &Scene<'_>, kind: Kind) -> InMemDicomObject {
    let mut object = scene.source.context.clone();
    complete(
        &mut object,
        &[
            (tags::PATIENT_NAME, VR::PN),
            (tags::PATIENT_ID, VR::LO),
            (tags::PATIENT_BIRTH_DATE, VR::DA),
            (tags::PATIENT_SEX, VR::CS),
            (tags::STUDY_DATE, VR::DA),
            (tags::STUDY_TIME, VR::TM),
            (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
            (tags::STUDY_ID, VR::SH),
            (tags::ACCESSION_NUMBER, VR::SH),
        ],
    );
    put(&mut object, tags::STUDY_INSTANCE_UID, VR::UI, &scene.source.study);
    identity(&mut object, scene, kind);
    equipment(&mut object, scene);
    code::put_scheme(&mut object);
    object
}

/// Modules general series (PS3.3 C.7.3.1) and SOP common (C.12.1).
fn identity(object: &mut InMemDicomObject, scene: &Scene<'_>, kind: Kind) {
    let (modality, number, description) = match kind {
        Kind::SecondaryCapture => ("OT", "9001", "Spinesight heat map"),
        Kind::Report => ("SR", "9002", "Spinesight report"),
        Kind::PresentationState => ("PR", "9003", "Spinesight contour"),
    };
    put(object, tags::SOP_CLASS_UID, VR::UI, kind.sop_class());
    put(object, tags::SOP_INSTANCE_UID, VR::UI, &scene.instance(kind));
    put(object, tags::MODALITY, VR::CS, modality);
    put(object, tags::SERIES_INSTANCE_UID, VR::UI, &scene.series(kind));
    put(object, tags::SERIES_NUMBER, VR::IS, number);
    put(object, tags::SERIES_DESCRIPTION, VR::LO, description);
    put(object, tags::INSTANCE_NUMBER, VR::IS, &instance_number(scene.source));
    let moment = moment(scene);
    put(object, tags::INSTANCE_CREATION_DATE, VR::DA, &date(&moment));
    put(object, tags::INSTANCE_CREATION_TIME, VR::TM, &time(&moment));
    let offset = moment.format("%z").to_string();
    put(object, tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH, &offset);
}

/// The source's own number, so that results of one series keep its order.
fn instance_number(source: &Source) -> String {
    let own = source.image.as_ref().and_then(|i| text(&i.details, tags::INSTANCE_NUMBER));
    own.and_then(|n| n.parse::<u32>().ok())
        .filter(|&n| n <= i32::MAX as u32)
        .unwrap_or(1)
        .to_string()
}

/// Module general equipment (PS3.3 C.7.5.1). Its software is the board's, then the model's: the
/// bundle's name and the SHA-256 of its manifest.
fn equipment(object: &mut InMemDicomObject, scene: &Scene<'_>) {
    let device = scene.device;
    put(object, tags::MANUFACTURER, VR::LO, &ascii(&device.manufacturer, 64));
    put(object, tags::MANUFACTURER_MODEL_NAME, VR::LO, &ascii(&device.model, 64));
    put(object, tags::DEVICE_SERIAL_NUMBER, VR::LO, &ascii(&device.serial, 64));
    put(object, tags::STATION_NAME, VR::SH, &ascii(&device.station, 16));
    let bundle = &scene.judged.record.bundle;
    let software = [&device.software, &bundle.name, &bundle.digest].map(|text| ascii(text, 64));
    let software = software.each_ref().map(String::as_str);
    put_all(object, tags::SOFTWARE_VERSIONS, VR::LO, &software);
}

/// What part of the body was imaged, for series of images and presentation states. A side that is
/// not stated stays empty, unless the part has no sides.
pub fn anatomy(object: &mut InMemDicomObject, source: &Source) {
    let details = source.image.as_ref().map(|image| &image.details);
    let stated = |tag| details.and_then(|details| text(details, tag));
    let part = stated(tags::BODY_PART_EXAMINED).unwrap_or_default();
    if let Some(details) = details {
        copy(object, details, &[tags::BODY_PART_EXAMINED]);
    }
    if !UNPAIRED.contains(&part.as_str()) {
        let side = stated(tags::LATERALITY).filter(|side| matches!(side.as_str(), "L" | "R"));
        put(object, tags::LATERALITY, VR::CS, &side.unwrap_or_default());
    }
}

/// Parts of the body without sides (PS3.16 annex L), as far as they show a spine.
const UNPAIRED: [&str; 15] = [
    "ABDOMEN",
    "CHEST",
    "COCCYX",
    "CSPINE",
    "CTSPINE",
    "HEAD",
    "LSPINE",
    "LSSPINE",
    "NECK",
    "PELVIS",
    "SPINE",
    "SSPINE",
    "TLSPINE",
    "TSPINE",
    "WHOLEBODY",
];

/// The moment of the result in the time zone that the source's own times have, where it says so:
/// one attribute tells the zone of all times of an object.
pub fn moment(scene: &Scene<'_>) -> DateTime<FixedOffset> {
    let received = scene.judged.received;
    let stated = text(&scene.source.context, tags::TIMEZONE_OFFSET_FROM_UTC);
    match stated.as_deref().and_then(offset) {
        Some(offset) => received.with_timezone(&offset),
        None => received,
    }
}

/// `+HHMM` or `-HHMM`.
fn offset(text: &str) -> Option<FixedOffset> {
    let (sign, digits) = text.split_at_checked(1)?;
    let all_digits = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit());
    let number: i32 = digits.parse().ok().filter(|_| all_digits)?;
    let seconds = (number / 100 * 60 + number % 100) * 60;
    match sign {
        "+" => FixedOffset::east_opt(seconds),
        "-" => FixedOffset::west_opt(seconds),
        _ => None,
    }
}

/// `YYYYMMDD`.
pub fn date(moment: &DateTime<FixedOffset>) -> String {
    moment.format("%Y%m%d").to_string()
}

/// `HHMMSS.FFF`.
pub fn time(moment: &DateTime<FixedOffset>) -> String {
    moment.format("%H%M%S%.3f").to_string()
}

/// A DICOM object that another refers to.
pub struct Reference {
    /// Series Instance UID.
    pub series: String,
    class: String,
    instance: String,
    /// The frame meant, where there is more than one.
    frame: Option<&'static str>,
}

impl Reference {
    /// The image that was judged.
    pub fn to_source(source: &Source, image: &Image) -> Self {
        Self {
            series: source.series.clone(),
            class: image.class.clone(),
            instance: source.instance.clone(),
            frame: (image.frames > 1 && !has_one_frame(&image.class)).then_some("1"),
        }
    }

    /// The capture made with the same result.
    pub fn to_capture(scene: &Scene<'_>) -> Self {
        let kind = Kind::SecondaryCapture;
        Self {
            series: scene.series(kind),
            class: kind.sop_class().into(),
            instance: scene.instance(kind),
            frame: None,
        }
    }

    /// The object alone, as the item of a sequence (PS3.3 table 10-11).
    pub fn item(&self) -> InMemDicomObject {
        let mut item = InMemDicomObject::new_empty();
        put(&mut item, tags::REFERENCED_SOP_CLASS_UID, VR::UI, &self.class);
        put(&mut item, tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &self.instance);
        item
    }

    /// The object, and in it the frame (PS3.3 table 10-3).
    pub fn image_item(&self) -> InMemDicomObject {
        let mut item = self.item();
        if let Some(frame) = self.frame {
            put(&mut item, tags::REFERENCED_FRAME_NUMBER, VR::IS, frame);
        }
        item
    }
}

/// Whether images of a SOP class never have a second frame, so that none may be named.
fn has_one_frame(class: &str) -> bool {
    matches!(
        class,
        uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE
            | uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION
            | uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PROCESSING
            | uids::SECONDARY_CAPTURE_IMAGE_STORAGE
    )
}

/// Module common instance reference (PS3.3 C.12.2), for references within the study.
pub fn references(object: &mut InMemDicomObject, reference: &Reference) {
    let mut series = InMemDicomObject::new_empty();
    put(&mut series, tags::SERIES_INSTANCE_UID, VR::UI, &reference.series);
    put_items(&mut series, tags::REFERENCED_INSTANCE_SEQUENCE, vec![reference.item()]);
    put_items(object, tags::REFERENCED_SERIES_SEQUENCE, vec![series]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_zones_are_read_strictly() {
        assert_eq!(offset("+0530"), FixedOffset::east_opt(19_800));
        assert_eq!(offset("-0800"), FixedOffset::west_opt(28_800));
        for text in ["", "+", "0530", "+530", "+05:30", "+05300", "\u{e4}0530", "+9999", "+-530"] {
            assert_eq!(offset(text), None, "{text}");
        }
    }
}
