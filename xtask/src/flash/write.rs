//! Writing an image so that the target is never half-good.
//!
//! The order makes it safe, so a kill or a power cut needs no handling: first the old beginning
//! and end, where partition tables lie, are overwritten with zeros; then everything but the
//! image's beginning is written and read back; the beginning comes last, and of that the first
//! sectors.

use std::io::Read;

use anyhow::{Context, Error, Result, bail, ensure};
use sha2::{Digest, Sha256};

use super::target::{Buffer, Target};

/// Beginning and end of a disk that are zero until all else is verified, in bytes. They hold the
/// partition table and its copy, and every boot loader that lies outside of partitions.
pub const EDGE: u64 = 1 << 20;
/// The very first bytes, written last of all: without them there is no partition table.
const FIRST: usize = 4096;
/// Bytes of one transfer.
const CHUNK: usize = 4 << 20;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writing; the target does not boot.
    Write,
    /// Reading back; the target does not boot.
    Verify,
}

/// Writes `length` bytes of an image and verifies them; returns their SHA-256.
///
/// `watch` hears how many bytes of a step are done. `expected` is the digest that the image must
/// have, where one is known.
///
/// # Errors
/// When anything fails or any byte read back differs. The message says whether the target is
/// marked unbootable, which it is unless it no longer accepts even that.
pub fn write(
    image: &mut dyn Read,
    length: u64,
    expected: Option<&str>,
    target: &mut dyn Target,
    watch: &mut dyn FnMut(Step, u64),
) -> Result<String> {
    ensure!(length <= target.size(), "the image is larger than its target");
    let outcome = mark_unbootable(target)
        .context("the target cannot be marked unbootable")
        .and_then(|()| write_and_verify(image, length, expected, target, watch));
    outcome.map_err(|error| match mark_unbootable(target) {
        Ok(()) => error.context("FLASHING FAILED; the target is marked unbootable: do not use it"),
        Err(mark) => unmarked(error, &mark),
    })
}

fn unmarked(error: Error, mark: &Error) -> Error {
    error.context(format!(
        "FLASHING FAILED, and the target cannot even be marked unbootable ({mark:#}): it may look \
         usable and is not; throw it away"
    ))
}

/// Zeros where partition tables lie. A worn-out card may accept them and keep what it had, so they
/// are read back.
fn mark_unbootable(target: &mut dyn Target) -> Result<()> {
    let edge = EDGE.min(target.size());
    let zeros = Buffer::new(edge as usize);
    let places = [0, target.size() - edge];
    for place in places {
        target.write_at(place, &zeros)?;
    }
    target.sync()?;
    let mut back = Buffer::new(zeros.len());
    for place in places {
        back.fill(1);
        target.read_at(place, &mut back)?;
        ensure!(*back == *zeros, "it does not keep what is written at byte {place}");
    }
    Ok(())
}

fn write_and_verify(
    image: &mut dyn Read,
    length: u64,
    expected: Option<&str>,
    target: &mut dyn Target,
    watch: &mut dyn FnMut(Step, u64),
) -> Result<String> {
    let mut head = Buffer::new(EDGE.min(length) as usize);
    image.read_exact(&mut head).context("cannot read the image")?;
    let written = write_body(image, &head, length, target, watch)?;
    if expected.is_some_and(|expected| !expected.eq_ignore_ascii_case(&written.whole)) {
        bail!("the image has SHA-256 {}, not the one expected", written.whole);
    }
    target.sync()?;
    verify_body(&head, length, &written, target, watch)?;
    write_head(&head, target)?;
    Ok(written.whole)
}

/// Digests of what was written.
struct Written {
    /// Of the image, beginning included.
    whole: String,
    /// Of each transfer behind the beginning.
    chunks: Vec<[u8; 32]>,
}

fn write_body(
    image: &mut dyn Read,
    head: &[u8],
    length: u64,
    target: &mut dyn Target,
    watch: &mut dyn FnMut(Step, u64),
) -> Result<Written> {
    let mut whole = Sha256::new_with_prefix(head);
    let mut chunks = Vec::new();
    let mut buffer = Buffer::new(CHUNK);
    let mut offset = head.len() as u64;
    while offset < length {
        let chunk = &mut buffer[..chunk_length(offset, length)];
        image.read_exact(chunk).with_context(|| format!("cannot read the image at {offset}"))?;
        whole.update(&*chunk);
        chunks.push(Sha256::digest(&*chunk).into());
        target.write_at(offset, chunk)?;
        offset += chunk.len() as u64;
        watch(Step::Write, offset);
    }
    Ok(Written { whole: hex::encode(whole.finalize()), chunks })
}

