//! SIGKILL at every durable step of the whole service.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::env;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use device::audit::{Audit, Entry};
use device::dicom::scu::{self, Destination, ObjectFile};
use device::failpoint;
use device::spool::{Options, Retry, Rule, Spool, Stage};
use dicom_dictionary_std::uids;
use host::phantom::Phantom;
use rustix::process::Signal;
use sha2::{Digest, Sha256};
use tests::archive::{Archive, Received};
use tests::board::{Board, Plan};
use tests::{scan, small_phantom, uid};

use crate::{Chance, IMPATIENT, fast_folder, trail_counts, trail_files};

/// How many scans are sent in all.
const SCANS: &str = "SPINESIGHT_FAULT_SCANS";
/// Senders at work at the same time.
const SENDERS: u64 = 4;
/// One in so many scans comes as a file in the inbox.
const FILED: usize = 16;
/// A life that has not reached its step by then is ended anyhow.
const LONGEST_LIFE: Duration = Duration::from_secs(60);
/// How long the boards keep content, in running time: long enough that what was not answered is
/// sent again before, for what expired is taken anew.
const RETENTION: Duration = Duration::from_secs(20);
/// Size at which the audit trail begins a new file, in bytes.
const ROTATION: u64 = 8 << 20;

/// Covers: SPL-1, RCV-1, RCV-2, RES-4, AUD-1
///
/// One board after the other on the same folder dies by SIGKILL, each at another durable step and
/// at another time, while four senders store over associations of their own and files come by the
/// inbox. What was not answered with success is sent again. Afterwards every scan has one verdict
/// in the audit trail and one set of results in the archive, the same bytes however often they
/// came.
#[test]
#[ignore = "cargo xtask test --with faults"]
fn kills_at_every_durable_step_lose_double_and_halve_nothing() {
    let total = env::var(SCANS).map_or(10_000, |text| text.parse().expect("a number"));
    let (archive, folder) = (Archive::start(), fast_folder());
    let yard = Yard::new(total, folder.path());
    fill_trail(folder.path());
    let done = AtomicBool::new(false);
    let (reached, ledger) = thread::scope(|scope| {
        for sender in 0..SENDERS {
            scope.spawn({
                let (yard, done) = (&yard, &done);
                move || yard.send_all(sender, done)
            });
        }
        // Senders must end whatever happens, or a failure would hang.
        let _end = Ending(&done);
        Lives::new(&yard, &archive, folder.path()).live()
    });
    check_trail(folder.path(), total);
    check_spool(folder.path(), total);
    check_results(&ledger, total);
    assert_eq!(files_in(&folder.path().join("inbox")), 0, "the inbox is empty");
    let missed: Vec<_> = failpoint::ALL.iter().filter(|point| !reached.contains(*point)).collect();
    assert!(missed.is_empty(), "never died at {missed:?}");
}

/// Sets its flag at the end of its scope.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What senders and lives share.
struct Yard {
    total: usize,
    phantom: Phantom,
    inbox: PathBuf,
    /// Numbers of scans that nobody has promised to keep.
    to_send: Mutex<VecDeque<usize>>,
    /// Numbers of scans that were answered with success or lie in the inbox.
    promised: Mutex<BTreeSet<usize>>,
    /// The board of now.
    board: Mutex<Option<Destination>>,
    /// Scans whose results are complete.
    complete: AtomicUsize,
    /// Scans that may be on their way at the same time.
    most_open: usize,
    sent_again: AtomicUsize,
}

impl Yard {
    fn new(total: usize, folder: &Path) -> Self {
        let inbox = folder.join("inbox");
        fs::create_dir_all(&inbox).expect("makes");
        Self {
            total,
            phantom: small_phantom(),
            inbox,
            to_send: Mutex::new((0..total).collect()),
            promised: Mutex::default(),
            board: Mutex::default(),
            complete: AtomicUsize::new(0),
            most_open: 2 * per_life(total) + 8,
            sent_again: AtomicUsize::new(0),
        }
    }

