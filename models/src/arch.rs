//! Network architectures as data: a flat list of nodes that the trainer turns into `tch` modules,
//! the exporter into an ONNX graph and the explainer into a weight path.
//!
//! Sources: ResNet50, He et al. 2015 (arXiv 1512.03385); VGG16, Simonyan and Zisserman 2014
//! (arXiv 1409.1556), configuration D; the GAP head, Zhou et al. 2015 (arXiv 1512.04150).
//! Weight names follow torchvision for ResNet50 and the paper (`conv1_1` ...) for VGG16.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::label;
use crate::preprocess::SIDE;

/// Epsilon of every batch normalisation.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;

/// Which network, in every variant this project knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Kind {
    /// ResNet50 with a global-average-pool head.
    ResNet50 {
        /// Where a stage's stride sits.
        stride: Stride,
        /// Last stage kept, 4 or 5 in the paper's count (`conv4_x`, `conv5_x`).
        last_stage: u8,
    },
    /// VGG16, configuration D.
    Vgg16 {
        /// The part behind `relu5_3`.
        head: VggHead,
        /// Whether every convolution is followed by a batch normalisation (folded at export).
        batch_norm: bool,
    },
}

/// Which convolution of a stage's first ResNet block carries the stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stride {
    /// The first 1x1, as in the paper and the MSRA weights.
    V1,
    /// The 3x3, as in torchvision.
    V1_5,
}

/// What stands behind VGG16's last convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VggHead {
    /// Global average pool over `relu5_3`, one linear layer.
    Gap,
    /// The original: max-pool, flatten, 4096, 4096, classes.
    Original,
}

impl Kind {
    /// Every variant, for help texts and tests.
    pub const ALL: [Kind; 8] = [
        Kind::ResNet50 { stride: Stride::V1, last_stage: 5 },
        Kind::ResNet50 { stride: Stride::V1_5, last_stage: 5 },
        Kind::ResNet50 { stride: Stride::V1, last_stage: 4 },
        Kind::ResNet50 { stride: Stride::V1_5, last_stage: 4 },
        Kind::Vgg16 { head: VggHead::Gap, batch_norm: false },
        Kind::Vgg16 { head: VggHead::Gap, batch_norm: true },
        Kind::Vgg16 { head: VggHead::Original, batch_norm: false },
        Kind::Vgg16 { head: VggHead::Original, batch_norm: true },
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::ResNet50 { stride, last_stage } => {
                f.write_str(match stride {
                    Stride::V1 => "resnet50-v1",
                    Stride::V1_5 => "resnet50-v1.5",
                })?;
                f.write_str(if *last_stage == 4 { "-stage4" } else { "" })
            }
            Kind::Vgg16 { head, batch_norm } => {
                f.write_str(match head {
                    VggHead::Gap => "vgg16-gap",
                    VggHead::Original => "vgg16",
                })?;
                f.write_str(if *batch_norm { "-bn" } else { "" })
            }
        }
    }
}

/// An architecture name that is none of [`Kind::ALL`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no architecture: expected one of {all}", all = Kind::ALL.map(|k| k.to_string()).join(", "))]
pub struct UnknownKind(String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Kind, UnknownKind> {
        Kind::ALL
            .into_iter()
            .find(|k| k.to_string() == name)
            .ok_or_else(|| UnknownKind(name.into()))
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> String {
        kind.to_string()
    }
}

impl TryFrom<String> for Kind {
    type Error = UnknownKind;

    fn try_from(name: String) -> Result<Kind, UnknownKind> {
        name.parse()
    }
}

/// One step of a network. Inputs are positions in [`Architecture::nodes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Unique name; a weighted node's tensors are `NAME.weight`, `NAME.bias`, ...
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Where its operands come from.
    pub inputs: Vec<usize>,
}

/// What a node computes. Tensors are `[batch, channels, height, width]` until [`Op::Flatten`] or
/// [`Op::GlobalAveragePool`], then `[batch, features]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The preprocessed picture, `[batch, 1, SIDE, SIDE]`.
    Input,
    /// Square 2-D convolution with zero padding.
    Conv(Conv),
    /// Batch normalisation over `channels`, named by the node.
    BatchNorm {
        /// Channels normalised.
        channels: usize,
    },
    /// `max(x, 0)`.
    Relu,
    /// Square max-pool.
    MaxPool {
        /// Window side.
        kernel: usize,
        /// Step.
        stride: usize,
        /// Rows and columns added before and after, which never win the maximum.
        padding: [usize; 2],
    },
    /// Sum of two inputs.
    Add,
    /// Mean over height and width.
    GlobalAveragePool,
    /// Everything but the batch into one axis, channel-major.
    Flatten,
    /// Random zeroing while training, with this probability in percent; nothing otherwise.
    Dropout {
        /// Percent of values zeroed.
        percent: u8,
    },
    /// Fully connected layer, weight `[outputs, inputs]`.
    Linear {
        /// Features in.
        inputs: usize,
        /// Features out.
        outputs: usize,
    },
}

