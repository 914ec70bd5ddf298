use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use dicom_ul::pdu::{PDataValue, PDataValueType, Pdu};
use dicom_ul::{ServerAssociation, ServerAssociationOptions};

use super::*;
use crate::dicom::commitment::{self, Report};

const CLASS: &str = uids::SECONDARY_CAPTURE_IMAGE_STORAGE;
const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;
const IMPLICIT: &str = uids::IMPLICIT_VR_LITTLE_ENDIAN;
const PATIENCE: Duration = Duration::from_secs(20);

type Peer = ServerAssociation<TcpStream>;

fn destination(address: String) -> Destination {
    let timeouts = Timeouts { connect: PATIENCE, pause: PATIENCE, association: PATIENCE };
    Destination { address, called: "PACS".into(), calling: "BOARD".into(), tls: None, timeouts }
}

/// A destination made with another library, which takes one association.
fn peer<T: Send + 'static>(
    syntax: &'static str,
    work: impl FnOnce(&mut Peer) -> T + Send + 'static,
) -> (Destination, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let thread = thread::spawn(move || {
        let (tcp, _) = listener.accept().expect("accept");
        let mut association = ServerAssociationOptions::new()
            .accept_any()
            .with_abstract_syntax(CLASS)
            .with_abstract_syntax(uids::VERIFICATION)
            .with_abstract_syntax(uids::STORAGE_COMMITMENT_PUSH_MODEL)
            .with_transfer_syntax(syntax)
            .max_pdu_length(4096)
            .establish(tcp)
            .expect("association");
        work(&mut association)
    });
    (destination(address), thread)
}

/// Receives one message: its command, its data set, its context.
fn receive(peer: &mut Peer) -> (Command, Vec<u8>, u8) {
    let (mut command, mut data) = (Vec::new(), Vec::new());
    loop {
        let Pdu::PData { data: values } = peer.receive().expect("receive") else {
            panic!("no message");
        };
        for value in values {
            let context = value.presentation_context_id;
            let into = match value.value_type {
                PDataValueType::Command => &mut command,
                PDataValueType::Data => &mut data,
            };
            into.extend(value.data);
            if value.is_last {
                let read = Command::decode(&command).expect("decode");
                if value.value_type == PDataValueType::Data || !read.has_data_set() {
                    return (read, data, context);
                }
            }
        }
    }
}

fn say(peer: &mut Peer, context: u8, value_type: PDataValueType, data: Vec<u8>) {
    let value = PDataValue { presentation_context_id: context, value_type, is_last: true, data };
    peer.send(&Pdu::PData { data: vec![value] }).expect("send");
}

fn answer(peer: &mut Peer, context: u8, command: &Command) {
    say(peer, context, PDataValueType::Command, command.encode());
}

fn release(peer: &mut Peer) {
    if let Ok(Pdu::ReleaseRQ) = peer.receive() {
        peer.send(&Pdu::ReleaseRP).expect("send");
    }
}

/// An object in a file of this folder.
fn file(folder: &tempfile::TempDir, instance: &str, pixels: usize) -> (ObjectFile, Vec<u8>) {
    let uid = |tag, text: &str| DataElement::new(tag, VR::UI, PrimitiveValue::from(text));
    let object = InMemDicomObject::from_element_iter([
        uid(tags::SOP_CLASS_UID, CLASS),
        uid(tags::SOP_INSTANCE_UID, instance),
        DataElement::new(
            tags::PIXEL_DATA,
            VR::OW,
            PrimitiveValue::U16(vec![0x1234; pixels].into()),
        ),
    ]);
    let path = folder.path().join(instance);
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(CLASS)
        .media_storage_sop_instance_uid(instance)
        .transfer_syntax(EXPLICIT);
    let bytes = data_set::write(&object, EXPLICIT).expect("write");
    object.with_meta(meta).expect("meta").write_to_file(&path).expect("file");
    let [sop_class, sop_instance, transfer_syntax] = [CLASS, instance, EXPLICIT].map(String::from);
    (ObjectFile { path, sop_class, sop_instance, transfer_syntax }, bytes)
}

#[test]
fn an_object_arrives_as_it_is_in_its_file() {
    let folder = tempfile::tempdir().expect("folder");
    let (object, bytes) = file(&folder, "1.2.3", 50_000);
    let (destination, peer) = peer(EXPLICIT, |peer| {
        let (command, data, context) = receive(peer);
        answer(peer, context, &Command::response(&command, 0));
        release(peer);
        (command, data)
    });
    assert_eq!(store(&destination, &[object]).expect("store"), []);
    let (command, data) = peer.join().expect("peer");
    assert_eq!(data, bytes);
    assert_eq!(command.uid(element::AFFECTED_CLASS), Some(CLASS));
    assert_eq!(command.uid(element::AFFECTED_INSTANCE), Some("1.2.3"));
}

