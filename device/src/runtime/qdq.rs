//! An int8 graph in float arithmetic: every `QLinearConv` becomes `DequantizeLinear`, `Conv`,
//! `QuantizeLinear`, the form that tract runs in float, and every `ConvInteger` a `Conv` of whole
//! numbers.
//!
//! Slower, and equal to the integer arithmetic up to rare single steps: an independent check.

use std::collections::HashSet;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, TensorProto};

use super::onnx::{Constants, GraphError, Node};

/// Rewrites a model.
///
/// # Errors
/// When a convolution's constants are missing or not symmetric int8.
pub fn in_floats(mut model: ModelProto) -> Result<ModelProto, GraphError> {
    let Some(graph) = model.graph.as_mut() else { return Ok(model) };
    let mut constants = Constants::take(graph);
    let mut added = Vec::new();
    let mut sums = HashSet::new();
    for mut node in std::mem::take(&mut graph.node) {
        match node.op_type.as_str() {
            "QLinearConv" => graph.node.extend(rewritten(&node, &mut constants, &mut added)?),
            "ConvInteger" => {
                sums.insert(node.result()?.to_string());
                graph.node.extend(in_whole_numbers(&node, &mut constants, &mut added)?);
            }
            "Add" if sums.contains(node.operand(0)?) => {
                node.input[1] = float_bias(&node, &constants, &mut added)?;
                graph.node.push(node);
            }
            _ => graph.node.push(node),
        }
    }
    graph.initializer = constants.into_rest().chain(added).collect();
    Ok(model)
}

/// The three nodes that stand for a quantized convolution.
fn rewritten(
    node: &NodeProto,
    constants: &mut Constants,
    added: &mut Vec<TensorProto>,
) -> Result<[NodeProto; 3], GraphError> {
    let name = node.result()?;
    let (x_scale, w_scales) =
        (constants.float(node.operand(1)?)?, constants.floats(node.operand(4)?)?);
    let steps = constants.steps(node.operand(3)?)?;
    let dims = constants.dims(node.operand(3)?)?;
    let outputs = dims.first().copied().unwrap_or(0).max(1);
    let scale = |channel: usize| w_scales.get(channel).or(w_scales.first()).copied().unwrap_or(0.0);
    let weights: Vec<f32> = steps
        .chunks_exact((steps.len() / outputs).max(1))
        .enumerate()
        .flat_map(|(channel, steps)| steps.iter().map(move |s| f32::from(*s) * scale(channel)))
        .collect();
    let bias: Vec<f32> = constants
        .integers(node.operand(8)?)?
        .iter()
        .enumerate()
        .map(|(channel, bias)| *bias as f32 * (x_scale * scale(channel)))
        .collect();
    constants.remove(node.operand(3)?)?;
    let part = |suffix: &str| format!("{name}.{suffix}");
    added.push(floats(part("weight"), &dims, &weights));
    added.push(floats(part("bias"), &[bias.len()], &bias));
    let operands = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect();
    let from = node.operand(0)?;
    Ok([
        made(
            "DequantizeLinear",
            operands(&[from, node.operand(1)?, node.operand(2)?]),
            &part("x"),
            vec![],
        ),
        made(
            "Conv",
            vec![part("x"), part("weight"), part("bias")],
            &part("y"),
            node.attribute.clone(),
        ),
        made(
            "QuantizeLinear",
            operands(&[&part("y"), node.operand(6)?, node.operand(7)?]),
            name,
            vec![],
        ),
    ])
}

/// The two nodes that stand for a `ConvInteger`: the same whole numbers, as floats.
fn in_whole_numbers(
    node: &NodeProto,
    constants: &mut Constants,
    added: &mut Vec<TensorProto>,
) -> Result<[NodeProto; 2], GraphError> {
    let name = node.result()?;
    let part = |suffix: &str| format!("{name}.{suffix}");
    let weights: Vec<f32> =
        constants.steps(node.operand(1)?)?.iter().map(|step| f32::from(*step)).collect();
    let dims = constants.dims(node.operand(1)?)?;
    constants.remove(node.operand(1)?)?;
    added.push(floats(part("weight"), &dims, &weights));
    added.push(floats(part("one"), &[], &[1.0]));
    let x = vec![node.operand(0)?.into(), part("one"), node.operand(2)?.into()];
    let operands = vec![part("x"), part("weight")];
    Ok([
        made("DequantizeLinear", x, &part("x"), vec![]),
        made("Conv", operands, name, node.attribute.clone()),
    ])
}

/// Adds the bias of a `ConvInteger` as floats; returns its name.
fn float_bias(
    node: &NodeProto,
    constants: &Constants,
    added: &mut Vec<TensorProto>,
) -> Result<String, GraphError> {
    let bias = node.operand(1)?;
    let values: Vec<f32> = constants.integers(bias)?.iter().map(|value| *value as f32).collect();
    let name = format!("{bias}.floats");
    added.push(floats(name.clone(), &constants.dims(bias)?, &values));
    Ok(name)
}

fn made(op: &str, input: Vec<String>, output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        input,
        output: vec![output.into()],
        name: output.into(),
        op_type: op.into(),
        attribute,
        ..NodeProto::default()
    }
}

fn floats(name: String, dims: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        dims: dims.iter().map(|&d| d as i64).collect(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        name,
        ..TensorProto::default()
    }
}
