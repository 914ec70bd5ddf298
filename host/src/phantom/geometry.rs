//! Points, body-fixed frames and the parallel-beam camera.
//!
//! World axes, in millimetres: `x` towards the patient's left, `y` down (caudal), `z` forward
//! (anterior). A frontal picture shows the patient facing the viewer, as radiographs are read:
//! the patient's left is on the right of the picture.

use std::ops::{Add, Mul, Sub};

use serde::Serialize;

/// A point or direction, in millimetres.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Vec3 {
    /// Towards the patient's left.
    pub x: f32,
    /// Down.
    pub y: f32,
    /// Forward.
    pub z: f32,
}

/// Shorthand for [`Vec3`].
pub const fn vec3(x: f32, y: f32, z: f32) -> Vec3 {
    Vec3 { x, y, z }
}

impl Vec3 {
    /// Scalar product.
    pub fn dot(self, other: Vec3) -> f32 {
        self.x * other.x + self.y * other.y + self.z * other.z
    }

    /// Euclidean length.
    pub fn length(self) -> f32 {
        self.dot(self).sqrt()
    }

    /// The same point on the other side of the body's midline.
    pub fn mirrored(self) -> Vec3 {
        vec3(-self.x, self.y, self.z)
    }

    /// The point a fraction `t` of the way to `other`.
    pub fn towards(self, other: Vec3, t: f32) -> Vec3 {
        self + (other - self) * t
    }
}

impl Add for Vec3 {
    type Output = Vec3;
    fn add(self, o: Vec3) -> Vec3 {
        vec3(self.x + o.x, self.y + o.y, self.z + o.z)
    }
}

impl Sub for Vec3 {
    type Output = Vec3;
    fn sub(self, o: Vec3) -> Vec3 {
        vec3(self.x - o.x, self.y - o.y, self.z - o.z)
    }
}

impl Mul<f32> for Vec3 {
    type Output = Vec3;
    fn mul(self, k: f32) -> Vec3 {
        vec3(self.x * k, self.y * k, self.z * k)
    }
}

/// An origin with three orthonormal axes, fixed to a bone.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// World position of the bone's centre.
    pub origin: Vec3,
    /// World direction of the bone's left.
    pub left: Vec3,
    /// World direction of the bone's caudal axis.
    pub down: Vec3,
    /// World direction of the bone's front.
    pub front: Vec3,
}

/// How a bone is turned, in radians.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tilt {
    /// Its upper end leans towards the patient's left.
    pub lateral: f32,
    /// Its upper end leans forward.
    pub sagittal: f32,
    /// Its front turns towards the patient's left.
    pub axial: f32,
}

impl Frame {
    /// A frame parallel to the world axes.
    pub fn upright(origin: Vec3) -> Frame {
        Frame::tilted(origin, Tilt::default())
    }

    /// Turns first about the bone's own long axis, then forward, then sideways. In this order
    /// the frontal projection of the long axis leans by exactly `tilt.lateral`.
    pub fn tilted(origin: Vec3, tilt: Tilt) -> Frame {
        let (sl, cl) = tilt.lateral.sin_cos();
        let (ss, cs) = tilt.sagittal.sin_cos();
        let (sa, ca) = tilt.axial.sin_cos();
        let turn = |v: Vec3| {
            let v = vec3(ca * v.x + sa * v.z, v.y, ca * v.z - sa * v.x);
            let v = vec3(v.x, cs * v.y + ss * v.z, cs * v.z - ss * v.y);
            vec3(cl * v.x - sl * v.y, sl * v.x + cl * v.y, v.z)
        };
        Frame {
            origin,
            left: turn(vec3(1.0, 0.0, 0.0)),
            down: turn(vec3(0.0, 1.0, 0.0)),
            front: turn(vec3(0.0, 0.0, 1.0)),
        }
    }

    /// World position of a point given in this frame.
    pub fn point(&self, local: Vec3) -> Vec3 {
        self.origin + self.left * local.x + self.down * local.y + self.front * local.z
    }

    /// Components of a world direction along this frame's axes.
    pub fn components(&self, direction: Vec3) -> Vec3 {
        vec3(direction.dot(self.left), direction.dot(self.down), direction.dot(self.front))
    }
}

/// Direction from which the patient is imaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// Anteroposterior: the beam runs front to back.
    Frontal,
    /// The beam runs side to side.
    Lateral,
}

/// A parallel beam onto a detector of square pixels.
#[derive(Clone, Copy, Debug)]
pub struct Camera {
    /// Beam direction.
    pub view: View,
    /// In a lateral view: the patient faces the right edge of the picture.
    pub faces_right: bool,
    /// Detector pixels per millimetre of anatomy.
    pub pixels_per_mm: f32,
    /// Anatomy in the middle of the picture: millimetres along [`Camera::across`], and `y`.
    pub centre: (f32, f32),
    /// Pixels across.
    pub width: usize,
    /// Pixels down.
    pub height: usize,
}

impl Camera {
    /// World direction that runs to the right in the picture.
    pub fn across(&self) -> Vec3 {
        match (self.view, self.faces_right) {
            (View::Frontal, _) => vec3(1.0, 0.0, 0.0),
            (View::Lateral, true) => vec3(0.0, 0.0, 1.0),
            (View::Lateral, false) => vec3(0.0, 0.0, -1.0),
        }
    }

    /// World direction of the beam.
    pub fn beam(&self) -> Vec3 {
        match self.view {
            View::Frontal => vec3(0.0, 0.0, 1.0),
            View::Lateral => vec3(1.0, 0.0, 0.0),
        }
    }

    /// Pixel coordinates of a world point; the first pixel's centre is (0.5, 0.5).
    pub fn project(&self, point: Vec3) -> (f32, f32) {
        (
            (point.dot(self.across()) - self.centre.0) * self.pixels_per_mm
                + self.width as f32 / 2.0,
            (point.y - self.centre.1) * self.pixels_per_mm + self.height as f32 / 2.0,
        )
    }

    /// The point of the detector plane through the world's origin that is seen at a pixel
    /// coordinate.
    pub fn unproject(&self, column: f32, row: f32) -> Vec3 {
        let across = (column - self.width as f32 / 2.0) / self.pixels_per_mm + self.centre.0;
        let y = (row - self.height as f32 / 2.0) / self.pixels_per_mm + self.centre.1;
        self.across() * across + vec3(0.0, y, 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(view: View, faces_right: bool) -> Camera {
        Camera {
            view,
            faces_right,
            pixels_per_mm: 1.5,
            centre: (10.0, -30.0),
            width: 300,
            height: 500,
        }
    }

    #[test]
    fn projection_and_its_inverse_agree() {
        for camera in [camera(View::Frontal, false), camera(View::Lateral, true)] {
            let (column, row) = camera.project(camera.unproject(40.5, 77.25));
            assert!((column - 40.5).abs() < 1e-3 && (row - 77.25).abs() < 1e-3);
        }
    }

    #[test]
    fn lateral_tilt_is_the_projected_lean() {
        let tilt = Tilt { lateral: 0.4, sagittal: 0.3, axial: 0.2 };
        let frame = Frame::tilted(Vec3::default(), tilt);
        let up = frame.down * -1.0;
        assert!((up.x.atan2(-up.y) - 0.4).abs() < 1e-5, "leans towards +x by the lateral tilt");
        assert!(up.z > 0.0, "a positive sagittal tilt leans forward");
        assert!(frame.left.dot(frame.down).abs() < 1e-6);
        assert!((frame.front.length() - 1.0).abs() < 1e-6);
    }
}
