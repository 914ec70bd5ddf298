//! Sending: C-ECHO and C-STORE to other application entities (PS3.4 annexes A and B).

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use dicom_dictionary_std::uids;
use dicom_object::FileMetaTable;

use super::association::command::{Command, element, field};
use super::association::data_set::{self, MAX_SMALL};
use super::association::requestor::{Association, MAX_CONTEXTS, OpenError, Proposal};
pub use super::association::requestor::{ClientTls, Destination, Timeouts};
use super::association::wire::{SendFailure, WireError};
use super::syntaxes;

/// Most bytes of a data set that is put into another transfer syntax in memory.
const MAX_CONVERTED: u64 = 64 * 1024 * 1024;

/// An object in a DICOM file (PS3.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectFile {
    /// The file.
    pub path: PathBuf,
    /// SOP Class UID.
    pub sop_class: String,
    /// SOP Instance UID.
    pub sop_instance: String,
    /// Transfer Syntax UID of the data set in the file.
    pub transfer_syntax: String,
}

/// A destination took an object and remarked on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// Place of the object among those sent.
    pub object: usize,
    /// The status, one of those that [`Outcome::of`] calls a warning.
    pub status: u16,
}

/// Why a destination does not have an object.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There is no association.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The association broke off.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The destination does not take such objects, or not in their transfer syntax.
    #[error("the destination does not take this kind of object")]
    Unsupported,
    /// The destination refused an object.
    #[error("the destination answered with status {0:04X}")]
    Status(u16),
    /// The destination's web server refused.
    #[error("the destination answered with HTTP status {0}")]
    Http(u16),
    /// The destination's answer makes no sense.
    #[error("the destination's answer is not understood")]
    Answer,
    /// The connection to the destination's web server failed.
    #[error("no answer from the destination: {0}")]
    Web(&'static str),
    /// The object cannot be read from its file.
    #[error("the object's file cannot be read: {0}")]
    File(io::ErrorKind),
    /// The object in the file is none, or not the one that was announced.
    #[error("the object's file is not what it should be")]
    Object,
    /// A question that cannot be asked.
    #[error("the question is not valid")]
    Question,
    /// What is needed to sign in or to trust the destination is missing.
    #[error("the destination's credentials or certificates cannot be used: {0}")]
    Credentials(String),
}

impl SendError {
    /// Whether the same delivery may succeed later without anyone's help. When in doubt, yes: the
    /// number of attempts is bounded elsewhere.
    pub fn is_transient(&self) -> bool {
        match self {
            SendError::Open(OpenError::Rejected { transient, .. }) => *transient,
            SendError::Open(OpenError::Request | OpenError::Tls) => false,
            SendError::Open(_) | SendError::Wire(_) | SendError::Answer | SendError::Web(_) => true,
            SendError::Unsupported
            | SendError::Object
            | SendError::Question
            | SendError::Credentials(_) => false,
            SendError::Status(status) => Outcome::of(*status) != Outcome::Refused,
            SendError::Http(status) => matches!(status, 408 | 425 | 429 | 500 | 502..=504 | 507),
            SendError::File(kind) => *kind != io::ErrorKind::NotFound,
        }
    }
}

impl From<SendFailure> for SendError {
    fn from(failure: SendFailure) -> Self {
        match failure {
            SendFailure::Wire(error) => SendError::Wire(error),
            SendFailure::Source(error) => SendError::File(error.kind()),
        }
    }
}

/// What a status means for whoever sent the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// Done, with a remark.
    Warning,
    /// Not done; may be done later.
    Later,
    /// Not done, and will not be.
    Refused,
    /// More answers follow.
    Pending,
}

