use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileDicomObject, InMemDicomObject};
use dicom_ul::association::Association as _;
use dicom_ul::pdu::{PDataValue, PDataValueType, Pdu};
use dicom_ul::{ClientAssociation, ClientAssociationOptions};

use super::*;
use crate::dicom::association::command::{Command, element, field};
use crate::dicom::association::data_set;
use crate::dicom::association::requestor::{Association, OpenError, Proposal};
use crate::dicom::commitment::Report;
use crate::dicom::scu::{self, Destination, ObjectFile, SendError, Timeouts};
use crate::dicom::tls::testing::Authority;
use crate::dicom::tls::{self, Identity};

const CLASS: &str = uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION;
const SYNTAX: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;
const SECOND: Duration = Duration::from_secs(1);
/// Longer than anything in these tests takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the inbox under test does.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Takes,
    RefusesAtOnce(Refusal),
    RefusesAtLast(Refusal),
    HasDiskOf(usize),
    Panics,
}

#[derive(Default)]
struct Seen {
    /// Objects on their way.
    open: usize,
    files: Vec<(Arrival, Vec<u8>)>,
    refused: Vec<(String, &'static str)>,
    reports: Vec<Report>,
}

struct Shelf {
    mood: Mood,
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Shelf {
    fn wait(&self, until: impl Fn(&Seen) -> bool) {
        let seen = self.seen.lock().unwrap();
        let (_seen, time) =
            self.changed.wait_timeout_while(seen, PATIENCE, |seen| !until(seen)).unwrap();
        assert!(!time.timed_out(), "it did not happen");
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap());
        self.changed.notify_all();
    }

    fn wait_refused(&self, reason: &str) {
        self.wait(|seen| seen.refused.iter().any(|(_, said)| *said == reason));
    }
}

struct Sheet {
    shelf: Arc<Shelf>,
    bytes: Vec<u8>,
}

impl Write for Sheet {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if matches!(self.shelf.mood, Mood::HasDiskOf(room) if self.bytes.len() + buffer.len() > room)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        self.shelf.note(|seen| seen.open -= 1);
    }
}

impl Reception for Sheet {
    fn finish(mut self: Box<Self>, arrival: Arrival) -> Result<bool, Refusal> {
        if let Mood::RefusesAtLast(refusal) = self.shelf.mood {
            return Err(refusal);
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.shelf.note(|seen| seen.files.push((arrival, bytes)));
        Ok(true)
    }
}

struct Door(Arc<Shelf>);

impl Inbox for Door {
    fn begin(&self) -> Result<Box<dyn Reception>, Refusal> {
        match self.0.mood {
            Mood::RefusesAtOnce(refusal) => return Err(refusal),
            Mood::Panics => panic!("a fault in the inbox"),
            _ => {}
        }
        self.0.note(|seen| seen.open += 1);
        Ok(Box::new(Sheet { shelf: self.0.clone(), bytes: Vec::new() }))
    }

    fn refused(&self, from: &str, reason: &'static str) {
        self.0.note(|seen| seen.refused.push((from.to_owned(), reason)));
    }

    fn commitment(&self, transaction: &str, committed: &[String], failed: &[(String, u16)]) {
        let (committed, failed) = (committed.to_vec(), failed.to_vec());
        let report = Report { transaction: transaction.to_owned(), committed, failed };
        self.0.note(|seen| seen.reports.push(report));
    }
}

/// A service that runs until it is dropped.
struct Running {
    address: SocketAddr,
    shelf: Arc<Shelf>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn options() -> ScpOptions {
    let mut options = ScpOptions::new("127.0.0.1:0".parse().unwrap(), "BOARD");
    options.allowed = vec!["XRAY".into()];
    options.timeouts.stop = SECOND;
    options
}

fn run(options: ScpOptions, mood: Mood) -> Running {
    let (seen, changed) = Default::default();
    let shelf = Arc::new(Shelf { mood, seen, changed });
    let scp = Scp::bind(options, Arc::new(Door(shelf.clone()))).expect("bind");
    let stop = Arc::new(AtomicBool::new(false));
    let address = scp.local_addr();
    let thread = Some(thread::spawn({
        let stop = stop.clone();
        move || scp.run(&stop)
    }));
    Running { address, shelf, stop, thread }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes it at once.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the service ends");
        }
    }
}

