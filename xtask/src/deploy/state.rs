//! What a board with slots says about itself.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::ssh::Host;
use crate::update::release::{Release, value};

const SCRIPT: &str = include_str!("../../update/state.sh");

/// One look at a board.
#[derive(Clone, Debug)]
pub struct State {
    /// What runs.
    pub release: Release,
    /// Where it runs: `a` or `b`.
    pub slot: String,
    /// Another one after each start.
    pub boot: String,
    text: String,
}

/// The board's own look at its health, as far as it is told here.
#[derive(Deserialize)]
struct Health {
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    name: String,
    state: String,
    #[serde(default)]
    sentence: String,
}

impl State {
    /// Asks a board.
    ///
    /// # Errors
    /// When it cannot be reached, or does not run an image of ours.
    pub fn of(host: &Host) -> Result<State> {
        State::parse(&host.ask(SCRIPT, &[])?)
            .with_context(|| format!("{host} does not run an image of ours"))
    }

    fn parse(text: &str) -> Result<State> {
        let slot = value(text, "SLOT")?.to_owned();
        let boot = value(text, "BOOT")?.to_owned();
        Ok(State { release: Release::parse(text)?, slot, boot, text: text.to_owned() })
    }

    /// The slot that takes the next update.
    ///
    /// # Errors
    /// When the running slot is none of the two.
    pub fn idle_slot(&self) -> Result<&'static str> {
        match self.slot.as_str() {
            "a" => Ok("b"),
            "b" => Ok("a"),
            other => bail!("the board runs from slot `{other}`, which is neither a nor b"),
        }
    }

    /// Whether the content of a slot has proven itself.
    pub fn is_committed(&self, slot: &str) -> bool {
        value(&self.text, &format!("COMMITTED_{slot}")).is_ok()
    }

    /// Why the content of a slot was given up.
    pub fn failures(&self, slot: &str) -> Vec<String> {
        reasons(value(&self.text, &format!("FAILED_{slot}")).unwrap_or_default())
    }

    /// What is wrong now.
    pub fn complaints(&self) -> Vec<String> {
        reasons(value(&self.text, "HEALTH").unwrap_or_default())
    }
}

/// The failed checks of a health report, one sentence each; the report itself where it is none.
pub fn reasons(report: &str) -> Vec<String> {
    let Ok(health) = serde_json::from_str::<Health>(report) else {
        return if report.is_empty() { Vec::new() } else { vec![report.to_owned()] };
    };
    let failed = health.checks.into_iter().filter(|check| check.state == "failed");
    failed.map(|check| format!("{}: {}", check.name, check.sentence)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "VERSION=7\nREVISION=0123456789ab\nCOMPATIBLE=spinesight-rpi4\nSLOT=b\n\
        BOOT=11-22\nCOMMITTED_a=6\nFAILED_b={\"well\":false,\"checks\":[{\"name\":\"self-test\",\
        \"state\":\"failed\",\"sentence\":\"other numbers\"},{\"name\":\"spool\",\"state\":\"ok\"}]}\n";

    #[test]
    fn a_board_tells_its_slots() {
        let state = State::parse(TEXT).unwrap();
        assert_eq!(
            (state.release.version, state.slot.as_str(), state.boot.as_str()),
            (7, "b", "11-22")
        );
        assert_eq!(state.idle_slot().unwrap(), "a");
        assert!(state.is_committed("a") && !state.is_committed("b"));
        assert_eq!(state.failures("b"), ["self-test: other numbers"]);
        assert!(state.failures("a").is_empty() && state.complaints().is_empty());
    }

    #[test]
    fn a_board_without_slots_is_not_ours() {
        assert!(State::parse(&TEXT.replace("SLOT=b\n", "")).is_err());
        assert!(State::parse("").is_err());
        assert!(State::parse(&TEXT.replace("SLOT=b", "SLOT=x")).unwrap().idle_slot().is_err());
    }

    #[test]
    fn a_report_that_is_no_json_is_told_as_it_is() {
        assert_eq!(reasons("thread panicked"), ["thread panicked"]);
        assert!(reasons("").is_empty());
    }
}
