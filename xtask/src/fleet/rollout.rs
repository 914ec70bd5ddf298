//! One roll-out, event by event: boards begin, answer, fall silent; waves begin; the rule stops.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::scenario::{DAY, Fate, HOUR, Unit};
use super::stop::StopRule;

/// What watches a roll-out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Nothing: the next wave begins when half of the last one says that it works.
    Unwatched,
    /// As unwatched, and stops when this share of a wave's boards says that it failed.
    Share(f64),
    /// [`StopRule`].
    Sequential(StopRule),
}

/// A success is one when it has lasted so long, in minutes.
const SOAK: u32 = DAY;
/// A board that began and is silent for so long has failed, in minutes.
const SILENCE: u32 = 3 * DAY;
/// How often the gate is looked at, in minutes.
const JUDGING: u32 = 6 * HOUR;
/// Share of a wave's boards that must have begun before the gate opens, and share of those that
/// must be known.
const QUORUM: f64 = 0.5;
const KNOWN: f64 = 0.95;

/// How a roll-out ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the rule stopped it.
    pub is_stopped: bool,
    /// Boards that began.
    pub touched: u32,
    /// Of those, the ones that the update leaves failed, known or not.
    pub failed: u32,
    /// Minutes to the stop, or to the beginning of the last wave.
    pub minutes: u32,
}

/// Rolls out to `units` in waves that end at `waves` of them.
pub fn roll_out(units: &[Unit], waves: &[usize], types: usize, rule: Rule) -> Outcome {
    let mut rollout = Rollout {
        units,
        waves,
        rule,
        events: BinaryHeap::new(),
        wave_of: vec![0; units.len()],
        is_settled: vec![false; units.len()],
        tallies: Vec::new(),
        streams: vec![Tally::default(); types + 1],
        doomed: 0,
        released: 0,
        released_at: 0,
    };
    rollout.release(0, waves[0]);
    rollout.run()
}

/// Boards counted.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    size: u32,
    began: u32,
    settled: u32,
    failed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Begins(usize),
    Settles(usize),
    Fails(usize),
    Judging,
}

struct Rollout<'a> {
    units: &'a [Unit],
    waves: &'a [usize],
    rule: Rule,
    /// With their minute, soonest first.
    events: BinaryHeap<Reverse<(u32, Event)>>,
    /// Place in `tallies` of each released unit.
    wave_of: Vec<usize>,
    is_settled: Vec<bool>,
    /// By wave, extensions included.
    tallies: Vec<Tally>,
    /// The whole fleet, then each type.
    streams: Vec<Tally>,
    /// Units that began and will not end well.
    doomed: u32,
    /// Units of the waves that began.
    released: usize,
    released_at: u32,
}

