//! The part of a network behind the captured layer, as plain matrices: enough to compute the
//! logits of captured features and the gradient that Grad-CAM needs, without a runtime.

use crate::arch::CamShape;
use crate::label;

/// A head over a captured layer `[channels, side, side]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Shape of the captured layer.
    pub shape: CamShape,
    /// What lies between it and the logits.
    pub path: Path,
}

/// The piecewise linear path from the captured layer to the logits.
#[derive(Clone, Debug, PartialEq)]
pub enum Path {
    /// Global average pool, one linear layer.
    Linear {
        /// `[classes, channels]`.
        weight: Matrix,
        /// `[classes]`.
        bias: Vec<f32>,
    },
    /// Max-pool 2x2, flatten, linear, ReLU, linear, ReLU, linear (VGG16's own head).
    ///
    /// The first layer is kept only as the sum over each channel's pooled positions: Grad-CAM
    /// needs the spatial mean of the gradient, and a max-pool sends each pooled gradient to one
    /// input, so the mean is the pooled sum divided by the unpooled area, whatever the argmax.
    Hidden {
        /// First layer summed over positions, `[hidden1, channels]`.
        first_summed: Matrix,
        /// Second layer, `[hidden2, hidden1]`.
        second: Matrix,
        /// Last layer, `[classes, hidden2]`.
        last: Matrix,
        /// Bias of the last layer, `[classes]`.
        bias: Vec<f32>,
    },
}

/// A dense row-major matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

/// Why numbers do not make a head, or a head does not fit what was captured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// A matrix or vector has the wrong number of values.
    #[error("{what} has {found} values, expected {expected}")]
    Length {
        /// Which.
        what: &'static str,
        /// Values found.
        found: usize,
        /// Values expected.
        expected: usize,
    },
}

/// What a runtime captured on one scan.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// Output of the captured layer, `[channels, side, side]`.
    pub features: &'a [f32],
    /// Pre-activations of the hidden layers, first to last; empty for linear heads.
    pub hidden: &'a [Vec<f32>],
}

impl Matrix {
    /// Wraps row-major values.
    ///
    /// # Errors
    /// When there are not `rows * columns` of them.
    pub fn new(
        what: &'static str,
        rows: usize,
        columns: usize,
        values: Vec<f32>,
    ) -> Result<Self, HeadError> {
        check(what, values.len(), rows * columns)?;
        Ok(Self { rows, columns, values })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// One row.
    pub fn row(&self, at: usize) -> &[f32] {
        &self.values[at * self.columns..(at + 1) * self.columns]
    }

    /// `vector * self`: the sum of the rows weighted by `vector`.
    fn weighted_rows(&self, vector: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; self.columns];
        for (&factor, row) in vector.iter().zip(self.values.chunks_exact(self.columns)) {
            if factor != 0.0 {
                sum.iter_mut().zip(row).for_each(|(s, &v)| *s += factor * f64::from(v));
            }
        }
        sum
    }
}

impl Head {
    /// Checks that every part fits the others.
    ///
    /// # Errors
    /// Names the first part that does not.
    pub fn new(shape: CamShape, path: Path) -> Result<Self, HeadError> {
        match &path {
            Path::Linear { weight, bias } => {
                check("weight", weight.values.len(), label::COUNT * shape.channels)?;
                check("bias", bias.len(), label::COUNT)?;
            }
            Path::Hidden { first_summed, second, last, bias } => {
                let (hidden1, hidden2) = (first_summed.rows, second.rows);
                check("first layer", first_summed.values.len(), hidden1 * shape.channels)?;
                check("second layer", second.values.len(), hidden2 * hidden1)?;
                check("last layer", last.values.len(), label::COUNT * hidden2)?;
                check("bias", bias.len(), label::COUNT)?;
            }
        }
        Ok(Self { shape, path })
    }

    /// Whether `logit = bias + sum of the class's map` holds for this head.
    pub fn is_linear(&self) -> bool {
        matches!(self.path, Path::Linear { .. })
    }

    /// Pre-activations a runtime must capture beside the features.
    pub fn hidden_layers(&self) -> usize {
        if self.is_linear() { 0 } else { 2 }
    }

    /// Bias of each class's logit.
    pub fn bias(&self) -> &[f32] {
        match &self.path {
            Path::Linear { bias, .. } | Path::Hidden { bias, .. } => bias,
        }
    }

    /// Logits of what was captured, summed in one fixed order in double precision: the same bits
    /// on every platform for the same features.
    ///
    /// # Errors
    /// When the capture has another shape.
    pub fn logits(&self, captured: Captured<'_>) -> Result<[f32; label::COUNT], HeadError> {
        self.check_capture(captured)?;
        let (matrix, inputs) = match &self.path {
            Path::Linear { weight, .. } => (weight, self.pooled(captured.features)),
            Path::Hidden { last, .. } => {
                let relu = |&v: &f32| f64::from(v.max(0.0));
                (last, captured.hidden[1].iter().map(relu).collect())
            }
        };
        let mut logits = [0.0; label::COUNT];
        for (class, logit) in logits.iter_mut().enumerate() {
            let products = matrix.row(class).iter().zip(&inputs).map(|(&w, x)| f64::from(w) * x);
            *logit = (products.fold(f64::from(self.bias()[class]), |sum, p| sum + p)) as f32;
        }
        Ok(logits)
    }

