//! What many roll-outs had in common, as a table and as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::binomial;
use super::rollout::Outcome;
use super::scenario::{DAY, Fleet, Scenario};
use super::stop::StopRule;
use crate::bench::stats::Spread;

/// Probability that a true share lies above an interval, and that it lies below.
const TAIL: f64 = 0.025;
/// Bad updates that are stopped at least.
const CAUGHT: f64 = 0.95;

/// What was simulated.
#[derive(Debug, Serialize)]
pub struct Setting {
    /// The boards.
    pub fleet: Fleet,
    /// Share of the fleet at the end of each wave.
    pub waves: Vec<f64>,
    /// The rule under test.
    pub rule: StopRule,
    /// Share of the boards that a bad update fails on.
    pub faulty: f64,
    /// Roll-outs for each update and rule.
    pub runs: u32,
    /// Where randomness began.
    pub seed: u64,
}

/// One update under one rule.
#[derive(Debug, PartialEq, Serialize)]
pub struct Row {
    /// The update.
    pub scenario: &'static str,
    /// Whether it must be stopped; absent where either is right.
    pub is_bad: Option<bool>,
    /// What watched.
    pub rule: &'static str,
    /// Roll-outs.
    pub runs: u32,
    /// Roll-outs that were stopped.
    pub stopped: u32,
    /// Their true share lies between, with 95 % confidence (Clopper and Pearson).
    pub stopped_between: (f64, f64),
    /// Boards that began with the update.
    pub touched: Spread,
    /// Boards that the update left failed, back in their old slot or not.
    pub failed: Spread,
    /// Days to the stop, or else to the beginning of the last wave.
    pub days: Spread,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What was simulated.
    pub setting: Setting,
    /// By update, then by rule.
    pub rows: Vec<Row>,
}

impl Row {
    /// Sums up; `None` without outcomes.
    pub fn of(scenario: &Scenario, rule: &'static str, outcomes: &[Outcome]) -> Option<Row> {
        let runs = outcomes.len() as u32;
        let stopped = outcomes.iter().filter(|outcome| outcome.is_stopped).count() as u32;
        let spread = |value: fn(&Outcome) -> u32| {
            Spread::of(
                &outcomes.iter().map(|outcome| f64::from(value(outcome))).collect::<Vec<_>>(),
            )
        };
        let bounds = (binomial::lower(stopped, runs, TAIL), binomial::upper(stopped, runs, TAIL));
        Some(Row {
            scenario: scenario.name,
            is_bad: scenario.is_bad,
            rule,
            runs,
            stopped,
            stopped_between: bounds,
            touched: spread(|outcome| outcome.touched)?,
            failed: spread(|outcome| outcome.failed)?,
            days: spread(|outcome| outcome.minutes)?.scaled(1.0 / f64::from(DAY)),
        })
    }
}

impl Report {
    /// A table for people.
    pub fn text(&self) -> String {
        let Setting { fleet, rule, runs, seed, .. } = &self.setting;
        let percent = |share: f64| 100.0 * share;
        let mut text = format!(
            "{} boards, {runs} roll-outs each, seed {seed}; {:.2} % fail with any update\n\
             acceptable: {:.1} % failures, stopped in at most {:.1} % of the roll-outs; \
             intolerable: {:.1} %\n\n\
             {:<17} {:<15} {:>7} {:>14} {:>16} {:>16} {:>6}\n",
            fleet.boards,
            percent(fleet.background),
            percent(rule.acceptable),
            percent(rule.false_stop),
            percent(rule.intolerable),
            "update",
            "rule",
            "stopped",
            "(95 %)",
            "touched (p90)",
            "failed (p90)",
            "days",
        );
        let mut last = "";
        for row in &self.rows {
            let name = if row.scenario == last { "" } else { row.scenario };
            last = row.scenario;
            let (low, high) = row.stopped_between;
            let with_p90 = |spread: Spread| format!("{:.0} ({:.0})", spread.median, spread.p90);
            let _ = writeln!(
                text,
                "{name:<17} {:<15} {:>5.1} % {:>14} {:>16} {:>16} {:>6.1}",
                row.rule,
                percent(f64::from(row.stopped) / f64::from(row.runs)),
                format!("({:.1} to {:.1})", percent(low), percent(high)),
                with_p90(row.touched),
                with_p90(row.failed),
                row.days.median,
            );
        }
        text.push_str(
            "\ntouched: boards that began; failed: left on the old slot, or silent; days: to the \
             stop, or to the last wave; medians\n",
        );
        text
    }

    /// Where the rule under test does worse than promised by more than luck explains.
    pub fn broken_promises(&self) -> Vec<String> {
        let ours = self.rows.iter().filter(|row| row.rule == "ours");
        let broken = ours.filter(|row| match row.is_bad {
            Some(true) => row.stopped_between.1 < CAUGHT,
            Some(false) => row.stopped_between.0 > self.setting.rule.false_stop,
            None => false,
        });
        let say =
            |row: &Row| format!("`{}` is stopped {} of {}", row.scenario, row.stopped, row.runs);
        broken.map(say).collect()
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::scenario::Fate;
    use super::super::scenario::tests::{fleet, scenario};
    use super::super::stop::tests::RULE;
    use super::*;

    /// A report on one update, stopped in so many of 100 roll-outs.
    pub fn report(is_bad: bool, stopped: u32) -> Report {
        let outcome = |run| Outcome {
            is_stopped: run < stopped,
            touched: 100 + run,
            failed: 10,
            minutes: DAY / 2,
        };
        let outcomes: Vec<Outcome> = (0..100).map(outcome).collect();
        let scenario = Scenario { is_bad: Some(is_bad), ..scenario(0.1, None, Fate::Good) };
        let rows = Row::of(&scenario, "ours", &outcomes).into_iter().collect();
        let setting = Setting {
            fleet: fleet(),
            waves: vec![1.0],
            rule: RULE,
            faulty: 0.1,
            runs: 100,
            seed: 7,
        };
        Report { setting, rows }
    }

    #[test]
    fn the_table_has_shares_medians_and_the_seed() {
        let text = report(true, 98).text();
        assert!(text.contains("seed 7"), "{text}");
        assert!(
            text.contains("98.0 % (93.0 to 99.8)        150 (189)          10 (10)    0.5"),
            "{text}"
        );
    }

    #[test]
    fn a_promise_is_broken_when_luck_does_not_explain_it() {
        assert_eq!(report(true, 93).broken_promises(), [""; 0]);
        assert_eq!(report(true, 80).broken_promises(), ["`test` is stopped 80 of 100"]);
        assert_eq!(report(false, 2).broken_promises(), [""; 0]);
        assert_eq!(report(false, 9).broken_promises(), ["`test` is stopped 9 of 100"]);
    }

    #[test]
    fn nothing_is_made_of_no_outcomes() {
        assert_eq!(Row::of(&scenario(0.1, None, Fate::Good), "ours", &[]), None);
    }
}