/// Shape of a convolution, weight `[outputs, inputs, kernel, kernel]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Channels in.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// Window side.
    pub kernel: usize,
    /// Step.
    pub stride: usize,
    /// Zeros added on each side.
    pub padding: usize,
    /// Whether a bias of its own is learnt.
    pub bias: bool,
}

/// A network: nodes in an order in which every input precedes its users.
#[derive(Clone, Debug)]
pub struct Architecture {
    /// Which variant.
    pub kind: Kind,
    /// The steps; the first is [`Op::Input`], the last gives the logits.
    pub nodes: Vec<Node>,
    /// The captured layer: the node whose output Grad-CAM weighs (always a ReLU).
    pub cam: usize,
    /// Channels and side of the captured layer.
    pub cam_shape: CamShape,
}

/// Shape of the captured layer's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CamShape {
    /// Channels.
    pub channels: usize,
    /// Height and width.
    pub side: usize,
}

impl Architecture {
    /// Builds the node list of a variant.
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::ResNet50 { stride, last_stage } => resnet50(kind, stride, last_stage),
            Kind::Vgg16 { head, batch_norm } => vgg16(kind, head, batch_norm),
        }
    }

    /// Name of the captured layer.
    pub fn cam_layer(&self) -> &str {
        &self.nodes[self.cam].name
    }

    /// The linear layers behind the captured layer, first to last (the last gives the logits).
    pub fn head_layers(&self) -> Vec<&Node> {
        self.nodes[self.cam..].iter().filter(|n| matches!(n.op, Op::Linear { .. })).collect()
    }

    /// Whether the captured layer is averaged and multiplied by one matrix.
    pub fn has_linear_head(&self) -> bool {
        self.head_layers().len() == 1
            && self.nodes[self.cam..].iter().any(|n| n.op == Op::GlobalAveragePool)
    }

    /// Position of a node by name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|n| n.name == name)
    }
}

/// Appends nodes; remembers the output position of each.
struct Builder {
    nodes: Vec<Node>,
}

impl Builder {
    fn new() -> Self {
        Self { nodes: vec![Node { name: "input".into(), op: Op::Input, inputs: vec![] }] }
    }

    fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[usize]) -> usize {
        self.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec() });
        self.nodes.len() - 1
    }

    fn finish(self, kind: Kind, cam: usize, cam_shape: CamShape) -> Architecture {
        Architecture { kind, nodes: self.nodes, cam, cam_shape }
    }
}

fn resnet50(kind: Kind, stride: Stride, last_stage: u8) -> Architecture {
    const BLOCKS: [(usize, usize); 4] = [(64, 3), (128, 4), (256, 6), (512, 3)];
    let mut b = Builder::new();
    let conv = Conv { inputs: 1, outputs: 64, kernel: 7, stride: 2, padding: 3, bias: true };
    let mut x = conv_bn(&mut b, "conv1", "bn1", conv, 0);
    x = b.push("relu1", Op::Relu, &[x]);
    // The MSRA weights expect Caffe's ceil-mode pool, whose window starts at the first pixel.
    let padding = match stride {
        Stride::V1 => [0, 1],
        Stride::V1_5 => [1, 1],
    };
    x = b.push("pool1", Op::MaxPool { kernel: 3, stride: 2, padding }, &[x]);
    let mut channels = 64;
    for (layer, (width, count)) in BLOCKS.into_iter().enumerate().take(usize::from(last_stage) - 1)
    {
        for index in 0..count {
            let step = if index == 0 && layer > 0 { 2 } else { 1 };
            let block =
                Bottleneck { layer: layer + 1, index, inputs: channels, width, step, stride };
            x = bottleneck(&mut b, &block, x);
            channels = width * 4;
        }
    }
    let cam = x;
    x = b.push("avgpool", Op::GlobalAveragePool, &[x]);
    b.push("fc", Op::Linear { inputs: channels, outputs: label::COUNT }, &[x]);
    let side = SIDE as usize / if last_stage == 4 { 16 } else { 32 };
    b.finish(kind, cam, CamShape { channels, side })
}

struct Bottleneck {
    layer: usize,
    index: usize,
    inputs: usize,
    width: usize,
    step: usize,
    stride: Stride,
}

fn bottleneck(b: &mut Builder, block: &Bottleneck, input: usize) -> usize {
    let &Bottleneck { layer, index, inputs, width, step, stride } = block;
    let prefix = format!("layer{layer}.{index}");
    let name = |part: &str| format!("{prefix}.{part}");
    let (first, second) = match stride {
        Stride::V1 => (step, 1),
        Stride::V1_5 => (1, step),
    };
    let conv = |inputs, outputs, kernel, stride| Conv {
        inputs,
        outputs,
        kernel,
        stride,
        padding: kernel / 2,
        bias: false,
    };
    let mut x = conv_bn(b, &name("conv1"), &name("bn1"), conv(inputs, width, 1, first), input);
    x = b.push(name("relu1"), Op::Relu, &[x]);
    x = conv_bn(b, &name("conv2"), &name("bn2"), conv(width, width, 3, second), x);
    x = b.push(name("relu2"), Op::Relu, &[x]);
    x = conv_bn(b, &name("conv3"), &name("bn3"), conv(width, width * 4, 1, 1), x);
    let shortcut = if index == 0 {
        let shape = conv(inputs, width * 4, 1, step);
        conv_bn(b, &name("downsample.0"), &name("downsample.1"), shape, input)
    } else {
        input
    };
    let sum = b.push(name("add"), Op::Add, &[x, shortcut]);
    b.push(name("relu3"), Op::Relu, &[sum])
}

