//! Whether a DICOM file holds all that its element headers promise.
//!
//! The parser allocates the length that an element declares before it reads the value, so a file
//! of a few bytes could ask for gigabytes. Here the same parser first walks over the headers alone.

use std::io::{self, Read, Seek, Write};

use dicom_core::dictionary::{DataDictionary, VirtualVr};
use dicom_core::header::{DataElementHeader, Length, SequenceItemHeader};
use dicom_core::{PrimitiveValue, Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;
use dicom_encoding::decode::Decode;
use dicom_encoding::decode::explicit_le::ExplicitVRLittleEndianDecoder;
use dicom_encoding::{Codec, TransferSyntax, TransferSyntaxIndex};
use dicom_object::FileMetaTable;
use dicom_parser::dataset::{DataSetReader, DataToken};
use dicom_parser::stateful::decode::{Error, Result as Decoded};
use dicom_parser::{DynStatefulDecoder, StatefulDecode};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::{DecodeError, MAX_FRAME};

/// Most bytes of a deflated data set once inflated: the largest frame, and a third of that for all
/// else.
const MAX_INFLATED: u64 = MAX_FRAME + MAX_FRAME / 3;
/// Most sequences inside each other; the parser calls itself for each of them.
const MAX_DEPTH: usize = 64;
/// Length of `DICM`.
const MAGIC: usize = 4;
/// The first element of the file's meta group ends here; its last four bytes are the length of
/// the group behind it.
const GROUP_START: usize = 12;

/// Checks every length declared in a file, given from its `DICM` on.
///
/// # Errors
/// [`DecodeError::Length`] when a value would reach beyond the end, [`DecodeError::Nested`] and
/// [`DecodeError::Inflated`] for an object made to exhaust the memory, [`DecodeError::Object`]
/// when the headers do not parse.
pub fn check(file: &[u8]) -> Result<(), DecodeError> {
    check_meta_group(&file[MAGIC..])?;
    let mut data_set = file;
    let meta = FileMetaTable::from_reader(&mut data_set).map_err(DecodeError::object)?;
    let syntax = TransferSyntaxRegistry
        .get(meta.transfer_syntax())
        .ok_or_else(|| DecodeError::Object("unknown transfer syntax".into()))?;
    let Codec::Dataset(Some(adapter)) = syntax.codec() else {
        return check_data_set(data_set, data_set.len() as u64, syntax);
    };
    let inflated = || adapter.adapt_reader(Box::new(data_set)).take(MAX_INFLATED + 1);
    let length = io::copy(&mut inflated(), &mut io::sink()).map_err(DecodeError::object)?;
    if length > MAX_INFLATED {
        return Err(DecodeError::Inflated);
    }
    check_data_set(inflated(), length, syntax)
}

/// The meta group is explicit little endian whatever follows; where it does not parse, the check
/// ends, and so will the parser.
fn check_meta_group(group: &[u8]) -> Result<(), DecodeError> {
    let length = group.first_chunk().map_or(0, |first: &[u8; GROUP_START]| {
        u32::from_le_bytes([first[8], first[9], first[10], first[11]])
    });
    let decoder = ExplicitVRLittleEndianDecoder::default();
    let mut rest = group;
    while ((group.len() - rest.len()) as u64) < GROUP_START as u64 + u64::from(length) {
        let Ok((header, _)) = decoder.decode_header(&mut rest) else { break };
        let Some(declared) = header.len.get() else { break };
        let left = rest.len() as u64;
        rest = rest.get(declared as usize..).ok_or(DecodeError::Length { declared, left })?;
    }
    Ok(())
}

/// Checks every length declared in a data set of `length` bytes.
///
/// # Errors
/// As [`check`].
pub fn check_data_set(
    data_set: impl Read,
    length: u64,
    syntax: &TransferSyntax,
) -> Result<(), DecodeError> {
    let decoder =
        DynStatefulDecoder::new_with_ts(data_set, syntax, 0).map_err(DecodeError::object)?;
    let mut headers = Headers { decoder, length, overrun: None };
    let walked = walk(DataSetReader::new(&mut headers, Default::default()));
    match headers.overrun {
        Some(overrun) => Err(overrun),
        None => walked,
    }
}

fn walk(tokens: DataSetReader<impl StatefulDecode>) -> Result<(), DecodeError> {
    let mut depth = 0usize;
    for token in tokens {
        match token.map_err(DecodeError::object)? {
            DataToken::SequenceStart { .. } | DataToken::PixelSequenceStart => depth += 1,
            DataToken::SequenceEnd => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(DecodeError::Nested);
        }
    }
    Ok(())
}

/// A decoder that steps over values and stops at a length that the data set does not have.
struct Headers<D> {
    decoder: D,
    /// Bytes of the data set.
    length: u64,
    /// The false length that was found.
    overrun: Option<DecodeError>,
}

/// Bytes that a value of this kind is made of (PS3.5 section 6.2). The parser reads whole ones
/// alone, but counts the rest as read too.
fn unit(vr: VR) -> u32 {
    match vr {
        VR::US | VR::SS | VR::OW => 2,
        VR::AT | VR::FL | VR::OF | VR::SL | VR::UL | VR::OL => 4,
        VR::FD | VR::OD | VR::SV | VR::UV | VR::OV => 8,
        _ => 1,
    }
}

/// Whether the parser may take the element for numbers of two bytes, whatever it says that it is:
/// it does with those that follow the pixels' representation.
fn may_become_short(tag: Tag) -> bool {
    StandardDataDictionary.by_tag(tag).is_some_and(|entry| entry.vr == VirtualVr::Xs)
}

impl<D: StatefulDecode> Headers<D> {
    fn bound(&mut self, declared: Length) -> Decoded<()> {
        let left = self.length.saturating_sub(self.decoder.position());
        match declared.get() {
            Some(declared) if u64::from(declared) > left => {
                self.overrun = Some(DecodeError::Length { declared, left });
                Err(Error::AllocateValueData { len: declared })
            }
            _ => Ok(()),
        }
    }

    /// Stops at a value that the parser would not read to its end.
    fn whole(&mut self, header: &DataElementHeader) -> Decoded<()> {
        let declared = header.len.get().unwrap_or(0);
        match (may_become_short(header.tag), header.vr) {
            (true, VR::SQ) => self.uneven(declared),
            (true, vr) => self.multiple(declared, unit(vr).max(2)),
            (false, vr) => self.multiple(declared, unit(vr)),
        }
    }

    fn multiple(&mut self, declared: u32, unit: u32) -> Decoded<()> {
        if declared.is_multiple_of(unit) { Ok(()) } else { self.uneven(declared) }
    }

    fn uneven(&mut self, declared: u32) -> Decoded<()> {
        self.overrun = Some(DecodeError::Uneven { declared });
        Err(Error::AllocateValueData { len: declared })
    }

    fn step_over(&mut self, header: &DataElementHeader) -> Decoded<PrimitiveValue> {
        self.decoder.skip_bytes(header.len.get().unwrap_or(0))?;
        Ok(PrimitiveValue::Empty)
    }
}

impl<D: StatefulDecode> StatefulDecode for Headers<D> {
    type Reader = D::Reader;

    fn decode_header(&mut self) -> Decoded<DataElementHeader> {
        let header = self.decoder.decode_header()?;
        self.bound(header.len)?;
        self.whole(&header)?;
        Ok(header)
    }

    fn decode_item_header(&mut self) -> Decoded<SequenceItemHeader> {
        let header = self.decoder.decode_item_header()?;
        if let SequenceItemHeader::Item { len } = header {
            self.bound(len)?;
        }
        Ok(header)
    }

    fn read_value(&mut self, header: &DataElementHeader) -> Decoded<PrimitiveValue> {
        self.step_over(header)
    }

    fn read_value_preserved(&mut self, header: &DataElementHeader) -> Decoded<PrimitiveValue> {
        self.step_over(header)
    }

    fn read_value_bytes(&mut self, header: &DataElementHeader) -> Decoded<PrimitiveValue> {
        self.step_over(header)
    }

    fn read_to_vec(&mut self, length: u32, _: &mut Vec<u8>) -> Decoded<()> {
        self.decoder.skip_bytes(length)
    }

    fn read_u32_to_vec(&mut self, length: u32, _: &mut Vec<u32>) -> Decoded<()> {
        self.multiple(length, 4)?;
        self.decoder.skip_bytes(length)
    }

    fn read_to<W: Write>(&mut self, length: u32, _: W) -> Decoded<()> {
        self.decoder.skip_bytes(length)
    }

    fn skip_bytes(&mut self, length: u32) -> Decoded<()> {
        self.decoder.skip_bytes(length)
    }

    fn seek(&mut self, position: u64) -> Decoded<()>
    where
        Self::Reader: Seek,
    {
        self.decoder.seek(position)
    }

    fn position(&self) -> u64 {
        self.decoder.position()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_dictionary_std::uids;

    #[track_caller]
    fn refused(vr: &[u8; 2], tag: [u16; 2], length: u16) {
        let mut bytes = tag.map(u16::to_le_bytes).concat();
        bytes.extend(vr);
        bytes.extend(length.to_le_bytes());
        bytes.extend(vec![0; usize::from(length)]);
        let syntax = TransferSyntaxRegistry.get(uids::EXPLICIT_VR_LITTLE_ENDIAN).expect("known");
        let checked = check_data_set(&bytes[..], bytes.len() as u64, syntax);
        assert!(matches!(checked, Err(DecodeError::Uneven { .. })), "{checked:?}");
    }

    #[test]
    fn values_that_the_parser_would_not_read_to_their_end_are_refused() {
        let private = [0x0009, 0x1001];
        for (vr, length) in [(b"FD", 6), (b"AT", 2), (b"US", 3), (b"SL", 7)] {
            refused(vr, private, length);
        }
    }

    #[test]
    fn what_the_parser_may_take_for_short_numbers_is_measured_in_them() {
        let padding = [0x0028, 0x0120];
        refused(b"SH", padding, 3);
    }
}
