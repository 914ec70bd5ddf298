//! Who is connected: bounded numbers of connections that wait and of associations.

use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long the accepting thread waits for a connection that was dropped to be gone.
const LEAVING: Duration = Duration::from_millis(500);
/// Connections that may be on their way out beside those that are counted.
const SLACK: usize = 16;
/// Between two reports of connections turned away for the same reason.
const TELL: Duration = Duration::from_secs(1);

/// The list of all connections.
pub struct Desk {
    max_waiting: usize,
    max_associations: usize,
    table: Mutex<Table>,
    left: Condvar,
}

#[derive(Default)]
struct Table {
    visits: HashMap<u64, Entry>,
    next: u64,
    /// When each reason was last told of.
    told: HashMap<&'static str, Instant>,
}

struct Entry {
    address: IpAddr,
    tcp: Arc<TcpStream>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Has not asked for an association yet.
    Waiting,
    /// Has been shut, and its thread will notice.
    Leaving,
    /// Has an association and is between two messages.
    Idle,
    /// Is in a message.
    Busy,
}

impl Desk {
    /// An empty list for so many connections.
    pub fn new(max_waiting: usize, max_associations: usize) -> Arc<Self> {
        let (table, left) = (Mutex::default(), Condvar::new());
        Arc::new(Self { max_waiting, max_associations, table, left })
    }

    /// Enters a connection, dropping another one that waits if there are too many; none when the
    /// dropped ones do not go.
    pub fn enter(self: &Arc<Self>, address: IpAddr, tcp: Arc<TcpStream>) -> Option<Visit> {
        let mut table = self.lock();
        if table.count(|stage| stage == Stage::Waiting) >= self.max_waiting {
            table.drop_one_that_waits();
        }
        let most = self.max_waiting + self.max_associations + SLACK;
        let full = |table: &mut Table| table.visits.len() >= most;
        table = match self.left.wait_timeout_while(table, LEAVING, full) {
            Ok((table, _)) => table,
            Err(poisoned) => poisoned.into_inner().0,
        };
        if full(&mut table) {
            return None;
        }
        let number = table.next;
        table.next += 1;
        table.visits.insert(number, Entry { address, tcp, stage: Stage::Waiting });
        Some(Visit { desk: self.clone(), number, address })
    }

    /// Ends all connections: those between messages at once, the others after a while; returns
    /// when all are gone.
    pub fn close(&self, patience: Duration) {
        let mut table = self.lock();
        table.shut(|stage| stage != Stage::Busy);
        let some = |table: &mut Table| !table.visits.is_empty();
        table = match self.left.wait_timeout_while(table, patience, some) {
            Ok((table, _)) => table,
            Err(poisoned) => poisoned.into_inner().0,
        };
        table.shut(|_| true);
    }

    /// Whether to tell of a connection that came to no association: not more than once a second
    /// for each reason.
    pub fn may_tell(&self, reason: &'static str) -> bool {
        let mut table = self.lock();
        let due = table.told.get(reason).is_none_or(|told| told.elapsed() >= TELL);
        if due {
            table.told.insert(reason, Instant::now());
        }
        due
    }

    /// A thread that panicked changed nothing half-way: every change is one assignment.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn count(&self, of: impl Fn(Stage) -> bool) -> usize {
        self.visits.values().filter(|entry| of(entry.stage)).count()
    }

    /// Of the address that has most connections waiting, the oldest goes; rather one that says
    /// nothing than one whose request has only not been read yet.
    fn drop_one_that_waits(&mut self) {
        let waiting = || self.visits.iter().filter(|(_, entry)| entry.stage == Stage::Waiting);
        let mut by_address: HashMap<IpAddr, usize> = HashMap::new();
        for (_, entry) in waiting() {
            *by_address.entry(entry.address).or_default() += 1;
        }
        let crowd = |entry: &Entry| by_address.get(&entry.address).copied().unwrap_or(0);
        let victim = waiting()
            .max_by_key(|(number, entry)| {
                (!entry.has_unread(), crowd(entry), std::cmp::Reverse(**number))
            })
            .map(|(number, _)| *number);
        if let Some(entry) = victim.and_then(|number| self.visits.get_mut(&number)) {
            entry.shut();
        }
    }

    fn shut(&mut self, of: impl Fn(Stage) -> bool) {
        self.visits.values_mut().filter(|entry| of(entry.stage)).for_each(Entry::shut);
    }
}

impl Entry {
    /// Whether bytes have come that its thread has not read.
    fn has_unread(&self) -> bool {
        let mut socket = [PollFd::new(&self.tcp, PollFlags::IN)];
        poll(&mut socket, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Wakes the thread that reads from the connection.
    fn shut(&mut self) {
        self.stage = Stage::Leaving;
        // It may have ended by itself.
        let _ = self.tcp.shutdown(Shutdown::Both);
    }
}

/// A connection's place on the list, until it is dropped.
pub struct Visit {
    desk: Arc<Desk>,
    number: u64,
    address: IpAddr,
}

impl Visit {
    /// The list.
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// The peer's address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Makes the connection an association, unless there are too many.
    pub fn promote(&self) -> bool {
        let mut table = self.desk.lock();
        let associations = table.count(|stage| matches!(stage, Stage::Idle | Stage::Busy));
        if associations >= self.desk.max_associations {
            return false;
        }
        self.stage(&mut table, Stage::Idle);
        true
    }

    /// Notes whether the association is in a message.
    pub fn set_busy(&self, busy: bool) {
        let mut table = self.desk.lock();
        self.stage(&mut table, if busy { Stage::Busy } else { Stage::Idle });
    }

    fn stage(&self, table: &mut Table, stage: Stage) {
        if let Some(entry) = table.visits.get_mut(&self.number)
            && entry.stage != Stage::Leaving
        {
            entry.stage = stage;
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.desk.lock().visits.remove(&self.number);
        self.desk.left.notify_all();
    }
}
