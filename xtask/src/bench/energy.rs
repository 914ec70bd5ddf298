//! Energy that a machine's own meters count, where it has any.
//!
//! - Counters: Linux powercap (RAPL of Intel and AMD processors), one for each package.
//! - Power sensors: TI's INA chips under hwmon, as on Jetson boards, sampled while work runs.
//!
//! Both see the whole package or board, with what it would use at rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::paths::entries;

const SAMPLING: Duration = Duration::from_millis(20);

/// The meters of a machine.
#[derive(Debug, PartialEq)]
pub enum Meter {
    /// Micro-joules counted up, with the value each counter wraps around at.
    Counters(Vec<(PathBuf, u64)>),
    /// Rails whose power is known at each moment.
    Sensors(Vec<Rail>),
}

/// Files that tell a rail's power.
#[derive(Debug, PartialEq)]
pub enum Rail {
    /// Micro-watts.
    Power(PathBuf),
    /// Millivolts and milliamperes.
    Product(PathBuf, PathBuf),
}

impl Meter {
    /// The meters below `sys` (`/sys`, but for tests) that this process may read.
    pub fn find(sys: &Path) -> Option<Meter> {
        let counters = counters(&sys.join("class/powercap"));
        if !counters.is_empty() {
            return Some(Meter::Counters(counters));
        }
        let rails = rails(&sys.join("class/hwmon"));
        (!rails.is_empty()).then_some(Meter::Sensors(rails))
    }

    /// Does the work; also the joules it took, where the meters answered throughout.
    pub fn measure<T>(&self, work: impl FnOnce() -> T) -> (T, Option<f64>) {
        match self {
            Meter::Counters(counters) => {
                let before = count(counters);
                let result = work();
                let after = count(counters);
                (result, before.zip(after).map(|(b, a)| joules_between(&b, &a, counters)))
            }
            Meter::Sensors(rails) => integrated(rails, work),
        }
    }
}

fn counters(folder: &Path) -> Vec<(PathBuf, u64)> {
    let zones = entries(folder).unwrap_or_default();
    // `intel-rapl:0` is a package; `intel-rapl:0:0`, a part of it, would count twice.
    let is_package = |zone: &PathBuf| {
        let name = zone.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        name.matches(':').count() == 1
    };
    let counter = |zone: PathBuf| {
        let file = zone.join("energy_uj");
        number(&file)?;
        Some((file, number(&zone.join("max_energy_range_uj"))? as u64))
    };
    zones.into_iter().filter(is_package).filter_map(counter).collect()
}

fn count(counters: &[(PathBuf, u64)]) -> Option<Vec<u64>> {
    counters.iter().map(|(file, _)| number(file).map(|n| n as u64)).collect()
}

fn joules_between(before: &[u64], after: &[u64], counters: &[(PathBuf, u64)]) -> f64 {
    let pairs = before.iter().zip(after).zip(counters);
    let used = pairs.map(|((&b, &a), &(_, range))| if a >= b { a - b } else { range - b + a });
    used.sum::<u64>() as f64 / 1e6
}

/// The rails of all INA chips; where one is labelled as the board's input, that one alone.
fn rails(folder: &Path) -> Vec<Rail> {
    let mut all = Vec::new();
    for chip in entries(folder).unwrap_or_default() {
        if text(&chip.join("name")).is_some_and(|name| name.starts_with("ina")) {
            all.extend((1..=8).filter_map(|channel| rail(&chip, channel)));
        }
    }
    match all.iter().position(|(label, _)| label == "VDD_IN") {
        Some(input) => vec![all.swap_remove(input).1],
        None => all.into_iter().map(|(_, rail)| rail).collect(),
    }
}

/// A channel's label and rail. INA2xx chips have one power; INA3221 has voltages and currents.
fn rail(chip: &Path, channel: u8) -> Option<(String, Rail)> {
    let label = text(&chip.join(format!("in{channel}_label"))).unwrap_or_default();
    let power = chip.join(format!("power{channel}_input"));
    let (voltage, current) =
        (chip.join(format!("in{channel}_input")), chip.join(format!("curr{channel}_input")));
    let rail = if power.exists() { Rail::Power(power) } else { Rail::Product(voltage, current) };
    watts(&rail).map(|_| (label, rail))
}

