//! The words of the state machine, as stored in the database.

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};

use crate::record::{Record, Verdict};

/// How far a scan has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// On disk, not yet judged.
    Received,
    /// Judged; result objects not yet made.
    Judged,
    /// Result objects are on disk; deliveries have begun or are done.
    Rendered,
    /// Its content was removed at the end of its time.
    Expired,
    /// Its content is missing though it should be there: a human must know.
    Lost,
}

/// What came out of judging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The verdict is normal.
    Normal,
    /// The verdict is abnormal.
    Abnormal,
    /// The verdict is that a human must judge.
    Refer,
    /// The scan could not be judged.
    Failed,
}

/// How far a delivery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// To be sent.
    Pending,
    /// The destination has everything.
    Delivered,
    /// The destination has promised to keep everything.
    Committed,
    /// Given up; a human must send it again or abandon it.
    Dead,
    /// A human decided that it is not needed.
    Abandoned,
}

impl Outcome {
    /// What a record says.
    pub(super) fn of(record: &Record) -> Self {
        match record {
            Record::Failed(_) => Self::Failed,
            Record::Scan(scan) => match scan.verdict {
                Verdict::Normal => Self::Normal,
                Verdict::Abnormal => Self::Abnormal,
                Verdict::Refer => Self::Refer,
            },
        }
    }
}

/// The words that stand for an enum's values, both ways.
macro_rules! words {
    ($type:ident { $($value:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// The word used in the database and in metrics.
            pub fn name(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }
        }

        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.name().into())
            }
        }

        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                match value.as_str()? {
                    $($word => Ok(Self::$value),)+
                    _ => Err(FromSqlError::InvalidType),
                }
            }
        }
    };
}

words!(Stage {
    Received = "received",
    Judged = "judged",
    Rendered = "rendered",
    Expired = "expired",
    Lost = "lost",
});
words!(Outcome {
    Normal = "normal",
    Abnormal = "abnormal",
    Refer = "refer",
    Failed = "failed",
});
words!(DeliveryState {
    Pending = "pending",
    Delivered = "delivered",
    Committed = "committed",
    Dead = "dead",
    Abandoned = "abandoned",
});
