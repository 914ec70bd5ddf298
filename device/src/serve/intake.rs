//! The way into the spool, for scans from the network and from folders.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use dicom_dictionary_std::tags;
use dicom_object::OpenFileOptions;
use dicom_object::file::ReadPreamble;

use super::deliver::promised;
use super::hub::Hub;
use crate::dicom::commitment::Report;
use crate::dicom::scp::{Inbox, Reception, Refusal};
use crate::event::{Event, ScanId};
use crate::spool::{Accepted, Arrival, Incoming, Spool, SpoolError};

/// Who sends what comes as a file.
pub(super) const FOLDER: &str = "folder";

/// First bytes of a file in which its identity is looked for.
const HEAD: u64 = 1 << 20;

/// Puts scans into the spool and tells of them.
#[derive(Clone)]
pub(super) struct Intake {
    pub spool: Spool,
    pub hub: Arc<Hub>,
    /// Destinations that are asked for storage commitment.
    pub committing: Vec<String>,
}

impl Intake {
    /// Stores a file's bytes, unless it `changed` meanwhile.
    ///
    /// # Errors
    /// Those of the spool, and failures to read.
    pub fn store_file(
        &self,
        file: impl Read,
        unchanged: impl Fn() -> bool,
    ) -> Result<Option<ScanId>, SpoolError> {
        let mut head = Vec::new();
        let mut file = file;
        let taken = |source| SpoolError::Io { what: "read a file of the inbox", source };
        file.by_ref().take(HEAD).read_to_end(&mut head).map_err(taken)?;
        let arrival = arrival(&head);
        let mut incoming = self.spool.begin()?;
        io::copy(&mut head.as_slice().chain(file), &mut incoming).map_err(spool_error)?;
        if !unchanged() {
            return Ok(None);
        }
        self.commit(incoming, arrival).map(|accepted| Some(accepted.id))
    }

    fn commit(&self, incoming: Incoming, arrival: Arrival) -> Result<Accepted, SpoolError> {
        let from = arrival.from.clone();
        let accepted = incoming.commit(arrival)?;
        if accepted.is_new {
            self.hub.arrived(accepted.id, Instant::now());
            self.hub.tell(Event::Received { scan: accepted.id, from });
        }
        Ok(accepted)
    }
}

/// What a DICOM file says it is; a plain picture says nothing.
fn arrival(head: &[u8]) -> Arrival {
    let picture = Arrival { from: FOLDER.to_owned(), ..Arrival::default() };
    if head.get(128..132) != Some(b"DICM") {
        return picture;
    }
    let reading =
        OpenFileOptions::new().read_preamble(ReadPreamble::Never).read_until(tags::STUDY_DATE);
    let Ok(object) = reading.from_reader(&head[128..]) else { return picture };
    let meta = object.meta();
    let text = |uid: &str| uid.trim_end_matches(['\0', ' ']).to_owned();
    Arrival {
        sop_class: text(&meta.media_storage_sop_class_uid),
        sop_instance: text(&meta.media_storage_sop_instance_uid),
        transfer_syntax: text(&meta.transfer_syntax),
        ..picture
    }
}

/// The spool's own error where it stands behind one of writing.
fn spool_error(error: io::Error) -> SpoolError {
    match error.kind() {
        ErrorKind::StorageFull => SpoolError::DiskFull,
        ErrorKind::ReadOnlyFilesystem => SpoolError::ReadOnly,
        ErrorKind::FileTooLarge => SpoolError::Invalid("the file is too large"),
        _ => SpoolError::Io { what: "copy a file of the inbox", source: error },
    }
}

impl Inbox for Intake {
    fn begin(&self) -> Result<Box<dyn Reception>, Refusal> {
        let incoming = self.spool.begin().map_err(|error| {
            // That the disk is full is told by whoever watches it.
            if !matches!(error, SpoolError::DiskFull) {
                self.hub.spool_failed("spool", &error);
            }
            refusal(error)
        })?;
        Ok(Box::new(Receiving { intake: self.clone(), incoming }))
    }

    fn refused(&self, from: &str, reason: &'static str) {
        self.hub.tell(Event::Refused { from: from.to_owned(), reason });
    }

    fn commitment(&self, transaction: &str, committed: &[String], failed: &[(String, u16)]) {
        let report = Report {
            transaction: transaction.to_owned(),
            committed: committed.to_vec(),
            failed: failed.to_vec(),
        };
        for destination in &self.committing {
            let noted = match self.spool.requested_as(destination, transaction) {
                Ok(Some(scan)) => promised(&self.spool, &self.hub, destination, scan, &report),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = noted {
                self.hub.spool_failed("commitment", &error);
            }
        }
    }
}

/// A scan on its way from the network into the spool.
struct Receiving {
    intake: Intake,
    incoming: Incoming,
}

impl Write for Receiving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.incoming.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.incoming.flush()
    }
}

impl Reception for Receiving {
    fn finish(self: Box<Self>, arrival: Arrival) -> Result<bool, Refusal> {
        let Self { intake, incoming } = *self;
        intake.commit(incoming, arrival).map(|accepted| accepted.is_new).map_err(|error| {
            intake.hub.spool_failed("spool", &error);
            refusal(error)
        })
    }
}

fn refusal(error: SpoolError) -> Refusal {
    match error {
        SpoolError::DiskFull | SpoolError::ReadOnly => Refusal::OutOfResources,
        SpoolError::TooLarge(_) => Refusal::TooLarge,
        SpoolError::Conflict => Refusal::Duplicate,
        _ => Refusal::Failed,
    }
}
