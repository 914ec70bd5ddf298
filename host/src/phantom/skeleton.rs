//! Bones, from the column's vertebrae to pelvis, ribs and shoulder girdle.

use std::f32::consts::PI;

use super::beam::{Shadow, Solid, smooth};
use super::geometry::{Frame, Vec3, View, vec3};
use super::spine::{Region, S1, Spine, T1, Vertebra};

/// Attenuation beyond soft tissue of compact and of spongy bone, per millimetre.
const COMPACT: f32 = 0.046;
const SPONGY: f32 = 0.0105;
/// Rods and plates are a mixture of both.
const MIXED: f32 = 0.026;

/// What differs between patients beside the column.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// Multiplies the girth of the rib cage.
    pub chest: f32,
    /// Multiplies the width of the pelvis.
    pub pelvis: f32,
    /// Multiplies the density of all bone.
    pub mineral: f32,
}

/// Casts the shadow of every bone; vertebral body `i` is marked with label `i + 1`.
pub fn cast(shadow: &mut Shadow, spine: &Spine, build: &Build) {
    for (i, vertebra) in spine.vertebrae.iter().enumerate() {
        body(shadow, vertebra, build.mineral, i as u8 + 1);
        if vertebra.region != Region::Sacral {
            posterior_elements(shadow, vertebra, build.mineral);
        }
    }
    sacrum(shadow, spine, build);
    pelvis(shadow, &spine.vertebrae[S1], build);
    for pair in 0..12 {
        ribs(shadow, &spine.vertebrae[T1 + pair], pair, build);
    }
    shoulders(shadow, spine, build);
}

/// The vertebral body: a waisted column with a compact shell and denser end plates.
fn body(shadow: &mut Shadow, vertebra: &Vertebra, mineral: f32, label: u8) {
    let half = vertebra.half;
    let wall = 0.035 * half.x + 0.25;
    let core = half - vec3(wall, 1.1, wall);
    let outer = Solid::column(vertebra.frame, half, 0.2);
    let inner = Solid::column(vertebra.frame, core, 0.2);
    shadow.add_bone(&outer, &inner, [COMPACT * mineral, SPONGY * mineral], label);
}

fn posterior_elements(shadow: &mut Shadow, vertebra: &Vertebra, mineral: f32) {
    let Vec3 { x: a, y: h, z: b } = vertebra.half;
    let density = MIXED * mineral;
    let girth = a / 23.0;
    let mut rod = |points: &[Vec3], radius: f32, share: f32| {
        let curve: Vec<Vec3> = points.iter().map(|&p| vertebra.frame.point(p)).collect();
        shadow.add_rod(&smooth(&curve), radius, density * share);
    };
    let canal = -b - 15.0 * (0.6 + 0.4 * girth);
    for side in [-1.0, 1.0] {
        let s = |x: f32, y: f32, z: f32| vec3(side * x, y, z);
        rod(
            &[s(0.62 * a, -0.2 * h, canal + 2.0), s(0.08 * a, 0.55 * h, canal - 5.0)],
            3.8 * girth.max(0.6),
            1.0,
        );
        let joint = [
            s(0.66 * a, -1.25 * h, canal - 1.0),
            s(0.62 * a, 0.0, canal - 2.0),
            s(0.50 * a, 1.25 * h, canal - 6.0),
        ];
        rod(&joint, 4.6 * girth.max(0.6), 1.15);
        let reach = match vertebra.region {
            Region::Lumbar => a + 17.0,
            Region::Thoracic => a + 14.0,
            _ => a + 5.0,
        };
        let tip = if vertebra.region == Region::Thoracic { canal - 14.0 } else { canal + 2.0 };
        rod(&[s(0.66 * a, -0.1 * h, canal), s(reach, -0.35 * h, tip)], 3.6 * girth.max(0.65), 0.95);
    }
    pedicles(shadow, vertebra, mineral);
    spinous_process(shadow, vertebra, canal, density);
}

