//! A network: the tensors and the forward pass of a [`models::arch::Architecture`].

use std::collections::BTreeMap;
use std::path::Path;

use models::arch::{Architecture, BATCH_NORM_EPSILON, Conv, Op};
use tch::{Device, Kind, Tensor};

const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// Why tensors do not make a network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// libtorch reports a failure.
    #[error(transparent)]
    Torch(#[from] tch::TchError),
    /// A tensor that the architecture needs is absent.
    #[error("weights lack `{0}`")]
    Missing(String),
    /// A tensor has another shape than the architecture gives it.
    #[error("`{name}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<i64>,
        /// The architecture's shape.
        expected: Vec<i64>,
    },
}

/// Weights and running statistics by name (`conv1.weight`, `bn1.running_mean`, ...).
pub struct Network {
    architecture: Architecture,
    tensors: BTreeMap<String, Tensor>,
    device: Device,
}

/// Whether a forward pass learns from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, dropout.
    Train,
    /// Running statistics, no dropout.
    Evaluate,
}

impl Network {
    /// Random initialisation (He et al. 2015, arXiv 1502.01852, fan-out) from libtorch's generator,
    /// seeded with `seed` on the CPU so that every device starts from the same values.
    pub fn random(architecture: Architecture, seed: u64, device: Device) -> Self {
        tch::manual_seed(seed as i64);
        let mut tensors = BTreeMap::new();
        for (name, shape) in shapes(&architecture) {
            tensors.insert(name.clone(), initial(&name, &shape).to_device(device));
        }
        Self { architecture, tensors, device }
    }

    /// Takes the tensors the architecture names out of `source`.
    ///
    /// # Errors
    /// When one is absent or has another shape.
    pub fn from_tensors(
        architecture: Architecture,
        mut source: BTreeMap<String, Tensor>,
        device: Device,
    ) -> Result<Self, NetworkError> {
        let mut tensors = BTreeMap::new();
        for (name, expected) in shapes(&architecture) {
            let tensor = source.remove(&name).ok_or_else(|| NetworkError::Missing(name.clone()))?;
            if tensor.size() != expected {
                return Err(NetworkError::Shape { name, found: tensor.size(), expected });
            }
            tensors.insert(name, tensor.to_device(device).to_kind(Kind::Float));
        }
        Ok(Self { architecture, tensors, device })
    }

    /// Reads a safetensors file written by [`Network::save`].
    ///
    /// # Errors
    /// When the file cannot be read or does not fit the architecture.
    pub fn load(
        architecture: Architecture,
        file: &Path,
        device: Device,
    ) -> Result<Self, NetworkError> {
        let tensors = Tensor::read_safetensors(file)?.into_iter().collect();
        Self::from_tensors(architecture, tensors, device)
    }

    /// Writes all tensors as safetensors.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, file: &Path) -> Result<(), NetworkError> {
        let named: Vec<_> =
            self.tensors.iter().map(|(n, t)| (n, t.to_device(Device::Cpu))).collect();
        Ok(Tensor::write_safetensors(&named, file)?)
    }

    /// The network's shape.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Where the tensors live.
    pub fn device(&self) -> Device {
        self.device
    }

    /// A tensor by name.
    ///
    /// # Errors
    /// When the architecture has none of that name.
    pub fn tensor(&self, name: &str) -> Result<&Tensor, NetworkError> {
        self.tensors.get(name).ok_or_else(|| NetworkError::Missing(name.into()))
    }

    /// Replaces a tensor's values.
    ///
    /// # Errors
    /// When there is none of that name or the shape differs.
    pub fn set(&mut self, name: &str, value: &Tensor) -> Result<(), NetworkError> {
        let target = self.tensor(name)?;
        if target.size() != value.size() {
            let (found, expected) = (value.size(), target.size());
            return Err(NetworkError::Shape { name: name.into(), found, expected });
        }
        let value = value.to_device(self.device).to_kind(Kind::Float).copy();
        self.tensors.insert(name.into(), value);
        Ok(())
    }

    /// Names of the learnable tensors of the nodes behind position `after`.
    pub fn learnable(&self, after: usize) -> Vec<String> {
        let behind = &self.architecture.nodes[after + 1..];
        let owned = |name: &str| {
            name.rsplit_once('.').is_some_and(|(node, part)| {
                !part.starts_with("running_") && behind.iter().any(|n| n.name == node)
            })
        };
        self.tensors.keys().filter(|name| owned(name)).cloned().collect()
    }

    /// Every tensor by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// Runs the nodes behind position `from` up to `to`; `input` is the output of node `from`.
    ///
    /// The nodes between must depend on no node before `from`: see [`is_cut`].
    pub fn forward(&self, input: &Tensor, from: usize, to: usize, mode: Mode) -> Tensor {
        self.run(input, from, to, mode, &mut |_, _| {})
    }

    fn run(
        &self,
        input: &Tensor,
        from: usize,
        to: usize,
        mode: Mode,
        observe: &mut dyn FnMut(usize, &Tensor),
    ) -> Tensor {
        observe(from, input);
        let nodes = &self.architecture.nodes;
        let mut last_use = vec![0; nodes.len()];
        for (at, node) in nodes.iter().enumerate().take(to + 1) {
            node.inputs.iter().for_each(|&i| last_use[i] = at);
        }
        let mut values: Vec<Option<Tensor>> = (0..nodes.len()).map(|_| None).collect();
        values[from] = Some(input.shallow_clone());
        for at in from + 1..=to {
            let operands: Vec<&Tensor> =
                nodes[at].inputs.iter().filter_map(|&i| values[i].as_ref()).collect();
            let output = self.apply(at, &operands, mode);
            observe(at, &output);
            nodes[at].inputs.iter().filter(|&&i| last_use[i] == at).for_each(|&i| values[i] = None);
            values[at] = Some(output);
        }
        values[to].take().unwrap_or_else(|| input.shallow_clone())
    }

    /// Runs the whole network and shows every node's output to `observe`.
    pub fn forward_observed(
        &self,
        input: &Tensor,
        mode: Mode,
        observe: &mut dyn FnMut(usize, &Tensor),
    ) {
        let _ = self.run(input, 0, self.architecture.nodes.len() - 1, mode, observe);
    }

    /// Logits `[batch, classes]` of inputs `[batch, 1, SIDE, SIDE]`.
    pub fn logits(&self, input: &Tensor, mode: Mode) -> Tensor {
        self.forward(input, 0, self.architecture.nodes.len() - 1, mode)
    }

    fn apply(&self, at: usize, operands: &[&Tensor], mode: Mode) -> Tensor {
        let node = &self.architecture.nodes[at];
        let own = |part: &str| &self.tensors[&format!("{}.{part}", node.name)];
        let x = operands[0];
        match node.op {
            Op::Input => x.shallow_clone(),
            Op::Conv(c) => {
                let (stride, padding) = (c.stride as i64, c.padding as i64);
                let bias = c.bias.then(|| own("bias"));
                x.conv2d(own("weight"), bias, [stride; 2], [padding; 2], [1, 1], 1)
            }
            Op::BatchNorm { .. } => x.batch_norm(
                Some(own("weight")),
                Some(own("bias")),
                Some(own("running_mean")),
                Some(own("running_var")),
                mode == Mode::Train,
                BATCH_NORM_MOMENTUM,
                BATCH_NORM_EPSILON,
                true,
            ),
            Op::Relu => x.relu(),
            Op::MaxPool { kernel, stride, padding: [before, after] } => {
                // libtorch's ceil mode is the pool with padding on the far side only.
                let (kernel, stride) = (kernel as i64, stride as i64);
                x.max_pool2d([kernel; 2], [stride; 2], [before as i64; 2], [1, 1], before != after)
            }
            Op::Add => x + operands[1],
            Op::GlobalAveragePool => x.mean_dim(&[2i64, 3][..], false, None::<Kind>),
            Op::Flatten => x.flatten(1, -1),
            Op::Dropout { percent } => x.dropout(f64::from(percent) / 100.0, mode == Mode::Train),
            Op::Linear { .. } => x.linear(own("weight"), Some(own("bias"))),
        }
    }
}

