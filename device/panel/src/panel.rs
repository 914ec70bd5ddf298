//! The panel as a whole: events, button and time in; lamps, sound and picture out.

use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_hal::digital::{InputPin, OutputPin};

use crate::HEARTBEAT_MS;
use crate::button::{Button, Contact};
use crate::buzzer::{self, Sound};
use crate::output::{Active, Output};
use crate::queue::Queue;
use crate::screen::Screen;
use crate::status::{Lamps, Status};

/// The lines and the display that a panel is made of.
#[derive(Clone, Debug)]
pub struct Parts<G, A, R, B, K, X, H, D> {
    /// Green lamp.
    pub green: G,
    /// Amber lamp.
    pub amber: A,
    /// Red lamp.
    pub red: R,
    /// Buzzer with a tone of its own.
    pub buzzer: B,
    /// Acknowledge button.
    pub button: K,
    /// The X-ray unit's line that it is ready to expose.
    pub exposure: X,
    /// Heartbeat towards the circuit that lights red by itself.
    pub heartbeat: H,
    /// 128 x 64 or 128 x 32 pixels.
    pub display: D,
}

/// At which level each line is on. The heartbeat has none: its changes count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wiring {
    /// Green lamp.
    pub green: Active,
    /// Amber lamp.
    pub amber: Active,
    /// Red lamp.
    pub red: Active,
    /// Buzzer.
    pub buzzer: Active,
    /// The button's level when pressed.
    pub button: Active,
    /// The exposure line's level when the unit is ready.
    pub exposure: Active,
}

/// One of the [`Parts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Green lamp.
    Green,
    /// Amber lamp.
    Amber,
    /// Red lamp.
    Red,
    /// Buzzer.
    Buzzer,
    /// Acknowledge button.
    Button,
    /// Exposure-ready line.
    Exposure,
    /// Heartbeat line.
    Heartbeat,
    /// Display.
    Display,
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 8] = [
        Part::Green,
        Part::Amber,
        Part::Red,
        Part::Buzzer,
        Part::Button,
        Part::Exposure,
        Part::Heartbeat,
        Part::Display,
    ];
}

/// What came of one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// The button was pressed: all verdicts so far are acknowledged.
    pub acknowledged: bool,
    /// The X-ray unit is ready to expose.
    pub exposure_ready: bool,
    /// The display has a new picture, which some displays must be told to show.
    pub redrawn: bool,
    /// A part that failed during this tick; [`Panel::errors`] counts.
    pub failed: Option<Part>,
}

/// A panel of three lamps, a buzzer, a button, two lines and a display.
#[derive(Debug)]
pub struct Panel<G, A, R, B, K, X, H, D> {
    green: Output<G>,
    amber: Output<A>,
    red: Output<R>,
    buzzer: Output<B>,
    heartbeat: Output<H>,
    button_pin: K,
    exposure_pin: X,
    display: D,
    wiring: Wiring,
    button: Button,
    exposure: Contact,
    status: Status,
    sound: Sound,
    shown: Option<Screen>,
    beat: bool,
    beat_at: u32,
    does_red_fail: bool,
    errors: [u32; Part::ALL.len()],
    failed: Option<Part>,
}

