//! Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) on plain arrays, without autograd.
//!
//! Fixed here, because libraries differ: the gradient is that of the raw logit before softmax;
//! the captured layer is the last ReLU before pooling; the weighted sum goes through ReLU; the
//! map is scaled by `(v - min) / (max - min)`, with no epsilon, since a map whose range is too
//! small to scale is an outcome of its own ([`Flat`](CamError::Flat)); it is enlarged bilinearly
//! with pixel centres aligned (`align_corners = false`), edges repeated.

use sha2::{Digest, Sha256};

use crate::head::{Captured, Head, HeadError};
use crate::label::Class;
use crate::preprocess::SIDE;

/// Largest accepted gap between a logit and `bias + sum of its map`, relative to the larger of 1
/// and the logit's magnitude.
pub const COMPLETENESS_TOLERANCE: f64 = 1e-3;

/// A class's evidence map, before and after scaling.
#[derive(Clone, Debug, PartialEq)]
pub struct Cam {
    /// Weighted channel sum before ReLU, `[side, side]`.
    pub raw: Vec<f64>,
    /// `ReLU(raw)` scaled to 0 to 1 and enlarged to `[SIDE, SIDE]`.
    pub heat: Vec<f32>,
}

/// Why there is no map to show.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CamError {
    /// The capture does not fit the head.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A feature or weight is not a number.
    #[error("the map holds values that are not numbers")]
    NotFinite,
    /// No position speaks for the class.
    #[error("no position of the scan speaks for {0}")]
    Empty(Class),
    /// All positions speak for the class alike.
    #[error("all positions speak for {0} alike")]
    Flat(Class),
    /// Map and logit do not belong together.
    #[error("the map sums to {summed:.4} and the score is {logit:.4}: they do not belong together")]
    Incomplete {
        /// `bias + sum of the map`.
        summed: f64,
        /// The network's logit.
        logit: f64,
    },
}

/// Computes a class's map; for linear heads also proves that it sums to `logit`.
///
/// `logit` is the class's logit as the network's own graph computed it.
///
/// # Errors
/// A typed reason for every map that must not be shown.
pub fn grad_cam(
    head: &Head,
    class: Class,
    captured: Captured<'_>,
    logit: f32,
) -> Result<Cam, CamError> {
    let raw = raw_map(head, class, captured)?;
    if head.is_linear() {
        check_completeness(&raw, head.bias()[class.index()], logit)?;
    }
    let heat = enlarged(&scaled(&raw, class)?, head.shape.side);
    Ok(Cam { raw, heat })
}

/// The weighted channel sum before ReLU, `[side, side]`.
///
/// # Errors
/// When the capture does not fit or is not finite.
pub fn raw_map(head: &Head, class: Class, captured: Captured<'_>) -> Result<Vec<f64>, CamError> {
    let weights = head.channel_weights(class, captured)?;
    let area = head.shape.side * head.shape.side;
    let mut map = vec![0.0; area];
    for (weight, channel) in weights.iter().zip(captured.features.chunks_exact(area)) {
        map.iter_mut().zip(channel).for_each(|(m, &v)| *m += weight * f64::from(v));
    }
    if map.iter().all(|v| v.is_finite()) { Ok(map) } else { Err(CamError::NotFinite) }
}

/// For a linear head `bias + sum of the map` is the logit; anything else means that map and score
/// come from different numbers.
fn check_completeness(raw: &[f64], bias: f32, logit: f32) -> Result<(), CamError> {
    let summed = raw.iter().fold(f64::from(bias), |sum, v| sum + v);
    let logit = f64::from(logit);
    let gap = (summed - logit).abs();
    // A logit that is not a number fails this comparison too.
    if gap <= COMPLETENESS_TOLERANCE * logit.abs().max(1.0) {
        Ok(())
    } else {
        Err(CamError::Incomplete { summed, logit })
    }
}

/// `ReLU`, then minimum to 0 and maximum to 1.
///
/// # Errors
/// [`CamError::Empty`] and [`CamError::Flat`].
pub fn scaled(raw: &[f64], class: Class) -> Result<Vec<f64>, CamError> {
    let positive: Vec<f64> = raw.iter().map(|v| v.max(0.0)).collect();
    let maximum = positive.iter().copied().fold(0.0, f64::max);
    let minimum = positive.iter().copied().fold(f64::INFINITY, f64::min);
    if maximum <= 0.0 {
        return Err(CamError::Empty(class));
    }
    if maximum - minimum <= maximum * 1e-6 {
        return Err(CamError::Flat(class));
    }
    Ok(positive.into_iter().map(|v| (v - minimum) / (maximum - minimum)).collect())
}

