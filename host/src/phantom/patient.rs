//! A random patient, and how the picture is framed.

use models::label::Class;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::geometry::{Camera, View};
use super::skeleton::Build;
use super::spine::{Curve, L4, L5, Posture, S1, Slip, Spine, T1, T12, Vertebra};
use super::tissue::Habitus;

/// One patient, standing, with the view to be taken.
pub struct Patient {
    /// The column's shape.
    pub posture: Posture,
    /// The column in place.
    pub spine: Spine,
    /// Bones beside the column.
    pub build: Build,
    /// Soft tissue.
    pub habitus: Habitus,
    /// Body size relative to a typical adult.
    pub size: f32,
    view: View,
    faces_right: bool,
    top: usize,
    below_sacrum: f32,
    off_centre: f32,
}

/// How much of the spine a picture shows.
#[derive(Clone, Copy)]
enum Extent {
    FullSpine,
    Thoracolumbar,
    Lumbar,
}

impl Patient {
    /// Draws a patient with the class's finding. View and extent overlap between the classes.
    pub fn random(class: Class, rng: &mut ChaCha8Rng) -> Patient {
        let posture = Posture {
            curve: curve(class, rng),
            rotation: rng.random_range(0.2..0.42),
            slip: (class == Class::Spondylolisthesis).then(|| slip(rng)),
            kyphosis: rng.random_range(0.7..1.2),
            lordosis: rng.random_range(0.8..1.15),
            discs: rng.random_range(0.8..1.1),
        };
        let lateral = match class {
            Class::Normal => 0.3,
            Class::Scoliosis => 0.0,
            Class::Spondylolisthesis => 0.75,
        };
        let view = if rng.random_bool(lateral) { View::Lateral } else { View::Frontal };
        let extent = extent(class, view, rng);
        let chest = rng.random_range(0.9..1.06);
        Patient {
            spine: Spine::stand(&posture),
            build: Build {
                chest,
                pelvis: rng.random_range(0.92..1.06),
                mineral: rng.random_range(0.85..1.2),
            },
            habitus: Habitus {
                width: rng.random_range(0.92..1.18),
                depth: rng.random_range(0.85..1.2),
                chest,
            },
            size: rng.random_range(0.82..1.08),
            view,
            faces_right: rng.random_bool(0.5),
            top: top(extent, &posture.curve, class, rng),
            below_sacrum: below_sacrum(extent, view, rng),
            off_centre: rng.random_range(-9.0..9.0),
            posture,
        }
    }

    /// The vertebrae the picture is framed to show.
    pub fn shown(&self) -> &[Vertebra] {
        &self.spine.vertebrae[self.top..=S1]
    }

    /// Fits the chosen stretch of the spine into a picture; where its sides would be cut, the
    /// picture shows more above and below instead.
    pub fn camera(&self, width: usize, height: usize) -> Camera {
        let first = &self.spine.vertebrae[self.top];
        let last = &self.spine.vertebrae[S1];
        let (top, bottom) =
            (first.frame.origin.y - first.half.y - 9.0, last.frame.origin.y + self.below_sacrum);
        let mut camera = Camera {
            view: self.view,
            faces_right: self.faces_right,
            pixels_per_mm: 1.0,
            centre: (0.0, (top + bottom) / 2.0),
            width,
            height,
        };
        let across = camera.across();
        let sides = self.shown().iter().flat_map(|v| {
            let (at, reach) = (v.frame.origin.dot(across), v.half.length());
            [at - reach, at + reach]
        });
        let (least, most) = sides.fold((f32::MAX, f32::MIN), |(a, b), s| (a.min(s), b.max(s)));
        let spare = 40.0;
        camera.centre.0 = (least + most) / 2.0 + self.off_centre;
        camera.pixels_per_mm =
            (height as f32 / (bottom - top)).min(width as f32 / (most - least + spare));
        camera
    }
}

/// A scoliotic curve of 15 to 60 degrees with its apex from T7 to L2, or the few degrees that
/// every healthy spine has.
fn curve(class: Class, rng: &mut ChaCha8Rng) -> Curve {
    let cobb_degrees = match class {
        Class::Scoliosis => rng.random_range(15.0..60.0),
        _ => rng.random_range(0.0..6.0),
    };
    let apex = rng.random_range(T1 + 6..=T12 + 2);
    Curve {
        cobb_degrees,
        convex_left: rng.random_bool(0.4),
        apex,
        span_above: rng.random_range(3..=4),
        span_below: rng.random_range(3..=4).min(L4 - apex),
    }
}

fn slip(rng: &mut ChaCha8Rng) -> Slip {
    let level = if rng.random_bool(0.6) { L5 } else { L4 };
    let grade: u8 = rng.random_range(1..=4);
    let within = rng.random_range(if grade == 1 { 0.1 } else { 0.03 }..0.22);
    Slip { level, fraction: 0.25 * f32::from(grade - 1) + within }
}

fn extent(class: Class, view: View, rng: &mut ChaCha8Rng) -> Extent {
    let draw: f32 = rng.random_range(0.0..1.0);
    match (class, view) {
        (_, View::Lateral) if draw < 0.75 => Extent::Lumbar,
        (_, View::Lateral) => Extent::Thoracolumbar,
        (Class::Spondylolisthesis, _) if draw < 0.65 => Extent::Lumbar,
        (Class::Normal, _) if draw < 0.25 => Extent::Lumbar,
        (_, View::Frontal) if draw < 0.6 => Extent::Thoracolumbar,
        (_, View::Frontal) => Extent::FullSpine,
    }
}

/// Index of the uppermost vertebra to show; a scoliosis is never cut.
fn top(extent: Extent, curve: &Curve, class: Class, rng: &mut ChaCha8Rng) -> usize {
    let top = match extent {
        Extent::FullSpine => rng.random_range(T1 - 2..=T1),
        Extent::Thoracolumbar => rng.random_range(T1 + 3..=T1 + 8),
        Extent::Lumbar => rng.random_range(T12 - 2..=T12),
    };
    let upper_end = curve.apex - curve.span_above;
    if class == Class::Scoliosis { top.min(upper_end.saturating_sub(1)) } else { top }
}

fn below_sacrum(extent: Extent, view: View, rng: &mut ChaCha8Rng) -> f32 {
    match (extent, view) {
        (Extent::FullSpine, _) => rng.random_range(90.0..175.0),
        (Extent::Thoracolumbar, View::Frontal) => rng.random_range(45.0..150.0),
        (_, View::Lateral) => rng.random_range(38.0..75.0),
        (Extent::Lumbar, View::Frontal) => rng.random_range(40.0..85.0),
    }
}
