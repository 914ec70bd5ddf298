//! Command sets: the head of every message (PS3.7 section 6.3 and annex E).

use std::collections::BTreeMap;

/// Most bytes of a command set; those in use have a few hundred.
pub const MAX_COMMAND: usize = 16 * 1024;

/// Elements of group 0000, by their element number (PS3.7 annex E.1).
pub mod element {
    /// Affected SOP Class UID.
    pub const AFFECTED_CLASS: u16 = 0x0002;
    /// Requested SOP Class UID.
    pub const REQUESTED_CLASS: u16 = 0x0003;
    /// Command Field.
    pub const FIELD: u16 = 0x0100;
    /// Message ID.
    pub const MESSAGE: u16 = 0x0110;
    /// Message ID Being Responded To.
    pub const RESPONDED: u16 = 0x0120;
    /// Priority.
    pub const PRIORITY: u16 = 0x0700;
    /// Command Data Set Type.
    pub const DATA_SET: u16 = 0x0800;
    /// Status.
    pub const STATUS: u16 = 0x0900;
    /// Affected SOP Instance UID.
    pub const AFFECTED_INSTANCE: u16 = 0x1000;
    /// Requested SOP Instance UID.
    pub const REQUESTED_INSTANCE: u16 = 0x1001;
    /// Event Type ID.
    pub const EVENT_TYPE: u16 = 0x1002;
    /// Action Type ID.
    pub const ACTION_TYPE: u16 = 0x1008;
}

/// Values of the Command Field (PS3.7 annex E.1).
pub mod field {
    /// C-STORE request.
    pub const C_STORE: u16 = 0x0001;
    /// C-FIND request.
    pub const C_FIND: u16 = 0x0020;
    /// C-ECHO request.
    pub const C_ECHO: u16 = 0x0030;
    /// C-CANCEL request.
    pub const C_CANCEL: u16 = 0x0FFF;
    /// N-EVENT-REPORT request.
    pub const N_EVENT_REPORT: u16 = 0x0100;
    /// N-ACTION request.
    pub const N_ACTION: u16 = 0x0130;
    /// Added to a request's value in its response.
    pub const RESPONSE: u16 = 0x8000;
}

/// Command Data Set Type of a message without a data set.
const NO_DATA_SET: u16 = 0x0101;
/// Command Data Set Type of a message with one: any other value.
const WITH_DATA_SET: u16 = 0x0001;

/// Bytes that are no command set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A command set: the values of its elements, as they are on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    elements: BTreeMap<u16, Vec<u8>>,
}

impl Command {
    /// A message of this [`field`] without a data set.
    pub fn new(field: u16) -> Self {
        let command = Self { elements: BTreeMap::new() };
        command.with(element::FIELD, field).with(element::DATA_SET, NO_DATA_SET)
    }

    /// A request with this number.
    pub fn request(field: u16, message: u16) -> Self {
        Self::new(field).with(element::MESSAGE, message)
    }

    /// The response to a request, naming its class and instance where it names them.
    pub fn response(request: &Command, status: u16) -> Self {
        let field = request.field() | field::RESPONSE;
        let message = request.number(element::MESSAGE).unwrap_or(0);
        let response =
            Self::new(field).with(element::RESPONDED, message).with(element::STATUS, status);
        [element::AFFECTED_CLASS, element::AFFECTED_INSTANCE].into_iter().fold(
            response,
            |response, element| match request.uid(element) {
                Some(uid) => response.with_uid(element, uid),
                None => response,
            },
        )
    }

    /// Sets a number.
    pub fn with(mut self, element: u16, value: u16) -> Self {
        self.elements.insert(element, value.to_le_bytes().to_vec());
        self
    }

    /// Sets a UID.
    pub fn with_uid(mut self, element: u16, uid: &str) -> Self {
        self.elements.insert(element, even(uid.as_bytes().to_vec(), 0));
        self
    }

    /// Says that a data set follows.
    pub fn with_data_set(self) -> Self {
        self.with(element::DATA_SET, WITH_DATA_SET)
    }

