//! A share with its 95 % interval.

use serde::{Deserialize, Serialize};

/// The normal distribution's 97.5 % quantile.
const Z: f64 = 1.959_963_984_540_054;

/// `hits` of `of`, with Wilson's 95 % score interval (Wilson 1927).
///
/// The interval takes the cases as independent. Images of one patient are not, so the true
/// uncertainty is somewhat larger.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proportion {
    /// Cases that count.
    pub hits: usize,
    /// All cases.
    pub of: usize,
    /// `hits / of`; 0 of no cases.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Proportion {
    /// The share of `hits` in `of`; of no cases nothing is known, and the interval is 0 to 1.
    pub fn new(hits: usize, of: usize) -> Self {
        if of == 0 {
            return Self { hits, of, value: 0.0, low: 0.0, high: 1.0 };
        }
        let n = of as f64;
        let value = hits as f64 / n;
        let centre = value + Z * Z / (2.0 * n);
        let half = Z * (value * (1.0 - value) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        let (low, high) = ((centre - half) / scale, (centre + half) / scale);
        Self { hits, of, value, low: low.max(0.0), high: high.min(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `scipy.stats.binomtest(hits, of).proportion_ci(0.95, "wilson")`, SciPy 1.17.1.
    #[test]
    fn intervals_are_known_ones() {
        for (hits, of, low, high) in [
            (95, 100, 0.888_249_530_768_080_9, 0.978_456_320_845_632),
            (0, 10, 0.0, 0.277_532_799_862_889_26),
            (10, 10, 0.722_467_200_137_110_7, 1.0),
            (275, 287, 0.928_350_070_602_013, 0.975_922_659_518_424_8),
        ] {
            let share = Proportion::new(hits, of);
            assert!((share.low - low).abs() < 1e-9, "{share:?}");
            assert!((share.high - high).abs() < 1e-9, "{share:?}");
        }
        assert_eq!(Proportion::new(0, 0).high, 1.0);
    }
}
