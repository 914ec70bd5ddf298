//! A peer that speaks DICOM byte by byte (PS3.8 section 9.3), to speak it wrongly.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use dicom_dictionary_std::uids;
use tests::board::{BOARD, Board, CALLER, PATIENCE};

/// The class of the objects that a peer announces.
pub const CLASS: &str = uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION;
/// The context that it is sent in.
const CONTEXT: u8 = 1;
/// Bytes of data in a unit of usual size.
pub const PIECE: usize = 16 * 1024;

/// A connection to a board.
pub struct Peer {
    stream: TcpStream,
}

impl Peer {
    /// Connects.
    pub fn connect(board: &Board) -> io::Result<Self> {
        let stream = TcpStream::connect(board.dicom)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// Connects and has an association accepted.
    pub fn associate(board: &Board) -> io::Result<Self> {
        let mut peer = Self::connect(board)?;
        peer.send(&request())?;
        let accepted = peer.receive()?;
        assert_eq!(accepted.first(), Some(&2), "the association is accepted");
        Ok(peer)
    }

    /// As [`Peer::associate`], and announces an object.
    pub fn announce(board: &Board, instance: &str) -> io::Result<Self> {
        let mut peer = Self::associate(board)?;
        peer.send(&command_unit(&store(instance)))?;
        Ok(peer)
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a piece of a data set.
    pub fn send_data(&mut self, data: &[u8], is_last: bool) -> io::Result<()> {
        self.send(&data_unit(data, is_last))
    }

    /// Receives a unit.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut unit = vec![0; 6];
        self.stream.read_exact(&mut unit)?;
        let length = u32::from_be_bytes([unit[2], unit[3], unit[4], unit[5]]);
        assert!(length < 1 << 20, "the board sends short units");
        unit.resize(6 + length as usize, 0);
        self.stream.read_exact(&mut unit[6..])?;
        Ok(unit)
    }

    /// Receives the status of a response.
    pub fn receive_status(&mut self) -> io::Result<u16> {
        const STATUS: [u8; 8] = [0, 0, 0, 9, 2, 0, 0, 0];
        let unit = self.receive()?;
        let at = unit.windows(8).position(|element| element == STATUS).expect("a response") + 8;
        Ok(u16::from_le_bytes([unit[at], unit[at + 1]]))
    }

    /// Sends nothing more, and waits until the board ends the connection too.
    pub fn hang_up(self) {
        // It may have ended already.
        let _ = self.stream.shutdown(Shutdown::Write);
        self.expect_end();
    }

    /// Waits until the board ends the connection. An answer before that is read and dropped.
    pub fn expect_end(mut self) {
        let mut rest = Vec::new();
        match (&mut self.stream).take(1 << 20).read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert!(
                !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
                "the board does not end the connection"
            ),
        }
    }
}

/// A lawful association request for one class of objects.
pub fn request() -> Vec<u8> {
    let item = |kind: u8, body: &[u8]| {
        let mut item = vec![kind, 0];
        item.extend((body.len() as u16).to_be_bytes());
        item.extend(body);
        item
    };
    let class = item(0x30, CLASS.as_bytes());
    let syntax = item(0x40, uids::EXPLICIT_VR_LITTLE_ENDIAN.as_bytes());
    let context = item(0x20, &[&[CONTEXT, 0, 0, 0], &class[..], &syntax].concat());
    let length = item(0x51, &(PIECE as u32).to_be_bytes());
    let user = item(0x50, &[length, item(0x52, b"1.2.3")].concat());
    let title = |title: &str| format!("{title:<16}").into_bytes();
    let application = item(0x10, b"1.2.840.10008.3.1.1.1");
    let head = [vec![0, 1, 0, 0], title(BOARD), title(CALLER), vec![0; 32]].concat();
    unit(1, &[head, application, context, user].concat())
}

/// A C-STORE request's command set.
pub fn store(instance: &str) -> Vec<u8> {
    let short = |number: u16| number.to_le_bytes().to_vec();
    let text = |uid: &str| {
        let mut bytes = uid.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        bytes
    };
    [
        element(0x0002, &text(CLASS)),
        element(0x0100, &short(1)),
        element(0x0110, &short(1)),
        element(0x0700, &short(0)),
        element(0x0800, &short(1)),
        element(0x1000, &text(instance)),
    ]
    .concat()
}

fn element(number: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(number.to_le_bytes());
    bytes.extend((value.len() as u32).to_le_bytes());
    bytes.extend(value);
    bytes
}

/// The beginning of a data set, explicit little endian: class and instance.
pub fn identity(instance: &str) -> Vec<u8> {
    [text_element(0x16, CLASS), text_element(0x18, instance)].concat()
}

/// An element of group 0008 that holds a UID, explicit little endian.
fn text_element(number: u16, uid: &str) -> Vec<u8> {
    let mut value = uid.as_bytes().to_vec();
    value.resize(value.len().next_multiple_of(2), 0);
    let mut bytes = vec![0x08, 0];
    bytes.extend(number.to_le_bytes());
    bytes.extend(b"UI");
    bytes.extend((value.len() as u16).to_le_bytes());
    bytes.extend(value);
    bytes
}

/// A unit with a whole command set.
pub fn command_unit(command: &[u8]) -> Vec<u8> {
    values(command, 3)
}

/// A unit with a piece of a data set.
pub fn data_unit(data: &[u8], is_last: bool) -> Vec<u8> {
    values(data, if is_last { 2 } else { 0 })
}

fn values(data: &[u8], header: u8) -> Vec<u8> {
    let mut body = (data.len() as u32 + 2).to_be_bytes().to_vec();
    body.extend([CONTEXT, header]);
    body.extend(data);
    unit(4, &body)
}

/// A unit of any kind.
pub fn unit(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0];
    bytes.extend((body.len() as u32).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A unit that announces another length than it has.
pub fn false_unit(kind: u8, body: &[u8], length: u32) -> Vec<u8> {
    let mut bytes = unit(kind, body);
    bytes[2..6].copy_from_slice(&length.to_be_bytes());
    bytes
}
