use std::collections::BTreeSet;

use super::*;

fn phantom(class: Class, seed: u64) -> Phantom {
    render(&PhantomSpec { class, seed, width: 420, height: 800 }).expect("render")
}

fn phantoms(class: Class, view: View) -> impl Iterator<Item = Phantom> {
    (0..40).map(move |seed| phantom(class, seed)).filter(move |p| p.truth.view == view)
}

/// Pixel centres of a label.
fn pixels(phantom: &Phantom, label: u8) -> Vec<(f64, f64)> {
    let width = phantom.truth.width as usize;
    let marked = (0..phantom.mask.len()).filter(|&at| phantom.mask[at] == label);
    marked.map(|at| ((at % width) as f64 + 0.5, (at / width) as f64 + 0.5)).collect()
}

fn mean(pixels: &[(f64, f64)]) -> (f64, f64) {
    let n = pixels.len() as f64;
    let sum = pixels.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
    (sum.0 / n, sum.1 / n)
}

/// Clockwise angle, in degrees within 45, of the principal axis nearest to the horizontal.
fn principal_angle(pixels: &[(f64, f64)]) -> f64 {
    let (cx, cy) = mean(pixels);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in pixels {
        xx += (x - cx) * (x - cx);
        yy += (y - cy) * (y - cy);
        xy += (x - cx) * (y - cy);
    }
    let angle = (0.5 * (2.0 * xy).atan2(xx - yy)).to_degrees();
    if angle > 45.0 {
        angle - 90.0
    } else if angle < -45.0 {
        angle + 90.0
    } else {
        angle
    }
}

#[test]
fn a_specification_decides_every_byte() {
    let spec = PhantomSpec { class: Class::Scoliosis, seed: 3, width: 200, height: 400 };
    let first = render(&spec).expect("once");
    assert_eq!(first, render(&spec).expect("twice"));
    let other = render(&PhantomSpec { seed: 4, ..spec }).expect("another");
    assert_ne!(first.image, other.image);
}

#[test]
fn an_unusable_size_is_refused() {
    let spec = PhantomSpec { class: Class::Normal, seed: 1, width: 20, height: 400 };
    assert!(matches!(render(&spec), Err(RadiographError::TooSmall { .. })));
    let spec = PhantomSpec { width: 60_000, ..spec };
    assert!(matches!(render(&spec), Err(RadiographError::TooLarge { .. })));
}

#[test]
fn the_mask_marks_every_vertebra_from_the_top() {
    for class in Class::ALL {
        for seed in 0..6 {
            let phantom = phantom(class, seed);
            assert_eq!(phantom.mask.len(), 420 * 800);
            let count = phantom.truth.vertebrae.len();
            assert!(count >= 6, "{count} vertebrae");
            let labels: BTreeSet<u8> = phantom.mask.iter().copied().collect();
            assert!(labels.into_iter().eq(0..=count as u8), "0 and one label for each");
            for (i, pair) in phantom.truth.vertebrae.windows(2).enumerate() {
                assert_eq!(usize::from(pair[0].label), i + 1);
                let (upper, lower) =
                    (pixels(&phantom, pair[0].label), pixels(&phantom, pair[1].label));
                assert!(mean(&upper).1 < mean(&lower).1, "seed {seed}, {}", pair[0].name);
            }
            assert_eq!(phantom.truth.vertebrae[count - 1].name, "S1");
        }
    }
}

#[test]
fn the_mask_lies_where_the_truth_says() {
    for seed in 0..8 {
        let phantom = phantom(Class::ALL[seed as usize % 3], seed);
        for vertebra in phantom.truth.vertebrae.iter().filter(|v| v.whole && v.name != "S1") {
            let (x, y) = mean(&pixels(&phantom, vertebra.label));
            let [cx, cy] = vertebra.centre.map(f64::from);
            assert!((x - cx).hypot(y - cy) < 3.0, "{} at {x} {y}, truth {cx} {cy}", vertebra.name);
        }
    }
}

#[test]
fn corners_span_the_mask() {
    for phantom in phantoms(Class::Scoliosis, View::Frontal).take(4) {
        for vertebra in phantom.truth.vertebrae.iter().filter(|v| v.whole && v.name != "S1") {
            let [from, to, ..] = vertebra.corners.map(|c| c.map(f64::from));
            let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
            let width = dx.hypot(dy);
            let along = |(x, y): (f64, f64)| (x * dx + y * dy) / width;
            let places: Vec<f64> =
                pixels(&phantom, vertebra.label).into_iter().map(along).collect();
            let least = places.iter().copied().fold(f64::MAX, f64::min);
            let most = places.iter().copied().fold(f64::MIN, f64::max);
            assert!(
                (most - least - width).abs() < 2.5,
                "{}: {}",
                vertebra.name,
                most - least - width
            );
        }
    }
}

#[test]
fn vertebrae_are_brighter_than_their_surroundings() {
    for class in Class::ALL {
        for seed in 20..24 {
            let phantom = phantom(class, seed);
            let width = phantom.truth.width as usize;
            let near = |at: usize| {
                let (x, y) = (at % width, at / width);
                let columns = x.saturating_sub(14)..=(x + 14).min(width - 1);
                phantom.mask[at] == 0
                    && columns.into_iter().any(|x| phantom.mask[y * width + x] > 0)
            };
            let level = |pick: &dyn Fn(usize) -> bool| {
                let picked = (0..phantom.mask.len()).filter(|&at| pick(at));
                let levels: Vec<f64> =
                    picked.map(|at| f64::from(phantom.image.samples()[at])).collect();
                levels.iter().sum::<f64>() / levels.len() as f64
            };
            let (bone, around) = (level(&|at| phantom.mask[at] > 0), level(&near));
            assert!(bone > 1.05 * around, "{class} {seed}: {bone} against {around}");
        }
    }
}