    /// A number, where it is there.
    pub fn number(&self, element: u16) -> Option<u16> {
        let value: [u8; 2] = self.elements.get(&element)?.as_slice().try_into().ok()?;
        Some(u16::from_le_bytes(value))
    }

    /// A UID without its padding, where it is there.
    pub fn uid(&self, element: u16) -> Option<&str> {
        let text = std::str::from_utf8(self.elements.get(&element)?).ok()?;
        Some(text.trim_end_matches(['\0', ' '])).filter(|uid| !uid.is_empty())
    }

    /// What kind of message it is; 0, which no message has, where it does not say.
    pub fn field(&self) -> u16 {
        self.number(element::FIELD).unwrap_or(0)
    }

    /// Whether a data set follows.
    pub fn has_data_set(&self) -> bool {
        self.number(element::DATA_SET) != Some(NO_DATA_SET)
    }

    /// The command set in implicit VR little endian, with its group length.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (&element, value) in &self.elements {
            push(&mut body, element, value);
        }
        let mut bytes = Vec::with_capacity(body.len() + 12);
        push(&mut bytes, 0, &(body.len() as u32).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    /// Reads a command set. Elements of other groups and the group length are passed over.
    ///
    /// # Errors
    /// [`Malformed`] when a length reaches beyond the end, or a part of an element is left.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let mut elements = BTreeMap::new();
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_first_chunk::<8>().ok_or(Malformed)?;
            let number = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let (value, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
            if number(0) == 0 && number(2) != 0 {
                elements.insert(number(2), value.to_vec());
            }
            bytes = rest;
        }
        Ok(Self { elements })
    }
}

fn push(bytes: &mut Vec<u8>, element: u16, value: &[u8]) {
    bytes.extend([0, 0]);
    bytes.extend(element.to_le_bytes());
    bytes.extend((value.len() as u32).to_le_bytes());
    bytes.extend(value);
}

/// Values have an even length (PS3.5 section 7.1.1).
fn even(mut value: Vec<u8>, padding: u8) -> Vec<u8> {
    if value.len() % 2 == 1 {
        value.push(padding);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_back() {
        let command = Command::request(field::C_STORE, 7)
            .with_uid(element::AFFECTED_CLASS, "1.2.3")
            .with_uid(element::AFFECTED_INSTANCE, "1.2.34")
            .with_data_set();
        let read = Command::decode(&command.encode()).expect("decode");
        assert_eq!(read, command);
        assert_eq!(read.uid(element::AFFECTED_CLASS), Some("1.2.3"));
        assert!(read.has_data_set());
        assert_eq!(command.encode().len() % 2, 0);
    }

    #[test]
    fn another_library_reads_it() {
        use dicom_object::InMemDicomObject;
        let syntax = dicom_transfer_syntax_registry::entries::IMPLICIT_VR_LITTLE_ENDIAN.erased();
        let bytes = Command::request(field::C_ECHO, 9).encode();
        let read = InMemDicomObject::read_dataset_with_ts(&bytes[..], &syntax).expect("read");
        let group: u32 = read
            .element(dicom_dictionary_std::tags::COMMAND_GROUP_LENGTH)
            .expect("group")
            .to_int()
            .expect("int");
        assert_eq!(group as usize, bytes.len() - 12);
    }

    #[test]
    fn a_cut_command_is_malformed() {
        let bytes = Command::request(field::C_ECHO, 1).encode();
        for end in [1, 7, 11, 13, bytes.len() - 1] {
            assert_eq!(Command::decode(&bytes[..end]), Err(Malformed), "{end}");
        }
        let mut long = bytes;
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Command::decode(&long), Err(Malformed));
    }

    #[test]
    fn odd_values_are_absent() {
        let command = Command::decode(&[0, 0, 0, 1, 1, 0, 0, 0, 9]).expect("decode");
        assert_eq!((command.number(element::FIELD), command.field()), (None, 0));
        assert_eq!(command.uid(element::AFFECTED_CLASS), None);
        assert!(command.has_data_set());
    }
}
