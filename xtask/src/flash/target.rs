//! What an image is written to: a disk or a file.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::{Advice, OFlags, fadvise, major, minor};
use rustix::io::Errno;

use super::disk::Disk;

/// Direct transfers need memory that starts at a multiple of so many bytes.
const ALIGNMENT: usize = 4096;

/// Bytes that are written and read back.
pub trait Target {
    /// In bytes.
    fn size(&self) -> u64;

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// When the target says it could not; it may have written a part.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Fills `bytes` from the target itself, not from memory that was kept of what was written.
    ///
    /// # Errors
    /// When the target says it could not.
    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<()>;

    /// Returns when everything written is on the target for good.
    ///
    /// # Errors
    /// When the target says it is not.
    fn sync(&mut self) -> Result<()>;
}

/// A disk, or a file with the image's size.
#[derive(Debug)]
pub struct Opened {
    file: File,
    size: u64,
}

impl Opened {
    /// Takes a disk for itself alone: the kernel refuses when it is mounted or used otherwise, and
    /// nobody can mount it meanwhile. Its transfers go past the kernel's memory.
    ///
    /// # Errors
    /// When it is in use, may not be written by this user, or is another one by now.
    pub fn disk(disk: &Disk) -> Result<Opened> {
        let path = disk.path.display();
        let flags = (OFlags::EXCL | OFlags::DIRECT).bits().cast_signed();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&disk.path);
        let file = file.map_err(|error| match error.kind() {
            ErrorKind::ResourceBusy => anyhow!("{path} is in use: unmount it everywhere first"),
            ErrorKind::PermissionDenied => anyhow!("{path} may be written by root alone: use sudo"),
            _ => anyhow!(error).context(format!("cannot open {path}")),
        })?;
        let metadata = file.metadata().with_context(|| format!("cannot ask about {path}"))?;
        let number = format!("{}:{}", major(metadata.rdev()), minor(metadata.rdev()));
        let is_same = metadata.file_type().is_block_device() && number == disk.number;
        ensure!(is_same, "{path} is not the disk that was listed: start again");
        Ok(Opened { file, size: disk.size })
    }

    /// A file of `size` bytes; one that exists keeps its content until it is written over.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn file(path: &Path, size: u64) -> Result<Opened> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        file.set_len(size).with_context(|| format!("cannot size {}", path.display()))?;
        Ok(Opened { file, size })
    }
}

impl Target for Opened {
    fn size(&self) -> u64 {
        self.size
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all_at(bytes, offset);
        written.with_context(|| format!("writing failed at byte {offset}"))
    }

    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let read = self.file.read_exact_at(bytes, offset);
        read.with_context(|| format!("reading back failed at byte {offset}"))
    }

    fn sync(&mut self) -> Result<()> {
        self.file.sync_all().context("what was written did not reach the target")?;
        // Disks are read past the cache anyway; files, and disks with a cache of old, are not.
        match fadvise(&self.file, 0, None, Advice::DontNeed) {
            Ok(()) | Err(Errno::NOSYS) => Ok(()),
            Err(error) => Err(error).context("cannot drop the kernel's copy"),
        }
    }
}

/// Zeros in memory that direct transfers can use.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// `length` bytes.
    pub fn new(length: usize) -> Buffer {
        let bytes = vec![0; length + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Buffer { bytes, start, length }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_has_its_length() {
        for length in [0, 1, 512, 1 << 20] {
            let mut buffer = Buffer::new(length);
            assert_eq!(buffer.len(), length);
            assert_eq!(buffer.as_ptr().align_offset(ALIGNMENT), 0);
            buffer.fill(7);
        }
    }

    #[test]
    fn a_file_gets_the_images_size_and_keeps_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("card.img");
        std::fs::write(&path, "longer than the image").unwrap();
        let mut file = Opened::file(&path, 4).unwrap();
        file.write_at(1, b"ab").unwrap();
        file.sync().unwrap();
        let mut back = [0; 4];
        file.read_at(0, &mut back).unwrap();
        assert_eq!(&back, b"labg");
        assert!(file.read_at(1, &mut back).is_err(), "past the end");
        assert_eq!(std::fs::read(&path).unwrap(), b"labg");
    }

    #[test]
    fn what_is_no_disk_is_not_opened_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sdb");
        std::fs::write(&path, vec![0; 4096]).unwrap();
        let disk = Disk {
            name: "sdb".into(),
            path,
            number: "8:16".into(),
            size: 4096,
            model: None,
            serial: None,
            partitions: Vec::new(),
            refusals: Vec::new(),
        };
        assert!(Opened::disk(&disk).is_err());
    }
}