impl Outcome {
    /// Classifies a status of a storage, query or normalised service (PS3.7 annex C; PS3.4 tables
    /// B.2-1 and C.4-1).
    pub fn of(status: u16) -> Self {
        match status {
            0x0000 => Outcome::Done,
            // Attribute list error and attribute value out of range, as warnings; coerced
            // elements, discarded elements, data set not matching the class.
            0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF => Outcome::Warning,
            // Duplicate instance: an earlier attempt arrived though its answer was lost. What the
            // board sends never changes under one instance UID.
            0x0111 => Outcome::Warning,
            0xFF00 | 0xFF01 => Outcome::Pending,
            // Processing failure, duplicate invocation, resource limitation, out of resources,
            // cancelled.
            0x0110 | 0x0210 | 0x0213 | 0xA700..=0xA7FF | 0xFE00 => Outcome::Later,
            // No such attribute, class, instance, event, argument or action; invalid or missing
            // values; class not supported; not authorised; unrecognised or mistyped; a data set
            // that does not match its class or cannot be understood.
            0x0105 | 0x0106 | 0x0112..=0x0115 | 0x0117..=0x0124 | 0x0211 | 0x0212 => {
                Outcome::Refused
            }
            0xA800..=0xA9FF | 0xC000..=0xCFFF => Outcome::Refused,
            // Statuses that no part of the standard has yet.
            _ => Outcome::Later,
        }
    }
}

/// Asks a destination whether it is there (PS3.4 annex A).
///
/// # Errors
/// Why it is not.
pub fn echo(destination: &Destination) -> Result<(), SendError> {
    let proposal = Proposal {
        abstract_syntax: uids::VERIFICATION.into(),
        transfer_syntaxes: vec![uids::IMPLICIT_VR_LITTLE_ENDIAN.into()],
    };
    with_association(destination, &[proposal], |association| {
        let context = association.contexts.first().ok_or(SendError::Unsupported)?.id;
        let command = Command::request(field::C_ECHO, 1)
            .with_uid(element::AFFECTED_CLASS, uids::VERIFICATION);
        association.wire.send_command(context, &command)?;
        response(association, field::C_ECHO, 1).map(drop)
    })
}

/// Sends objects to a destination, one after the other in one association (PS3.4 annex B). Stops
/// at the first that fails; sending again what has arrived does no harm.
///
/// # Errors
/// Why an object was not taken.
pub fn store(destination: &Destination, objects: &[ObjectFile]) -> Result<Vec<Note>, SendError> {
    if objects.is_empty() {
        return Ok(Vec::new());
    }
    with_association(destination, &proposals(objects)?, |association| {
        let mut notes = Vec::new();
        for (place, object) in objects.iter().enumerate() {
            // Any number goes as long as two requests in flight differ; there is never more than
            // one.
            let message = (place as u16) | 1;
            let status = send(association, object, message)?;
            if status != 0 {
                notes.push(Note { object: place, status });
            }
        }
        Ok(notes)
    })
}

/// Opens an association, uses it, and releases it, or aborts it after a failure.
pub(super) fn with_association<T>(
    destination: &Destination,
    proposals: &[Proposal],
    work: impl FnOnce(&mut Association) -> Result<T, SendError>,
) -> Result<T, SendError> {
    let mut association = Association::open(destination, proposals)?;
    let worked = work(&mut association);
    match &worked {
        // Refused, but in order: the association is between two messages.
        Ok(_) | Err(SendError::Status(_) | SendError::Unsupported) => association.release(),
        Err(SendError::Wire(error)) => association.wire.abort(*error),
        Err(_) => association.wire.abort(WireError::Unexpected),
    }
    worked
}

/// One context for each kind of object and transfer syntax. The default transfer syntax is
/// proposed too, as PS3.5 section 10.1 asks, unless the picture is compressed.
fn proposals(objects: &[ObjectFile]) -> Result<Vec<Proposal>, SendError> {
    let mut proposals: Vec<Proposal> = Vec::new();
    for object in objects {
        let own = object.transfer_syntax.as_str();
        for transfer_syntax in std::iter::once(own).chain(other_plain(own)) {
            let proposal = Proposal {
                abstract_syntax: object.sop_class.clone(),
                transfer_syntaxes: vec![transfer_syntax.into()],
            };
            if !proposals.contains(&proposal) {
                proposals.push(proposal);
            }
        }
    }
    if proposals.len() > MAX_CONTEXTS { Err(SendError::Unsupported) } else { Ok(proposals) }
}

