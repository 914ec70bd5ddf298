//! Controls that see no picture: whatever they reach is no merit of a network.

use models::label::{COUNT, Class};
use serde::{Deserialize, Serialize};

use super::interval::Proportion;
use crate::data::folds::Folds;
use crate::data::manifest::{Manifest, Record};

/// Neighbours that vote.
pub const NEIGHBOURS: usize = 7;

/// Width, height and aspect ratio (width / height) of the source's picture.
const FEATURES: usize = 3;

/// Accuracies without a look at the picture, on the same images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    /// The most frequent class for every image.
    pub majority_class: Proportion,
    /// [`NEIGHBOURS`] nearest neighbours in width, height and aspect ratio, in the same folds.
    pub picture_size: Proportion,
}

impl Baselines {
    /// Measures both on all images of a data set, each judged by the fold that holds it out.
    pub fn measure(manifest: &Manifest, folds: &Folds) -> Self {
        let of = manifest.records().len();
        let most = manifest.class_counts().into_iter().max().unwrap_or(0);
        let guesses = guess_from_size(manifest, folds);
        let right = guesses.iter().zip(manifest.records()).filter(|(g, r)| **g == r.class);
        Self {
            majority_class: Proportion::new(most, of),
            picture_size: Proportion::new(right.count(), of),
        }
    }
}

/// Each image's class by the sizes of the images that its fold trains on, in the manifest's
/// order.
///
/// Features are standardised by mean and standard deviation of the training images; distance is
/// Euclidean; every neighbour has one vote. Of neighbours equally far, those earlier in the
/// manifest count; of classes with equally many votes, the first in [`Class::ALL`] wins.
pub fn guess_from_size(manifest: &Manifest, folds: &Folds) -> Vec<Class> {
    let sized = |record: &Record| {
        let point = point_from_size(record.native_width, record.native_height);
        // A plan that matches its manifest has a fold for every image.
        (point, record.class, folds.fold_of(&record.id).unwrap_or(0))
    };
    guess(&manifest.records().iter().map(sized).collect::<Vec<_>>(), folds.k())
}

/// As [`guess_from_size`], from features, class and fold.
fn guess(images: &[(Point, Class, usize)], k: usize) -> Vec<Class> {
    let mut guesses = vec![Class::Normal; images.len()];
    for fold in 0..k {
        let train: Vec<(Point, Class)> =
            images.iter().filter(|(.., f)| *f != fold).map(|&(p, class, _)| (p, class)).collect();
        let scale = Scale::fit(&train);
        let train: Vec<(Point, Class)> =
            train.into_iter().map(|(p, class)| (scale.apply(p), class)).collect();
        for (guess, (p, ..)) in guesses.iter_mut().zip(images).filter(|(_, i)| i.2 == fold) {
            *guess = vote(&train, scale.apply(*p));
        }
    }
    guesses
}

type Point = [f64; FEATURES];

fn point_from_size(width: u32, height: u32) -> Point {
    let (width, height) = (f64::from(width), f64::from(height));
    [width, height, width / height]
}

/// Standardisation: `(value - mean) / deviation`.
struct Scale {
    mean: Point,
    deviation: Point,
}

impl Scale {
    /// Mean and population standard deviation; a constant feature is left at its distance 0.
    fn fit(points: &[(Point, Class)]) -> Self {
        let n = points.len().max(1) as f64;
        let mean: Point =
            std::array::from_fn(|f| points.iter().map(|(p, _)| p[f]).sum::<f64>() / n);
        let deviation = std::array::from_fn(|f| {
            let squares = points.iter().map(|(p, _)| (p[f] - mean[f]).powi(2)).sum::<f64>();
            let deviation = (squares / n).sqrt();
            if deviation > 0.0 { deviation } else { 1.0 }
        });
        Self { mean, deviation }
    }

    fn apply(&self, point: Point) -> Point {
        std::array::from_fn(|f| (point[f] - self.mean[f]) / self.deviation[f])
    }
}

fn vote(train: &[(Point, Class)], at: Point) -> Class {
    let distance = |p: &Point| p.iter().zip(at).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    let mut near: Vec<(f64, Class)> = train.iter().map(|(p, c)| (distance(p), *c)).collect();
    near.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut votes = [0; COUNT];
    for (_, class) in near.iter().take(NEIGHBOURS) {
        votes[class.index()] += 1;
    }
    let most = votes.into_iter().max().unwrap_or(0);
    Class::ALL.into_iter().find(|c| votes[c.index()] == most).unwrap_or(Class::Normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random sizes, three folds of twelve images; guesses by scikit-learn 1.9.1,
    /// `make_pipeline(StandardScaler(), KNeighborsClassifier(7))`.
    #[test]
    fn guesses_are_scikit_learns() {
        #[rustfmt::skip]
        let sizes = [
            (188, 783), (202, 1009), (375, 740), (375, 1179), (394, 1061), (334, 824), (393, 616),
            (582, 628), (734, 849), (261, 926), (587, 1066), (553, 823), (200, 1091), (585, 531),
            (552, 577), (343, 1007), (269, 879), (644, 620), (436, 695), (127, 853), (518, 452),
            (134, 1001), (126, 980), (292, 801), (84, 638), (196, 813), (608, 582), (60, 932),
            (413, 909), (679, 518), (197, 621), (163, 797), (283, 771), (98, 675), (306, 1053),
            (496, 688),
        ];
        let expected = [
            1, 0, 1, 1, 0, 1, 2, 2, 2, 1, 1, 2, 1, 2, 2, 1, 1, 2, 2, 0, 2, 1, 1, 2, 0, 1, 2, 0, 2,
            2, 2, 0, 2, 0, 0, 2,
        ];
        let points: Vec<(Point, Class, usize)> = sizes
            .iter()
            .enumerate()
            .map(|(n, &(w, h))| (point_from_size(w, h), Class::ALL[n % 3], n / 12))
            .collect();
        let guesses = guess(&points, 3);
        let indices: Vec<usize> = guesses.iter().map(|class| class.index()).collect();
        assert_eq!(indices, expected);
    }

    #[test]
    fn equal_votes_go_to_the_first_class_and_equal_distances_to_the_earlier_image() {
        let at = |width, class| (point_from_size(width, 100), class, 0);
        let mut points = vec![(point_from_size(100, 100), Class::Normal, 1)];
        points.extend([3, 3, 3].map(|n| at(100 + n, Class::Spondylolisthesis)));
        points.extend([1, 1, 1].map(|n| at(100 + n, Class::Scoliosis)));
        points.push(at(104, Class::Normal));
        points.push(at(104, Class::Spondylolisthesis));
        assert_eq!(guess(&points, 2)[0], Class::Scoliosis, "3 to 3 to 1");
        points.swap(7, 8);
        assert_eq!(guess(&points, 2)[0], Class::Spondylolisthesis, "3 to 4");
    }
}