fn watts(rail: &Rail) -> Option<f64> {
    match rail {
        Rail::Power(file) => Some(number(file)? / 1e6),
        Rail::Product(voltage, current) => Some(number(voltage)? * number(current)? / 1e6),
    }
}

/// Mean power of samples taken while the work runs, times its duration.
fn integrated<T>(rails: &[Rail], work: impl FnOnce() -> T) -> (T, Option<f64>) {
    let total = || rails.iter().map(watts).sum::<Option<f64>>();
    thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        let sampler = scope.spawn(move || {
            let mut samples = vec![total()];
            while stopped.recv_timeout(SAMPLING) == Err(RecvTimeoutError::Timeout) {
                samples.push(total());
            }
            samples.into_iter().collect::<Option<Vec<f64>>>()
        });
        let start = Instant::now();
        let result = work();
        let seconds = start.elapsed().as_secs_f64();
        drop(stop);
        let samples = sampler.join().ok().flatten();
        let joules = samples.map(|s| s.iter().sum::<f64>() / s.len() as f64 * seconds);
        (result, joules)
    })
}

fn text(file: &Path) -> Option<String> {
    Some(fs::read_to_string(file).ok()?.trim().to_owned())
}

fn number(file: &Path) -> Option<f64> {
    text(file)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sys(files: &[(&str, &str)]) -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let file = sys.path().join("class").join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{content}\n")).unwrap();
        }
        sys
    }

    #[test]
    fn a_machine_without_meters_has_none() {
        assert_eq!(Meter::find(sys(&[]).path()), None);
        let fan = sys(&[("hwmon/hwmon0/name", "pwmfan"), ("hwmon/hwmon0/power1_input", "1")]);
        assert_eq!(Meter::find(fan.path()), None);
    }

    #[test]
    fn packages_are_counted_without_their_parts_and_over_a_wrap() {
        let sys = sys(&[
            ("powercap/intel-rapl/enabled", "1"),
            ("powercap/intel-rapl:0/energy_uj", "9000000"),
            ("powercap/intel-rapl:0/max_energy_range_uj", "10000000"),
            ("powercap/intel-rapl:0:0/energy_uj", "5"),
            ("powercap/intel-rapl:0:0/max_energy_range_uj", "10000000"),
        ]);
        let meter = Meter::find(sys.path()).unwrap();
        let counter = sys.path().join("class/powercap/intel-rapl:0/energy_uj");
        let (result, joules) = meter.measure(|| fs::write(&counter, "500000\n").is_ok());
        assert!(result);
        assert_eq!(joules, Some(1.5));
        let (_, joules) = meter.measure(|| fs::remove_file(&counter).is_ok());
        assert_eq!(joules, None);
    }

    #[test]
    fn the_boards_input_stands_for_its_rails() {
        let chip = |channel: &str| format!("hwmon/hwmon1/{channel}");
        let names = ["name", "in1_label", "in1_input", "curr1_input", "in2_input", "curr2_input"];
        let values = ["ina3221", "VDD_IN", "5000", "2000", "1000", "1000"];
        let files: Vec<_> = names.iter().map(|n| chip(n)).zip(values).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(f, v)| (f.as_str(), *v)).collect();
        let sys = sys(&files);
        let Some(Meter::Sensors(rails)) = Meter::find(sys.path()) else { panic!("no sensors") };
        assert_eq!(rails.iter().map(watts).collect::<Vec<_>>(), [Some(10.0)]);
        let start = Instant::now();
        let (_, joules) = Meter::Sensors(rails).measure(|| ());
        assert!(joules.unwrap() <= 10.0 * start.elapsed().as_secs_f64());
    }

    #[test]
    fn without_a_known_input_all_rails_count() {
        let sys = sys(&[("hwmon/hwmon0/name", "ina226"), ("hwmon/hwmon0/power1_input", "2500000")]);
        let Some(Meter::Sensors(rails)) = Meter::find(sys.path()) else { panic!("no sensors") };
        assert_eq!(rails.iter().map(watts).collect::<Vec<_>>(), [Some(2.5)]);
    }
}
