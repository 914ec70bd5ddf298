//! The panel at work, on mocked lines and a picture in memory.

use std::string::String;
use std::vec::Vec;

use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Size};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::{Drawable, Pixel};
use embedded_hal::digital::{ErrorKind, ErrorType, InputPin, OutputPin};
use embedded_hal_mock::eh1::MockError;
use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};

use super::*;

const TICK_MS: u32 = 10;

/// A line whose level a test can read and set, and that can fail.
#[derive(Clone, Debug, Default)]
struct Line {
    is_high: std::rc::Rc<std::cell::Cell<bool>>,
    changes: std::rc::Rc<std::cell::Cell<u32>>,
    is_broken: std::rc::Rc<std::cell::Cell<bool>>,
}

impl Line {
    fn check(&self) -> Result<(), ErrorKind> {
        if self.is_broken.get() { Err(ErrorKind::Other) } else { Ok(()) }
    }

    fn set(&self, is_high: bool) -> Result<(), ErrorKind> {
        self.check()?;
        self.changes.set(self.changes.get() + u32::from(self.is_high.get() != is_high));
        self.is_high.set(is_high);
        Ok(())
    }
}

impl ErrorType for Line {
    type Error = ErrorKind;
}

impl OutputPin for Line {
    fn set_low(&mut self) -> Result<(), ErrorKind> {
        self.set(false)
    }

    fn set_high(&mut self) -> Result<(), ErrorKind> {
        self.set(true)
    }
}

impl InputPin for Line {
    fn is_high(&mut self) -> Result<bool, ErrorKind> {
        self.check().map(|()| self.is_high.get())
    }

    fn is_low(&mut self) -> Result<bool, ErrorKind> {
        self.is_high().map(|is_high| !is_high)
    }
}

/// A display in memory.
#[derive(Clone, Debug, PartialEq)]
struct Picture {
    size: Size,
    lit: std::collections::BTreeSet<(i32, i32)>,
    is_broken: bool,
}

impl Picture {
    fn new(height: u32) -> Self {
        Self { size: Size::new(128, height), lit: Default::default(), is_broken: false }
    }

    /// Whether a text of this font stands with its upper left corner at this height.
    fn shows(
        &self,
        text: &str,
        top: i32,
        font: &embedded_graphics::mono_font::MonoFont<'_>,
    ) -> bool {
        use embedded_graphics::mono_font::MonoTextStyle;
        use embedded_graphics::prelude::Point;
        use embedded_graphics::text::{Baseline, Text};
        let mut expected = Picture::new(self.size.height);
        let style = MonoTextStyle::new(font, BinaryColor::On);
        Text::with_baseline(text, Point::new(0, top), style, Baseline::Top)
            .draw(&mut expected)
            .unwrap();
        let height = font.character_size.height as i32;
        let rows = top..top + height;
        let found = self.lit.iter().filter(|(_, y)| rows.contains(y));
        !expected.lit.is_empty() && found.eq(expected.lit.iter())
    }
}

impl OriginDimensions for Picture {
    fn size(&self) -> Size {
        self.size
    }
}

impl DrawTarget for Picture {
    type Color = BinaryColor;
    type Error = ();

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), ()> {
        if self.is_broken {
            return Err(());
        }
        for Pixel(at, color) in pixels {
            let is_inside = at.x >= 0
                && at.y >= 0
                && at.x < self.size.width as i32
                && at.y < self.size.height as i32;
            assert!(is_inside || color == BinaryColor::Off, "{at:?} is outside of the display");
            if color == BinaryColor::On {
                self.lit.insert((at.x, at.y));
            } else {
                self.lit.remove(&(at.x, at.y));
            }
        }
        Ok(())
    }
}

type Lines = Parts<Line, Line, Line, Line, Line, Line, Line, Picture>;

/// A panel with the test's ends of its lines.
struct Bench {
    panel: Panel<Line, Line, Line, Line, Line, Line, Line, Picture>,
    lines: Lines,
    queue: Queue<8>,
    now: u32,
    ticks: u32,
    is_service_alive: bool,
}

impl Bench {
    fn new() -> Self {
        Self::at(0, 64)
    }

