//! What result objects take over from the file that was judged: patient, study, references.
//!
//! Text keeps the very bytes it was stored with, and the file's character set beside it, so no
//! name is ever re-encoded. Pixel data is not read.

mod raw;

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use image::metadata::Orientation;
use image::{ImageDecoder, ImageFormat};
use models::radiograph::{self, check_size};
use sha2::{Digest, Sha256};

use crate::decode::PREAMBLE;
use crate::dicom::results::uid;

/// The judged file, without its pixels.
#[derive(Clone, Debug)]
pub struct Source {
    /// Patient and study modules as stored, with the Specific Character Set; empty for a picture.
    pub context: InMemDicomObject,
    /// Study Instance UID; derived from the bytes for a picture.
    pub study: String,
    /// Series Instance UID; derived from the bytes for a picture.
    pub series: String,
    /// SOP Instance UID; derived from the bytes for a picture.
    pub instance: String,
    /// The DICOM image that results refer to; none for a picture, which no archive knows.
    pub image: Option<Image>,
    /// Columns, pixels across, upright.
    pub columns: u32,
    /// Rows, pixels down, upright.
    pub rows: u32,
    /// What is known about losses in the pixels.
    pub loss: Loss,
}

/// A DICOM image among DICOM images.
#[derive(Clone, Debug)]
pub struct Image {
    /// SOP Class UID.
    pub class: String,
    /// Frames, of which the first was judged.
    pub frames: u32,
    /// Modality, such as `DX`.
    pub modality: Option<String>,
    /// Whether larger values are brighter (`MONOCHROME2`), darker (`MONOCHROME1`), or colours.
    pub tones: Tones,
    /// Size of a pixel, where one is stated.
    pub spacing: Option<Spacing>,
    /// Rescale, window and anatomy, as stored; for the modules that repeat them.
    pub details: InMemDicomObject,
}

/// Photometric interpretation (PS3.3 C.7.6.3.1.2) as far as results need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tones {
    /// `MONOCHROME1`.
    DarkRises,
    /// `MONOCHROME2`.
    LightRises,
    /// Anything else.
    Colour,
}

/// Distances between pixel centres in millimetres.
#[derive(Clone, Debug, PartialEq)]
pub struct Spacing {
    /// Between rows and between columns.
    pub rows_columns: [f64; 2],
    /// What the distances are true for.
    pub plane: Plane,
}

/// Where a pixel spacing was measured (PS3.3 10.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plane {
    /// At the detector's front: Imager Pixel Spacing alone.
    Detector,
    /// In the patient, or unstated: Pixel Spacing, with its Calibration Type where there is one.
    Patient(Option<Calibration>),
}

/// How a Pixel Spacing was calibrated (PS3.3 10.7.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calibration {
    /// By the known geometry of the exposure.
    Geometry,
    /// By an object of known size.
    Fiducial,
}

/// Losses that the pixels went through before they came here (PS3.3 C.7.6.1.1.5).
#[derive(Clone, Debug, PartialEq)]
pub enum Loss {
    /// The file does not say.
    Unknown,
    /// Lossy Image Compression is `00`.
    Never,
    /// Lossy Image Compression is `01`.
    Lossy {
        /// Compression ratios, one for each time; where unstated, that of the whole file.
        ratios: Vec<f64>,
        /// Methods, such as `ISO_10918_1`, one for each ratio or none.
        methods: Vec<String>,
    },
}

/// Why results cannot be made from a file. None quotes the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Neither a DICOM file nor a picture.
    #[error("the file is neither a DICOM object nor a PNG, JPEG or TIFF picture")]
    Unknown,
    /// The structure does not parse, or a length reaches beyond the end.
    #[error("the DICOM object is damaged")]
    Damaged,
    /// An identifier is absent or malformed (PS3.5 section 9).
    #[error("the DICOM object has no valid {0}")]
    Uid(&'static str),
    /// Rows or Columns is absent, or out of bounds.
    #[error("the picture's size is absent or out of bounds")]
    Size,
}