#[test]
fn the_cobb_angle_can_be_measured_from_the_mask() {
    for phantom in phantoms(Class::Scoliosis, View::Frontal).take(10) {
        let curve = &phantom.truth.curve;
        let angle = |name: &str| {
            let vertebra = phantom.truth.vertebrae.iter().find(|v| v.name == name);
            let vertebra = vertebra.expect("an end vertebra is never cut off");
            assert!(vertebra.whole);
            principal_angle(&pixels(&phantom, vertebra.label))
        };
        let measured = (angle(curve.upper_end) - angle(curve.lower_end)).abs();
        let error = measured - f64::from(curve.cobb_degrees);
        assert!(error.abs() < 5.0, "measured {measured}, truth {curve:?}");
    }
}

/// Largest sideways distance of a vertebra from the line through the first and the last, as a
/// share of that line's length.
fn deviation(phantom: &Phantom) -> f64 {
    let centres: Vec<(f64, f64)> =
        phantom.truth.vertebrae.iter().map(|v| mean(&pixels(phantom, v.label))).collect();
    let (a, b) = (centres[0], centres[centres.len() - 1]);
    let length = (b.0 - a.0).hypot(b.1 - a.1);
    let away = |p: &(f64, f64)| ((b.0 - a.0) * (a.1 - p.1) - (a.0 - p.0) * (b.1 - a.1)).abs();
    centres.iter().map(away).fold(0.0, f64::max) / (length * length)
}

#[test]
fn a_scoliosis_deviates_more_than_any_healthy_spine() {
    let worst = phantoms(Class::Normal, View::Frontal).take(8).map(|p| deviation(&p));
    let worst = worst.fold(0.0, f64::max);
    let mildest = phantoms(Class::Scoliosis, View::Frontal)
        .filter(|p| p.truth.curve.cobb_degrees > 20.0)
        .take(8)
        .map(|p| deviation(&p))
        .fold(f64::MAX, f64::min);
    assert!(mildest > worst, "{mildest} against {worst}");
}

#[test]
fn the_convex_side_is_the_patients() {
    for phantom in phantoms(Class::Scoliosis, View::Frontal).take(8) {
        let curve = &phantom.truth.curve;
        let column = |name: &str| {
            let at = phantom.truth.vertebrae.iter().find(|v| v.name == name).expect("in view");
            at.centre[0]
        };
        let bulge = column(curve.apex) - (column(curve.upper_end) + column(curve.lower_end)) / 2.0;
        assert_eq!(bulge > 0.0, curve.convex == Side::Left, "left is on the picture's right");
    }
}

#[test]
fn the_slip_can_be_measured_from_the_mask() {
    let mut grades = BTreeSet::new();
    for phantom in phantoms(Class::Spondylolisthesis, View::Lateral).take(16) {
        let slip = phantom.truth.slip.as_ref().expect("a slip");
        let (upper, lower) = slip.level.split_once('/').expect("two vertebrae");
        let find = |name| phantom.truth.vertebrae.iter().find(|v| v.name == name).expect("in view");
        let (upper, lower) = (find(upper), find(lower));
        let facing = if phantom.truth.faces == Some(Edge::Right) { 1.0 } else { -1.0 };
        // Places of the pixels next to an end plate, along the lower vertebra's end plates.
        let tilt = f64::from(lower.tilt_degrees).to_radians();
        let beside_end_plate = |vertebra: &VertebraTruth, end: f64| {
            let lean = f64::from(vertebra.tilt_degrees).to_radians();
            let depth = |&(x, y): &(f64, f64)| end * (y * lean.cos() - x * lean.sin());
            let mut marked = pixels(&phantom, vertebra.label);
            marked.sort_by(|a, b| depth(b).total_cmp(&depth(a)));
            marked.truncate(marked.len() / 8);
            let along = |(x, y): (f64, f64)| facing * (x * tilt.cos() + y * tilt.sin());
            let mut places: Vec<f64> = marked.into_iter().map(along).collect();
            places.sort_by(f64::total_cmp);
            places
        };
        let (above, below) = (beside_end_plate(upper, 1.0), beside_end_plate(lower, -1.0));
        let measured = (above[0] - below[0]) / (below[below.len() - 1] - below[0]);
        let error = measured - f64::from(slip.fraction);
        assert!(error.abs() < 0.06, "measured {measured}, {slip:?}");
        assert_eq!(slip.grade, (slip.fraction * 4.0).floor() as u8 + 1);
        grades.insert(slip.grade);
    }
    assert_eq!(grades.len(), 4, "all grades occur");
}

#[test]
fn the_view_is_not_the_class() {
    assert!(phantoms(Class::Normal, View::Lateral).next().is_some());
    assert!(phantoms(Class::Normal, View::Frontal).next().is_some());
    assert!(phantoms(Class::Spondylolisthesis, View::Frontal).next().is_some());
    assert!(phantoms(Class::Spondylolisthesis, View::Lateral).next().is_some());
}
