//! Line integrals of attenuation through simple solids, one per detector pixel.
//!
//! Solids are quadrics, for which the path of a ray inside is a closed form, and beads: small
//! balls strung along curves and over sheets, whose sum is a rod or a plate.

use super::geometry::{Camera, Frame, Vec3, vec3};

/// Attenuation summed along the beam (dimensionless), and which vertebra each pixel shows.
pub struct Shadow {
    /// The detector's geometry.
    pub camera: Camera,
    /// Soft tissue and air, `height * width`; air inside the body counts negative.
    pub soft: Vec<f32>,
    /// Bone, beyond the soft tissue in its place.
    pub bone: Vec<f32>,
    /// 0, or the number of the vertebral body seen.
    pub labels: Vec<u8>,
    label_paths: Vec<f32>,
}

/// Axis-aligned solid in a frame: all points with `sum weights * p^2 <= bound`.
///
/// Three positive weights make an ellipsoid; a negative one in the middle a waisted column
/// (one-sheeted hyperboloid), closed by the slab `|y| <= half_height`.
#[derive(Clone, Copy, Debug)]
pub struct Solid {
    frame: Frame,
    weights: Vec3,
    bound: f32,
    half_height: f32,
    extent: Vec3,
}

impl Solid {
    /// An ellipsoid with the given semi-axes, in millimetres.
    pub fn ellipsoid(frame: Frame, semi: Vec3) -> Solid {
        let weights =
            vec3(1.0 / (semi.x * semi.x), 1.0 / (semi.y * semi.y), 1.0 / (semi.z * semi.z));
        Solid { frame, weights, bound: 1.0, half_height: f32::INFINITY, extent: semi }
    }

    /// An elliptic column with flat ends; `waist` in 0..1 is how much of the squared
    /// half-widths its middle lacks.
    pub fn column(frame: Frame, half: Vec3, waist: f32) -> Solid {
        let weights =
            vec3(1.0 / (half.x * half.x), -waist / (half.y * half.y), 1.0 / (half.z * half.z));
        Solid { frame, weights, bound: 1.0 - waist, half_height: half.y, extent: half }
    }

    /// Columns and rows of the picture that the solid may touch: `[left, right)`, `[top, bottom)`.
    fn bounds(&self, camera: &Camera) -> [usize; 4] {
        let (column, row) = camera.project(self.frame.origin);
        let reach = |direction: Vec3| {
            let c = self.frame.components(direction);
            let (x, y, z) = (c.x * self.extent.x, c.y * self.extent.y, c.z * self.extent.z);
            let mm = if self.half_height.is_finite() {
                y.abs() + (x * x + z * z).sqrt()
            } else {
                (x * x + y * y + z * z).sqrt()
            };
            mm * camera.pixels_per_mm + 1.0
        };
        let (across, down) = (reach(camera.across()), reach(vec3(0.0, 1.0, 0.0)));
        clip(camera, column - across, column + across, row - down, row + down)
    }
}

fn clip(camera: &Camera, left: f32, right: f32, top: f32, bottom: f32) -> [usize; 4] {
    let to = |v: f32, limit: usize| v.clamp(0.0, limit as f32) as usize;
    [
        to(left.floor(), camera.width),
        to(right.ceil(), camera.width),
        to(top.floor(), camera.height),
        to(bottom.ceil(), camera.height),
    ]
}

/// All rays of a camera, in one solid's coordinates.
struct Rays {
    solid: Solid,
    base: Vec3,
    per_column: Vec3,
    per_row: Vec3,
    along: Vec3,
    curvature: f32,
}

impl Rays {
    fn new(solid: &Solid, camera: &Camera) -> Rays {
        let step = 1.0 / camera.pixels_per_mm;
        let along = solid.frame.components(camera.beam());
        Rays {
            solid: *solid,
            base: solid.frame.components(camera.unproject(0.0, 0.0) - solid.frame.origin),
            per_column: solid.frame.components(camera.across()) * step,
            per_row: solid.frame.components(vec3(0.0, 1.0, 0.0)) * step,
            along,
            curvature: weighted(solid.weights, along, along),
        }
    }

    /// Where the ray through a pixel coordinate enters and leaves the solid, in millimetres
    /// along the beam.
    fn inside(&self, column: f32, row: f32) -> Option<(f32, f32)> {
        let p = self.base + self.per_column * column + self.per_row * row;
        let slope = weighted(self.solid.weights, p, self.along);
        let rest = weighted(self.solid.weights, p, p) - self.solid.bound;
        let discriminant = slope * slope - self.curvature * rest;
        if discriminant <= 0.0 || self.curvature <= 0.0 {
            return None;
        }
        let root = discriminant.sqrt();
        let quadric = ((-slope - root) / self.curvature, (-slope + root) / self.curvature);
        let slab = self.inside_slab(p.y);
        overlap(quadric, slab)
    }