impl<G, A, R, B, K, X, H, D> Panel<G, A, R, B, K, X, H, D>
where
    G: OutputPin,
    A: OutputPin,
    R: OutputPin,
    B: OutputPin,
    K: InputPin,
    X: InputPin,
    H: OutputPin,
    D: DrawTarget<Color = BinaryColor>,
{
    /// A panel that touches its parts with the first tick.
    pub fn new(parts: Parts<G, A, R, B, K, X, H, D>, wiring: Wiring, now_ms: u32) -> Self {
        Self {
            green: Output::new(parts.green, wiring.green),
            amber: Output::new(parts.amber, wiring.amber),
            red: Output::new(parts.red, wiring.red),
            buzzer: Output::new(parts.buzzer, wiring.buzzer),
            heartbeat: Output::new(parts.heartbeat, Active::High),
            button_pin: parts.button,
            exposure_pin: parts.exposure,
            display: parts.display,
            wiring,
            button: Button::default(),
            exposure: Contact::default(),
            status: Status::new(now_ms),
            sound: Sound::default(),
            shown: None,
            beat: false,
            beat_at: now_ms,
            does_red_fail: false,
            errors: [0; Part::ALL.len()],
            failed: None,
        }
    }

    /// Takes all events and brings every part up to date; to be called every 10 to 20 ms.
    ///
    /// `now_ms` counts milliseconds from anywhere and may wrap. A part that fails is tried again
    /// with the next tick; nothing is given up.
    pub fn tick<const N: usize>(&mut self, now_ms: u32, events: &mut Queue<N>) -> Tick {
        self.failed = None;
        while let Some(event) = events.pop() {
            self.status.learn(event, now_ms, &mut self.sound);
        }
        self.status.notice_silence(now_ms, &mut self.sound);
        let acknowledged = self.sample_button(now_ms);
        self.sample_exposure(now_ms);
        self.light(now_ms);
        self.beat(now_ms);
        let redrawn = self.show(now_ms);
        let exposure_ready = self.exposure.is_closed();
        Tick { acknowledged, exposure_ready, redrawn, failed: self.failed }
    }

    /// How often a part has failed so far.
    pub fn errors(&self, part: Part) -> u32 {
        self.errors[part as usize]
    }

    /// Counts a failure of a part outside a tick, such as a picture that was drawn but did not
    /// reach the display.
    pub fn count_error(&mut self, part: Part) {
        self.errors[part as usize] = self.errors[part as usize].saturating_add(1);
    }

    /// Draws the picture anew with the next tick, for a display that has lost it.
    pub fn redraw(&mut self) {
        self.shown = None;
    }

    /// The display, for those that must be told to show what was drawn.
    pub fn display_mut(&mut self) -> &mut D {
        &mut self.display
    }

    fn sample_button(&mut self, now: u32) -> bool {
        let level =
            self.button_pin.is_high().map(|is_high| is_high == is_active_high(self.wiring.button));
        let Some(is_pressed) = self.check(Part::Button, level) else { return false };
        let is_short_press = self.button.sample(is_pressed, now);
        if is_short_press {
            self.status.acknowledge(&mut self.sound);
        }
        is_short_press
    }

    fn sample_exposure(&mut self, now: u32) {
        let active = is_active_high(self.wiring.exposure);
        let level = self.exposure_pin.is_high().map(|is_high| is_high == active);
        let Some(is_ready) = self.check(Part::Exposure, level) else { return };
        let has_changed = self.exposure.sample(is_ready);
        if has_changed && self.exposure.is_closed() && !self.status.accepts() {
            self.sound.play(&buzzer::WARNING, now);
        }
    }

    fn light(&mut self, now: u32) {
        let is_test = self.button.is_held_long();
        let all = Lamps { green: true, amber: true, red: true };
        let lamps = if is_test { all } else { self.status.lamps(now) };
        let sounds = self.sound.is_on(now) || is_test;
        let red = self.red.set(lamps.red);
        self.does_red_fail = self.check(Part::Red, red).is_none();
        let amber = self.amber.set(lamps.amber);
        self.check(Part::Amber, amber);
        let green = self.green.set(lamps.green);
        self.check(Part::Green, green);
        let buzzer = self.buzzer.set(sounds);
        self.check(Part::Buzzer, buzzer);
    }

    /// Changes the heartbeat's level when it is time, as long as red may be left to the program.
    fn beat(&mut self, now: u32) {
        let is_due = now.wrapping_sub(self.beat_at) >= HEARTBEAT_MS;
        if is_due && self.status.is_alive() && !self.does_red_fail {
            self.beat = !self.beat;
            self.beat_at = now;
            let beat = self.heartbeat.set(self.beat);
            self.check(Part::Heartbeat, beat);
        }
    }

    fn show(&mut self, now: u32) -> bool {
        let screen = self.status.screen(now, self.exposure.is_closed());
        if self.shown == Some(screen) {
            return false;
        }
        let drawn = screen.draw(&mut self.display);
        let is_drawn = self.check(Part::Display, drawn).is_some();
        self.shown = is_drawn.then_some(screen);
        is_drawn
    }

    /// The value, or none and one more error of this part.
    fn check<T, E>(&mut self, part: Part, result: Result<T, E>) -> Option<T> {
        if result.is_err() {
            self.count_error(part);
            self.failed = Some(part);
        }
        result.ok()
    }
}

fn is_active_high(active: Active) -> bool {
    active == Active::High
}