/// Compares by transfer, to say where, and as a whole.
fn verify_body(
    head: &[u8],
    length: u64,
    written: &Written,
    target: &mut dyn Target,
    watch: &mut dyn FnMut(Step, u64),
) -> Result<()> {
    let mut whole = Sha256::new_with_prefix(head);
    let mut buffer = Buffer::new(CHUNK);
    let mut offset = head.len() as u64;
    for digest in &written.chunks {
        let chunk = &mut buffer[..chunk_length(offset, length)];
        target.read_at(offset, chunk)?;
        let end = offset + chunk.len() as u64;
        if Sha256::digest(&*chunk).as_slice() != digest {
            bail!("bytes {offset} to {end} read back wrong: the card is worn out or a fake");
        }
        whole.update(&*chunk);
        offset = end;
        watch(Step::Verify, offset);
    }
    ensure!(hex::encode(whole.finalize()) == written.whole, "the SHA-256 read back is wrong");
    Ok(())
}

/// Makes the target bootable.
fn write_head(head: &[u8], target: &mut dyn Target) -> Result<()> {
    let (first, rest) = head.split_at(FIRST.min(head.len()));
    target.write_at(first.len() as u64, rest)?;
    target.sync()?;
    target.write_at(0, first)?;
    target.sync()?;
    let mut back = Buffer::new(head.len());
    target.read_at(0, &mut back)?;
    ensure!(*back == *head, "the first {} bytes read back wrong", head.len());
    Ok(())
}

