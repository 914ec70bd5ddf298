//! Soft tissue and air: skin outline, lungs, heart, windpipe, bowel gas, muscle.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::beam::{Shadow, Solid};
use super::detector::smooth;
use super::geometry::{Frame, Tilt, Vec3, View, vec3};
use super::spine::{S1, Spine, T1};

/// Attenuation of soft tissue, per millimetre, at the mean energy of a spine exposure.
const SOFT: f32 = 0.0185;
/// What an inflated lung, with its blood, lacks of soft tissue.
const LUNG_LOSS: f32 = -0.66 * SOFT;

/// How much soft tissue surrounds the skeleton.
#[derive(Clone, Copy, Debug)]
pub struct Habitus {
    /// Multiplies the trunk's width.
    pub width: f32,
    /// Multiplies the trunk's depth.
    pub depth: f32,
    /// Girth of the chest, shared with the rib cage.
    pub chest: f32,
}

/// Casts the shadow of everything but bone.
pub fn cast(shadow: &mut Shadow, spine: &Spine, habitus: &Habitus, rng: &mut ChaCha8Rng) {
    trunk(shadow, spine, habitus);
    if shadow.camera.view == View::Frontal {
        arms(shadow, spine, habitus);
    }
    chest(shadow, spine, habitus, rng);
    abdomen(shadow, spine, habitus, rng);
    soften(shadow);
}

/// Organs are not bounded by surfaces as clean as those they are made of here, and they move
/// during the exposure.
fn soften(shadow: &mut Shadow) {
    let camera = shadow.camera;
    let radius = (0.9 * camera.pixels_per_mm).round() as usize;
    smooth(&mut shadow.soft, camera.width, camera.height, radius);
}

/// Half-width and half-depth of the trunk at heights relative to its landmarks: 0 is the top of
/// the shoulders, 1 the sacrum.
const OUTLINE: [(f32, f32, f32); 9] = [
    (-0.30, 62.0, 62.0),
    (-0.10, 66.0, 62.0),
    (-0.02, 105.0, 68.0),
    (0.06, 192.0, 84.0),
    (0.30, 172.0, 108.0),
    (0.62, 148.0, 108.0),
    (0.80, 140.0, 104.0),
    (1.00, 166.0, 112.0),
    (1.35, 178.0, 112.0),
];

/// The body's outline at a height: half-width, half-depth and centre.
struct Slice {
    half_width: f32,
    half_depth: f32,
    centre: Vec3,
}

fn slice_at(spine: &Spine, habitus: &Habitus, y: f32) -> Slice {
    let (top, bottom) = (spine.vertebrae[T1].frame.origin.y, spine.vertebrae[S1].frame.origin.y);
    let height = (y - top) / (bottom - top);
    let pair =
        OUTLINE.windows(2).find(|pair| height < pair[1].0).unwrap_or(&OUTLINE[OUTLINE.len() - 2..]);
    let t = ((height - pair[0].0) / (pair[1].0 - pair[0].0)).clamp(0.0, 1.0);
    let t = t * t * (3.0 - 2.0 * t);
    let between = |a: f32, b: f32| a + (b - a) * t;
    let half_width = between(pair[0].1, pair[1].1) * habitus.width;
    let half_depth = between(pair[0].2, pair[1].2) * habitus.depth;
    // The skin of the back is a hand's breadth behind the column, whatever the girth in front.
    let column = (0..5)
        .map(|i| spine.centre_at(y + (i as f32 - 2.0) * 25.0))
        .fold(Vec3::default(), |a, b| a + b * 0.2);
    let back = column.z - 62.0 - 14.0 * habitus.depth;
    Slice { half_width, half_depth, centre: vec3(column.x * 0.35, y, back + half_depth) }
}

fn trunk(shadow: &mut Shadow, spine: &Spine, habitus: &Habitus) {
    let camera = shadow.camera;
    for row in 0..camera.height {
        let y = camera.unproject(0.0, row as f32 + 0.5).y;
        let slice = slice_at(spine, habitus, y);
        let (across, along, centre) = match camera.view {
            View::Frontal => (slice.half_width, slice.half_depth, slice.centre.x),
            View::Lateral => (slice.half_depth, slice.half_width, slice.centre.z),
        };
        for column in 0..camera.width {
            let at = camera.unproject(column as f32 + 0.5, row as f32 + 0.5);
            let u = match camera.view {
                View::Frontal => (at.x - centre) / across,
                View::Lateral => (at.z - centre) / across,
            };
            let rest = 1.0 - u * u;
            if rest > 0.0 {
                // Slightly fuller than an ellipse, as a trunk is.
                let path = 2.0 * along * rest.sqrt() * (1.0 + 0.18 * u * u);
                shadow.soft[row * camera.width + column] += path * SOFT;
            }
        }
    }
}

/// Hanging arms; for a lateral view they are raised out of the beam.
fn arms(shadow: &mut Shadow, spine: &Spine, habitus: &Habitus) {
    let top = spine.vertebrae[T1].frame.origin;
    for side in [-1.0, 1.0] {
        let at = top + vec3(side * 200.0 * habitus.chest, 170.0, 0.0);
        shadow.add_soft(&Solid::ellipsoid(Frame::upright(at), vec3(36.0, 190.0, 40.0)), SOFT);
    }
}

