//! What is known about a phantom: the finding, and where every vertebra lies in the picture.

use models::label::Class;
use serde::Serialize;

use super::geometry::View;

/// Side of the patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The patient's left: the right of a frontal picture.
    Left,
    /// The patient's right.
    Right,
}

/// Side edge of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Edge {
    /// The first column.
    Left,
    /// The last column.
    Right,
}

/// The record that belongs to one phantom.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Truth {
    /// The class it was made for.
    pub class: Class,
    /// Seed that makes it again.
    pub seed: u64,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Direction of the beam.
    pub view: View,
    /// In a lateral view, the edge of the picture that the patient faces.
    pub faces: Option<Edge>,
    /// Anatomical millimetres per pixel at the detector.
    pub mm_per_pixel: f32,
    /// The lateral curve; healthy spines have one below 10 degrees.
    pub curve: CurveTruth,
    /// The slip, for spondylolisthesis alone.
    pub slip: Option<SlipTruth>,
    /// Vertebrae visible in the picture from the top; the mask's label `n` is the `n`-th.
    pub vertebrae: Vec<VertebraTruth>,
}

/// The lateral curve of a spine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CurveTruth {
    /// Angle between the end vertebrae.
    pub cobb_degrees: f32,
    /// Side of the patient to which the curve bulges.
    pub convex: Side,
    /// Vertebra farthest from the midline.
    pub apex: &'static str,
    /// Most tilted vertebra above the apex.
    pub upper_end: &'static str,
    /// Most tilted vertebra below the apex.
    pub lower_end: &'static str,
}

/// One vertebra's forward slip over the next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlipTruth {
    /// The slipped vertebra and the one below it, such as `L5/S1`.
    pub level: String,
    /// Meyerding grade, 1 to 4.
    pub grade: u8,
    /// Distance of the slipped vertebra's lower hind corner from the next one's upper hind corner,
    /// along the latter's upper end plate and as a share of its depth.
    pub fraction: f32,
}

/// One vertebral body in the picture; coordinates in pixels, the first pixel's centre is
/// (0.5, 0.5).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VertebraTruth {
    /// Its value in the mask.
    pub label: u8,
    /// Anatomical name.
    pub name: &'static str,
    /// Middle of the body.
    pub centre: [f32; 2],
    /// Ends of the upper and then of the lower end plate, each from left to right in the picture.
    pub corners: [[f32; 2]; 4],
    /// Clockwise angle of the body's transverse axis against the horizontal of the picture.
    pub tilt_degrees: f32,
    /// Whether the body lies in the exposed field as a whole.
    pub whole: bool,
}
