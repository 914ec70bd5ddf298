//! `cargo xtask fleet`: how far a bad update gets in a fleet before it is stopped, by simulation.
//!
//! The rule of `xtask/fleet.md` ([`stop`], on [`binomial`]) against what an update server does by
//! itself, in many random roll-outs ([`rollout`]) of good and bad updates ([`scenario`]);
//! [`report`] and [`chart`] show what came out. No board is touched.

mod binomial;
mod chart;
mod report;
mod rollout;
mod scenario;
mod stop;

use std::fs;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;

use report::{Report, Row, Setting};
use rollout::{Outcome, Rule, roll_out};
use scenario::{Fate, Fleet, Scenario, draw};
use stop::StopRule;

/// Failed boards of a wave at which the comparison's fixed rule stops.
const FIXED_SHARE: f64 = 0.1;
/// The share of its own type that an update fails on which fails on one type alone.
const ON_ONE_TYPE: f64 = 0.5;

/// Command line of the simulation; shares are in percent.
#[derive(clap::Args)]
pub struct Arguments {
    /// Boards in the fleet
    #[arg(long, value_name = "N", default_value_t = 5000,
          value_parser = clap::value_parser!(u32).range(100..=100_000))]
    boards: u32,
    /// Share of the boards that a bad update fails on
    #[arg(long, value_name = "P", default_value = "10", value_parser = share)]
    faulty: f64,
    /// Share of the boards that fail with any update
    #[arg(long, value_name = "P", default_value = "0.5", value_parser = share)]
    background: f64,
    /// Share of the boards that a wave finds absent
    #[arg(long, value_name = "P", default_value = "15", value_parser = share)]
    absent: f64,
    /// Shares of the types of board
    #[arg(long, value_name = "P,P", value_delimiter = ',', default_value = "60,30,10",
          value_parser = share)]
    types: Vec<f64>,
    /// Share of the fleet at the end of each wave
    #[arg(long, value_name = "P,P", value_delimiter = ',', default_value = "4,10,30,100",
          value_parser = share)]
    waves: Vec<f64>,
    /// Share of failures that is no reason to stop
    #[arg(long, value_name = "P", default_value = "1", value_parser = share)]
    acceptable: f64,
    /// Share of failures at which an update must be stopped
    #[arg(long, value_name = "P", default_value = "4", value_parser = share)]
    intolerable: f64,
    /// Largest probability to stop an acceptable update
    #[arg(long, value_name = "P", default_value = "1", value_parser = share)]
    false_stop: f64,
    /// Largest probability that luck opens the gate of a wave for an intolerable update
    #[arg(long, value_name = "P", default_value = "5", value_parser = share)]
    false_go: f64,
    /// Roll-outs for each update and rule
    #[arg(long, value_name = "R", default_value_t = 200,
          value_parser = clap::value_parser!(u32).range(20..=100_000))]
    runs: u32,
    /// Where randomness begins; the same seed gives the same answer
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Save a chart of the boards touched, as SVG
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
}

fn share(percent: &str) -> Result<f64, String> {
    let percent: f64 = percent.parse().map_err(|_| "is no number".to_owned())?;
    if percent > 0.0 && percent <= 100.0 {
        Ok(percent / 100.0)
    } else {
        Err("is no share: above 0, up to 100".to_owned())
    }
}

/// Simulates and prints.
///
/// # Errors
/// When the shares contradict each other, or the rule does not keep its promises.
pub fn run(arguments: &Arguments) -> Result<()> {
    let report = simulate(setting(arguments)?);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    if let Some(file) = &arguments.chart {
        fs::write(file, chart::svg(&report))
            .with_context(|| format!("cannot save {}", file.display()))?;
    }
    let broken = report.broken_promises();
    if !broken.is_empty() {
        bail!("the stop rule does not keep its promises: {}", broken.join("; "));
    }
    Ok(())
}

fn setting(arguments: &Arguments) -> Result<Setting> {
    let Arguments { boards, background, absent, acceptable, intolerable, .. } = *arguments;
    ensure!(
        background <= acceptable && acceptable < intolerable && intolerable < 1.0,
        "the background rate may not be above the acceptable, nor that above the intolerable one"
    );
    let types = arguments.types.clone();
    ensure!((types.iter().sum::<f64>() - 1.0).abs() < 1e-6, "the types do not add up to 100 %");
    let waves = &arguments.waves;
    let is_rising = waves.is_sorted_by(|a, b| a < b);
    ensure!(is_rising && waves.last() == Some(&1.0), "waves must rise, and end at 100");
    let rule = StopRule {
        acceptable,
        intolerable,
        false_stop: arguments.false_stop,
        false_go: arguments.false_go,
    };
    let first = (waves[0] * f64::from(boards)).round() as u32;
    let least = rule.smallest_wave();
    ensure!(
        first >= least,
        "the first wave has {first} boards, and cannot decide with less than {least}: make it larger"
    );
    let fleet = Fleet { boards, types, absent, background };
    let (seed, runs) = (arguments.seed, arguments.runs);
    Ok(Setting { fleet, waves: waves.clone(), rule, faulty: arguments.faulty, runs, seed })
}

