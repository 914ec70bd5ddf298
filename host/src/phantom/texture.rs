//! Smooth random fields: the unevenness of real tissue.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Value noise in -1..1, `width * height`, with features about `cell` pixels wide: random values
/// on a grid, joined by cubic easing.
pub fn field(rng: &mut ChaCha8Rng, width: usize, height: usize, cell: f32) -> Vec<f32> {
    let cell = cell.max(1.0);
    let columns = (width as f32 / cell) as usize + 2;
    let rows = (height as f32 / cell) as usize + 2;
    let grid: Vec<f32> = (0..columns * rows).map(|_| rng.random_range(-1.0..1.0)).collect();
    let across: Vec<(usize, f32)> = (0..width).map(|x| cell_of(x, cell)).collect();
    let mut values = Vec::with_capacity(width * height);
    for y in 0..height {
        let (row, v) = cell_of(y, cell);
        let (upper, lower) = (&grid[row * columns..], &grid[(row + 1) * columns..]);
        values.extend(across.iter().map(|&(column, u)| {
            let top = upper[column] + (upper[column + 1] - upper[column]) * u;
            let bottom = lower[column] + (lower[column + 1] - lower[column]) * u;
            top + (bottom - top) * v
        }));
    }
    values
}

fn cell_of(pixel: usize, cell: f32) -> (usize, f32) {
    let place = pixel as f32 / cell;
    let t = place.fract();
    (place as usize, t * t * (3.0 - 2.0 * t))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn is_bounded_and_varies_smoothly() {
        let values = field(&mut ChaCha8Rng::seed_from_u64(3), 64, 48, 8.0);
        assert_eq!(values.len(), 64 * 48);
        assert!(values.iter().all(|v| v.abs() <= 1.0));
        let spread = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!(spread > 0.05);
        let steepest = values.windows(2).take(63).map(|p| (p[1] - p[0]).abs()).fold(0.0, f32::max);
        assert!(steepest < 2.0 * 1.5 / 8.0 + 1e-3);
    }
}