/// Attributes of the patient module (PS3.3 C.7.1.1) and clinical trial subject (C.7.1.3).
const PATIENT: &[Tag] = &[
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::ISSUER_OF_PATIENT_ID,
    tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_BIRTH_TIME,
    tags::PATIENT_SEX,
    tags::QUALITY_CONTROL_SUBJECT,
    tags::OTHER_PATIENT_NAMES,
    tags::OTHER_PATIENT_I_DS_SEQUENCE,
    tags::PATIENT_COMMENTS,
    tags::PATIENT_SPECIES_DESCRIPTION,
    tags::PATIENT_SPECIES_CODE_SEQUENCE,
    tags::PATIENT_BREED_DESCRIPTION,
    tags::PATIENT_BREED_CODE_SEQUENCE,
    tags::BREED_REGISTRATION_SEQUENCE,
    tags::RESPONSIBLE_PERSON,
    tags::RESPONSIBLE_PERSON_ROLE,
    tags::RESPONSIBLE_ORGANIZATION,
    tags::PATIENT_IDENTITY_REMOVED,
    tags::DEIDENTIFICATION_METHOD,
    tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
    tags::CLINICAL_TRIAL_SPONSOR_NAME,
    tags::CLINICAL_TRIAL_PROTOCOL_ID,
    tags::CLINICAL_TRIAL_PROTOCOL_NAME,
    tags::CLINICAL_TRIAL_SITE_ID,
    tags::CLINICAL_TRIAL_SITE_NAME,
    tags::CLINICAL_TRIAL_SUBJECT_ID,
    tags::CLINICAL_TRIAL_SUBJECT_READING_ID,
];

/// Attributes of the study modules (PS3.3 C.7.2.1 to C.7.2.3).
const STUDY: &[Tag] = &[
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::REFERRING_PHYSICIAN_IDENTIFICATION_SEQUENCE,
    tags::STUDY_ID,
    tags::ACCESSION_NUMBER,
    tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE,
    tags::STUDY_DESCRIPTION,
    tags::PROCEDURE_CODE_SEQUENCE,
    tags::PHYSICIANS_OF_RECORD,
    tags::NAME_OF_PHYSICIANS_READING_STUDY,
    tags::REFERENCED_STUDY_SEQUENCE,
    tags::ADMITTING_DIAGNOSES_DESCRIPTION,
    tags::ADMITTING_DIAGNOSES_CODE_SEQUENCE,
    tags::PATIENT_AGE,
    tags::PATIENT_SIZE,
    tags::PATIENT_WEIGHT,
    tags::OCCUPATION,
    tags::ADDITIONAL_PATIENT_HISTORY,
    tags::ADMISSION_ID,
    tags::ISSUER_OF_ADMISSION_ID_SEQUENCE,
    tags::PATIENT_SEX_NEUTERED,
    tags::CLINICAL_TRIAL_TIME_POINT_ID,
    tags::CLINICAL_TRIAL_TIME_POINT_DESCRIPTION,
];

/// Attributes that apply to the encoding of all others (PS3.3 C.12.1).
const ENCODING: &[Tag] = &[tags::SPECIFIC_CHARACTER_SET, tags::TIMEZONE_OFFSET_FROM_UTC];

/// What single modules of results repeat about the image.
const DETAILS: &[Tag] = &[
    tags::INSTANCE_NUMBER,
    tags::BODY_PART_EXAMINED,
    tags::LATERALITY,
    tags::IMAGE_LATERALITY,
    tags::VIEW_POSITION,
    tags::VIEW_CODE_SEQUENCE,
    tags::ANATOMIC_REGION_SEQUENCE,
    tags::PATIENT_ORIENTATION,
    tags::REQUEST_ATTRIBUTES_SEQUENCE,
    tags::RESCALE_INTERCEPT,
    tags::RESCALE_SLOPE,
    tags::RESCALE_TYPE,
    tags::MODALITY_LUT_SEQUENCE,
    tags::WINDOW_CENTER,
    tags::WINDOW_WIDTH,
    tags::WINDOW_CENTER_WIDTH_EXPLANATION,
    tags::VOILUT_FUNCTION,
    tags::VOILUT_SEQUENCE,
];

