//! Published weights as a starting point: the original MSRA ResNet50, torchvision's `resnet50`,
//! `vgg16` and `vgg16_bn`, or a network saved by this program.
//!
//! The first convolution of those networks sees three channels with a normalisation of their own.
//! A radiograph is grey, so its kernels are summed over the channels and the normalisation is
//! folded into weight and bias: the same function of a grey picture, one channel wide. (Only at
//! the very border, where a padded zero means another grey level, do the two differ.)

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use models::arch::{Architecture, Kind, Stride, VggHead};
use models::preprocess::{MEAN, STD};
use tch::Tensor;

use super::network::{Network, NetworkError, is_cut, shapes};

/// How the network that a file belongs to sees one channel: `(value - mean) / deviation`, value
/// from 0 to 1.
#[derive(Clone, Copy)]
struct Channels {
    mean: [f64; 3],
    deviation: [f64; 3],
}

/// Caffe: blue, green, red from 0 to 255, minus the mean.
const MSRA: Channels = Channels {
    mean: [103.939 / 255.0, 116.779 / 255.0, 123.68 / 255.0],
    deviation: [1.0 / 255.0; 3],
};
const TORCHVISION: Channels =
    Channels { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] };

/// Weights under this project's names, and the family they came from.
pub struct Pretrained {
    family: Family,
    tensors: BTreeMap<String, Tensor>,
}

/// Where weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// MSRA's Caffe ResNet50.
    MsraResNet50,
    /// torchvision's ResNet50.
    TorchvisionResNet50,
    /// torchvision's VGG16, with batch normalisation or without.
    TorchvisionVgg16 {
        /// Whether it is `vgg16_bn`.
        batch_norm: bool,
    },
    /// A network saved by this program.
    Own,
}

/// Why a file gives no starting point.
#[derive(Debug, thiserror::Error)]
pub enum PretrainedError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        source: tch::TchError,
    },
    /// A PyTorch pickle cannot be read.
    #[error("{path}: {source}")]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        source: super::pth::PthError,
    },
    /// The tensor names belong to no known network.
    #[error(
        "{0}: the tensor names are those of no known network (MSRA or torchvision ResNet50, \
         torchvision vgg16 or vgg16_bn, or weights saved by this program)"
    )]
    UnknownFamily(PathBuf),
    /// Nothing in the file fits the architecture.
    #[error("these weights ({family:?}) have nothing for {kind}")]
    NothingFits {
        /// The file's family.
        family: Family,
        /// The architecture.
        kind: Kind,
    },
    /// A tensor does not fit.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

impl Pretrained {
    /// Reads `.safetensors`, or a PyTorch state dictionary (`.pth`, `.pt`).
    ///
    /// # Errors
    /// When the file cannot be read or its names are unknown.
    pub fn load(path: &Path) -> Result<Self, PretrainedError> {
        let pickle = path.extension().is_some_and(|e| e == "pth" || e == "pt");
        let tensors = if pickle {
            super::pth::read(path)
                .map_err(|source| PretrainedError::Pickle { path: path.into(), source })?
        } else {
            Tensor::read_safetensors(path)
                .map_err(|source| PretrainedError::Read { path: path.into(), source })?
        };
        Self::from_tensors(tensors.into_iter().collect())
            .ok_or_else(|| PretrainedError::UnknownFamily(path.into()))
    }

    fn from_tensors(source: BTreeMap<String, Tensor>) -> Option<Self> {
        let family = family_from_names(&source)?;
        let renamed = source
            .into_iter()
            .filter_map(|(name, tensor)| Some((own_name(family, &name)?, tensor)))
            .collect();
        let tensors = match family {
            Family::Own => renamed,
            Family::MsraResNet50 => grey_first_layer(renamed, "conv1", MSRA),
            Family::TorchvisionResNet50 => grey_first_layer(renamed, "conv1", TORCHVISION),
            Family::TorchvisionVgg16 { .. } => grey_first_layer(renamed, "conv1_1", TORCHVISION),
        };
        Some(Self { family, tensors })
    }

    /// Where the weights come from.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The variant of ResNet50 these weights belong to, cut behind the last stage they cover when
    /// `whole` is not wanted.
    pub fn resnet50_kind(&self, whole: bool) -> Kind {
        let stride = match self.family {
            Family::MsraResNet50 => Stride::V1,
            _ => Stride::V1_5,
        };
        let covers_stage5 = self.tensors.contains_key("layer4.2.conv3.weight");
        Kind::ResNet50 { stride, last_stage: if whole || covers_stage5 { 5 } else { 4 } }
    }