/// Whether everything behind a node depends on earlier nodes through that node alone, so that its
/// output can be cached.
pub fn is_cut(architecture: &Architecture, at: usize) -> bool {
    architecture.nodes[at + 1..].iter().all(|n| n.inputs.iter().all(|&i| i >= at))
}

/// Name and shape of every tensor of an architecture.
pub fn shapes(architecture: &Architecture) -> Vec<(String, Vec<i64>)> {
    let mut all = Vec::new();
    for node in &architecture.nodes {
        let mut push = |part: &str, shape: &[usize]| {
            let shape = shape.iter().map(|&d| d as i64).collect();
            all.push((format!("{}.{part}", node.name), shape));
        };
        match node.op {
            Op::Conv(Conv { inputs, outputs, kernel, bias, .. }) => {
                push("weight", &[outputs, inputs, kernel, kernel]);
                if bias {
                    push("bias", &[outputs]);
                }
            }
            Op::BatchNorm { channels } => {
                for part in ["weight", "bias", "running_mean", "running_var"] {
                    push(part, &[channels]);
                }
            }
            Op::Linear { inputs, outputs } => {
                push("weight", &[outputs, inputs]);
                push("bias", &[outputs]);
            }
            _ => {}
        }
    }
    all
}

fn initial(name: &str, shape: &[i64]) -> Tensor {
    let on_cpu = (Kind::Float, Device::Cpu);
    match shape {
        [outputs, _, height, width] => {
            let deviation = (2.0 / (outputs * height * width) as f64).sqrt();
            Tensor::randn(shape, on_cpu) * deviation
        }
        [_, inputs] => {
            let bound = (1.0 / *inputs as f64).sqrt();
            Tensor::rand(shape, on_cpu) * (2.0 * bound) - bound
        }
        _ if name.ends_with(".running_var") => Tensor::ones(shape, on_cpu),
        _ if name.ends_with(".weight") => Tensor::ones(shape, on_cpu),
        _ => Tensor::zeros(shape, on_cpu),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_forward_equals_a_whole_one() {
        let architecture = Architecture::new("resnet50-v1-stage4".parse().expect("known"));
        let cut = architecture.position("layer2.3.relu3").expect("exists");
        let end = architecture.nodes.len() - 1;
        assert!(is_cut(&architecture, cut));
        let inside = architecture.position("layer2.3.relu2").expect("exists");
        assert!(!is_cut(&architecture, inside));
        let network = Network::random(architecture, 1, Device::Cpu);
        let input = Tensor::randn([1, 1, 64, 64], (Kind::Float, Device::Cpu));
        let half = network.forward(&input, 0, cut, Mode::Evaluate);
        let cut_logits = network.forward(&half, cut, end, Mode::Evaluate);
        assert!(cut_logits.equal(&network.logits(&input, Mode::Evaluate)));
    }
}
