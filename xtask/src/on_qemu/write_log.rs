//! What a virtual machine wrote to its disk, in order, as QEMU's `blklogwrites` records it.
//!
//! The file has the format of Linux's `dm-log-writes`, little-endian throughout. Its first sector
//! holds magic number, version, number of entries (8 bytes each) and sector size (4 bytes). Then
//! come the entries: a sector with first sector, number of sectors, flags and a length that QEMU
//! leaves at 0 (8 bytes each), and behind it the data, which a discard does not have.
//!
//! QEMU appends an entry when the operation is done, and brings the number of entries up to date
//! with each flush only; the log of a killed machine is therefore read to the last whole entry.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;
/// Of an entry without its sector's padding.
const ENTRY_LENGTH: usize = 32;

/// A log on disk.
#[derive(Debug)]
pub struct WriteLog {
    file: File,
    entries: Vec<Entry>,
}

/// One operation on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What was done.
    pub kind: Kind,
    /// First byte on the disk.
    pub offset: u64,
    /// Bytes on the disk; 0 for flushes and marks.
    pub length: u64,
    /// Where a write's data is in the log.
    data: u64,
}

/// Kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Data, which may stay in the disk's cache.
    Write,
    /// Data that was on the medium when the operation ended.
    DurableWrite,
    /// The bytes are not needed any more and read as zeros from then on.
    Discard,
    /// Everything before it was on the medium when it ended.
    Flush,
    /// A remark of whoever recorded.
    Mark,
}

impl WriteLog {
    /// Reads a log's entries; their data stays in the file.
    ///
    /// # Errors
    /// When the file cannot be read or is no such log.
    pub fn open(path: &Path) -> Result<WriteLog> {
        let describe = || format!("cannot read the log of writes {}", path.display());
        let file = File::open(path).with_context(describe)?;
        let entries = read_entries(&file).with_context(describe)?;
        Ok(WriteLog { file, entries })
    }

    /// All operations, the first one first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Does `bytes` of an entry, counted from the entry's start on the disk, again on `disk`.
    ///
    /// # Errors
    /// When the log cannot be read or the disk not be written.
    pub fn repeat(&self, entry: &Entry, bytes: std::ops::Range<u64>, disk: &File) -> Result<()> {
        const PIECE: u64 = 1 << 20;
        let mut buffer = vec![0; PIECE.min(bytes.end - bytes.start) as usize];
        let mut start = bytes.start;
        while start < bytes.end {
            let piece = &mut buffer[..PIECE.min(bytes.end - start) as usize];
            if entry.kind != Kind::Discard {
                self.file.read_exact_at(piece, entry.data + start).context("the log ends early")?;
            }
            disk.write_all_at(piece, entry.offset + start).context("cannot write the disk")?;
            start += piece.len() as u64;
        }
        Ok(())
    }
}

fn read_entries(file: &File) -> Result<Vec<Entry>> {
    let mut header = [0; 28];
    file.read_exact_at(&mut header, 0).context("nothing was ever flushed to it")?;
    if number(&header, 0) != MAGIC || number(&header, 8) != VERSION {
        bail!("it is no log of version {VERSION}");
    }
    let sector = number(&header, 20) >> 32;
    if !sector.is_power_of_two() || !(512..=1 << 20).contains(&sector) {
        bail!("its sector size is {sector}");
    }
    let (promised, end) = (number(&header, 16), file.metadata()?.len());
    let mut entries = Vec::new();
    let mut place = sector;
    while place + ENTRY_LENGTH as u64 <= end {
        let mut bytes = [0; ENTRY_LENGTH];
        file.read_exact_at(&mut bytes, place)?;
        let entry = entry_from(&bytes, sector, place + sector)?;
        let next = entry.data + if entry.kind == Kind::Discard { 0 } else { entry.length };
        // Behind the promised ones, an entry may be unfinished, or a hole that a later one left.
        let is_whole = next <= end && bytes != [0; ENTRY_LENGTH];
        if entries.len() as u64 >= promised && !is_whole {
            break;
        }
        if next > end {
            bail!("entry {} of {promised} is cut off", entries.len());
        }
        entries.push(entry);
        place = next;
    }
    if (entries.len() as u64) < promised {
        bail!("it has {} entries instead of {promised}", entries.len());
    }
    Ok(entries)
}

