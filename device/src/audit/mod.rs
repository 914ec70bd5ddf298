//! The audit trail: who sent, what was decided, where it went, who acknowledged.
//!
//! JSON lines in numbered files, `00000001.jsonl` first. Each line holds its number, the SHA-256
//! of the line before, the wall time and one [`Entry`]; the chain goes on across files. The small
//! file `head.json` holds the number and hash of the last line, so that a shortened trail shows.
//!
//! - [`Audit::record`] appends: after `Ok` the entry survives SIGKILL and power loss;
//! - [`verify()`] names the first line that was changed, removed or exchanged.
//!
//! What the chain cannot tell: whoever may write the folder can write a whole new trail with a new
//! head. A copy of the head kept elsewhere (on paper, by mail, in another system's log) closes
//! that up to its moment: [`verify()`] takes such copies and says whether the trail still contains
//! them.

mod chain;
mod entry;
mod verify;

#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chrono::{SecondsFormat, Utc};

use crate::durable::{lock, sync_dir, write_file};
use crate::failpoint::reach;
use chain::{HEAD, Line, MOST_LINE, file_path, files, walk};

pub use chain::Head;
pub use entry::Entry;
pub use verify::{Report, verify};

/// Size from which a new file is begun, in bytes.
const ROTATE_AT: u64 = 8 << 20;

/// Why the trail cannot be written, or is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Another process writes this trail.
    #[error("another program writes this audit trail")]
    InUse,
    /// The folder holds no trail.
    #[error("there is no audit trail in this folder")]
    Missing,
    /// A line is not what was written, or lines are missing.
    #[error("{file}, line {line}: {reason}")]
    Broken {
        /// Name of the file.
        file: String,
        /// Line in the file, from 1.
        line: u64,
        /// What is wrong with it.
        reason: Fault,
    },
    /// The trail ends before the entry that its head, or a copy of it, names.
    #[error("the trail ends at entry {last}, but entry {head} was written: its end was removed")]
    Shortened {
        /// The last entry there is.
        last: u64,
        /// The entry that must be there.
        head: u64,
    },
    /// An entry differs from what the head, or a copy of it, says.
    #[error("entry {0} is not the one that the head names: the trail was rewritten")]
    Rewritten(u64),
    /// There is no readable head.
    #[error("the trail's head is missing or unreadable: the trail may have been shortened")]
    Headless,
    /// An entry is longer than allowed.
    #[error("an audit entry is too long")]
    TooLong,
    /// A failure of the file system.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It cannot be read as an entry.
    #[error("this is no entry of an audit trail: it was changed")]
    Unreadable,
    /// Its number does not follow.
    #[error("an entry is missing, repeated or exchanged before this line")]
    OutOfOrder,
    /// Its hash of the line before is not that line's.
    #[error("this line or the one before was changed")]
    Unchained,
    /// The service found head and trail in disagreement here.
    #[error("when the service started here, the trail had been changed or shortened")]
    Cut,
}

impl AuditError {
    fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// An open trail.
#[derive(Debug)]
pub struct Audit {
    dir: PathBuf,
    rotate_at: u64,
    end: Mutex<End>,
    _lock: File,
}

/// Where the trail ends.
#[derive(Debug)]
struct End {
    file: File,
    number: u32,
    length: u64,
    /// Whether bytes of a failed write may lie behind `length`.
    is_dirty: bool,
    head: Head,
}

impl Audit {
    /// Opens a trail, made where missing. A line torn by a power loss is cut off; an entry says
    /// so. Where the trail does not agree with its head, a new file begins with an entry that says
    /// so for ever.
    ///
    /// # Errors
    /// [`AuditError::InUse`], and failures of the disk.
    pub fn open(dir: &Path) -> Result<Self, AuditError> {
        Self::open_with(dir, ROTATE_AT)
    }

    fn open_with(dir: &Path, rotate_at: u64) -> Result<Self, AuditError> {
        let cannot = AuditError::io("open the audit trail");
        fs::create_dir_all(dir).map_err(&cannot)?;
        let lock = lock(&dir.join("lock")).map_err(&cannot)?.ok_or(AuditError::InUse)?;
        let found = Found::look(dir).map_err(&cannot)?;
        let end = found.end(dir).map_err(&cannot)?;
        let audit = Self { dir: dir.to_path_buf(), rotate_at, end: Mutex::new(end), _lock: lock };
        if let Some(entry) = found.entry() {
            audit.record(&entry)?;
        }
        Ok(audit)
    }

    /// Appends an entry: durable after `Ok`.
    ///
    /// # Errors
    /// [`AuditError::TooLong`]; failures of the disk, after which the next call goes on where the
    /// last complete entry ended.
    pub fn record(&self, entry: &Entry) -> Result<(), AuditError> {
        let cannot = AuditError::io("write the audit trail");
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let line = Line {
            seq: end.head.seq + 1,
            previous: end.head.hash.clone(),
            time: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            entry: entry.clone(),
        };
        let mut bytes = serde_json::to_vec(&line).map_err(|e| cannot(e.into()))?;
        if bytes.len() >= MOST_LINE {
            return Err(AuditError::TooLong);
        }
        let head = Head::of(line.seq, &bytes);
        bytes.push(b'\n');
        if end.length >= self.rotate_at {
            self.rotate(&mut end).map_err(&cannot)?;
        }
        end.append(&bytes, head).map_err(&cannot)?;
        self.write_head(&end.head).map_err(&cannot)
    }