/// Short hollow columns that run backwards from the body: from the front, a pair of rings.
fn pedicles(shadow: &mut Shadow, vertebra: &Vertebra, mineral: f32) {
    let Vec3 { x: a, y: h, z: b } = vertebra.half;
    let girth = (a / 23.0).max(0.55);
    for side in [-1.0, 1.0] {
        let frame = Frame {
            origin: vertebra.frame.point(vec3(side * 0.63 * a, -0.36 * h, -b - 3.0)),
            left: vertebra.frame.left,
            down: vertebra.frame.front,
            front: vertebra.frame.down,
        };
        let half = vec3(4.0 * girth, 8.0, 0.46 * h);
        let outer = Solid::column(frame, half, 0.1);
        let inner = Solid::column(frame, half - vec3(1.1, 0.0, 1.1), 0.1);
        shadow.add_bone(&outer, &inner, [COMPACT * 0.75 * mineral, SPONGY * 0.9 * mineral], 0);
    }
}

fn spinous_process(shadow: &mut Shadow, vertebra: &Vertebra, canal: f32, density: f32) {
    let h = vertebra.half.y;
    let (centre, semi) = match vertebra.region {
        Region::Lumbar => (vec3(0.0, 0.75 * h, canal - 17.0), vec3(4.0, 10.5, 17.0)),
        Region::Thoracic => (vec3(0.0, 1.6 * h, canal - 14.0), vec3(2.8, 10.0, 14.0)),
        _ => (vec3(0.0, 0.9 * h, canal - 10.0), vec3(2.6, 5.0, 11.0)),
    };
    let frame = Frame { origin: vertebra.frame.point(centre), ..vertebra.frame };
    let outer = Solid::ellipsoid(frame, semi);
    let inner = Solid::ellipsoid(frame, semi - vec3(1.2, 1.2, 1.2));
    shadow.add_bone(&outer, &inner, [density * 0.8, density * 0.5], 0);
}

fn sacrum(shadow: &mut Shadow, spine: &Spine, build: &Build) {
    let first = &spine.vertebrae[S1];
    for (i, segment) in spine.sacral_tail.iter().enumerate() {
        body(shadow, segment, build.mineral * 0.9, 0);
        let crest = segment.frame.point(vec3(0.0, 0.0, -segment.half.z - 9.0));
        let radius = 5.0 - i as f32;
        let ends = [crest - segment.frame.down * 8.0, crest + segment.frame.down * 8.0];
        shadow.add_rod(&ends, radius, MIXED * 0.7 * build.mineral);
    }
    let last = spine.sacral_tail.last().unwrap_or(first);
    for side in [-1.0, 1.0] {
        let edge = |v: &Vertebra, x: f32, y: f32, z: f32| {
            v.frame.point(vec3(side * x, y * v.half.y, z * v.half.z))
        };
        let medial = [edge(first, 20.0, -0.6, 0.0), edge(last, 3.0, 0.6, 0.0)];
        let wing = [
            edge(first, 52.0 * build.pelvis, -0.15, -0.5),
            edge(&spine.sacral_tail[0], 47.0 * build.pelvis, 0.3, -0.6),
            edge(&spine.sacral_tail[1], 33.0 * build.pelvis, 0.5, -0.4),
            edge(last, 9.0, 0.5, 0.0),
        ];
        let wing = smooth(&wing);
        shadow.add_plate([&medial, &wing], 11.0, SPONGY * 1.2 * build.mineral);
        shadow.add_rod(&wing, 3.0, MIXED * build.mineral);
        foramina(shadow, spine, side);
    }
}

/// The openings for the sacral nerves: rings with a darker middle.
fn foramina(shadow: &mut Shadow, spine: &Spine, side: f32) {
    let first = &spine.vertebrae[S1];
    for segment in std::iter::once(first).chain(&spine.sacral_tail[..2]) {
        let at =
            segment.frame.point(vec3(side * (segment.half.x * 0.62 + 6.0), segment.half.y, 0.0));
        let axis = [at - segment.frame.front * 5.0, at + segment.frame.front * 5.0];
        shadow.add_rod(&axis, 5.0, -SPONGY);
    }
}

