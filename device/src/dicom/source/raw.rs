//! Elements of a DICOM file with the bytes they were stored with.

use std::io::Read;

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, Length, PrimitiveValue, Tag, VR};
use dicom_encoding::{Codec, Endianness, TransferSyntaxIndex};
use dicom_object::mem::InMemElement;
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
/// and integer strings are strings (empty where they are not ASCII), and that sequences are
/// sequences. Sequences without items are left out.
///
/// # Errors
/// [`SourceError::Damaged`] when the file does not hold what it declares, or a value is longer than
/// its kind may be.
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
    let tokens = tokens.map(|token| token.ok());
    let mut reader = Reader { tokens, order: syntax.endianness(), wanted };
    Ok((syntax.uid().to_string(), reader.data_set(true)?))
}

struct Reader<'a, I> {
    /// None stands for a token that does not parse.
    tokens: I,
    order: Endianness,
    /// What is kept of the outermost data set; of items, all is.
    wanted: &'a [Tag],
}

impl<I: Iterator<Item = Option<DataToken>>> Reader<'_, I> {
    /// A data set or, where not `outermost`, an item. It calls itself for each sequence inside
    /// another; the check of lengths bounded their depth.
    fn data_set(&mut self, outermost: bool) -> Result<InMemDicomObject, SourceError> {
        let mut object = InMemDicomObject::new_empty();
        let wanted = self.wanted;
        // Group lengths would be wrong in another encoding.
        let keep = |tag: Tag| tag.element() != 0 && (!outermost || wanted.contains(&tag));
        while let Some(token) = self.tokens.next() {
            match token.ok_or(SourceError::Damaged)? {
                DataToken::ElementHeader(header) => {
                    if outermost && header.tag.group() >= PIXELS {
                        break;
                    }
                    let bytes = self.bytes(header.vr)?;
                    if keep(header.tag) {
                        object.put(element(header.tag, header.vr, bytes)?);
                    }
                }
                DataToken::SequenceStart { tag, .. } => {
                    if outermost && tag.group() >= PIXELS {
                        break;
                    }
                    let items = self.items()?;
                    if !items.is_empty() && keep(tag) {
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

    /// The bytes of a value, little endian.
    fn bytes(&mut self, vr: VR) -> Result<Vec<u8>, SourceError> {
        let token = self.tokens.next().flatten().ok_or(SourceError::Damaged)?;
        let DataToken::PrimitiveValue(value) = token else { return Err(SourceError::Damaged) };
        let mut bytes = value.to_bytes().into_owned();
        if self.order == Endianness::Big {
            bytes.chunks_exact_mut(unit(vr)).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }
}

/// The element as it can be written in explicit VR, where most lengths have 16 bits only
/// (PS3.5 section 7.1.2).
fn element(tag: Tag, vr: VR, bytes: Vec<u8>) -> Result<InMemElement, SourceError> {
    const LONGEST: usize = 0xFFFE;
    let vr = match vr {
        VR::OB
        | VR::OD
        | VR::OF
        | VR::OL
        | VR::OV
        | VR::OW
        | VR::SV
        | VR::UC
        | VR::UN
        | VR::UR
        | VR::UT
        | VR::UV => vr,
        _ if bytes.len() <= LONGEST => vr,
        // Tables of numbers may be either.
        VR::US => VR::OW,
        _ => return Err(SourceError::Damaged),
    };
    Ok(DataElement::new(tag, vr, stored(vr, bytes)))
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
    if bytes.is_empty() {
        return PrimitiveValue::Empty;
    }
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
            let text = String::from_utf8(bytes).ok().filter(|text| text.is_ascii());
            return text.map_or(PrimitiveValue::Empty, PrimitiveValue::Str);
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