impl Running {
    fn connect(&self) -> TcpStream {
        let tcp = TcpStream::connect(self.address).expect("connect");
        tcp.set_read_timeout(Some(PATIENCE)).expect("time-out");
        tcp
    }

    /// A connection of another library, with one context.
    fn peer(&self, class: &'static str, syntax: &'static str) -> ClientAssociation<TcpStream> {
        ClientAssociationOptions::new()
            .calling_ae_title("XRAY")
            .called_ae_title("BOARD")
            .with_presentation_context(class, vec![syntax])
            .read_timeout(PATIENCE)
            .establish(self.address)
            .expect("association")
    }

    fn destination(&self) -> Destination {
        let timeouts = Timeouts { connect: PATIENCE, pause: PATIENCE, association: PATIENCE };
        Destination {
            address: self.address.to_string(),
            called: "BOARD".into(),
            calling: "XRAY".into(),
            tls: None,
            timeouts,
        }
    }

    fn still_answers(&self) {
        scu::echo(&self.destination()).expect("the service answers");
    }
}

fn proposal(class: &str, syntax: &str) -> Proposal {
    Proposal { abstract_syntax: class.into(), transfer_syntaxes: vec![syntax.into()] }
}

/// A data set of a class and instance, with so many bytes of pixels.
fn object(class: &str, instance: &str, pixels: usize) -> InMemDicomObject {
    let noise: Vec<u8> = (0..pixels).map(|place| (place * 31 / 7) as u8).collect();
    let uid = |tag, text: &str| DataElement::new(tag, VR::UI, PrimitiveValue::from(text));
    InMemDicomObject::from_element_iter([
        uid(tags::SOP_CLASS_UID, class),
        uid(tags::SOP_INSTANCE_UID, instance),
        DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(noise)),
    ])
}

fn bytes_of(class: &str, instance: &str, pixels: usize) -> Vec<u8> {
    data_set::write(&object(class, instance, pixels), SYNTAX).expect("write")
}

fn store_command(class: &str, instance: &str) -> Command {
    Command::request(field::C_STORE, 5)
        .with_uid(element::AFFECTED_CLASS, class)
        .with_uid(element::AFFECTED_INSTANCE, instance)
        .with(element::PRIORITY, 0)
        .with_data_set()
}

fn command_pdu(context: u8, bytes: Vec<u8>) -> Pdu {
    value(context, PDataValueType::Command, true, bytes)
}

fn value(context: u8, value_type: PDataValueType, is_last: bool, data: Vec<u8>) -> Pdu {
    Pdu::PData {
        data: vec![PDataValue { presentation_context_id: context, value_type, is_last, data }],
    }
}

fn status(pdu: Pdu) -> u16 {
    let Pdu::PData { data } = pdu else { panic!("no response: {}", pdu.short_description()) };
    let command = Command::decode(&data[0].data).expect("decode");
    assert_eq!(command.number(element::RESPONDED), Some(5));
    command.number(element::STATUS).expect("status")
}

/// Sends one object with another library and gives the status.
fn send(peer: &mut ClientAssociation<TcpStream>, command: &Command, data: &[u8]) -> u16 {
    let context = peer.presentation_contexts()[0].id;
    peer.send(&command_pdu(context, command.encode())).expect("send");
    let mut writer = peer.send_pdata(context);
    writer.write_all(data).expect("write");
    writer.finish().expect("finish");
    status(peer.receive().expect("receive"))
}

fn is_abort(pdu: Result<Pdu, dicom_ul::association::Error>) -> bool {
    matches!(pdu, Ok(Pdu::AbortRQ { .. }))
}

/// Reads until the service ends the connection; gives the type of the first unit.
fn ends_with(tcp: &mut TcpStream) -> Option<u8> {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = tcp.read_to_end(&mut bytes);
    bytes.first().copied()
}

const ABORT: u8 = 7;