    /// One sender at work.
    fn send_all(&self, number: u64, done: &AtomicBool) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut chance = Chance(number);
        while !done.load(Ordering::SeqCst) {
            let board = held(&self.board).clone();
            let batch = self.batch(1 + chance.below(5));
            let Some(board) = board.filter(|_| !batch.is_empty()) else {
                self.keep(&batch);
                thread::sleep(Duration::from_millis(20));
                continue;
            };
            self.send(&board, &batch, folder.path());
        }
    }

    /// The next scans to send; none while many are on their way.
    fn batch(&self, most: u64) -> Vec<usize> {
        // A scan may be complete whose answer was lost.
        let complete = self.complete.load(Ordering::SeqCst);
        let open = held(&self.promised).len().saturating_sub(complete);
        if open >= self.most_open {
            return Vec::new();
        }
        let mut waiting = held(&self.to_send);
        let count = waiting.len().min(most as usize);
        waiting.drain(..count).collect()
    }

    /// Sends scans: some as files, the others in one association. When that fails at any of them,
    /// none counts as promised, for the sender has an answer for none.
    fn send(&self, board: &Destination, batch: &[usize], folder: &Path) {
        let (filed, sent): (Vec<usize>, Vec<usize>) =
            batch.iter().partition(|number| *number % FILED == FILED - 1);
        for number in filed {
            let (part, file) =
                ["dcm.part", "dcm"].map(|end| self.inbox.join(format!("{number}.{end}"))).into();
            fs::write(&part, scan(&self.phantom, number)).expect("writes");
            fs::rename(&part, &file).expect("completes");
            held(&self.promised).insert(number);
        }
        let object = |number: &usize| {
            let path = folder.join(number.to_string());
            fs::write(&path, scan(&self.phantom, *number)).expect("writes");
            ObjectFile {
                path,
                sop_class: uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION.into(),
                sop_instance: uid(*number),
                transfer_syntax: uids::EXPLICIT_VR_LITTLE_ENDIAN.into(),
            }
        };
        let objects: Vec<_> = sent.iter().map(object).collect();
        match scu::store(board, &objects) {
            Ok(_) => held(&self.promised).extend(&sent),
            Err(_) => {
                self.sent_again.fetch_add(sent.len(), Ordering::SeqCst);
                self.keep(&sent);
                thread::sleep(Duration::from_millis(20));
            }
        }
        objects.iter().for_each(|object| fs::remove_file(&object.path).expect("removes"));
    }

    /// Scans that nobody took are the next to be sent.
    fn keep(&self, batch: &[usize]) {
        let mut waiting = held(&self.to_send);
        batch.iter().rev().for_each(|number| waiting.push_front(*number));
    }
}

/// Scans that one life may see at most before it ends.
fn per_life(total: usize) -> usize {
    (total / 4 / failpoint::ALL.len()).clamp(3, 60)
}

/// One life after the other.
struct Lives<'a> {
    yard: &'a Yard,
    archive: &'a Archive,
    folder: &'a Path,
    ledger: Ledger,
    reached: BTreeSet<&'static str>,
    chance: Chance,
    count: usize,
    began: Instant,
}

impl<'a> Lives<'a> {
    fn new(yard: &'a Yard, archive: &'a Archive, folder: &'a Path) -> Self {
        Self {
            yard,
            archive,
            folder,
            ledger: Ledger::default(),
            reached: BTreeSet::new(),
            chance: Chance(4711),
            count: 0,
            began: Instant::now(),
        }
    }

    /// Lives until every scan's results are complete; gives the steps at which a life ended.
    fn live(mut self) -> (BTreeSet<&'static str>, Ledger) {
        // The trail is about to begin a new file: later this comes once in thousands of scans.
        let mut points = vec!["audit.rotated"];
        loop {
            if points.is_empty() {
                points = failpoint::ALL.to_vec();
                points.retain(|point| *point != "audit.rotated");
                self.chance.shuffle(&mut points);
            }
            let point = points.remove(0);
            let times = self.times(point);
            let before = self.verdicts();
            if self.live_once(Some((point, times))) {
                break;
            }
            // A scan that is at hand at three kills in a row counts as one that kills.
            if self.verdicts() == before && self.live_once(None) {
                break;
            }
        }
        (self.reached, self.ledger)
    }

