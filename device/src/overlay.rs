//! Pictures for people: a scan in grey, and the scan under its class activation map.
//!
//! Cold regions show the radiograph untouched, so that the heat never hides what it does not
//! explain. No scale is drawn into a picture, for it would cover anatomy; whoever shows one
//! draws the scale beside it with [`shown_colour`].

use image::imageops::{self, FilterType};
use image::{GrayImage, Luma, Rgb, RgbImage};
use models::preprocess::{Letterbox, SIDE};
use models::radiograph::Radiograph;

/// Longest side of a picture in pixels; larger scans are scaled down.
pub const MAX_SIDE: u32 = 1024;
/// Heat up to this value leaves the radiograph untouched.
pub const COLD: f32 = 0.2;
/// The heat that the contour line follows.
pub const CONTOUR: f32 = 0.5;

/// Opacity of the hottest point.
const MAX_ALPHA: f32 = 0.65;
/// Half the width of the contour line, in pixels of the picture.
const CONTOUR_HALF_WIDTH: f32 = 0.6;
const CONTOUR_ALPHA: f32 = 0.85;
/// Share of the samples, in thousandths, that the display stretch gives up at each end.
const CLIPPED_PER_MILLE: u64 = 5;

/// The scan in grey under its heat map, with a thin line around the half-hot region.
///
/// `heat` has [`SIDE`] x [`SIDE`] values of 0 to 1 in row order, in the coordinates of the
/// network's letterboxed input; `frame` is where the scan lies in that input. The picture has the
/// scan's size, or less so that no side exceeds [`MAX_SIDE`]. Heat between pixel centres is
/// bilinear; a heat that is no number counts as cold.
///
/// # Panics
/// When `heat` does not have [`SIDE`] x [`SIDE`] values.
pub fn overlay_from_cam(scan: &Radiograph, heat: &[f32], frame: Letterbox) -> RgbImage {
    overlay_on_picture(&picture_from_scan(scan), heat, frame)
}

/// As [`overlay_from_cam`], on the picture that [`picture_from_scan`] made: for several maps of
/// one scan.
///
/// # Panics
/// When `heat` does not have [`SIDE`] x [`SIDE`] values.
pub fn overlay_on_picture(picture: &GrayImage, heat: &[f32], frame: Letterbox) -> RgbImage {
    let heat = HeatOnPicture::new(heat, frame, picture.dimensions());
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let grey = picture.get_pixel(x, y).0[0];
        let here = heat.at(x as f32, y as f32);
        let under_heat = shown_colour(here, grey);
        Rgb(mix(under_heat, [255; 3], heat.contour_alpha(x as f32, y as f32, here)))
    })
}

/// The scan in grey, stretched so that its 0.5th percentile is black and its 99.5th is white.
///
/// The picture has the scan's size, or less so that no side exceeds [`MAX_SIDE`]. A scan whose
/// two percentiles agree is shown as it is.
pub fn picture_from_scan(scan: &Radiograph) -> GrayImage {
    let (black, white) = display_window(scan.samples());
    let stretch = |sample: u16| {
        let above = u32::from(sample.clamp(black, white) - black);
        let range = u32::from(white - black);
        ((above * 255 + range / 2) / range) as u8
    };
    let (width, height) = (scan.width(), scan.height());
    let picture = GrayImage::from_fn(width, height, |x, y| {
        Luma([stretch(scan.samples()[y as usize * width as usize + x as usize])])
    });
    match limited_size(width, height) {
        size if size == (width, height) => picture,
        (width, height) => imageops::resize(&picture, width, height, FilterType::Triangle),
    }
}

/// The colour of a pixel of brightness `grey` under `heat` (0 to 1).
///
/// The hue is from inferno, a perceptually uniform map whose brightness always rises, so that it
/// reads the same with any colour vision and in a grey print; the opacity grows from none at
/// [`COLD`], quickly at first.
pub fn shown_colour(heat: f32, grey: u8) -> [u8; 3] {
    mix([grey; 3], inferno(heat), alpha(heat))
}

