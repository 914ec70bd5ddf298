//! What a data set's first bytes say about itself.

use dicom_core::Tag;
use dicom_core::header::Header;
use dicom_dictionary_std::tags;
use dicom_encoding::TransferSyntaxIndex;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

/// Most bytes in which the identity must come; it is among the first elements.
pub const MAX_HEAD: usize = 64 * 1024;
/// Group of the elements that open and close items and sequences.
const ITEM_GROUP: u16 = 0xFFFE;

/// Ends a sequence whose length was not given (PS3.5 section 7.5).
const SEQUENCE_END: Tag = Tag(ITEM_GROUP, 0xE0DD);

/// The first bytes of a data set.
#[derive(Debug, PartialEq, Eq)]
pub enum Head {
    /// The identity may follow.
    Cut,
    /// The bytes are no data set.
    Unreadable,
    /// The identity, as far as there is one.
    Object {
        /// SOP Class UID.
        class: Option<String>,
        /// SOP Instance UID.
        instance: Option<String>,
    },
}

impl Head {
    /// Reads elements up to the SOP Instance UID, stepping over sequences.
    pub fn read(bytes: &[u8], transfer_syntax: &str) -> Self {
        let decoder = TransferSyntaxRegistry
            .get(transfer_syntax)
            .and_then(|syntax| syntax.decoder_for::<&[u8]>());
        let Some(decoder) = decoder else { return Head::Unreadable };
        let (mut class, mut instance) = (None, None);
        let (mut rest, mut depth, mut last) = (bytes, 0usize, Tag(0, 0));
        loop {
            let Ok((header, _)) = decoder.decode_header(&mut rest) else { return Head::Cut };
            let tag = header.tag();
            if depth == 0 {
                if tag > tags::SOP_INSTANCE_UID {
                    return Head::Object { class, instance };
                }
                // Elements come in rising order (PS3.5 section 7.1), and those of a data set
                // belong to no lower group than the second after the meta group.
                if tag <= last || tag.group() <= 0x0002 {
                    return Head::Unreadable;
                }
                last = tag;
            }
            let Some(length) = header.len.get() else {
                // An item without a length is walked through like the sequence it is in.
                depth += usize::from(tag.group() != ITEM_GROUP);
                continue;
            };
            if tag == SEQUENCE_END {
                depth = depth.saturating_sub(1);
                continue;
            }
            let Some((value, behind)) = rest.split_at_checked(length as usize) else {
                return Head::Cut;
            };
            rest = behind;
            match tag {
                tags::SOP_CLASS_UID if depth == 0 => class = uid(value),
                tags::SOP_INSTANCE_UID if depth == 0 => {
                    instance = uid(value);
                    return Head::Object { class, instance };
                }
                _ => {}
            }
        }
    }
}

fn uid(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    Some(text.trim_end_matches(['\0', ' ']).to_owned())
}

#[cfg(test)]
mod tests {
    use dicom_dictionary_std::uids;

    use super::*;

    const IMPLICIT: &str = uids::IMPLICIT_VR_LITTLE_ENDIAN;

    fn element(group: u16, element: u16, length: u32, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(group.to_le_bytes());
        bytes.extend(element.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(value);
        bytes
    }

    fn identity() -> Vec<u8> {
        [element(8, 0x16, 4, b"1.2\0"), element(8, 0x18, 4, b"3.4 ")].concat()
    }

    fn object(class: &str, instance: &str) -> Head {
        Head::Object { class: Some(class.into()), instance: Some(instance.into()) }
    }

    #[test]
    fn the_identity_is_found_behind_a_sequence_without_a_length() {
        let open = u32::MAX;
        let bytes = [
            element(8, 0x05, 2, b"A "),
            element(8, 0x06, open, b""),
            element(0xFFFE, 0xE000, open, b""),
            element(8, 0x18, 4, b"9.9\0"),
            element(0xFFFE, 0xE00D, 0, b""),
            element(0xFFFE, 0xE0DD, 0, b""),
            identity(),
        ];
        assert_eq!(Head::read(&bytes.concat(), IMPLICIT), object("1.2", "3.4"));
    }

    #[test]
    fn a_part_of_it_is_cut() {
        let bytes = identity();
        for end in [0, 5, 8, 11, 12, bytes.len() - 1] {
            assert_eq!(Head::read(&bytes[..end], IMPLICIT), Head::Cut, "{end}");
        }
        assert_eq!(Head::read(&element(8, 5, u32::MAX - 1, b""), IMPLICIT), Head::Cut);
    }

    #[test]
    fn a_file_is_no_data_set() {
        let mut file = vec![0; 128];
        file.extend(b"DICM");
        assert_eq!(Head::read(&file, IMPLICIT), Head::Unreadable);
        assert_eq!(Head::read(&element(2, 0, 4, &[0; 4]), IMPLICIT), Head::Unreadable);
    }

    #[test]
    fn one_without_identity_says_so() {
        let none = Head::Object { class: None, instance: None };
        assert_eq!(Head::read(&element(0x10, 0x10, 2, b"X "), IMPLICIT), none);
    }
}
