//! The overlay with a band below that says what was decided, by whom and when.
//!
//! The band covers no anatomy. Letters grow with the picture, in whole steps, so they stay crisp.

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
/// Characters that a line should hold, if letters can be small enough.
const LINE: u32 = 54;
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
    let margin = Face::fitting(width, LINE).width();
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
    let small = Face::fitting(width, LINE);
    let capacity = (width / small.width()).saturating_sub(2).max(1) as usize;
    let text = |colour, text: &str, most: usize| {
        let lines = wrapped(text, capacity).into_iter().take(most);
        lines.map(move |text| Line::Text { face: small, colour, text }).collect::<Vec<_>>()
    };
    let mut lines = headline(scene, width);
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

/// One line where it fits in large letters; else what was found goes below the verdict.
fn headline(scene: &Scene<'_>, width: u32) -> Vec<Line> {
    let record = &scene.judged.record;
    let (badge, text) = (words::verdict(record), words::finding(record));
    let badge_colour = match record.verdict {
        Verdict::Normal => Rgb([131, 217, 170]),
        Verdict::Abnormal => Rgb([255, 164, 156]),
        Verdict::Refer => Rgb([244, 198, 110]),
    };
    let length = (badge.len() + text.len() + 5) as u32;
    let face = Face::fitting(width, length.max(LINE * 2 / 3));
    vec![Line::Headline { face, badge, badge_colour, text }]
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

/// `Evidence: weak [colours] strong`, with the contour's own mark at its heat.
fn legend(canvas: &mut RgbImage, face: Face, left: u32, top: u32) {
    /// Grey under the colours: that of bone, where evidence matters.
    const GREY: u8 = 128;
    let (step, width) = (face.width(), face.width() * 16);
    face.write(canvas, [left, top], MUTED, "Evidence: none");
    let bar = left + 15 * step;
    let height = face.height() * 4 / 5;
    for x in 0..width {
        let heat = x as f32 / (width - 1) as f32;
        let mark = (heat - CONTOUR).abs() * width as f32 <= face.scale as f32;
        let colour = if mark { [255; 3] } else { shown_colour(heat, GREY) };
        fill(canvas, [bar + x, top + height / 8, 1, height], Rgb(colour));
    }
    face.write(canvas, [bar + width + step, top], MUTED, "strongest");
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
        while let Some((head, tail)) = word.split_at_checked(capacity).filter(|(_, t)| !t.is_empty()) {
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

/// A font, each of whose pixels covers `scale` x `scale` of the picture.
#[derive(Clone, Copy)]
struct Face {
    font: &'static MonoFont<'static>,
    scale: u32,
}

impl Face {
    /// The largest letters of which `count` fit into `width`; or else the smallest there are.
    fn fitting(width: u32, count: u32) -> Self {
        let fonts = [
            &fonts::FONT_6X10,
            &fonts::FONT_6X13,
            &fonts::FONT_7X13,
            &fonts::FONT_8X13,
            &fonts::FONT_9X15,
            &fonts::FONT_9X18,
            &fonts::FONT_10X20,
        ];
        let mut best = Self { font: fonts[0], scale: 1 };
        for font in fonts {
            let scale = width / (count.max(1) * font.character_size.width);
            let face = Self { font, scale };
            // Among equals the finer font.
            if scale > 0 && (face.width(), face.height()) >= (best.width(), best.height()) {
                best = face;
            }
        }
        best
    }

    fn width(self) -> u32 {
        self.font.character_size.width * self.scale
    }

    fn height(self) -> u32 {
        self.font.character_size.height * self.scale
    }

    fn write(self, canvas: &mut RgbImage, [left, top]: [u32; 2], colour: Colour, text: &str) {
        let mut target = Magnified { canvas, left, top, scale: self.scale, colour };
        let style = MonoTextStyle::new(self.font, BinaryColor::On);
        // Drawing into memory cannot fail.
        let Ok(_) = Text::with_baseline(text, Point::zero(), style, Baseline::Top).draw(&mut target);
    }
}

/// A part of the canvas, magnified, that takes set pixels in one colour.
struct Magnified<'a> {
    canvas: &'a mut RgbImage,
    left: u32,
    top: u32,
    scale: u32,
    colour: Colour,
}

impl OriginDimensions for Magnified<'_> {
    fn size(&self) -> Size {
        Size::new(self.canvas.width(), self.canvas.height())
    }
}

impl DrawTarget for Magnified<'_> {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        for Pixel(point, _) in pixels.into_iter().filter(|p| p.1.is_on()) {
            let (Ok(x), Ok(y)) = (u32::try_from(point.x), u32::try_from(point.y)) else { continue };
            let corner = [self.left + x * self.scale, self.top + y * self.scale];
            fill(self.canvas, [corner[0], corner[1], self.scale, self.scale], self.colour);
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
        let widths = [320, 500, 1000, 2000, 4000].map(|width| Face::fitting(width, LINE).width());
        assert!(widths.windows(2).all(|pair| pair[0] <= pair[1]), "{widths:?}");
        for (face, width) in widths.into_iter().zip([320, 500, 1000, 2000, 4000]) {
            assert!(face * LINE <= width.max(6 * LINE), "{face} in {width}");
        }
    }
}