    fn at(now: u32, height: u32) -> Self {
        let line = Line::default;
        let lines = Parts {
            green: line(),
            amber: line(),
            red: line(),
            buzzer: line(),
            button: line(),
            exposure: line(),
            heartbeat: line(),
            display: Picture::new(height),
        };
        let parts = Parts {
            green: lines.green.clone(),
            amber: lines.amber.clone(),
            red: lines.red.clone(),
            buzzer: lines.buzzer.clone(),
            button: lines.button.clone(),
            exposure: lines.exposure.clone(),
            heartbeat: lines.heartbeat.clone(),
            display: lines.display.clone(),
        };
        let panel = Panel::new(parts, Wiring::default(), now);
        Self { panel, lines, queue: Queue::new(), now, ticks: 0, is_service_alive: true }
    }

    fn ready() -> Self {
        let mut bench = Self::new();
        bench.send(Event::Ready);
        bench
    }

    fn send(&mut self, event: Event) -> Tick {
        self.queue.push(event);
        self.tick()
    }

    fn tick(&mut self) -> Tick {
        self.now = self.now.wrapping_add(TICK_MS);
        self.ticks += 1;
        if self.is_service_alive && self.ticks.is_multiple_of(50) {
            self.queue.push(Event::Heartbeat { waiting: 0 });
        }
        self.panel.tick(self.now, &mut self.queue)
    }

    /// Ticks for so long; whether the button's press was noticed in this time.
    fn run(&mut self, ms: u32) -> bool {
        (0..ms / TICK_MS).fold(false, |pressed, _| self.tick().acknowledged | pressed)
    }

    /// Whether a line was on at any time within so many milliseconds.
    fn is_on_within(&mut self, ms: u32, line: fn(&Lines) -> &Line) -> bool {
        (0..ms / TICK_MS).fold(false, |on, _| {
            self.tick();
            line(&self.lines).is_high.get() | on
        })
    }

    /// Lit lamps: capitals steady, small letters blinking, over two seconds.
    fn lamps(&mut self) -> String {
        let mut on = [0; 3];
        for _ in 0..2000 / TICK_MS {
            self.tick();
            let lamps = [&self.lines.green, &self.lines.amber, &self.lines.red];
            for (count, lamp) in on.iter_mut().zip(lamps) {
                *count += u32::from(lamp.is_high.get());
            }
        }
        let letters = on.iter().zip(["gG", "aA", "rR"]).filter(|(count, _)| **count > 0);
        letters.map(|(&count, name)| &name[usize::from(count == 200)..][..1]).collect()
    }
}

const fn judged(verdict: Verdict) -> Event {
    Event::Judged(Judged { verdict, class: "scoliosis", percent: 87 })
}

const NORMAL: Event = judged(Verdict::Normal);
const REFER: Event = judged(Verdict::Refer);
const ABNORMAL: Event = judged(Verdict::Abnormal);

/// Covers: PNL-4
#[test]
fn lamps_tell_what_happened() {
    use Event::{
        Acknowledged, DeliveryStuck, DiskFull, Fault as Fails, Ready, Receiving, Recovered,
    };
    let fault = Fails(Fault::Model);
    let cases: &[(&[Event], &str)] = &[
        (&[], "A"),
        (&[NORMAL], "A"),
        (&[Ready], "G"),
        (&[Ready, Receiving], "G"),
        (&[Ready, NORMAL], "G"),
        (&[Ready, REFER], "A"),
        (&[Ready, ABNORMAL], "R"),
        (&[ABNORMAL], "AR"),
        (&[Ready, ABNORMAL, Acknowledged], "G"),
        (&[Ready, REFER, Acknowledged], "G"),
        // What is more urgent stays until someone has seen it.
        (&[Ready, ABNORMAL, NORMAL], "R"),
        (&[Ready, ABNORMAL, REFER], "R"),
        (&[Ready, REFER, NORMAL], "A"),
        (&[Ready, REFER, ABNORMAL], "R"),
        (&[Ready, ABNORMAL, Acknowledged, REFER], "A"),
        (&[Ready, fault], "a"),
        (&[Ready, DiskFull], "a"),
        (&[Ready, DeliveryStuck], "a"),
        (&[Ready, DiskFull, ABNORMAL], "aR"),
        (&[Ready, DiskFull, Acknowledged], "a"),
        (&[Ready, DiskFull, Recovered(Condition::DiskFull)], "G"),
        (&[Ready, fault, Recovered(Condition::Fault)], "G"),
        (&[Ready, fault, DiskFull, Recovered(Condition::Fault)], "a"),
        (&[Ready, DeliveryStuck, Recovered(Condition::DeliveryStuck), NORMAL], "G"),
    ];
    for (events, expected) in cases {
        let mut bench = Bench::new();
        for &event in *events {
            bench.send(event);
        }
        assert_eq!(bench.lamps(), *expected, "{events:?}");
    }
}

