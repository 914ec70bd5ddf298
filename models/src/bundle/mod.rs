//! A model on disk: a folder that describes itself and is verified as a whole before use.
//!
//! - `bundle.toml`: the [`Card`], with the SHA-256 of every other file;
//! - `bundle.sha256`: the SHA-256 of `bundle.toml`, in the format of `sha256sum`;
//! - `model.onnx`: the network, outputs `logits`, `cam_features` and, for heads with hidden
//!   layers, `hidden_1` and `hidden_2` (pre-activations);
//! - `head.safetensors`: the weight path behind the captured layer and the outlier statistics;
//! - `golden/`: one synthetic picture and what the model must say of it.
//!
//! Nothing of a bundle is used when one byte of any file differs, a file is missing, or a file
//! lies there that the card does not name.

mod card;
mod tensors;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use self::card::{
    Attribution, CamLayer, Card, Decision, FORMAT, InputRule, Precision, Provenance, Quantization,
    Results,
};
pub use self::tensors::{Outliers, TensorsError};
use crate::head::{Head, HeadError};
use crate::label;

/// Name of the card.
pub const CARD_FILE: &str = "bundle.toml";
/// Name of the card's checksum.
pub const CHECKSUM_FILE: &str = "bundle.sha256";
/// Name of the network.
pub const MODEL_FILE: &str = "model.onnx";
/// Name of the weight path and statistics.
pub const HEAD_FILE: &str = "head.safetensors";
/// Name of the self-test's picture.
pub const GOLDEN_INPUT_FILE: &str = "golden/input.png";
/// Name of the self-test's expectation.
pub const GOLDEN_EXPECTED_FILE: &str = "golden/expected.toml";

/// The files every card names.
const PARTS: [&str; 4] = [MODEL_FILE, HEAD_FILE, GOLDEN_INPUT_FILE, GOLDEN_EXPECTED_FILE];

/// A verified model.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// What the model is, how it was made and how well it does.
    pub card: Card,
    /// SHA-256 of the card, which holds that of every file: the model's identity.
    pub digest: String,
    /// The network, as ONNX bytes.
    pub model: Vec<u8>,
    /// The weight path behind the captured layer.
    pub head: Head,
    /// What pooled features look like on pictures the model knows.
    pub outliers: Outliers,
    /// The self-test.
    pub golden: Golden,
}

/// One synthetic picture and what the model must say of it.
#[derive(Clone, Debug)]
pub struct Golden {
    /// The picture, as PNG bytes.
    pub input: Vec<u8>,
    /// What the model says.
    pub expected: Expected,
}

/// What the model must say of the golden picture.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Raw outputs in class order.
    pub logits: [f32; label::COUNT],
    /// The verdict's name.
    pub verdict: String,
    /// Digest of the heat map ([`crate::cam::digest`]); empty where the map is unusable.
    pub heat_digest: String,
}

/// Why a folder is not a usable bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system says.
        source: io::Error,
    },
    /// A file's bytes are not those the card was written for.
    #[error("{file} is damaged: its SHA-256 is not the recorded one; install the bundle again")]
    Damaged {
        /// The file, relative to the bundle.
        file: String,
    },
    /// A file lies in the bundle that the card does not name.
    #[error("{file} does not belong to the bundle: remove it or install the bundle again")]
    Foreign {
        /// The file, relative to the bundle.
        file: String,
    },
    /// The card does not name a part that every bundle has.
    #[error("{CARD_FILE} does not name {0}")]
    Unlisted(&'static str),
    /// The card does not parse.
    #[error("{file}: {source}")]
    Parse {
        /// The file.
        file: &'static str,
        /// What the parser says.
        source: Box<toml::de::Error>,
    },
    /// The card cannot be written.
    #[error("{CARD_FILE} cannot be written: {0}")]
    Encode(#[from] toml::ser::Error),
    /// Another version of this program wrote the bundle.
    #[error("{CARD_FILE} has format {found}, this program reads format {FORMAT}")]
    Format {
        /// The version found.
        found: u32,
    },
    /// The model was made for another order of classes or another preprocessing.
    #[error("{CARD_FILE}: {0}")]
    Contract(String),
    /// The weight path is unusable.
    #[error("{HEAD_FILE}: {0}")]
    Tensors(#[from] TensorsError),
}

impl From<HeadError> for BundleError {
    fn from(error: HeadError) -> Self {
        BundleError::Tensors(TensorsError::Head(error))
    }
}

impl Bundle {
    /// Reads a folder and verifies every byte of it.
    ///
    /// # Errors
    /// Names the file at fault.
    pub fn load(dir: &Path) -> Result<Self, BundleError> {
        let card_bytes = read(dir, CARD_FILE)?;
        let digest = sha256(&card_bytes);
        if read(dir, CHECKSUM_FILE)? != checksum_line(&digest).into_bytes() {
            let file = format!("{CARD_FILE} or {CHECKSUM_FILE}");
            return Err(BundleError::Damaged { file });
        }
        let card = Card::parse(&card_bytes)?;
        refuse_foreign_files(dir, &card)?;
        let mut files = BTreeMap::new();
        for (name, expected) in &card.files {
            let bytes = read(dir, name)?;
            if sha256(&bytes) != *expected {
                return Err(BundleError::Damaged { file: name.clone() });
            }
            files.insert(name.clone(), bytes);
        }
        let mut take = |name: &'static str| files.remove(name).ok_or(BundleError::Unlisted(name));
        let (head, outliers) = tensors::read(&card.cam, &take(HEAD_FILE)?)?;
        let expected = parse_expected(&take(GOLDEN_EXPECTED_FILE)?)?;
        let golden = Golden { input: take(GOLDEN_INPUT_FILE)?, expected };
        Ok(Self { digest, model: take(MODEL_FILE)?, head, outliers, golden, card })
    }

    /// Writes a bundle into a new or empty folder; the card's file list is made here.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(mut card: Card, parts: &Parts<'_>, dir: &Path) -> Result<String, BundleError> {
        let expected = toml::to_string(parts.expected)?.into_bytes();
        let head = tensors::write(parts.head, parts.outliers)?;
        card.files.clear();
        for (name, bytes) in
            PARTS.into_iter().zip([parts.model, &head, parts.golden_input, &expected])
        {
            write(dir, name, bytes)?;
            card.files.insert(name.into(), sha256(bytes));
        }
        let card = toml::to_string(&card)?;
        let digest = sha256(card.as_bytes());
        write(dir, CARD_FILE, card.as_bytes())?;
        write(dir, CHECKSUM_FILE, checksum_line(&digest).as_bytes())?;
        Ok(digest)
    }
}

/// What a new bundle is made of, beside its card.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The network, as ONNX bytes.
    pub model: &'a [u8],
    /// The weight path.
    pub head: &'a Head,
    /// Statistics of pooled features.
    pub outliers: &'a Outliers,
    /// The golden picture, as PNG bytes.
    pub golden_input: &'a [u8],
    /// What the model says of it.
    pub expected: &'a Expected,
}

