//! Looking up the Modality Worklist: what was ordered for a patient (PS3.4 annex K).

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::association::command::{Command, element, field};
use super::association::data_set::{self, MAX_SMALL};
use super::association::requestor::{Association, Destination, Proposal};
use super::scu::{Outcome, SendError, status, with_association};
use super::syntaxes;

/// Message number of the only request.
const MESSAGE: u16 = 1;
/// Status: matching ended by a cancellation (PS3.4 table C.4-1).
const CANCELLED: u16 = 0xFE00;
/// Elements asked for at the top of an entry, each with its value representation.
const RETURNED: [(Tag, VR); 6] = [
    (tags::PATIENT_NAME, VR::PN),
    (tags::PATIENT_BIRTH_DATE, VR::DA),
    (tags::PATIENT_SEX, VR::CS),
    (tags::STUDY_INSTANCE_UID, VR::UI),
    (tags::REQUESTED_PROCEDURE_ID, VR::SH),
    (tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO),
];
/// Elements asked for in the scheduled procedure step.
const STEP: [(Tag, VR); 5] = [
    (tags::MODALITY, VR::CS),
    (tags::SCHEDULED_STATION_AE_TITLE, VR::AE),
    (tags::SCHEDULED_PROCEDURE_STEP_START_DATE, VR::DA),
    (tags::SCHEDULED_PROCEDURE_STEP_START_TIME, VR::TM),
    (tags::SCHEDULED_PROCEDURE_STEP_ID, VR::SH),
];

/// What to look for: exactly one thing.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// Accession Number.
    Accession(String),
    /// Patient ID.
    Patient(String),
}

/// Looks up to `most` entries, as data sets. They hold a patient's name: never log them.
///
/// # Errors
/// Why there is no answer; no entry at all is none of these.
pub fn find(
    destination: &Destination,
    key: &Key,
    most: usize,
) -> Result<Vec<InMemDicomObject>, SendError> {
    let question = question(key)?;
    let proposal = Proposal {
        abstract_syntax: uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND.into(),
        transfer_syntaxes: syntaxes::PLAIN.map(String::from).into(),
    };
    with_association(destination, &[proposal], |association| ask(association, &question, most))
}

fn ask(
    association: &mut Association,
    question: &InMemDicomObject,
    most: usize,
) -> Result<Vec<InMemDicomObject>, SendError> {
    let context = association.contexts.first().cloned().ok_or(SendError::Unsupported)?;
    let data =
        data_set::write(question, &context.transfer_syntax).map_err(|_| SendError::Question)?;
    let command = Command::request(field::C_FIND, MESSAGE)
        .with_uid(element::AFFECTED_CLASS, uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND)
        .with(element::PRIORITY, 0)
        .with_data_set();
    association.wire.send_command(context.id, &command)?;
    association.wire.send_data(context.id, &mut &data[..])?;
    let (mut entries, mut cancelled) = (Vec::new(), false);
    loop {
        let answer = association.wire.receive_message(MAX_SMALL)?;
        let status = status(&answer.command, field::C_FIND, MESSAGE)?;
        match Outcome::of(status) {
            Outcome::Pending => {}
            Outcome::Done | Outcome::Warning => return Ok(entries),
            // The answer to the cancellation below.
            Outcome::Later if status == CANCELLED && cancelled => return Ok(entries),
            Outcome::Later | Outcome::Refused => return Err(SendError::Status(status)),
        }
        if entries.len() < most {
            let data = answer.data.ok_or(SendError::Answer)?;
            let entry = data_set::read(&data, &context.transfer_syntax);
            entries.push(entry.map_err(|_| SendError::Answer)?);
        } else if !cancelled {
            let cancel = Command::new(field::C_CANCEL).with(element::RESPONDED, MESSAGE);
            association.wire.send_command(context.id, &cancel)?;
            cancelled = true;
        }
    }
}

/// The data set that asks (PS3.4 table K.6-1): empty elements are those wanted back.
fn question(key: &Key) -> Result<InMemDicomObject, SendError> {
    let empty = |(tag, vr)| DataElement::new(tag, vr, PrimitiveValue::Empty);
    let (accession, patient) = match key {
        Key::Accession(number) => (exact(number)?, ""),
        Key::Patient(id) => ("", exact(id)?),
    };
    let step = InMemDicomObject::from_element_iter(STEP.map(empty));
    let mut question = InMemDicomObject::from_element_iter(RETURNED.map(empty));
    question.put(DataElement::new(tags::ACCESSION_NUMBER, VR::SH, accession));
    question.put(DataElement::new(tags::PATIENT_ID, VR::LO, patient));
    question.put(DataElement::new(
        tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE,
        VR::SQ,
        DataSetSequence::from(vec![step]),
    ));
    Ok(question)
}