#[test]
fn a_destination_that_takes_the_default_syntax_alone_gets_it() {
    let folder = tempfile::tempdir().expect("folder");
    let (object, bytes) = file(&folder, "1.2.3", 50_000);
    let (destination, peer) = peer(IMPLICIT, |peer| {
        let (command, data, context) = receive(peer);
        answer(peer, context, &Command::response(&command, 0));
        release(peer);
        data
    });
    store(&destination, &[object]).expect("store");
    let data = peer.join().expect("peer");
    assert_ne!(data, bytes);
    let read = data_set::read(&data, IMPLICIT).expect("read");
    assert_eq!(data_set::write(&read, EXPLICIT).expect("write"), bytes);
}

#[test]
fn statuses_are_successes_remarks_passing_or_lasting() {
    let folder = tempfile::tempdir().expect("folder");
    let cases = [
        (0x0000, Ok(false)),
        (0xB000, Ok(true)),
        (0xB007, Ok(true)),
        (0x0107, Ok(true)),
        (0x0111, Ok(true)),
        (0xA700, Err(true)),
        (0xA702, Err(true)),
        (0x0110, Err(true)),
        (0x0213, Err(true)),
        (0xFE00, Err(true)),
        (0x7777, Err(true)),
        (0xA900, Err(false)),
        (0xC000, Err(false)),
        (0xCFFF, Err(false)),
        (0x0117, Err(false)),
        (0x0122, Err(false)),
        (0x0124, Err(false)),
        (0x0211, Err(false)),
        (0x0212, Err(false)),
    ];
    for (status, expected) in cases {
        let (object, _) = file(&folder, "1.2.3", 10);
        let (destination, peer) = peer(EXPLICIT, move |peer| {
            let (command, _, context) = receive(peer);
            answer(peer, context, &Command::response(&command, status));
            release(peer);
        });
        let found = match store(&destination, &[object]) {
            Ok(notes) => Ok(notes.iter().any(|note| note.status == status && note.object == 0)),
            Err(error) => {
                assert!(matches!(error, SendError::Status(found) if found == status));
                Err(error.is_transient())
            }
        };
        assert_eq!(found, expected, "{status:04X}");
        peer.join().expect("peer");
    }
}

#[test]
fn nonsense_and_aborts_are_passing_trouble() {
    let folder = tempfile::tempdir().expect("folder");
    type Answer = fn(&mut Peer, &Command, u8);
    let answers: [Answer; 5] = [
        |peer, command, context| answer(peer, context, &Command::response(command, 0xFF00)),
        |peer, _, context| say(peer, context, PDataValueType::Command, vec![1, 2, 3]),
        |peer, command, context| {
            let other = Command::response(command, 0).with(element::RESPONDED, 999);
            answer(peer, context, &other);
        },
        |peer, _, context| answer(peer, context, &Command::request(field::C_ECHO, 1)),
        |peer, _, _| {
            let source = dicom_ul::pdu::AbortRQSource::ServiceUser;
            peer.send(&Pdu::AbortRQ { source }).expect("send");
        },
    ];
    for reply in answers {
        let (object, _) = file(&folder, "1.2.3", 10);
        let (destination, peer) = peer(EXPLICIT, move |peer| {
            let (command, _, context) = receive(peer);
            reply(peer, &command, context);
            // Until the board is gone.
            let _ = peer.receive();
        });
        let error = store(&destination, &[object]).expect_err("no success");
        assert!(error.is_transient(), "{error}");
        peer.join().expect("peer");
    }
}

#[test]
fn a_destination_that_does_not_take_the_class_is_told_at_once() {
    let folder = tempfile::tempdir().expect("folder");
    let (mut object, _) = file(&folder, "1.2.3", 10);
    object.sop_class = uids::ENHANCED_SR_STORAGE.into();
    let (destination, peer) = peer(EXPLICIT, release);
    let error = store(&destination, &[object]).expect_err("unsupported");
    assert!(matches!(error, SendError::Unsupported) && !error.is_transient());
    peer.join().expect("peer");
}

#[test]
fn a_file_that_is_another_object_is_not_sent() {
    let folder = tempfile::tempdir().expect("folder");
    let (mut object, _) = file(&folder, "1.2.3", 10);
    object.sop_instance = "1.2.4".into();
    let (destination, peer) = peer(EXPLICIT, |peer| drop(peer.receive()));
    let error = store(&destination, &[object]).expect_err("another object");
    assert!(matches!(error, SendError::Object) && !error.is_transient());
    peer.join().expect("peer");
}