impl Rollout<'_> {
    fn run(mut self) -> Outcome {
        let mut stopped_at = None;
        while let Some(Reverse((now, event))) = self.events.pop() {
            match event {
                Event::Begins(unit) => self.begin(now, unit),
                Event::Settles(unit) => self.settle(now, unit),
                Event::Fails(unit) => {
                    self.fail(unit);
                    if self.must_stop(unit) {
                        stopped_at = Some(now);
                        break;
                    }
                }
                Event::Judging => self.judge(now),
            }
        }
        Outcome {
            is_stopped: stopped_at.is_some(),
            touched: self.streams[0].began,
            failed: self.doomed,
            minutes: stopped_at.unwrap_or(self.released_at),
        }
    }

    /// Begins a wave of the next units, up to `end`.
    fn release(&mut self, now: u32, end: usize) {
        let wave = self.released..end.min(self.units.len());
        for unit in wave.clone() {
            self.wave_of[unit] = self.tallies.len();
            self.push(now + self.units[unit].wakes, Event::Begins(unit));
        }
        self.tallies.push(Tally { size: wave.len() as u32, ..Tally::default() });
        self.released = wave.end;
        self.released_at = now;
        if matches!(self.rule, Rule::Sequential(_)) {
            self.push(now + JUDGING, Event::Judging);
        }
    }

    fn release_next(&mut self, now: u32) {
        let next = self.waves.iter().find(|end| **end > self.released);
        if let Some(&end) = next {
            self.release(now, end);
        }
    }

    fn push(&mut self, minute: u32, event: Event) {
        self.events.push(Reverse((minute, event)));
    }

    /// Changes what counts a unit: the fleet, its type, its wave.
    fn tally(&mut self, unit: usize, change: impl Fn(&mut Tally)) {
        change(&mut self.streams[0]);
        change(&mut self.streams[1 + self.units[unit].kind]);
        change(&mut self.tallies[self.wave_of[unit]]);
    }

    fn begin(&mut self, now: u32, unit: usize) {
        self.tally(unit, |tally| tally.began += 1);
        let Unit { answers, breaks, fate, .. } = self.units[unit];
        self.doomed += u32::from(fate != Fate::Good);
        let is_watched = matches!(self.rule, Rule::Sequential(_));
        let settles = if is_watched { answers.max(SOAK) } else { answers };
        match fate {
            Fate::Good => self.push(now + settles, Event::Settles(unit)),
            Fate::FallsBack => self.push(now + answers, Event::Fails(unit)),
            // Nobody else notices.
            Fate::Mute if is_watched => self.push(now + SILENCE, Event::Fails(unit)),
            Fate::Mute => {}
            Fate::Late => {
                if settles < breaks {
                    self.push(now + settles, Event::Settles(unit));
                }
                self.push(now + breaks, Event::Fails(unit));
            }
        }
    }

    fn settle(&mut self, now: u32, unit: usize) {
        self.is_settled[unit] = true;
        self.tally(unit, |tally| tally.settled += 1);
        let last = self.tallies[self.tallies.len() - 1];
        if !matches!(self.rule, Rule::Sequential(_)) && last.settled * 2 >= last.size {
            self.release_next(now);
        }
    }

    fn fail(&mut self, unit: usize) {
        let was_settled = u32::from(std::mem::take(&mut self.is_settled[unit]));
        self.tally(unit, |tally| {
            tally.failed += 1;
            tally.settled -= was_settled;
        });
    }

    /// Asked after each failure, about the streams and the wave that it belongs to.
    fn must_stop(&self, unit: usize) -> bool {
        match self.rule {
            Rule::Unwatched => false,
            Rule::Share(share) => {
                let wave = self.tallies[self.wave_of[unit]];
                f64::from(wave.failed) >= share * f64::from(wave.size)
            }
            Rule::Sequential(rule) => {
                let count = self.streams.len();
                let watched = [&self.streams[0], &self.streams[1 + self.units[unit].kind]];
                watched.iter().any(|stream| rule.stops(stream.failed, stream.began, count))
            }
        }
    }

    /// Looks at the gate: the next wave, or as many boards again while it is undecided.
    fn judge(&mut self, now: u32) {
        let Rule::Sequential(rule) = self.rule else { return };
        if self.released == self.units.len() {
            return;
        }
        let last = self.tallies[self.tallies.len() - 1];
        let known = f64::from(last.settled + last.failed);
        let has_begun = f64::from(last.began) >= QUORUM * f64::from(last.size);
        if !has_begun || known < KNOWN * f64::from(last.began) {
            self.push(now + JUDGING, Event::Judging);
        } else if rule.goes_on(self.streams[0].failed, self.streams[0].settled) {
            self.release_next(now);
        } else {
            let end = self.released + last.size as usize;
            self.release(now, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::draw;
    use super::super::scenario::tests::{fleet, scenario};
    use super::super::stop::tests::RULE;
    use super::*;
    use fastrand::Rng;

    const WAVES: [usize; 4] = [200, 400, 1000, 2000];

    fn outcome(share: f64, only: Option<usize>, shows: Fate, rule: Rule) -> Outcome {
        let units = draw(&fleet(), &scenario(share, only, shows), &mut Rng::with_seed(3));
        roll_out(&units, &WAVES, 3, rule)
    }

    #[test]
    fn a_good_update_reaches_every_board_under_any_rule() {
        for rule in [Rule::Unwatched, Rule::Share(0.1), Rule::Sequential(RULE)] {
            let outcome = outcome(0.0, None, Fate::Good, rule);
            assert!(!outcome.is_stopped && outcome.touched == 2000, "{rule:?} {outcome:?}");
            assert!(outcome.failed < 30, "{outcome:?}");
        }
    }

    #[test]
    fn a_bad_update_stays_in_the_first_wave() {
        let rule = Rule::Sequential(RULE);
        for (share, only, shows) in
            [(0.1, None, Fate::FallsBack), (0.5, Some(2), Fate::FallsBack), (0.2, None, Fate::Mute)]
        {
            let outcome = outcome(share, only, shows, rule);
            assert!(outcome.is_stopped && outcome.touched <= 200, "{shows:?} {outcome:?}");
        }
        let late = outcome(0.1, None, Fate::Late, rule);
        assert!(late.is_stopped && late.touched < 2000, "{late:?}");
    }

    #[test]
    fn without_a_rule_a_bad_update_goes_everywhere() {
        let unwatched = outcome(0.1, None, Fate::FallsBack, Rule::Unwatched);
        assert!(!unwatched.is_stopped && unwatched.touched == 2000, "{unwatched:?}");
        assert!((150..260).contains(&unwatched.failed), "{unwatched:?}");
    }

    #[test]
    fn silence_is_unheard_by_a_share_of_reports() {
        assert!(!outcome(0.3, None, Fate::Mute, Rule::Share(0.1)).is_stopped);
    }

    #[test]
    fn an_outcome_depends_on_the_seed_alone() {
        let again = || outcome(0.03, None, Fate::FallsBack, Rule::Sequential(RULE));
        assert_eq!(again(), again());
    }

    #[test]
    fn worse_updates_are_stopped_sooner() {
        let touched = |share| outcome(share, None, Fate::FallsBack, Rule::Sequential(RULE)).touched;
        assert!(touched(0.5) < touched(0.1) && touched(0.1) < touched(0.0));
    }
}
