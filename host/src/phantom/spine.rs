//! The spinal column: vertebra sizes, sagittal profile, scoliotic curve and slip.
//!
//! Sizes are typical adult values (vertebral body dimensions as tabulated by Panjabi et al.,
//! *Spine* 16(8):888, 1991, and 17(3):299, 1992, rounded); the sagittal profile has a thoracic
//! kyphosis near 40 degrees and a lumbar lordosis near 50.

use super::geometry::{Frame, Tilt, Vec3, vec3};

/// Vertebrae from C3 to S1.
pub const COUNT: usize = SIZES.len();
/// Index of the first thoracic vertebra.
pub const T1: usize = 5;
/// Index of the last thoracic vertebra.
pub const T12: usize = 16;
/// Index of the fourth lumbar vertebra.
pub const L4: usize = 20;
/// Index of the fifth lumbar vertebra.
pub const L5: usize = 21;
/// Index of the first sacral vertebra.
pub const S1: usize = 22;

/// A stretch of the spine whose vertebrae share a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// C3 to C7.
    Cervical,
    /// T1 to T12.
    Thoracic,
    /// L1 to L5.
    Lumbar,
    /// S1.
    Sacral,
}

/// Name, body width, depth and height, disc height below, and sagittal tilt in degrees.
struct Typical(&'static str, f32, f32, f32, f32, f32);

const SIZES: [Typical; 23] = [
    Typical("C3", 17.0, 15.0, 13.0, 5.0, 8.0),
    Typical("C4", 18.0, 15.0, 12.5, 5.0, 10.0),
    Typical("C5", 19.0, 15.5, 12.5, 5.0, 14.0),
    Typical("C6", 20.0, 16.0, 12.5, 5.5, 18.0),
    Typical("C7", 22.0, 16.5, 13.5, 5.0, 22.0),
    Typical("T1", 27.0, 17.0, 16.0, 4.0, 23.0),
    Typical("T2", 27.0, 18.0, 17.0, 3.5, 21.0),
    Typical("T3", 26.0, 20.0, 17.5, 3.5, 18.0),
    Typical("T4", 26.0, 22.0, 18.0, 3.5, 14.0),
    Typical("T5", 27.0, 24.0, 18.5, 3.5, 10.0),
    Typical("T6", 28.0, 26.0, 19.0, 4.0, 5.0),
    Typical("T7", 29.0, 27.5, 19.5, 4.0, 1.0),
    Typical("T8", 30.0, 28.5, 20.5, 4.5, -4.0),
    Typical("T9", 32.0, 29.5, 21.0, 5.0, -8.0),
    Typical("T10", 34.0, 30.0, 22.0, 5.5, -11.0),
    Typical("T11", 37.0, 31.0, 23.0, 6.0, -13.0),
    Typical("T12", 40.0, 32.0, 24.5, 7.0, -14.0),
    Typical("L1", 42.0, 33.0, 26.0, 8.5, -13.0),
    Typical("L2", 44.0, 34.0, 27.0, 9.5, -9.0),
    Typical("L3", 46.0, 34.5, 27.0, 10.5, -2.0),
    Typical("L4", 48.0, 35.0, 27.0, 11.0, 8.0),
    Typical("L5", 51.0, 35.0, 27.0, 10.0, 21.0),
    Typical("S1", 50.0, 34.0, 27.0, 1.5, 36.0),
];

/// Size of S2 to S5 relative to S1, and their sagittal tilt in degrees.
const SACRAL_TAIL: [(f32, f32); 4] = [(0.80, 42.0), (0.66, 38.0), (0.52, 22.0), (0.40, -4.0)];

/// A lateral curve with one apex, as a series of vertebral tilts.
#[derive(Clone, Copy, Debug)]
pub struct Curve {
    /// Angle between the end vertebrae.
    pub cobb_degrees: f32,
    /// The curve bulges towards the patient's left.
    pub convex_left: bool,
    /// Index of the apical vertebra.
    pub apex: usize,
    /// Vertebrae from the apex up to the upper end vertebra.
    pub span_above: usize,
    /// Vertebrae from the apex down to the lower end vertebra.
    pub span_below: usize,
}

impl Curve {
    /// Tilt of a vertebra, in radians towards the patient's left: a quarter sine from the apex
    /// to each end vertebra, then a fade to level over the three vertebrae beyond, so that the
    /// Cobb angle is reached exactly.
    fn lateral_tilt(&self, index: usize) -> f32 {
        let half = self.cobb_degrees.to_radians() / 2.0;
        let offset = index as f32 - self.apex as f32;
        let below = offset > 0.0;
        let span = if below { self.span_below } else { self.span_above } as f32;
        let reach = if below { (S1 as f32 - self.apex as f32 - span).clamp(1.0, 3.0) } else { 3.0 };
        let distance = offset.abs() / span;
        let share = if distance <= 1.0 {
            (distance * std::f32::consts::FRAC_PI_2).sin()
        } else {
            let beyond = ((offset.abs() - span) / reach).min(1.0);
            0.5 + 0.5 * (beyond * std::f32::consts::PI).cos()
        };
        half * share * if below == self.convex_left { 1.0 } else { -1.0 }
    }

    /// Rotation about the long axis, largest at the apex: the front turns to the convex side.
    fn axial_turn(&self, index: usize, coupling: f32) -> f32 {
        let offset = index as f32 - self.apex as f32;
        let span = if offset > 0.0 { self.span_below } else { self.span_above } as f32;
        let share = (1.0 - offset.abs() / span).max(0.0) * std::f32::consts::FRAC_PI_2;
        let turn = self.cobb_degrees.to_radians() * coupling * share.sin();
        if self.convex_left { turn } else { -turn }
    }
}

/// One vertebra moved forward over the next.
#[derive(Clone, Copy, Debug)]
pub struct Slip {
    /// Index of the vertebra that slips; all above go with it.
    pub level: usize,
    /// Share of the lower vertebra's depth, 0 to 1.
    pub fraction: f32,
}

impl Slip {
    /// Meyerding grade: quarters of the lower end plate's depth.
    pub fn grade(&self) -> u8 {
        (self.fraction * 4.0).ceil().clamp(1.0, 4.0) as u8
    }
}

/// Everything that shapes one patient's column.
#[derive(Clone, Copy, Debug)]
pub struct Posture {
    /// Lateral curve; healthy spines have one of a few degrees.
    pub curve: Curve,
    /// Axial rotation at the apex, as a share of the Cobb angle.
    pub rotation: f32,
    /// Forward slip, if any.
    pub slip: Option<Slip>,
    /// Multiplies the typical thoracic sagittal tilts.
    pub kyphosis: f32,
    /// Multiplies the typical lumbar and sacral sagittal tilts.
    pub lordosis: f32,
    /// Multiplies disc heights.
    pub discs: f32,
}

/// One vertebra in place; the frame's origin is the middle of the body.
#[derive(Clone, Copy, Debug)]
pub struct Vertebra {
    /// Anatomical name, such as `L4`.
    pub name: &'static str,
    /// The build it shares with its neighbours.
    pub region: Region,
    /// Position and orientation.
    pub frame: Frame,
    /// Half of the body's width, height and depth, in millimetres.
    pub half: Vec3,
    /// How it is turned.
    pub tilt: Tilt,
}

/// The column from C3 (index 0) to S1, with the rest of the sacrum; S1 is at the world's origin.
#[derive(Clone, Debug)]
pub struct Spine {
    /// C3 to S1.
    pub vertebrae: Vec<Vertebra>,
    /// S2 to S5.
    pub sacral_tail: Vec<Vertebra>,
}

impl Spine {
    /// Stacks the vertebrae upwards from S1.
    pub fn stand(posture: &Posture) -> Spine {
        let mut vertebrae: Vec<Vertebra> = (0..COUNT).map(|i| place(posture, i)).collect();
        for upper in (0..S1).rev() {
            let lower = vertebrae[upper + 1];
            let slip = posture.slip.filter(|slip| slip.level == upper);
            let narrowing = slip.map_or(1.0, |slip| 1.0 - 0.45 * slip.fraction);
            let disc = SIZES[upper].4 * posture.discs * narrowing;
            let own = vertebrae[upper];
            let mut origin = lower.frame.point(vec3(0.0, -lower.half.y - disc / 2.0, 0.0))
                - own.frame.down * (own.half.y + disc / 2.0);
            if let Some(slip) = slip {
                let slipped = posterior_corner(&own, origin, 1.0);
                let edge = posterior_corner(&lower, lower.frame.origin, -1.0);
                let wanted = 2.0 * lower.half.z * slip.fraction;
                let front = lower.frame.front;
                origin = origin + front * (wanted - (slipped - edge).dot(front));
            }
            vertebrae[upper].frame.origin = origin;
        }
        let sacral_tail = sacral_tail(&vertebrae[S1]);
        Spine { vertebrae, sacral_tail }
    }

    /// Position of the column at a height, interpolated between vertebral centres.
    pub fn centre_at(&self, y: f32) -> Vec3 {
        let centres = || self.vertebrae.iter().map(|v| v.frame.origin);
        for (upper, lower) in centres().zip(centres().skip(1)) {
            if y < lower.y {
                let t = (y - upper.y) / (lower.y - upper.y).max(1.0);
                return upper.towards(lower, t.max(0.0));
            }
        }
        self.vertebrae[S1].frame.origin
    }
}

/// The hind end of a body's lower (`end` = 1) or upper (-1) end plate, were its middle at
/// `origin`: a slip is measured between two of them, along the lower vertebra's end plate.
fn posterior_corner(vertebra: &Vertebra, origin: Vec3, end: f32) -> Vec3 {
    let frame = Frame { origin, ..vertebra.frame };
    frame.point(vec3(0.0, end * vertebra.half.y, -vertebra.half.z))
}

fn place(posture: &Posture, index: usize) -> Vertebra {
    let Typical(name, width, depth, height, _, sagittal) = SIZES[index];
    let region = match index {
        0..T1 => Region::Cervical,
        T1..=T12 => Region::Thoracic,
        S1 => Region::Sacral,
        _ => Region::Lumbar,
    };
    let scale = if index > T12 { posture.lordosis } else { posture.kyphosis };
    // A slipped vertebra tips forward over the edge below it (lumbosacral kyphosis).
    let tipping = posture
        .slip
        .filter(|slip| slip.level == index)
        .map_or(0.0, |slip| 14.0 * slip.fraction * slip.fraction);
    let tilt = Tilt {
        lateral: posture.curve.lateral_tilt(index),
        sagittal: (sagittal * scale + tipping).to_radians(),
        axial: posture.curve.axial_turn(index, posture.rotation),
    };
    let half = vec3(width / 2.0, height / 2.0, depth / 2.0);
    Vertebra { name, region, frame: Frame::tilted(Vec3::default(), tilt), half, tilt }
}

fn sacral_tail(first: &Vertebra) -> Vec<Vertebra> {
    let mut tail: Vec<Vertebra> = Vec::with_capacity(SACRAL_TAIL.len());
    let lean = first.tilt.sagittal.to_degrees() - SIZES[S1].5;
    for (i, (share, sagittal)) in SACRAL_TAIL.into_iter().enumerate() {
        let above = tail.last().copied().unwrap_or(*first);
        let tilt = Tilt { sagittal: (sagittal + lean).to_radians(), ..first.tilt };
        let half = vec3(
            first.half.x * share,
            first.half.y * (0.92 - 0.08 * i as f32),
            first.half.z * share * share.sqrt(),
        );
        let frame = Frame::tilted(Vec3::default(), tilt);
        let origin = above.frame.point(vec3(0.0, above.half.y + 0.8, 0.0)) + frame.down * half.y;
        let frame = Frame { origin, ..frame };
        tail.push(Vertebra { name: "sacrum", region: Region::Sacral, frame, half, tilt });
    }
    tail
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn posture() -> Posture {
        Posture {
            curve: Curve {
                cobb_degrees: 0.0,
                convex_left: true,
                apex: 13,
                span_above: 4,
                span_below: 4,
            },
            rotation: 0.3,
            slip: None,
            kyphosis: 1.0,
            lordosis: 1.0,
            discs: 1.0,
        }
    }

    #[test]
    fn end_vertebrae_reach_the_cobb_angle() {
        for convex_left in [false, true] {
            let mut posture = posture();
            posture.curve =
                Curve { cobb_degrees: 48.0, convex_left, apex: 12, span_above: 5, span_below: 3 };
            let spine = Spine::stand(&posture);
            let tilts: Vec<f32> =
                spine.vertebrae.iter().map(|v| v.tilt.lateral.to_degrees()).collect();
            let highest = tilts.iter().copied().fold(f32::MIN, f32::max);
            let lowest = tilts.iter().copied().fold(f32::MAX, f32::min);
            assert!((highest - lowest - 48.0).abs() < 1e-3);
            assert!((tilts[7] - tilts[15]).abs() > 47.9);
            let apex = spine.vertebrae[12].frame.origin.x;
            let ends =
                (spine.vertebrae[7].frame.origin.x + spine.vertebrae[15].frame.origin.x) / 2.0;
            assert_eq!(apex > ends, convex_left, "the apex lies on the convex side");
            assert_eq!(spine.vertebrae[12].frame.front.x > 0.0, convex_left);
        }
    }

    #[test]
    fn the_slipped_vertebra_moves_forward_by_its_share() {
        let slip = Slip { level: L5, fraction: 0.6 };
        let spine = Spine::stand(&Posture { slip: Some(slip), ..posture() });
        let (upper, lower) = (spine.vertebrae[L5], spine.vertebrae[S1]);
        let moved = posterior_corner(&upper, upper.frame.origin, 1.0)
            - posterior_corner(&lower, lower.frame.origin, -1.0);
        let along = moved.dot(lower.frame.front);
        assert!((along - 0.6 * 34.0).abs() < 1e-3, "{along} mm");
        assert_eq!(slip.grade(), 3);
    }

    #[test]
    fn a_healthy_column_has_a_lifelike_length() {
        let spine = Spine::stand(&posture());
        let height = spine.vertebrae[S1].frame.origin.y - spine.vertebrae[T1].frame.origin.y;
        assert!((420.0..520.0).contains(&height), "{height} mm from T1 to S1");
    }
}
