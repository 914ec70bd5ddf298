//! Whether run-length encoded pixels in a DICOM object are as many as the object announces.
//!
//! The decoder takes whatever the runs say, which two bytes can make 128, and expects enough of
//! them.

use dicom_core::DicomValue;
use dicom_dictionary_std::{tags, uids};
use dicom_object::DefaultDicomObject;

use super::DecodeError;

/// Bytes of a frame's head: the number of segments, then the offsets of 15 (PS3.5 section G.5).
const HEAD: usize = 64;
/// Most bytes that a segment may decode to beyond its plane: a last run that is not cut.
const SLACK: usize = 128;

/// Checks the first frame against the numbers of pixels and of bytes for each; passes over pixels
/// that are not run-length encoded.
///
/// # Errors
/// [`DecodeError::Pixels`] when a segment is missing, damaged, or of another length.
pub fn check(
    object: &DefaultDicomObject,
    pixels: usize,
    bytes_per_pixel: usize,
) -> Result<(), DecodeError> {
    if object.meta().transfer_syntax() != uids::RLE_LOSSLESS {
        return Ok(());
    }
    let data = object.element(tags::PIXEL_DATA).map_err(DecodeError::object)?;
    let frame = match data.value() {
        DicomValue::PixelSequence(sequence) => sequence.fragments().first(),
        _ => None,
    };
    if frame.is_some_and(|frame| is_whole(frame, bytes_per_pixel, pixels)) {
        Ok(())
    } else {
        Err(DecodeError::Pixels("the run-length encoded picture is damaged".into()))
    }
}

/// Whether a frame has so many segments that each decode to a plane of so many bytes.
fn is_whole(frame: &[u8], segments: usize, plane: usize) -> bool {
    let Some((words, [])) = frame.get(..HEAD).map(<[u8]>::as_chunks::<4>) else { return false };
    let word = |place: usize| words.get(place).map(|bytes| u32::from_le_bytes(*bytes) as usize);
    if word(0) != Some(segments) {
        return false;
    }
    (1..=segments).all(|place| {
        let end = if place == segments { Some(frame.len()) } else { word(place + 1) };
        let segment = word(place).zip(end).and_then(|(begin, end)| frame.get(begin..end));
        segment.is_some_and(|segment| (plane..=plane + SLACK).contains(&decoded(segment)))
    })
}

/// How many bytes a segment decodes to (PS3.5 section G.3.2).
fn decoded(segment: &[u8]) -> usize {
    let (mut place, mut bytes) = (0, 0);
    while let Some(head) = segment.get(place) {
        let (read, made) = match *head {
            literal @ 0..=127 => {
                let read = usize::from(literal) + 1;
                (read, read.min(segment.len() - place - 1))
            }
            128 => (0, 0),
            run => (1, 257 - usize::from(run)),
        };
        place += 1 + read;
        bytes += made;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of 16-bit pixels: two segments.
    fn frame(first: &[u8], second: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; HEAD];
        frame[0] = 2;
        frame[4] = HEAD as u8;
        frame[8] = (HEAD + first.len()) as u8;
        frame.extend(first);
        frame.extend(second);
        frame
    }

    /// Six bytes: a run of four, two literal ones, and the padding to an even length.
    const SIX: [u8; 6] = [253, 7, 1, 8, 9, 128];

    #[test]
    fn a_frame_with_all_its_bytes_is_whole() {
        assert!(is_whole(&frame(&SIX, &SIX), 2, 6));
        assert!(is_whole(&frame(&SIX, &[255, 1, 3, 4, 4, 4, 4, 0]), 2, 6));
    }

    #[test]
    fn a_frame_without_all_its_bytes_is_not() {
        assert!(!is_whole(&frame(&SIX, &SIX), 2, 7));
        assert!(!is_whole(&frame(&SIX, &SIX), 1, 6));
        assert!(!is_whole(&frame(&SIX, &SIX), 3, 6));
        assert!(!is_whole(&frame(&SIX, &[]), 2, 6));
        assert!(!is_whole(&frame(&SIX, &SIX)[..HEAD - 1], 2, 6));
    }

    #[test]
    fn offsets_lie_inside_the_frame_and_rise() {
        for (place, byte) in [(4, 255), (8, 255), (4, 80), (8, 10)] {
            let mut frame = frame(&SIX, &SIX);
            frame[place] = byte;
            assert!(!is_whole(&frame, 2, 6), "{place} {byte}");
        }
    }

    #[test]
    fn runs_of_far_more_than_the_picture_are_refused() {
        let bomb = [129, 0].repeat(50);
        assert_eq!(decoded(&bomb), 6400);
        assert!(!is_whole(&frame(&SIX, &bomb), 2, 6));
    }

    #[test]
    fn no_bytes_are_too_few_to_count() {
        assert_eq!(decoded(&[]), 0);
        assert_eq!(decoded(&[5, 1, 2]), 2);
        assert_eq!(decoded(&[200]), 57);
    }
}
