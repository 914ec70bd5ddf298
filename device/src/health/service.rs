//! Does systemd see the service at work, and its watchdog fed?

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Finding, System, failed, ok, unknown};

/// What is asked of systemd.
const PROPERTIES: &str =
    "LoadState,ActiveState,SubState,NRestarts,WatchdogUSec,WatchdogTimestampMonotonic";

/// The service and its watchdog.
pub(super) fn look(unit: &str, system: &System) -> (Finding, Finding) {
    match ask(unit, &system.systemctl) {
        Some(shown) => findings(unit, &shown, uptime(&system.uptime)),
        None => {
            let nobody = "This machine is not run by systemd.";
            (unknown(nobody), unknown(nobody))
        }
    }
}

/// What systemd's answer, lines of `NAME=VALUE`, says of a unit.
fn findings(unit: &str, shown: &str, now: Option<Duration>) -> (Finding, Finding) {
    let shown: HashMap<_, _> = shown.lines().filter_map(|line| line.split_once('=')).collect();
    let of = |name: &str| shown.get(name).copied().unwrap_or_default();
    if of("LoadState") != "loaded" {
        let missing = format!("systemd cannot load {unit}: {}.", of("LoadState"));
        return (failed(missing), unknown("There is no service to watch."));
    }
    let state = format!("{} ({})", of("ActiveState"), of("SubState"));
    if of("ActiveState") != "active" {
        let ended = format!("{unit} is {state}.");
        return (failed(ended), unknown("There is no service to watch."));
    }
    let service = ok(format!("{unit} is {state}; restarts: {}.", of("NRestarts")));
    let limit = duration(of("WatchdogUSec"));
    let fed = of("WatchdogTimestampMonotonic").parse().ok().map(Duration::from_micros);
    (service, watchdog(limit, fed, now))
}

/// Whether the watchdog was fed in time; all times since the machine's start.
fn watchdog(limit: Option<Duration>, fed: Option<Duration>, now: Option<Duration>) -> Finding {
    let Some(limit) = limit.filter(|limit| !limit.is_zero()) else {
        return unknown("The service has no watchdog.");
    };
    let (Some(fed), Some(now)) = (fed.filter(|fed| !fed.is_zero()), now) else {
        return unknown("systemd does not say when the watchdog was fed.");
    };
    // Both clocks are read one after the other.
    let ago = now.saturating_sub(fed);
    let (ago, limit) = (ago.as_secs(), limit.as_secs());
    let told = format!("The watchdog was fed {ago} s ago; every {limit} s is due.");
    if ago <= limit { ok(told) } else { failed(told) }
}

/// What systemd says of a unit; nothing where there is no systemd.
fn ask(unit: &str, systemctl: &Path) -> Option<String> {
    let mut command = Command::new(systemctl);
    command.args(["show", "--property", PROPERTIES, "--", unit]);
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// The machine's age: the clock that systemd counts in, on a machine that never sleeps.
fn uptime(path: &Path) -> Option<Duration> {
    let text = fs::read_to_string(path).ok()?;
    Duration::try_from_secs_f64(text.split_whitespace().next()?.parse().ok()?).ok()
}

/// A time as systemd writes it: `1min 30s`; none for `infinity` and for what is none.
fn duration(text: &str) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    for part in text.split_whitespace() {
        let digits = part.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(part.len());
        let (number, unit) = part.split_at(digits);
        let seconds = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            "" if number == "0" => 0.0,
            _ => return None,
        };
        sum += Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::State::{Failed, Ok, Unknown};

    #[test]
    fn times_of_systemd_are_read() {
        let check = |text, expected| {
            assert_eq!(duration(text).map(|time| time.as_micros()), expected, "{text}");
        };
        check("1min", Some(60_000_000));
        check("1min 30s", Some(90_000_000));
        check("500ms", Some(500_000));
        check("0", Some(0));
        check("infinity", None);
        check("7 apples", None);
    }

    /// Covers: HLT-1
    #[test]
    fn a_service_is_at_work_and_its_watchdog_fed_or_not() {
        let check = |states: &str, limit: &str, fed: u64, now: Option<u64>, expected| {
            let shown = format!(
                "NRestarts=0\nWatchdogUSec={limit}\nWatchdogTimestampMonotonic={}\n{states}",
                fed * 1_000_000
            );
            let now = now.map(Duration::from_secs);
            let (service, watchdog) = findings("a.service", &shown, now);
            assert_eq!((service.0, watchdog.0), expected, "{shown}");
        };
        let active = "LoadState=loaded\nActiveState=active\nSubState=running\n";
        check(active, "1min", 100, Some(120), (Ok, Ok));
        check(active, "1min", 100, Some(161), (Ok, Failed));
        check(active, "infinity", 100, Some(120), (Ok, Unknown));
        check(active, "0", 100, Some(120), (Ok, Unknown));
        check(active, "1min", 0, Some(120), (Ok, Unknown));
        check(active, "1min", 100, None, (Ok, Unknown));
        let failed = "LoadState=loaded\nActiveState=failed\nSubState=failed\n";
        check(failed, "1min", 100, Some(120), (Failed, Unknown));
        check("LoadState=not-found\nActiveState=inactive\n", "0", 0, None, (Failed, Unknown));
    }

    #[test]
    fn without_systemd_nobody_knows() {
        let system = System { systemctl: "/nowhere/systemctl".into(), ..System::default() };
        let (service, watchdog) = look("a.service", &system);
        assert_eq!((service.0, watchdog.0), (Unknown, Unknown));
    }
}