    /// The entries since the service last started, as far as the last two files hold them.
    ///
    /// # Errors
    /// Failures of the disk.
    pub fn of_last_run(&self) -> Result<Vec<Entry>, AuditError> {
        let cannot = AuditError::io("read the audit trail");
        let numbers = files(&self.dir).map_err(&cannot)?;
        let (mut entries, mut last) = (Vec::new(), None);
        for number in &numbers[numbers.len().saturating_sub(2)..] {
            let walk = walk(&self.dir, *number, last, |_, entry| {
                if matches!(entry, Entry::Started { .. }) {
                    entries.clear();
                }
                entries.push(entry.clone());
                Ok(())
            });
            last = walk.map_err(&cannot)?.last;
        }
        Ok(entries)
    }

    /// Number and hash of the last entry: what to keep a copy of elsewhere.
    pub fn head(&self) -> Head {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).head.clone()
    }

    fn rotate(&self, end: &mut End) -> io::Result<()> {
        let number = end.number + 1;
        end.file = begin_file(&self.dir, number)?;
        (end.number, end.length, end.is_dirty) = (number, 0, false);
        reach("audit.rotated");
        Ok(())
    }

    fn write_head(&self, head: &Head) -> io::Result<()> {
        write_file(&self.dir, HEAD, &serde_json::to_vec(head)?)?;
        sync_dir(&self.dir)?;
        reach("audit.head");
        Ok(())
    }
}

impl End {
    fn append(&mut self, line: &[u8], head: Head) -> io::Result<()> {
        if self.is_dirty {
            self.file.set_len(self.length)?;
        }
        self.is_dirty = true;
        self.file.write_all_at(line, self.length)?;
        reach("audit.appended");
        self.file.sync_data()?;
        reach("audit.synced");
        self.is_dirty = false;
        self.length += line.len() as u64;
        self.head = head;
        Ok(())
    }
}

/// Makes an empty file of the trail, its name durable.
fn begin_file(dir: &Path, number: u32) -> io::Result<File> {
    let path = file_path(dir, number);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    sync_dir(dir)?;
    Ok(file)
}

/// What a start finds.
struct Found {
    /// The last file, 0 where there is none.
    number: u32,
    /// Where its last good line ends.
    good: u64,
    /// Bytes behind that.
    torn: u64,
    /// The last good entry.
    last: Head,
    /// What the head file says.
    head: Option<Head>,
    /// Whether the trail contains what the head says.
    agrees: bool,
}

impl Found {
    /// Walks the last two files, for the last may just have been begun.
    fn look(dir: &Path) -> io::Result<Self> {
        let head = Head::read(dir);
        let numbers = files(dir)?;
        let recent = &numbers[numbers.len().saturating_sub(2)..];
        let mut last = None;
        let mut found = Self {
            number: 0,
            good: 0,
            torn: 0,
            last: Head::start(),
            agrees: head.as_ref().is_none_or(|head| *head == Head::start()),
            head,
        };
        for number in recent {
            let walk = walk(dir, *number, last.clone(), |at, _| {
                found.agrees |= found.head.as_ref() == Some(at);
                Ok(())
            })?;
            found.agrees |= found.head.is_some() && found.head == walk.before;
            (found.number, found.good, found.torn) = (*number, walk.good, walk.length - walk.good);
            // A fault in the middle of the trail leaves later files without a beginning.
            last = walk.last;
        }
        if let Some(last) = last {
            found.last = last;
        }
        // The first entry may have been written without a head; a longer trail has one.
        found.agrees &= found.head.is_some() || found.last.seq <= 1;
        // A power loss tears one line; more than that is not cut off but kept as evidence.
        found.agrees &= found.torn <= MOST_LINE as u64;
        Ok(found)
    }

    /// The entry that tells what was found, where something must be told.
    fn entry(&self) -> Option<Entry> {
        if !self.agrees {
            let head = self.head.as_ref().map(|head| head.seq);
            return Some(Entry::Cut { head, found: self.last.seq });
        }
        (self.torn > 0).then_some(Entry::Repaired { bytes: self.torn })
    }

    /// Where to go on.
    fn end(&self, dir: &Path) -> io::Result<End> {
        if !self.agrees {
            // Evidence is left as it is.
            let head = self.head.clone().unwrap_or_else(|| self.last.clone());
            let number = self.number + 1;
            let file = begin_file(dir, number)?;
            return Ok(End { file, number, length: 0, is_dirty: false, head });
        }
        let number = self.number.max(1);
        let file = begin_file(dir, number)?;
        let is_dirty = self.torn > 0;
        Ok(End { file, number, length: self.good, is_dirty, head: self.last.clone() })
    }
}