fn conv_bn(b: &mut Builder, conv_name: &str, bn_name: &str, conv: Conv, input: usize) -> usize {
    let x = b.push(conv_name, Op::Conv(conv), &[input]);
    b.push(bn_name, Op::BatchNorm { channels: conv.outputs }, &[x])
}

fn vgg16(kind: Kind, head: VggHead, batch_norm: bool) -> Architecture {
    const STAGES: [(usize, usize); 5] = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)];
    let mut b = Builder::new();
    let (mut x, mut channels) = (0, 1);
    for (stage, (width, count)) in STAGES.into_iter().enumerate() {
        if stage > 0 {
            let pool = Op::MaxPool { kernel: 2, stride: 2, padding: [0, 0] };
            x = b.push(format!("pool{stage}"), pool, &[x]);
        }
        for index in 1..=count {
            let tag = format!("{}_{index}", stage + 1);
            let conv = Conv {
                inputs: channels,
                outputs: width,
                kernel: 3,
                stride: 1,
                padding: 1,
                bias: true,
            };
            x = b.push(format!("conv{tag}"), Op::Conv(conv), &[x]);
            if batch_norm {
                x = b.push(format!("bn{tag}"), Op::BatchNorm { channels: width }, &[x]);
            }
            x = b.push(format!("relu{tag}"), Op::Relu, &[x]);
            channels = width;
        }
    }
    let cam = x;
    let cam_shape = CamShape { channels, side: SIDE as usize / 16 };
    match head {
        VggHead::Gap => {
            x = b.push("avgpool", Op::GlobalAveragePool, &[x]);
            b.push("fc", Op::Linear { inputs: channels, outputs: label::COUNT }, &[x]);
        }
        VggHead::Original => vgg16_original_head(&mut b, x, cam_shape),
    }
    b.finish(kind, cam, cam_shape)
}

fn vgg16_original_head(b: &mut Builder, cam: usize, shape: CamShape) {
    const HIDDEN: usize = 4096;
    let pooled = shape.side / 2;
    let mut x = b.push("pool5", Op::MaxPool { kernel: 2, stride: 2, padding: [0, 0] }, &[cam]);
    x = b.push("flatten", Op::Flatten, &[x]);
    let mut features = shape.channels * pooled * pooled;
    for tag in [6, 7] {
        x = b.push(format!("fc{tag}"), Op::Linear { inputs: features, outputs: HIDDEN }, &[x]);
        x = b.push(format!("relu{tag}"), Op::Relu, &[x]);
        x = b.push(format!("dropout{tag}"), Op::Dropout { percent: 50 }, &[x]);
        features = HIDDEN;
    }
    b.push("fc8", Op::Linear { inputs: features, outputs: label::COUNT }, &[x]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Learnable values, batch-normalisation scale and shift included.
    fn parameters(architecture: &Architecture) -> usize {
        let count = |node: &Node| match node.op {
            Op::Conv(c) => {
                c.inputs * c.outputs * c.kernel * c.kernel + usize::from(c.bias) * c.outputs
            }
            Op::BatchNorm { channels } => 2 * channels,
            Op::Linear { inputs, outputs } => (inputs + 1) * outputs,
            _ => 0,
        };
        architecture.nodes.iter().map(count).sum()
    }

    #[test]
    fn parameter_counts_are_the_published_ones() {
        let count = |name: &str| parameters(&Architecture::new(name.parse().expect("known")));
        // torchvision: 25,557,032 and 138,357,544 for three input channels and 1,000 classes.
        let grey_conv1 = 2 * 64 * 49 - 64; // two channels fewer; our conv1 has a bias
        let three_classes = |features: usize| (features + 1) * (1000 - 3);
        for name in ["resnet50-v1", "resnet50-v1.5"] {
            assert_eq!(count(name), 25_557_032 - grey_conv1 - three_classes(2048));
        }
        assert_eq!(count("vgg16"), 138_357_544 - 2 * 64 * 9 - three_classes(4096));
    }

    #[test]
    fn every_input_precedes_its_user_and_names_are_unique() {
        for kind in Kind::ALL {
            let architecture = Architecture::new(kind);
            let mut names = std::collections::HashSet::new();
            for (position, node) in architecture.nodes.iter().enumerate() {
                assert!(node.inputs.iter().all(|&i| i < position), "{kind}: {}", node.name);
                assert!(names.insert(&node.name), "{kind}: {} twice", node.name);
            }
            assert_eq!(architecture.nodes[architecture.cam].op, Op::Relu);
        }
    }

    #[test]
    fn names_round_trip() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse::<Kind>().ok(), Some(kind));
        }
        assert!("resnet18".parse::<Kind>().is_err());
    }
}