#[test]
fn an_object_of_many_units_arrives_as_it_was_sent() {
    let mut options = options();
    options.max_pdu = 4096;
    let service = run(options, Mood::Takes);
    let mut peer = service.peer(CLASS, SYNTAX);
    let data = bytes_of(CLASS, "1.2.3", 100_000);
    assert_eq!(send(&mut peer, &store_command(CLASS, "1.2.3"), &data), 0);
    peer.release().expect("release");

    let seen = service.shelf.seen.lock().unwrap();
    let (arrival, file) = &seen.files[0];
    assert!(file.ends_with(&data));
    assert_eq!((arrival.sop_class.as_str(), arrival.sop_instance.as_str()), (CLASS, "1.2.3"));
    assert_eq!((arrival.transfer_syntax.as_str(), arrival.from.as_str()), (SYNTAX, "XRAY"));
    let read = FileDicomObject::from_reader(&file[128..]).expect("a DICOM file");
    assert_eq!(read.meta().media_storage_sop_instance_uid(), "1.2.3");
    assert_eq!(read.meta().source_application_entity_title(), None, "the same from anyone");
    assert_eq!(seen.open, 0);
}

#[test]
fn several_objects_come_in_one_association() {
    let service = run(options(), Mood::Takes);
    let mut peer = service.peer(CLASS, SYNTAX);
    for instance in ["1.2.1", "1.2.2", "1.2.3"] {
        let data = bytes_of(CLASS, instance, 10);
        assert_eq!(send(&mut peer, &store_command(CLASS, instance), &data), 0);
    }
    assert_eq!(service.shelf.seen.lock().unwrap().files.len(), 3);
}

/// Covers: RCV-3
#[test]
fn strangers_and_wrong_numbers_are_rejected() {
    let service = run(options(), Mood::Takes);
    let echo = |calling: &str, called: &str| {
        let (calling, called) = (calling.into(), called.into());
        scu::echo(&Destination { calling, called, ..service.destination() })
    };
    assert!(echo("XRAY", "BOARD").is_ok());
    for (calling, called, word) in [("STRANGER", "BOARD", "calling"), ("XRAY", "OTHER", "called")] {
        let error = echo(calling, called).expect_err("rejected");
        assert!(!error.is_transient());
        assert!(error.to_string().contains(word), "{error}");
    }
    service.shelf.wait_refused("the sender's AE title is not on the list");
    service.shelf.wait_refused("the sender called another AE title");
}

#[test]
fn anyone_may_come_where_the_list_says_so() {
    let mut options = options();
    options.allowed = vec!["*".into()];
    options.require_called = false;
    let service = run(options, Mood::Takes);
    let destination =
        Destination { calling: "ANY".into(), called: "ANYTHING".into(), ..service.destination() };
    scu::echo(&destination).expect("echo");
}

/// Covers: RCV-4
#[test]
fn what_is_not_supported_is_not_accepted() {
    let service = run(options(), Mood::Takes);
    let proposals = [
        proposal(uids::CT_IMAGE_STORAGE, SYNTAX),
        proposal(CLASS, uids::JPEG2000),
        proposal(CLASS, uids::JPEG_LOSSLESS_SV1),
        proposal(CLASS, uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN),
    ];
    let association = Association::open(&service.destination(), &proposals).expect("open");
    let ids: Vec<u8> = association.contexts.iter().map(|context| context.id).collect();
    assert_eq!(ids, [5]);
    association.release();
}

#[test]
fn each_refusal_has_its_status() {
    let refusals = [
        (Refusal::OutOfResources, 0xA700),
        (Refusal::Duplicate, 0x0111),
        (Refusal::TooLarge, 0xA700),
        (Refusal::Mismatch, 0xA900),
        (Refusal::Unreadable, 0xC000),
        (Refusal::Failed, 0x0110),
    ];
    for (refusal, expected) in refusals {
        for mood in [Mood::RefusesAtOnce(refusal), Mood::RefusesAtLast(refusal)] {
            let service = run(options(), mood);
            let mut peer = service.peer(CLASS, SYNTAX);
            let data = bytes_of(CLASS, "1.2.3", 100_000);
            assert_eq!(send(&mut peer, &store_command(CLASS, "1.2.3"), &data), expected);
            service.shelf.wait_refused(refusal.reason());
            // The association goes on.
            assert_eq!(send(&mut peer, &store_command(CLASS, "1.2.3"), &data), expected);
        }
    }
}