#[test]
fn a_hanging_destination_ends_at_the_deadline() {
    let folder = tempfile::tempdir().expect("folder");
    let (object, _) = file(&folder, "1.2.3", 10);
    let short = Duration::from_millis(300);

    // It takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let mut towards = destination(silent.local_addr().expect("address").to_string());
    towards.timeouts.association = short;
    let started = Instant::now();
    let error = store(&towards, std::slice::from_ref(&object)).expect_err("silence");
    assert!(error.is_transient() && started.elapsed() < PATIENCE);

    // It takes the object and does not answer.
    let (mut towards, thread) = peer(EXPLICIT, |peer| {
        receive(peer);
        while peer.receive().is_ok() {}
    });
    towards.timeouts.association = short;
    let error = store(&towards, &[object]).expect_err("silence");
    assert!(matches!(error, SendError::Wire(WireError::TimedOut)) && error.is_transient());
    thread.join().expect("peer");
}

#[test]
fn nobody_there_is_passing_trouble() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address");
    let error = echo(&destination(gone.to_string())).expect_err("nobody");
    assert!(error.is_transient());
    let error = echo(&destination("no such host:104".into())).expect_err("no host");
    assert!(error.is_transient());
}

#[test]
fn titles_that_cannot_be_sent_are_lasting_trouble() {
    let (mut towards, peer) = peer_that_takes_anything();
    towards.called = "A TITLE THAT IS FAR TOO LONG".into();
    assert!(!echo(&towards).expect_err("too long").is_transient());
    drop(peer);
}

/// A listener that nobody serves.
fn peer_that_takes_anything() -> (Destination, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    (destination(listener.local_addr().expect("address").to_string()), listener)
}

/// The report of a commitment to these objects.
fn report(transaction: &str, instances: &[&str]) -> Vec<u8> {
    let uid = |tag, text: &str| DataElement::new(tag, VR::UI, PrimitiveValue::from(text));
    let item = |instance: &&str| {
        InMemDicomObject::from_element_iter([
            uid(tags::REFERENCED_SOP_CLASS_UID, CLASS),
            uid(tags::REFERENCED_SOP_INSTANCE_UID, instance),
        ])
    };
    let items: Vec<_> = instances.iter().map(item).collect();
    let sequence = dicom_core::value::DataSetSequence::from(items);
    let object = InMemDicomObject::from_element_iter([
        uid(tags::TRANSACTION_UID, transaction),
        DataElement::new(tags::REFERENCED_SOP_SEQUENCE, VR::SQ, sequence),
    ]);
    data_set::write(&object, EXPLICIT).expect("write")
}

fn report_command() -> Command {
    Command::request(field::N_EVENT_REPORT, 3)
        .with_uid(element::AFFECTED_CLASS, uids::STORAGE_COMMITMENT_PUSH_MODEL)
        .with_uid(element::AFFECTED_INSTANCE, "1.2.840.10008.1.20.1.1")
        .with(element::EVENT_TYPE, 1)
        .with_data_set()
}

#[test]
fn a_commitment_is_reported_at_once_or_later() {
    let objects = [(CLASS.to_owned(), "1.2.3".to_owned())];
    for at_once in [true, false] {
        let (destination, peer) = peer(EXPLICIT, move |peer| {
            let (command, data, context) = receive(peer);
            assert_eq!(command.number(element::ACTION_TYPE), Some(1));
            let asked = data_set::read(&data, EXPLICIT).expect("read");
            assert_eq!(asked.element(tags::TRANSACTION_UID).unwrap().to_str().unwrap(), "1.9");
            answer(peer, context, &Command::response(&command, 0));
            if at_once {
                // One on another request first.
                for (transaction, status) in [("1.8", 0x0110), ("1.9", 0)] {
                    answer(peer, context, &report_command());
                    say(peer, context, PDataValueType::Data, report(transaction, &["1.2.3"]));
                    let (response, ..) = receive(peer);
                    assert_eq!(response.number(element::STATUS), Some(status));
                }
            }
            release(peer);
        });
        let wait = if at_once { PATIENCE } else { Duration::from_millis(100) };
        let found = commitment::request(&destination, "1.9", &objects, wait).expect("request");
        let expected =
            Report { transaction: "1.9".into(), committed: vec!["1.2.3".into()], failed: vec![] };
        assert_eq!(found, at_once.then_some(expected));
        peer.join().expect("peer");
    }
}

#[test]
fn a_refused_commitment_is_a_failure() {
    let (destination, peer) = peer(EXPLICIT, |peer| {
        let (command, _, context) = receive(peer);
        answer(peer, context, &Command::response(&command, 0x0110));
        let _ = peer.receive();
    });
    let objects = [(CLASS.to_owned(), "1.2.3".to_owned())];
    let error = commitment::request(&destination, "1.9", &objects, PATIENCE).expect_err("refused");
    assert!(matches!(error, SendError::Status(0x0110)));
    peer.join().expect("peer");
}
