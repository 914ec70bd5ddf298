//! Which range of a tensor's values the 255 steps cover: all of it, or less of it in finer steps.

use std::fmt;

use super::affine::Affine;

/// Cells of a histogram.
const CELLS: usize = 2048;
/// Candidate ends tried on each side of zero.
const CANDIDATES: usize = 64;
/// Steps of a quantized tensor.
const STEPS: usize = 256;

/// How a range is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RangeMethod {
    /// Smallest to largest value.
    MinMax,
    /// This percentage of the values, evenly trimmed; only at the top behind a ReLU.
    Percentile(f64),
    /// Smallest mean squared error, clipping and rounding together.
    Mse,
    /// Smallest Kullback-Leibler divergence of the rounded distribution from the true one
    /// (Migacz 2017, "8-bit inference with TensorRT").
    Entropy,
}

impl fmt::Display for RangeMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RangeMethod::MinMax => f.write_str("smallest and largest value (MinMax)"),
            RangeMethod::Percentile(percent) => write!(f, "percentile {percent}"),
            RangeMethod::Mse => f.write_str("mean squared error"),
            RangeMethod::Entropy => f.write_str("entropy (Kullback-Leibler)"),
        }
    }
}

/// How often each part of a known range occurs.
#[derive(Clone, Debug)]
pub struct Histogram {
    low: f32,
    high: f32,
    counts: Vec<f64>,
}

