//! The lead letter that tells left from right.

use super::beam::Shadow;
use super::detector::Field;

/// Strokes of a letter in a box of 1 x 1, as pairs of end points.
type Strokes = &'static [[f32; 4]];

const LEFT: Strokes = &[[0.2, 0.0, 0.2, 1.0], [0.2, 1.0, 0.8, 1.0]];
const RIGHT: Strokes = &[
    [0.2, 0.0, 0.2, 1.0],
    [0.2, 0.0, 0.65, 0.02],
    [0.65, 0.02, 0.8, 0.22],
    [0.8, 0.22, 0.65, 0.46],
    [0.65, 0.46, 0.2, 0.48],
    [0.45, 0.48, 0.82, 1.0],
];

/// Attenuation of the letter.
const LEAD: f32 = 4.0;

/// Lays a letter into an upper corner of the field: `L` on the picture's right (the patient's
/// left), else `R` on its left.
pub fn lay(shadow: &mut Shadow, field: Field, left: bool) {
    let camera = shadow.camera;
    let size = 13.0 * camera.pixels_per_mm;
    let margin = 1.0 * size;
    let x0 = if left { field.right as f32 - margin - size } else { field.left as f32 + margin };
    let y0 = field.top as f32 + margin;
    let radius = 0.085 * size;
    let (strokes, width) = (if left { LEFT } else { RIGHT }, camera.width as f32);
    let columns = |x: f32| x.clamp(0.0, width) as usize;
    for row in y0 as usize..((y0 + 1.2 * size) as usize).min(camera.height) {
        for column in columns(x0)..columns(x0 + 1.2 * size) {
            let (x, y) = ((column as f32 + 0.5 - x0) / size, (row as f32 + 0.5 - y0) / size - 0.1);
            let nearest = strokes.iter().map(|s| distance(s, x, y)).fold(f32::MAX, f32::min) * size;
            let cover = (radius + 0.5 - nearest).clamp(0.0, 1.0);
            shadow.soft[row * camera.width + column] += LEAD * cover;
        }
    }
}

fn distance(&[ax, ay, bx, by]: &[f32; 4], x: f32, y: f32) -> f32 {
    let (dx, dy) = (bx - ax, by - ay);
    let t = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
    (x - ax - t * dx).hypot(y - ay - t * dy)
}
