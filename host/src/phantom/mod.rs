//! Procedural spine X-rays with exact ground truth, for tests and demonstrations.
//!
//! A patient is drawn at random and built from simple solids in three dimensions ([`spine`],
//! [`skeleton`], [`tissue`]); a parallel beam sums attenuation along every ray in closed form
//! ([`beam`]); the detector adds scatter, quantum noise and blur and shows the logarithm
//! ([`detector`]). The same spine serves frontal and lateral views, so what a view can and cannot
//! show follows from the geometry: a slip is plain from the side and only hinted at from the
//! front.
//!
//! A phantom is a function of its [`PhantomSpec`] alone. It is a picture for programs to be
//! tried on, not a model of disease: nothing measured on phantoms speaks for patients.

pub mod beam;
pub mod dataset;
pub mod detector;
pub mod dicom;
pub mod geometry;
pub mod skeleton;
pub mod spine;
pub mod tissue;
pub mod truth;

mod marker;
mod patient;
mod texture;

use models::label::Class;
use models::radiograph::{Radiograph, RadiographError};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::beam::Shadow;
use self::detector::{Exposure, Field};
use self::geometry::{Camera, Frame, Tilt, View};
use self::patient::Patient;
use self::spine::Vertebra;
use self::truth::{CurveTruth, Edge, Side, SlipTruth, Truth, VertebraTruth};

/// What phantom to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhantomSpec {
    /// The finding to show.
    pub class: Class,
    /// Decides everything else.
    pub seed: u64,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// A synthetic X-ray and what is true of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Phantom {
    /// The picture.
    pub image: Radiograph,
    /// `height * width` labels: 0, or `n` where the body of `truth.vertebrae[n - 1]` shows.
    /// The label marks the outline of the vertebral body, without arch and processes; S1, the
    /// reference of a slip at L5, counts as a vertebra.
    pub mask: Vec<u8>,
    /// The finding and the place of every vertebra.
    pub truth: Truth,
}

/// Independent random streams, so that a change to one part leaves the others as they are.
#[derive(Clone, Copy)]
enum Stream {
    Patient,
    Tissue,
    Exposure,
    Texture,
    Noise,
}

fn rng_from_seed(seed: u64, stream: Stream) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream as u64);
    rng
}

/// Makes the phantom of a specification: the same one every time on the same platform.
///
/// # Errors
/// When the size is not that of a [`Radiograph`].
pub fn render(spec: &PhantomSpec) -> Result<Phantom, RadiographError> {
    check_size(spec.width, spec.height)?;
    let patient = Patient::random(spec.class, &mut rng_from_seed(spec.seed, Stream::Patient));
    let mut rng = rng_from_seed(spec.seed, Stream::Exposure);
    let camera = patient.camera(spec.width as usize, spec.height as usize);
    let field = collimate(&camera, &patient, &mut rng);
    let exposure = Exposure::random(&mut rng);

    let mut shadow = Shadow::new(camera);
    skeleton::cast(&mut shadow, &patient.spine, &patient.build);
    let mut tissue_rng = rng_from_seed(spec.seed, Stream::Tissue);
    tissue::cast(&mut shadow, &patient.spine, &patient.habitus, &mut tissue_rng);
    if rng.random_bool(0.5) {
        let left = camera.view == View::Lateral || rng.random_bool(0.5);
        marker::lay(&mut shadow, field, left);
    }
    let attenuation =
        uneven_attenuation(&shadow, patient.size, &mut rng_from_seed(spec.seed, Stream::Texture));
    let samples = detector::expose(
        &attenuation,
        camera.width,
        field,
        &exposure,
        &mut rng_from_seed(spec.seed, Stream::Noise),
    );
    let (mask, vertebrae) = visible_vertebrae(&shadow, &patient.spine.vertebrae, field);
    let truth = truth_from_patient(spec, &patient, &camera, vertebrae);
    Ok(Phantom { image: Radiograph::new(spec.width, spec.height, samples)?, mask, truth })
}

/// Refuses an unusable size before work is spent on it.
fn check_size(width: u32, height: u32) -> Result<(), RadiographError> {
    use RadiographError::{TooLarge, TooSmall};
    match Radiograph::new(width, height, Vec::new()) {
        Err(error @ (TooSmall { .. } | TooLarge { .. })) => Err(error),
        _ => Ok(()),
    }
}

/// Total attenuation with the grain of tissue and of spongy bone; a larger patient attenuates
/// more along every ray.
fn uneven_attenuation(shadow: &Shadow, size: f32, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let camera = &shadow.camera;
    let mut noise =
        |mm: f32| texture::field(rng, camera.width, camera.height, mm * camera.pixels_per_mm);
    let (tissue, grain, trabeculae) = (noise(26.0), noise(5.0), noise(1.6));
    (0..shadow.soft.len())
        .map(|at| {
            let soft = shadow.soft[at] * (1.0 + 0.018 * tissue[at] + 0.007 * grain[at]);
            let bone = shadow.bone[at] * (1.0 + 0.10 * grain[at] + 0.16 * trabeculae[at]);
            (soft + bone).max(0.0) * size
        })
        .collect()
}

