//! Putting elements into a data set.

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, Length, PrimitiveValue, Tag, VR};
use dicom_object::InMemDicomObject;

/// Puts text; empty text makes an empty element.
pub fn put(object: &mut InMemDicomObject, tag: Tag, vr: VR, text: &str) {
    let value = if text.is_empty() { PrimitiveValue::Empty } else { text.into() };
    object.put(DataElement::new(tag, vr, value));
}

/// Puts several texts, none of which holds a backslash.
pub fn put_all(object: &mut InMemDicomObject, tag: Tag, vr: VR, texts: &[&str]) {
    let value = PrimitiveValue::Strs(texts.iter().map(|t| t.to_string()).collect());
    object.put(DataElement::new(tag, vr, value));
}

/// Puts an unsigned short.
pub fn put_short(object: &mut InMemDicomObject, tag: Tag, value: u16) {
    object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
}

/// Puts signed long integers.
pub fn put_longs(object: &mut InMemDicomObject, tag: Tag, values: &[i32]) {
    object.put(DataElement::new(tag, VR::SL, PrimitiveValue::I32(values.into())));
}

/// Puts single precision numbers.
pub fn put_floats(object: &mut InMemDicomObject, tag: Tag, values: &[f32]) {
    object.put(DataElement::new(tag, VR::FL, PrimitiveValue::F32(values.into())));
}

/// Puts a sequence.
pub fn put_items(object: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    let sequence = DataSetSequence::new(items, Length::UNDEFINED);
    object.put(DataElement::new(tag, VR::SQ, sequence));
}

/// Copies those elements of `from` that it has.
pub fn copy(object: &mut InMemDicomObject, from: &InMemDicomObject, wanted: &[Tag]) {
    for element in wanted.iter().filter_map(|&tag| from.get(tag)) {
        object.put(element.clone());
    }
}

/// Makes elements of type 2 that are missing, empty.
pub fn complete(object: &mut InMemDicomObject, wanted: &[(Tag, VR)]) {
    for &(tag, vr) in wanted {
        if object.get(tag).is_none() {
            put(object, tag, vr, "");
        }
    }
}

/// Text as ASCII of at most `length` characters, without the backslash that parts values and
/// without control characters; each character replaced becomes a question mark.
pub fn ascii(text: &str, length: usize) -> String {
    let plain = |c: char| if matches!(c, ' '..='~') && c != '\\' { c } else { '?' };
    text.trim().chars().map(plain).take(length).collect()
}

/// A number as a decimal string of at most 16 characters.
pub fn decimal(value: f64) -> String {
    let text = format!("{value:.6}");
    if text.len() > 16 {
        return format!("{value:.6e}");
    }
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_ascii_of_bounded_length() {
        assert_eq!(ascii(" R\u{f6}ntgen\\1\n2 ", 64), "R?ntgen?1?2");
        assert_eq!(ascii("0123456789", 4), "0123");
    }

    #[test]
    fn decimal_strings_fit() {
        for value in [0.0, 0.143, 1e-9, 123_456.789, 1e12, -1e300] {
            let text = decimal(value);
            assert!(text.len() <= 16, "{text}");
            let back: f64 = text.parse().expect("a number");
            assert!((back - value).abs() <= 1e-6 * value.abs().max(1.0), "{text}");
        }
        assert_eq!([2400.0, 0.143, 0.0].map(decimal), ["2400", "0.143", "0"]);
    }
}
