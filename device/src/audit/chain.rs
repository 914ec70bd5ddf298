//! How lines hang together.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Fault;
use super::entry::Entry;

/// The file that holds the [`Head`].
pub(super) const HEAD: &str = "head.json";
/// Most bytes of a line without its end.
pub(super) const MOST_LINE: usize = 4096;

/// One line of the trail.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) seq: u64,
    /// SHA-256 of the line before in hexadecimal digits, without its end.
    pub(super) previous: String,
    /// Wall time (RFC 3339, UTC); as wrong as the clock was.
    pub(super) time: String,
    #[serde(flatten)]
    pub(super) entry: Entry,
}

/// Which entry is the last. As text: `NUMBER:HASH`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Number of the entry, from 1; 0 before the first.
    pub seq: u64,
    /// SHA-256 of its line in hexadecimal digits.
    pub hash: String,
}

impl Head {
    /// Before the first entry.
    pub(super) fn start() -> Self {
        Self { seq: 0, hash: "0".repeat(64) }
    }

    /// Of a line without its end.
    pub(super) fn of(seq: u64, line: &[u8]) -> Self {
        Self { seq, hash: hex::encode(Sha256::digest(line)) }
    }

    /// The trail's own; none where it is missing or unreadable.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        let mut text = Vec::new();
        File::open(dir.join(HEAD)).ok()?.take(1024).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// Not of the form `NUMBER:HASH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a head is NUMBER:HASH, with 64 hexadecimal digits")]
pub struct NoHead;

impl FromStr for Head {
    type Err = NoHead;

    fn from_str(text: &str) -> Result<Self, NoHead> {
        let (seq, hash) = text.split_once(':').ok_or(NoHead)?;
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoHead);
        }
        Ok(Self { seq: seq.parse().map_err(|_| NoHead)?, hash: hash.to_ascii_lowercase() })
    }
}

/// A file of the trail.
pub(super) fn file_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.jsonl"))
}

/// The numbers of the trail's files, ascending.
pub(super) fn files(dir: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jsonl"));
        numbers.extend(number.filter(|n| n.len() == 8).and_then(|n| n.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// How far a file is good.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// What the first line hangs on; none where there is no good line.
    pub(super) before: Option<Head>,
    /// The last good entry of this file, else what was before it.
    pub(super) last: Option<Head>,
    /// Good lines.
    pub(super) lines: u64,
    /// Where the last good line ends, in bytes.
    pub(super) good: u64,
    /// Size of the file in bytes, as far as it was read.
    pub(super) length: u64,
    /// Why the line after the good ones is none.
    pub(super) fault: Option<Fault>,
    /// Whether that line lacks its end, as after a power loss.
    pub(super) is_torn: bool,
}

/// Reads a file up to its first bad line. Without `before` the first line's own claim is believed,
/// but the trail's very first file begins at entry 1.
pub(super) fn walk(
    dir: &Path,
    number: u32,
    before: Option<Head>,
    mut each: impl FnMut(&Head, &Entry) -> Result<(), Fault>,
) -> io::Result<Walk> {
    let file = File::open(file_path(dir, number))?;
    let size = file.metadata()?.len();
    let mut reader = BufReader::new(file);
    let first = (number == 1).then(Head::start);
    let mut walk = Walk { last: before.or(first), length: size, ..Walk::default() };
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let most = MOST_LINE as u64 + 1;
        let read = reader.by_ref().take(most).read_until(b'\n', &mut bytes)? as u64;
        if read == 0 {
            return Ok(walk);
        }
        let Some(line) = bytes.strip_suffix(b"\n") else {
            walk.fault = Some(Fault::Unreadable);
            walk.is_torn = read < most;
            return Ok(walk);
        };
        let checked = check(line, walk.last.as_ref()).and_then(|(before, at, entry)| {
            each(&at, &entry)?;
            Ok((before, at))
        });
        match checked {
            Ok((before, at)) => {
                walk.before.get_or_insert(before);
                walk.last = Some(at);
                walk.lines += 1;
                walk.good += read;
            }
            Err(fault) => {
                walk.fault = Some(fault);
                return Ok(walk);
            }
        }
    }
}

/// What a line hangs on, where it is, and its entry.
fn check(bytes: &[u8], before: Option<&Head>) -> Result<(Head, Head, Entry), Fault> {
    let line: Line = serde_json::from_slice(bytes).map_err(|_| Fault::Unreadable)?;
    let seq = line.seq.checked_sub(1).ok_or(Fault::OutOfOrder)?;
    let claimed = Head { seq, hash: line.previous };
    if let Some(before) = before {
        if before.seq != claimed.seq {
            return Err(Fault::OutOfOrder);
        }
        if *before != claimed {
            return Err(Fault::Unchained);
        }
    }
    Ok((claimed, Head::of(line.seq, bytes), line.entry))
}
