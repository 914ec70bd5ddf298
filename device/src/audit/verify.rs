//! Is the trail what was written?

use std::io;
use std::path::Path;

use serde::Serialize;

use super::chain::{Head, Walk, file_path, files, walk};
use super::{AuditError, Entry, Fault};

/// An intact trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Number of its first entry; above 1 where earlier files are kept elsewhere, or removed.
    pub first: u64,
    /// Its last entry: what to keep a copy of elsewhere.
    pub head: Head,
    /// How many files it has.
    pub files: usize,
    /// How often a line torn by a power loss was cut off.
    pub repairs: u64,
    /// Whether the last line is incomplete: written just now, or torn by a power loss.
    pub is_torn: bool,
}

/// Checks every line, the head, and that the trail contains each of `copies`, heads that were kept
/// elsewhere.
///
/// # Errors
/// [`AuditError::Broken`] names the first bad line; [`AuditError::Shortened`],
/// [`AuditError::Rewritten`], [`AuditError::Headless`], [`AuditError::Missing`]; failures of the
/// disk.
pub fn verify(dir: &Path, copies: &[Head]) -> Result<Report, AuditError> {
    let cannot = AuditError::io("read the audit trail");
    // The head first: entries may come while the files are read.
    let own = Head::read(dir);
    let numbers = match files(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(AuditError::Missing),
        numbers => numbers.map_err(&cannot)?,
    };
    let mut expected = Expected { heads: own.iter().chain(copies).collect() };
    let mut report =
        Report { first: 0, head: Head::start(), files: numbers.len(), repairs: 0, is_torn: false };
    let mut last = None;
    for number in &numbers {
        let walk = walk(dir, *number, last, |at, entry| {
            expected.pass(at);
            report.repairs += u64::from(matches!(entry, Entry::Repaired { .. }));
            if matches!(entry, Entry::Cut { .. }) { Err(Fault::Cut) } else { Ok(()) }
        })
        .map_err(&cannot)?;
        report.is_torn = walk.is_torn && Some(number) == numbers.last();
        if let Some(reason) = walk.fault.filter(|_| !report.is_torn) {
            return Err(broken(dir, *number, &walk, reason));
        }
        if let Some(before) = walk.before.as_ref().filter(|_| report.first == 0) {
            report.first = before.seq + 1;
            expected.begin(before);
        }
        last = walk.last;
    }
    report.head = last.filter(|_| report.first > 0).ok_or(AuditError::Missing)?;
    expected.check(&report.head)?;
    // The very first entry may have been written without a head.
    if own.is_none() && report.head.seq > 1 {
        return Err(AuditError::Headless);
    }
    Ok(report)
}

fn broken(dir: &Path, number: u32, walk: &Walk, reason: Fault) -> AuditError {
    let path = file_path(dir, number);
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    AuditError::Broken { file, line: walk.lines + 1, reason }
}

/// Heads that the trail must contain.
struct Expected<'a> {
    heads: Vec<&'a Head>,
}

impl Expected<'_> {
    fn pass(&mut self, at: &Head) {
        self.heads.retain(|head| *head != at);
    }

    /// What lies before the trail's first entry is kept elsewhere and cannot be checked, but the
    /// entry it hangs on can.
    fn begin(&mut self, before: &Head) {
        self.heads.retain(|head| head.seq >= before.seq && *head != before);
    }

    /// Whether all were passed.
    fn check(&self, last: &Head) -> Result<(), AuditError> {
        match self.heads.first() {
            None => Ok(()),
            Some(head) if head.seq > last.seq => {
                Err(AuditError::Shortened { last: last.seq, head: head.seq })
            }
            Some(head) => Err(AuditError::Rewritten(head.seq)),
        }
    }
}