fn chunk_length(offset: u64, length: u64) -> usize {
    (length - offset).min(CHUNK as u64) as usize
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use anyhow::anyhow;

    const LENGTH: usize = 6 << 20;
    const SIZE: usize = 8 << 20;

    /// A card in memory that once held something bootable, with faults.
    struct Card {
        bytes: Vec<u8>,
        /// Every write, as offset and length.
        writes: Vec<(u64, usize)>,
        /// A write that touches this byte fails.
        fails_at: Option<u64>,
        /// This byte reads back wrong.
        wrong_at: Option<u64>,
        /// Writes are accepted and forgotten.
        is_worn_out: bool,
        /// Power is cut after so many written bytes; what follows is lost.
        power: usize,
    }

    impl Card {
        fn new() -> Card {
            Card {
                bytes: vec![0xaa; SIZE],
                writes: Vec::new(),
                fails_at: None,
                wrong_at: None,
                is_worn_out: false,
                power: usize::MAX,
            }
        }

        fn is_marked(&self) -> bool {
            let edge = EDGE as usize;
            is_zero(&self.bytes[..edge]) && is_zero(&self.bytes[SIZE - edge..])
        }
    }

    fn is_zero(bytes: &[u8]) -> bool {
        bytes == vec![0; bytes.len()]
    }

    impl Target for Card {
        fn size(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
            let start = offset as usize;
            self.writes.push((offset, bytes.len()));
            let end = offset + bytes.len() as u64;
            if self.fails_at.is_some_and(|at| (offset..end).contains(&at)) {
                return Err(anyhow!("injected"));
            }
            let kept = bytes.len().min(self.power);
            self.power -= kept;
            if !self.is_worn_out {
                self.bytes[start..start + kept].copy_from_slice(&bytes[..kept]);
            }
            ensure!(kept == bytes.len(), "power cut");
            Ok(())
        }

        fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<()> {
            let start = offset as usize;
            bytes.copy_from_slice(&self.bytes[start..start + bytes.len()]);
            let within = self.wrong_at.and_then(|at| at.checked_sub(offset));
            if let Some(byte) = within.and_then(|at| bytes.get_mut(at as usize)) {
                *byte ^= 1;
            }
            Ok(())
        }

        fn sync(&mut self) -> Result<()> {
            Ok(())
        }
    }

    /// Bytes that differ from sector to sector.
    pub fn image(length: usize) -> Vec<u8> {
        let sector = |number: usize| [(number as u64 + 1).to_le_bytes(); 64];
        let sectors: Vec<_> = (0..length / 512).map(sector).collect();
        sectors.as_flattened().as_flattened().to_vec()
    }

    fn flash(card: &mut Card) -> Result<String> {
        let image = image(LENGTH);
        write(&mut image.as_slice(), LENGTH as u64, None, card, &mut |_, _| ())
    }

    #[track_caller]
    fn check_failure(mut card: Card, reason: &str) -> Card {
        let error = format!("{:#}", flash(&mut card).unwrap_err());
        assert!(error.contains("FLASHING FAILED") && error.contains(reason), "{error}");
        card
    }

    #[test]
    fn a_flashed_card_holds_the_image_and_its_digest_is_known() {
        let mut card = Card::new();
        let image = image(LENGTH);
        let mut steps = Vec::new();
        let digest = hex::encode(Sha256::digest(&image));
        let mut watch = |step, done| steps.push((step, done));
        let found =
            write(&mut image.as_slice(), LENGTH as u64, Some(&digest), &mut card, &mut watch);
        assert_eq!(found.unwrap(), digest);
        assert!(card.bytes[..LENGTH] == image);
        assert!(is_zero(&card.bytes[SIZE - EDGE as usize..]), "the old table's copy is gone");
        let length = LENGTH as u64;
        let ends: Vec<_> = steps.iter().filter(|(_, done)| *done == length).collect();
        assert_eq!(ends, [&(Step::Write, length), &(Step::Verify, length)]);
    }

    #[test]
    fn the_first_sectors_are_zeroed_first_and_written_last() {
        let mut card = Card::new();
        flash(&mut card).unwrap();
        let (first, last) = (card.writes[0], card.writes[card.writes.len() - 1]);
        assert_eq!((first, last), ((0, EDGE as usize), (0, FIRST)));
        let between = &card.writes[1..card.writes.len() - 1];
        assert!(between.iter().all(|(offset, _)| *offset >= FIRST as u64));
    }

    #[test]
    fn without_power_the_card_is_not_bootable_or_complete() {
        let image = image(LENGTH);
        let mut whole = Card::new();
        flash(&mut whole).unwrap();
        let total: usize = whole.writes.iter().map(|(_, length)| length).sum();
        // Behind the first zeros; before that the card is what it was, minus its beginning.
        let edge = EDGE as usize;
        for power in [edge, edge + 512, 3 * edge, total / 2, total - edge, total - FIRST, total] {
            let mut card = Card { power, ..Card::new() };
            let outcome = flash(&mut card);
            let is_complete = card.bytes[..LENGTH] == image;
            assert_eq!(is_complete, power == total && outcome.is_ok(), "{power}");
            assert!(is_complete || is_zero(&card.bytes[..FIRST]), "{power}");
        }
    }

    #[test]
    fn a_write_error_anywhere_leaves_the_card_marked() {
        for at in [EDGE, 3 << 20, LENGTH as u64 - 1] {
            let card = check_failure(Card { fails_at: Some(at), ..Card::new() }, "injected");
            assert!(card.is_marked(), "{at}");
        }
    }

    #[test]
    fn a_wrong_byte_anywhere_leaves_the_card_marked() {
        for (at, place) in [(EDGE, "1048576 to 5242880"), (LENGTH as u64 - 1, "to 6291456")] {
            let card = check_failure(Card { wrong_at: Some(at), ..Card::new() }, place);
            assert!(card.is_marked(), "{at}");
        }
    }

    #[test]
    fn a_card_that_cannot_be_marked_is_said_to_be_so() {
        let reason = "throw it away";
        check_failure(Card { fails_at: Some(0), ..Card::new() }, reason);
        check_failure(Card { wrong_at: Some(SIZE as u64 - 1), ..Card::new() }, reason);
        let worn_out = Card { is_worn_out: true, ..Card::new() };
        let card = check_failure(worn_out, "does not keep what is written at byte 0");
        assert!(card.bytes == vec![0xaa; SIZE]);
    }

    #[test]
    fn an_image_that_is_not_what_it_was_or_ends_early_leaves_the_card_marked() {
        let image = image(LENGTH);
        let mut card = Card::new();
        let mut watch = |_, _| ();
        let other = Some("00");
        let length = LENGTH as u64;
        let error = write(&mut image.as_slice(), length, other, &mut card, &mut watch);
        assert!(format!("{:#}", error.unwrap_err()).contains("not the one expected"));
        assert!(card.is_marked());
        let error = write(&mut &image[..LENGTH / 2], length, None, &mut card, &mut watch);
        assert!(format!("{:#}", error.unwrap_err()).contains("cannot read the image"));
        assert!(card.is_marked());
    }

    #[test]
    fn images_of_any_length_fit_a_card_of_their_size() {
        for length in [512, 4096, 8192, EDGE as usize, EDGE as usize + 512] {
            let image = image(length);
            let mut card = Card { bytes: vec![0xaa; length], ..Card::new() };
            let found =
                write(&mut image.as_slice(), length as u64, None, &mut card, &mut |_, _| ());
            assert!(found.is_ok() && card.bytes == image, "{length}: {found:?}");
        }
    }
}