fn entry_from(bytes: &[u8], sector: u64, data: u64) -> Result<Entry> {
    let flags = number(bytes, 16);
    let kind = if flags & !(FLUSH | FUA | DISCARD | MARK) != 0 {
        bail!("an entry has unknown flags {flags:#x}");
    } else if flags & MARK != 0 {
        Kind::Mark
    } else if flags & DISCARD != 0 {
        Kind::Discard
    } else if number(bytes, 8) == 0 {
        Kind::Flush
    } else if flags & FUA != 0 {
        Kind::DurableWrite
    } else {
        Kind::Write
    };
    if flags & FLUSH != 0 && kind != Kind::Flush {
        bail!("an entry that both flushes and writes is not supported");
    }
    let bytes_from = |sectors: u64| sectors.checked_mul(sector).context("an entry is beyond range");
    let (offset, length) = (bytes_from(number(bytes, 0))?, bytes_from(number(bytes, 8))?);
    Ok(Entry { kind, offset, length, data })
}

/// The little-endian number of 8 bytes at a place.
fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

/// QEMU's name for a raw disk whose writes are recorded; for `-blockdev`, or `--image-opts` as JSON.
///
/// The log file must exist and be empty. Every flush and discard of the guest reaches the disk's
/// file and the log.
pub fn recorded(disk: &Path, log: &Path) -> serde_json::Value {
    serde_json::json!({
        "driver": "blklogwrites",
        "node-name": "recorded",
        "discard": "unmap",
        "cache": {"direct": false, "no-flush": false},
        "file": {"driver": "file", "filename": disk, "discard": "unmap"},
        "log": {"driver": "file", "filename": log},
    })
}

/// Makes logs for tests.
#[cfg(test)]
pub mod sample {
    use super::*;

    /// A log's bytes: the flags of each entry, its first sector, and its data.
    pub fn log(entries: &[(u64, u64, &[u8])], promised: u64) -> Vec<u8> {
        let mut log = [MAGIC, VERSION, promised, 512].map(u64::to_le_bytes).concat();
        log.resize(512, 0);
        for (flags, sector, data) in entries {
            let start = log.len();
            let sectors = data.len() as u64 / 512;
            log.extend([*sector, sectors, *flags, 0].map(u64::to_le_bytes).concat());
            log.resize(start + 512, 0);
            if flags & DISCARD == 0 {
                log.extend_from_slice(data);
            }
        }
        log
    }

