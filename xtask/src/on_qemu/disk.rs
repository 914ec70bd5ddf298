//! Cards as files: sparse copies, their partitions, files on their first one.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::debian::Program;
use crate::process;

/// What handles cards.
pub const PROGRAMS: [Program; 1] = [Program { name: "mcopy", package: "mtools" }];
const SECTOR: u64 = 512;

/// A partition of a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its name in the partition table.
    pub name: String,
    /// Where it is on the card.
    pub bytes: Range<u64>,
}

/// Copies a card; empty space takes none on this machine's disk.
///
/// # Errors
/// When the disk is full or the card cannot be read.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("cp");
    process::run(command.args(["--reflink=auto", "--sparse=always"]).args([from, to]))
}

/// The partitions in a card's GUID partition table, in order.
///
/// # Errors
/// When the card cannot be read or has no such table.
pub fn partitions(card: &Path) -> Result<Vec<Partition>> {
    let describe = || format!("cannot read the partition table of {}", card.display());
    let file = File::open(card).with_context(describe)?;
    read_partitions(&file).with_context(describe)
}

fn read_partitions(card: &File) -> Result<Vec<Partition>> {
    let mut header = [0; 512];
    card.read_exact_at(&mut header, SECTOR)?;
    ensure!(header.starts_with(b"EFI PART"), "there is none");
    let number = |bytes: &[u8], at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(number)
    };
    // Number of entries and size of one, 4 bytes each.
    let sizes = number(&header, 80);
    let (count, size) = ((sizes & 0xffff_ffff) as usize, (sizes >> 32) as usize);
    ensure!(count <= 1024 && (128..=4096).contains(&size), "it is damaged");
    let mut entries = vec![0; count * size];
    card.read_exact_at(&mut entries, number(&header, 72) * SECTOR)?;
    let used = entries.chunks(size).filter(|entry| entry[..16] != [0; 16]);
    let partition = |entry: &[u8]| {
        let name: Vec<u16> = entry[56..128]
            .chunks(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .take_while(|unit| *unit != 0)
            .collect();
        let bytes = number(entry, 32) * SECTOR..(number(entry, 40) + 1) * SECTOR;
        Partition { name: String::from_utf16_lossy(&name), bytes }
    };
    Ok(used.map(partition).collect())
}

/// Puts a file into the root folder of the card's FAT partition of that name.
///
/// # Errors
/// When there is no such partition or no space.
pub fn put(card: &Path, partition: &str, file: &Path, name: &str) -> Result<()> {
    let all = partitions(card)?;
    let found = all.iter().find(|its| its.name == partition);
    let found = found.with_context(|| format!("{} has no {partition}", card.display()))?;
    let image = format!("{}@@{}", card.display(), found.bytes.start);
    let mut command = Command::new("mcopy");
    process::run(command.args(["-o", "-i", &image]).arg(file).arg(format!("::{name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A card with a table of two entries of 128 bytes, one of them used.
    fn card() -> Vec<u8> {
        let mut card = vec![0; 2048];
        card[512..520].copy_from_slice(b"EFI PART");
        card[512 + 72] = 2;
        card[512 + 80] = 2;
        card[512 + 84] = 128;
        let entry = &mut card[1024 + 128..];
        entry[0] = 7;
        entry[32] = 40;
        entry[40] = 47;
        for (place, letter) in "env".bytes().enumerate() {
            entry[56 + place * 2] = letter;
        }
        card
    }

    fn read(bytes: &[u8]) -> Result<Vec<Partition>> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        read_partitions(&file)
    }

    #[test]
    fn partitions_are_read_from_the_table() {
        let expected = Partition { name: "env".to_owned(), bytes: 40 * 512..48 * 512 };
        assert_eq!(read(&card()).unwrap(), [expected]);
    }

    #[test]
    fn cards_without_a_table_are_refused() {
        assert!(read(&[0; 4096]).is_err());
        assert!(read(&[]).is_err());
        let mut damaged = card();
        damaged[512 + 84] = 0;
        assert!(read(&damaged).is_err());
    }
}
