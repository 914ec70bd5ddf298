//! The same picture twice: exactly, or scaled, re-encoded or re-exposed.

use image::{GrayImage, ImageBuffer};
use image_hasher::{HashAlg, HasherConfig};
use models::radiograph::Radiograph;
use sha2::{Digest, Sha256};

/// Bytes of a perceptual hash: 16 x 16 bits.
const HASH_BYTES: usize = 32;
const HASH_SIDE: u32 = 16;

/// Most differing bits, of 256, at which two pictures count as the same.
///
/// Measured on 287 X-rays of Fraiwan et al. 2022. A copy at half size, at JPEG quality 40, with
/// gamma 0.8 or with contrast 0.8 is at most 13 bits from its original; one cropped by 1 % on
/// each side, at most 24. The nearest two images of one patient, the same exposure cropped twice,
/// are 33 bits apart; the nearest two of different patients, 49; the median pair, more than 100.
/// A mirrored picture does not count as the same.
pub const NEAR_BITS: u32 = 36;

/// What identifies a picture's content.
#[derive(Clone, Debug)]
pub struct Fingerprint {
    samples: [u8; 32],
    perceptual: [u8; HASH_BYTES],
}

/// Two images with the same picture, by their position in the list searched; `first < second`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The earlier image.
    pub first: usize,
    /// The later image.
    pub second: usize,
    /// Whether all samples are equal.
    pub exact: bool,
    /// Differing bits of the perceptual hashes, of 256.
    pub distance: u32,
}

impl Fingerprint {
    /// Hashes the size and samples (SHA-256) and the look (gradient hash of 16 x 16 bits: each
    /// says whether a cell of the reduced picture is darker than its right neighbour).
    pub fn new(picture: &Radiograph) -> Self {
        Self { samples: sample_hash(picture), perceptual: perceptual_hash(picture) }
    }

    /// The perceptual hash in hex, 64 digits.
    pub fn perceptual_hex(&self) -> String {
        hex::encode(self.perceptual)
    }

    /// Differing bits of the perceptual hashes, 0 to 256.
    pub fn distance(&self, other: &Fingerprint) -> u32 {
        self.perceptual.iter().zip(other.perceptual).map(|(a, b)| (a ^ b).count_ones()).sum()
    }
}

/// All pairs with the same picture. Each image is compared with each other.
pub fn find(prints: &[&Fingerprint]) -> Vec<Match> {
    let mut matches = Vec::new();
    for (second, print) in prints.iter().enumerate() {
        for (first, earlier) in prints[..second].iter().enumerate() {
            let exact = print.samples == earlier.samples;
            let distance = print.distance(earlier);
            if exact || distance <= NEAR_BITS {
                matches.push(Match { first, second, exact, distance });
            }
        }
    }
    matches
}

fn sample_hash(picture: &Radiograph) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(picture.width().to_le_bytes());
    hash.update(picture.height().to_le_bytes());
    for row in picture.samples().chunks(picture.width() as usize) {
        let bytes: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
        hash.update(&bytes);
    }
    hash.finalize().into()
}

fn perceptual_hash(picture: &Radiograph) -> [u8; HASH_BYTES] {
    let grey: Vec<u8> = picture.samples().iter().map(|v| (v >> 8) as u8).collect();
    let image: GrayImage =
        ImageBuffer::from_raw(picture.width(), picture.height(), grey).unwrap_or_default();
    let hasher = HasherConfig::with_bytes_type::<[u8; HASH_BYTES]>()
        .hash_alg(HashAlg::Gradient)
        .hash_size(HASH_SIDE, HASH_SIDE)
        .to_hasher();
    hasher.hash_image(&image).into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broad random-looking waves, so that neighbouring cells differ clearly.
    fn waves(width: u32, height: u32, phase: f64, gain: f64) -> Radiograph {
        let samples = (0..width * height).map(|i| {
            let x = f64::from(i % width) / f64::from(width);
            let y = f64::from(i / width) / f64::from(height);
            let value = (19.0 * x + phase).sin() * (13.0 * y + 2.0 * phase).cos();
            (gain * (value + (31.0 * (x + y) * phase).sin()) * 16_000.0 + 32_000.0) as u16
        });
        Radiograph::new(width, height, samples.collect()).expect("picture")
    }

    #[test]
    fn copies_are_found_and_other_pictures_are_not() {
        let prints = [
            waves(200, 300, 1.0, 0.9),
            waves(200, 300, 1.0, 0.9),
            waves(140, 210, 1.0, 0.7),
            waves(200, 300, 2.3, 0.9),
        ]
        .map(|picture| Fingerprint::new(&picture));
        let found = find(&prints.iter().collect::<Vec<_>>());
        let pairs: Vec<_> = found.iter().map(|m| (m.first, m.second, m.exact)).collect();
        assert_eq!(pairs, [(0, 1, true), (0, 2, false), (1, 2, false)]);
        assert_eq!(found[0].distance, 0);
    }

    #[test]
    fn samples_of_another_shape_are_not_equal() {
        let samples: Vec<u16> = (0..50 * 100).collect();
        let wide = Radiograph::new(100, 50, samples.clone()).expect("picture");
        let high = Radiograph::new(50, 100, samples).expect("picture");
        assert_ne!(sample_hash(&wide), sample_hash(&high));
    }
}
