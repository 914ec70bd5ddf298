//! Power cuts: the disk as it can be found after one, made from the log of its writes.
//!
//! A disk keeps writes in a volatile cache, and may bring them to the medium in any order; only a
//! flush forces them there. So a cut after entry K of a log leaves: every write before the last
//! flush; and of each write since, everything, nothing, or some of its sectors, which are 512 bytes
//! and whole or not at all. Which of these is drawn from a seed, so that each cut can be repeated.

use std::fs::File;
use std::ops::Range;

use anyhow::Result;
use sha2::{Digest, Sha256};

use super::write_log::{Entry, Kind, WriteLog};

/// What a disk writes whole or not at all, in bytes.
const ATOM: u64 = 512;

/// A power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// So many entries of the log had been done.
    pub point: usize,
    /// What the cache did is drawn from it.
    pub seed: u64,
}

/// What became of the writes that were in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Reached the medium whole.
    pub kept: usize,
    /// Lost whole.
    pub dropped: usize,
    /// Reached it in part.
    pub torn: usize,
}

impl Cut {
    /// Makes of `disk`, which is as it was when the log began, what the cut leaves.
    ///
    /// # Errors
    /// When the log cannot be read or the disk not be written.
    pub fn apply(self, log: &WriteLog, disk: &File) -> Result<Losses> {
        let done = &log.entries()[..self.point];
        let flushed = done.iter().rposition(|entry| entry.kind == Kind::Flush).unwrap_or(0);
        let keeps = Keeps::drawn(self.seed);
        let mut losses = Losses::default();
        for (place, entry) in done.iter().enumerate() {
            let is_cached = place >= flushed && entry.kind != Kind::DurableWrite;
            if entry.length == 0 {
                continue;
            }
            let whole = 0..entry.length;
            let bytes = if is_cached { keeps.of(entry, self.seed, place) } else { whole.clone() };
            match bytes {
                _ if !is_cached => {}
                ref bytes if bytes.is_empty() => losses.dropped += 1,
                ref bytes if *bytes == whole => losses.kept += 1,
                _ => losses.torn += 1,
            }
            log.repeat(entry, bytes, disk)?;
        }
        Ok(losses)
    }
}

/// How much of its cache a disk saved: at some cuts nothing, at some all.
#[derive(Clone, Copy)]
struct Keeps {
    quarters: u64,
}

impl Keeps {
    fn drawn(seed: u64) -> Keeps {
        Keeps { quarters: draw(&[seed, 0]) % 5 }
    }

    /// The bytes of a cached write that reached the medium: a beginning or an end of it.
    fn of(self, entry: &Entry, seed: u64, place: usize) -> Range<u64> {
        let drawn = |what: u64| draw(&[seed, 1, place as u64, what]);
        let atoms = entry.length / ATOM;
        let is_torn = (1..4).contains(&self.quarters) && atoms > 1 && drawn(0) % 4 == 0;
        if is_torn {
            let part = (1 + drawn(1) % (atoms - 1)) * ATOM;
            return if drawn(2) % 2 == 0 { 0..part } else { part..entry.length };
        }
        if drawn(3) % 4 < self.quarters { 0..entry.length } else { 0..0 }
    }
}

/// Power cuts between two entries of a log, as many at writes to each of the regions: an update
/// writes megabytes into a slot and a few bytes that decide which slot is started.
///
/// Regions that are not written to have none. Within a region, cuts are spread evenly and their
/// exact places drawn.
pub fn cuts(
    log: &WriteLog,
    between: Range<usize>,
    regions: &[Range<u64>],
    count: usize,
    seed: u64,
) -> Vec<Cut> {
    let writes_to = |region: &Range<u64>| -> Vec<usize> {
        let touches = |entry: &Entry| {
            entry.length > 0
                && entry.offset < region.end
                && region.start < entry.offset + entry.length
        };
        between.clone().filter(|place| touches(&log.entries()[*place])).collect()
    };
    let places: Vec<Vec<usize>> =
        regions.iter().map(writes_to).filter(|places| !places.is_empty()).collect();
    if places.is_empty() {
        return Vec::new();
    }
    let share = count.div_ceil(places.len());
    let cut = |number: usize| {
        let (region, turn) = (number % places.len(), number / places.len());
        let places = &places[region];
        let drawn = |what: u64| draw(&[seed, 2, number as u64, what]);
        let within = places.len() * turn / share..places.len() * (turn + 1) / share;
        let step = (within.end - within.start).max(1) as u64;
        let place = places[within.start + (drawn(0) % step) as usize];
        // Just behind a write; at a flush that follows, the write is safe.
        let point = (place + 1 + (drawn(1) % 3 == 0) as usize).min(between.end);
        Cut { point, seed: drawn(2) }
    };
    (0..count).map(cut).collect()
}

