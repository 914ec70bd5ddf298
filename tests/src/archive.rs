//! An archive on loopback that keeps what it receives in memory, and fails on demand.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use device::dicom::scp::{Inbox, Reception, Refusal, Scp, ScpOptions};
use device::spool::Arrival;
use dicom_dictionary_std::uids;

/// The archive's AE title.
pub const ARCHIVE: &str = "ARCHIVE";

/// An object that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// SOP Class UID.
    pub sop_class: String,
    /// SOP Instance UID.
    pub sop_instance: String,
    /// The DICOM file.
    pub bytes: Vec<u8>,
}

/// A running archive; it ends when dropped.
pub struct Archive {
    shelf: Shelf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Where it listens.
    pub address: SocketAddr,
}

#[derive(Clone, Default)]
struct Shelf {
    objects: Arc<Mutex<Vec<Received>>>,
    refusal: Arc<Mutex<Option<Refusal>>>,
    hangs: Arc<(Mutex<bool>, Condvar)>,
}

impl Archive {
    /// Starts one at any free port.
    pub fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Starts one at an address.
    pub fn start_at(address: SocketAddr) -> Self {
        let shelf = Shelf::default();
        let mut options = ScpOptions::new(address, ARCHIVE);
        options.allowed = vec!["*".into()];
        options.classes.extend([
            uids::COMPREHENSIVE_SR_STORAGE.into(),
            uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE.into(),
        ]);
        let scp = Scp::bind(options, Arc::new(shelf.clone())).expect("listens");
        let address = scp.local_addr();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = Some(std::thread::spawn(move || scp.run(&flag)));
        Self { shelf, stop, thread, address }
    }

    /// Everything received so far, in order.
    pub fn objects(&self) -> Vec<Received> {
        held(&self.shelf.objects).clone()
    }

    /// Hands over what was received, in order, and forgets it.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut *held(&self.shelf.objects))
    }

    /// Forgets what was received.
    pub fn clear(&self) {
        self.take();
    }

    /// From now on refuses everything so, or nothing.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        *held(&self.shelf.refusal) = refusal;
    }

    /// From now on receives everything and answers nothing, or answers again.
    pub fn hang(&self, hangs: bool) {
        let (flag, changed) = &*self.shelf.hangs;
        *held(flag) = hangs;
        changed.notify_all();
    }

    /// The section of a board's configuration that makes it a destination.
    pub fn section(&self, name: &str, more: &str) -> String {
        let address = self.address;
        format!(
            "[[destination]]\nname = \"{name}\"\naddress = \"{address}\"\n\
             ae_title = \"{ARCHIVE}\"\n{more}\n"
        )
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.hang(false);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Inbox for Shelf {
    fn begin(&self) -> Result<Box<dyn Reception>, Refusal> {
        match *held(&self.refusal) {
            Some(refusal) => Err(refusal),
            None => Ok(Box::new(Arriving { shelf: self.clone(), bytes: Vec::new() })),
        }
    }
}

struct Arriving {
    shelf: Shelf,
    bytes: Vec<u8>,
}

impl io::Write for Arriving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Reception for Arriving {
    fn finish(self: Box<Self>, arrival: Arrival) -> Result<bool, Refusal> {
        let (flag, changed) = &*self.shelf.hangs;
        let waited = changed.wait_while(held(flag), |hangs| *hangs);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        let Arrival { sop_class, sop_instance, .. } = arrival;
        let object = Received { sop_class, sop_instance, bytes: self.bytes };
        let mut objects = held(&self.shelf.objects);
        let is_new = !objects.contains(&object);
        objects.push(object);
        Ok(is_new)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
