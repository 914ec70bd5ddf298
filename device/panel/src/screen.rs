//! What the display shows, on 128 x 64 or 128 x 32 pixels.

use core::fmt::Write;

use embedded_graphics::mono_font::ascii::{FONT_6X10, FONT_9X15_BOLD, FONT_10X20};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::{DrawTarget, Drawable, Point};
use embedded_graphics::text::{Baseline, Text};
use heapless::String;

/// Characters of [`FONT_6X10`] in 128 pixels.
const COLUMNS: usize = 21;
const TALL: u32 = 64;
const NOTICE: [&str; 2] = ["decision support,", "not a diagnosis"];

type Line = String<COLUMNS>;

/// The content of the display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Screen {
    pub(crate) state: &'static str,
    pub(crate) headline: &'static str,
    pub(crate) detail: Option<Detail>,
    pub(crate) waiting: u16,
    /// Counts up; decides which of several lines is shown.
    pub(crate) turn: u32,
}

/// The likeliest class of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Detail {
    pub(crate) class: &'static str,
    pub(crate) percent: u8,
}

impl Screen {
    /// Draws everything on a cleared display.
    pub(crate) fn draw<D: DrawTarget<Color = BinaryColor>>(
        &self,
        display: &mut D,
    ) -> Result<(), D::Error> {
        display.clear(BinaryColor::Off)?;
        if display.bounding_box().size.height >= TALL {
            write_at(display, 0, &FONT_6X10, &self.state_line())?;
            write_at(display, 13, &FONT_10X20, self.headline)?;
            write_at(display, 36, &FONT_6X10, &self.detail_line())?;
            write_at(display, 52, &FONT_6X10, NOTICE[self.turn as usize % 2])
        } else {
            write_at(display, 0, &FONT_9X15_BOLD, self.headline)?;
            let line = match self.turn % 4 {
                0 if self.detail.is_some() => self.detail_line(),
                0 | 1 => self.state_line(),
                turn => line_of(format_args!("{}", NOTICE[turn as usize % 2])),
            };
            write_at(display, 20, &FONT_6X10, &line)
        }
    }

    fn state_line(&self) -> Line {
        if self.waiting == 0 {
            return line_of(format_args!("{}", self.state));
        }
        line_of(format_args!("{:<14} q {}", self.state, self.waiting.min(9_999)))
    }

    fn detail_line(&self) -> Line {
        match self.detail {
            // "100 %" would promise more than any model can keep.
            Some(Detail { class, percent }) => {
                line_of(format_args!("{class:.17} {}%", percent.min(99)))
            }
            None => Line::new(),
        }
    }
}

/// A text as far as it fits.
fn line_of(text: core::fmt::Arguments<'_>) -> Line {
    let mut line = Line::new();
    // What does not fit is left out: the parts above are chosen to fit.
    let _ = line.write_fmt(text);
    line
}

fn write_at<D: DrawTarget<Color = BinaryColor>>(
    display: &mut D,
    top: i32,
    font: &MonoFont<'_>,
    text: &str,
) -> Result<(), D::Error> {
    let style = MonoTextStyle::new(font, BinaryColor::On);
    Text::with_baseline(text, Point::new(0, top), style, Baseline::Top).draw(display).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_fits() {
        let detail = Some(Detail { class: "spondylolisthesis", percent: 100 });
        let screen =
            Screen { state: "fault: storage", headline: "", detail, waiting: u16::MAX, turn: 0 };
        assert_eq!(screen.state_line(), "fault: storage q 9999");
        assert_eq!(screen.detail_line(), "spondylolisthesis 99%");
        assert!(NOTICE.iter().all(|line| line.len() <= COLUMNS));
    }
}
