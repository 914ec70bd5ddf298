//! `head.safetensors`: the weight path behind the captured layer, and outlier statistics.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView, serialize};

use super::card::CamLayer;
use crate::head::{Head, HeadError, Matrix, Path};
use crate::label;

/// What pooled features look like on pictures the model knows: a mean per class and one variance
/// per channel, for the distance of Lee et al. 2018 (arXiv 1807.03888) with a diagonal covariance.
#[derive(Clone, Debug, PartialEq)]
pub struct Outliers {
    /// `[classes, channels]`, row-major.
    pub mean: Vec<f32>,
    /// `[channels]`.
    pub inverse_variance: Vec<f32>,
}

impl Outliers {
    /// Mean squared standardised distance of pooled features `[channels]` from the nearest class.
    pub fn distance(&self, pooled: &[f64]) -> f64 {
        let channels = self.inverse_variance.len().max(1);
        let to_class = |mean: &[f32]| {
            let terms = pooled.iter().zip(mean).zip(&self.inverse_variance);
            let square = |((x, &m), &v): ((&f64, &f32), &f32)| {
                let gap = x - f64::from(m);
                gap * gap * f64::from(v)
            };
            terms.map(square).fold(0.0, |sum, t| sum + t) / channels as f64
        };
        self.mean.chunks_exact(channels).map(to_class).fold(f64::INFINITY, f64::min)
    }
}

/// Why the file is unusable.
#[derive(Debug, thiserror::Error)]
pub enum TensorsError {
    /// Not a safetensors file.
    #[error("{0}")]
    Format(String),
    /// A tensor is absent or not of 32-bit floats.
    #[error("tensor `{0}` is absent, or not a matrix or vector of 32-bit floats")]
    Missing(&'static str),
    /// The tensors do not fit each other.
    #[error(transparent)]
    Head(#[from] HeadError),
}

impl From<SafeTensorError> for TensorsError {
    fn from(error: SafeTensorError) -> Self {
        TensorsError::Format(error.to_string())
    }
}

/// Parses the file for a captured layer.
pub(super) fn read(cam: &CamLayer, bytes: &[u8]) -> Result<(Head, Outliers), TensorsError> {
    let file = SafeTensors::deserialize(bytes)?;
    let path = if file.tensor("head.weight").is_ok() {
        Path::Linear { weight: matrix(&file, "head.weight")?, bias: vector(&file, "head.bias")? }
    } else {
        Path::Hidden {
            first_summed: matrix(&file, "head.first_summed")?,
            second: matrix(&file, "head.second")?,
            last: matrix(&file, "head.last")?,
            bias: vector(&file, "head.bias")?,
        }
    };
    let outliers = Outliers {
        mean: matrix(&file, "outliers.mean")?.values().to_vec(),
        inverse_variance: vector(&file, "outliers.inverse_variance")?,
    };
    let channels = cam.shape.channels;
    for (what, found, expected) in [
        ("outlier mean", outliers.mean.len(), label::COUNT * channels),
        ("outlier variance", outliers.inverse_variance.len(), channels),
    ] {
        if found != expected {
            return Err(HeadError::Length { what, found, expected }.into());
        }
    }
    Ok((Head::new(cam.shape, path)?, outliers))
}

/// The file's bytes.
pub(super) fn write(head: &Head, outliers: &Outliers) -> Result<Vec<u8>, TensorsError> {
    let channels = head.shape.channels;
    let mut named: Vec<(&str, Vec<usize>, &[f32])> = match &head.path {
        Path::Linear { weight, bias } => vec![
            ("head.weight", vec![weight.rows(), weight.columns()], weight.values()),
            ("head.bias", vec![bias.len()], bias),
        ],
        Path::Hidden { first_summed, second, last, bias } => {
            let mut named: Vec<(&str, Vec<usize>, &[f32])> =
                vec![("head.bias", vec![bias.len()], bias)];
            for (name, matrix) in
                [("head.first_summed", first_summed), ("head.second", second), ("head.last", last)]
            {
                named.push((name, vec![matrix.rows(), matrix.columns()], matrix.values()));
            }
            named
        }
    };
    named.push(("outliers.mean", vec![label::COUNT, channels], &outliers.mean));
    named.push(("outliers.inverse_variance", vec![channels], &outliers.inverse_variance));
    let bytes: Vec<Vec<u8>> = named
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let mut views = Vec::new();
    for ((name, shape, _), bytes) in named.iter().zip(&bytes) {
        views.push((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?));
    }
    Ok(serialize(views, None::<HashMap<String, String>>)?)
}

fn matrix(file: &SafeTensors<'_>, name: &'static str) -> Result<Matrix, TensorsError> {
    let view = file.tensor(name).map_err(|_| TensorsError::Missing(name))?;
    let &[rows, columns] = view.shape() else { return Err(TensorsError::Missing(name)) };
    Ok(Matrix::new(name, rows, columns, floats(&view, name)?)?)
}

fn vector(file: &SafeTensors<'_>, name: &'static str) -> Result<Vec<f32>, TensorsError> {
    let view = file.tensor(name).map_err(|_| TensorsError::Missing(name))?;
    if view.shape().len() != 1 {
        return Err(TensorsError::Missing(name));
    }
    floats(&view, name)
}

fn floats(view: &TensorView<'_>, name: &'static str) -> Result<Vec<f32>, TensorsError> {
    if view.dtype() != Dtype::F32 {
        return Err(TensorsError::Missing(name));
    }
    let four = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    Ok(view.data().chunks_exact(4).map(four).collect())
}