/// Picks the exposed rectangle: often narrower than the detector, never cutting the column's
/// sides.
fn collimate(camera: &Camera, patient: &Patient, rng: &mut ChaCha8Rng) -> Field {
    let (width, height) = (camera.width, camera.height);
    let whole = Field { left: 0, right: width, top: 0, bottom: height };
    if rng.random_bool(0.45) {
        return whole;
    }
    let columns = patient.shown().iter().flat_map(|v| {
        let reach = v.half.length() * camera.pixels_per_mm;
        let (column, _) = camera.project(v.frame.origin);
        [column - reach, column + reach]
    });
    let (first, last) = columns.fold((f32::MAX, 0f32), |(a, b), c| (a.min(c), b.max(c)));
    let mut blade = |limit: f32| (rng.random_range(0.0..0.09) * limit) as usize;
    let (left, right) = (blade(width as f32), blade(width as f32));
    let (top, bottom) = (blade(height as f32) / 2, blade(height as f32) / 2);
    Field {
        left: left.min(first.max(0.0) as usize),
        right: (width - right).max((last.max(0.0) as usize).min(width)),
        top,
        bottom: height - bottom,
    }
}

/// Numbers the vertebrae that show inside the field from the top, and rewrites the mask so.
fn visible_vertebrae(
    shadow: &Shadow,
    vertebrae: &[Vertebra],
    field: Field,
) -> (Vec<u8>, Vec<VertebraTruth>) {
    let camera = &shadow.camera;
    let mut mask = shadow.labels.clone();
    let mut counts = [0usize; spine::COUNT + 1];
    for (at, label) in mask.iter_mut().enumerate() {
        if !field.contains(at % camera.width, at / camera.width) {
            *label = 0;
        }
        counts[usize::from(*label)] += 1;
    }
    let mut renumbered = [0u8; spine::COUNT + 1];
    let mut visible = Vec::new();
    for (i, vertebra) in vertebrae.iter().enumerate() {
        if counts[i + 1] > 0 {
            renumbered[i + 1] = visible.len() as u8 + 1;
            visible.push(vertebra_truth(renumbered[i + 1], vertebra, camera, field));
        }
    }
    for label in &mut mask {
        *label = renumbered[usize::from(*label)];
    }
    (mask, visible)
}

fn vertebra_truth(label: u8, vertebra: &Vertebra, camera: &Camera, field: Field) -> VertebraTruth {
    let tilt = match (camera.view, camera.faces_right) {
        (View::Frontal, _) => vertebra.tilt.lateral,
        (View::Lateral, true) => vertebra.tilt.sagittal,
        (View::Lateral, false) => -vertebra.tilt.sagittal,
    };
    let corners = corners(vertebra, camera);
    let inside =
        |&[x, y]: &[f32; 2]| x >= 0.0 && y >= 0.0 && field.contains(x as usize, y as usize);
    let (column, row) = camera.project(vertebra.frame.origin);
    VertebraTruth {
        label,
        name: vertebra.name,
        centre: [column, row],
        corners,
        tilt_degrees: tilt.to_degrees(),
        whole: corners.iter().all(inside),
    }
}

/// Ends of the silhouettes of a body's upper and lower end plates, each from left to right in
/// the picture.
fn corners(vertebra: &Vertebra, camera: &Camera) -> [[f32; 2]; 4] {
    let straight = Tilt { axial: 0.0, ..vertebra.tilt };
    let frame = Frame::tilted(vertebra.frame.origin, straight);
    let axis = match (camera.view, camera.faces_right) {
        (View::Frontal, _) => frame.left,
        (View::Lateral, true) => frame.front,
        (View::Lateral, false) => frame.front * -1.0,
    };
    // An end plate is an ellipse; turned about the body's axis it looks wider or narrower.
    let turned = vertebra.frame.components(axis);
    let half = vertebra.half;
    let edge = axis * (turned.x * half.x).hypot(turned.z * half.z);
    let corner = |end: f32, side: f32| {
        let middle = frame.origin + frame.down * (end * half.y);
        let (column, row) = camera.project(middle + edge * side);
        [column, row]
    };
    [corner(-1.0, -1.0), corner(-1.0, 1.0), corner(1.0, -1.0), corner(1.0, 1.0)]
}

fn truth_from_patient(
    spec: &PhantomSpec,
    patient: &Patient,
    camera: &Camera,
    vertebrae: Vec<VertebraTruth>,
) -> Truth {
    let side = |left| if left { Side::Left } else { Side::Right };
    let name = |i: usize| patient.spine.vertebrae[i].name;
    let curve = patient.posture.curve;
    Truth {
        class: spec.class,
        seed: spec.seed,
        width: spec.width,
        height: spec.height,
        view: camera.view,
        faces: (camera.view == View::Lateral).then_some(if camera.faces_right {
            Edge::Right
        } else {
            Edge::Left
        }),
        mm_per_pixel: patient.size / camera.pixels_per_mm,
        curve: CurveTruth {
            cobb_degrees: curve.cobb_degrees,
            convex: side(curve.convex_left),
            apex: name(curve.apex),
            upper_end: name(curve.apex - curve.span_above),
            lower_end: name(curve.apex + curve.span_below),
        },
        slip: patient.posture.slip.map(|slip| SlipTruth {
            level: format!("{}/{}", name(slip.level), name(slip.level + 1)),
            grade: slip.grade(),
            fraction: slip.fraction,
        }),
        vertebrae,
    }
}

#[cfg(test)]
mod tests;