    /// The variant of VGG16 these weights belong to.
    pub fn vgg16_kind(&self, head: VggHead) -> Kind {
        let batch_norm = self.tensors.contains_key("bn1_1.weight");
        Kind::Vgg16 { head, batch_norm }
    }

    /// Copies every tensor that `network` has too (the classifier of another class count never
    /// fits) and returns the last cut up to which all tensors are covered.
    ///
    /// # Errors
    /// When nothing fits, or a tensor of the same name has another shape.
    pub fn apply(&self, network: &mut Network) -> Result<usize, PretrainedError> {
        let wanted: HashSet<String> =
            shapes(network.architecture()).into_iter().map(|(name, _)| name).collect();
        let mut covered = HashSet::new();
        for (name, tensor) in self.tensors.iter().filter(|(name, _)| wanted.contains(*name)) {
            network.set(name, tensor)?;
            covered.insert(name.clone());
        }
        last_covered_cut(network.architecture(), &covered).ok_or(PretrainedError::NothingFits {
            family: self.family,
            kind: network.architecture().kind,
        })
    }
}

/// The last position before the final layer whose whole past is covered and whose output can be
/// cached.
fn last_covered_cut(architecture: &Architecture, covered: &HashSet<String>) -> Option<usize> {
    let missing = shapes(architecture).into_iter().find(|(name, _)| !covered.contains(name));
    let end = match missing {
        None => architecture.nodes.len() - 1,
        Some((name, _)) => architecture.position(name.rsplit_once('.')?.0)?,
    };
    (1..end).rev().find(|&at| is_cut(architecture, at))
}

fn family_from_names(source: &BTreeMap<String, Tensor>) -> Option<Family> {
    let has = |name: &str| source.contains_key(name);
    if has("res2a_branch2a.weight") {
        Some(Family::MsraResNet50)
    } else if has("features.0.weight") {
        Some(Family::TorchvisionVgg16 { batch_norm: has("features.1.running_mean") })
    } else if has("layer1.0.conv1.weight") || has("conv1_1.weight") {
        let first = source.get("conv1.weight").or(source.get("conv1_1.weight"))?;
        let grey = first.size().get(1) == Some(&1);
        Some(if grey { Family::Own } else { Family::TorchvisionResNet50 })
    } else {
        None
    }
}

/// This project's name for a family's tensor; `None` for those it has no use for.
fn own_name(family: Family, name: &str) -> Option<String> {
    let (node, part) = name.rsplit_once('.')?;
    let node = match family {
        Family::Own => node.to_string(),
        Family::TorchvisionResNet50 if node == "fc" => return None,
        Family::TorchvisionResNet50 => node.to_string(),
        Family::MsraResNet50 => msra_node(node)?,
        Family::TorchvisionVgg16 { batch_norm } => vgg_node(node, batch_norm)?,
    };
    (part != "num_batches_tracked").then(|| format!("{node}.{part}"))
}

/// `res3b_branch2c` is `layer2.1.conv3`; `bn...` likewise; `branch1` is the shortcut.
fn msra_node(name: &str) -> Option<String> {
    match name {
        "conv1" => return Some("conv1".into()),
        "bn_conv1" => return Some("bn1".into()),
        _ => {}
    }
    let (rest, norm) = match name.strip_prefix("res") {
        Some(rest) => (rest, false),
        None => (name.strip_prefix("bn")?, true),
    };
    let (block, branch) = rest.split_once("_branch")?;
    let mut letters = block.chars();
    let layer = letters.next()?.to_digit(10)?.checked_sub(1)?;
    let index = (letters.next()? as u32).checked_sub('a' as u32)?;
    let part = match (branch, norm) {
        ("1", false) => "downsample.0".to_string(),
        ("1", true) => "downsample.1".to_string(),
        (branch, norm) => {
            let number = (branch.chars().nth(1)? as u32).checked_sub('a' as u32)? + 1;
            format!("{}{number}", if norm { "bn" } else { "conv" })
        }
    };
    Some(format!("layer{layer}.{index}.{part}"))
}