    fn inside_slab(&self, y: f32) -> (f32, f32) {
        let half = self.solid.half_height;
        if self.along.y.abs() < 1e-6 {
            return if y.abs() <= half { (f32::NEG_INFINITY, f32::INFINITY) } else { (0.0, 0.0) };
        }
        let (a, b) = ((-half - y) / self.along.y, (half - y) / self.along.y);
        (a.min(b), a.max(b))
    }

    fn path(&self, column: f32, row: f32) -> f32 {
        self.inside(column, row).map_or(0.0, |(from, to)| to - from)
    }
}

fn weighted(weights: Vec3, a: Vec3, b: Vec3) -> f32 {
    weights.x * a.x * b.x + weights.y * a.y * b.y + weights.z * a.z * b.z
}

fn overlap(a: (f32, f32), b: (f32, f32)) -> Option<(f32, f32)> {
    let both = (a.0.max(b.0), a.1.min(b.1));
    (both.0 < both.1).then_some(both)
}

/// Sample points within a pixel; solids with sharp edges are averaged over them.
const SUBPIXELS: [(f32, f32); 4] = [(0.375, 0.125), (0.875, 0.375), (0.125, 0.625), (0.625, 0.875)];

impl Shadow {
    /// An empty beam.
    pub fn new(camera: Camera) -> Shadow {
        let pixels = camera.width * camera.height;
        Shadow {
            camera,
            soft: vec![0.0; pixels],
            bone: vec![0.0; pixels],
            labels: vec![0; pixels],
            label_paths: vec![0.0; pixels],
        }
    }

    /// Adds a soft-tissue or gas solid; `density` is attenuation per millimetre.
    pub fn add_soft(&mut self, solid: &Solid, density: f32) {
        self.add_soft_without(solid, &[], density);
    }

    /// Adds the part of a solid that lies in none of `holes`, which must not overlap each other
    /// inside it.
    pub fn add_soft_without(&mut self, solid: &Solid, holes: &[Solid], density: f32) {
        let camera = self.camera;
        let rays = Rays::new(solid, &camera);
        let holes: Vec<Rays> = holes.iter().map(|hole| Rays::new(hole, &camera)).collect();
        let [left, right, top, bottom] = solid.bounds(&camera);
        for row in top..bottom {
            for column in left..right {
                let (x, y) = (column as f32 + 0.5, row as f32 + 0.5);
                let Some(span) = rays.inside(x, y) else { continue };
                let cut: f32 = holes
                    .iter()
                    .filter_map(|hole| hole.inside(x, y).and_then(|other| overlap(span, other)))
                    .map(|(from, to)| to - from)
                    .sum();
                self.soft[row * camera.width + column] +=
                    (span.1 - span.0 - cut).max(0.0) * density;
            }
        }
    }

    /// Takes the space of gas bubbles out of the soft tissue; where bubbles overlap they are one,
    /// as deep as the deepest.
    pub fn add_gas(&mut self, bubbles: &[Solid], density: f32) {
        let camera = self.camera;
        let mut depth = vec![0f32; self.soft.len()];
        for bubble in bubbles {
            let rays = Rays::new(bubble, &camera);
            let [left, right, top, bottom] = bubble.bounds(&camera);
            for row in top..bottom {
                for column in left..right {
                    let path = rays.path(column as f32 + 0.5, row as f32 + 0.5);
                    let deepest = &mut depth[row * camera.width + column];
                    *deepest = deepest.max(path);
                }
            }
        }
        self.soft.iter_mut().zip(&depth).for_each(|(soft, depth)| *soft -= depth * density);
    }

    /// Adds a bone: a dense shell, spongy inside `inner`. With a non-zero `label`, marks the
    /// pixels whose centre ray meets the bone; where two meet, the longer path wins.
    pub fn add_bone(&mut self, outer: &Solid, inner: &Solid, density: [f32; 2], label: u8) {
        let camera = self.camera;
        let (shell, core) = (Rays::new(outer, &camera), Rays::new(inner, &camera));
        let [left, right, top, bottom] = outer.bounds(&camera);
        for row in top..bottom {
            for column in left..right {
                let at = row * camera.width + column;
                let (x, y) = (column as f32, row as f32);
                let mut sum = 0.0;
                for (dx, dy) in SUBPIXELS {
                    let core_path = core.path(x + dx, y + dy);
                    let shell_path = shell.path(x + dx, y + dy) - core_path;
                    sum += shell_path * density[0] + core_path * density[1];
                }
                self.bone[at] += sum / SUBPIXELS.len() as f32;
                let path = if label > 0 { shell.path(x + 0.5, y + 0.5) } else { 0.0 };
                if path > self.label_paths[at] {
                    self.label_paths[at] = path;
                    self.labels[at] = label;
                }
            }
        }
    }