/// Covers: RCV-7
#[test]
fn a_full_disk_is_answered_and_nothing_is_kept() {
    let service = run(options(), Mood::HasDiskOf(50_000));
    let mut peer = service.peer(CLASS, SYNTAX);
    let data = bytes_of(CLASS, "1.2.3", 100_000);
    assert_eq!(send(&mut peer, &store_command(CLASS, "1.2.3"), &data), 0xA700);
    let small = bytes_of(CLASS, "1.2.4", 100);
    assert_eq!(send(&mut peer, &store_command(CLASS, "1.2.4"), &small), 0);
    let seen = service.shelf.seen.lock().unwrap();
    assert_eq!(seen.files.len(), 1);
    assert_eq!(seen.files[0].0.sop_instance, "1.2.4");
}

/// Covers: RCV-6
#[test]
fn a_larger_object_than_allowed_is_refused() {
    let mut options = options();
    options.max_object = 10_000;
    let service = run(options, Mood::Takes);
    let mut peer = service.peer(CLASS, SYNTAX);
    let data = bytes_of(CLASS, "1.2.3", 100_000);
    assert_eq!(send(&mut peer, &store_command(CLASS, "1.2.3"), &data), 0xA700);
    assert!(service.shelf.seen.lock().unwrap().files.is_empty());
}

#[test]
fn an_object_that_is_not_the_announced_one_is_refused() {
    let service = run(options(), Mood::Takes);
    let mut peer = service.peer(CLASS, SYNTAX);
    let command = store_command(CLASS, "1.2.3");
    let cases = [
        (bytes_of(CLASS, "1.2.4", 10), 0xA900),
        (bytes_of(uids::CT_IMAGE_STORAGE, "1.2.3", 10), 0xA900),
        (vec![0xFF; 100_000], 0xC000),
        (vec![], 0xC000),
        (b"\x08\x00\x18\x00UI\x04".to_vec(), 0xC000),
    ];
    for (data, expected) in cases {
        assert_eq!(send(&mut peer, &command, &data), expected);
    }
    let mut verification = service.peer(uids::VERIFICATION, SYNTAX);
    let data = bytes_of(uids::VERIFICATION, "1.2.3", 10);
    assert_eq!(send(&mut verification, &store_command(uids::VERIFICATION, "1.2.3"), &data), 0x0122);
    let other = store_command(uids::CT_IMAGE_STORAGE, "1.2.3");
    assert_eq!(send(&mut peer, &other, &bytes_of(CLASS, "1.2.3", 10)), 0x0122);
    let odd = store_command(CLASS, "../../etc");
    assert_eq!(send(&mut peer, &odd, &bytes_of(CLASS, "1.2.3", 10)), 0x0212);
    assert!(service.shelf.seen.lock().unwrap().files.is_empty());
}

#[test]
fn a_store_without_data_is_refused() {
    let service = run(options(), Mood::Takes);
    let mut peer = service.peer(CLASS, SYNTAX);
    let context = peer.presentation_contexts()[0].id;
    let command = store_command(CLASS, "1.2.3").with(element::DATA_SET, 0x0101);
    peer.send(&command_pdu(context, command.encode())).expect("send");
    assert_eq!(status(peer.receive().expect("receive")), 0x0212);
}

#[test]
fn unknown_requests_are_answered_and_cancels_are_not() {
    let service = run(options(), Mood::Takes);
    let mut peer = service.peer(CLASS, SYNTAX);
    let context = peer.presentation_contexts()[0].id;
    let cancel = Command::new(field::C_CANCEL).with(element::RESPONDED, 5);
    peer.send(&command_pdu(context, cancel.encode())).expect("send");
    peer.send(&command_pdu(context, Command::request(0x0021, 5).encode())).expect("send");
    assert_eq!(status(peer.receive().expect("receive")), 0x0211);
}