/// A value that matches itself alone: not empty, no wildcards (PS3.4 section C.2.2.2.4), no list.
fn exact(value: &str) -> Result<&str, SendError> {
    let lawful = |c: char| matches!(c, ' '..='~') && !matches!(c, '*' | '?' | '\\');
    let value = value.trim_matches(' ');
    if (1..=64).contains(&value.len()) && value.chars().all(lawful) {
        Ok(value)
    } else {
        Err(SendError::Question)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use dicom_ul::ServerAssociationOptions;
    use dicom_ul::pdu::{PDataValue, PDataValueType, Pdu};

    use super::*;
    use crate::dicom::scu::Timeouts;

    const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;

    /// Asks a worklist that has entries with these accession numbers.
    fn ask_worklist(numbers: &'static [&str], most: usize) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let patience = Duration::from_secs(20);
        let destination = Destination {
            address: listener.local_addr().expect("address").to_string(),
            called: "RIS".into(),
            calling: "BOARD".into(),
            tls: None,
            timeouts: Timeouts { connect: patience, pause: patience, association: patience },
        };
        let peer = thread::spawn(move || serve(&listener, numbers));
        let entries = find(&destination, &Key::Patient("P 1".into()), most).expect("find");
        let question = peer.join().expect("peer");
        let asked = question.element(tags::PATIENT_ID).unwrap().to_str().unwrap().into_owned();
        assert_eq!(asked.trim_end(), "P 1");
        let number = |entry: &InMemDicomObject| {
            let number = entry.element(tags::ACCESSION_NUMBER).unwrap().to_str().unwrap();
            number.trim_end().to_owned()
        };
        entries.iter().map(number).collect()
    }

    fn serve(listener: &TcpListener, numbers: &[&str]) -> InMemDicomObject {
        let (tcp, _) = listener.accept().expect("accept");
        let mut peer = ServerAssociationOptions::new()
            .accept_any()
            .with_abstract_syntax(uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND)
            .with_transfer_syntax(EXPLICIT)
            .establish(tcp)
            .expect("association");
        let mut values: Vec<PDataValue> = Vec::new();
        while !values.iter().any(|v| v.is_last && v.value_type == PDataValueType::Data) {
            let Pdu::PData { data } = peer.receive().expect("receive") else { panic!("no data") };
            values.extend(data);
        }
        let request = Command::decode(&values[0].data).expect("command");
        let question = data_set::read(&values[1].data, EXPLICIT).expect("question");
        let mut say = |value_type, data| {
            let id = values[0].presentation_context_id;
            let value = PDataValue { presentation_context_id: id, value_type, is_last: true, data };
            peer.send(&Pdu::PData { data: vec![value] }).expect("send");
        };
        for number in numbers {
            let entry = [DataElement::new(tags::ACCESSION_NUMBER, VR::SH, *number)];
            let entry = InMemDicomObject::from_element_iter(entry);
            let pending = Command::response(&request, 0xFF00).with_data_set();
            say(PDataValueType::Command, pending.encode());
            say(PDataValueType::Data, data_set::write(&entry, EXPLICIT).expect("write"));
        }
        say(PDataValueType::Command, Command::response(&request, 0).encode());
        while let Ok(unit) = peer.receive() {
            if unit == Pdu::ReleaseRQ {
                peer.send(&Pdu::ReleaseRP).expect("send");
            }
        }
        question
    }

    #[test]
    fn entries_come_back() {
        assert!(ask_worklist(&[], 3).is_empty());
        assert_eq!(ask_worklist(&["A1", "A2"], 3), ["A1", "A2"]);
    }

    #[test]
    fn no_more_than_wanted_come_back() {
        assert_eq!(ask_worklist(&["A1", "A2", "A3", "A4"], 2), ["A1", "A2"]);
    }

    #[test]
    fn a_question_for_everyone_is_not_asked() {
        for text in ["", " ", "*", "A?", "A\\B", "A\n"] {
            assert!(matches!(question(&Key::Patient(text.into())), Err(SendError::Question)));
        }
    }
}