/// A number that depends on nothing but the given ones.
pub fn draw(from: &[u64]) -> u64 {
    let mut digest = Sha256::new();
    from.iter().for_each(|number| digest.update(number.to_le_bytes()));
    let mut number = [0; 8];
    number.copy_from_slice(&digest.finalize()[..8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::super::write_log::sample::{log, open};
    use super::*;

    const SECTORS: usize = 16;

    fn disk_after(log: &WriteLog, cut: Cut) -> (String, Losses) {
        let disk = tempfile::tempfile().unwrap();
        disk.write_all_at(&[b'.'; SECTORS * 512], 0).unwrap();
        let losses = cut.apply(log, &disk).unwrap();
        let mut bytes = vec![0; SECTORS * 512];
        disk.read_exact_at(&mut bytes, 0).unwrap();
        for sector in bytes.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is torn");
        }
        (bytes.chunks(512).map(|sector| sector[0] as char).collect(), losses)
    }

    fn sectors(letter: u8, count: usize) -> Vec<u8> {
        vec![letter; count * 512]
    }

    /// Two writes, a flush, a write, one past the cache, a write over the first.
    fn example() -> WriteLog {
        let (a, b, c) = (sectors(b'a', 2), sectors(b'b', 4), sectors(b'c', 4));
        let (d, e) = (sectors(b'd', 1), sectors(b'e', 2));
        let entries: [(u64, u64, &[u8]); 6] =
            [(0, 0, &a), (0, 4, &b), (1, 0, b""), (0, 8, &c), (2, 12, &d), (0, 0, &e)];
        open(&log(&entries, 3)).unwrap()
    }

    #[test]
    fn what_was_flushed_or_bypassed_the_cache_is_always_there() {
        for seed in 0..200 {
            let (disk, _) = disk_after(&example(), Cut { point: 6, seed });
            assert_eq!(&disk[4..8], "bbbb");
            assert_eq!(&disk[12..13], "d");
            assert!(["aa", "ee", "ea", "ae"].contains(&&disk[..2]), "{disk}");
            assert_eq!(disk.replace(['a', 'b', 'c', 'd', 'e'], "."), ".".repeat(SECTORS));
        }
    }

    #[test]
    fn every_fate_of_a_cached_write_happens() {
        let fates: std::collections::BTreeSet<String> = (0..300)
            .map(|seed| disk_after(&example(), Cut { point: 4, seed }).0[8..12].to_owned())
            .collect();
        let expected = ["....", "...c", "..cc", ".ccc", "c...", "cc..", "ccc.", "cccc"];
        assert_eq!(fates.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_came_after_the_cut_is_not_there() {
        for seed in 0..50 {
            assert_eq!(disk_after(&example(), Cut { point: 0, seed }).0, ".".repeat(SECTORS));
            let (disk, losses) = disk_after(&example(), Cut { point: 3, seed });
            assert_eq!(disk, "aa..bbbb........");
            assert_eq!(losses, Losses::default());
        }
    }

    #[test]
    fn losses_count_what_was_in_the_cache_alone() {
        for seed in 0..50 {
            let (_, losses) = disk_after(&example(), Cut { point: 6, seed });
            assert_eq!(losses.kept + losses.dropped + losses.torn, 2);
        }
    }

    #[test]
    fn a_cut_can_be_repeated() {
        let cut = Cut { point: 6, seed: 9 };
        assert_eq!(disk_after(&example(), cut), disk_after(&example(), cut));
        let cuts = |seed| cuts(&example(), 0..6, std::slice::from_ref(&(0..8192)), 10, seed);
        assert_eq!(cuts(1), cuts(1));
        assert_ne!(cuts(1), cuts(2));
    }

    #[test]
    fn small_regions_get_as_many_cuts_as_large_ones() {
        let (data, setting) = (sectors(b'x', 1), sectors(b's', 1));
        let mut entries: Vec<(u64, u64, &[u8])> = vec![(0, 8, &data); 500];
        entries[200] = (0, 1, &setting);
        let log = open(&log(&entries, 500)).unwrap();
        let cuts = cuts(&log, 100..500, &[0..512, 512..1024, 4096..8192], 40, 3);
        assert_eq!(cuts.len(), 40);
        assert_eq!(cuts.iter().filter(|cut| (201..203).contains(&cut.point)).count(), 20);
        assert!(cuts.iter().all(|cut| (101..=500).contains(&cut.point)));
        let first = cuts.iter().filter(|cut| cut.point < 300).count();
        assert!((25..35).contains(&first), "{first}");
    }

    #[test]
    fn where_nothing_was_written_there_is_nothing_to_cut() {
        let beyond = 100_000..200_000;
        assert!(cuts(&example(), 0..6, std::slice::from_ref(&beyond), 5, 0).is_empty());
    }
}