/// Covers: RCV-10
#[test]
fn messages_out_of_turn_end_the_association() {
    let service = run(options(), Mood::Takes);
    let data = |context, last| value(context, PDataValueType::Data, last, vec![1; 8]);
    let store = command_pdu(1, store_command(CLASS, "1.2.3").encode());
    let cases: Vec<Vec<Pdu>> = vec![
        vec![data(1, true)],
        vec![command_pdu(3, Command::request(field::C_ECHO, 5).encode())],
        vec![store.clone(), data(3, false)],
        vec![store.clone(), data(1, false), store.clone()],
        vec![store.clone(), data(1, false), Pdu::ReleaseRQ],
        vec![command_pdu(1, vec![1, 2, 3])],
        vec![command_pdu(1, vec![])],
        vec![command_pdu(1, Command::request(0x8001, 5).encode())],
        vec![value(1, PDataValueType::Command, false, vec![0; 3000]); 8],
        vec![Pdu::PData { data: vec![] }],
        vec![Pdu::ReleaseRP],
    ];
    for (number, units) in cases.iter().enumerate() {
        let mut peer = service.peer(CLASS, SYNTAX);
        for unit in units {
            // The service may have ended it before the last one.
            let _ = peer.send(unit);
        }
        assert!(is_abort(peer.receive()), "case {number}");
    }
    service.shelf.wait(|seen| seen.refused.len() == cases.len());
    service.shelf.wait(|seen| seen.open == 0);
    assert!(service.shelf.seen.lock().unwrap().files.is_empty());
    service.still_answers();
}

#[test]
fn a_sender_that_vanishes_leaves_nothing() {
    let service = run(options(), Mood::Takes);
    let mut peer = service.peer(CLASS, SYNTAX);
    peer.send(&command_pdu(1, store_command(CLASS, "1.2.3").encode())).expect("send");
    peer.send(&value(1, PDataValueType::Data, false, bytes_of(CLASS, "1.2.3", 999))).expect("send");
    service.shelf.wait(|seen| seen.open == 1);
    drop(peer);
    service.shelf.wait(|seen| seen.open == 0);
    assert!(service.shelf.seen.lock().unwrap().files.is_empty());
}

/// Covers: RCV-6, RCV-10
#[test]
fn false_lengths_and_garbage_end_the_connection() {
    let service = run(options(), Mood::Takes);
    let cases: [(&[u8], Option<u8>); 6] = [
        (&[1, 0, 0x80, 0, 0, 0], Some(ABORT)),
        (&[4, 0, 0xFF, 0xFF, 0xFF, 0xFF], Some(ABORT)),
        (b"GET / HTTP/1.1\r\n\r\n", Some(ABORT)),
        (&[0; 64], Some(ABORT)),
        (&[1, 0, 0, 0, 0, 4, 0, 1, 0, 0], Some(ABORT)),
        (&[5, 0, 0, 0, 0, 4, 0, 0, 0, 0], Some(ABORT)),
    ];
    for (bytes, expected) in cases {
        let mut tcp = service.connect();
        tcp.write_all(bytes).expect("write");
        tcp.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(ends_with(&mut tcp), expected, "{:?}", &bytes[..4]);
    }
    service.still_answers();
}

/// Covers: RCV-6
#[test]
fn a_unit_longer_than_negotiated_ends_the_association() {
    let mut options = options();
    options.max_pdu = 4096;
    let service = run(options, Mood::Takes);
    let mut peer = service.peer(CLASS, SYNTAX);
    peer.inner_stream().write_all(&[4, 0, 0, 0, 0x10, 1]).expect("write");
    assert!(is_abort(peer.receive()));
    let mut peer = service.peer(CLASS, SYNTAX);
    peer.inner_stream().write_all(&[4, 0, 0x80, 0, 0, 0]).expect("write");
    assert!(is_abort(peer.receive()));
}

