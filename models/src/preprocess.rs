//! From a radiograph to the network's input: exposure, letterbox, normalisation.
//!
//! Training, calibration and inference all call [`input_from_radiograph`]. The steps:
//! 1. exposure: the 0.5 and 99.5 percentiles of the luminance become 0 and 1, values outside are
//!    clamped, so that a 12-bit picture in 16-bit samples and an 8-bit one look alike;
//! 2. letterbox: the picture is scaled to fit [`SIDE`] with its aspect ratio kept (squashing
//!    would hand the aspect ratio, which alone predicts the class, to the network), with an
//!    antialiased triangle filter, as Pillow's `BILINEAR` and torchvision's `antialias=True`;
//! 3. normalisation: `(value - MEAN) / STD`; the border around the picture is 0 after it, the
//!    value that a convolution pads with.

use serde::{Deserialize, Serialize};

use crate::radiograph::Radiograph;

/// Height and width of the network's input.
pub const SIDE: u32 = 224;
/// Mean luminance subtracted: the average of ImageNet's three channel means.
pub const MEAN: f32 = 0.449;
/// Luminance deviation divided by: the average of ImageNet's three channel deviations.
pub const STD: f32 = 0.226;
/// Name of this sequence of steps, recorded in every bundle; a change of any step changes it.
pub const SCHEME: &str = "luminance-stretch0.5-letterbox224-triangle";

/// Share of the pixels that the exposure step clamps at each end, in thousandths.
const CLAMPED_PER_MILLE: u64 = 5;

/// Where the scaled picture lies inside the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letterbox {
    /// First column of the picture.
    pub left: u32,
    /// First row of the picture.
    pub top: u32,
    /// Columns of the picture.
    pub width: u32,
    /// Rows of the picture.
    pub height: u32,
}

impl Letterbox {
    /// The largest centred frame inside `SIDE x SIDE` with a picture's aspect ratio.
    pub fn fit(width: u32, height: u32) -> Self {
        let longest = u64::from(width.max(height).max(1));
        let scale = |side: u32| {
            let scaled = (u64::from(side) * u64::from(SIDE) + longest / 2) / longest;
            (scaled as u32).clamp(1, SIDE)
        };
        let (width, height) = (scale(width), scale(height));
        Self { left: (SIDE - width) / 2, top: (SIDE - height) / 2, width, height }
    }

    /// Maps the centre of an input pixel to the pixel of the source picture that holds it.
    pub fn source_pixel(&self, x: u32, y: u32, source_width: u32, source_height: u32) -> [u32; 2] {
        let map = |at: u32, start: u32, span: u32, source: u32| {
            let inside = at.clamp(start, start + span - 1) - start;
            let centre = (2 * u64::from(inside) + 1) * u64::from(source) / (2 * u64::from(span));
            (centre as u32).min(source - 1)
        };
        [map(x, self.left, self.width, source_width), map(y, self.top, self.height, source_height)]
    }
}

/// The network's input: one channel of [`SIDE`] x [`SIDE`] values, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Normalised luminance, `SIDE * SIDE` values.
    pub values: Vec<f32>,
    /// Where the picture lies.
    pub frame: Letterbox,
    /// The luminances that became 0 and 1.
    pub exposure: Exposure,
}

/// The luminance range that the exposure step spreads over 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Becomes 0.
    pub black: u16,
    /// Becomes 1.
    pub white: u16,
}

/// Turns a radiograph into the network's input.
pub fn input_from_radiograph(scan: &Radiograph) -> Input {
    let frame = Letterbox::fit(scan.width(), scan.height());
    let exposure = exposure_of(scan);
    let picture = scaled(scan, &frame, exposure);
    let mut values = vec![0.0; (SIDE * SIDE) as usize];
    for (row, line) in picture.chunks_exact(frame.width as usize).enumerate() {
        let start = ((frame.top as usize + row) * SIDE as usize) + frame.left as usize;
        for (value, luminance) in values[start..].iter_mut().zip(line) {
            *value = (luminance - MEAN) / STD;
        }
    }
    Input { values, frame, exposure }
}

/// The 0.5 and 99.5 percentiles of the luminance, by a full histogram.
pub fn exposure_of(scan: &Radiograph) -> Exposure {
    let mut histogram = vec![0u64; 1 << 16];
    for &sample in scan.samples() {
        histogram[usize::from(sample)] += 1;
    }
    let clamped = scan.samples().len() as u64 * CLAMPED_PER_MILLE / 1000;
    Exposure {
        black: first_beyond(clamped, histogram.iter().enumerate()),
        white: first_beyond(clamped, histogram.iter().enumerate().rev()),
    }
}

