//! A fleet of boards and what an update does to them, drawn at random.

use fastrand::Rng;
use serde::Serialize;

/// Minutes.
pub const HOUR: u32 = 60;
/// Minutes.
pub const DAY: u32 = 24 * HOUR;

/// Boards ask for work within so many minutes when they are on the network.
const POLLING: f64 = 8.0 * HOUR as f64;
/// Mean time until an absent board is back, and the longest, in minutes.
const ABSENCE: f64 = 14.0 * DAY as f64;
const LONGEST_ABSENCE: f64 = 120.0 * DAY as f64;
/// Of those that fail by bad luck, so many are not heard of again.
const MUTE_BY_LUCK: f64 = 0.2;

/// The boards before the update.
#[derive(Clone, Debug, Serialize)]
pub struct Fleet {
    /// How many.
    pub boards: u32,
    /// Share of each type of board; they add up to 1.
    pub types: Vec<f64>,
    /// Share that is not on the network when its wave begins.
    pub absent: f64,
    /// Share that fails with any update: power cuts, worn-out cards, lost links.
    pub background: f64,
}

/// An update.
#[derive(Clone, Debug, Serialize)]
pub struct Scenario {
    /// A few words.
    pub name: &'static str,
    /// Share of the boards that fail because of it.
    pub share: f64,
    /// The only type of board it fails on, where it is one.
    pub only: Option<usize>,
    /// How a failure shows.
    pub shows: Fate,
    /// Whether it must be stopped; absent where either is right.
    pub is_bad: Option<bool>,
}

/// What becomes of a board that began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It works.
    Good,
    /// It is back in its old slot and says so.
    FallsBack,
    /// It is not heard of again.
    Mute,
    /// It says that it works, and fails days later.
    Late,
}

/// A board with its future, which does not depend on the rule that watches.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its type, as a place in [`Fleet::types`].
    pub kind: usize,
    /// Minutes from its wave's beginning to its own.
    pub wakes: u32,
    /// Minutes from its beginning to its first answer.
    pub answers: u32,
    /// Minutes from its beginning to a late failure.
    pub breaks: u32,
    /// What becomes of it.
    pub fate: Fate,
}

/// The boards in the order in which waves take them: every part of it has all types.
pub fn draw(fleet: &Fleet, scenario: &Scenario, rng: &mut Rng) -> Vec<Unit> {
    let mut order: Vec<(f64, usize)> = Vec::new();
    for (kind, share) in fleet.types.iter().enumerate() {
        let count = (share * f64::from(fleet.boards)).round().max(1.0);
        order.extend((0..count as u32).map(|rank| ((f64::from(rank) + 0.5) / count, kind)));
    }
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    order.into_iter().map(|(_, kind)| unit(kind, fleet, scenario, rng)).collect()
}

/// Takes as many random numbers for every board, so that scenarios meet the same fleet.
fn unit(kind: usize, fleet: &Fleet, scenario: &Scenario, rng: &mut Rng) -> Unit {
    let [absent, absence, polling, luck, mute, fault, answer, breaks] = [(); 8].map(|()| rng.f64());
    let away = (-ABSENCE * (-absence).ln_1p()).min(LONGEST_ABSENCE);
    let away = if absent < fleet.absent { away } else { 0.0 };
    let is_hit = scenario.only.is_none_or(|only| only == kind) && fault < scenario.share;
    let fate = match (luck < fleet.background, is_hit) {
        (true, _) if mute < MUTE_BY_LUCK => Fate::Mute,
        (true, _) => Fate::FallsBack,
        (false, true) => scenario.shows,
        (false, false) => Fate::Good,
    };
    // A fall-back takes the attempts of the new slot, too.
    let (soonest, latest) = if fate == Fate::FallsBack { (30.0, 120.0) } else { (10.0, 40.0) };
    Unit {
        kind,
        wakes: (away + POLLING * polling) as u32,
        answers: (soonest + (latest - soonest) * answer) as u32,
        breaks: DAY + (4.0 * f64::from(DAY) * breaks) as u32,
        fate,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn fleet() -> Fleet {
        Fleet { boards: 2000, types: vec![0.6, 0.3, 0.1], absent: 0.15, background: 0.005 }
    }

    pub fn scenario(share: f64, only: Option<usize>, shows: Fate) -> Scenario {
        Scenario { name: "test", share, only, shows, is_bad: None }
    }

    fn share(units: &[Unit], test: impl Fn(&Unit) -> bool) -> f64 {
        units.iter().filter(|unit| test(unit)).count() as f64 / units.len() as f64
    }

    #[test]
    fn every_part_of_the_fleet_has_every_type() {
        let good = scenario(0.0, None, Fate::Good);
        let units = draw(&fleet(), &good, &mut Rng::with_seed(1));
        assert_eq!(units.len(), 2000);
        for part in units.chunks(200) {
            for (kind, expected) in [0.6, 0.3, 0.1].into_iter().enumerate() {
                assert!((share(part, |unit| unit.kind == kind) - expected).abs() < 0.02);
            }
        }
    }

    #[test]
    fn shares_are_as_described() {
        let bad = scenario(0.2, Some(1), Fate::Late);
        let units = draw(&fleet(), &bad, &mut Rng::with_seed(2));
        let late = share(&units, |unit| unit.fate == Fate::Late);
        assert!((late - 0.06).abs() < 0.02, "{late}");
        assert!(units.iter().all(|unit| unit.fate != Fate::Late || unit.kind == 1));
        let luck = share(&units, |unit| matches!(unit.fate, Fate::FallsBack | Fate::Mute));
        assert!((luck - 0.005).abs() < 0.005, "{luck}");
        let absent = share(&units, |unit| f64::from(unit.wakes) > POLLING);
        assert!((absent - 0.15).abs() < 0.04, "{absent}");
    }
}
