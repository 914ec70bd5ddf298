//! A folder of phantoms, laid out as a data set that can be trained on.

use std::fs;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};

use image::{ExtendedColorType, ImageEncoder, ImageError, codecs::png::PngEncoder};
use models::label::Class;
use models::radiograph::RadiographError;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::dicom::{self, DicomError};
use super::truth::Truth;
use super::{Phantom, PhantomSpec, render};
use crate::data::import::duplicates::Fingerprint;
use crate::data::manifest::{Manifest, ManifestError, Record};

/// The truth of all phantoms of a folder, in the order of their making.
pub const TRUTH_FILE: &str = "truth.json";
/// `source_batch` of every phantom in the manifest.
pub const SOURCE_BATCH: &str = "phantom";

/// How a picture is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// PNG, the upper 8 bits.
    Png8,
    /// PNG, all 16 bits.
    Png16,
    /// DICOM, all 16 bits.
    Dicom,
}

impl Format {
    fn extension(self) -> &'static str {
        match self {
            Format::Png8 | Format::Png16 => "png",
            Format::Dicom => "dcm",
        }
    }
}

/// What folder to make.
#[derive(Clone, Debug)]
pub struct DatasetOptions {
    /// Number of phantoms.
    pub count: usize,
    /// Their classes, dealt out in turn.
    pub classes: Vec<Class>,
    /// Seed from which each phantom's own seed is drawn.
    pub seed: u64,
    /// Height of the tallest picture, in pixels; others are up to a fifth lower.
    pub height: u32,
    /// How pictures are stored.
    pub format: Format,
    /// Write into a folder that holds something already, replacing files of the same name.
    pub force: bool,
}

/// A phantom in a folder: one element of [`TRUTH_FILE`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Name in the manifest.
    pub id: String,
    /// The picture, relative to the folder.
    pub file: String,
    /// The label map as an 8-bit PNG, relative to the folder.
    pub mask: String,
    /// What is true of it.
    #[serde(flatten)]
    pub truth: Truth,
}

