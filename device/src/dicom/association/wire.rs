//! Protocol data units and messages over a connection (PS3.8 section 9.3, PS3.7 section 6.3).
//!
//! The length of a unit is checked before its bytes are read, and memory grows only with bytes
//! that arrived.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use dicom_ul::pdu::{
    AbortRQServiceProviderReason as Reason, AbortRQSource, PDataValue, PDataValueType, Pdu,
    read_pdu, write_pdu,
};

use super::command::{Command, MAX_COMMAND};
use super::socket::{Transport, deadline_in};

/// Longest association request or answer, in bytes: 128 contexts with the transfer syntaxes that
/// exist need less. The negotiated maximum holds for P-DATA alone (PS3.8 annex D.1).
const MAX_NEGOTIATION: u32 = 128 * 1024;
/// Longest unit that carries neither data nor a negotiation; they have 4 bytes.
const MAX_SIGNAL: u32 = 1024;
/// Longest P-DATA unit sent to a peer that names a larger maximum, or none.
const MAX_SENT: u32 = 128 * 1024;
/// Bytes of a data value's head: its length, context and control header.
const VALUE_HEAD: u32 = 6;
/// Bytes of a unit's head: its type, a reserved byte and its length.
const HEAD: usize = 6;

/// How long a peer may take to read the last unit and close the connection.
const GOODBYE: Duration = Duration::from_millis(500);
/// Most bytes read and dropped meanwhile.
const MAX_UNREAD: u64 = 1024 * 1024;

/// Why nothing more comes over a connection. Never quotes what was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The peer was silent or slow for too long.
    #[error("the peer took too long")]
    TimedOut,
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(ErrorKind),
    /// TLS failed: no common version, a certificate that is not trusted, or no TLS at all.
    #[error("the secure connection failed")]
    Insecure,
    /// The peer aborted the association.
    #[error("the peer aborted the association")]
    Aborted,
    /// A unit or message is longer than allowed.
    #[error("the peer sent more than the allowed length")]
    TooLong,
    /// A unit of a type that does not exist.
    #[error("the peer sent something that is not DICOM")]
    Unrecognized,
    /// A unit or message that has no place here.
    #[error("the peer sent something out of turn")]
    Unexpected,
    /// A unit or message that does not parse.
    #[error("the peer sent a malformed message")]
    Malformed,
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::TimedOut => WireError::TimedOut,
            // How TLS reports whatever it does not like.
            ErrorKind::InvalidData => WireError::Insecure,
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                WireError::Closed
            }
            kind => WireError::Broken(kind),
        }
    }
}

/// A whole message with a small data set, or none.
pub struct Message {
    /// Presentation context it came in.
    pub context: u8,
    /// Its command set.
    pub command: Command,
    /// Its data set.
    pub data: Option<Vec<u8>>,
}

/// A connection that carries protocol data units.
pub struct Wire {
    transport: Transport,
    /// Longest P-DATA unit that the peer may send.
    max_received: u32,
    /// Longest P-DATA unit that the peer takes.
    max_sent: u32,
    /// Values of the last unit that nobody has asked for yet.
    values: VecDeque<PDataValue>,
    unit: Vec<u8>,
}

impl Wire {
    /// Units over `transport`, those with data at most `max_received` bytes long.
    pub fn new(transport: Transport, max_received: u32) -> Self {
        let (values, unit) = (VecDeque::new(), Vec::new());
        Self { transport, max_received, max_sent: MAX_SENT, values, unit }
    }