impl Histogram {
    /// An empty histogram of a range, widened to hold zero.
    pub fn new([low, high]: [f32; 2]) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0).max(f32::MIN_POSITIVE));
        Self { low, high, counts: vec![0.0; CELLS] }
    }

    /// Counts values; those outside the range count at its ends.
    pub fn count(&mut self, values: &[f32]) {
        let per_unit = CELLS as f32 / (self.high - self.low);
        for value in values {
            let cell = ((value - self.low) * per_unit).max(0.0) as usize;
            self.counts[cell.min(CELLS - 1)] += 1.0;
        }
    }

    /// The range that a method chooses.
    pub fn range(&self, method: RangeMethod) -> [f32; 2] {
        match method {
            RangeMethod::MinMax => [self.low, self.high],
            RangeMethod::Percentile(percent) => self.percentile(percent),
            RangeMethod::Mse => self.cheapest(|range| self.squared_error(range)),
            RangeMethod::Entropy => self.cheapest(|range| self.divergence(range)),
        }
    }

    /// The value in the middle of a cell.
    fn middle(&self, cell: usize) -> f32 {
        self.low + (cell as f32 + 0.5) * self.width()
    }

    fn width(&self) -> f32 {
        (self.high - self.low) / CELLS as f32
    }

    fn percentile(&self, percent: f64) -> [f32; 2] {
        let total: f64 = self.counts.iter().sum();
        let sides = if self.low < 0.0 { 2.0 } else { 1.0 };
        let spare = total * (1.0 - percent / 100.0) / sides;
        let trimmed = |counts: &mut dyn Iterator<Item = &f64>| {
            let mut seen = 0.0;
            let keep = |c: &&f64| {
                seen += **c;
                seen <= spare
            };
            counts.take_while(keep).count() as f32 * self.width()
        };
        let high = self.high - trimmed(&mut self.counts.iter().rev());
        let low = if self.low < 0.0 { self.low + trimmed(&mut self.counts.iter()) } else { 0.0 };
        [low.min(0.0), high.max(0.0)]
    }

    /// The cheapest of a grid of ranges, each end from a part of its extreme to all of it; the
    /// widest of equals.
    fn cheapest(&self, cost: impl Fn([f32; 2]) -> f64) -> [f32; 2] {
        let part = |i: usize| (i + 1) as f32 / CANDIDATES as f32;
        // A side that holds nothing is not searched.
        let lows = if self.low < 0.0 { CANDIDATES } else { 1 };
        let mut best = (cost([self.low, self.high]), [self.low, self.high]);
        for low in (0..lows).rev() {
            for high in (0..CANDIDATES).rev() {
                let low = if self.low < 0.0 { self.low * part(low) } else { 0.0 };
                let range = [low, self.high * part(high)];
                let cost = cost(range);
                if cost < best.0 {
                    best = (cost, range);
                }
            }
        }
        best.1
    }

    /// Sum of squared errors of all counted values under a range's steps.
    fn squared_error(&self, range: [f32; 2]) -> f64 {
        let step = f64::from(Affine::covering(range).scale);
        let mut sum = 0.0;
        for (cell, count) in self.counts.iter().enumerate().filter(|(_, c)| **c > 0.0) {
            let middle = self.middle(cell);
            let beyond = f64::from((range[0] - middle).max(middle - range[1]).max(0.0));
            // Zero is exact, and a cell that holds it behind a ReLU holds little else.
            let holds_zero = middle.abs() <= self.width() * 0.5;
            let rounding = if holds_zero { 0.0 } else { step * step / 12.0 };
            sum += count * if beyond > 0.0 { beyond * beyond } else { rounding };
        }
        sum
    }

    /// Divergence of the distribution in a range's steps from the counted one. Cells beyond the
    /// range count at its ends; a step's mass is spread evenly over its occupied cells.
    fn divergence(&self, range: [f32; 2]) -> f64 {
        let (first, last) = (self.cell(range[0]), self.cell(range[1]));
        let inside = &self.counts[first..=last];
        let mut truth = inside.to_vec();
        truth[0] += self.counts[..first].iter().sum::<f64>();
        truth[last - first] += self.counts[last + 1..].iter().sum::<f64>();
        let total: f64 = truth.iter().sum();
        let kept: f64 = inside.iter().sum();
        if kept <= 0.0 {
            return f64::INFINITY;
        }
        let mut divergence = 0.0;
        let cells_per_step = inside.len() as f64 / STEPS as f64;
        let ends: Vec<usize> = if cells_per_step <= 1.0 {
            (0..=inside.len()).collect()
        } else {
            (0..=STEPS).map(|s| (s as f64 * cells_per_step).round() as usize).collect()
        };
        for step in ends.windows(2) {
            let (cells, truth) = (&inside[step[0]..step[1]], &truth[step[0]..step[1]]);
            let occupied = cells.iter().filter(|c| **c > 0.0).count().max(1);
            let even = cells.iter().sum::<f64>() / occupied as f64 / kept;
            for p in truth.iter().map(|t| t / total).filter(|p| *p > 0.0) {
                // A clipped mass over an empty cell is lost wholly; the floor keeps it finite.
                divergence += p * (p / even.max(1e-12)).ln();
            }
        }
        divergence
    }

    fn cell(&self, value: f32) -> usize {
        (((value - self.low) / self.width()) as usize).min(CELLS - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(range: [f32; 2], values: &[f32]) -> Histogram {
        let mut histogram = Histogram::new(range);
        histogram.count(values);
        histogram
    }

    /// A bell over [-1, 1] and one far outlier, as after a layer with a rare spike.
    fn bell_with_outlier(outlier: f32) -> Vec<f32> {
        let bell = (0..20_000).map(|i| {
            let u = (i as f32 + 0.5) / 20_000.0 * 2.0 - 1.0;
            u * u * u
        });
        bell.chain([outlier]).collect()
    }

    #[test]
    fn mse_equals_an_exhaustive_search_over_the_values_themselves() {
        let values: Vec<f32> = bell_with_outlier(20.0).iter().map(|v| v.abs()).collect();
        let histogram = filled([0.0, 20.0], &values);
        let [_, chosen] = histogram.range(RangeMethod::Mse);
        let error = |high: f32| -> f64 {
            let affine = Affine::covering([0.0, high]);
            let squared = |v: &f32| {
                let steps = (v / affine.scale).round().clamp(0.0, 255.0);
                f64::from(v - steps * affine.scale).powi(2)
            };
            values.iter().map(squared).sum()
        };
        let candidates = (1..=CANDIDATES).map(|i| 20.0 * i as f32 / CANDIDATES as f32);
        let best = candidates.map(error).fold(f64::INFINITY, f64::min);
        assert!(error(chosen) <= best * 1.1, "{chosen}: {} against {best}", error(chosen));
    }

    #[test]
    fn mse_clips_a_lone_outlier_only_when_that_pays() {
        let near = filled([-1.0, 1.1], &bell_with_outlier(1.1));
        assert!(near.range(RangeMethod::Mse)[1] >= 1.0);
        let many: Vec<f32> = (0..50).flat_map(|_| bell_with_outlier(0.5)).chain([8.0]).collect();
        let far = filled([-1.0, 8.0], &many);
        assert!(far.range(RangeMethod::Mse)[1] < 8.0);
    }

    #[test]
    fn a_percentile_trims_the_stated_share() {
        let values: Vec<f32> = (0..10_000).map(|i| i as f32 / 10_000.0).collect();
        let [low, high] = filled([0.0, 1.0], &values).range(RangeMethod::Percentile(99.0));
        assert_eq!(low, 0.0);
        assert!((high - 0.99).abs() < 0.002, "{high}");
        let values: Vec<f32> = values.iter().map(|v| v * 2.0 - 1.0).collect();
        let [low, high] = filled([-1.0, 1.0], &values).range(RangeMethod::Percentile(99.0));
        assert!((low + 0.99).abs() < 0.003 && (high - 0.99).abs() < 0.003, "{low} {high}");
    }

    #[test]
    fn divergence_of_a_known_histogram_is_that_by_hand() {
        // Four cells of one step: 6, 2, 0, 0 within the range, over eight values in all. Evenly
        // spread over the two occupied cells it is 1/2, 1/2, so the divergence is
        // 3/4 ln(3/2) + 1/4 ln(1/2); the other steps hold nothing.
        let mut histogram = Histogram::new([0.0, 1.0]);
        histogram.counts[4] = 6.0;
        histogram.counts[5] = 2.0;
        let expected = 0.75 * 1.5f64.ln() + 0.25 * 0.5f64.ln();
        let all = histogram.divergence([0.0, 1.0]);
        // 2048 cells over 256 steps: eight cells a step, cells 4 and 5 share the first.
        assert!((all - expected).abs() < 1e-12, "{all} and {expected}");
    }

    #[test]
    fn entropy_cuts_a_far_outlier() {
        let many: Vec<f32> = (0..50).flat_map(|_| bell_with_outlier(0.5)).chain([8.0]).collect();
        let [low, high] = filled([-1.0, 8.0], &many).range(RangeMethod::Entropy);
        assert!((-1.0..-0.5).contains(&low) && (0.5..4.0).contains(&high), "{low} {high}");
    }
}
