//! The stop rule: Wald's sequential test in its one-sided form, which only ever stops, and a gate
//! in front of each wave.
//!
//! After each failure the test asks how much likelier the reports are when the update is
//! intolerable than when it is acceptable. Under an acceptable update that ratio exceeds `1/e`
//! *ever*, however often it is looked at, with a probability of at most `e` (Ville 1939), also
//! when boards differ, as long as none fails with more than the acceptable probability.
//!
//! Failures are known sooner than successes, so a board that began and has not answered counts as
//! good in the test: that can only delay a stop, and the bound holds for the order of beginnings.
//! The gate is as careful in the other direction: it knows settled successes and all failures.

use serde::Serialize;

use super::binomial;

/// The stop rule's promises, as shares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StopRule {
    /// Failures of a good update: bad luck, not the update.
    pub acceptable: f64,
    /// From here on an update must be stopped.
    pub intolerable: f64,
    /// The largest probability to stop an acceptable update, over the whole roll-out.
    pub false_stop: f64,
    /// The largest probability that the gate opens on luck for an intolerable update.
    pub false_go: f64,
}

impl StopRule {
    /// Logarithm of how much likelier `failed` of `began` boards are when the update is
    /// intolerable.
    pub fn evidence(&self, failed: u32, began: u32) -> f64 {
        let failure = (self.intolerable / self.acceptable).ln();
        let success = (-self.intolerable).ln_1p() - (-self.acceptable).ln_1p();
        f64::from(failed) * failure + f64::from(began.saturating_sub(failed)) * success
    }

    /// Whether to stop, when as many `streams` of boards are watched: the fleet and each type.
    pub fn stops(&self, failed: u32, began: u32, streams: usize) -> bool {
        self.evidence(failed, began) >= (streams as f64 / self.false_stop).ln()
    }

    /// Whether enough boards work to begin the next wave.
    pub fn goes_on(&self, failed: u32, settled: u32) -> bool {
        binomial::upper(failed, failed + settled, self.false_go) <= self.intolerable
    }

    /// Boards that a first wave needs at least: that many without a failure open the gate.
    pub fn smallest_wave(&self) -> u32 {
        (self.false_go.ln() / (-self.intolerable).ln_1p()).ceil() as u32
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const RULE: StopRule =
        StopRule { acceptable: 0.01, intolerable: 0.04, false_stop: 0.01, false_go: 0.05 };

    /// The exact probability to stop within `boards` that each fail with `rate`: the distribution
    /// of failures among those not stopped yet, board by board.
    fn stop_probability(rate: f64, boards: u32) -> f64 {
        let mut going = vec![1.0];
        let mut stopped = 0.0;
        for began in 1..=boards {
            let mut next = vec![0.0; going.len() + 1];
            for (failed, probability) in going.iter().enumerate() {
                next[failed] += probability * (1.0 - rate);
                next[failed + 1] += probability * rate;
            }
            for (failed, probability) in next.iter_mut().enumerate() {
                if RULE.stops(failed as u32, began, 1) {
                    stopped += *probability;
                    *probability = 0.0;
                }
            }
            while next.last() == Some(&0.0) {
                next.pop();
            }
            going = next;
        }
        stopped
    }

    #[test]
    fn an_acceptable_update_is_stopped_no_oftener_than_promised() {
        let found = stop_probability(0.01, 2000);
        assert!((0.003..=0.01).contains(&found), "the bound holds and is not idle: {found}");
        assert!(stop_probability(0.005, 2000) < found);
    }

    #[test]
    fn an_intolerable_update_is_stopped_soon() {
        assert!(stop_probability(0.04, 600) > 0.9);
        assert!(stop_probability(0.1, 200) > 0.99);
        assert!(stop_probability(0.04, 600) < stop_probability(0.06, 600));
    }

    #[test]
    fn so_many_failures_in_a_row_stop_at_once() {
        // ln 100 / ln 4 is 3.3, ln 400 / ln 4 is 4.3.
        assert!(!RULE.stops(3, 3, 1) && RULE.stops(4, 4, 1));
        assert!(!RULE.stops(4, 4, 4) && RULE.stops(5, 5, 4), "more streams, more evidence");
    }

    #[test]
    fn evidence_grows_with_failures_and_shrinks_with_successes() {
        for failed in 0..20 {
            assert!(RULE.evidence(failed, 100) < RULE.evidence(failed + 1, 100));
            assert!(RULE.evidence(failed, 100) > RULE.evidence(failed, 101));
        }
        assert!(RULE.evidence(0, 0).abs() < 1e-12);
        let expected = 2.0 * 4.0_f64.ln() + 98.0 * (0.96_f64 / 0.99).ln();
        assert!((RULE.evidence(2, 100) - expected).abs() < 1e-9);
    }

    #[test]
    fn the_gate_opens_when_the_bound_is_below_intolerable() {
        // 0.96^73 is 0.0508, 0.96^74 is 0.0487.
        assert_eq!(RULE.smallest_wave(), 74);
        assert!(!RULE.goes_on(0, 73) && RULE.goes_on(0, 74));
        assert!(!RULE.goes_on(1, 73) && !RULE.goes_on(1, 110) && RULE.goes_on(1, 116));
    }
}