/// Hip bones and the tops of the thighs, hung on the first sacral vertebra.
fn pelvis(shadow: &mut Shadow, first: &Vertebra, build: &Build) {
    let density = MIXED * build.mineral;
    for side in [-1.0, 1.0] {
        let place = |points: &[[f32; 3]]| -> Vec<Vec3> {
            let placed = |&[x, y, z]: &[f32; 3]| {
                let (sin, cos) = first.tilt.lateral.sin_cos();
                let x = side * x * build.pelvis;
                first.frame.origin + vec3(x * cos - y * sin, x * sin + y * cos, z)
            };
            smooth(&points.iter().map(placed).collect::<Vec<_>>())
        };
        let crest = place(&[
            [48.0, 8.0, -48.0],
            [68.0, -26.0, -42.0],
            [102.0, -46.0, -8.0],
            [130.0, -30.0, 32.0],
            [124.0, 18.0, 66.0],
            [112.0, 52.0, 70.0],
            [104.0, 74.0, 58.0],
        ]);
        let brim = place(&[
            [50.0, 24.0, -40.0],
            [54.0, 46.0, -22.0],
            [64.0, 68.0, 6.0],
            [76.0, 82.0, 28.0],
            [84.0, 86.0, 40.0],
        ]);
        shadow.add_plate([&crest, &brim], 4.2, density * 1.1);
        shadow.add_rod(&crest, 4.6, density * 0.9);
        shadow.add_rod(&brim, 3.6, density * 1.1);
        let back = place(&[
            [72.0, 72.0, 5.0],
            [66.0, 96.0, -4.0],
            [64.0, 118.0, -6.0],
            [66.0, 142.0, -4.0],
        ]);
        let pillar = place(&[
            [84.0, 86.0, 34.0],
            [74.0, 108.0, 24.0],
            [72.0, 130.0, 12.0],
            [76.0, 146.0, 0.0],
        ]);
        shadow.add_plate([&back, &pillar], 9.0, density * 0.6);
        shadow.add_rod(&pillar, 6.0, density * 0.6);
        let upper_ramus = place(&[
            [78.0, 96.0, 44.0],
            [48.0, 98.0, 62.0],
            [24.0, 108.0, 74.0],
            [9.0, 122.0, 74.0],
        ]);
        let lower_ramus = place(&[
            [8.0, 130.0, 72.0],
            [22.0, 150.0, 52.0],
            [44.0, 164.0, 22.0],
            [68.0, 160.0, 2.0],
            [76.0, 140.0, 4.0],
        ]);
        shadow.add_rod(&upper_ramus, 7.0, density * 0.8);
        shadow.add_rod(&lower_ramus, 7.0, density * 0.8);
        let roof = place(&[
            [116.0, 112.0, 36.0],
            [112.0, 92.0, 36.0],
            [94.0, 82.0, 34.0],
            [74.0, 92.0, 32.0],
            [68.0, 114.0, 30.0],
        ]);
        shadow.add_rod(&roof, 3.4, density * 1.3);
        thigh(
            shadow,
            &place(&[
                [93.0, 110.0, 34.0],
                [138.0, 148.0, 26.0],
                [142.0, 200.0, 24.0],
                [132.0, 330.0, 30.0],
            ]),
            density,
        );
    }
}

fn thigh(shadow: &mut Shadow, axis: &[Vec3], density: f32) {
    let Some(&head) = axis.first() else { return };
    let frame = Frame::upright(head);
    let outer = Solid::ellipsoid(frame, vec3(23.5, 23.5, 23.5));
    let inner = Solid::ellipsoid(frame, vec3(22.5, 22.5, 22.5));
    shadow.add_bone(&outer, &inner, [density * 0.9, density * 0.42], 0);
    shadow.add_rod(axis, 14.0, density * 0.85);
}

/// Half-width and half-depth of the rib cage, end of the bony rib in degrees from the spine, and
/// drop from back to front, by rib.
const RIB_SHAPES: [(f32, f32, f32, f32); 12] = [
    (56.0, 44.0, 150.0, 30.0),
    (78.0, 58.0, 148.0, 48.0),
    (96.0, 68.0, 146.0, 64.0),
    (108.0, 76.0, 144.0, 78.0),
    (117.0, 82.0, 142.0, 90.0),
    (124.0, 87.0, 140.0, 100.0),
    (129.0, 91.0, 138.0, 108.0),
    (132.0, 93.0, 132.0, 110.0),
    (132.0, 93.0, 122.0, 106.0),
    (129.0, 91.0, 110.0, 98.0),
    (120.0, 86.0, 80.0, 80.0),
    (104.0, 80.0, 52.0, 66.0),
];

