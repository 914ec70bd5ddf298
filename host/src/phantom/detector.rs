//! From attenuation to a displayed picture: exposure, scatter, quantum noise, detector blur,
//! logarithm, equalisation and window.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

/// One exposure and its processing.
#[derive(Clone, Copy, Debug)]
pub struct Exposure {
    /// Quanta per pixel in the open beam.
    pub quanta: f32,
    /// Share of the neighbourhood's light that scatter spreads evenly.
    pub scatter: f32,
    /// How far large-scale differences are kept, 0 to 1; vendors compress them so that lung
    /// and pelvis show in one window.
    pub latitude: f32,
    /// Exponent of the tone curve; above 1 is darker.
    pub gamma: f32,
    /// Brightest displayed level, 0 to 1.
    pub white: f32,
    /// Passes of the 3 x 3 binomial blur that stands for the detector's point spread.
    pub blur: usize,
}

impl Exposure {
    /// A plausible exposure; the ranges do not depend on the class.
    pub fn random(rng: &mut ChaCha8Rng) -> Exposure {
        Exposure {
            quanta: 10f32.powf(rng.random_range(4.7..5.8)),
            scatter: rng.random_range(0.15..0.5),
            latitude: rng.random_range(0.30..0.62),
            gamma: rng.random_range(0.85..1.35),
            white: rng.random_range(0.86..1.0),
            blur: rng.random_range(1..3),
        }
    }
}

/// The exposed rectangle: columns and rows `[left, right)`, `[top, bottom)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// First exposed column.
    pub left: usize,
    /// First column beyond.
    pub right: usize,
    /// First exposed row.
    pub top: usize,
    /// First row beyond.
    pub bottom: usize,
}

impl Field {
    /// Whether a pixel is exposed.
    pub fn contains(&self, column: usize, row: usize) -> bool {
        (self.left..self.right).contains(&column) && (self.top..self.bottom).contains(&row)
    }
}

/// Level shown behind the collimator's blades.
const SHUTTER: f32 = 0.012;

/// Exposes the detector through `attenuation` (line integrals, `width * height`) and returns
/// 16-bit samples, dense parts bright.
pub fn expose(
    attenuation: &[f32],
    width: usize,
    field: Field,
    exposure: &Exposure,
    rng: &mut ChaCha8Rng,
) -> Vec<u16> {
    let height = attenuation.len() / width;
    let mut light: Vec<f32> = attenuation.iter().map(|&a| (-a).exp()).collect();
    add_scatter(&mut light, width, height, exposure.scatter);
    for value in &mut light {
        let quanta = *value * exposure.quanta;
        let noise: f32 = rng.sample(StandardNormal);
        *value = (quanta + noise * quanta.sqrt()).max(1.0);
    }
    for _ in 0..exposure.blur {
        binomial_blur(&mut light, width, height);
    }
    let open = exposure.quanta.ln();
    let density: Vec<f32> = light.iter().map(|&quanta| open - quanta.ln()).collect();
    let shown = equalise(&density, width, height, exposure.latitude);
    window(&shown, &density, width, field, exposure)
}

/// Scattered quanta arrive almost evenly over some centimetres. The open beam beside the patient
/// is kept from flooding the picture, as a grid keeps it.
fn add_scatter(light: &mut [f32], width: usize, height: usize, share: f32) {
    let mut veil: Vec<f32> = light.iter().map(|&v| v.min(0.05)).collect();
    smooth(&mut veil, width, height, width.max(height) / 24);
    for (value, veil) in light.iter_mut().zip(&veil) {
        *value += share * veil;
    }
}

/// Keeps `latitude` of the large-scale differences and all of the local ones.
fn equalise(density: &[f32], width: usize, height: usize, latitude: f32) -> Vec<f32> {
    let mut coarse: Vec<f32> = density.iter().map(|&d| d.max(1.0)).collect();
    smooth(&mut coarse, width, height, width.max(height) / 16);
    density.iter().zip(&coarse).map(|(&d, &c)| d - (1.0 - latitude) * c).collect()
}

/// Stretches the range that the patient takes up within the field to the display, with the tone
/// curve; the open beam is black.
fn window(
    shown: &[f32],
    density: &[f32],
    width: usize,
    field: Field,
    exposure: &Exposure,
) -> Vec<u16> {
    let exposed = |at: usize| field.contains(at % width, at / width);
    let mut sorted: Vec<f32> = (0..shown.len())
        .step_by(7)
        .filter(|&at| exposed(at) && density[at] > 1.0)
        .map(|at| shown[at])
        .collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let rank = |share: f32| {
        let at = (sorted.len().saturating_sub(1) as f32 * share) as usize;
        sorted.get(at).copied().unwrap_or_default()
    };
    let (low, high) = (rank(0.008), rank(0.998));
    let scale = 1.0 / (high - low).max(1e-3);
    (0..shown.len())
        .map(|at| {
            let level = if exposed(at) {
                let linear = ((shown[at] - low) * scale).clamp(0.0, 1.0);
                SHUTTER + (exposure.white - SHUTTER) * linear.powf(exposure.gamma)
            } else {
                SHUTTER
            };
            (level * 65_535.0) as u16
        })
        .collect()
}

