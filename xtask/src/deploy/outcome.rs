//! What became of a deployment.

use std::fmt::{Display, Formatter};

use serde::Serialize;

/// The end of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It would be done; nothing was changed.
    Planned,
    /// The new one runs and has proven itself.
    Kept,
    /// The board went back to what it ran before.
    FellBack,
    /// The new one runs and has not proven itself in time.
    Undecided,
    /// It did not come so far.
    Failed,
}

/// A deployment's end, for people and, as JSON, for programs.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The board's kind.
    pub board: String,
    /// How it ended.
    pub result: Ending,
    /// What ran before.
    pub from: Option<String>,
    /// What was to run.
    pub to: Option<String>,
    /// The slot of the new one, on a board with slots.
    pub slot: Option<String>,
    /// Why it ended so, one sentence each.
    pub reasons: Vec<String>,
}

impl Ending {
    /// Whether what was asked for is done.
    pub fn is_success(self) -> bool {
        matches!(self, Ending::Planned | Ending::Kept)
    }

    fn sentence(self) -> &'static str {
        match self {
            Ending::Planned => "dry run: nothing was changed",
            Ending::Kept => "the new one runs and is kept",
            Ending::FellBack => "the board went back to what it ran before",
            Ending::Undecided => "the new one runs, but is not well, and there was no way back",
            Ending::Failed => "it failed",
        }
    }
}

impl Outcome {
    /// A deployment that an error ended.
    pub fn failed(board: &str, error: &anyhow::Error) -> Outcome {
        Outcome {
            board: board.to_owned(),
            result: Ending::Failed,
            from: None,
            to: None,
            slot: None,
            reasons: error.chain().map(ToString::to_string).collect(),
        }
    }
}

impl Display for Outcome {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "unknown".into());
        write!(formatter, "{}: {} to {}", self.board, name(&self.from), name(&self.to))?;
        if let Some(slot) = &self.slot {
            write!(formatter, ", slot {slot}")?;
        }
        write!(formatter, ": {}", self.result.sentence())?;
        for reason in &self.reasons {
            write!(formatter, "\n  {reason}")?;
        }
        Ok(())
    }
}
