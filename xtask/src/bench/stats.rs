//! Order statistics of a sample.

use serde::Serialize;

/// Where a sample lies and how far it spreads, in the sample's unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Smallest value.
    pub min: f64,
    /// A tenth of the values lie below.
    pub p10: f64,
    /// Half of the values lie below.
    pub median: f64,
    /// A tenth of the values lie above.
    pub p90: f64,
}

impl Spread {
    /// `None` of an empty sample.
    pub fn of(sample: &[f64]) -> Option<Spread> {
        let mut sorted = sample.to_vec();
        sorted.sort_by(f64::total_cmp);
        let min = *sorted.first()?;
        let at = |share| quantile(&sorted, share);
        Some(Spread { min, p10: at(0.1), median: at(0.5), p90: at(0.9) })
    }

    /// The same in another unit.
    pub fn scaled(self, factor: f64) -> Spread {
        let Spread { min, p10, median, p90 } = self;
        let [min, p10, median, p90] = [min, p10, median, p90].map(|value| value * factor);
        Spread { min, p10, median, p90 }
    }
}

/// Linear between the two nearest values (definition 7 of Hyndman and Fan 1996, NumPy's default);
/// `sorted` is not empty.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_numpys() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        let expected = Spread { min: 1.0, p10: 1.3, median: 2.5, p90: 3.7 };
        assert!((spread.p10 - expected.p10).abs() < 1e-12, "{spread:?}");
        assert!((spread.p90 - expected.p90).abs() < 1e-12, "{spread:?}");
        assert_eq!((spread.min, spread.median), (expected.min, expected.median));
    }

    #[test]
    fn one_value_is_all_of_its_quantiles() {
        let spread = Spread { min: 7.0, p10: 7.0, median: 7.0, p90: 7.0 };
        assert_eq!(Spread::of(&[7.0]), Some(spread));
        assert_eq!(Spread::of(&[]), None);
    }
}
