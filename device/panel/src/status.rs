//! What the panel knows, and what its lamps and display say about it.

use crate::SILENCE_MS;
use crate::buzzer::{self, Sound};
use crate::event::{Condition, Event, Fault, Judged, Verdict};
use crate::screen::{Detail, Screen};

/// Half a period of a blinking lamp, in milliseconds.
const BLINK_MS: u32 = 500;
/// How long each line of a turn is shown, in milliseconds.
const TURN_MS: u32 = 3_000;

/// Which lamps are lit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lamps {
    pub(crate) green: bool,
    pub(crate) amber: bool,
    pub(crate) red: bool,
}

/// Everything that events have told so far.
#[derive(Debug)]
pub(crate) struct Status {
    is_ready: bool,
    is_receiving: bool,
    is_alive: bool,
    heard_at: u32,
    last: Option<Judged>,
    /// The most urgent verdict that nobody has acknowledged, the latest of its kind.
    pending: Option<Judged>,
    fault: Option<Fault>,
    is_disk_full: bool,
    is_delivery_stuck: bool,
    waiting: u16,
}

impl Status {
    pub(crate) fn new(now: u32) -> Self {
        Self {
            is_ready: false,
            is_receiving: false,
            is_alive: true,
            heard_at: now,
            last: None,
            pending: None,
            fault: None,
            is_disk_full: false,
            is_delivery_stuck: false,
            waiting: 0,
        }
    }

    /// Learns of an event; what it means for the ear goes to `sound`.
    pub(crate) fn learn(&mut self, event: Event, now: u32, sound: &mut Sound) {
        match event {
            Event::Ready => self.is_ready = true,
            Event::Receiving => self.is_receiving = true,
            Event::Judged(judged) => self.judged(judged, now, sound),
            Event::Fault(fault) => self.degrade(now, sound, |status| status.fault = Some(fault)),
            Event::DiskFull => self.degrade(now, sound, |status| status.is_disk_full = true),
            Event::DeliveryStuck => {
                self.degrade(now, sound, |status| status.is_delivery_stuck = true);
            }
            Event::Recovered(condition) => self.recovered(condition, sound),
            Event::Acknowledged => self.acknowledge(sound),
            Event::Heartbeat { waiting } => self.heard(waiting, now, sound),
        }
    }

    /// Someone has seen what there was to see.
    pub(crate) fn acknowledge(&mut self, sound: &mut Sound) {
        self.pending = None;
        sound.mute();
    }

    /// Notices when the service has been silent for too long.
    pub(crate) fn notice_silence(&mut self, now: u32, sound: &mut Sound) {
        if self.is_alive && now.wrapping_sub(self.heard_at) >= SILENCE_MS {
            self.is_alive = false;
            sound.play(&buzzer::ALARM, now);
        }
    }

    /// Whether the service has been heard of lately.
    pub(crate) fn is_alive(&self) -> bool {
        self.is_alive
    }

    /// Whether a scan that is taken now would be accepted.
    pub(crate) fn accepts(&self) -> bool {
        self.is_alive && self.is_ready && !self.is_disk_full && self.fault.is_none()
    }

    /// Which lamps are lit at this moment.
    pub(crate) fn lamps(&self, now: u32) -> Lamps {
        let is_bright = (now / BLINK_MS).is_multiple_of(2);
        if !self.is_alive {
            return Lamps { green: false, amber: false, red: is_bright };
        }
        let pending = self.pending.map(|judged| judged.verdict);
        let waits = !self.is_ready || pending == Some(Verdict::Refer);
        let amber = if self.is_degraded() { is_bright } else { waits };
        let red = pending == Some(Verdict::Abnormal);
        let green = self.is_ready && !self.is_degraded() && pending.is_none();
        Lamps { green, amber, red }
    }

    /// What the display shows at this moment.
    pub(crate) fn screen(&self, now: u32, is_exposure_ready: bool) -> Screen {
        let shown = self.pending.or(self.last).filter(|_| self.is_alive);
        Screen {
            state: self.state(is_exposure_ready),
            headline: self.headline(),
            detail: shown.map(|judged| Detail { class: judged.class, percent: judged.percent }),
            waiting: self.waiting,
            turn: now / TURN_MS,
        }
    }

    fn judged(&mut self, judged: Judged, now: u32, sound: &mut Sound) {
        self.is_receiving = false;
        self.last = Some(judged);
        let before = self.pending.map_or(Verdict::Normal, |pending| pending.verdict);
        if judged.verdict == Verdict::Normal || judged.verdict < before {
            return;
        }
        self.pending = Some(judged);
        let is_finding = judged.verdict == Verdict::Abnormal;
        sound.play(if is_finding { &buzzer::ABNORMAL } else { &buzzer::REFER }, now);
    }

    fn degrade(&mut self, now: u32, sound: &mut Sound, change: impl FnOnce(&mut Self)) {
        let before = (self.fault, self.is_disk_full, self.is_delivery_stuck);
        change(self);
        // What is known already, and perhaps muted, is not news; a finding sounds on.
        let is_news = before != (self.fault, self.is_disk_full, self.is_delivery_stuck);
        let is_finding = self.pending.is_some_and(|judged| judged.verdict == Verdict::Abnormal);
        if is_news && !is_finding {
            sound.play(&buzzer::ALARM, now);
        }
    }

    fn recovered(&mut self, condition: Condition, sound: &mut Sound) {
        match condition {
            Condition::Fault => self.fault = None,
            Condition::DiskFull => self.is_disk_full = false,
            Condition::DeliveryStuck => self.is_delivery_stuck = false,
        }
        if !self.is_degraded() {
            sound.end(&buzzer::ALARM);
        }
    }

    fn heard(&mut self, waiting: u16, now: u32, sound: &mut Sound) {
        self.waiting = waiting;
        self.heard_at = now;
        if !self.is_alive {
            self.is_alive = true;
            if !self.is_degraded() {
                sound.end(&buzzer::ALARM);
            }
        }
    }

    fn is_degraded(&self) -> bool {
        self.fault.is_some() || self.is_disk_full || self.is_delivery_stuck
    }

    fn state(&self, is_exposure_ready: bool) -> &'static str {
        if !self.is_alive {
            return "service silent";
        }
        match self.fault {
            Some(Fault::Model) => "fault: model",
            Some(Fault::Storage) => "fault: storage",
            Some(Fault::Network) => "fault: network",
            Some(Fault::Other) => "fault: see log",
            None if self.is_disk_full => "disk full",
            None if self.is_delivery_stuck => "not delivered",
            None if !self.is_ready => "starting",
            None if self.is_receiving => "receiving",
            None if is_exposure_ready => "exposure ready",
            None => "ready",
        }
    }

    fn headline(&self) -> &'static str {
        if !self.is_alive {
            return "FAULT";
        }
        match self.pending.or(self.last.filter(|_| !self.is_degraded())) {
            Some(Judged { verdict: Verdict::Abnormal, .. }) => "ABNORMAL",
            Some(Judged { verdict: Verdict::Refer, .. }) => "REFER",
            Some(Judged { verdict: Verdict::Normal, .. }) => "NORMAL",
            None if self.fault.is_some() => "FAULT",
            None if self.is_disk_full => "DISK FULL",
            None if self.is_delivery_stuck => "CHECK PACS",
            None if self.is_ready => "READY",
            None => "STARTING",
        }
    }
}
