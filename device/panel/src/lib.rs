//! The panel beside the X-ray unit: lamps, buzzer, button, exposure line and display.
//!
//! Knows `embedded-hal` traits, `embedded-graphics` targets and `heapless` types alone: no `std`, no
//! allocation, no clock. Who owns a [`Panel`] calls [`Panel::tick`] every 10 to 20 ms with the time
//! and the [`Queue`] of events that the service fills.
//!
//! # Meaning
//!
//! | sign | meaning |
//! |---|---|
//! | green | ready, and every verdict so far was normal or has been acknowledged |
//! | amber | the service starts, or a scan was referred: a human must look |
//! | amber, blinking | degraded: a fault, a full disk, or results that do not reach their destination |
//! | red | a scan was judged abnormal and nobody has acknowledged it |
//! | red, blinking, alone | the service is silent: nothing the panel says may be relied on |
//!
//! A normal verdict never clears a worse one: only an acknowledgement does. A short press
//! acknowledges and mutes the buzzer; a long one lights every lamp as long as it lasts. When the
//! unit reports that it is ready to expose while the service cannot accept the scan, the buzzer
//! warns before the exposure instead of after it.
//!
//! # Fail-safe
//!
//! A dead program cannot light a lamp, so the red one must light by itself:
//!
//! - the *heartbeat* line changes its level every [`HEARTBEAT_MS`] while the panel ticks, the
//!   service has sent [`Event::Heartbeat`] within [`SILENCE_MS`], and the red line obeys. It drives
//!   a retriggerable monostable of about one second (74HC123: `Rext` 1 MOhm and `Cext` 2.2 uF) or a
//!   charge pump: heartbeat through 1 uF and two diodes onto 10 uF with 100 kOhm across it, into the
//!   gate of a MOSFET. While pulses come it holds a normally-closed relay or transistor open; when
//!   they stop, at either level, the red lamp lights;
//! - the red line itself is best wired active low ([`Active::Low`]) with the lamp between supply and
//!   an open-drain stage that a pull resistor turns on: a line that is an input again, because the
//!   program ended or the board is in reset, lights the lamp;
//! - where the board has a kernel `gpio-wdt` driver, its line may stand for the heartbeat; a
//!   `gpio-leds` entry with the `panic` trigger on the red lamp covers a dead kernel;
//! - while the panel itself still runs, a silent service shows as a blinking red lamp and `FAULT`.
#![no_std]

#[cfg(test)]
extern crate std;

mod button;
mod buzzer;
mod event;
mod output;
mod panel;
mod queue;
mod screen;
mod status;
#[cfg(test)]
mod tests;

pub use event::{Condition, Event, Fault, Judged, Verdict};
pub use output::Active;
pub use panel::{Panel, Part, Parts, Tick, Wiring};
pub use queue::Queue;

/// How often the heartbeat line changes its level, in milliseconds.
pub const HEARTBEAT_MS: u32 = 250;
/// Silence of the service after which it counts as dead, in milliseconds.
pub const SILENCE_MS: u32 = 3_000;