/// Good and bad updates, from harmless to treacherous.
fn scenarios(setting: &Setting) -> Vec<Scenario> {
    let Setting { fleet, rule, faulty, .. } = setting;
    // What the update adds to bad luck, to reach a rate.
    let beyond = |rate: f64| ((rate - fleet.background) / (1.0 - fleet.background)).max(0.0);
    let is_bad = match *faulty {
        share if share >= rule.intolerable => Some(true),
        share if share <= beyond(rule.acceptable) => Some(false),
        _ => None,
    };
    let rarest = (0..fleet.types.len()).min_by(|&a, &b| fleet.types[a].total_cmp(&fleet.types[b]));
    let scenario = |name, share, only, shows, is_bad| Scenario { name, share, only, shows, is_bad };
    vec![
        scenario("good", 0.0, None, Fate::Good, Some(false)),
        scenario("just acceptable", beyond(rule.acceptable), None, Fate::FallsBack, Some(false)),
        scenario("just intolerable", beyond(rule.intolerable), None, Fate::FallsBack, Some(true)),
        scenario("bad", *faulty, None, Fate::FallsBack, is_bad),
        scenario("bad on one type", ON_ONE_TYPE, rarest, Fate::FallsBack, Some(true)),
        scenario("bad and silent", *faulty, None, Fate::Mute, is_bad),
        scenario("bad after days", *faulty, None, Fate::Late, is_bad),
    ]
}

fn simulate(setting: Setting) -> Report {
    let rules = [
        ("ours", Rule::Sequential(setting.rule)),
        ("10 % of a wave", Rule::Share(FIXED_SHARE)),
        ("none", Rule::Unwatched),
    ];
    let units = |share: f64| (share * f64::from(setting.fleet.boards)).round() as usize;
    let waves: Vec<usize> = setting.waves.iter().map(|share| units(*share)).collect();
    let mut rows = Vec::new();
    for scenario in scenarios(&setting) {
        let runs = parallel(setting.runs, |run| {
            // The same fleet for every rule, and for every scenario as far as it can be.
            let seed = setting.seed.wrapping_mul(1 << 32).wrapping_add(u64::from(run));
            let units = draw(&setting.fleet, &scenario, &mut Rng::with_seed(seed));
            rules.map(|(_, rule)| roll_out(&units, &waves, setting.fleet.types.len(), rule))
        });
        for (place, (rule, _)) in rules.into_iter().enumerate() {
            let outcomes: Vec<Outcome> = runs.iter().map(|outcomes| outcomes[place]).collect();
            rows.extend(Row::of(&scenario, rule, &outcomes));
        }
    }
    Report { setting, rows }
}

/// `work` for each number below `count`, on all cores; the results in order.
fn parallel<T: Send>(count: u32, work: impl Fn(u32) -> T + Sync) -> Vec<T> {
    let cores = thread::available_parallelism().map_or(1, usize::from) as u32;
    let part = count.div_ceil(cores).max(1);
    thread::scope(|scope| {
        let starts = (0..count).step_by(part as usize);
        let work = &work;
        let run = |start| move || (start..count.min(start + part)).map(work).collect();
        let parts: Vec<thread::ScopedJoinHandle<Vec<T>>> =
            starts.map(|start| scope.spawn(run(start))).collect();
        let join = |part: thread::ScopedJoinHandle<Vec<T>>| {
            part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        parts.into_iter().flat_map(join).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn set(line: &str) -> Result<Setting> {
        let line = Line::try_parse_from(format!("fleet {line}").split_whitespace())?;
        setting(&line.arguments)
    }

    fn small(seed: u32) -> Report {
        simulate(set(&format!("--boards 500 --waves 20,100 --runs 20 --seed {seed}")).unwrap())
    }

    #[test]
    fn shares_that_contradict_each_other_are_refused() {
        for line in [
            "--background 2",
            "--acceptable 5",
            "--types 50,40",
            "--waves 10,5,100",
            "--waves 10,50",
            "--boards 1000",
            "--faulty 0",
            "--faulty 101",
            "--faulty many",
        ] {
            assert!(set(line).is_err(), "{line}");
        }
        assert!(set("--boards 1000 --waves 10,100").is_ok());
    }

    #[test]
    fn the_same_seed_gives_the_same_report() {
        let (one, same, other) = (small(1), small(1), small(2));
        assert_eq!(one.rows, same.rows);
        assert_ne!(one.rows, other.rows);
    }

    #[test]
    fn the_rule_keeps_its_promises_where_the_naive_ones_do_not() {
        let report = small(1);
        assert_eq!(report.broken_promises(), [""; 0]);
        let row = |scenario: &str, rule: &str| {
            report.rows.iter().find(|row| row.scenario == scenario && row.rule == rule).unwrap()
        };
        for scenario in ["bad", "bad on one type", "bad and silent"] {
            let (ours, none) = (row(scenario, "ours"), row(scenario, "none"));
            assert!(ours.stopped == 20 && none.stopped == 0, "{scenario}");
            assert!(ours.touched.median * 3.0 < none.touched.median, "{scenario}");
        }
        assert_eq!(row("good", "ours").stopped, 0);
        assert_eq!(row("bad on one type", "10 % of a wave").stopped, 0);
    }

    #[test]
    fn parallel_results_are_in_order() {
        for count in [0, 1, 2, 7] {
            assert_eq!(parallel(count, |i| i * i), (0..count).map(|i| i * i).collect::<Vec<_>>());
        }
    }
}