/// Covers: PNL-3
#[test]
fn a_silent_service_shows_red_blinking_and_stops_the_heartbeat() {
    for start in [0, u32::MAX - 1_000] {
        let mut bench = Bench::at(start, 64);
        bench.send(Event::Ready);
        bench.run(1_000);
        bench.is_service_alive = false;
        bench.run(SILENCE_MS + 100);
        let beats = bench.lines.heartbeat.changes.get();
        assert_eq!(bench.lamps(), "r");
        assert_eq!(bench.lines.heartbeat.changes.get(), beats);
        assert!(bench.panel.display_mut().shows(
            "FAULT",
            13,
            &embedded_graphics::mono_font::ascii::FONT_10X20
        ));
        bench.is_service_alive = true;
        bench.run(1_000);
        assert_eq!(bench.lamps(), "G");
        assert!(bench.lines.heartbeat.changes.get() > beats);
    }
}

#[test]
fn a_service_that_never_speaks_is_silent_too() {
    let mut bench = Bench::new();
    bench.is_service_alive = false;
    bench.run(SILENCE_MS + 100);
    assert_eq!(bench.lamps(), "r");
}

#[test]
fn the_heartbeat_changes_its_level_several_times_a_second() {
    let mut bench = Bench::ready();
    bench.run(10_000);
    let beats = bench.lines.heartbeat.changes.get();
    assert!((35..=41).contains(&beats), "{beats}");
}

#[test]
fn a_red_lamp_that_fails_stops_the_heartbeat() {
    let mut bench = Bench::ready();
    bench.run(1_000);
    bench.lines.red.is_broken.set(true);
    bench.send(ABNORMAL);
    let beats = bench.lines.heartbeat.changes.get();
    bench.run(1_000);
    assert_eq!(bench.lines.heartbeat.changes.get(), beats);
    assert!(bench.panel.errors(Part::Red) >= 100);
    bench.lines.red.is_broken.set(false);
    bench.run(1_000);
    assert!(bench.lines.red.is_high.get());
    assert!(bench.lines.heartbeat.changes.get() > beats);
}

#[test]
fn errors_are_counted_by_part_and_stop_nothing_else() {
    let mut bench = Bench::ready();
    bench.run(100);
    let lines = bench.lines.clone();
    let broken = [
        (Part::Button, &lines.button),
        (Part::Exposure, &lines.exposure),
        (Part::Green, &lines.green),
        (Part::Amber, &lines.amber),
        (Part::Buzzer, &lines.buzzer),
        (Part::Heartbeat, &lines.heartbeat),
    ];
    for (part, line) in broken {
        line.is_broken.set(true);
        assert_eq!(bench.panel.errors(part), 0);
    }
    bench.panel.display_mut().is_broken = true;
    bench.send(REFER);
    bench.run(500);
    bench.send(ABNORMAL);
    assert!(bench.lines.red.is_high.get());
    for part in
        [Part::Button, Part::Exposure, Part::Green, Part::Amber, Part::Buzzer, Part::Heartbeat]
    {
        assert!(bench.panel.errors(part) > 0, "{part:?}");
    }
    assert!(bench.panel.errors(Part::Display) > 0);
    assert_eq!(bench.panel.errors(Part::Red), 0);
    assert_eq!(bench.tick().failed, Some(Part::Display));
    bench.panel.display_mut().is_broken = false;
    assert!(bench.tick().redrawn);
}

/// Covers: PNL-4
#[test]
fn a_short_press_acknowledges_and_mutes() {
    let mut bench = Bench::ready();
    bench.run(100);
    bench.send(ABNORMAL);
    assert!(bench.is_on_within(6_000, |lines| &lines.buzzer));
    bench.lines.button.is_high.set(true);
    assert!(!bench.run(300));
    bench.lines.button.is_high.set(false);
    assert!(bench.run(300));
    assert!(!bench.is_on_within(6_000, |lines| &lines.buzzer));
    assert_eq!(bench.lamps(), "G");
}

#[test]
fn a_bouncing_contact_is_one_press() {
    let mut bench = Bench::ready();
    bench.run(100);
    let mut presses = 0;
    let levels = [1, 0, 1, 0, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0];
    for level in levels {
        bench.lines.button.is_high.set(level == 1);
        presses += u32::from(bench.tick().acknowledged);
    }
    assert_eq!(presses, 1);
    for level in [1, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0] {
        bench.lines.button.is_high.set(level == 1);
        assert!(!bench.tick().acknowledged);
    }
}

