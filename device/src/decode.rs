//! From a file's bytes to a radiograph, whatever the format; the content decides, not the name.

mod jpeg;
pub(crate) mod lengths;
mod rle;

use dicom_dictionary_std::tags;
use dicom_object::file::ReadPreamble;
use dicom_object::{DefaultDicomObject, OpenFileOptions};
use dicom_pixeldata::PixelDecoder;
use models::radiograph::{MAX_PIXELS, Radiograph, RadiographError, check_size};

/// A DICOM file says so behind a preamble of this many bytes.
pub(crate) const PREAMBLE: usize = 128;
/// Most bytes of a DICOM object's frame: the largest grey picture.
pub(crate) const MAX_FRAME: u64 = 2 * MAX_PIXELS;

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
    /// A value that is no whole number of what its kind is made of. The parser would take what is
    /// left of it for the next element.
    #[error("the DICOM object is damaged: a value of {declared} bytes does not fit its kind")]
    Uneven {
        /// Bytes that the element's header declares.
        declared: u32,
    },
    /// Sequences inside sequences, more than any picture has.
    #[error("the DICOM object is nested too deeply")]
    Nested,
    /// Pixels of more samples or bits than their number allows.
    #[error("the DICOM picture is too large: {bytes} bytes, at most {MAX_FRAME}")]
    Deep {
        /// Bytes of a frame.
        bytes: u64,
    },
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
            Self::Picture(RadiographError::Damaged(_)) => "the image is damaged".into(),
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
    if is_dicom(bytes) {
        radiograph_from_object(object_from_bytes(bytes)?)
    } else {
        Ok(Radiograph::decode(bytes)?)
    }
}

/// As [`radiograph_from_bytes`], for bytes that nobody needs any more: their memory is free before
/// the pixels need some.
///
/// # Errors
/// As [`radiograph_from_bytes`].
pub fn radiograph_from_vec(bytes: Vec<u8>) -> Result<Radiograph, DecodeError> {
    if !is_dicom(&bytes) {
        return radiograph_from_bytes(&bytes);
    }
    let object = object_from_bytes(&bytes)?;
    drop(bytes);
    radiograph_from_object(object)
}

fn is_dicom(bytes: &[u8]) -> bool {
    bytes.get(PREAMBLE..PREAMBLE + 4) == Some(b"DICM")
}

fn object_from_bytes(bytes: &[u8]) -> Result<DefaultDicomObject, DecodeError> {
    let file = &bytes[PREAMBLE..];
    lengths::check(file)?;
    let reading = OpenFileOptions::new().read_preamble(ReadPreamble::Never);
    reading.from_reader(file).map_err(DecodeError::object)
}

/// Decodes the first frame of a DICOM object, with its rescale, window and photometric
/// interpretation applied.
fn radiograph_from_object(object: DefaultDicomObject) -> Result<Radiograph, DecodeError> {
    if object.element_opt(tags::PIXEL_DATA).ok().flatten().is_none() {
        return Err(DecodeError::NoPixels);
    }
    // The size is checked before the decoder allocates for it.
    let number = |tag| -> Option<u32> { object.element_opt(tag).ok()??.to_int().ok() };
    let (width, height) =
        number(tags::COLUMNS).zip(number(tags::ROWS)).ok_or(DecodeError::NoSize)?;
    check_size(width, height)?;
    let samples = number(tags::SAMPLES_PER_PIXEL).unwrap_or(1);
    let bits = number(tags::BITS_ALLOCATED).unwrap_or(16);
    check_depth(width, height, samples, bits)?;
    // The decoder's tables panic or fill the memory for other depths.
    match number(tags::BITS_STORED) {
        Some(1..=16) => {}
        depth => {
            return Err(DecodeError::Pixels(format!("{depth:?} bits stored, 1 to 16 needed")));
        }
    }
    jpeg::check(&object, width, height)?;
    // Both numbers are bounded by now.
    let (pixels, bytes) = (width as usize * height as usize, (samples * bits.div_ceil(8)) as usize);
    rle::check(&object, pixels, bytes)?;
    Ok(Radiograph::from_image(&picture_from_object(object, samples)?)?)
}

/// The decoder holds the pixels several times over, so their bytes are bounded too.
fn check_depth(width: u32, height: u32, samples: u32, bits: u32) -> Result<(), DecodeError> {
    let sample = u64::from(samples) * u64::from(bits.div_ceil(8));
    let bytes = u64::from(width) * u64::from(height) * sample;
    if bytes > MAX_FRAME { Err(DecodeError::Deep { bytes }) } else { Ok(()) }
}

fn picture_from_object(
    object: DefaultDicomObject,
    samples: u32,
) -> Result<image::DynamicImage, DecodeError> {
    let unusable = |error: dicom_pixeldata::Error| DecodeError::Pixels(causes(&error));
    // The conversion copies the pixels twice more, so the object must be gone by then.
    let pixels = object.decode_pixel_data_frame(0).map_err(unusable)?.to_owned();
    drop(object);
    let options = dicom_pixeldata::ConvertOptions::new();
    // A window makes more of 8 bits than 8 bits; colours have none.
    let options = if samples == 1 { options.force_16bit() } else { options };
    pixels.to_dynamic_image_with_options(0, &options).map_err(unusable)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_without_content_quotes_nothing() {
        let damaged = b"\x89PNG\r\n\x1a\n\0\0\0\x04DoeJane";
        let error = radiograph_from_bytes(damaged).expect_err("no picture");
        assert_eq!(error.without_content(), "the image is damaged");
    }
}
