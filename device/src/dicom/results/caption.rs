//! The overlay with a band below that says what was decided, by whom and when.
//!
//! The band covers no anatomy. Letters grow with the picture.

use std::convert::Infallible;

use embedded_graphics::mono_font::{MonoFont, MonoTextStyle, ascii as fonts};
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::{DrawTarget, Drawable, OriginDimensions, Pixel, Point, Size};
use embedded_graphics::text::{Baseline, Text};
use image::{Rgb, RgbImage, imageops};

use super::dataset::ascii;
use super::{ResultError, Scene, modules, words};
use crate::overlay::{CONTOUR, shown_colour};
use crate::record::Verdict;

/// Narrower pictures stand in the middle of a canvas of this width, so that words fit below.
const MIN_WIDTH: u32 = 320;
/// Longest side of a DICOM image.
const MAX_SIDE: u32 = u16::MAX as u32;
/// Fewest and most characters that a line should hold; between them letters keep their size.
const LINE: [u32; 2] = [54, 78];
/// Width in pixels of a letter that is read with ease.
const EASY: u32 = 13;
/// Most reasons shown, and most lines for each; the report has all of them.
const REASONS: usize = 3;
const REASON_LINES: usize = 3;

type Colour = Rgb<u8>;
const GROUND: Colour = Rgb([11, 15, 19]);
const INK: Colour = Rgb([231, 237, 242]);
const MUTED: Colour = Rgb([157, 173, 186]);

/// The captioned picture.
///
/// # Errors
/// [`ResultError::OverlaySize`] when the overlay is empty or too large for a DICOM image.
pub fn captioned(scene: &Scene<'_>) -> Result<RgbImage, ResultError> {
    let overlay = &scene.judged.overlay;
    let (columns, rows) = overlay.dimensions();
    let too_large = || ResultError::OverlaySize(columns, rows);
    if columns == 0 || rows == 0 || columns > MAX_SIDE {
        return Err(too_large());
    }
    let width = columns.max(MIN_WIDTH);
    let lines = lines(scene, width);
    let margin = Face::for_text(width).width();
    let band = lines.iter().map(Line::height).sum::<u32>() + 2 * margin;
    let height = rows.checked_add(band).filter(|&h| h <= MAX_SIDE).ok_or_else(too_large)?;
    let mut canvas = RgbImage::from_pixel(width, height, GROUND);
    imageops::replace(&mut canvas, overlay, i64::from((width - columns) / 2), 0);
    let mut top = rows + margin;
    for line in &lines {
        line.draw(&mut canvas, margin, top);
        top += line.height();
    }
    Ok(canvas)
}

/// A line of the band.
enum Line {
    /// A word on a coloured ground, and what follows it.
    Headline { face: Face, badge: String, badge_colour: Colour, text: String },
    /// Plain text.
    Text { face: Face, colour: Colour, text: String },
    /// The colours of the heat map.
    Legend { face: Face },
}

fn lines(scene: &Scene<'_>, width: u32) -> Vec<Line> {
    let record = &scene.judged.record;
    let small = Face::for_text(width);
    let capacity = (width / small.width()).saturating_sub(2).max(1) as usize;
    let text = |colour, text: &str, most: usize| {
        let lines = wrapped(text, capacity).into_iter().take(most);
        lines.map(move |text| Line::Text { face: small, colour, text }).collect::<Vec<_>>()
    };
    let mut lines = vec![headline(scene, width)];
    for reason in words::reasons(record, REASONS) {
        lines.extend(text(INK, &reason, REASON_LINES));
    }
    if scene.judged.heat.is_some() {
        lines.push(Line::Legend { face: small });
    } else {
        lines.extend(text(MUTED, "No heat map.", 1));
    }
    lines.extend(text(INK, words::NOTICE, 2));
    lines.extend(text(MUTED, &words::model(record), 2));
    let moment = modules::moment(scene).format("%Y-%m-%d %H:%M %:z");
    let device = scene.device;
    let made = ascii(&format!("{} {} {}", device.manufacturer, device.model, device.software), 200);
    lines.extend(text(MUTED, &format!("{moment}  {made}"), 2));
    lines
}

fn headline(scene: &Scene<'_>, width: u32) -> Line {
    let record = &scene.judged.record;
    let (badge, text) = (words::verdict(record), words::finding(record));
    let badge_colour = match record.verdict {
        Verdict::Normal => Rgb([131, 217, 170]),
        Verdict::Abnormal => Rgb([255, 164, 156]),
        Verdict::Refer => Rgb([244, 198, 110]),
    };
    let length = (badge.len() + text.len() + 5) as u32;
    let usual = Face::characters(width) * 2 / 3;
    let face = Face::fitting(width, length.max(usual), &BOLD);
    Line::Headline { face, badge, badge_colour, text }
}