fn chest(shadow: &mut Shadow, spine: &Spine, habitus: &Habitus, rng: &mut ChaCha8Rng) {
    let level = |i: usize| spine.vertebrae[T1 + i].frame.origin;
    let middle = level(5);
    let size = habitus.chest;
    let breath: f32 = rng.random_range(-12.0..12.0);
    // Its axis runs from the right shoulder to the left hip.
    let heart = Solid::ellipsoid(
        Frame::tilted(
            vec3(middle.x * 0.6 + 24.0, level(8).y, middle.z + 72.0),
            Tilt { lateral: -0.62, ..Default::default() },
        ),
        vec3(40.0 * size, 60.0, 42.0),
    );
    for side in [-1.0, 1.0] {
        let x = middle.x * 0.7 + side * 68.0 * size;
        let lung = Solid::ellipsoid(
            Frame::upright(vec3(x, middle.y + 6.0, middle.z + 36.0)),
            vec3(59.0 * size, 158.0, 88.0 * size),
        );
        // The right dome stands higher, over the liver.
        let lift = if side < 0.0 { 14.0 } else { 0.0 };
        let dome = Solid::ellipsoid(
            Frame::upright(vec3(
                x - side * 16.0,
                level(10).y + 70.0 - lift + breath,
                middle.z + 62.0,
            )),
            vec3(76.0 * size, 100.0, 128.0),
        );
        shadow.add_soft_without(&lung, &[dome, heart], LUNG_LOSS);
        vessels(shadow, vec3(x - side * 40.0 * size, middle.y, middle.z + 40.0), side, rng);
    }
    let top = level(0);
    for i in 0..40 {
        let at = top.towards(level(4), i as f32 / 40.0) + vec3(0.0, -30.0, 30.0);
        let ring = Solid::ellipsoid(Frame::upright(at), vec3(7.5, 4.0, 8.0));
        shadow.add_soft(&ring, -0.35 * SOFT);
    }
}

/// Blood vessels fanning out from the root of a lung.
fn vessels(shadow: &mut Shadow, root: Vec3, side: f32, rng: &mut ChaCha8Rng) {
    for _ in 0..18 {
        let angle: f32 = rng.random_range(-1.2..1.4);
        let mut heading = vec3(side * angle.cos(), angle.sin(), rng.random_range(-0.5..0.5));
        let mut at = root + heading * rng.random_range(4.0..20.0);
        let mut radius: f32 = rng.random_range(2.0..3.6);
        while radius > 0.8 {
            let bead = Solid::ellipsoid(Frame::upright(at), vec3(radius, radius, radius));
            shadow.add_soft(&bead, SOFT * 0.45);
            let bend = |rng: &mut ChaCha8Rng| rng.random_range(-0.15..0.15);
            heading = heading + vec3(bend(rng), bend(rng), bend(rng));
            at = at + heading * (radius * 0.9);
            radius *= 0.97;
        }
    }
}

fn abdomen(shadow: &mut Shadow, spine: &Spine, habitus: &Habitus, rng: &mut ChaCha8Rng) {
    let sacrum = spine.vertebrae[S1].frame.origin;
    let waist = spine.centre_at(sacrum.y - 110.0);
    for side in [-1.0, 1.0] {
        // Psoas, from the upper lumbar spine outwards to the hip.
        let tilt = Tilt { lateral: -side * 0.24, ..Default::default() };
        let at = vec3(waist.x + side * 42.0, sacrum.y - 50.0, waist.z - 2.0);
        shadow.add_soft(
            &Solid::ellipsoid(Frame::tilted(at, tilt), vec3(19.0, 105.0, 20.0)),
            SOFT * 0.28,
        );
    }
    let liver = vec3(-72.0 * habitus.width, sacrum.y - 205.0, waist.z + 40.0);
    shadow.add_soft(&Solid::ellipsoid(Frame::upright(liver), vec3(62.0, 62.0, 70.0)), SOFT * 0.1);
    bowel_gas(shadow, vec3(waist.x, sacrum.y, waist.z), habitus, rng);
}

/// Gas in stomach and bowel: loops of merging bubbles in front of the spine.
fn bowel_gas(shadow: &mut Shadow, sacrum: Vec3, habitus: &Habitus, rng: &mut ChaCha8Rng) {
    let mut bubbles = Vec::new();
    for _ in 0..rng.random_range(5..12) {
        let mut at = sacrum
            + vec3(
                rng.random_range(-105.0..105.0) * habitus.width,
                rng.random_range(-165.0..75.0),
                rng.random_range(70.0..105.0) * habitus.depth,
            );
        let mut angle: f32 = rng.random_range(0.0..std::f32::consts::TAU);
        let size: f32 = rng.random_range(5.0..13.0);
        for _ in 0..rng.random_range(4..16) {
            let semi = vec3(
                size * rng.random_range(0.7..1.3),
                size * rng.random_range(0.6..1.1),
                size * rng.random_range(0.8..1.3),
            );
            bubbles.push(Solid::ellipsoid(Frame::upright(at), semi));
            angle += rng.random_range(-0.8..0.8);
            at = at
                + vec3(angle.cos(), angle.sin() * 0.7, 0.0) * (size * rng.random_range(0.5..1.0));
        }
    }
    shadow.add_gas(&bubbles, 0.8 * SOFT);
}
