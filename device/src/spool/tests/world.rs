//! A small world around a spool: a sender, a worker and receivers, driven until all is done.
//!
//! The driver keeps what it was promised outside the spool, so that a later process can check it.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use models::label::Class;

use crate::event::ScanId;
use crate::record::{BundleRef, FailedRecord, Latency, Probabilities, Record, ScanRecord, Verdict};
use crate::spool::{
    Accepted, Arrival, DeliveryState, Due, Judged, Object, Options, Retry, Rule, Spool, SpoolError,
    Stage,
};

/// Asks for storage commitment.
pub(super) const PACS: &str = "pacs";
/// Does not.
pub(super) const ARCHIVE: &str = "archive";

pub(super) fn options(dir: &Path) -> Options {
    let rule = |name: &str, wants_commitment| Rule {
        name: name.to_string(),
        kinds: Vec::new(),
        wants_commitment,
    };
    Options {
        dir: dir.to_path_buf(),
        keep_free: 0,
        max_scan: 1 << 20,
        retention: Duration::ZERO,
        destinations: vec![rule(PACS, true), rule(ARCHIVE, false)],
        retry: Retry { first: Duration::ZERO, most: Duration::ZERO, attempts: 3 },
    }
}

/// One scan to send.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Input {
    pub(super) sop_instance: String,
    pub(super) bytes: Vec<u8>,
}

/// Some scans: with UIDs, and plain pictures.
pub(super) fn inputs(count: usize) -> Vec<Input> {
    let input = |n: usize| Input {
        sop_instance: if n % 2 == 1 { String::new() } else { format!("1.2.{n}") },
        bytes: format!("scan {n}").into_bytes().repeat(1 + 100 * (n % 5)),
    };
    (0..count).map(input).collect()
}

pub(super) fn arrival(input: &Input) -> Arrival {
    let is_dicom = !input.sop_instance.is_empty();
    let uid = |uid: &str| if is_dicom { uid.to_string() } else { String::new() };
    Arrival {
        sop_class: uid("1.2.840.10008.5.1.4.1.1.1"),
        sop_instance: input.sop_instance.clone(),
        transfer_syntax: uid("1.2.840.10008.1.2.1"),
        from: if is_dicom { "XRAY".into() } else { "folder".into() },
    }
}

pub(super) fn send(spool: &Spool, input: &Input) -> Result<Accepted, SpoolError> {
    let mut incoming = spool.begin()?;
    incoming.write_all(&input.bytes).map_err(SpoolError::io("write"))?;
    incoming.commit(arrival(input))
}

pub(super) fn record(id: ScanId) -> Record {
    if id.number().is_multiple_of(4) {
        return Record::Failed(FailedRecord { file: "name".into(), error: "damaged".into() });
    }
    Record::Scan(Box::new(ScanRecord {
        file: "name".into(),
        verdict: Verdict::Refer,
        class: Class::Normal,
        probabilities: Probabilities::from([0.5, 0.25, 0.25]),
        logits: [1.0, 0.0, 0.0],
        reasons: vec!["not sure".into()],
        cam: None,
        overlay: None,
        latency_ms: Latency { decode: 1.0, preprocess: 1.0, inference: 1.0, cam: 1.0 },
        bundle: BundleRef { name: "b".into(), digest: "d".into() },
    }))
}

pub(super) fn judged(id: ScanId) -> Judged {
    Judged { record: record(id), files: vec![("overlay.png".into(), id.to_string().into())] }
}

pub(super) fn objects(id: ScanId) -> Vec<Object> {
    let object = |kind: &str, n: u32| Object {
        kind: kind.to_string(),
        sop_class: "1.2.840.10008.5.1.4.1.1.88.33".into(),
        sop_instance: format!("2.25.{}.{n}", id.number()),
        bytes: format!("{kind} of {id}").into_bytes().repeat(50),
    };
    vec![object("sc", 1), object("sr", 2)]
}

/// Takes every received scan to its end or a failure.
pub(super) fn work(spool: &Spool) -> Result<(), SpoolError> {
    while let Some(work) = spool.next_received()? {
        spool.judged(work.id, judged(work.id))?;
    }
    while let Some(work) = spool.next_judged()? {
        spool.rendered(work.id, objects(work.id))?;
    }
    Ok(())
}

/// Spool, receivers and promises in one folder.
pub(super) struct World {
    dir: PathBuf,
}