    /// Adds a hollow rod of bone along a curve; `radius` in millimetres.
    pub fn add_rod(&mut self, curve: &[Vec3], radius: f32, density: f32) {
        let beads = beads_along(curve, radius * 0.4);
        let volume = std::f32::consts::PI * radius * radius * radius * 0.4;
        let core = radius * 0.62;
        for &bead in &beads {
            self.add_bead(bead, radius, volume * density);
            self.add_bead(bead, core, -volume * density * 0.38 * 0.7);
        }
    }

    /// Adds a plate of bone, `thickness` in millimetres, ruled between two curves.
    pub fn add_plate(&mut self, edges: [&[Vec3]; 2], thickness: f32, density: f32) {
        let pitch = 3.5;
        let longest = length(edges[0]).max(length(edges[1]));
        let count = ((longest / pitch) as usize).max(2);
        let (one, other) = (spread(edges[0], count), spread(edges[1], count));
        for (i, (&from, &to)) in one.iter().zip(&other).enumerate() {
            let steps = (((to - from).length() / pitch) as usize).max(1);
            let next = (i + 1).min(count - 1);
            for step in 0..steps {
                let t = (step as f32 + 0.5) / steps as f32;
                let here = from.towards(to, t);
                let beside = one[next].towards(other[next], t);
                let area = (beside - here).length() * (to - from).length() / steps as f32;
                self.add_bead(here, 6.0, area * thickness * density);
            }
        }
    }

    /// Adds a ball-shaped smear with a given integral over the detector plane, in mm^2.
    fn add_bead(&mut self, at: Vec3, radius: f32, integral: f32) {
        let camera = self.camera;
        let (column, row) = camera.project(at);
        let reach = (radius * camera.pixels_per_mm).max(1.0);
        let mm = reach / camera.pixels_per_mm;
        let peak = 2.0 * integral / (std::f32::consts::PI * mm * mm);
        let [left, right, top, bottom] =
            clip(&camera, column - reach, column + reach, row - reach, row + reach);
        for y in top..bottom {
            let dy = (y as f32 + 0.5 - row) / reach;
            for x in left..right {
                let dx = (x as f32 + 0.5 - column) / reach;
                let inside = (1.0 - dx * dx - dy * dy).max(0.0);
                self.bone[y * camera.width + x] += peak * inside;
            }
        }
    }
}

/// A smooth curve through the given points (Catmull-Rom), as a fine polyline.
pub fn smooth(points: &[Vec3]) -> Vec<Vec3> {
    const PIECES: usize = 8;
    let at = |i: isize| points[i.clamp(0, points.len() as isize - 1) as usize];
    let mut curve = Vec::with_capacity(points.len() * PIECES);
    for i in 0..points.len().saturating_sub(1) as isize {
        let (p, a, b, n) = (at(i - 1), at(i), at(i + 1), at(i + 2));
        for piece in 0..PIECES {
            let t = piece as f32 / PIECES as f32;
            let (t2, t3) = (t * t, t * t * t);
            curve.push(
                p * (-0.5 * t3 + t2 - 0.5 * t)
                    + a * (1.5 * t3 - 2.5 * t2 + 1.0)
                    + b * (-1.5 * t3 + 2.0 * t2 + 0.5 * t)
                    + n * (0.5 * t3 - 0.5 * t2),
            );
        }
    }
    curve.extend(points.last());
    curve
}

fn length(curve: &[Vec3]) -> f32 {
    curve.windows(2).map(|pair| (pair[1] - pair[0]).length()).sum()
}

/// Points at equal distances `pitch` along a polyline.
fn beads_along(curve: &[Vec3], pitch: f32) -> Vec<Vec3> {
    let mut beads = Vec::new();
    let mut wait = pitch / 2.0;
    for pair in curve.windows(2) {
        let piece = (pair[1] - pair[0]).length();
        let mut walked = wait;
        while walked < piece {
            beads.push(pair[0].towards(pair[1], walked / piece));
            walked += pitch;
        }
        wait = walked - piece;
    }
    beads
}

