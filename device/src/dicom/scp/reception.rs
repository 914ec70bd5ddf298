//! An object on its way from the wire into the inbox, piece by piece.

mod head;

use std::io::{self, ErrorKind, Write};

use dicom_object::FileMetaTableBuilder;

use self::head::{Head, MAX_HEAD};
use super::{Inbox, Reception, Refusal};
use crate::dicom::association::wire::{Wire, WireError};
use crate::dicom::identity::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};
use crate::spool::Arrival;

/// What the message says about the object that follows.
pub struct Announced<'a> {
    /// SOP Class UID.
    pub sop_class: &'a str,
    /// SOP Instance UID.
    pub sop_instance: &'a str,
    /// Transfer Syntax UID that was negotiated.
    pub transfer_syntax: &'a str,
    /// The sender's AE title.
    pub from: &'a str,
}

/// Receives a data set into the inbox as a DICOM file. A refused one is received all the same,
/// into nothing, so that its sender can be told why; the deadline bounds that.
///
/// # Errors
/// When the association fails meanwhile; the inner result says whether the object is on disk.
pub fn receive(
    wire: &mut Wire,
    context: u8,
    announced: &Announced,
    inbox: &dyn Inbox,
    most: u64,
) -> Result<Result<(), Refusal>, WireError> {
    let mut intake = Intake::begin(announced, inbox, most);
    loop {
        let (piece, last) = wire.receive_data(context)?;
        intake = intake.and_then(|intake| intake.take(&piece));
        if last {
            return Ok(intake.and_then(Intake::finish));
        }
    }
}

/// Receives a data set into nothing.
///
/// # Errors
/// When the association fails meanwhile.
pub fn discard(wire: &mut Wire, context: u8) -> Result<(), WireError> {
    while !wire.receive_data(context)?.1 {}
    Ok(())
}

/// An object of which a part has arrived.
struct Intake<'a> {
    announced: &'a Announced<'a>,
    reception: Box<dyn Reception>,
    /// The first bytes, until they tell whether the object is the announced one.
    head: Option<Vec<u8>>,
    /// Bytes that may still come.
    left: u64,
}

impl<'a> Intake<'a> {
    fn begin(announced: &'a Announced, inbox: &dyn Inbox, most: u64) -> Result<Self, Refusal> {
        let mut reception = inbox.begin()?;
        let prefix = file_prefix(announced).ok_or(Refusal::Failed)?;
        reception.write_all(&prefix).map_err(refusal)?;
        Ok(Self { announced, reception, head: Some(Vec::new()), left: most })
    }

    fn take(mut self, piece: &[u8]) -> Result<Self, Refusal> {
        self.left = self.left.checked_sub(piece.len() as u64).ok_or(Refusal::TooLarge)?;
        let Some(head) = &mut self.head else {
            self.reception.write_all(piece).map_err(refusal)?;
            return Ok(self);
        };
        head.extend_from_slice(piece);
        match Head::read(head, self.announced.transfer_syntax) {
            Head::Cut if head.len() < MAX_HEAD => Ok(self),
            read => self.pass(read),
        }
    }

    /// Lets the head through if it is the announced object's.
    fn pass(mut self, read: Head) -> Result<Self, Refusal> {
        match read {
            Head::Cut | Head::Unreadable | Head::Object { class: None, instance: None } => {
                return Err(Refusal::Unreadable);
            }
            Head::Object { class, instance } => {
                let same = class.as_deref() == Some(self.announced.sop_class)
                    && instance.as_deref() == Some(self.announced.sop_instance);
                if !same {
                    return Err(Refusal::Mismatch);
                }
            }
        }
        if let Some(head) = self.head.take() {
            self.reception.write_all(&head).map_err(refusal)?;
        }
        Ok(self)
    }

    fn finish(self) -> Result<(), Refusal> {
        if self.head.is_some() {
            // All there is ended before the object's identity.
            return Err(Refusal::Unreadable);
        }
        let arrival = Arrival {
            sop_class: self.announced.sop_class.to_owned(),
            sop_instance: self.announced.sop_instance.to_owned(),
            transfer_syntax: self.announced.transfer_syntax.to_owned(),
            from: self.announced.from.to_owned(),
        };
        self.reception.finish(arrival).map(drop)
    }
}

/// What stands before the data set in a DICOM file: preamble, `DICM` and the meta group (PS3.10
/// section 7.1). It does not say who sent it: the same object has the same bytes from anyone.
fn file_prefix(announced: &Announced) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 128];
    bytes.extend(b"DICM");
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(announced.sop_class)
        .media_storage_sop_instance_uid(announced.sop_instance)
        .transfer_syntax(announced.transfer_syntax)
        .implementation_class_uid(IMPLEMENTATION_CLASS_UID)
        .implementation_version_name(IMPLEMENTATION_VERSION_NAME)
        .build()
        .ok()?;
    meta.write(&mut bytes).ok()?;
    Some(bytes)
}

fn refusal(error: io::Error) -> Refusal {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem => {
            Refusal::OutOfResources
        }
        ErrorKind::FileTooLarge => Refusal::TooLarge,
        _ => Refusal::Failed,
    }
}