/// What is read and then understood.
const UNDERSTOOD: &[Tag] = &[
    tags::SOP_CLASS_UID,
    tags::SOP_INSTANCE_UID,
    tags::STUDY_INSTANCE_UID,
    tags::SERIES_INSTANCE_UID,
    tags::MODALITY,
    tags::ROWS,
    tags::COLUMNS,
    tags::SAMPLES_PER_PIXEL,
    tags::BITS_ALLOCATED,
    tags::NUMBER_OF_FRAMES,
    tags::PHOTOMETRIC_INTERPRETATION,
    tags::PIXEL_SPACING,
    tags::PIXEL_SPACING_CALIBRATION_TYPE,
    tags::IMAGER_PIXEL_SPACING,
    tags::LOSSY_IMAGE_COMPRESSION,
    tags::LOSSY_IMAGE_COMPRESSION_RATIO,
    tags::LOSSY_IMAGE_COMPRESSION_METHOD,
];

impl Source {
    /// Reads a DICOM file (PS3.10) up to its pixels, or the header of a PNG, JPEG or TIFF picture.
    ///
    /// # Errors
    /// [`SourceError`] for each kind of unusable content.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SourceError> {
        if bytes.get(PREAMBLE..PREAMBLE + 4) == Some(b"DICM") {
            Self::from_dicom(&bytes[PREAMBLE..])
        } else {
            Self::from_picture(bytes)
        }
    }

    fn from_dicom(file: &[u8]) -> Result<Self, SourceError> {
        let wanted = [PATIENT, STUDY, ENCODING, DETAILS, UNDERSTOOD].concat();
        let (syntax, object) = raw::read(file, &wanted)?;
        let uid = |tag, name| {
            text(&object, tag).filter(|uid| uid::is_valid(uid)).ok_or(SourceError::Uid(name))
        };
        let (columns, rows) = number(&object, tags::COLUMNS)
            .zip(number(&object, tags::ROWS))
            .ok_or(SourceError::Size)?;
        check_size(columns, rows).map_err(|_| SourceError::Size)?;
        let image = Image {
            class: uid(tags::SOP_CLASS_UID, "SOP Class UID")?,
            frames: decimals(&object, tags::NUMBER_OF_FRAMES).first().map_or(1, |n| *n as u32),
            modality: text(&object, tags::MODALITY),
            tones: tones(&object),
            spacing: spacing(&object),
            details: only(&object, DETAILS),
        };
        Ok(Self {
            study: uid(tags::STUDY_INSTANCE_UID, "Study Instance UID")?,
            series: uid(tags::SERIES_INSTANCE_UID, "Series Instance UID")?,
            instance: uid(tags::SOP_INSTANCE_UID, "SOP Instance UID")?,
            loss: loss(&object, &syntax, [columns, rows], file.len()),
            context: only(&object, &[PATIENT, STUDY, ENCODING].concat()),
            image: Some(image),
            columns,
            rows,
        })
    }

    fn from_picture(bytes: &[u8]) -> Result<Self, SourceError> {
        let format = image::guess_format(bytes).map_err(|_| SourceError::Unknown)?;
        let decoder = radiograph::decoder(format, bytes).ok_or(SourceError::Unknown)?;
        let mut decoder = decoder.map_err(|_| SourceError::Unknown)?;
        let stored = decoder.dimensions();
        let lying = matches!(
            decoder.orientation(),
            Ok(Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH)
        );
        let (columns, rows) = if lying { (stored.1, stored.0) } else { stored };
        check_size(columns, rows).map_err(|_| SourceError::Size)?;
        let samples = u64::from(decoder.color_type().channel_count());
        let loss = match format {
            ImageFormat::Jpeg => Loss::Lossy {
                ratios: vec![ratio([columns, rows], samples, bytes.len())],
                methods: vec!["ISO_10918_1".into()],
            },
            _ => Loss::Unknown,
        };
        let digest = hex::encode(Sha256::digest(bytes));
        let uid = |role: &str| uid::derived(&["picture", &digest, role]);
        Ok(Self {
            context: InMemDicomObject::new_empty(),
            study: uid("study"),
            series: uid("series"),
            instance: uid("instance"),
            image: None,
            columns,
            rows,
            loss,
        })
    }
}

/// A value of the default character repertoire, without its padding; none where it is empty.
pub(super) fn text(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let bytes = object.get(tag)?.to_bytes().ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches([' ', '\0']);
    (!text.is_empty()).then(|| text.to_string())
}