    /// The how manieth time at a step is the last one.
    fn times(&mut self, point: &str) -> u64 {
        let scans = per_life(self.yard.total) as u64;
        let by_scan = |often: u64, chance: &mut Chance| often * (2 + chance.below(scans));
        match point {
            "audit.rotated" | "start.told" => 1,
            _ if point.starts_with("recovery.") => 1,
            "expire.commit" | "expire.marked" => 2,
            "folder.taken" => 1 + self.chance.below(1 + scans / FILED as u64),
            _ if point.starts_with("audit.") => by_scan(3, &mut self.chance),
            _ if point.starts_with("disk.") => by_scan(10, &mut self.chance),
            _ => by_scan(1, &mut self.chance),
        }
    }

    /// One life, which is to end at a step, or as soon as something was judged; says whether
    /// everything is complete.
    fn live_once(&mut self, end: Option<(&'static str, u64)>) -> bool {
        self.count += 1;
        let before = self.verdicts();
        let Some(mut board) = self.start(end) else {
            let (point, _) = end.expect("dies where it was told to");
            self.reached.insert(point);
            return false;
        };
        *held(&self.yard.board) = Some(board.destination());
        let start = Instant::now();
        let complete = loop {
            self.collect();
            if let Some(status) = board.ended() {
                let (point, times) = end.expect("dies where it was told to");
                assert_eq!(status.signal(), Some(9), "{point}:{times}: {status}");
                self.reached.insert(point);
                break false;
            }
            if self.ledger.complete.len() == self.yard.total {
                assert!(board.stop().success());
                break true;
            }
            let is_over = end.is_none() && self.verdicts() > before + 3;
            if is_over || start.elapsed() > LONGEST_LIFE {
                board.signal(Signal::KILL);
                board.wait().expect("ends");
                break false;
            }
            thread::sleep(Duration::from_millis(20));
        };
        *held(&self.yard.board) = None;
        self.tell(end, complete);
        complete
    }

    /// Starts a board; none when it died before it was ready.
    fn start(&self, end: Option<(&str, u64)>) -> Option<Board> {
        let seconds = RETENTION.as_secs();
        let inbox = &self.yard.inbox;
        let mut plan = Plan {
            board: "threads = 2".into(),
            storage: format!("keep_free_mb = 1\nretention = \"{seconds}s\""),
            ..Plan::with(format!(
                "[folder]\ninbox = {inbox:?}\ninterval = \"100ms\"\n{IMPATIENT}{}",
                self.archive.section("pacs", "")
            ))
        };
        plan.environment.extend(
            end.map(|(point, times)| (failpoint::VARIABLE.into(), format!("{point}:{times}"))),
        );
        let board = plan.try_start(self.folder);
        let errors = fs::read_to_string(self.folder.join("stderr")).expect("reads");
        assert!(errors.is_empty(), "{end:?}: {errors}");
        board
    }

    fn collect(&mut self) {
        for object in self.archive.take() {
            self.ledger.enter(object);
        }
        self.yard.complete.store(self.ledger.complete.len(), Ordering::SeqCst);
    }

    fn verdicts(&self) -> usize {
        trail_counts(self.folder).all("judged")
    }

    fn tell(&self, end: Option<(&str, u64)>, complete: bool) {
        let Yard { total, sent_again, .. } = self.yard;
        let (point, times) = end.unwrap_or(("any", 0));
        let fate = if complete { "went on to the end" } else { "died" };
        println!(
            "{:5.0} s life {:3} {point}:{times} {fate}: {} promised, {} complete of {total}, {} sent again, {} objects twice",
            self.began.elapsed().as_secs_f64(),
            self.count,
            held(&self.yard.promised).len(),
            self.ledger.complete.len(),
            sent_again.load(Ordering::SeqCst),
            self.ledger.repeated,
        );
    }
}

/// What the archive has.
#[derive(Default)]
struct Ledger {
    /// SHA-256 of each object's file by its SOP Instance UID.
    digests: HashMap<String, Vec<u8>>,
    /// SOP Instance UIDs of each scan's objects by their class.
    scans: HashMap<usize, BTreeMap<String, String>>,
    /// Scans with all three kinds.
    complete: BTreeSet<usize>,
    /// Objects that came again.
    repeated: usize,
}

impl Ledger {
    fn enter(&mut self, object: Received) {
        let Received { sop_class, sop_instance, bytes } = object;
        let number = scan_of(&bytes);
        let digest = Sha256::digest(&bytes).to_vec();
        match self.digests.get(&sop_instance) {
            Some(known) => {
                assert_eq!(known, &digest, "scan {number}: {sop_class} came with other bytes");
                self.repeated += 1;
            }
            None => {
                self.digests.insert(sop_instance.clone(), digest);
                let kinds = self.scans.entry(number).or_default();
                let other = kinds.insert(sop_class, sop_instance);
                assert_eq!(other, None, "scan {number} has two results of a kind");
                if kinds.len() == 3 {
                    self.complete.insert(number);
                }
            }
        }
    }
}

/// The scan that a result object refers to.
fn scan_of(bytes: &[u8]) -> usize {
    let root = b"2.25.4711.";
    let at = bytes.windows(root.len()).position(|part| part == root).expect("refers to a scan");
    let digits = bytes[at + root.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    let digits: Vec<u8> = digits.copied().collect();
    String::from_utf8(digits).expect("digits").parse().expect("a number")
}

/// Fills the audit trail until a new file is due, with entries of no scan.
fn fill_trail(folder: &Path) {
    let trail = folder.join("data/audit");
    let audit = Audit::open(&trail).expect("opens");
    let refused = Entry::Refused { from: "FILLER".into(), reason: "-".repeat(3_500) };
    let size = || fs::metadata(trail.join("00000001.jsonl")).map_or(0, |about| about.len());
    while size() + 4_096 < ROTATION {
        audit.record(&refused).expect("records");
    }
}

/// The trail is whole and tells of each scan what it should, once.
fn check_trail(folder: &Path, total: usize) {
    let trail = folder.join("data/audit");
    let program = env::var_os("SPINESIGHT_DEVICE").expect("cargo xtask test names it");
    let verified = Command::new(program).args(["audit", "verify"]).arg(&trail).output();
    let verified = verified.expect("runs");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    assert!(trail_files(folder).len() > 1, "a new file was begun");
    let counts = trail_counts(folder);
    for number in 0..total {
        let count = |event: &str| counts.of(&uid(number), event);
        assert_eq!(count("judged"), 1, "scan {number} has one verdict");
        assert_eq!(count("received") + count("adopted"), 1, "scan {number} came once");
        assert_eq!(count("delivered"), 1, "scan {number} was delivered once");
        for event in ["unjudged", "unreported", "lost", "set-back", "given-up"] {
            assert_eq!(count(event), 0, "scan {number} was {event}");
        }
    }
    println!("the trail is whole; {} scans were taken up after a kill", counts.all("adopted"));
}

/// Folders and database agree and nothing is left to do.
fn check_spool(folder: &Path, total: usize) {
    let rule = Rule { name: "pacs".into(), kinds: Vec::new(), wants_commitment: false };
    let second = Duration::from_secs(1);
    let options = Options {
        dir: folder.join("data/spool"),
        keep_free: 1,
        max_scan: 1 << 20,
        retention: RETENTION,
        destinations: vec![rule],
        retry: Retry { first: second, most: second, attempts: 1 },
    };
    let (spool, recovery) = Spool::open(options).expect("opens");
    assert_eq!(recovery, device::spool::Recovery::default(), "there is nothing to mend");
    let counts = spool.counts().expect("counts");
    let of = |stage: Stage| counts.stages.get(stage.name()).copied().unwrap_or_default();
    for stage in [Stage::Received, Stage::Judged, Stage::Lost] {
        assert_eq!(of(stage), 0, "{}", stage.name());
    }
    let pacs = &counts.destinations[0];
    assert_eq!((pacs.pending, pacs.dead, pacs.done), (0, 0, of(Stage::Rendered)));
    let kept = files_in(&folder.join("data/spool/scans"));
    assert_eq!(kept, of(Stage::Rendered) as usize, "each folder is of a scan that has not expired");
    println!(
        "{} scans expired and are still listed, {kept} of {total} have content",
        of(Stage::Expired)
    );
}

fn check_results(ledger: &Ledger, total: usize) {
    assert_eq!((ledger.complete.len(), ledger.scans.len()), (total, total));
    assert_eq!(ledger.digests.len(), 3 * total, "three results for each scan and no others");
}

fn files_in(folder: &Path) -> usize {
    fs::read_dir(folder).expect("lists").count()
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panicked")
}
