//! The numbers a set of predictions is judged by.

use models::label::{COUNT, Class};
use serde::{Deserialize, Serialize};

use super::calibration::{self, Temperature};
use super::interval::Proportion;
use super::prediction::Prediction;

/// Pooled predictions in numbers; small enough for a model's card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Mean recall of the classes that occur.
    pub balanced_accuracy: f64,
    /// Mean negative logarithm of the true class's probability, in nats.
    pub log_loss: f64,
    /// Expected calibration error over 15 bins.
    pub expected_calibration_error: f64,
    /// Images by class and prediction: `confusion[true][predicted]`.
    pub confusion: [[usize; COUNT]; COUNT],
    /// Share of the images judged right.
    pub accuracy: Proportion,
    /// The temperature that fits best, and what it changes.
    pub temperature: Temperature,
    /// One entry a class, in the order of [`Class::ALL`].
    pub classes: Vec<ClassMetrics>,
}

/// One class's rates. A rate whose denominator is zero is absent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// The class.
    pub class: Class,
    /// Images of this class.
    pub images: usize,
    /// Images judged to be of this class.
    pub predicted: usize,
    /// Share of those judged to be of this class that are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<f64>,
    /// Share of this class's images that are judged so: the class's sensitivity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub f1: Option<f64>,
}

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Nothing to judge.
    #[error("there is no prediction to evaluate")]
    NoPredictions,
}

impl Metrics {
    /// Judges predictions, each image once.
    ///
    /// # Errors
    /// [`MetricsError::NoPredictions`].
    pub fn from_predictions(predictions: &[Prediction]) -> Result<Self, MetricsError> {
        if predictions.is_empty() {
            return Err(MetricsError::NoPredictions);
        }
        let confusion = confusion(predictions);
        let right = (0..COUNT).map(|c| confusion[c][c]).sum();
        Ok(Self {
            balanced_accuracy: balanced_accuracy(&confusion),
            log_loss: calibration::log_loss(predictions, 1.0),
            expected_calibration_error: calibration::expected_calibration_error(predictions, 1.0),
            confusion,
            accuracy: Proportion::new(right, predictions.len()),
            temperature: Temperature::fit(predictions),
            classes: Class::ALL.map(|class| ClassMetrics::new(class, &confusion)).to_vec(),
        })
    }
}

impl ClassMetrics {
    fn new(class: Class, confusion: &[[usize; COUNT]; COUNT]) -> Self {
        let c = class.index();
        let images: usize = confusion[c].iter().sum();
        let predicted: usize = confusion.iter().map(|row| row[c]).sum();
        let right = confusion[c][c];
        Self {
            class,
            images,
            predicted,
            precision: ratio(right, predicted),
            recall: ratio(right, images),
            f1: ratio(2 * right, images + predicted),
        }
    }
}

fn confusion(predictions: &[Prediction]) -> [[usize; COUNT]; COUNT] {
    let mut table = [[0; COUNT]; COUNT];
    for prediction in predictions {
        table[prediction.class.index()][prediction.predicted().index()] += 1;
    }
    table
}

fn balanced_accuracy(confusion: &[[usize; COUNT]; COUNT]) -> f64 {
    let recalls = Class::ALL.map(|class| ClassMetrics::new(class, confusion).recall);
    let present: Vec<f64> = recalls.into_iter().flatten().collect();
    present.iter().sum::<f64>() / present.len().max(1) as f64
}

fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictions(rows: &[(usize, [f32; COUNT])]) -> Vec<Prediction> {
        let prediction = |(n, (class, logits)): (usize, &(usize, [f32; COUNT]))| Prediction {
            id: format!("image-{n}"),
            class: Class::ALL[*class],
            fold: 0,
            logits: *logits,
        };
        rows.iter().enumerate().map(prediction).collect()
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6, "{a} is not {b}");
    }

    /// Random logits; expected values by scikit-learn 1.9.1 (`accuracy_score`,
    /// `balanced_accuracy_score`, `confusion_matrix`, `precision_recall_fscore_support`,
    /// `log_loss`) and, for the temperature, SciPy 1.17.1 (`minimize_scalar`, bounded); the
    /// calibration error by NumPy over 15 bins.
    #[test]
    fn metrics_are_scikit_learns() {
        let metrics = Metrics::from_predictions(&predictions(&[
            (0, [1.72, -0.36, 1.44]),
            (0, [0.7, 0.04, 2.32]),
            (2, [0.82, -0.76, 0.73]),
            (1, [0.81, 3.9, -0.4]),
            (0, [0.63, 1.5, -1.33]),
            (1, [-0.44, 2.32, 0.87]),
            (1, [0.14, 2.01, -4.24]),
            (0, [2.53, -1.44, -2.5]),
            (1, [0.41, 2.05, -0.67]),
            (0, [-0.61, 0.04, -0.08]),
            (1, [2.11, 2.12, 0.29]),
            (1, [1.67, 0.69, -1.39]),
            (1, [0.88, 1.87, -0.32]),
            (1, [-1.17, 1.34, -3.74]),
            (1, [1.04, 1.74, -2.46]),
            (2, [0.09, -1.45, 2.14]),
        ]))
        .expect("metrics");
        assert_eq!(metrics.confusion, [[2, 2, 1], [1, 8, 0], [1, 0, 1]]);
        close(metrics.accuracy.value, 0.6875);
        close(metrics.balanced_accuracy, 0.596_296_296_296_296_2);
        close(metrics.log_loss, 0.624_948_329_840_572_9);
        close(metrics.expected_calibration_error, 0.142_507_818_026_755_58);
        close(metrics.temperature.value, 0.961_958_335_746_261_8);
        close(metrics.temperature.log_loss, 0.624_626_566_395_298_8);
        let expected = [
            (0.5, 0.4, 0.444_444_444, 5),
            (0.8, 0.888_888_889, 0.842_105_263, 9),
            (0.5, 0.5, 0.5, 2),
        ];
        for (of, (precision, recall, f1, images)) in metrics.classes.iter().zip(expected) {
            close(of.precision.expect("defined"), precision);
            close(of.recall.expect("defined"), recall);
            close(of.f1.expect("defined"), f1);
            assert_eq!(of.images, images);
        }
    }

    #[test]
    fn rates_without_a_denominator_are_absent() {
        let rows = [(0, [1.0, 0.0, 0.0]), (1, [0.0, 1.0, 0.0]), (1, [1.0, 0.0, 0.0])];
        let metrics = Metrics::from_predictions(&predictions(&rows)).expect("metrics");
        let absent = metrics.classes[Class::Spondylolisthesis.index()];
        assert_eq!((absent.precision, absent.recall, absent.f1), (None, None, None));
        close(metrics.balanced_accuracy, 0.75);
        assert!(Metrics::from_predictions(&[]).is_err());
    }

    #[test]
    fn metrics_fit_into_a_model_card() {
        let rows = [(0, [1.0, 0.0, 0.5]), (1, [0.0, 1.0, 0.0]), (1, [1.0, 0.0, 0.0])];
        let metrics = Metrics::from_predictions(&predictions(&rows)).expect("metrics");
        let card = toml::to_string(&metrics).expect("TOML");
        assert_eq!(toml::from_str::<Metrics>(&card).expect("reads"), metrics);
    }
}