/// Three box blurs, close to a Gaussian.
pub(super) fn smooth(values: &mut [f32], width: usize, height: usize, radius: usize) {
    for _ in 0..3 {
        for row in values.chunks_exact_mut(width) {
            box_blur_row(row, radius);
        }
        box_blur_columns(values, width, height, radius);
    }
}

fn box_blur_row(row: &mut [f32], radius: usize) {
    let source = row.to_vec();
    let last = source.len() - 1;
    let at = |i: isize| source[i.clamp(0, last as isize) as usize];
    let reach = radius as isize;
    let mut sum: f32 = (-reach..=reach).map(at).sum();
    let norm = 1.0 / (2 * radius + 1) as f32;
    for (i, value) in row.iter_mut().enumerate() {
        *value = sum * norm;
        sum += at(i as isize + reach + 1) - at(i as isize - reach);
    }
}

fn box_blur_columns(values: &mut [f32], width: usize, height: usize, radius: usize) {
    let source = values.to_vec();
    let row = |i: isize| {
        let start = i.clamp(0, height as isize - 1) as usize * width;
        &source[start..start + width]
    };
    let reach = radius as isize;
    let norm = 1.0 / (2 * radius + 1) as f32;
    let mut sums = vec![0.0f32; width];
    for i in -reach..=reach {
        sums.iter_mut().zip(row(i)).for_each(|(sum, value)| *sum += value);
    }
    for (i, target) in values.chunks_exact_mut(width).enumerate() {
        let (enter, leave) = (row(i as isize + reach + 1), row(i as isize - reach));
        for (x, value) in target.iter_mut().enumerate() {
            *value = sums[x] * norm;
            sums[x] += enter[x] - leave[x];
        }
    }
}

/// One pass of the kernel (1 2 1)/4 in both directions.
fn binomial_blur(values: &mut [f32], width: usize, height: usize) {
    for row in values.chunks_exact_mut(width) {
        let mut previous = row[0];
        for x in 0..width {
            let (here, next) = (row[x], row[(x + 1).min(width - 1)]);
            row[x] = 0.25 * previous + 0.5 * here + 0.25 * next;
            previous = here;
        }
    }
    let mut previous = values[..width].to_vec();
    for y in 0..height {
        let below = (y + 1).min(height - 1) * width;
        for (x, previous) in previous.iter_mut().enumerate() {
            let here = values[y * width + x];
            values[y * width + x] = 0.25 * *previous + 0.5 * here + 0.25 * values[below + x];
            *previous = here;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const EXPOSURE: Exposure =
        Exposure { quanta: 1e5, scatter: 0.2, latitude: 1.0, gamma: 1.0, white: 1.0, blur: 1 };

    fn expose_flat(quanta: f32) -> f64 {
        let attenuation: Vec<f32> =
            (0..100 * 100).map(|i| if i % 100 < 50 { 3.0 } else { 4.0 }).collect();
        let field = Field { left: 0, right: 100, top: 0, bottom: 100 };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let exposure = Exposure { quanta, ..EXPOSURE };
        let samples = expose(&attenuation, 100, field, &exposure, &mut rng);
        let dim = |i: usize| f64::from(samples[i * 100 + 10]);
        let bright = |i: usize| f64::from(samples[i * 100 + 90]);
        let mean = |f: &dyn Fn(usize) -> f64| (0..100).map(f).sum::<f64>() / 100.0;
        let (low, high) = (mean(&dim), mean(&bright));
        assert!(high > low, "dense parts are bright");
        let variance = (0..100).map(|i| (dim(i) - low).powi(2)).sum::<f64>() / 100.0;
        variance.sqrt() / (high - low)
    }

    #[test]
    fn fewer_quanta_make_more_noise() {
        assert!(expose_flat(2e3) > 2.0 * expose_flat(2e5));
    }

    #[test]
    fn blurs_keep_a_constant_and_the_sum_of_a_spot() {
        let mut flat = vec![0.5f32; 60 * 40];
        smooth(&mut flat, 60, 40, 5);
        binomial_blur(&mut flat, 60, 40);
        assert!(flat.iter().all(|v| (v - 0.5).abs() < 1e-4));
        let mut spot = vec![0.0f32; 60 * 40];
        spot[20 * 60 + 30] = 1.0;
        smooth(&mut spot, 60, 40, 4);
        binomial_blur(&mut spot, 60, 40);
        assert!((spot.iter().sum::<f32>() - 1.0).abs() < 1e-3);
        assert!(spot[20 * 60 + 30] < 0.1);
    }

    #[test]
    fn behind_the_blades_nothing_shows() {
        let attenuation = vec![2.0; 80 * 80];
        let field = Field { left: 10, right: 70, top: 5, bottom: 75 };
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let samples = expose(&attenuation, 80, field, &EXPOSURE, &mut rng);
        let shutter = (SHUTTER * 65_535.0) as u16;
        for (at, &sample) in samples.iter().enumerate() {
            if !field.contains(at % 80, at / 80) {
                assert_eq!(sample, shutter);
            }
        }
    }
}