fn send(
    association: &mut Association,
    object: &ObjectFile,
    message: u16,
) -> Result<u16, SendError> {
    let class = &object.sop_class;
    let own = association.context(class, &object.transfer_syntax).map(|context| context.id);
    let other = || {
        let syntax = other_plain(&object.transfer_syntax)?;
        Some((association.context(class, syntax)?.id, syntax))
    };
    let (context, mut data): (u8, Box<dyn Read>) = match own {
        Some(context) => (context, Box::new(open_data_set(object)?)),
        None => {
            let (context, syntax) = other().ok_or(SendError::Unsupported)?;
            (context, Box::new(io::Cursor::new(converted(object, syntax)?)))
        }
    };
    let command = Command::request(field::C_STORE, message)
        .with_uid(element::AFFECTED_CLASS, &object.sop_class)
        .with_uid(element::AFFECTED_INSTANCE, &object.sop_instance)
        .with(element::PRIORITY, 0)
        .with_data_set();
    association.wire.send_command(context, &command)?;
    association.wire.send_data(context, &mut data)?;
    response(association, field::C_STORE, message)
}

/// The other one of the two plain transfer syntaxes; none for a compressed picture.
fn other_plain(transfer_syntax: &str) -> Option<&'static str> {
    let [explicit, implicit] = syntaxes::PLAIN;
    match transfer_syntax {
        own if own == explicit => Some(implicit),
        own if own == implicit => Some(explicit),
        _ => None,
    }
}

/// The data set in another plain transfer syntax, for a destination that does not take its own.
fn converted(object: &ObjectFile, transfer_syntax: &str) -> Result<Vec<u8>, SendError> {
    let mut bytes = Vec::new();
    let mut file = open_data_set(object)?.take(MAX_CONVERTED + 1);
    file.read_to_end(&mut bytes).map_err(|error| SendError::File(error.kind()))?;
    if bytes.len() as u64 > MAX_CONVERTED {
        return Err(SendError::Unsupported);
    }
    let read = data_set::read(&bytes, &object.transfer_syntax).map_err(|_| SendError::Object)?;
    drop(bytes);
    data_set::write(&read, transfer_syntax).map_err(|_| SendError::Object)
}

/// Opens an object's file at its data set, having checked that it holds what was announced.
fn open_data_set(object: &ObjectFile) -> Result<impl Read + use<>, SendError> {
    let mut file = open(&object.path)?;
    let io = |error: io::Error| SendError::File(error.kind());
    file.seek(SeekFrom::Start(128)).map_err(io)?;
    let meta = FileMetaTable::from_reader(&mut file).map_err(|_| SendError::Object)?;
    let same = |found: &str, wanted: &str| found.trim_end_matches(['\0', ' ']) == wanted;
    if same(meta.transfer_syntax(), &object.transfer_syntax)
        && same(meta.media_storage_sop_class_uid(), &object.sop_class)
        && same(meta.media_storage_sop_instance_uid(), &object.sop_instance)
    {
        Ok(file)
    } else {
        Err(SendError::Object)
    }
}

fn open(path: &Path) -> Result<BufReader<File>, SendError> {
    File::open(path).map(BufReader::new).map_err(|error| SendError::File(error.kind()))
}

/// Waits for the answer to a request; gives the status of a success.
fn response(association: &mut Association, field: u16, message: u16) -> Result<u16, SendError> {
    let answer = association.wire.receive_message(MAX_SMALL)?;
    check_response(&answer.command, field, message)
}

/// The status of the only response to a request, where it is a success or a warning.
///
/// # Errors
/// [`SendError::Status`] for a failure, [`SendError::Answer`] for no such response.
pub(super) fn check_response(answer: &Command, field: u16, message: u16) -> Result<u16, SendError> {
    let status = status(answer, field, message)?;
    match Outcome::of(status) {
        Outcome::Done | Outcome::Warning => Ok(status),
        Outcome::Later | Outcome::Refused => Err(SendError::Status(status)),
        Outcome::Pending => Err(SendError::Answer),
    }
}

/// The status of a response to a request, whatever it is.
///
/// # Errors
/// [`SendError::Answer`] for no such response.
pub(super) fn status(answer: &Command, field: u16, message: u16) -> Result<u16, SendError> {
    let expected = answer.field() == field | field::RESPONSE
        && answer.number(element::RESPONDED) == Some(message);
    answer.number(element::STATUS).filter(|_| expected).ok_or(SendError::Answer)
}

#[cfg(test)]
mod tests;