/// Values of a decimal or integer string; those that are no number are left out.
fn decimals(object: &InMemDicomObject, tag: Tag) -> Vec<f64> {
    let values = text(object, tag).unwrap_or_default();
    let parsed = values.split('\\').filter_map(|v| v.trim().parse::<f64>().ok());
    parsed.filter(|v| v.is_finite()).collect()
}

/// An unsigned short.
fn number(object: &InMemDicomObject, tag: Tag) -> Option<u32> {
    let bytes = object.get(tag)?.to_bytes().ok()?;
    let value = bytes.first_chunk::<2>()?;
    Some(u16::from_le_bytes(*value).into())
}

fn only(object: &InMemDicomObject, wanted: &[Tag]) -> InMemDicomObject {
    InMemDicomObject::from_element_iter(
        object.iter().filter(|e| wanted.contains(&e.header().tag)).cloned(),
    )
}

fn tones(object: &InMemDicomObject) -> Tones {
    match text(object, tags::PHOTOMETRIC_INTERPRETATION).as_deref() {
        Some("MONOCHROME1") => Tones::DarkRises,
        Some("MONOCHROME2") => Tones::LightRises,
        _ => Tones::Colour,
    }
}

fn spacing(object: &InMemDicomObject) -> Option<Spacing> {
    let pair = |tag| match decimals(object, tag)[..] {
        [rows, columns] if rows > 0.0 && columns > 0.0 => Some([rows, columns]),
        _ => None,
    };
    let calibration = match text(object, tags::PIXEL_SPACING_CALIBRATION_TYPE).as_deref() {
        Some("GEOMETRY") => Some(Calibration::Geometry),
        Some("FIDUCIAL") => Some(Calibration::Fiducial),
        _ => None,
    };
    let patient = pair(tags::PIXEL_SPACING)
        .map(|rows_columns| Spacing { rows_columns, plane: Plane::Patient(calibration) });
    let detector = || {
        pair(tags::IMAGER_PIXEL_SPACING)
            .map(|rows_columns| Spacing { rows_columns, plane: Plane::Detector })
    };
    patient.or_else(detector)
}

/// The method of a transfer syntax that always loses (PS3.5 section 8.2).
fn lossy_method(syntax: &str) -> Option<&'static str> {
    match syntax {
        uids::JPEG_BASELINE8_BIT | uids::JPEG_EXTENDED12_BIT => Some("ISO_10918_1"),
        uids::JPEGLS_NEAR_LOSSLESS => Some("ISO_14495_1"),
        _ => None,
    }
}

fn loss(object: &InMemDicomObject, syntax: &str, size: [u32; 2], length: usize) -> Loss {
    let stated = text(object, tags::LOSSY_IMAGE_COMPRESSION);
    let method = lossy_method(syntax);
    match (stated.as_deref(), method) {
        (Some("01"), _) | (_, Some(_)) => {}
        (Some("00"), None) => return Loss::Never,
        _ => return Loss::Unknown,
    }
    let mut ratios = decimals(object, tags::LOSSY_IMAGE_COMPRESSION_RATIO);
    let listed = text(object, tags::LOSSY_IMAGE_COMPRESSION_METHOD).unwrap_or_default();
    let is_code = |m: &&str| {
        let code = |b: u8| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_' | b' ');
        (1..=16).contains(&m.len()) && m.bytes().all(code)
    };
    let mut methods: Vec<String> =
        listed.split('\\').map(str::trim).filter(is_code).map(String::from).collect();
    if ratios.is_empty() {
        let samples = number(object, tags::SAMPLES_PER_PIXEL).unwrap_or(1);
        let bytes = number(object, tags::BITS_ALLOCATED).unwrap_or(8).div_ceil(8);
        ratios = vec![ratio(size, u64::from(samples * bytes), length)];
        methods = methods.into_iter().chain(method.map(String::from)).take(1).collect();
    }
    if methods.len() != ratios.len() {
        methods.clear();
    }
    Loss::Lossy { ratios, methods }
}

/// Bytes of the plain pixels for each byte of the file; at least 1.
fn ratio([columns, rows]: [u32; 2], bytes_per_pixel: u64, length: usize) -> f64 {
    let plain = u64::from(columns) * u64::from(rows) * bytes_per_pixel;
    (plain as f64 / length.max(1) as f64).max(1.0)
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
