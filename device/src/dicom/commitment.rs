//! Storage commitment: a destination promises to keep what it was sent (PS3.4 annex J).

use std::time::Duration;

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::association::command::{Command, element, field};
use super::association::data_set::{self, MAX_SMALL, Unreadable};
use super::association::requestor::{Association, Context, Destination, Proposal};
use super::association::socket::deadline_in;
use super::association::wire::WireError;
use super::identity::is_uid;
use super::scu::{SendError, check_response, with_association};
use super::syntaxes;

/// The only instance of the push model (PS3.4 annex J.3.5).
const INSTANCE: &str = "1.2.840.10008.1.20.1.1";
/// Action Type: request storage commitment (PS3.4 annex J.3.2.1).
const REQUEST: u16 = 1;
/// Event Type: all is committed (PS3.4 annex J.3.3.1).
const COMPLETE: u16 = 1;
/// Event Type: there are failures.
const FAILURES: u16 = 2;
/// Failure Reason where a failed item gives none: processing failure.
const UNEXPLAINED: u16 = 0x0110;
/// Most objects in a report.
const MAX_ITEMS: usize = 4096;

/// What a destination answers to a request for commitment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The request's Transaction UID.
    pub transaction: String,
    /// SOP Instance UIDs that the destination will keep.
    pub committed: Vec<String>,
    /// SOP Instance UIDs that it will not keep, each with its Failure Reason (PS3.3 section
    /// C.14.1.1).
    pub failed: Vec<(String, u16)>,
}

impl Report {
    /// Reads a report's event type and data set. A report that says that all is committed and
    /// lists failures, or lists nothing at all, is unreadable.
    ///
    /// # Errors
    /// [`Unreadable`] when it is no such report.
    pub fn read(event_type: u16, data: &[u8], transfer_syntax: &str) -> Result<Self, Unreadable> {
        let object = data_set::read(data, transfer_syntax)?;
        let transaction = uid(&object, tags::TRANSACTION_UID).ok_or(Unreadable)?;
        let mut committed = Vec::new();
        for item in items(&object, tags::REFERENCED_SOP_SEQUENCE) {
            committed.push(uid(item, tags::REFERENCED_SOP_INSTANCE_UID).ok_or(Unreadable)?);
        }
        let mut failed = Vec::new();
        for item in items(&object, tags::FAILED_SOP_SEQUENCE) {
            let instance = uid(item, tags::REFERENCED_SOP_INSTANCE_UID).ok_or(Unreadable)?;
            let reason = item.get(tags::FAILURE_REASON).and_then(|reason| reason.to_int().ok());
            failed.push((instance, reason.unwrap_or(UNEXPLAINED)));
        }
        let consistent = match event_type {
            COMPLETE => failed.is_empty() && !committed.is_empty(),
            FAILURES => !failed.is_empty(),
            _ => false,
        };
        if !consistent || committed.len() + failed.len() > MAX_ITEMS {
            return Err(Unreadable);
        }
        Ok(Self { transaction, committed, failed })
    }
}

/// Asks a destination to commit to objects, each a SOP Class UID and a SOP Instance UID, and
/// waits some time for its report on the same association. `None` means that it took the request
/// and will report later, on an association of its own.
///
/// # Errors
/// [`SendError`] when the request was not taken.
pub fn request(
    destination: &Destination,
    transaction: &str,
    objects: &[(String, String)],
    wait: Duration,
) -> Result<Option<Report>, SendError> {
    let proposal = Proposal {
        abstract_syntax: uids::STORAGE_COMMITMENT_PUSH_MODEL.into(),
        transfer_syntaxes: syntaxes::PLAIN.map(String::from).into(),
    };
    with_association(destination, &[proposal], |association| {
        let context = association.contexts.first().cloned().ok_or(SendError::Unsupported)?;
        let report = exchange(association, &context, transaction, objects, wait)?;
        // For the release, should the wait have used the time up.
        association.wire.set_deadline(deadline_in(destination.timeouts.pause));
        Ok(report)
    })
}

fn exchange(
    association: &mut Association,
    context: &Context,
    transaction: &str,
    objects: &[(String, String)],
    wait: Duration,
) -> Result<Option<Report>, SendError> {
    let data = data_set::write(&action(transaction, objects), &context.transfer_syntax)
        .map_err(|_| SendError::Object)?;
    let command = Command::request(field::N_ACTION, 1)
        .with_uid(element::REQUESTED_CLASS, uids::STORAGE_COMMITMENT_PUSH_MODEL)
        .with_uid(element::REQUESTED_INSTANCE, INSTANCE)
        .with(element::ACTION_TYPE, REQUEST)
        .with_data_set();
    association.wire.send_command(context.id, &command)?;
    association.wire.send_data(context.id, &mut &data[..])?;
    let mut answered = false;
    // The report may come before the response to the request (PS3.7 section 10.1.1).
    let mut report = None;
    loop {
        if answered && (report.is_some() || wait.is_zero()) {
            return Ok(report);
        }
        let message = match association.wire.receive_message(MAX_SMALL) {
            // The peer took the request and would rather report later.
            Err(WireError::TimedOut | WireError::Closed | WireError::Aborted) if answered => {
                return Ok(None);
            }
            received => received?,
        };
        if message.command.field() == field::N_EVENT_REPORT {
            let data = message.data.unwrap_or_default();
            let event_type = message.command.number(element::EVENT_TYPE).unwrap_or(0);
            let read = Report::read(event_type, &data, &context.transfer_syntax);
            let read = read.ok().filter(|report| report.transaction == transaction);
            // A report on another request is not taken here, so that its sender tries elsewhere.
            let status = if read.is_some() { 0 } else { UNEXPLAINED };
            let response = Command::response(&message.command, status);
            association.wire.send_command(message.context, &response)?;
            report = report.or(read);
        } else {
            check_response(&message.command, field::N_ACTION, 1)?;
            answered = true;
            association.wire.set_deadline(deadline_in(wait));
        }
    }
}

/// The data set of the request (PS3.4 table J.3-1).
fn action(transaction: &str, objects: &[(String, String)]) -> InMemDicomObject {
    let text = |tag, uid: &str| DataElement::new(tag, VR::UI, PrimitiveValue::from(uid));
    let item = |(class, instance): &(String, String)| {
        InMemDicomObject::from_element_iter([
            text(tags::REFERENCED_SOP_CLASS_UID, class),
            text(tags::REFERENCED_SOP_INSTANCE_UID, instance),
        ])
    };
    let items: Vec<_> = objects.iter().map(item).collect();
    let sequence = DataSetSequence::from(items);
    InMemDicomObject::from_element_iter([
        text(tags::TRANSACTION_UID, transaction),
        DataElement::new(tags::REFERENCED_SOP_SEQUENCE, VR::SQ, sequence),
    ])
}

fn items(object: &InMemDicomObject, tag: dicom_core::Tag) -> &[InMemDicomObject] {
    object.get(tag).and_then(|element| element.items()).unwrap_or(&[])
}

fn uid(object: &InMemDicomObject, tag: dicom_core::Tag) -> Option<String> {
    let text = object.get(tag)?.to_str().ok()?;
    let text = text.trim_end_matches(['\0', ' ']);
    is_uid(text).then(|| text.to_owned())
}