impl Line {
    fn height(&self) -> u32 {
        match self {
            Line::Headline { face, .. } => face.height() * 2,
            Line::Text { face, .. } => face.height() + face.height() / 4,
            Line::Legend { face } => face.height() * 3 / 2,
        }
    }

    fn draw(&self, canvas: &mut RgbImage, left: u32, top: u32) {
        match self {
            Line::Headline { face, badge, badge_colour, text } => {
                let (step, pad) = (face.width(), face.height() / 4);
                let width = (badge.len() as u32 + 1) * step;
                fill(canvas, [left, top, width, face.height() + 2 * pad], *badge_colour);
                face.write(canvas, [left + step / 2, top + pad], GROUND, badge);
                face.write(canvas, [left + width + step, top + pad], INK, text);
            }
            Line::Text { face, colour, text } => face.write(canvas, [left, top], *colour, text),
            Line::Legend { face } => legend(canvas, *face, left, top),
        }
    }
}

/// From no evidence to the strongest, with a mark in the contour's colour at the contour's heat.
fn legend(canvas: &mut RgbImage, face: Face, left: u32, top: u32) {
    /// Grey under the colours: that of bone, where evidence matters.
    const GREY: u8 = 128;
    let (step, width) = (face.width(), face.width() * 14);
    face.write(canvas, [left, top], MUTED, "Evidence: none");
    let bar = left + 15 * step;
    let height = face.height() * 4 / 5;
    for x in 0..width {
        let heat = x as f32 / (width - 1) as f32;
        let mark = (heat - CONTOUR).abs() * width as f32 <= face.scale;
        let colour = if mark { [255; 3] } else { shown_colour(heat, GREY) };
        fill(canvas, [bar + x, top + height / 8, 1, height], Rgb(colour));
    }
    face.write(canvas, [bar + width + step, top], MUTED, "strongest, line: half");
}

/// Text in lines of at most `capacity` characters, broken at spaces where there are any.
fn wrapped(text: &str, capacity: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let mut word = word;
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= capacity => {
                line.push(' ');
                line.push_str(word);
                continue;
            }
            _ => {}
        }
        while let Some((head, tail)) =
            word.split_at_checked(capacity).filter(|(_, t)| !t.is_empty())
        {
            lines.push(head.to_string());
            word = tail;
        }
        lines.push(word.to_string());
    }
    lines
}

fn fill(canvas: &mut RgbImage, [left, top, width, height]: [u32; 4], colour: Colour) {
    for y in top..(top + height).min(canvas.height()) {
        for x in left..(left + width).min(canvas.width()) {
            canvas.put_pixel(x, y, colour);
        }
    }
}

/// Upright letters, from small to large.
const PLAIN: [&MonoFont; 6] = [
    &fonts::FONT_6X10,
    &fonts::FONT_6X13,
    &fonts::FONT_7X13,
    &fonts::FONT_8X13,
    &fonts::FONT_9X15,
    &fonts::FONT_10X20,
];
/// Heavy letters, from small to large.
const BOLD: [&MonoFont; 4] = [
    &fonts::FONT_6X13_BOLD,
    &fonts::FONT_7X13_BOLD,
    &fonts::FONT_8X13_BOLD,
    &fonts::FONT_9X18_BOLD,
];

/// A font, and by how much it is enlarged; 1 or more.
#[derive(Clone, Copy)]
struct Face {
    font: &'static MonoFont<'static>,
    scale: f32,
}

impl Face {
    /// The face of running text in a band of this width.
    fn for_text(width: u32) -> Self {
        Self::fitting(width, Self::characters(width), &PLAIN)
    }

    /// How many characters a line holds.
    fn characters(width: u32) -> u32 {
        (width / EASY).clamp(LINE[0], LINE[1])
    }

    /// The largest letters of which `count` fit into `width`; or else the smallest there are.
    fn fitting(width: u32, count: u32, fonts: &[&'static MonoFont<'static>]) -> Self {
        // Whole pixels, so that letters do not drift apart from what is drawn beside them.
        let cell = (width / count.max(1)) as f32;
        let fits = |font: &&&'static MonoFont<'static>| font.character_size.width as f32 <= cell;
        let font = fonts.iter().rev().find(fits).unwrap_or(&fonts[0]);
        // The largest font is enlarged; a smaller one has its own pixels.
        let largest = std::ptr::eq(*font, fonts[fonts.len() - 1]);
        let scale = if largest { cell / font.character_size.width as f32 } else { 1.0 };
        Self { font, scale: scale.max(1.0) }
    }