/// Covers: RCV-5
#[test]
fn silence_and_slowness_end_at_the_deadline() {
    let short = Duration::from_millis(300);
    let mut options = options();
    options.timeouts.request = short;
    options.timeouts.idle = short;
    options.timeouts.object = short;
    let service = run(options, Mood::Takes);

    let mut half = service.connect();
    half.write_all(&[1, 0, 0, 0]).expect("write");
    assert_eq!(ends_with(&mut half), Some(ABORT));

    let mut idle = service.peer(CLASS, SYNTAX);
    assert!(is_abort(idle.receive()));

    let mut stalled = service.peer(CLASS, SYNTAX);
    stalled.send(&command_pdu(1, store_command(CLASS, "1.2.3").encode())).expect("send");
    assert!(is_abort(stalled.receive()));

    // One byte at a time, each in good time for itself.
    let mut slow = service.connect();
    let started = Instant::now();
    while slow.write_all(&[1]).is_ok() {
        assert!(started.elapsed() < PATIENCE, "a slow sender is never ended");
        thread::sleep(Duration::from_millis(20));
    }
    service.shelf.wait(|seen| seen.open == 0);
    service.still_answers();
}

/// Covers: RCV-6
#[test]
fn more_associations_than_allowed_are_turned_away_for_now() {
    let mut options = options();
    options.max_associations = 2;
    let service = run(options, Mood::Takes);
    let first = service.peer(CLASS, SYNTAX);
    let _second = service.peer(CLASS, SYNTAX);
    let error = scu::echo(&service.destination()).expect_err("full");
    assert!(
        matches!(&error, SendError::Open(OpenError::Rejected { transient: true, .. })),
        "{error}"
    );
    assert!(error.is_transient());
    service.shelf.wait_refused("there are too many associations");
    first.release().expect("release");
    let started = Instant::now();
    while scu::echo(&service.destination()).is_err() {
        assert!(started.elapsed() < PATIENCE, "the place is never free again");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Covers: RCV-5
#[test]
fn idle_connections_do_not_keep_a_sender_out() {
    let mut options = options();
    options.max_waiting = 4;
    let service = run(options, Mood::Takes);
    let mut idle: Vec<TcpStream> = (0..100).map(|_| service.connect()).collect();
    service.still_answers();
    // The oldest went first.
    assert_eq!(ends_with(&mut idle[0]), None);
}

#[test]
fn a_fault_in_the_inbox_ends_one_association_alone() {
    let service = run(options(), Mood::Panics);
    let mut peer = service.peer(CLASS, SYNTAX);
    peer.send(&command_pdu(1, store_command(CLASS, "1.2.3").encode())).expect("send");
    service.shelf.wait_refused("an internal fault ended the association");
    service.still_answers();
}

#[test]
fn stopping_ends_idle_associations() {
    let mut service = run(options(), Mood::Takes);
    let mut peer = service.peer(CLASS, SYNTAX);
    let _waiting = service.connect();
    service.stop.store(true, Ordering::Release);
    service.thread.take().unwrap().join().expect("the service ends");
    assert!(!matches!(peer.receive(), Ok(Pdu::PData { .. })));
}

#[test]
fn commitment_reports_reach_the_inbox() {
    let service = run(options(), Mood::Takes);
    let mut peer = ClientAssociationOptions::new()
        .calling_ae_title("XRAY")
        .called_ae_title("BOARD")
        .with_presentation_context(uids::STORAGE_COMMITMENT_PUSH_MODEL, vec![SYNTAX])
        .with_role_selection(uids::STORAGE_COMMITMENT_PUSH_MODEL, false, true)
        .establish(service.address)
        .expect("association");
    let roles = peer.requestor_roles_for(uids::STORAGE_COMMITMENT_PUSH_MODEL);
    assert!(roles.scp && !roles.scu);

    let uid = |tag, text: &str| DataElement::new(tag, VR::UI, PrimitiveValue::from(text));
    let item = |instance, reason: Option<u16>| {
        let mut item = InMemDicomObject::new_empty();
        item.put(uid(tags::REFERENCED_SOP_CLASS_UID, CLASS));
        item.put(uid(tags::REFERENCED_SOP_INSTANCE_UID, instance));
        if let Some(reason) = reason {
            item.put(DataElement::new(tags::FAILURE_REASON, VR::US, PrimitiveValue::from(reason)));
        }
        item
    };
    let sequence = |tag, items: Vec<InMemDicomObject>| {
        DataElement::new(tag, VR::SQ, dicom_core::value::DataSetSequence::from(items))
    };
    let report = InMemDicomObject::from_element_iter([
        uid(tags::TRANSACTION_UID, "1.9"),
        sequence(tags::REFERENCED_SOP_SEQUENCE, vec![item("1.1", None)]),
        sequence(tags::FAILED_SOP_SEQUENCE, vec![item("1.2", Some(0x0112))]),
    ]);
    let data = data_set::write(&report, SYNTAX).expect("write");
    let command = |event| {
        Command::request(field::N_EVENT_REPORT, 5)
            .with_uid(element::AFFECTED_CLASS, uids::STORAGE_COMMITMENT_PUSH_MODEL)
            .with_uid(element::AFFECTED_INSTANCE, "1.2.840.10008.1.20.1.1")
            .with(element::EVENT_TYPE, event)
            .with_data_set()
    };
    assert_eq!(send(&mut peer, &command(2), &data), 0);
    // All is committed, it says, and lists a failure.
    assert_eq!(send(&mut peer, &command(1), &data), 0x0110);
    assert_eq!(send(&mut peer, &command(3), &data), 0x0113);
    assert_eq!(send(&mut peer, &command(2), b"\x08\x00\x95\x11UI\xFF\xFF"), 0x0110);
    let seen = service.shelf.seen.lock().unwrap();
    let expected = Report {
        transaction: "1.9".into(),
        committed: vec!["1.1".into()],
        failed: vec![("1.2".into(), 0x0112)],
    };
    assert_eq!(seen.reports, [expected]);
}

#[test]
fn our_own_sender_and_receiver_understand_each_other() {
    let service = run(options(), Mood::Takes);
    let folder = tempfile::tempdir().expect("folder");
    let classes = [CLASS, uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE];
    let objects: Vec<ObjectFile> = classes
        .iter()
        .enumerate()
        .map(|(place, class)| {
            let instance = format!("1.2.{place}");
            let path = folder.path().join(&instance);
            let meta = dicom_object::FileMetaTableBuilder::new()
                .media_storage_sop_class_uid(*class)
                .media_storage_sop_instance_uid(instance.as_str())
                .transfer_syntax(SYNTAX);
            object(class, &instance, 300_000)
                .with_meta(meta)
                .unwrap()
                .write_to_file(&path)
                .unwrap();
            ObjectFile {
                path,
                sop_class: (*class).into(),
                sop_instance: instance,
                transfer_syntax: SYNTAX.into(),
            }
        })
        .collect();
    assert_eq!(scu::store(&service.destination(), &objects).expect("store"), []);
    let seen = service.shelf.seen.lock().unwrap();
    for ((_, file), class) in seen.files.iter().zip(classes) {
        let place = classes.iter().position(|each| *each == class).unwrap();
        assert!(file.ends_with(&bytes_of(class, &format!("1.2.{place}"), 300_000)));
    }
    assert_eq!(seen.files.len(), 2);
}

/// Covers: RCV-11
#[test]
fn tls_lets_in_those_with_a_certificate_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let authority = Authority::new();
    let ca = authority.write(folder.path(), "ca");
    let identity = |name: &str| authority.issue(folder.path(), name);
    let mut options = options();
    options.tls = Some(tls::server(&identity("board"), Some(&ca)).expect("server"));
    let service = run(options, Mood::Takes);
    let destination = |identity: Option<&Identity>| Destination {
        tls: Some(scu::ClientTls {
            config: tls::client(&ca, identity).expect("client"),
            server_name: "localhost".try_into().unwrap(),
        }),
        ..service.destination()
    };
    scu::echo(&destination(Some(&identity("xray")))).expect("with a certificate");
    scu::echo(&destination(None)).expect_err("without a certificate");
    service.shelf.wait_refused("a connection failed its TLS handshake");
    scu::echo(&service.destination()).expect_err("without TLS");
    let stranger = Authority::new().issue(folder.path(), "stranger");
    scu::echo(&destination(Some(&stranger))).expect_err("with a certificate of others");
    scu::echo(&destination(Some(&identity("xray")))).expect("again");
}
