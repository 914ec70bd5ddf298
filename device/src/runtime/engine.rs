//! From the network's input to its logits and captured layer.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use models::head::Captured;
use models::label::COUNT;
use models::preprocess::{Input, SIDE};
use prost::Message;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use super::fuse::{Fused, fused};
use super::onnx::GraphError;
use super::pool::Pool;
use super::program::{Program, ProgramError};
use super::qconv::{Kernel, KernelUnavailable};
use super::qdq;
use super::tail::{Tail, linear_logits};

/// A network ready to run.
#[derive(Debug)]
pub struct Engine {
    network: Network,
    hidden_layers: usize,
}

/// How a network is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// What runs the convolutions.
    pub kind: EngineKind,
    /// Threads that share the work of one scan; tract's own arithmetic takes one.
    pub threads: usize,
}

/// What runs the convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// Fused integer convolutions, for int8 models; tract for everything else.
    Fused,
    /// tract alone, an int8 model in float arithmetic: slower, for comparison.
    Tract,
}

impl EngineKind {
    /// The name, as [`FromStr`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fused => "fused",
            Self::Tract => "tract",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EngineKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::Fused, Self::Tract]
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| format!("`{name}` is no engine: expected fused or tract"))
    }
}

impl Default for EngineOptions {
    /// Fused convolutions on every core that this process may use.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { kind: EngineKind::Fused, threads }
    }
}

/// A loaded network, by who runs what.
#[derive(Debug)]
enum Network {
    /// The integer part ours, the rest as [`Tail`] says.
    Fused { program: Box<Program>, tail: Tail },
    /// All of it tract's.
    Tract(Arc<TypedRunnableModel>),
}

/// What a network computed of one input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activations {
    /// Raw outputs in class order, as the graph computed them.
    pub logits: [f32; COUNT],
    /// Output of the captured layer, `[channels, side, side]`.
    pub features: Vec<f32>,
    /// Pre-activations of the head's hidden layers.
    pub hidden: Vec<Vec<f32>>,
}

impl Activations {
    /// The part that Grad-CAM needs.
    pub fn captured(&self) -> Captured<'_> {
        Captured { features: &self.features, hidden: &self.hidden }
    }
}

/// Why a network cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The file is no ONNX model.
    #[error("the model is not ONNX: {0}")]
    Decode(#[from] prost::DecodeError),
    /// The graph is not one that can be fused.
    #[error("the model cannot be fused: {0}")]
    Graph(#[from] GraphError),
    /// tract does not accept the model.
    #[error("the model cannot be loaded: {0}")]
    Load(String),
    /// The kernel asked for by the environment cannot be used.
    #[error(transparent)]
    Kernel(#[from] KernelUnavailable),
    /// The system gives no more threads.
    #[error("no threads for inference: {0}")]
    Threads(#[from] std::io::Error),
    /// The integer part fails while running.
    #[error("the model cannot be run: {0}")]
    Program(#[from] ProgramError),
    /// tract fails while running.
    #[error("the model cannot be run: {0}")]
    Run(String),
    /// The model's outputs are not those of the bundle contract.
    #[error("the model has other outputs than logits, cam_features and its hidden layers")]
    Outputs,
}

impl Engine {
    /// Loads ONNX bytes whose outputs are `logits`, `cam_features` and `hidden_layers`
    /// pre-activations, in that order. Float models run in tract, whatever the options say.
    ///
    /// # Errors
    /// When the model cannot be fused or tract does not accept it, or its outputs are others.
    pub fn load(
        model: impl AsRef<[u8]>,
        hidden_layers: usize,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        let decoded = ModelProto::decode(model.as_ref())?;
        // Bytes given away are freed before the weights are packed.
        drop(model);
        let model = decoded;
        let outputs = model.graph.as_ref().map_or(0, |graph| graph.output.len());
        if outputs != 2 + hidden_layers {
            return Err(EngineError::Outputs);
        }
        let network = match options.kind {
            EngineKind::Fused if is_int8(&model) => {
                let side = [SIDE as usize; 2];
                let (kernel, pool) = (Kernel::from_environment()?, Pool::new(options.threads)?);
                let Fused { program, tail } = fused(model, side, kernel, pool)?;
                Network::Fused { program: Box::new(program), tail: Tail::new(tail).map_err(load)? }
            }
            _ => Network::Tract(planned(&qdq::in_floats(model)?).map_err(load)?),
        };
        Ok(Self { network, hidden_layers })
    }

    /// Runs the network.
    ///
    /// # Errors
    /// As [`Engine::run_into`].
    pub fn run(&self, input: &Input) -> Result<Activations, EngineError> {
        let mut activations = Activations::default();
        self.run_into(input, &mut activations)?;
        Ok(activations)
    }

    /// Runs the network into memory that is reused: a fused network with a linear tail allocates
    /// nothing once it has run.
    ///
    /// # Errors
    /// When tract fails or an output has another shape.
    pub fn run_into(&self, input: &Input, out: &mut Activations) -> Result<(), EngineError> {
        let side = SIDE as usize;
        match &self.network {
            Network::Tract(plan) => self.run_plan(plan, &[1, 1, side, side], &input.values, out),
            Network::Fused { program, tail } => {
                let [channels, height, width] = program.features_shape();
                out.features.resize(channels * height * width, 0.0);
                program.run(&input.values, &mut out.features)?;
                match tail {
                    Tail::Linear { weight, bias } => {
                        out.logits = linear_logits(weight, bias, &out.features);
                        Ok(())
                    }
                    Tail::Plan(plan) => {
                        let features = std::mem::take(&mut out.features);
                        self.run_plan(plan, &[1, channels, height, width], &features, out)
                    }
                }
            }
        }
    }

    fn run_plan(
        &self,
        plan: &Arc<TypedRunnableModel>,
        shape: &[usize],
        input: &[f32],
        out: &mut Activations,
    ) -> Result<(), EngineError> {
        let run = || {
            let tensor = Tensor::from_shape(shape, input)?;
            let outputs = plan.run(tvec!(tensor.into_tvalue()))?;
            outputs.iter().map(floats).collect::<TractResult<Vec<_>>>()
        };
        let mut outputs = run().map_err(|e| EngineError::Run(format!("{e:#}")))?.into_iter();
        let logits = outputs.next().and_then(|l| l.try_into().ok()).ok_or(EngineError::Outputs)?;
        let features = outputs.next().ok_or(EngineError::Outputs)?;
        *out = Activations { logits, features, hidden: outputs.collect() };
        if out.hidden.len() == self.hidden_layers { Ok(()) } else { Err(EngineError::Outputs) }
    }
}

fn load(error: TractError) -> EngineError {
    EngineError::Load(format!("{error:#}"))
}

fn is_int8(model: &ModelProto) -> bool {
    let nodes = model.graph.iter().flat_map(|graph| &graph.node);
    nodes.into_iter().any(|node| matches!(node.op_type.as_str(), "QLinearConv" | "ConvInteger"))
}

fn planned(model: &ModelProto) -> TractResult<Arc<TypedRunnableModel>> {
    tract_onnx::onnx().model_for_proto_model(model)?.into_optimized()?.into_runnable()
}

fn floats(value: &TValue) -> TractResult<Vec<f32>> {
    Ok(value.to_plain_array_view::<f32>()?.iter().copied().collect())
}