/// Why a folder of phantoms cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// There is something in the folder.
    #[error("{0} is not empty")]
    NotEmpty(PathBuf),
    /// A file or folder cannot be written.
    #[error("{path}: {source}")]
    File {
        /// Where.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// The pictures would have no usable size.
    #[error(transparent)]
    Size(#[from] RadiographError),
    /// A PNG cannot be encoded.
    #[error("a PNG cannot be encoded: {0}")]
    Png(#[from] ImageError),
    /// A DICOM object cannot be encoded.
    #[error(transparent)]
    Dicom(#[from] DicomError),
    /// The manifest is not valid.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The truth cannot be written as JSON.
    #[error("the truth cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// The specifications of a folder's phantoms. Each depends on the base seed and its own index
/// alone, so that a longer series begins with the shorter one; size and shape do not depend on
/// the class.
pub fn random_specs(options: &DatasetOptions) -> Vec<PhantomSpec> {
    let specs = (0..options.count).zip(options.classes.iter().cycle());
    specs
        .map(|(index, &class)| {
            let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
            rng.set_stream(index as u64);
            let seed = rng.next_u64();
            let height = (options.height as f32 * rng.random_range(0.8..1.0)).round() as u32;
            let width = (height as f32 * rng.random_range(0.42..0.72)).round() as u32;
            PhantomSpec { class, seed, width, height }
        })
        .collect()
}

/// Writes pictures, masks, [`TRUTH_FILE`] and the manifest; calls `done` after each phantom.
///
/// # Errors
/// When the folder is not empty (unless forced), or something cannot be encoded or written.
pub fn write(
    dir: &Path,
    options: &DatasetOptions,
    done: &mut dyn FnMut(),
) -> Result<Vec<Entry>, DatasetError> {
    prepare(dir, options.force)?;
    let mut entries = Vec::with_capacity(options.count);
    let mut records = Vec::with_capacity(options.count);
    for (index, spec) in random_specs(options).iter().enumerate() {
        let phantom = render(spec)?;
        let (entry, record) = write_one(dir, &phantom, index + 1, options.format)?;
        entries.push(entry);
        records.push(record);
        done();
    }
    let truth = serde_json::to_vec_pretty(&entries)?;
    write_file(dir, TRUTH_FILE, &truth)?;
    Manifest::new(records)?.save(dir)?;
    Ok(entries)
}

fn prepare(dir: &Path, force: bool) -> Result<(), DatasetError> {
    let failed = |source| DatasetError::File { path: dir.to_path_buf(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    let occupied = fs::read_dir(dir).map_err(failed)?.next().is_some();
    if occupied && !force {
        return Err(DatasetError::NotEmpty(dir.to_path_buf()));
    }
    Ok(())
}

fn write_one(
    dir: &Path,
    phantom: &Phantom,
    number: usize,
    format: Format,
) -> Result<(Entry, Record), DatasetError> {
    let truth = &phantom.truth;
    let id = format!("{}-phantom-{number:05}", truth.class);
    let file = format!("images/{}/{id}.{}", truth.class, format.extension());
    let mask = format!("masks/{}/{id}.png", truth.class);
    let bytes = encode(phantom, number, format)?;
    write_file(dir, &file, &bytes)?;
    let size = (truth.width, truth.height);
    write_file(dir, &mask, &png(&phantom.mask, size, ExtendedColorType::L8)?)?;
    let record = Record {
        id: id.clone(),
        file: file.clone(),
        class: truth.class,
        group: id.clone(),
        age_years: None,
        sex: None,
        source_batch: SOURCE_BATCH.into(),
        native_width: truth.width,
        native_height: truth.height,
        sha256: hex::encode(Sha256::digest(&bytes)),
        phash: Fingerprint::new(&phantom.image).perceptual_hex(),
        duplicate_of: None,
    };
    Ok((Entry { id, file, mask, truth: truth.clone() }, record))
}

/// Encodes a phantom's picture as a file; `number` names the synthetic patient in DICOM.
///
/// # Errors
/// When the encoder fails.
pub fn encode(phantom: &Phantom, number: usize, format: Format) -> Result<Vec<u8>, DatasetError> {
    let samples = phantom.image.samples();
    let size = (phantom.image.width(), phantom.image.height());
    match format {
        Format::Png8 => {
            let bytes: Vec<u8> = samples.iter().map(|&s| (s >> 8) as u8).collect();
            png(&bytes, size, ExtendedColorType::L8)
        }
        Format::Png16 => {
            let bytes: Vec<u8> = samples.iter().flat_map(|s| s.to_ne_bytes()).collect();
            png(&bytes, size, ExtendedColorType::L16)
        }
        Format::Dicom => Ok(dicom::encode(phantom, number)?),
    }
}

fn png(
    bytes: &[u8],
    (width, height): (u32, u32),
    colour: ExtendedColorType,
) -> Result<Vec<u8>, DatasetError> {
    let mut png = Cursor::new(Vec::new());
    PngEncoder::new(&mut png).write_image(bytes, width, height, colour)?;
    Ok(png.into_inner())
}

fn write_file(dir: &Path, relative: &str, bytes: &[u8]) -> Result<(), DatasetError> {
    let path = dir.join(relative);
    let parent = path.parent().unwrap_or(dir);
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(&path, bytes))
        .map_err(|source| DatasetError::File { path, source })
}

#[cfg(test)]
mod tests {
    use models::radiograph::Radiograph;

    use super::*;

    fn options(format: Format) -> DatasetOptions {
        DatasetOptions {
            count: 4,
            classes: Class::ALL.to_vec(),
            seed: 11,
            height: 200,
            format,
            force: false,
        }
    }

    #[test]
    fn a_folder_is_a_data_set() {
        for format in [Format::Png8, Format::Png16, Format::Dicom] {
            let dir = tempfile::tempdir().expect("dir");
            let entries = write(dir.path(), &options(format), &mut || ()).expect("write");
            let manifest = Manifest::load(dir.path()).expect("a valid manifest");
            assert_eq!(manifest.class_counts(), [2, 1, 1]);
            assert_eq!(manifest.groups().len(), 4);
            for entry in &entries {
                let record = manifest.get(&entry.id).expect("listed");
                let bytes = fs::read(dir.path().join(&entry.file)).expect("picture");
                assert_eq!(record.sha256, hex::encode(Sha256::digest(&bytes)));
                let mask = image::open(dir.path().join(&entry.mask)).expect("mask").to_luma8();
                assert_eq!(mask.dimensions(), (record.native_width, record.native_height));
            }
            let truth = fs::read(dir.path().join(TRUTH_FILE)).expect("truth");
            let truth: Vec<serde_json::Value> = serde_json::from_slice(&truth).expect("an array");
            assert_eq!(truth[1]["class"], "scoliosis");
            assert!(truth[1]["curve"]["cobb_degrees"].as_f64().expect("a number") >= 15.0);
        }
    }

    #[test]
    fn a_sixteen_bit_png_keeps_every_bit() {
        let spec = PhantomSpec { class: Class::Normal, seed: 1, width: 100, height: 180 };
        let phantom = render(&spec).expect("render");
        let decode = |format| {
            Radiograph::decode(&encode(&phantom, 1, format).expect("encode")).expect("decode")
        };
        assert_eq!(decode(Format::Png16), phantom.image);
        let eight = decode(Format::Png8);
        for (a, b) in eight.samples().iter().zip(phantom.image.samples()) {
            assert_eq!(a >> 8, b >> 8);
        }
    }

    #[test]
    fn an_occupied_folder_is_left_alone_unless_forced() {
        let dir = tempfile::tempdir().expect("dir");
        fs::write(dir.path().join("notes.txt"), "mine").expect("file");
        let refused = write(dir.path(), &options(Format::Png8), &mut || ());
        assert!(matches!(refused, Err(DatasetError::NotEmpty(_))));
        assert!(!dir.path().join("manifest.csv").exists());
        let forced = DatasetOptions { force: true, ..options(Format::Png8) };
        write(dir.path(), &forced, &mut || ()).expect("forced");
        assert_eq!(fs::read(dir.path().join("notes.txt")).expect("kept"), b"mine");
    }

    #[test]
    fn a_longer_series_begins_with_the_shorter() {
        let short = random_specs(&options(Format::Png8));
        let long = random_specs(&DatasetOptions { count: 9, ..options(Format::Png8) });
        assert_eq!(short, long[..4]);
        let seeds: std::collections::BTreeSet<u64> = long.iter().map(|s| s.seed).collect();
        assert_eq!(seeds.len(), 9);
    }
}
