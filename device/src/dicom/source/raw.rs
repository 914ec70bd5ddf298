//! Elements of a DICOM file with the bytes they were stored with.

use std::io::Read;

use dicom_core::header::Header;
use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, Length, PrimitiveValue, Tag, VR};
use dicom_encoding::{Codec, Endianness, TransferSyntaxIndex};
use dicom_object::{FileMetaTable, InMemDicomObject};
use dicom_parser::DynStatefulDecoder;
use dicom_parser::dataset::read::{DataSetReaderOptions, ValueReadStrategy};
use dicom_parser::dataset::{DataSetReader, DataToken};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::SourceError;
use crate::decode::lengths;

/// Pixel data, and all that may follow it, is in this group or a later one.
const PIXELS: u16 = 0x7FE0;

/// Transfer syntax and the `wanted` elements before the pixels of a file, given from its `DICM` on.
///
/// Every value is raw bytes, numbers little endian whatever the file's order; except that decimal
/// and integer strings are strings, and that sequences are sequences. Sequences without items are
/// left out.
///
/// # Errors
/// [`SourceError::Damaged`] when the file does not hold what it declares.
pub fn read(file: &[u8], wanted: &[Tag]) -> Result<(String, InMemDicomObject), SourceError> {
    lengths::check(file).map_err(|_| SourceError::Damaged)?;
    let mut data_set = file;
    let meta = FileMetaTable::from_reader(&mut data_set).map_err(|_| SourceError::Damaged)?;
    let syntax = TransferSyntaxRegistry.get(meta.transfer_syntax()).ok_or(SourceError::Damaged)?;
    let data_set: Box<dyn Read> = match syntax.codec() {
        // The check bounded what this inflates to.
        Codec::Dataset(Some(adapter)) => adapter.adapt_reader(Box::new(data_set)),
        _ => Box::new(data_set),
    };
    let decoder =
        DynStatefulDecoder::new_with_ts(data_set, syntax, 0).map_err(|_| SourceError::Damaged)?;
    let options = DataSetReaderOptions::default().value_read(ValueReadStrategy::Raw);
    let tokens = DataSetReader::new(decoder, options);
    let mut reader = Reader { tokens: tokens.map(|t| t.ok()), order: syntax.endianness() };
    let mut object = reader.data_set(true)?;
    object.retain(|element| wanted.contains(&element.tag()));
    Ok((syntax.uid().to_string(), object))
}

struct Reader<I> {
    /// None stands for a token that does not parse.
    tokens: I,
    order: Endianness,
}

impl<I: Iterator<Item = Option<DataToken>>> Reader<I> {
    /// A data set or, where not `outermost`, an item. It calls itself for each sequence inside
    /// another; the check of lengths bounded their depth.
    fn data_set(&mut self, outermost: bool) -> Result<InMemDicomObject, SourceError> {
        let mut object = InMemDicomObject::new_empty();
        while let Some(token) = self.tokens.next() {
            match token.ok_or(SourceError::Damaged)? {
                DataToken::ElementHeader(header) => {
                    if outermost && header.tag.group() >= PIXELS {
                        break;
                    }
                    let value = self.value(header.vr)?;
                    object.put(DataElement::new(header.tag, header.vr, value));
                }
                DataToken::SequenceStart { tag, .. } => {
                    if outermost && tag.group() >= PIXELS {
                        break;
                    }
                    let items = self.items()?;
                    if !items.is_empty() {
                        let sequence = DataSetSequence::new(items, Length::UNDEFINED);
                        object.put(DataElement::new(tag, VR::SQ, sequence));
                    }
                }
                DataToken::ItemEnd => break,
                DataToken::PixelSequenceStart if outermost => break,
                // An icon's.
                DataToken::PixelSequenceStart => self.skip_fragments()?,
                _ => return Err(SourceError::Damaged),
            }
        }
        Ok(object)
    }

    fn items(&mut self) -> Result<Vec<InMemDicomObject>, SourceError> {
        let mut items = Vec::new();
        loop {
            match self.tokens.next().flatten().ok_or(SourceError::Damaged)? {
                DataToken::ItemStart { .. } => items.push(self.data_set(false)?),
                DataToken::SequenceEnd => return Ok(items),
                _ => return Err(SourceError::Damaged),
            }
        }
    }

    fn skip_fragments(&mut self) -> Result<(), SourceError> {
        while self.tokens.next().flatten().ok_or(SourceError::Damaged)? != DataToken::SequenceEnd {}
        Ok(())
    }

    fn value(&mut self, vr: VR) -> Result<PrimitiveValue, SourceError> {
        let token = self.tokens.next().flatten().ok_or(SourceError::Damaged)?;
        let DataToken::PrimitiveValue(value) = token else { return Err(SourceError::Damaged) };
        let mut bytes = value.to_bytes().into_owned();
        if bytes.is_empty() {
            return Ok(PrimitiveValue::Empty);
        }
        if self.order == Endianness::Big {
            bytes.chunks_exact_mut(unit(vr)).for_each(<[u8]>::reverse);
        }
        Ok(stored(vr, bytes))
    }
}

/// Bytes that change places together between the byte orders (PS3.5 section 7.3).
fn unit(vr: VR) -> usize {
    match vr {
        VR::AT | VR::OW | VR::SS | VR::US => 2,
        VR::FL | VR::OF | VR::OL | VR::SL | VR::UL => 4,
        VR::FD | VR::OD | VR::OV | VR::SV | VR::UV => 8,
        _ => 1,
    }
}

/// Padding is insignificant at the end of text; it is made even again, with what belongs there.
fn stored(vr: VR, mut bytes: Vec<u8>) -> PrimitiveValue {
    if !is_text(vr) {
        if !bytes.len().is_multiple_of(2) {
            bytes.push(0);
        }
        return PrimitiveValue::U8(bytes.into());
    }
    let end = bytes.iter().rposition(|b| !matches!(b, b' ' | 0)).map_or(0, |last| last + 1);
    bytes.truncate(end);
    match vr {
        _ if bytes.is_empty() => return PrimitiveValue::Empty,
        // The encoder would write bytes as numbers.
        VR::DS | VR::IS => {
            return PrimitiveValue::Str(String::from_utf8_lossy(&bytes).into_owned());
        }
        _ if bytes.len().is_multiple_of(2) => {}
        VR::UI => bytes.push(0),
        _ => bytes.push(b' '),
    }
    PrimitiveValue::U8(bytes.into())
}

fn is_text(vr: VR) -> bool {
    matches!(
        vr,
        VR::AE
            | VR::AS
            | VR::CS
            | VR::DA
            | VR::DS
            | VR::DT
            | VR::IS
            | VR::LO
            | VR::LT
            | VR::PN
            | VR::SH
            | VR::ST
            | VR::TM
            | VR::UC
            | VR::UI
            | VR::UR
            | VR::UT
    )
}
