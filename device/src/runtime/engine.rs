//! From the network's input to its logits and captured layer.

use std::io::Cursor;
use std::sync::Arc;

use models::head::Captured;
use models::label::COUNT;
use models::preprocess::{Input, SIDE};
use tract_onnx::prelude::*;

use super::operator;

/// A network ready to run.
#[derive(Debug)]
pub struct Engine {
    plan: Arc<TypedRunnableModel>,
    hidden_layers: usize,
}

/// What a network computed of one input.
#[derive(Clone, Debug, PartialEq)]
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
    /// tract does not accept the model.
    #[error("the model cannot be loaded: {0}")]
    Load(String),
    /// tract fails while running.
    #[error("the model cannot be run: {0}")]
    Run(String),
    /// The model's outputs are not those of the bundle contract.
    #[error("the model has other outputs than logits, cam_features and its hidden layers")]
    Outputs,
}

impl Engine {
    /// Loads ONNX bytes whose outputs are `logits`, `cam_features` and `hidden_layers`
    /// pre-activations, in that order.
    ///
    /// # Errors
    /// When tract does not accept the model, or its outputs are others.
    pub fn load(model: &[u8], hidden_layers: usize) -> Result<Self, EngineError> {
        let load = || {
            let mut onnx = tract_onnx::onnx();
            operator::register(&mut onnx);
            onnx.model_for_read(&mut Cursor::new(model))?.into_optimized()?.into_runnable()
        };
        let plan = load().map_err(|e: TractError| EngineError::Load(format!("{e:#}")))?;
        let outputs = plan.model().output_outlets().map_or(0, <[OutletId]>::len);
        if outputs != 2 + hidden_layers {
            return Err(EngineError::Outputs);
        }
        Ok(Self { plan, hidden_layers })
    }

    /// Runs the network.
    ///
    /// # Errors
    /// When tract fails or an output has another shape.
    pub fn run(&self, input: &Input) -> Result<Activations, EngineError> {
        let side = SIDE as usize;
        let run = || {
            let tensor = Tensor::from_shape(&[1, 1, side, side], &input.values)?;
            let outputs = self.plan.run(tvec!(tensor.into_tvalue()))?;
            outputs.iter().map(floats).collect::<TractResult<Vec<_>>>()
        };
        let mut outputs = run().map_err(|e| EngineError::Run(format!("{e:#}")))?.into_iter();
        let logits = outputs.next().and_then(|l| l.try_into().ok()).ok_or(EngineError::Outputs)?;
        let features = outputs.next().ok_or(EngineError::Outputs)?;
        let hidden: Vec<_> = outputs.collect();
        if hidden.len() != self.hidden_layers {
            return Err(EngineError::Outputs);
        }
        Ok(Activations { logits, features, hidden })
    }
}

fn floats(value: &TValue) -> TractResult<Vec<f32>> {
    Ok(value.to_plain_array_view::<f32>()?.iter().copied().collect())
}