    fn width(self) -> u32 {
        (self.font.character_size.width as f32 * self.scale) as u32
    }

    fn height(self) -> u32 {
        (self.font.character_size.height as f32 * self.scale) as u32
    }

    /// Writes one line of text. Enlarged letters have smooth edges.
    fn write(self, canvas: &mut RgbImage, [left, top]: [u32; 2], colour: Colour, text: &str) {
        let letters = Letters::new(self.font, text);
        let width = (letters.width as f32 * self.scale) as u32;
        let (right, bottom) = (left.saturating_add(width), top.saturating_add(self.height()));
        for y in top..bottom.min(canvas.height()) {
            for x in left..right.min(canvas.width()) {
                let place = |at: u32, start: u32| ((at - start) as f32 + 0.5) / self.scale - 0.5;
                let ink = letters.ink(place(x, left), place(y, top));
                // Steep enough that paper stays paper.
                let alpha = ((ink - 0.45) * self.scale.max(1.2) + 0.5).clamp(0.0, 1.0);
                let under = canvas.get_pixel(x, y).0;
                let mixed = std::array::from_fn(|i| {
                    let (under, over) = (f32::from(under[i]), f32::from(colour.0[i]));
                    (under + (over - under) * alpha).round() as u8
                });
                canvas.put_pixel(x, y, Rgb(mixed));
            }
        }
    }
}

/// A line of text in the pixels of its font.
struct Letters {
    width: usize,
    height: usize,
    set: Vec<bool>,
}

impl Letters {
    fn new(font: &'static MonoFont<'static>, text: &str) -> Self {
        let size = font.character_size;
        let (width, height) = (size.width as usize * text.len(), size.height as usize);
        let mut letters = Self { width, height, set: vec![false; width * height] };
        let style = MonoTextStyle::new(font, BinaryColor::On);
        let text = Text::with_baseline(text, Point::zero(), style, Baseline::Top);
        // Drawing into memory cannot fail.
        let Ok(_) = text.draw(&mut letters);
        letters
    }

    /// Between the pixels' centres, 0 to 1.
    fn ink(&self, x: f32, y: f32) -> f32 {
        let (left, top) = (x.floor(), y.floor());
        let row = |row: f32| {
            let (a, b) = (self.at(left, row), self.at(left + 1.0, row));
            a + (b - a) * (x - left)
        };
        let (above, below) = (row(top), row(top + 1.0));
        above + (below - above) * (y - top)
    }

    fn at(&self, x: f32, y: f32) -> f32 {
        let inside =
            x >= 0.0 && y >= 0.0 && (x as usize) < self.width && (y as usize) < self.height;
        if inside && self.set[y as usize * self.width + x as usize] { 1.0 } else { 0.0 }
    }
}

impl OriginDimensions for Letters {
    fn size(&self) -> Size {
        Size::new(self.width as u32, self.height as u32)
    }
}

impl DrawTarget for Letters {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        for Pixel(point, _) in pixels.into_iter().filter(|pixel| pixel.1.is_on()) {
            let place = usize::try_from(point.x).ok().zip(usize::try_from(point.y).ok());
            if let Some((x, y)) = place.filter(|p| p.0 < self.width && p.1 < self.height) {
                self.set[y * self.width + x] = true;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_wraps_at_spaces_and_long_words_break() {
        assert_eq!(wrapped("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrapped("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrapped("", 4), [""]);
    }

    #[test]
    fn letters_grow_with_the_picture() {
        let widths: Vec<u32> = (320..4000).map(|width| Face::for_text(width).width()).collect();
        assert!(widths.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(widths[0] == 6 && widths[widths.len() - 1] > 40, "{widths:?}");
        for (width, letter) in (324..).zip(&widths[4..]) {
            assert!(letter * LINE[0] <= width, "{letter} in {width}");
        }
    }

    #[test]
    fn letters_leave_the_ground_between_them_alone() {
        for scale in [1.0, 1.3, 4.0] {
            let face = Face { font: PLAIN[0], scale };
            let mut canvas = RgbImage::from_pixel(100, 60, GROUND);
            face.write(&mut canvas, [0, 0], INK, "il");
            let count = |colour: Colour| canvas.pixels().filter(|p| **p == colour).count();
            let (ink, ground) = (count(INK), count(GROUND));
            // Less than half of the two letters' box is ink.
            let most = (2.0 * 6.0 * 10.0 * scale * scale / 2.0) as usize;
            assert!(ink > 0 && ground > 6_000 - most, "{ink} and {ground} at {scale}");
        }
    }
}