/// torchvision numbers VGG16's layers through; the paper's names count by stage.
fn vgg_node(name: &str, batch_norm: bool) -> Option<String> {
    match name {
        "classifier.0" => return Some("fc6".into()),
        "classifier.3" => return Some("fc7".into()),
        _ => {}
    }
    let wanted: usize = name.strip_prefix("features.")?.parse().ok()?;
    let mut at = 0;
    for (stage, count) in [2, 2, 3, 3, 3].into_iter().enumerate() {
        for index in 1..=count {
            let tag = format!("{}_{index}", stage + 1);
            if at == wanted {
                return Some(format!("conv{tag}"));
            }
            if batch_norm && at + 1 == wanted {
                return Some(format!("bn{tag}"));
            }
            at += if batch_norm { 3 } else { 2 };
        }
        at += 1;
    }
    None
}

/// Sums a first layer's kernels over its three channels and folds the two normalisations.
fn grey_first_layer(
    mut tensors: BTreeMap<String, Tensor>,
    layer: &str,
    channels: Channels,
) -> BTreeMap<String, Tensor> {
    let (weight_name, bias_name) = (format!("{layer}.weight"), format!("{layer}.bias"));
    let Some(weight) = tensors.remove(&weight_name) else { return tensors };
    let weight = weight.to_kind(tch::Kind::Double);
    let per_channel = |values: [f64; 3]| Tensor::from_slice(&values).view([1, 3, 1, 1]);
    let scale = per_channel(channels.deviation.map(|d| f64::from(STD) / d));
    let mut offsets = [0.0; 3];
    for (offset, (mean, deviation)) in
        offsets.iter_mut().zip(channels.mean.iter().zip(channels.deviation))
    {
        *offset = (f64::from(MEAN) - mean) / deviation;
    }
    let offset = (&weight * per_channel(offsets)).sum_dim_intlist(
        &[1i64, 2, 3][..],
        false,
        tch::Kind::Double,
    );
    let bias = tensors.remove(&bias_name).map(|b| b.to_kind(tch::Kind::Double));
    let bias = bias.map_or_else(|| offset.copy(), |b| b + &offset);
    let grey = (weight * scale).sum_dim_intlist(&[1i64][..], true, tch::Kind::Double);
    tensors.insert(weight_name, grey.to_kind(tch::Kind::Float));
    tensors.insert(bias_name, bias.to_kind(tch::Kind::Float));
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn names_map() {
        assert_eq!(msra_node("res4f_branch2c").as_deref(), Some("layer3.5.conv3"));
        assert_eq!(msra_node("bn2a_branch1").as_deref(), Some("layer1.0.downsample.1"));
        assert_eq!(vgg_node("features.28", false).as_deref(), Some("conv5_3"));
        assert_eq!(vgg_node("features.41", true).as_deref(), Some("bn5_3"));
        assert_eq!(vgg_node("features.10", false).as_deref(), Some("conv3_1"));
    }

    #[test]
    fn a_grey_first_layer_computes_the_same() {
        tch::manual_seed(1);
        let options = (tch::Kind::Float, Device::Cpu);
        let (weight, bias) = (Tensor::randn([4, 3, 3, 3], options), Tensor::randn([4], options));
        let grey = Tensor::rand([1, 1, 8, 8], options);
        for (channels, scale) in [(TORCHVISION, 1.0), (MSRA, 255.0)] {
            let mean = Tensor::from_slice(&channels.mean.map(|m| m * scale)).view([1, 3, 1, 1]);
            let deviation =
                Tensor::from_slice(&channels.deviation.map(|d| d * scale)).view([1, 3, 1, 1]);
            let theirs = ((grey.expand([1, 3, 8, 8], false) * scale - mean) / deviation)
                .to_kind(tch::Kind::Float)
                .conv2d(&weight, Some(&bias), [1, 1], [0, 0], [1, 1], 1);
            let named = [("c.weight", &weight), ("c.bias", &bias)];
            let named = named.map(|(n, t)| (n.to_string(), t.copy())).into_iter().collect();
            let ours = grey_first_layer(named, "c", channels);
            let ours = ((&grey - f64::from(MEAN)) / f64::from(STD)).conv2d(
                &ours["c.weight"],
                Some(&ours["c.bias"]),
                [1, 1],
                [0, 0],
                [1, 1],
                1,
            );
            let worst = ((theirs - ours).abs().max() / scale).double_value(&[]);
            assert!(worst < 1e-4, "{worst}");
        }
    }
}