/// The first luminance at which more than `share` pixels have been counted.
fn first_beyond<'a>(share: u64, counts: impl Iterator<Item = (usize, &'a u64)>) -> u16 {
    let mut seen = 0;
    for (luminance, count) in counts {
        seen += count;
        if seen > share {
            return luminance as u16;
        }
    }
    0
}

/// The picture at the frame's size, luminance 0 to 1.
fn scaled(scan: &Radiograph, frame: &Letterbox, exposure: Exposure) -> Vec<f32> {
    let (source_width, width) = (scan.width() as usize, frame.width as usize);
    let columns = taps(scan.width(), frame.width);
    let rows = taps(scan.height(), frame.height);
    let black = f32::from(exposure.black);
    let span = (f32::from(exposure.white) - black).max(1.0);
    let mut narrowed = vec![0.0f32; width * scan.height() as usize];
    let mut line = vec![0.0f32; source_width];
    for (source, target) in
        scan.samples().chunks_exact(source_width).zip(narrowed.chunks_exact_mut(width))
    {
        for (value, &sample) in line.iter_mut().zip(source) {
            *value = ((f32::from(sample) - black) / span).clamp(0.0, 1.0);
        }
        for (out, tap) in target.iter_mut().zip(&columns) {
            *out = tap.apply(|i| line[i]);
        }
    }
    let mut picture = Vec::with_capacity(width * rows.len());
    for tap in &rows {
        picture.extend((0..width).map(|x| tap.apply(|i| narrowed[i * width + x])));
    }
    picture
}

/// The weighted source positions behind one output position.
struct Tap {
    first: usize,
    weights: Vec<f32>,
}

impl Tap {
    fn apply(&self, at: impl Fn(usize) -> f32) -> f32 {
        self.weights.iter().enumerate().fold(0.0, |sum, (i, w)| sum + w * at(self.first + i))
    }
}

/// Triangle filter weights whose support widens with the reduction (so nothing is skipped).
fn taps(source: u32, target: u32) -> Vec<Tap> {
    let ratio = f64::from(source) / f64::from(target);
    let support = ratio.max(1.0);
    (0..target)
        .map(|at| {
            let centre = (f64::from(at) + 0.5) * ratio;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(source as usize);
            let raw =
                (first..end).map(|i| (1.0 - ((i as f64 + 0.5 - centre) / support).abs()).max(0.0));
            let total: f64 = raw.clone().sum();
            Tap { first, weights: raw.map(|w| (w / total) as f32).collect() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn radiograph(width: u32, height: u32, at: impl Fn(u32, u32) -> u16) -> Radiograph {
        let samples = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let samples = samples.map(|(x, y)| at(x, y)).collect();
        Radiograph::new(width, height, samples).expect("in bounds")
    }

    #[test]
    fn letterbox_keeps_the_aspect_ratio_and_centres() {
        assert_eq!(
            Letterbox::fit(400, 800),
            Letterbox { left: 56, top: 0, width: 112, height: 224 }
        );
        assert_eq!(Letterbox::fit(16_000, 48).height, 1);
    }

    #[test]
    fn peak_maps_back_to_the_source() {
        let frame = Letterbox::fit(448, 896);
        assert_eq!(frame.source_pixel(56, 0, 448, 896), [2, 2]);
        assert_eq!(frame.source_pixel(0, 223, 448, 896), [2, 894]);
        assert_eq!(frame.source_pixel(223, 223, 448, 896), [446, 894]);
    }

    #[test]
    fn exposure_removes_scale_and_offset() {
        let bright = radiograph(100, 224, |x, y| (x * 300 + y * 100) as u16);
        let faint = radiograph(100, 224, |x, y| (x * 3 + y + 500) as u16);
        let (a, b) = (input_from_radiograph(&bright), input_from_radiograph(&faint));
        let worst = a.values.iter().zip(&b.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{worst}");
    }

    #[test]
    fn border_is_zero_and_picture_is_not() {
        let input = input_from_radiograph(&radiograph(112, 224, |x, _| (x % 2 * 60_000) as u16));
        assert!(input.values.chunks_exact(224).all(|row| row[..56].iter().all(|&v| v == 0.0)));
        assert!(input.values[56] != 0.0);
    }

    #[test]
    fn a_flat_picture_is_finite() {
        let input = input_from_radiograph(&radiograph(64, 64, |_, _| 9_000));
        assert!(input.values.iter().all(|v| v.is_finite()));
    }
}
