//! What the service tells the panel.

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The service accepts scans.
    Ready,
    /// A scan is coming in.
    Receiving,
    /// A scan was judged.
    Judged(Judged),
    /// Something works no more.
    Fault(Fault),
    /// Scans are refused for want of space.
    DiskFull,
    /// Results do not reach a destination.
    DeliveryStuck,
    /// What was wrong is right again.
    Recovered(Condition),
    /// Someone has seen all verdicts so far, at the panel or elsewhere.
    Acknowledged,
    /// The service lives; expected at least once a second.
    Heartbeat {
        /// Scans that wait to be judged.
        waiting: u16,
    },
}

impl Event {
    /// Whether a human must learn of it: such events are the last to be dropped.
    pub fn is_alarm(&self) -> bool {
        match self {
            Event::Judged(judged) => judged.verdict != Verdict::Normal,
            Event::Fault(_) | Event::DiskFull | Event::DeliveryStuck => true,
            Event::Ready
            | Event::Receiving
            | Event::Recovered(_)
            | Event::Acknowledged
            | Event::Heartbeat { .. } => false,
        }
    }
}

/// What the model says about a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What to do with the scan.
    pub verdict: Verdict,
    /// The likeliest class, in lower case; at most 17 characters are shown.
    pub class: &'static str,
    /// Its probability, 0 to 100; shown as at most 99.
    pub percent: u8,
}

/// What to do with a scan; the later, the more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// No finding.
    Normal,
    /// A human must judge it.
    Refer,
    /// A finding.
    Abnormal,
}

/// What works no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No model judges.
    Model,
    /// Scans cannot be stored.
    Storage,
    /// Scans cannot be received.
    Network,
    /// Something else: the log tells.
    Other,
}

/// What can be wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// [`Event::Fault`], whatever its kind.
    Fault,
    /// [`Event::DiskFull`].
    DiskFull,
    /// [`Event::DeliveryStuck`].
    DeliveryStuck,
}