/// Bilinear enlargement of a square map to `[SIDE, SIDE]`, pixel centres aligned.
pub fn enlarged(map: &[f64], side: usize) -> Vec<f32> {
    let target = SIDE as usize;
    let taps: Vec<(usize, usize, f64)> = (0..target)
        .map(|at| {
            let centre = (at as f64 + 0.5) * side as f64 / target as f64 - 0.5;
            let centre = centre.clamp(0.0, (side - 1) as f64);
            let first = centre as usize;
            (first, (first + 1).min(side - 1), centre - first as f64)
        })
        .collect();
    let mut heat = Vec::with_capacity(target * target);
    for &(top, bottom, down) in &taps {
        for &(left, right, across) in &taps {
            let mix = |row: usize| {
                map[row * side + left] * (1.0 - across) + map[row * side + right] * across
            };
            heat.push((mix(top) * (1.0 - down) + mix(bottom) * down) as f32);
        }
    }
    heat
}

/// The hottest position of an enlarged map as `[x, y]`: the first among equals.
pub fn peak(heat: &[f32]) -> [u32; 2] {
    let mut best = 0;
    for (at, &value) in heat.iter().enumerate() {
        if value > heat[best] {
            best = at;
        }
    }
    [best as u32 % SIDE, best as u32 / SIDE]
}

/// SHA-256 of an enlarged map in 8-bit steps, in hexadecimal: equal maps on two machines have
/// equal digests.
pub fn digest(heat: &[f32]) -> String {
    let steps: Vec<u8> = heat.iter().map(|&v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8).collect();
    hex::encode(Sha256::digest(&steps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::tests::small;

    const FEATURES: [f32; 8] = [1.0, 2.0, 3.0, 2.0, 0.0, 4.0, 0.0, 0.0];

    fn captured(features: &[f32]) -> Captured<'_> {
        Captured { features, hidden: &[] }
    }

    #[test]
    fn the_map_sums_to_the_logit() {
        let head = small();
        for class in Class::ALL {
            let logits = head.logits(captured(&FEATURES)).expect("fits");
            let raw = raw_map(&head, class, captured(&FEATURES)).expect("finite");
            let summed = raw.iter().sum::<f64>() + f64::from(head.bias()[class.index()]);
            assert!((summed - f64::from(logits[class.index()])).abs() < 1e-6);
        }
    }

    #[test]
    fn a_foreign_score_is_refused() {
        let refused = grad_cam(&small(), Class::Scoliosis, captured(&FEATURES), 2.9);
        assert!(matches!(refused, Err(CamError::Incomplete { .. })));
        let refused = grad_cam(&small(), Class::Scoliosis, captured(&FEATURES), f32::NAN);
        assert!(matches!(refused, Err(CamError::Incomplete { .. })));
        assert!(grad_cam(&small(), Class::Scoliosis, captured(&FEATURES), 2.8).is_ok());
    }

    #[test]
    fn unusable_maps_are_typed() {
        let head = small();
        let outcome = |features: [f32; 8], class: Class| {
            let logit = head.logits(captured(&features)).expect("fits")[class.index()];
            grad_cam(&head, class, captured(&features), logit)
        };
        assert_eq!(outcome([0.0; 8], Class::Normal), Err(CamError::Empty(Class::Normal)));
        assert_eq!(outcome([1.0; 8], Class::Scoliosis), Err(CamError::Flat(Class::Scoliosis)));
        let mut broken = FEATURES;
        broken[3] = f32::NAN;
        assert_eq!(outcome(broken, Class::Normal), Err(CamError::NotFinite));
    }

    #[test]
    fn enlargement_keeps_range_and_peak() {
        let map = [0.0, 0.0, 0.0, 1.0];
        let heat = enlarged(&map, 2);
        assert_eq!(heat.len(), (SIDE * SIDE) as usize);
        assert_eq!((heat[0], heat[heat.len() - 1]), (0.0, 1.0));
        assert_eq!(peak(&heat), [168, 168]);
    }
}
