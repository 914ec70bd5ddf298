//! An X-ray picture as 16-bit luminance, and its decoding from PNG, JPEG and TIFF bytes.
//!
//! DICOM is decoded by the device crate, which builds a [`Radiograph`] from the stored pixels.

use std::io::Cursor;

use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::tiff::TiffDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, Limits};

/// Longest side accepted, in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// Most pixels accepted: bounds the memory of a decode to a few hundred MiB.
pub const MAX_PIXELS: u64 = 48_000_000;
/// Most bytes of a picture's samples while it is decoded: four for each of [`MAX_PIXELS`].
pub const MAX_BYTES: u64 = 4 * MAX_PIXELS;
/// Shortest side accepted: below it there is no spine to judge.
pub const MIN_SIDE: u32 = 48;

/// A grey picture: `samples[y * width + x]`, 0 black to 65,535 white.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Radiograph {
    width: u32,
    height: u32,
    samples: Vec<u16>,
}

/// Why bytes are not a radiograph.
#[derive(Debug, thiserror::Error)]
pub enum RadiographError {
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// Not PNG, JPEG or TIFF, whatever the name says.
    #[error("not a PNG, JPEG or TIFF image")]
    UnknownFormat,
    /// The picture ends before its last pixel.
    #[error("the image is truncated")]
    Truncated,
    /// The decoder rejects the content.
    #[error("the image is damaged: {0}")]
    Damaged(String),
    /// The picture is smaller than [`MIN_SIDE`] on a side.
    #[error(
        "the image is too small: {width} x {height} pixels, at least {MIN_SIDE} x {MIN_SIDE} needed"
    )]
    TooSmall {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// The picture is larger than [`MAX_SIDE`] or [`MAX_PIXELS`].
    #[error(
        "the image is too large: {width} x {height} pixels, at most {MAX_SIDE} a side and {MAX_PIXELS} in all"
    )]
    TooLarge {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
    },
    /// The picture has more samples or bits a pixel than its number of pixels allows.
    #[error("the image is too large: {bytes} bytes of samples, at most {MAX_BYTES}")]
    TooDeep {
        /// Bytes of all samples.
        bytes: u64,
    },
    /// Sample count and dimensions disagree.
    #[error("{samples} samples do not make {width} x {height} pixels")]
    WrongLength {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Samples given.
        samples: usize,
    },
}

impl Radiograph {
    /// Wraps luminance samples in row order.
    ///
    /// # Errors
    /// When the size is out of bounds or the sample count does not match it.
    pub fn new(width: u32, height: u32, samples: Vec<u16>) -> Result<Self, RadiographError> {
        check_size(width, height)?;
        if samples.len() as u64 != u64::from(width) * u64::from(height) {
            return Err(RadiographError::WrongLength { width, height, samples: samples.len() });
        }
        Ok(Self { width, height, samples })
    }

    /// Decodes PNG, JPEG or TIFF bytes; the format is read from the content, not from a name.
    ///
    /// The picture is turned upright by its EXIF orientation. Colours become luminance by
    /// ITU-R BT.601 weights in integers; 8-bit samples are widened by 257; alpha is ignored.
    ///
    /// # Errors
    /// A typed reason for every kind of unusable content; the size is checked before decoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, RadiographError> {
        if bytes.is_empty() {
            return Err(RadiographError::Empty);
        }
        let format = image::guess_format(bytes).map_err(|_| RadiographError::UnknownFormat)?;
        if format == ImageFormat::Jpeg && !jpeg_is_complete(bytes) {
            return Err(RadiographError::Truncated);
        }
        let decoder = decoder(format, bytes).ok_or(RadiographError::UnknownFormat)?;
        let mut decoder = decoder.map_err(error_from_decoder)?;
        let (width, height) = decoder.dimensions();
        check_size(width, height)?;
        let bytes = decoder.total_bytes();
        if bytes > MAX_BYTES {
            return Err(RadiographError::TooDeep { bytes });
        }
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut picture = DynamicImage::from_decoder(decoder).map_err(error_from_decoder)?;
        picture.apply_orientation(orientation);
        Self::from_image(&picture)
    }

    /// Takes the luminance of a decoded picture.
    ///
    /// # Errors
    /// When the size is out of bounds.
    pub fn from_image(picture: &DynamicImage) -> Result<Self, RadiographError> {
        Self::new(picture.width(), picture.height(), luminance_from_image(picture))
    }

    /// Pixels across.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Luminance in row order, `width * height` values.
    pub fn samples(&self) -> &[u16] {
        &self.samples
    }
}

/// Decoder of a picture; none for formats that scans do not come in.
///
/// Each decoder is named: `ImageReader` would link those of all formats that any package asks for,
/// a megabyte that reads bytes from outside.
pub fn decoder(
    format: ImageFormat,
    bytes: &[u8],
) -> Option<Result<Box<dyn ImageDecoder + '_>, ImageError>> {
    let reader = Cursor::new(bytes);
    let open = || -> Result<Option<Box<dyn ImageDecoder + '_>>, ImageError> {
        let mut decoder: Box<dyn ImageDecoder> = match format {
            ImageFormat::Png => Box::new(PngDecoder::with_limits(reader, Limits::default())?),
            ImageFormat::Jpeg => Box::new(JpegDecoder::new(reader)?),
            ImageFormat::Tiff => Box::new(TiffDecoder::new(reader)?),
            _ => return Ok(None),
        };
        decoder.set_limits(Limits::default())?;
        Ok(Some(decoder))
    };
    open().transpose()
}

