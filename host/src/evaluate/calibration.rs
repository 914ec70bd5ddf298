//! How far a network's probabilities can be taken at their word.

use models::logits::probabilities;
use serde::{Deserialize, Serialize};

use super::prediction::Prediction;

/// Bins of the calibration error.
pub const BINS: usize = 15;
/// Smallest and largest temperature searched.
pub const TEMPERATURES: [f64; 2] = [0.05, 20.0];

/// The temperature that makes pooled held-out logits most likely (Guo et al. 2017).
///
/// It is judged on the predictions it was fitted to, which flatters it a little: it is one number
/// for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Temperature {
    /// Logits are divided by it.
    pub value: f64,
    /// Whether the search ended at a bound of [`TEMPERATURES`]: then there is no best value, as
    /// when every prediction is right.
    pub at_bound: bool,
    /// Log loss after dividing, in nats.
    pub log_loss: f64,
    /// Expected calibration error after dividing.
    pub expected_calibration_error: f64,
}

impl Temperature {
    /// Fits by golden-section search over the logarithm of the temperature; the log loss has one
    /// minimum there, being convex in the temperature's inverse.
    pub fn fit(predictions: &[Prediction]) -> Self {
        let [low, high] = TEMPERATURES.map(f64::ln);
        let best = golden_section(low, high, |t| log_loss(predictions, t.exp()));
        let edge = 1e-4 * (high - low);
        let value = best.exp();
        Self {
            value,
            at_bound: best - low < edge || high - best < edge,
            log_loss: log_loss(predictions, value),
            expected_calibration_error: expected_calibration_error(predictions, value),
        }
    }
}

/// Mean negative logarithm of the true class's probability, in nats; 0 of no predictions.
pub fn log_loss(predictions: &[Prediction], temperature: f64) -> f64 {
    mean(predictions.iter().map(|prediction| {
        let scaled = prediction.logits.map(|logit| f64::from(logit) / temperature);
        let most = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scaled.iter().map(|logit| (logit - most).exp()).sum();
        sum.ln() + most - scaled[prediction.class.index()]
    }))
}

/// Mean distance between confidence and accuracy over [`BINS`] bins of equal width, weighted by
/// the predictions in them (Guo et al. 2017). A bin is open below and closed above.
pub fn expected_calibration_error(predictions: &[Prediction], temperature: f64) -> f64 {
    let mut bins = [(0.0, 0.0); BINS];
    for prediction in predictions {
        let probabilities = probabilities(&prediction.logits, temperature);
        let confidence = probabilities[prediction.predicted().index()];
        let bin = (confidence * BINS as f64).ceil() as usize;
        let bin = &mut bins[bin.clamp(1, BINS) - 1];
        bin.0 += confidence;
        bin.1 += f64::from(u8::from(prediction.predicted() == prediction.class));
    }
    let gaps: f64 = bins.iter().map(|(confidence, right)| (confidence - right).abs()).sum();
    gaps / predictions.len().max(1) as f64
}

/// Where `f`, with one minimum in `low..high`, is smallest.
fn golden_section(mut low: f64, mut high: f64, f: impl Fn(f64) -> f64) -> f64 {
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut left, mut right) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_left, mut at_right) = (f(left), f(right));
    while high - low > 1e-9 {
        if at_left <= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - ratio * (high - low);
            at_left = f(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + ratio * (high - low);
            at_right = f(right);
        }
    }
    (low + high) / 2.0
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    values.sum::<f64>() / n
}

#[cfg(test)]
mod tests {
    use super::*;
    use models::label::{COUNT, Class};

    fn prediction(class: Class, logits: [f32; COUNT]) -> Prediction {
        Prediction { id: String::new(), class, fold: 0, logits }
    }

    #[test]
    fn huge_logits_stay_finite() {
        let sure = prediction(Class::Normal, [-1e30, 1e30, 0.0]);
        assert!(log_loss(&[sure], 1.0).is_finite());
    }

    /// Three of four right at logits 0 and 3: the best temperature makes the probability 3/4.
    #[test]
    fn the_temperature_matches_a_solved_case() {
        let far = -1e4;
        let wrong = prediction(Class::Normal, [0.0, 3.0, far]);
        let right = prediction(Class::Scoliosis, [0.0, 3.0, far]);
        let fitted = Temperature::fit(&[wrong, right.clone(), right.clone(), right]);
        assert!((fitted.value - 3.0 / 3f64.ln()).abs() < 1e-6, "{fitted:?}");
        assert!(!fitted.at_bound);
        assert!(fitted.expected_calibration_error < 1e-6);
    }

    #[test]
    fn without_errors_there_is_no_best_temperature() {
        let right = prediction(Class::Scoliosis, [0.0, 3.0, 1.0]);
        assert!(Temperature::fit(&[right]).at_bound);
    }

    #[test]
    fn calibration_error_is_the_weighted_gap() {
        // Confidence 0.5 (two images, one right) and 0.8 (two images, both right).
        let half = |class| prediction(class, [0.0, 0.0, -1e4]);
        let sure = prediction(Class::Normal, [4f32.ln(), 0.0, -1e4]);
        let set = [half(Class::Normal), half(Class::Scoliosis), sure.clone(), sure];
        assert!((expected_calibration_error(&set, 1.0) - 0.1).abs() < 1e-6);
    }
}