    /// The log of those bytes.
    pub fn open(bytes: &[u8]) -> Result<WriteLog> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, bytes).unwrap();
        WriteLog::open(&path)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::sample::{log, open};
    use super::*;
    use crate::process;

    const A: [u8; 1024] = [b'a'; 1024];
    const B: [u8; 512] = [b'b'; 512];

    fn kinds(log: &WriteLog) -> Vec<Kind> {
        log.entries().iter().map(|entry| entry.kind).collect()
    }

    #[test]
    fn every_kind_is_recognised() {
        let bytes = log(&[(0, 4, &A), (2, 8, &B), (4, 2, &A), (1, 0, b""), (8, 0, b"")], 5);
        let log = open(&bytes).unwrap();
        assert_eq!(
            kinds(&log),
            [Kind::Write, Kind::DurableWrite, Kind::Discard, Kind::Flush, Kind::Mark]
        );
        let places: Vec<_> =
            log.entries().iter().map(|entry| (entry.offset, entry.length)).collect();
        assert_eq!(places, [(2048, 1024), (4096, 512), (1024, 1024), (0, 0), (0, 0)]);
    }

    #[test]
    fn data_comes_back_whole_or_in_part() {
        let log = open(&log(&[(1, 0, b""), (0, 2, &A), (4, 2, &B)], 3)).unwrap();
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(2560).unwrap();
        let read = || {
            let mut bytes = vec![0; 2560];
            disk.read_exact_at(&mut bytes, 0).unwrap();
            bytes.chunks(512).map(|sector| sector[0]).collect::<Vec<_>>()
        };
        let [_, write, discard] = log.entries() else { panic!("three entries") };
        log.repeat(write, 512..1024, &disk).unwrap();
        assert_eq!(read(), [0, 0, 0, b'a', 0]);
        log.repeat(write, 0..1024, &disk).unwrap();
        assert_eq!(read(), [0, 0, b'a', b'a', 0]);
        log.repeat(discard, 0..512, &disk).unwrap();
        assert_eq!(read(), [0, 0, 0, b'a', 0]);
    }

    #[test]
    fn what_a_killed_machine_wrote_since_its_last_flush_counts() {
        let whole = log(&[(0, 4, &A), (1, 0, b""), (0, 2, &B)], 2);
        assert_eq!(open(&whole).unwrap().entries().len(), 3);
        // The last entry's data is missing, or all of it.
        assert_eq!(open(&whole[..whole.len() - 1]).unwrap().entries().len(), 2);
        assert_eq!(open(&whole[..whole.len() - 1024]).unwrap().entries().len(), 2);
        let with_hole = [whole, vec![0; 4096]].concat();
        assert_eq!(open(&with_hole).unwrap().entries().len(), 3);
    }

    /// Needs `qemu-io`, of Debian's package qemu-utils:
    /// `cargo test --profile xtask --package xtask -- --ignored qemu_records`
    #[test]
    #[ignore = "needs qemu-io"]
    fn what_qemu_records_makes_the_same_disk() {
        let folder = tempfile::tempdir().unwrap();
        let [disk, log] = ["disk", "log"].map(|name| folder.path().join(name));
        let before = vec![b'.'; 4 << 20];
        std::fs::write(&disk, &before).unwrap();
        std::fs::write(&log, "").unwrap();
        let mut command = Command::new("qemu-io");
        for step in [
            "write -P 0x61 0 64k",
            "write -P 0x62 32k 512",
            "flush",
            "write -z 1M 256k",
            "write -f -P 0x63 2M 4k",
            "discard 3M 64k",
            "aio_write -P 0x64 3584k 2k",
            "aio_flush",
            "flush",
            "write -P 0x65 100k 1536",
        ] {
            command.args(["-c", step]);
        }
        let options = format!("json:{}", recorded(&disk, &log));
        process::run(command.args(["-t", "writeback"]).arg(options)).unwrap();

        let log = WriteLog::open(&log).unwrap();
        let seen = |kind| kinds(&log).contains(&kind);
        assert!(seen(Kind::Write) && seen(Kind::Flush) && seen(Kind::Discard), "{:?}", kinds(&log));
        let copy = folder.path().join("copy");
        std::fs::write(&copy, &before).unwrap();
        let target = File::options().write(true).open(&copy).unwrap();
        for entry in log.entries() {
            log.repeat(entry, 0..entry.length, &target).unwrap();
        }
        let after = std::fs::read(&disk).unwrap();
        assert_ne!(after, before);
        assert!(after == std::fs::read(&copy).unwrap(), "the copy differs");
    }

    #[test]
    fn damaged_logs_are_refused() {
        let good = log(&[(0, 4, &A), (1, 0, b"")], 2);
        assert!(open(&good).is_ok());
        let check = |place: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[place] = value;
            assert!(open(&bytes).is_err(), "{place}");
        };
        check(0, 1); // Magic number.
        check(8, 2); // Version.
        check(16, 3); // More entries than there are.
        check(24, 3); // A sector of 515 bytes.
        check(512 + 16, 64); // An unknown flag.
        check(512 + 16, 1); // A write that flushes.
        check(512 + 15, 0xff); // More sectors than there can be.
        assert!(open(&good[..1024]).is_err());
        assert!(open(b"").is_err());
    }
}
