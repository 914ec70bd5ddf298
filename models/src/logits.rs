//! What a vector of logits says: the likeliest class and the probabilities.

use crate::label::{COUNT, Class};

/// The class with the largest logit; among equals the first in [`Class::ALL`].
pub fn likeliest(logits: &[f32; COUNT]) -> Class {
    let mut best = Class::Normal;
    for class in Class::ALL {
        if logits[class.index()] > logits[best.index()] {
            best = class;
        }
    }
    best
}

/// Probabilities of the classes: softmax of the logits divided by `temperature` (Guo et al. 2017,
/// arXiv 1706.04599). Their last bits depend on the platform's `exp`.
pub fn probabilities(logits: &[f32; COUNT], temperature: f64) -> [f64; COUNT] {
    let scaled = logits.map(|logit| f64::from(logit) / temperature);
    let largest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers = scaled.map(|logit| (logit - largest).exp());
    let sum: f64 = powers.iter().sum();
    powers.map(|power| power / sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_go_to_the_first_class() {
        assert_eq!(likeliest(&[0.5, 2.0, 2.0]), Class::Scoliosis);
        assert_eq!(likeliest(&[0.0, 0.0, 0.0]), Class::Normal);
        assert_eq!(likeliest(&[-1.0, -2.0, 3.0]), Class::Spondylolisthesis);
    }

    #[test]
    fn probabilities_sum_to_one_and_follow_the_temperature() {
        let p = probabilities(&[1.0, 2.0, 3.0], 2.0);
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((p[2] / p[1] - 0.5f64.exp()).abs() < 1e-12);
    }

    #[test]
    fn huge_logits_stay_finite() {
        assert_eq!(probabilities(&[-1e30, 1e30, 0.0], 1.0), [0.0, 1.0, 0.0]);
    }
}