/// Checks a picture's size before its pixels are decoded.
///
/// # Errors
/// [`RadiographError::TooSmall`] and [`RadiographError::TooLarge`].
pub fn check_size(width: u32, height: u32) -> Result<(), RadiographError> {
    if width < MIN_SIDE || height < MIN_SIDE {
        return Err(RadiographError::TooSmall { width, height });
    }
    if width.max(height) > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(RadiographError::TooLarge { width, height });
    }
    Ok(())
}

/// JPEG decoders fill a cut-off picture with grey; only an end-of-image marker behind the last
/// start of scan tells (an EXIF thumbnail has one of its own, before it).
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let last = |marker: [u8; 2]| bytes.windows(2).rposition(|pair| pair == marker);
    last([0xFF, 0xD9]) > last([0xFF, 0xDA])
}

fn error_from_decoder(error: ImageError) -> RadiographError {
    match error {
        ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            RadiographError::Truncated
        }
        other => RadiographError::Damaged(other.to_string()),
    }
}

fn luminance_from_image(picture: &DynamicImage) -> Vec<u16> {
    match picture {
        DynamicImage::ImageLuma8(p) => p.as_raw().iter().map(|&v| u16::from(v) * 257).collect(),
        DynamicImage::ImageLuma16(p) => p.as_raw().clone(),
        DynamicImage::ImageLumaA8(p) => p.pixels().map(|v| u16::from(v.0[0]) * 257).collect(),
        DynamicImage::ImageLumaA16(p) => p.pixels().map(|v| v.0[0]).collect(),
        DynamicImage::ImageRgb8(p) => p.pixels().map(|v| luma(v.0.map(widen))).collect(),
        DynamicImage::ImageRgba8(p) => {
            p.pixels().map(|v| luma([v.0[0], v.0[1], v.0[2]].map(widen))).collect()
        }
        DynamicImage::ImageRgb16(p) => p.pixels().map(|v| luma(v.0)).collect(),
        other => other.to_rgb16().pixels().map(|v| luma(v.0)).collect(),
    }
}

fn widen(sample: u8) -> u16 {
    u16::from(sample) * 257
}

fn luma([red, green, blue]: [u16; 3]) -> u16 {
    let sum = 299 * u64::from(red) + 587 * u64::from(green) + 114 * u64::from(blue);
    ((sum + 500) / 1000) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, Luma, Rgb};

    fn encode(picture: DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).expect("encode");
        bytes.into_inner()
    }

    fn ramp8() -> DynamicImage {
        ImageBuffer::from_fn(64, 50, |x, y| Luma([(x * 3 + y) as u8])).into()
    }

    #[test]
    fn depths_agree() {
        let eight = Radiograph::decode(&encode(ramp8(), ImageFormat::Png)).expect("8 bit");
        let sixteen: DynamicImage =
            ImageBuffer::from_fn(64, 50, |x, y| Luma([(x * 3 + y) as u16 * 257])).into();
        for format in [ImageFormat::Png, ImageFormat::Tiff] {
            let wide = Radiograph::decode(&encode(sixteen.clone(), format)).expect("16 bit");
            assert_eq!(eight, wide);
        }
    }

    #[test]
    fn grey_colours_keep_their_luminance() {
        let colour: DynamicImage =
            ImageBuffer::from_fn(64, 50, |x, y| Rgb([(x * 3 + y) as u8; 3])).into();
        assert_eq!(
            Radiograph::decode(&encode(colour, ImageFormat::Png)).expect("colour"),
            Radiograph::decode(&encode(ramp8(), ImageFormat::Png)).expect("grey"),
        );
    }

    #[test]
    fn unusable_content_has_a_typed_reason() {
        let png = encode(ramp8(), ImageFormat::Png);
        let jpeg = encode(ramp8(), ImageFormat::Jpeg);
        let dot: DynamicImage = ImageBuffer::from_pixel(1, 1, Luma([7u8])).into();
        let wide: DynamicImage = ImageBuffer::from_pixel(20_000, 60, Luma([7u8])).into();
        let decode = |bytes: &[u8]| Radiograph::decode(bytes).expect_err("must be refused");
        assert!(matches!(decode(&[]), RadiographError::Empty));
        assert!(matches!(decode(b"a letter, not a picture"), RadiographError::UnknownFormat));
        assert!(matches!(decode(&jpeg[..jpeg.len() / 2]), RadiographError::Truncated));
        assert!(matches!(
            decode(&png[..png.len() / 2]),
            RadiographError::Truncated | RadiographError::Damaged(_)
        ));
        assert!(matches!(
            decode(&encode(dot, ImageFormat::Png)),
            RadiographError::TooSmall { width: 1, height: 1 }
        ));
        assert!(matches!(
            decode(&encode(wide, ImageFormat::Png)),
            RadiographError::TooLarge { width: 20_000, .. }
        ));
    }
}
