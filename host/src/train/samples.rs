//! A data set as preprocessed tensors.

use std::fs;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use models::label::Class;
use models::preprocess::{SIDE, input_from_radiograph};
use models::radiograph::{Radiograph, RadiographError};
use tch::Tensor;

use crate::data::manifest::Manifest;

/// Why a data set cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum SamplesError {
    /// A picture cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The picture.
        path: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
    /// A picture cannot be decoded.
    #[error("{path}: {source}")]
    Picture {
        /// The picture.
        path: PathBuf,
        /// What is wrong with it.
        source: RadiographError,
    },
}

/// All pictures of a data set, in the manifest's order.
pub struct Samples {
    /// Names.
    pub ids: Vec<String>,
    /// Findings.
    pub classes: Vec<Class>,
    /// Preprocessed pictures `[count, 1, SIDE, SIDE]`, on the CPU.
    pub inputs: Tensor,
}

impl Samples {
    /// Decodes and preprocesses every picture of a manifest whose folder is `dir`.
    ///
    /// # Errors
    /// At the first picture that cannot be read or decoded.
    pub fn load(
        dir: &Path,
        manifest: &Manifest,
        progress: &ProgressBar,
    ) -> Result<Self, SamplesError> {
        let records = manifest.records();
        progress.set_length(records.len() as u64);
        let mut values = Vec::with_capacity(records.len() * (SIDE * SIDE) as usize);
        for record in records {
            let path = dir.join(&record.file);
            values.extend(input_from_radiograph(&read(&path)?).values);
            progress.inc(1);
        }
        let side = i64::from(SIDE);
        Ok(Self {
            ids: records.iter().map(|r| r.id.clone()).collect(),
            classes: records.iter().map(|r| r.class).collect(),
            inputs: Tensor::from_slice(&values).view([records.len() as i64, 1, side, side]),
        })
    }

    /// Class indices, `[count]`.
    pub fn labels(&self) -> Tensor {
        let indices: Vec<i64> = self.classes.iter().map(|c| c.index() as i64).collect();
        Tensor::from_slice(&indices)
    }
}

fn read(path: &Path) -> Result<Radiograph, SamplesError> {
    let bytes =
        fs::read(path).map_err(|source| SamplesError::File { path: path.to_path_buf(), source })?;
    Radiograph::decode(&bytes)
        .map_err(|source| SamplesError::Picture { path: path.to_path_buf(), source })
}