impl World {
    pub(super) fn new(dir: &Path) -> Self {
        for name in [PACS, ARCHIVE] {
            fs::create_dir_all(dir.join(name)).expect("a receiver");
        }
        Self { dir: dir.to_path_buf() }
    }

    pub(super) fn spool(&self) -> PathBuf {
        self.dir.join("spool")
    }

    /// Sends what was not promised yet, and drives everything to its end or a failure.
    pub(super) fn drive(&self, spool: &Spool, inputs: &[Input]) -> Result<(), SpoolError> {
        let promised: HashSet<usize> = self.promises().into_iter().collect();
        for (n, input) in inputs.iter().enumerate() {
            if !promised.contains(&n) {
                send(spool, input)?;
                self.promise(n);
            }
        }
        work(spool)?;
        for destination in [PACS, ARCHIVE] {
            self.deliver(spool, destination)?;
        }
        self.commit(spool)?;
        spool.expire()?;
        Ok(())
    }

    fn deliver(&self, spool: &Spool, destination: &str) -> Result<(), SpoolError> {
        while let Due::Now(delivery) = spool.due(destination)? {
            for object in &delivery.objects {
                let bytes = fs::read(&object.path).expect("what is due can be read");
                let received = self.dir.join(destination).join(&object.sop_instance);
                fs::write(received, bytes).expect("the receiver works");
            }
            spool.delivered(delivery.id, destination)?;
        }
        Ok(())
    }

    fn commit(&self, spool: &Spool) -> Result<(), SpoolError> {
        while let Due::Now(delivery) = spool.commitment_due(PACS)? {
            spool.requested(delivery.id, PACS, "2.25.1")?;
            let uids: Vec<String> =
                delivery.objects.iter().map(|object| object.sop_instance.clone()).collect();
            spool.committed(PACS, &uids)?;
        }
        Ok(())
    }

    fn promises(&self) -> Vec<usize> {
        let text = fs::read_to_string(self.dir.join("promises")).unwrap_or_default();
        text.lines().map(|line| line.parse().expect("a number")).collect()
    }

    fn promise(&self, n: usize) {
        let path = self.dir.join("promises");
        let file = OpenOptions::new().append(true).create(true).open(path);
        writeln!(file.expect("opens"), "{n}").expect("writes");
    }

    /// Nothing promised is missing, and nothing called delivered is half there.
    pub(super) fn check_promises(&self, spool: &Spool, inputs: &[Input]) {
        for n in self.promises() {
            let id = id_of(&inputs[n]);
            let scan = spool.get(id).expect("a promised scan is known");
            assert_ne!(scan.stage, Stage::Lost);
            if scan.stage != Stage::Expired {
                let source = fs::read(spool.source(id).expect("has a source")).expect("reads");
                assert_eq!(source, inputs[n].bytes);
            }
            for delivery in scan.deliveries {
                if delivery.state != DeliveryState::Pending {
                    self.check_received(id, &delivery.destination);
                }
            }
        }
    }

    /// Everything came to its end exactly once, and only rows are left.
    pub(super) fn check_end(&self, spool: &Spool, inputs: &[Input]) {
        let scans = spool.list(100, 0).expect("lists");
        assert_eq!(scans.len(), inputs.len());
        assert!(scans.iter().all(|scan| scan.stage == Stage::Expired), "{scans:?}");
        self.check_receivers(inputs);
    }

    /// Every receiver has everything once, and no content is left.
    pub(super) fn check_receivers(&self, inputs: &[Input]) {
        for input in inputs {
            self.check_received(id_of(input), PACS);
            self.check_received(id_of(input), ARCHIVE);
        }
        for name in [PACS, ARCHIVE] {
            assert_eq!(entries(&self.dir.join(name)), 2 * inputs.len());
        }
        for name in ["incoming", "scans", "trash", "damaged"] {
            assert_eq!(entries(&self.spool().join(name)), 0, "{name}");
        }
    }

    fn check_received(&self, id: ScanId, destination: &str) {
        for object in objects(id) {
            let path = self.dir.join(destination).join(&object.sop_instance);
            assert_eq!(fs::read(path).expect("was received"), object.bytes);
        }
    }
}

pub(super) fn id_of(input: &Input) -> ScanId {
    match input.sop_instance.as_str() {
        "" => ScanId::of(&input.bytes),
        uid => ScanId::of(uid.as_bytes()),
    }
}

pub(super) fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).expect("lists").count()
}