#[test]
fn a_long_press_lights_everything_and_acknowledges_nothing() {
    let mut bench = Bench::ready();
    bench.run(100);
    bench.send(ABNORMAL);
    bench.lines.button.is_high.set(true);
    bench.run(2_200);
    assert_eq!(bench.lamps(), "GAR");
    assert!(bench.lines.buzzer.is_high.get());
    bench.lines.button.is_high.set(false);
    assert!(!bench.run(300));
    assert_eq!(bench.lamps(), "R");
}

#[test]
fn a_button_that_is_stuck_from_the_start_acknowledges_nothing() {
    let mut bench = Bench::new();
    bench.lines.button.is_high.set(true);
    bench.send(Event::Ready);
    bench.send(ABNORMAL);
    assert!(!bench.run(5_000));
    assert_eq!(bench.lamps(), "R");
}

#[test]
fn findings_and_alarms_sound_different_and_go_on() {
    let tones = |event: Event| {
        let mut bench = Bench::ready();
        bench.send(event);
        bench.run(9_900);
        let tones = bench.lines.buzzer.changes.get();
        bench.send(Event::Acknowledged);
        assert!(!bench.is_on_within(10_000, |lines| &lines.buzzer));
        tones
    };
    // Each tone changes the line twice; ten seconds hold two rounds.
    assert_eq!(tones(ABNORMAL), 8);
    assert_eq!(tones(Event::DiskFull), 4);
    assert_eq!(tones(REFER), 2);
    assert_eq!(tones(NORMAL), 0);
}

#[test]
fn an_exposure_in_vain_is_warned_of() {
    let warns = |events: &[Event]| {
        let mut bench = Bench::new();
        for &event in events {
            bench.send(event);
        }
        bench.send(Event::Acknowledged);
        bench.run(200);
        bench.lines.exposure.is_high.set(true);
        let warns = bench.is_on_within(500, |lines| &lines.buzzer);
        assert!(bench.tick().exposure_ready);
        warns
    };
    assert!(!warns(&[Event::Ready]));
    assert!(!warns(&[Event::Ready, Event::DeliveryStuck]));
    assert!(warns(&[]));
    assert!(warns(&[Event::Ready, Event::DiskFull]));
    assert!(warns(&[Event::Ready, Event::Fault(Fault::Storage)]));
}

#[test]
fn displays_of_both_sizes_show_the_verdict_and_the_notice() {
    use embedded_graphics::mono_font::ascii::{FONT_6X10, FONT_9X15_BOLD, FONT_10X20};
    let rows = [(64, 13, &FONT_10X20, 36, 52), (32, 0, &FONT_9X15_BOLD, 20, 20)];
    for (height, headline, font, detail, notice) in rows {
        let mut bench = Bench::at(0, height);
        bench.send(Event::Ready);
        bench.send(ABNORMAL);
        let wanted = [
            ("ABNORMAL", headline, font),
            ("scoliosis 87%", detail, &FONT_6X10),
            ("decision support,", notice, &FONT_6X10),
            ("not a diagnosis", notice, &FONT_6X10),
        ];
        let mut seen = [false; 4];
        for _ in 0..12_000 / TICK_MS {
            bench.tick();
            for (seen, (text, top, font)) in seen.iter_mut().zip(wanted) {
                *seen = *seen || bench.panel.display_mut().shows(text, top, font);
            }
        }
        assert_eq!(seen, [true; 4], "{height} pixels high");
    }
}

#[test]
fn the_queue_length_is_shown() {
    let mut bench = Bench::ready();
    bench.send(Event::Heartbeat { waiting: 12 });
    let font = &embedded_graphics::mono_font::ascii::FONT_6X10;
    assert!(bench.panel.display_mut().shows("ready          q 12", 0, font));
}

#[test]
fn the_display_is_drawn_when_its_content_changes() {
    let mut bench = Bench::ready();
    let redrawn = (0..100).filter(|_| bench.tick().redrawn).count();
    assert_eq!(redrawn, 0);
    assert!(bench.send(NORMAL).redrawn);
    assert!(!bench.tick().redrawn);
    bench.panel.redraw();
    assert!(bench.tick().redrawn);
}

