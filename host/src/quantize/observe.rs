//! What calibration images show: the extremes and histograms of tensors, and how the inputs of a
//! convolution vary together.

use std::collections::BTreeMap;

use models::arch::{Conv, Op};
use tch::{Kind, Tensor};

use super::equalize::Magnitudes;
use super::forward::Forward;
use super::range::Histogram;
use crate::train::network::Network;

/// Output positions of a convolution that one image contributes to its moments.
const POSITIONS_PER_IMAGE: i64 = 64;

/// Smallest and largest value of every channel, by node.
pub struct Extremes(BTreeMap<usize, [Vec<f32>; 2]>);

impl Extremes {
    /// Smallest and largest value of a node.
    pub fn of(&self, at: usize) -> [f32; 2] {
        let Some([lows, highs]) = self.0.get(&at) else { return [0.0, 0.0] };
        let low = lows.iter().fold(f32::INFINITY, |m, &v| m.min(v));
        [low, highs.iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v))]
    }

    /// Largest magnitude of every channel.
    pub fn magnitudes(&self) -> Magnitudes {
        let largest = |[lows, highs]: &[Vec<f32>; 2]| {
            lows.iter().zip(highs).map(|(l, h)| l.abs().max(h.abs())).collect()
        };
        self.0.iter().map(|(&at, extremes)| (at, largest(extremes))).collect()
    }

    /// The extremes after every channel of a node has been divided by its factor.
    pub fn divided_by(mut self, factors: &BTreeMap<usize, Vec<f32>>) -> Self {
        for (at, factors) in factors {
            for side in self.0.get_mut(at).into_iter().flatten() {
                side.iter_mut().zip(factors).for_each(|(v, s)| *v /= s);
            }
        }
        self
    }
}

/// The extremes of all nodes with a height and width over images `[count, 1, SIDE, SIDE]`.
pub fn channel_extremes(forward: &Forward<'_>, images: &Tensor, progress: &dyn Fn()) -> Extremes {
    let mut extremes = BTreeMap::new();
    for image in images.split(1, 0) {
        let _ = forward.run(&image, &mut |at, value| {
            if value.dim() != 4 {
                return;
            }
            let dims = &[0i64, 2, 3][..];
            let [low, high] = [value.amin(dims, false), value.amax(dims, false)].map(|v| plain(&v));
            let [lows, highs] = extremes.entry(at).or_insert_with(|| [low.clone(), high.clone()]);
            lows.iter_mut().zip(low).for_each(|(a, b): (&mut f32, f32)| *a = a.min(b));
            highs.iter_mut().zip(high).for_each(|(a, b): (&mut f32, f32)| *a = a.max(b));
        });
        progress();
    }
    Extremes(extremes)
}

/// First and second moments of what a convolution's weights are multiplied with.
pub struct Moments {
    /// Mean patch, `[inputs * kernel * kernel]`.
    pub mean: Tensor,
    /// Mean product of every two positions of a patch, uncentred.
    pub second: Tensor,
    /// Patches counted.
    pub patches: i64,
}

/// What the convolutions at `layers` read, and the histograms of the nodes at `nodes`.
pub struct Observations {
    /// By convolution.
    pub moments: BTreeMap<usize, Moments>,
    /// By node.
    pub histograms: BTreeMap<usize, Histogram>,
}

/// Runs images through a network; fills `histograms` and collects the moments of `layers`.
pub fn observations(
    network: &Network,
    forward: &Forward<'_>,
    layers: &[usize],
    mut histograms: BTreeMap<usize, Histogram>,
    images: &Tensor,
    progress: &dyn Fn(),
) -> Observations {
    let nodes = &network.architecture().nodes;
    let mut moments: BTreeMap<usize, Moments> = BTreeMap::new();
    for (turn, image) in images.split(1, 0).iter().enumerate() {
        let _ = forward.run(image, &mut |at, value| {
            if let Some(histogram) = histograms.get_mut(&at) {
                histogram.count(&plain(value));
            }
            for &layer in layers.iter().filter(|&&l| nodes[l].inputs[0] == at) {
                if let Op::Conv(conv) = &nodes[layer].op {
                    let patches = sampled_patches(conv, value, turn as i64);
                    add(moments.entry(layer).or_insert_with(|| Moments::none(&patches)), &patches);
                }
            }
        });
        progress();
    }
    for m in moments.values_mut() {
        let count = m.patches as f64;
        (m.mean, m.second) = (&m.mean / count, &m.second / count);
    }
    Observations { moments, histograms }
}

impl Moments {
    fn none(patches: &Tensor) -> Self {
        let size = patches.size()[0];
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, patches.device()));
        Self { mean: zeros(&[size]), second: zeros(&[size, size]), patches: 0 }
    }
}

fn add(moments: &mut Moments, patches: &Tensor) {
    moments.mean += patches.sum_dim_intlist(&[1i64][..], false, None::<Kind>);
    moments.second = moments.second.addmm(patches, &patches.tr());
    moments.patches += patches.size()[1];
}

/// Patches of one image as columns, at positions evenly spread and shifted with `turn`.
fn sampled_patches(conv: &Conv, value: &Tensor, turn: i64) -> Tensor {
    let (kernel, stride, padding) = (conv.kernel as i64, conv.stride as i64, conv.padding as i64);
    let columns = value.im2col([kernel; 2], [1, 1], [padding; 2], [stride; 2]).squeeze_dim(0);
    let count = columns.size()[1];
    if count <= POSITIONS_PER_IMAGE {
        return columns;
    }
    let pick = |i: i64| (i * count / POSITIONS_PER_IMAGE + turn * 37) % count;
    let picks: Vec<i64> = (0..POSITIONS_PER_IMAGE).map(pick).collect();
    columns.index_select(1, &Tensor::from_slice(&picks).to_device(value.device()))
}

/// The values of a tensor, row-major.
fn plain(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.to_device(tch::Device::Cpu).flatten(0, -1)).unwrap_or_default()
}