fn ribs(shadow: &mut Shadow, vertebra: &Vertebra, pair: usize, build: &Build) {
    let (width, depth, end, drop) = RIB_SHAPES[pair];
    let (width, depth) = (width * build.chest, depth * build.chest);
    let Vec3 { x: a, y: h, z: b } = vertebra.half;
    let (sin, cos) = (vertebra.tilt.lateral * 0.8).sin_cos();
    for side in [-1.0, 1.0] {
        let mut curve = vec![vertebra.frame.point(vec3(side * a * 0.95, -h * 0.8, -b * 0.6))];
        let mut degrees = 18.0;
        while degrees <= end {
            let angle = degrees / 180.0 * PI;
            let fall = drop * (angle / PI) * (0.55 + 0.75 * angle / PI) - 8.0;
            let x = side * width * angle.sin();
            let z = -b - 14.0 + depth * (0.92 - angle.cos());
            let turned = x + vertebra.tilt.axial * (z - depth) * 0.6;
            curve.push(
                vertebra.frame.origin + vec3(turned * cos - fall * sin, x * sin + fall * cos, z),
            );
            degrees += 10.0;
        }
        let radius = if pair == 11 { 3.6 } else { 4.6 };
        shadow.add_rod(&smooth(&curve), radius, MIXED * 0.92 * build.mineral);
    }
}

fn shoulders(shadow: &mut Shadow, spine: &Spine, build: &Build) {
    let density = MIXED * build.mineral;
    let (top, fourth) = (spine.vertebrae[T1].frame.origin, spine.vertebrae[T1 + 3].frame.origin);
    let front = top.z + 70.0;
    for side in [-1.0, 1.0] {
        let at = |x: f32, y: f32, z: f32| vec3(top.x + side * x * build.chest, top.y + y, z);
        let clavicle = smooth(&[
            at(14.0, 52.0, front),
            at(50.0, 36.0, front + 4.0),
            at(95.0, 20.0, front - 26.0),
            at(150.0, 12.0, front - 46.0),
        ]);
        shadow.add_rod(&clavicle, 5.6, density);
        let back = fourth.z - 40.0;
        let medial = smooth(&[
            at(82.0, 34.0, back),
            at(86.0, 80.0, back - 8.0),
            at(104.0, 158.0, back - 4.0),
        ]);
        let lateral = smooth(&[
            at(150.0, 52.0, back + 36.0),
            at(140.0, 92.0, back + 22.0),
            at(104.0, 158.0, back - 4.0),
        ]);
        shadow.add_plate([&medial, &lateral], 2.6, density * 0.8);
        shadow.add_rod(&medial, 2.2, density * 0.8);
        shadow.add_rod(&lateral, 4.2, density * 0.8);
        let spine_of_scapula = smooth(&[
            at(84.0, 52.0, back - 6.0),
            at(130.0, 26.0, back),
            at(166.0, 12.0, back + 30.0),
        ]);
        shadow.add_rod(&spine_of_scapula, 4.0, density * 0.7);
        if shadow.camera.view == View::Frontal {
            upper_arm(
                shadow,
                &[
                    at(172.0, 44.0, back + 42.0),
                    at(190.0, 90.0, back + 42.0),
                    at(198.0, 260.0, back + 40.0),
                ],
                density,
            );
        }
    }
}

fn upper_arm(shadow: &mut Shadow, axis: &[Vec3; 3], density: f32) {
    let head = Frame::upright(axis[0]);
    let ball = |r: f32| Solid::ellipsoid(head, vec3(r, r, r));
    shadow.add_bone(&ball(22.0), &ball(20.8), [density * 1.4, density * 0.4], 0);
    shadow.add_rod(&smooth(axis), 10.5, density * 0.9);
}