/// Anchors of inferno at every sixteenth, from the table of matplotlib 3.11
/// (`_cm_listed.py`, by N. J. Smith, S. van der Walt and E. Firing, released under CC0).
/// Straight lines between them stay within 7 of 255 of the full table.
const INFERNO: [[u8; 3]; 17] = [
    [0, 0, 4],
    [11, 7, 36],
    [33, 12, 74],
    [61, 9, 101],
    [87, 16, 110],
    [113, 25, 110],
    [138, 34, 106],
    [163, 44, 97],
    [188, 55, 84],
    [208, 69, 69],
    [227, 89, 51],
    [241, 113, 31],
    [249, 140, 10],
    [252, 170, 15],
    [249, 201, 50],
    [242, 232, 101],
    [252, 255, 164],
];

fn inferno(heat: f32) -> [u8; 3] {
    let position = heat.clamp(0.0, 1.0) * (INFERNO.len() - 1) as f32;
    let below = (position as usize).min(INFERNO.len() - 2);
    mix(INFERNO[below], INFERNO[below + 1], position - below as f32)
}

fn alpha(heat: f32) -> f32 {
    let t = ((heat - COLD) / (1.0 - COLD)).clamp(0.0, 1.0);
    MAX_ALPHA * t * (2.0 - t)
}

/// `under` covered by `over` with an opacity of 0 to 1.
fn mix(under: [u8; 3], over: [u8; 3], alpha: f32) -> [u8; 3] {
    std::array::from_fn(|i| {
        let (under, over) = (f32::from(under[i]), f32::from(over[i]));
        (under + (over - under) * alpha).round() as u8
    })
}

/// A heat map in the network's coordinates, read at the pixels of a picture.
struct HeatOnPicture<'a> {
    heat: &'a [f32],
    /// First and last column, and first and last row, that the scan covers in the input.
    columns: [f32; 2],
    rows: [f32; 2],
    /// Input pixels for one pixel of the picture, across and down.
    step: [f32; 2],
}

impl<'a> HeatOnPicture<'a> {
    fn new(heat: &'a [f32], frame: Letterbox, (width, height): (u32, u32)) -> Self {
        let expected = SIDE as usize * SIDE as usize;
        assert_eq!(heat.len(), expected, "a heat map has {SIDE} x {SIDE} values");
        let span = |start: u32, length: u32| {
            [start, start + length.max(1) - 1].map(|v| v.min(SIDE - 1) as f32)
        };
        Self {
            heat,
            columns: span(frame.left, frame.width),
            rows: span(frame.top, frame.height),
            step: [frame.width as f32 / width as f32, frame.height as f32 / height as f32],
        }
    }

    /// Bilinear heat at a pixel of the picture. Beyond the outermost centres inside the frame
    /// the nearest is used, so that the padding's heat never leaks in.
    fn at(&self, x: f32, y: f32) -> f32 {
        let place = |pixel: f32, step: f32, [first, last]: [f32; 2]| {
            (first + (pixel + 0.5) * step - 0.5).clamp(first, last)
        };
        let column = place(x, self.step[0], self.columns);
        let row = place(y, self.step[1], self.rows);
        let (left, top) = (column.floor(), row.floor());
        let (right, bottom) = ((left + 1.0).min(self.columns[1]), (top + 1.0).min(self.rows[1]));
        let across = |row: f32| {
            let (a, b) = (self.value(left, row), self.value(right, row));
            a + (b - a) * (column - left)
        };
        let (above, below) = (across(top), across(bottom));
        above + (below - above) * (row - top)
    }

