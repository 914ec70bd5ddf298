//! Whether the JPEG picture in a DICOM object is the one that the object announces.
//!
//! The decoder allocates what the picture's own head says, which a few bytes can make gigabytes.

use std::io::Read;

use dicom_core::DicomValue;
use dicom_core::value::PixelFragmentSequence;
use dicom_dictionary_std::{tags, uids};
use dicom_object::DefaultDicomObject;
use jpeg_decoder::{CodingProcess, Decoder};

use super::{DecodeError, MAX_FRAME};

/// The transfer syntaxes of JPEG that the decoder knows (PS3.6 annex A).
const JPEG: [&str; 4] = [
    uids::JPEG_BASELINE8_BIT,
    uids::JPEG_EXTENDED12_BIT,
    uids::JPEG_LOSSLESS,
    uids::JPEG_LOSSLESS_SV1,
];

/// Checks the first frame's head against the object's columns and rows; passes over pixels that
/// are no JPEG.
///
/// # Errors
/// [`DecodeError::Pixels`] when they differ or the head does not parse; [`DecodeError::Deep`] when
/// the picture has too many bytes.
pub fn check(object: &DefaultDicomObject, columns: u32, rows: u32) -> Result<(), DecodeError> {
    if !JPEG.contains(&object.meta().transfer_syntax()) {
        return Ok(());
    }
    let unusable = |why: &str| DecodeError::Pixels(why.to_owned());
    let pixels = object.element(tags::PIXEL_DATA).map_err(DecodeError::object)?;
    let DicomValue::PixelSequence(sequence) = pixels.value() else {
        return Err(unusable("no JPEG picture in fragments"));
    };
    let frames = object.element_opt(tags::NUMBER_OF_FRAMES).ok().flatten();
    let frames = frames.and_then(|frames| frames.to_int().ok()).unwrap_or(1);
    let mut decoder = Decoder::new(Joined::first_frame(sequence, frames));
    decoder.read_info().map_err(|_| unusable("the JPEG picture has no readable head"))?;
    let info = decoder.info().ok_or_else(|| unusable("the JPEG picture has no head"))?;
    if (u32::from(info.width), u32::from(info.height)) != (columns, rows) {
        return Err(unusable("the JPEG picture has another size than the object says"));
    }
    // No accepted transfer syntax has them, and they take twice the memory.
    if info.coding_process == CodingProcess::DctProgressive {
        return Err(unusable("the JPEG picture is progressive"));
    }
    let bytes = u64::from(columns) * u64::from(rows) * info.pixel_format.pixel_bytes() as u64;
    if bytes > MAX_FRAME { Err(DecodeError::Deep { bytes }) } else { Ok(()) }
}

/// Fragments one after the other.
struct Joined<'a> {
    rest: &'a [Vec<u8>],
    current: &'a [u8],
}

impl<'a> Joined<'a> {
    /// From the fragment on at which the decoder begins the first frame: the first one, or, where
    /// frames have several, the one at the first offset.
    fn first_frame(sequence: &'a PixelFragmentSequence<Vec<u8>>, frames: usize) -> Self {
        let fragments = sequence.fragments();
        let begin = match sequence.offset_table().first() {
            Some(offset) if fragments.len() != 1 && fragments.len() != frames => *offset as usize,
            _ => 0,
        };
        let mut offset = 0;
        let before = |fragment: &&Vec<u8>| {
            let is_before = offset < begin;
            // An item's head takes 8 bytes (PS3.5 section A.4).
            offset += fragment.len() + 8;
            is_before
        };
        let skipped = fragments.iter().take_while(before).count();
        Self { rest: &fragments[skipped..], current: &[] }
    }
}

impl Read for Joined<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty()
            && let Some((next, rest)) = self.rest.split_first()
        {
            (self.current, self.rest) = (next, rest);
        }
        self.current.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins_with(offsets: Vec<u32>, frames: usize) -> u8 {
        let fragments = vec![vec![1; 4], Vec::new(), vec![2; 4], vec![3; 4]];
        let sequence = PixelFragmentSequence::new(offsets, fragments);
        let mut byte = [0];
        Joined::first_frame(&sequence, frames).read_exact(&mut byte).expect("a byte");
        byte[0]
    }

    #[test]
    fn the_first_frame_begins_where_the_decoder_begins_it() {
        assert_eq!(begins_with(vec![], 1), 1);
        assert_eq!(begins_with(vec![0], 1), 1);
        assert_eq!(begins_with(vec![20], 1), 2);
        assert_eq!(begins_with(vec![21], 1), 3);
        assert_eq!(begins_with(vec![20], 4), 1);
    }
}
