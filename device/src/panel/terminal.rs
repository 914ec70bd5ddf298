//! A panel of text, for a desk.

use std::cell::Cell;
use std::convert::Infallible;
use std::io::Write;
use std::rc::Rc;

use ::panel::{Panel, Parts, Wiring};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::{DrawTarget, OriginDimensions, Pixel, Size};
use embedded_hal::digital::{ErrorType, InputPin, OutputPin};

use super::display::{Display, DisplayFailed};

const WIDTH: usize = 128;
const HEIGHT: usize = 64;
/// A braille character stands for two by four pixels.
const COLUMNS: usize = WIDTH / 2;
const ROWS: usize = HEIGHT / 4;

type TerminalPanel = Panel<Lamp, Lamp, Lamp, Lamp, Unconnected, Unconnected, Unconnected, Terminal>;

/// A panel that prints itself whenever it changes, over its last picture.
pub(super) fn panel(out: Box<dyn Write + Send>) -> TerminalPanel {
    let lamps: [Rc<Cell<bool>>; 4] = Default::default();
    let line = |place: usize| Lamp(Rc::clone(&lamps[place]));
    let parts = Parts {
        green: line(0),
        amber: line(1),
        red: line(2),
        buzzer: line(3),
        button: Unconnected,
        exposure: Unconnected,
        heartbeat: Unconnected,
        display: Terminal { out, pixels: [false; WIDTH * HEIGHT], printed: String::new(), lamps },
    };
    Panel::new(parts, Wiring::default(), 0)
}

/// A lamp or buzzer.
pub(super) struct Lamp(Rc<Cell<bool>>);

impl ErrorType for Lamp {
    type Error = Infallible;
}

impl OutputPin for Lamp {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.set(false);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.set(true);
        Ok(())
    }
}

/// A line that a desk does not have: written to in vain, always low.
pub(super) struct Unconnected;

impl ErrorType for Unconnected {
    type Error = Infallible;
}

impl OutputPin for Unconnected {
    fn set_low(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl InputPin for Unconnected {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        Ok(true)
    }
}

/// The lamps' line, and below it the display as braille.
pub(super) struct Terminal {
    out: Box<dyn Write + Send>,
    pixels: [bool; WIDTH * HEIGHT],
    printed: String,
    lamps: [Rc<Cell<bool>>; 4],
}

impl Terminal {
    fn text(&self) -> String {
        let name = ["green", "amber", "red", "buzzer"];
        let lamps = self.lamps.iter().zip(name).map(|(lamp, name)| {
            let sign = if lamp.get() { '#' } else { ' ' };
            format!("[{sign}] {name}")
        });
        let mut text = lamps.collect::<Vec<_>>().join("  ") + "\n";
        for row in 0..ROWS {
            text.extend((0..COLUMNS).map(|column| self.braille(column, row)));
            text.push('\n');
        }
        text
    }

    /// The character for two by four pixels (Unicode, Braille Patterns: U+2800 and eight bits).
    fn braille(&self, column: usize, row: usize) -> char {
        const BITS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        let mut dots = 0;
        for (y, bits) in BITS.iter().enumerate() {
            for (x, bit) in bits.iter().enumerate() {
                if self.pixels[(row * 4 + y) * WIDTH + column * 2 + x] {
                    dots |= bit;
                }
            }
        }
        char::from_u32(0x2800 + dots).unwrap_or(' ')
    }
}

impl Display for Terminal {
    fn show(&mut self, _is_new: bool) -> Result<(), DisplayFailed> {
        let text = self.text();
        if text == self.printed {
            return Ok(());
        }
        // Up over the last picture, line by line cleared.
        let up = if self.printed.is_empty() { 0 } else { ROWS + 1 };
        let lines = text.lines().map(|line| format!("\x1b[K{line}\n"));
        let picture = (0..up).map(|_| "\x1b[A".to_owned()).chain(lines).collect::<String>();
        self.out.write_all(picture.as_bytes()).map_err(|_| DisplayFailed)?;
        self.out.flush().map_err(|_| DisplayFailed)?;
        self.printed = text;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), DisplayFailed> {
        self.printed.clear();
        Ok(())
    }
}

impl OriginDimensions for Terminal {
    fn size(&self) -> Size {
        Size::new(WIDTH as u32, HEIGHT as u32)
    }
}

impl DrawTarget for Terminal {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        for Pixel(at, color) in pixels {
            let (Ok(x), Ok(y)) = (usize::try_from(at.x), usize::try_from(at.y)) else { continue };
            if x < WIDTH && y < HEIGHT {
                self.pixels[y * WIDTH + x] = color.is_on();
            }
        }
        Ok(())
    }
}