    fn value(&self, column: f32, row: f32) -> f32 {
        let value = self.heat[row as usize * SIDE as usize + column as usize];
        if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Opacity of the contour line at a pixel: the distance to the line is the heat's difference
    /// from [`CONTOUR`] over the heat's slope, both at that pixel.
    fn contour_alpha(&self, x: f32, y: f32, here: f32) -> f32 {
        if here <= COLD {
            return 0.0;
        }
        let across = (self.at(x + 1.0, y) - self.at(x - 1.0, y)) / 2.0;
        let down = (self.at(x, y + 1.0) - self.at(x, y - 1.0)) / 2.0;
        let slope = across.hypot(down);
        if slope == 0.0 {
            return 0.0;
        }
        let distance = (here - CONTOUR).abs() / slope;
        CONTOUR_ALPHA * (CONTOUR_HALF_WIDTH + 0.5 - distance).clamp(0.0, 1.0)
    }
}

/// The samples shown black and white; the whole range where the percentiles agree.
fn display_window(samples: &[u16]) -> (u16, u16) {
    let mut counts = vec![0u64; usize::from(u16::MAX) + 1];
    for &sample in samples {
        counts[usize::from(sample)] += 1;
    }
    let clipped = samples.len() as u64 * CLIPPED_PER_MILLE / 1000;
    let black = first_beyond((0..=u16::MAX).map(|v| (v, counts[usize::from(v)])), clipped);
    let white = first_beyond((0..=u16::MAX).rev().map(|v| (v, counts[usize::from(v)])), clipped);
    match (black, white) {
        (Some(black), Some(white)) if black < white => (black, white),
        _ => (0, u16::MAX),
    }
}

/// The first value at which more than `clipped` samples have been passed.
fn first_beyond(counts: impl Iterator<Item = (u16, u64)>, clipped: u64) -> Option<u16> {
    counts
        .scan(0, |passed, (value, count)| {
            *passed += count;
            Some((value, *passed))
        })
        .find(|&(_, passed)| passed > clipped)
        .map(|(value, _)| value)
}

/// The size with the same proportions whose longest side is at most [`MAX_SIDE`].
fn limited_size(width: u32, height: u32) -> (u32, u32) {
    let longest = width.max(height);
    if longest <= MAX_SIDE {
        return (width, height);
    }
    let scaled = |side: u32| {
        let rounded = u64::from(side) * u64::from(MAX_SIDE) + u64::from(longest / 2);
        ((rounded / u64::from(longest)) as u32).max(1)
    };
    (scaled(width), scaled(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Letterbox = Letterbox { left: 0, top: 0, width: SIDE, height: SIDE };

    fn ramp(width: u32, height: u32) -> Radiograph {
        let samples = (0..width * height).map(|i| (i % width * 20_000 / width + 9_000) as u16);
        Radiograph::new(width, height, samples.collect()).expect("a radiograph")
    }

    fn heat(at: impl Fn(u32, u32) -> f32) -> Vec<f32> {
        (0..SIDE * SIDE).map(|i| at(i % SIDE, i / SIDE)).collect()
    }

    /// Heat of 1 at one point, falling to 0 at `radius`.
    fn spot(x: u32, y: u32, radius: f32) -> Vec<f32> {
        heat(|column, row| {
            let distance = (column as f32 - x as f32).hypot(row as f32 - y as f32);
            (1.0 - distance / radius).max(0.0)
        })
    }

    fn coloured(pixel: &Rgb<u8>) -> bool {
        pixel.0[0] != pixel.0[1] || pixel.0[1] != pixel.0[2]
    }

    #[test]
    fn cold_pixels_are_the_untouched_radiograph() {
        let scan = ramp(448, 448);
        let picture = picture_from_scan(&scan);
        let overlay = overlay_from_cam(&scan, &spot(56, 56, 40.0), WHOLE);
        let mut touched = 0;
        for (x, y, pixel) in overlay.enumerate_pixels() {
            let grey = picture.get_pixel(x, y).0[0];
            let distance = (x as f32 / 2.0 - 56.0).hypot(y as f32 / 2.0 - 56.0);
            if distance > 40.0 * (1.0 - COLD) + 1.0 {
                assert_eq!(pixel.0, [grey; 3], "at {x}, {y}");
            }
            touched += usize::from(pixel.0 != [grey; 3]);
        }
        assert!(touched > 4_000, "only {touched} pixels carry heat");
    }

    #[test]
    fn heat_lands_where_the_letterbox_put_the_scan() {
        let scan = ramp(100, 200);
        let frame = Letterbox { left: 56, top: 0, width: 112, height: 224 };
        let overlay = overlay_from_cam(&scan, &spot(56 + 28, 168, 12.0), frame);
        let hot: Vec<_> = overlay.enumerate_pixels().filter(|(_, _, p)| coloured(p)).collect();
        let mean = |f: fn(&(u32, u32, &Rgb<u8>)) -> u32| {
            hot.iter().map(|p| f64::from(f(p))).sum::<f64>() / hot.len() as f64
        };
        assert!((mean(|p| p.0) - 25.0).abs() < 1.0, "column {}", mean(|p| p.0));
        assert!((mean(|p| p.1) - 150.0).abs() < 1.0, "row {}", mean(|p| p.1));
    }

    #[test]
    fn heat_in_the_padding_never_shows() {
        let scan = ramp(100, 200);
        let frame = Letterbox { left: 56, top: 0, width: 112, height: 224 };
        let padding = heat(|x, _| if (56..168).contains(&x) { 0.0 } else { 1.0 });
        assert!(!overlay_from_cam(&scan, &padding, frame).pixels().any(coloured));
    }

    #[test]
    fn pictures_keep_the_size_of_the_scan_up_to_the_limit() {
        let cold = heat(|_, _| 0.0);
        for (size, expected) in
            [((640, 300), (640, 300)), ((2048, 1000), (1024, 500)), ((300, 3000), (102, 1024))]
        {
            let scan = ramp(size.0, size.1);
            assert_eq!(picture_from_scan(&scan).dimensions(), expected);
            assert_eq!(overlay_from_cam(&scan, &cold, WHOLE).dimensions(), expected);
        }
    }

    #[test]
    fn outliers_do_not_darken_the_picture() {
        let mut samples: Vec<u16> = (0..100 * 100).map(|i| 1_000 + (i % 100) * 10).collect();
        samples[..20].fill(u16::MAX);
        let scan = Radiograph::new(100, 100, samples).expect("a radiograph");
        let picture = picture_from_scan(&scan);
        assert_eq!(picture.get_pixel(0, 50).0, [0]);
        assert_eq!(picture.get_pixel(99, 50).0, [255]);
    }

    #[test]
    fn a_flat_scan_stays_as_it_is() {
        let scan = Radiograph::new(50, 50, vec![128 * 257; 50 * 50]).expect("a radiograph");
        assert!(picture_from_scan(&scan).pixels().all(|p| p.0 == [128]));
    }

    #[test]
    fn the_contour_follows_half_heat() {
        let scan = Radiograph::new(224, 224, vec![0; 224 * 224]).expect("a radiograph");
        let rising = heat(|x, _| x as f32 / (SIDE - 1) as f32);
        let overlay = overlay_from_cam(&scan, &rising, WHOLE);
        let brightest = (0..224).max_by_key(|&x| overlay.get_pixel(x, 100).0[2]).expect("a pixel");
        assert!((111..=112).contains(&brightest), "the line is at column {brightest}");
    }

    #[test]
    fn brightness_of_the_colours_always_rises() {
        let luma = |c: [u8; 3]| 0.2126 * f32::from(c[0]) + 0.7152 * f32::from(c[1]);
        let steps: Vec<f32> = (0..=32).map(|i| luma(inferno(i as f32 / 32.0))).collect();
        assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
        assert_eq!(shown_colour(COLD, 77), [77; 3]);
        assert_ne!(shown_colour(1.0, 77), [77; 3]);
    }

    #[test]
    fn heat_that_is_no_number_is_cold() {
        let scan = ramp(64, 64);
        let overlay = overlay_from_cam(&scan, &heat(|_, _| f32::NAN), WHOLE);
        assert!(!overlay.pixels().any(coloured));
    }
}