/// `count` points spread evenly over a polyline, ends included.
fn spread(curve: &[Vec3], count: usize) -> Vec<Vec3> {
    let pitch = length(curve) / (count - 1) as f32;
    let mut points: Vec<Vec3> = curve.first().copied().into_iter().collect();
    let mut wait = pitch;
    for pair in curve.windows(2) {
        let piece = (pair[1] - pair[0]).length();
        let mut walked = wait;
        while walked < piece && points.len() < count {
            points.push(pair[0].towards(pair[1], walked / piece));
            walked += pitch;
        }
        wait = walked - piece;
    }
    let end = curve.last().copied().unwrap_or_default();
    points.resize(count, end);
    points
}

#[cfg(test)]
mod tests {
    use super::super::geometry::{Tilt, View};
    use super::*;

    fn shadow() -> Shadow {
        Shadow::new(Camera {
            view: View::Frontal,
            faces_right: false,
            pixels_per_mm: 2.0,
            centre: (0.0, 0.0),
            width: 200,
            height: 160,
        })
    }

    /// Sum of a layer over the detector, in mm^2 of attenuation.
    fn integral(layer: &[f32]) -> f32 {
        layer.iter().sum::<f32>() / 4.0
    }

    #[test]
    fn an_ellipsoid_casts_its_volume() {
        let mut shadow = shadow();
        let frame =
            Frame::tilted(vec3(3.0, -4.0, 9.0), Tilt { lateral: 0.5, sagittal: 0.7, axial: 0.2 });
        shadow.add_soft(&Solid::ellipsoid(frame, vec3(20.0, 10.0, 15.0)), 1.0);
        let volume = 4.0 / 3.0 * std::f32::consts::PI * 20.0 * 10.0 * 15.0;
        assert!((integral(&shadow.soft) / volume - 1.0).abs() < 0.01);
    }

    #[test]
    fn a_column_casts_its_volume_and_marks_its_outline() {
        let mut shadow = shadow();
        let frame = Frame::upright(Vec3::default());
        let solid = Solid::column(frame, vec3(20.0, 12.0, 15.0), 0.0);
        shadow.add_bone(&solid, &solid, [1.0, 1.0], 7);
        let volume = std::f32::consts::PI * 20.0 * 15.0 * 24.0;
        assert!((integral(&shadow.bone) / volume - 1.0).abs() < 0.01);
        let marked = shadow.labels.iter().filter(|&&label| label == 7).count();
        assert_eq!(marked, 80 * 48, "40 mm x 24 mm at 2 pixels per mm");
    }

    #[test]
    fn holes_are_left_out() {
        let mut shadow = shadow();
        let ball = |r: f32| Solid::ellipsoid(Frame::upright(Vec3::default()), vec3(r, r, r));
        shadow.add_soft_without(&ball(20.0), &[ball(10.0)], 1.0);
        let volume = 4.0 / 3.0 * std::f32::consts::PI * (8000.0 - 1000.0);
        assert!((integral(&shadow.soft) / volume - 1.0).abs() < 0.01);
    }

    #[test]
    fn overlapping_bubbles_are_one() {
        let ball = Solid::ellipsoid(Frame::upright(Vec3::default()), vec3(10.0, 10.0, 10.0));
        let (mut once, mut twice) = (shadow(), shadow());
        once.add_gas(&[ball], 1.0);
        twice.add_gas(&[ball, ball], 1.0);
        assert_eq!(once.soft, twice.soft);
        let volume = 4.0 / 3.0 * std::f32::consts::PI * 1000.0;
        assert!((integral(&once.soft) / -volume - 1.0).abs() < 0.01);
    }

    #[test]
    fn a_plate_casts_its_volume() {
        let mut shadow = shadow();
        let edge = |x: f32| [vec3(x, -20.0, 0.0), vec3(x, 20.0, 0.0)];
        shadow.add_plate([&edge(-15.0), &edge(15.0)], 2.0, 1.0);
        let ratio = integral(&shadow.bone) / (30.0 * 40.0 * 2.0);
        assert!((ratio - 1.0).abs() < 0.12, "{ratio}");
    }

    #[test]
    fn beads_are_even_across_joints() {
        let curve = [vec3(0.0, 0.0, 0.0), vec3(2.5, 0.0, 0.0), vec3(10.0, 0.0, 0.0)];
        let beads = beads_along(&curve, 1.0);
        assert_eq!(beads.len(), 10);
        for (i, bead) in beads.iter().enumerate() {
            assert!((bead.x - (i as f32 + 0.5)).abs() < 1e-4);
        }
    }
}