    /// Moves the deadline of all reads and writes.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.transport.set_deadline(deadline);
    }

    /// Sets the longest P-DATA unit that the peer takes; 0 for any.
    ///
    /// # Errors
    /// [`WireError::Malformed`] for a maximum that leaves no room for data.
    pub fn set_max_sent(&mut self, length: u32) -> Result<(), WireError> {
        self.max_sent = match length {
            0 => MAX_SENT,
            1..=16 => return Err(WireError::Malformed),
            length => length.min(MAX_SENT),
        };
        Ok(())
    }

    /// Sends a unit.
    ///
    /// # Errors
    /// When it cannot be written, in time or at all.
    pub fn send(&mut self, unit: &Pdu) -> Result<(), WireError> {
        self.unit.clear();
        write_pdu(&mut self.unit, unit).map_err(|_| WireError::Malformed)?;
        self.transport.write_all(&self.unit)?;
        Ok(self.transport.flush()?)
    }

    /// Sends a command set.
    ///
    /// # Errors
    /// When it cannot be written, in time or at all.
    pub fn send_command(&mut self, context: u8, command: &Command) -> Result<(), WireError> {
        self.send_values(context, PDataValueType::Command, &mut &command.encode()[..]).map_err(
            |failure| match failure {
                SendFailure::Wire(error) => error,
                SendFailure::Source(error) => WireError::Broken(error.kind()),
            },
        )
    }

    /// Sends a data set from a reader, one unit at a time.
    ///
    /// # Errors
    /// When the reader fails, or the data cannot be written, in time or at all.
    pub fn send_data(&mut self, context: u8, data: &mut impl Read) -> Result<(), SendFailure> {
        self.send_values(context, PDataValueType::Data, data)
    }

    fn send_values(
        &mut self,
        presentation_context_id: u8,
        kind: PDataValueType,
        source: &mut impl Read,
    ) -> Result<(), SendFailure> {
        let room = u64::from(self.max_sent - VALUE_HEAD) & !1;
        let mut next = fragment(source, room)?;
        loop {
            let data = next;
            next = fragment(source, room)?;
            let is_last = next.is_empty();
            let value_type = kind.clone();
            let value = PDataValue { presentation_context_id, value_type, is_last, data };
            self.send(&Pdu::PData { data: vec![value] })?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Receives the next unit, whatever it is.
    ///
    /// # Errors
    /// When none comes in time, or it is too long, unknown or malformed.
    pub fn receive(&mut self) -> Result<Pdu, WireError> {
        let mut head = [0; HEAD];
        self.transport.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
        let most = match head[0] {
            1 | 2 => MAX_NEGOTIATION,
            3 | 5..=7 => MAX_SIGNAL,
            4 => self.max_received,
            _ => return Err(WireError::Unrecognized),
        };
        if length > most {
            return Err(WireError::TooLong);
        }
        self.unit.clear();
        self.unit.extend(head);
        let arrived = (&mut self.transport).take(length.into()).read_to_end(&mut self.unit)?;
        if arrived < length as usize {
            return Err(WireError::Closed);
        }
        match read_pdu(&self.unit[..], MAX_NEGOTIATION.max(most), true) {
            Ok(Some(unit)) => Ok(unit),
            _ => Err(WireError::Malformed),
        }
    }

    /// Receives the next command set and the context it came in; `None` when the peer asks to
    /// release the association instead.
    ///
    /// # Errors
    /// When none comes in time, or it is too long or malformed, or something else comes.
    pub fn receive_command(&mut self) -> Result<Option<(u8, Command)>, WireError> {
        let Some(first) = self.next_value()? else { return Ok(None) };
        let context = first.presentation_context_id;
        let (mut bytes, mut value) = (Vec::new(), first);
        loop {
            let fits = value.presentation_context_id == context;
            if value.value_type != PDataValueType::Command || !fits {
                return Err(WireError::Unexpected);
            }
            bytes.extend(value.data);
            if bytes.len() > MAX_COMMAND {
                return Err(WireError::TooLong);
            }
            if value.is_last {
                break;
            }
            value = self.next_value()?.ok_or(WireError::Unexpected)?;
        }
        let command = Command::decode(&bytes).map_err(|_| WireError::Malformed)?;
        Ok(Some((context, command)))
    }

    /// Receives the next piece of a data set, and whether it is the last.
    ///
    /// # Errors
    /// When none comes in time, or something else comes.
    pub fn receive_data(&mut self, context: u8) -> Result<(Vec<u8>, bool), WireError> {
        let value = self.next_value()?.ok_or(WireError::Unexpected)?;
        let fits = value.presentation_context_id == context;
        if value.value_type != PDataValueType::Data || !fits {
            return Err(WireError::Unexpected);
        }
        Ok((value.data, value.is_last))
    }

    /// Receives a whole data set of at most `most` bytes.
    ///
    /// # Errors
    /// When it does not come in time, is too long, or something else comes.
    pub fn receive_small(&mut self, context: u8, most: usize) -> Result<Vec<u8>, WireError> {
        let mut data = Vec::new();
        loop {
            let (piece, last) = self.receive_data(context)?;
            data.extend(piece);
            if data.len() > most {
                return Err(WireError::TooLong);
            }
            if last {
                return Ok(data);
            }
        }
    }

    /// Receives a whole message whose data set has at most `most` bytes.
    ///
    /// # Errors
    /// When none comes in time, is too long or malformed, or something else comes.
    pub fn receive_message(&mut self, most: usize) -> Result<Message, WireError> {
        let (context, command) = self.receive_command()?.ok_or(WireError::Unexpected)?;
        let data = match command.has_data_set() {
            true => Some(self.receive_small(context, most)?),
            false => None,
        };
        Ok(Message { context, command, data })
    }

    /// The next data value; `None` for a request to release.
    fn next_value(&mut self) -> Result<Option<PDataValue>, WireError> {
        loop {
            if let Some(value) = self.values.pop_front() {
                return Ok(Some(value));
            }
            match self.receive()? {
                Pdu::PData { data } if data.is_empty() => return Err(WireError::Malformed),
                Pdu::PData { data } => self.values = data.into(),
                Pdu::ReleaseRQ => return Ok(None),
                Pdu::AbortRQ { .. } => return Err(WireError::Aborted),
                _ => return Err(WireError::Unexpected),
            }
        }
    }

    /// Ends the association and the connection, telling the peer why where it still listens
    /// (PS3.8 section 9.3.8).
    pub fn abort(&mut self, why: WireError) {
        let source = match why {
            WireError::Closed | WireError::Aborted | WireError::Insecure | WireError::Broken(_) => {
                return self.close();
            }
            WireError::TimedOut => AbortRQSource::ServiceUser,
            WireError::Unrecognized => AbortRQSource::ServiceProvider(Reason::UnrecognizedPdu),
            WireError::Unexpected => AbortRQSource::ServiceProvider(Reason::UnexpectedPdu),
            WireError::TooLong | WireError::Malformed => {
                AbortRQSource::ServiceProvider(Reason::InvalidPduParameter)
            }
        };
        // The deadline may have passed; an abort that fits into the socket's buffer needs no time.
        self.set_deadline(deadline_in(GOODBYE));
        let _ = self.send(&Pdu::AbortRQ { source });
        self.finish();
    }

    /// Ends the connection once the peer has had a moment to read the last unit: to close it while
    /// bytes from the peer lie unread would take that unit away from it.
    pub fn finish(&mut self) {
        self.set_deadline(deadline_in(GOODBYE));
        self.transport.end_writing();
        let _ = io::copy(&mut (&mut self.transport).take(MAX_UNREAD), &mut io::sink());
        self.close();
    }

    /// Tells the peer that nothing more is sent.
    pub fn end_writing(&mut self) {
        self.transport.end_writing();
    }

    /// Ends the connection.
    pub fn close(&mut self) {
        self.transport.close();
    }
}

/// Why a data set was not sent.
#[derive(Debug)]
pub enum SendFailure {
    /// The connection failed.
    Wire(WireError),
    /// The data set could not be read.
    Source(io::Error),
}

impl From<WireError> for SendFailure {
    fn from(error: WireError) -> Self {
        SendFailure::Wire(error)
    }
}

fn fragment(source: &mut impl Read, room: u64) -> Result<Vec<u8>, SendFailure> {
    let mut piece = Vec::new();
    source.take(room).read_to_end(&mut piece).map_err(SendFailure::Source)?;
    Ok(piece)
}
