//! From a file's bytes to a radiograph, whatever the format; the content decides, not the name.

pub(crate) mod lengths;

use dicom_dictionary_std::tags;
use dicom_object::file::ReadPreamble;
use dicom_object::{DefaultDicomObject, OpenFileOptions};
use dicom_pixeldata::PixelDecoder;
use models::radiograph::{Radiograph, RadiographError, check_size};

/// A DICOM file says so behind a preamble of this many bytes.
pub(crate) const PREAMBLE: usize = 128;

/// Why bytes are not a usable scan.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not a usable picture.
    #[error(transparent)]
    Picture(#[from] RadiographError),
    /// Not a readable DICOM object.
    #[error("not a readable DICOM object: {0}")]
    Object(String),
    /// An element declares more bytes than there are: the file is damaged, cut or made to harm.
    #[error("the DICOM object is damaged: an element of {declared} bytes where {left} are left")]
    Length {
        /// Bytes that the element's header declares.
        declared: u32,
        /// Bytes behind the header.
        left: u64,
    },
    /// Sequences inside sequences, more than any picture has.
    #[error("the DICOM object is nested too deeply")]
    Nested,
    /// A deflated object, larger than any picture.
    #[error("the deflated DICOM object is too large")]
    Inflated,
    /// A DICOM object of another kind, such as a report.
    #[error("the DICOM object holds no pixels")]
    NoPixels,
    /// The number of rows or columns is absent or no number.
    #[error("the DICOM object does not say how large its picture is")]
    NoSize,
    /// The pixels do not decode.
    #[error("the DICOM pixels cannot be decoded: {0}")]
    Pixels(String),
}

impl DecodeError {
    /// The reason without anything that the bytes say: a patient's data may be among it.
    pub fn without_content(&self) -> String {
        match self {
            Self::Object(_) => "not a readable DICOM object".into(),
            Self::Pixels(_) => "the DICOM pixels cannot be decoded".into(),
            other => other.to_string(),
        }
    }

    fn object(error: impl std::error::Error) -> Self {
        DecodeError::Object(causes(&error))
    }
}

/// Decodes PNG, JPEG, TIFF or DICOM bytes.
///
/// # Errors
/// A typed reason for every kind of unusable content.
pub fn radiograph_from_bytes(bytes: &[u8]) -> Result<Radiograph, DecodeError> {
    if bytes.get(PREAMBLE..PREAMBLE + 4) == Some(b"DICM") {
        radiograph_from_dicom(bytes)
    } else {
        Ok(Radiograph::decode(bytes)?)
    }
}

/// Decodes the first frame of a DICOM object, with its rescale, window and photometric
/// interpretation applied.
fn radiograph_from_dicom(bytes: &[u8]) -> Result<Radiograph, DecodeError> {
    let file = &bytes[PREAMBLE..];
    lengths::check(file)?;
    let reading = OpenFileOptions::new().read_preamble(ReadPreamble::Never);
    let object = reading.from_reader(file).map_err(DecodeError::object)?;
    if object.element_opt(tags::PIXEL_DATA).ok().flatten().is_none() {
        return Err(DecodeError::NoPixels);
    }
    // The size is checked before the decoder allocates for it.
    let side = |tag| -> Option<u32> { object.element_opt(tag).ok()??.to_int().ok() };
    let (width, height) = side(tags::COLUMNS).zip(side(tags::ROWS)).ok_or(DecodeError::NoSize)?;
    check_size(width, height)?;
    // The decoder's tables panic or fill the memory for other depths.
    match side(tags::BITS_STORED) {
        Some(1..=16) => {}
        depth => {
            return Err(DecodeError::Pixels(format!("{depth:?} bits stored, 1 to 16 needed")));
        }
    }
    let picture = picture_from_object(&object)?;
    Ok(Radiograph::from_image(&picture)?)
}

fn picture_from_object(object: &DefaultDicomObject) -> Result<image::DynamicImage, DecodeError> {
    let pixels = object.decode_pixel_data_frame(0).map_err(|e| DecodeError::Pixels(causes(&e)))?;
    let options = dicom_pixeldata::ConvertOptions::new().force_16bit();
    pixels.to_dynamic_image_with_options(0, &options).map_err(|e| DecodeError::Pixels(causes(&e)))
}

/// An error with all that lies behind it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let line = next.to_string();
        if !text.contains(&line) {
            text = format!("{text}: {line}");
        }
        cause = next.source();
    }
    text
}
