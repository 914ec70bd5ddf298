//! An output line with its active level.

use embedded_hal::digital::{OutputPin, PinState};

/// The level at which a line means "on".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Active {
    /// On when high.
    #[default]
    High,
    /// On when low.
    Low,
}

impl Active {
    /// The level that stands for on or off.
    pub(crate) fn level(self, is_on: bool) -> PinState {
        PinState::from(is_on == (self == Active::High))
    }
}

/// A line that is written when its state changes, and again after a failure.
#[derive(Debug)]
pub(crate) struct Output<P> {
    pin: P,
    active: Active,
    /// What the line was last set to; unknown at first and after a failure.
    state: Option<bool>,
}

impl<P: OutputPin> Output<P> {
    pub(crate) fn new(pin: P, active: Active) -> Self {
        Self { pin, active, state: None }
    }

    /// Turns the line on or off.
    pub(crate) fn set(&mut self, is_on: bool) -> Result<(), P::Error> {
        if self.state != Some(is_on) {
            self.state = None;
            self.pin.set_state(self.active.level(is_on))?;
            self.state = Some(is_on);
        }
        Ok(())
    }
}