    /// Grad-CAM's channel weights for one class: the spatial mean of d logit / d features.
    ///
    /// # Errors
    /// When the capture has another shape.
    pub fn channel_weights(
        &self,
        class: label::Class,
        captured: Captured<'_>,
    ) -> Result<Vec<f64>, HeadError> {
        self.check_capture(captured)?;
        let area = (self.shape.side * self.shape.side) as f64;
        let gradient = match &self.path {
            Path::Linear { weight, .. } => {
                weight.row(class.index()).iter().map(|&w| f64::from(w)).collect()
            }
            Path::Hidden { first_summed, second, last, .. } => {
                let through = |gradient: Vec<f64>, pre_activation: &[f32]| -> Vec<f64> {
                    let open = gradient.into_iter().zip(pre_activation);
                    open.map(|(g, &z)| if z > 0.0 { g } else { 0.0 }).collect()
                };
                let last = last.row(class.index()).iter().map(|&w| f64::from(w)).collect();
                let at_second = through(last, &captured.hidden[1]);
                let at_first = through(second.weighted_rows(&at_second), &captured.hidden[0]);
                first_summed.weighted_rows(&at_first)
            }
        };
        Ok(gradient.into_iter().map(|g| g / area).collect())
    }

    /// Mean of every channel.
    pub fn pooled(&self, features: &[f32]) -> Vec<f64> {
        let area = self.shape.side * self.shape.side;
        let sum = |channel: &[f32]| channel.iter().fold(0.0, |s, &v| s + f64::from(v));
        features.chunks_exact(area).map(|channel| sum(channel) / area as f64).collect()
    }

    fn check_capture(&self, captured: Captured<'_>) -> Result<(), HeadError> {
        let CamShape { channels, side } = self.shape;
        check("captured layer", captured.features.len(), channels * side * side)?;
        if let Path::Hidden { first_summed, second, .. } = &self.path {
            check("captured hidden layers", captured.hidden.len(), 2)?;
            check("first hidden layer", captured.hidden[0].len(), first_summed.rows)?;
            check("second hidden layer", captured.hidden[1].len(), second.rows)?;
        }
        Ok(())
    }
}

fn check(what: &'static str, found: usize, expected: usize) -> Result<(), HeadError> {
    if found == expected { Ok(()) } else { Err(HeadError::Length { what, found, expected }) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::label::Class;

    /// Two channels of 2x2, weights that tell them apart.
    pub(crate) fn small() -> Head {
        let weight = Matrix::new("w", 3, 2, vec![1.0, -1.0, 0.5, 2.0, 0.0, 0.25]).expect("fits");
        let shape = CamShape { channels: 2, side: 2 };
        Head::new(shape, Path::Linear { weight, bias: vec![0.1, -0.2, 0.3] }).expect("fits")
    }

    #[test]
    fn linear_logits_and_weights() {
        let features = [1.0, 2.0, 3.0, 2.0, 0.0, 4.0, 0.0, 0.0];
        let captured = Captured { features: &features, hidden: &[] };
        let logits = small().logits(captured).expect("fits");
        assert_eq!(logits, [1.1, 2.8, 0.55]);
        let weights = small().channel_weights(Class::Scoliosis, captured).expect("fits");
        assert_eq!(weights, [0.125, 0.5]);
    }

    #[test]
    fn a_closed_unit_passes_no_gradient() {
        let matrix = |rows, columns, values: &[f32]| {
            Matrix::new("m", rows, columns, values.to_vec()).expect("fits")
        };
        let path = Path::Hidden {
            first_summed: matrix(2, 1, &[4.0, 8.0]),
            second: matrix(2, 2, &[1.0, 1.0, 0.0, 3.0]),
            last: matrix(3, 2, &[1.0, 1.0, 0.0, 1.0, 2.0, 0.0]),
            bias: vec![0.0; 3],
        };
        let head = Head::new(CamShape { channels: 1, side: 2 }, path).expect("fits");
        let hidden = [vec![1.0, -1.0], vec![2.0, 5.0]];
        let captured = Captured { features: &[0.0; 4], hidden: &hidden };
        assert_eq!(head.channel_weights(Class::Normal, captured).expect("fits"), [1.0]);
        assert_eq!(head.logits(captured).expect("fits"), [7.0, 5.0, 4.0]);
    }

    #[test]
    fn a_wrong_shape_is_refused() {
        let captured = Captured { features: &[0.0; 7], hidden: &[] };
        assert!(matches!(small().logits(captured), Err(HeadError::Length { found: 7, .. })));
    }
}
