//! The part of a network behind its captured layer.

use std::sync::Arc;

use models::label::COUNT;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto};
use tract_onnx::prelude::*;

use super::fuse::FEATURES;
use super::onnx::{Constants, GraphError, Node};

/// From the captured layer to the logits.
#[derive(Debug)]
pub enum Tail {
    /// GlobalAveragePool, Flatten, Gemm: computed here, without allocating.
    Linear {
        /// `[classes][channels]`.
        weight: Vec<f32>,
        /// `[classes]`.
        bias: [f32; COUNT],
    },
    /// Anything else: tract runs it; its outputs are those of the whole graph.
    Plan(Arc<TypedRunnableModel>),
}

impl Tail {
    /// Recognises a linear tail, else has tract plan it.
    ///
    /// # Errors
    /// When tract does not accept the graph, or a constant is missing.
    pub fn new(mut model: ModelProto) -> TractResult<Self> {
        let is_linear = model.graph.as_ref().is_some_and(is_linear);
        if is_linear && let Some(graph) = &mut model.graph {
            return Ok(linear(graph)?);
        }
        let plan = tract_onnx::onnx().model_for_proto_model(&model)?;
        Ok(Self::Plan(plan.into_optimized()?.into_runnable()?))
    }
}

/// Logits of a linear tail: weight times the mean of every channel, plus bias.
pub fn linear_logits(weight: &[f32], bias: &[f32; COUNT], features: &[f32]) -> [f32; COUNT] {
    let channels = weight.len() / COUNT;
    let area = features.len() / channels.max(1);
    let mut logits = bias.map(f64::from);
    for (channel, values) in features.chunks_exact(area.max(1)).enumerate() {
        let mean = values.iter().sum::<f32>() / area as f32;
        for (class, logit) in logits.iter_mut().enumerate() {
            *logit += f64::from(weight[class * channels + channel]) * f64::from(mean);
        }
    }
    logits.map(|logit| logit as f32)
}

fn is_linear(graph: &GraphProto) -> bool {
    let [pool, flatten, gemm] = &graph.node[..] else { return false };
    let follows = |node: &NodeProto, before: &NodeProto| {
        before.result().is_ok_and(|name| node.operand(0) == Ok(name))
    };
    let plain = |node: &NodeProto| {
        let scaled = |a: &&tract_onnx::pb::AttributeProto| {
            (a.name == "alpha" || a.name == "beta") && a.f != 1.0
        };
        !node.attribute.iter().any(|a| scaled(&a))
    };
    pool.op_type == "GlobalAveragePool"
        && pool.operand(0) == Ok(FEATURES)
        && flatten.op_type == "Flatten"
        && flatten.integer("axis", 1) == 1
        && follows(flatten, pool)
        && gemm.op_type == "Gemm"
        && gemm.integer("transB", 0) == 1
        && gemm.integer("transA", 0) == 0
        && plain(gemm)
        && follows(gemm, flatten)
}

fn linear(graph: &mut GraphProto) -> Result<Tail, GraphError> {
    let constants = Constants::take(graph);
    let gemm = &graph.node[2];
    let (weight, bias) = (gemm.operand(1)?, gemm.operand(2)?);
    let classes = constants.dims(weight)?.first().copied();
    let bias = <[f32; COUNT]>::try_from(constants.floats(bias)?);
    match (classes, bias) {
        (Some(COUNT), Ok(bias)) => Ok(Tail::Linear { weight: constants.floats(weight)?, bias }),
        _ => Err(gemm.problem("it does not compute the classes' logits")),
    }
}
