//! A contact that bounces, sampled once a tick.

/// Equal samples in a row that make a state: 30 to 60 ms.
const STABLE_SAMPLES: u8 = 3;
/// Held so long, the press is a long one.
const LONG_MS: u32 = 2_000;

/// A debounced contact.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    is_closed: bool,
    differing: u8,
}

impl Contact {
    /// Takes a sample; whether the contact has changed its state.
    pub(crate) fn sample(&mut self, is_closed: bool) -> bool {
        if is_closed == self.is_closed {
            self.differing = 0;
            return false;
        }
        self.differing += 1;
        if self.differing < STABLE_SAMPLES {
            return false;
        }
        self.is_closed = is_closed;
        self.differing = 0;
        true
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }
}

/// The acknowledge button: short presses are told apart from long ones.
#[derive(Debug, Default)]
pub(crate) struct Button {
    contact: Contact,
    open_samples: u8,
    pressed_at: Option<u32>,
    is_long: bool,
}

impl Button {
    /// Takes a sample; whether a short press has just ended.
    ///
    /// A button that is closed from the start is stuck, or held by mistake: nothing it does counts
    /// until it has been open.
    pub(crate) fn sample(&mut self, is_closed: bool, now: u32) -> bool {
        if self.open_samples < STABLE_SAMPLES {
            self.open_samples = if is_closed { 0 } else { self.open_samples + 1 };
            return false;
        }
        let has_changed = self.contact.sample(is_closed);
        if has_changed && self.contact.is_closed() {
            self.pressed_at = Some(now);
        }
        if let Some(then) = self.pressed_at {
            self.is_long = self.is_long || now.wrapping_sub(then) >= LONG_MS;
        }
        if !has_changed || self.contact.is_closed() {
            return false;
        }
        self.pressed_at = None;
        !core::mem::take(&mut self.is_long)
    }

    /// Whether a long press is under way.
    pub(crate) fn is_held_long(&self) -> bool {
        self.is_long
    }
}
