//! Seeded variations of training pictures: mirror, rotation, scale, shift, exposure, noise.
//!
//! A mirrored spine has the same finding, so mirroring is allowed; the ranges are those by which
//! positioning and exposure differ between two pictures of one patient.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

const ROTATION_DEGREES: f64 = 8.0;
const SCALE: f64 = 0.12;
const SHIFT: f64 = 0.06;
const CONTRAST: f64 = 0.25;
const BRIGHTNESS: f64 = 0.25;
const NOISE: f64 = 0.08;

/// The generator of one purpose: the same seed and stream always give the same values.
pub fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream);
    generator
}

/// Varies each picture of a batch `[batch, 1, side, side]` on its own.
pub fn augmented(batch: &Tensor, generator: &mut impl Rng) -> Tensor {
    let count = batch.size()[0];
    let mut spread = |range: f64| generator.random_range(-range..=range);
    let mut placements = Vec::new();
    let mut exposures = Vec::new();
    for _ in 0..count {
        let angle = spread(ROTATION_DEGREES).to_radians();
        let scale = 1.0 / (1.0 + spread(SCALE));
        let mirror = if spread(1.0) < 0.0 { -1.0 } else { 1.0 };
        let (sin, cos) = (angle.sin() * scale, angle.cos() * scale);
        placements.extend([cos * mirror, -sin, spread(SHIFT), sin * mirror, cos, spread(SHIFT)]);
        exposures.extend([1.0 + spread(CONTRAST), spread(BRIGHTNESS)]);
    }
    let noise = Tensor::from_slice(&noise_field(generator, batch.numel()));
    let options = (Kind::Float, batch.device());
    let to_device =
        |values: &[f64]| Tensor::from_slice(values).to_kind(options.0).to_device(options.1);
    let grid = Tensor::affine_grid_generator(
        &to_device(&placements).view([count, 2, 3]),
        batch.size(),
        false,
    );
    let moved = batch.grid_sampler(&grid, 0, 0, false);
    // The border of the letterbox is exactly 0 and stays so: only the picture is re-exposed.
    let picture = moved.ne(0.0).to_kind(Kind::Float);
    let exposures = to_device(&exposures).view([count, 2, 1, 1]);
    let exposed = moved * exposures.narrow(1, 0, 1) + exposures.narrow(1, 1, 1);
    (exposed + noise.to_device(options.1).view_as(batch)) * picture
}

/// Roughly normal noise: the sum of two uniform values, which is enough to blur a learnt texture.
fn noise_field(generator: &mut impl Rng, count: usize) -> Vec<f32> {
    let spread = NOISE as f32;
    (0..count)
        .map(|_| {
            let bits = generator.next_u32();
            let uniform = |half: u32| (half & 0xFFFF) as f32 / 32_768.0 - 1.0;
            (uniform(bits) + uniform(bits >> 16)) * spread
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn seeded_and_different_each_time() {
        let batch = Tensor::randn([2, 1, 32, 32], (Kind::Float, Device::Cpu));
        let first = augmented(&batch, &mut generator(5, 1));
        assert!(first.equal(&augmented(&batch, &mut generator(5, 1))));
        assert!(!first.equal(&augmented(&batch, &mut generator(5, 2))));
    }

    #[test]
    fn the_border_stays_zero() {
        let batch = Tensor::zeros([1, 1, 32, 32], (Kind::Float, Device::Cpu));
        assert_eq!(augmented(&batch, &mut generator(1, 1)).abs().max().double_value(&[]), 0.0);
    }
}
