//! Is the board well? One look at everything that must work; decides whether an update stays.
//!
//! A check that cannot look says `unknown`, never `ok`.

mod disk;
mod receiver;
mod service;
pub mod temperature;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::Config;
use crate::install;
use crate::serve::engine_options;

/// How to look.
#[derive(Clone, Debug)]
pub struct Options {
    /// The service's systemd unit.
    pub unit: String,
    /// Degrees Celsius from which the board is too hot.
    pub hottest: f32,
    /// Where the system is asked.
    pub system: System,
}

/// Where the system is asked.
#[derive(Clone, Debug)]
pub struct System {
    /// The program that asks systemd.
    pub systemctl: PathBuf,
    /// Seconds since the machine's start, as text.
    pub uptime: PathBuf,
    /// Folder of the temperature sensors.
    pub thermal: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self {
            systemctl: "systemctl".into(),
            uptime: "/proc/uptime".into(),
            thermal: temperature::ZONES.into(),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether no check failed.
    pub well: bool,
    /// The program's version.
    pub version: &'static str,
    /// Each check, always the same ones in the same order.
    pub checks: Vec<Check>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// What came of it.
    pub state: State,
    /// The same in words.
    pub sentence: String,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Not as it should be.
    Failed,
    /// There was nothing to look at.
    Unknown,
}

impl State {
    /// The state as reports name it.
    pub fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Failed => "failed",
            State::Unknown => "unknown",
        }
    }
}

/// What one look found, before it has its name.
type Finding = (State, String);

fn ok(sentence: impl Into<String>) -> Finding {
    (State::Ok, sentence.into())
}

fn failed(sentence: impl Into<String>) -> Finding {
    (State::Failed, sentence.into())
}

fn unknown(sentence: impl Into<String>) -> Finding {
    (State::Unknown, sentence.into())
}

/// Looks at everything, also when something failed before.
pub fn look(config: &Path, options: &Options) -> Report {
    let (read, config) = match Config::load(config) {
        Ok((config, digest)) => {
            (ok(format!("The configuration is valid, SHA-256 {}.", digest.0)), Some(config))
        }
        Err(error) => (failed(format!("{error}.")), None),
    };
    let with_config = |check: fn(&Config) -> Finding| match &config {
        Some(config) => check(config),
        None => unknown("Without a configuration nobody knows where to look."),
    };
    let (service, watchdog) = service::look(&options.unit, &options.system);
    let checks = [
        ("configuration", read),
        ("self-test", with_config(self_test)),
        ("receiver", with_config(receiver::look)),
        ("spool", with_config(disk::look)),
        ("service", service),
        ("watchdog", watchdog),
        ("temperature", temperature::look(&options.system.thermal, options.hottest)),
    ];
    let checks = checks.map(|(name, (state, sentence))| Check { name, state, sentence });
    let well = checks.iter().all(|check| check.state != State::Failed);
    Report { well, version: env!("CARGO_PKG_VERSION"), checks: checks.into() }
}

/// The judging bundle's golden case on this machine.
fn self_test(config: &Config) -> Finding {
    match install::prove(&config.board.bundle, engine_options(config)) {
        Ok(bundle) => ok(format!("{} computes here what its maker computed.", bundle.name)),
        Err(error) => failed(format!("{error}.")),
    }
}

#[cfg(test)]
mod tests;