fn checksum_line(digest: &str) -> String {
    format!("{digest}  {CARD_FILE}\n")
}

fn parse_expected(bytes: &[u8]) -> Result<Expected, BundleError> {
    toml::from_slice(bytes)
        .map_err(|source| BundleError::Parse { file: GOLDEN_EXPECTED_FILE, source: source.into() })
}

fn refuse_foreign_files(dir: &Path, card: &Card) -> Result<(), BundleError> {
    for name in PARTS {
        if !card.files.contains_key(name) {
            return Err(BundleError::Unlisted(name));
        }
    }
    let mut pending = vec![String::new()];
    while let Some(folder) = pending.pop() {
        let path = dir.join(&folder);
        let entries = fs::read_dir(&path).map_err(file_error(&path))?;
        for entry in entries {
            let entry = entry.map_err(file_error(&path))?;
            let leaf = entry.file_name().to_string_lossy().into_owned();
            let name = if folder.is_empty() { leaf } else { format!("{folder}/{leaf}") };
            if entry.path().is_dir() {
                pending.push(name);
            } else if name != CARD_FILE && name != CHECKSUM_FILE && !card.files.contains_key(&name)
            {
                return Err(BundleError::Foreign { file: name });
            }
        }
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn read(dir: &Path, name: &str) -> Result<Vec<u8>, BundleError> {
    let path = dir.join(name);
    fs::read(&path).map_err(file_error(&path))
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
    let path = dir.join(name);
    let parent = path.parent().unwrap_or(dir);
    fs::create_dir_all(parent).map_err(file_error(parent))?;
    fs::write(&path, bytes).map_err(file_error(&path))
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> BundleError {
    let path = path.to_path_buf();
    move |source| BundleError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::tests::small;
    use card::tests::card;

    fn saved(dir: &Path) -> String {
        let outliers = Outliers { mean: vec![0.5; 6], inverse_variance: vec![1.0, 4.0] };
        let expected = Expected {
            logits: [0.1, -2.5, 1e-7],
            verdict: "normal".into(),
            heat_digest: "ab".into(),
        };
        let head = small();
        let parts = Parts {
            model: b"onnx bytes",
            head: &head,
            outliers: &outliers,
            golden_input: b"png bytes",
            expected: &expected,
        };
        Bundle::save(card(&head), &parts, dir).expect("saves")
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().expect("dir");
        let digest = saved(dir.path());
        let bundle = Bundle::load(dir.path()).expect("loads");
        assert_eq!(bundle.digest, digest);
        assert_eq!(bundle.head, small());
        assert_eq!(bundle.model, b"onnx bytes");
        assert_eq!(bundle.golden.expected.logits, [0.1, -2.5, 1e-7]);
    }

    #[test]
    fn any_flipped_byte_is_refused_and_named() {
        let dir = tempfile::tempdir().expect("dir");
        saved(dir.path());
        for name in PARTS.into_iter().chain([CARD_FILE, CHECKSUM_FILE]) {
            let path = dir.path().join(name);
            let bytes = fs::read(&path).expect("reads");
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 0x20;
                fs::write(&path, &flipped).expect("writes");
                let error = Bundle::load(dir.path()).expect_err("must be refused").to_string();
                assert!(error.contains(name), "{name} byte {at}: {error}");
            }
            fs::write(&path, &bytes).expect("writes");
        }
        assert!(Bundle::load(dir.path()).is_ok());
    }

    #[test]
    fn missing_and_foreign_files_are_named() {
        let dir = tempfile::tempdir().expect("dir");
        saved(dir.path());
        fs::write(dir.path().join("golden/extra.bin"), b"x").expect("writes");
        let error = Bundle::load(dir.path()).expect_err("must be refused").to_string();
        assert!(error.contains("golden/extra.bin"), "{error}");
        fs::remove_file(dir.path().join("golden/extra.bin")).expect("removes");
        fs::remove_file(dir.path().join(MODEL_FILE)).expect("removes");
        let error = Bundle::load(dir.path()).expect_err("must be refused").to_string();
        assert!(error.contains(MODEL_FILE), "{error}");
    }
}