/// Covers: PNL-2
#[test]
fn a_full_queue_drops_the_oldest_that_is_no_alarm() {
    const fn beat(waiting: u16) -> Event {
        Event::Heartbeat { waiting }
    }
    const FULL: Event = Event::DiskFull;
    type Case<'a> = (&'a [Event], &'a [Event], (u32, u32));
    // What is pushed into three places, what is left, and the drops of both kinds.
    let cases: &[Case] = &[
        (&[beat(1), beat(2), beat(3)], &[beat(1), beat(2), beat(3)], (0, 0)),
        (&[beat(1), beat(2), beat(3), beat(4)], &[beat(2), beat(3), beat(4)], (1, 0)),
        (&[FULL, beat(1), beat(2), REFER], &[FULL, beat(2), REFER], (1, 0)),
        (&[FULL, ABNORMAL, beat(1), beat(2)], &[FULL, ABNORMAL, beat(2)], (1, 0)),
        (&[FULL, REFER, ABNORMAL, beat(1)], &[FULL, REFER, ABNORMAL], (1, 0)),
        (&[FULL, REFER, ABNORMAL, FULL], &[REFER, ABNORMAL, FULL], (0, 1)),
        (&[beat(1), FULL, FULL, FULL, FULL], &[FULL, FULL, FULL], (1, 1)),
    ];
    for (pushed, left, drops) in cases {
        let mut queue = Queue::<3>::new();
        pushed.iter().for_each(|&event| queue.push(event));
        let popped: Vec<Event> = core::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(popped, *left, "{pushed:?}");
        assert_eq!((queue.dropped(), queue.dropped_alarms()), *drops, "{pushed:?}");
    }
}

/// The very transactions on lines of both polarities, and that nothing is written twice.
#[test]
fn lines_are_set_at_their_active_level_and_only_when_they_change() {
    use State::{High, Low};
    let outputs = |states: &[State]| {
        Mock::new(&states.iter().map(|&state| Transaction::set(state)).collect::<Vec<_>>())
    };
    let inputs = |state| Mock::new(&std::vec![Transaction::get(state); 3]);
    let broken = Transaction::set(High).with_error(MockError::Io(std::io::ErrorKind::Other));
    let mut parts = Parts {
        green: outputs(&[Low, High, Low]),
        amber: outputs(&[High, Low]),
        red: outputs(&[High, Low]),
        buzzer: Mock::new(&[broken, Transaction::set(High), Transaction::set(Low)]),
        button: inputs(High),
        exposure: inputs(Low),
        heartbeat: outputs(&[]),
        display: Picture::new(32),
    };
    let wiring =
        Wiring { red: Active::Low, buzzer: Active::Low, button: Active::Low, ..Wiring::default() };
    let mut ends =
        (parts.green.clone(), parts.amber.clone(), parts.red.clone(), parts.buzzer.clone());
    let mut inputs = (parts.button.clone(), parts.exposure.clone(), parts.heartbeat.clone());
    parts.display.is_broken = false;
    let mut panel = Panel::new(parts, wiring, 0);
    let mut queue = Queue::<4>::new();
    assert_eq!(panel.tick(10, &mut queue).failed, Some(Part::Buzzer));
    queue.push(Event::Ready);
    assert_eq!(panel.tick(20, &mut queue).failed, None);
    queue.push(ABNORMAL);
    panel.tick(30, &mut queue);
    assert_eq!(panel.errors(Part::Buzzer), 1);
    for mock in [&mut ends.0, &mut ends.1, &mut ends.2, &mut ends.3] {
        mock.done();
    }
    for mock in [&mut inputs.0, &mut inputs.1, &mut inputs.2] {
        mock.done();
    }
}

/// Covers: PNL-1
#[test]
fn the_crate_has_neither_standard_library_nor_allocator() {
    let root = include_str!("lib.rs");
    assert!(root.contains("#![no_std]"));
    let sources = [
        root,
        include_str!("button.rs"),
        include_str!("buzzer.rs"),
        include_str!("event.rs"),
        include_str!("output.rs"),
        include_str!("panel.rs"),
        include_str!("queue.rs"),
        include_str!("screen.rs"),
        include_str!("status.rs"),
    ];
    for source in sources {
        assert!(!source.contains("extern crate alloc") && !source.contains("use std"));
    }
    let modules = root.lines().filter(|line| line.starts_with("mod ")).count();
    assert_eq!(modules, sources.len(), "every module but this one, and the root");
}
