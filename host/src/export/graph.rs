//! From a trained network to an ONNX graph, in float or in int8.
//!
//! Outputs, in this order: `logits`, `cam_features`, then the pre-activations `hidden_1`,
//! `hidden_2` of a head with hidden layers.

use models::arch::{Architecture, Conv, Op};
use models::label;
use models::preprocess::SIDE;
use prost::Message;

use super::fold::folded;
use super::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    ValueInfoProto,
};
use crate::quantize::{Affine, Ranges, fused_end, quantized};
use crate::train::network::{Network, NetworkError};

const IR_VERSION: i64 = 8;
const OPSET: i64 = 13;
const INPUT: &str = "input";
const LOGITS: &str = "logits";
const FEATURES: &str = "cam_features";

/// ONNX bytes of a network; in int8 where calibration ranges are given.
///
/// # Errors
/// When the network lacks a tensor.
pub fn model_from_network(
    network: &Network,
    ranges: Option<&Ranges>,
) -> Result<Vec<u8>, NetworkError> {
    let architecture = network.architecture();
    let mut writer = Writer {
        network,
        ranges,
        graph: GraphProto { name: architecture.kind.to_string(), ..GraphProto::default() },
        values: vec![None; architecture.nodes.len()],
    };
    let side = SIDE as usize;
    writer.graph.input.push(ValueInfoProto::floats(INPUT, &[1, 1, side, side]));
    for at in 0..architecture.nodes.len() {
        if writer.values[at].is_none() {
            writer.node(at)?;
        }
    }
    writer.graph.output = outputs(architecture);
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "spinesight".into(),
        graph: Some(writer.graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
    };
    Ok(model.encode_to_vec())
}

fn outputs(architecture: &Architecture) -> Vec<ValueInfoProto> {
    let shape = architecture.cam_shape;
    let mut outputs = vec![
        ValueInfoProto::floats(LOGITS, &[1, label::COUNT]),
        ValueInfoProto::floats(FEATURES, &[1, shape.channels, shape.side, shape.side]),
    ];
    let layers = architecture.head_layers();
    for (index, node) in layers.iter().take(layers.len() - 1).enumerate() {
        if let Op::Linear { outputs: width, .. } = node.op {
            outputs.push(ValueInfoProto::floats(&hidden_name(index), &[1, width]));
        }
    }
    outputs
}

fn hidden_name(index: usize) -> String {
    format!("hidden_{}", index + 1)
}

/// A node's output inside the ONNX graph.
#[derive(Clone, Debug)]
struct Value {
    name: String,
    /// Scale and zero point when it is in steps.
    steps: Option<Affine>,
}

struct Writer<'a> {
    network: &'a Network,
    ranges: Option<&'a Ranges>,
    graph: GraphProto,
    values: Vec<Option<Value>>,
}

impl Writer<'_> {
    fn node(&mut self, at: usize) -> Result<(), NetworkError> {
        let node = self.network.architecture().nodes[at].clone();
        let operand = |writer: &Self, index: usize| -> Value {
            let missing = || Value { name: String::new(), steps: None };
            writer.values[node.inputs[index]].clone().unwrap_or_else(missing)
        };
        match node.op {
            Op::Input => {
                let value = Value { name: INPUT.into(), steps: None };
                self.values[at] = Some(match self.ranges {
                    Some(ranges) => self.in_steps(value, "input_steps", ranges.affine(at)),
                    None => value,
                });
            }
            Op::Conv(conv) => self.conv(at, &conv, operand(self, 0))?,
            Op::Add => self.add(at, operand(self, 0), operand(self, 1)),
            // Reached only where no convolution or sum has taken it up.
            Op::Relu => self.emit(at, "Relu", operand(self, 0), vec![]),
            Op::MaxPool { kernel, stride, padding: [before, after] } => {
                let attributes = vec![
                    AttributeProto::ints("kernel_shape", &[kernel, kernel]),
                    AttributeProto::ints("strides", &[stride, stride]),
                    AttributeProto::ints("pads", &[before, before, after, after]),
                ];
                self.emit(at, "MaxPool", operand(self, 0), attributes);
            }
            Op::GlobalAveragePool => {
                let pooled = format!("{}_map", node.name);
                self.push("GlobalAveragePool", &[&operand(self, 0).name], &pooled, vec![]);
                let axis = vec![AttributeProto::int("axis", 1)];
                self.emit(at, "Flatten", Value { name: pooled, steps: None }, axis);
            }
            Op::Flatten => {
                let axis = vec![AttributeProto::int("axis", 1)];
                self.emit(at, "Flatten", operand(self, 0), axis);
            }
            Op::Linear { inputs, outputs } => self.linear(at, operand(self, 0), inputs, outputs)?,
            // Folded into its convolution, or absent outside training.
            Op::BatchNorm { .. } | Op::Dropout { .. } => self.values[at] = Some(operand(self, 0)),
        }
        Ok(())
    }

    /// A convolution with the batch normalisation and ReLU behind it.
    fn conv(&mut self, at: usize, conv: &Conv, input: Value) -> Result<(), NetworkError> {
        let architecture = self.network.architecture();
        let name = architecture.nodes[at].name.clone();
        let end = fused_end(architecture, at);
        let layer = folded(self.network, at)?;
        let dims = [conv.outputs, conv.inputs, conv.kernel, conv.kernel];
        let attributes = vec![
            AttributeProto::ints("kernel_shape", &[conv.kernel; 2]),
            AttributeProto::ints("strides", &[conv.stride; 2]),
            AttributeProto::ints("pads", &[conv.padding; 4]),
        ];
        let value = match (self.ranges, input.steps) {
            (Some(ranges), Some(x)) => {
                let y = ranges.affine(end);
                let q = quantized(&layer, x.scale);
                let weights = self.weight_names(&name, &dims, &q.weight, &q.scales);
                let (x, y_names) = (self.affine_names(&input.name, x), self.affine_names(&name, y));
                self.graph.initializer.push(TensorProto::ints(
                    &format!("{name}.bias"),
                    &[conv.outputs],
                    &q.bias,
                ));
                let mut operands = vec![input.name];
                operands.extend(x.into_iter().chain(weights).chain(y_names));
                operands.push(format!("{name}.bias"));
                let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
                let output = format!("{name}_steps");
                self.push("QLinearConv", &operands, &output, attributes);
                Value { name: output, steps: Some(y) }
            }
            _ => {
                let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
                let constants = [
                    TensorProto::floats(&weight, &dims, &layer.weight),
                    TensorProto::floats(&bias, &[conv.outputs], &layer.bias),
                ];
                self.graph.initializer.extend(constants);
                let output = format!("{name}_out");
                self.push("Conv", &[&input.name, &weight, &bias], &output, attributes);
                let value = Value { name: output, steps: None };
                if architecture.nodes[end].op == Op::Relu { self.relu(end, value) } else { value }
            }
        };
        let value = self.captured(end, value);
        (at..=end).for_each(|position| self.values[position] = Some(value.clone()));
        Ok(())
    }

    /// A sum with the ReLU behind it, in float; quantized again unless it is the captured layer.
    fn add(&mut self, at: usize, left: Value, right: Value) {
        let name = self.network.architecture().nodes[at].name.clone();
        let end = at + 1;
        let (left, right) = (self.in_floats(left, &name, 0), self.in_floats(right, &name, 1));
        let sum = format!("{name}_sum");
        self.push("Add", &[&left, &right], &sum, vec![]);
        let value = self.relu(end, Value { name: sum, steps: None });
        let captured = end == self.network.architecture().cam;
        let value = match self.ranges {
            Some(ranges) if !captured => {
                self.in_steps(value, &format!("{name}_steps"), ranges.affine(end))
            }
            _ => value,
        };
        self.values[at] = Some(value.clone());
        self.values[end] = Some(value);
    }

    fn linear(
        &mut self,
        at: usize,
        input: Value,
        inputs: usize,
        outputs: usize,
    ) -> Result<(), NetworkError> {
        let architecture = self.network.architecture();
        let name = architecture.nodes[at].name.clone();
        let layers = architecture.head_layers();
        let index = layers.iter().position(|l| l.name == name).unwrap_or_default();
        let output =
            if index + 1 == layers.len() { LOGITS.to_string() } else { hidden_name(index) };
        let layer = folded(self.network, at)?;
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        self.graph.initializer.push(TensorProto::floats(
            &weight,
            &[outputs, inputs],
            &layer.weight,
        ));
        self.graph.initializer.push(TensorProto::floats(&bias, &[outputs], &layer.bias));
        let transposed = vec![AttributeProto::int("transB", 1)];
        self.push("Gemm", &[&input.name, &weight, &bias], &output, transposed);
        self.values[at] = Some(Value { name: output, steps: None });
        Ok(())
    }

    /// A one-operand step that keeps the number format.
    fn emit(&mut self, at: usize, op: &str, input: Value, attributes: Vec<AttributeProto>) {
        let output = format!("{}_out", self.network.architecture().nodes[at].name);
        self.push(op, &[&input.name], &output, attributes);
        self.values[at] = Some(Value { name: output, steps: input.steps });
    }

    fn relu(&mut self, at: usize, input: Value) -> Value {
        let architecture = self.network.architecture();
        let output = if at == architecture.cam {
            FEATURES.to_string()
        } else {
            format!("{}_out", architecture.nodes[at].name)
        };
        self.push("Relu", &[&input.name], &output, vec![]);
        Value { name: output, steps: None }
    }

    /// The captured layer is always handed out in floats.
    fn captured(&mut self, at: usize, value: Value) -> Value {
        let Some(steps) = value.steps.filter(|_| at == self.network.architecture().cam) else {
            return value;
        };
        let [scale, zero] = self.affine_names(FEATURES, steps);
        self.push("DequantizeLinear", &[&value.name, &scale, &zero], FEATURES, vec![]);
        Value { name: FEATURES.into(), steps: None }
    }

    fn in_steps(&mut self, value: Value, name: &str, steps: Affine) -> Value {
        let [scale, zero] = self.affine_names(name, steps);
        self.push("QuantizeLinear", &[&value.name, &scale, &zero], name, vec![]);
        Value { name: name.into(), steps: Some(steps) }
    }

    fn in_floats(&mut self, value: Value, user: &str, operand: usize) -> String {
        let Some(steps) = value.steps else { return value.name };
        let output = format!("{user}_operand{operand}");
        let [scale, zero] = self.affine_names(&output, steps);
        self.push("DequantizeLinear", &[&value.name, &scale, &zero], &output, vec![]);
        output
    }

    /// Adds the scale and zero point of a tensor as constants; returns their names.
    fn affine_names(&mut self, tensor: &str, steps: Affine) -> [String; 2] {
        let count = self.graph.initializer.len();
        let (scale, zero) = (format!("{tensor}.{count}.scale"), format!("{tensor}.{count}.zero"));
        self.graph.initializer.push(TensorProto::floats(&scale, &[], &[steps.scale]));
        self.graph.initializer.push(TensorProto::bytes(&zero, &[], &[steps.zero]));
        [scale, zero]
    }

    /// Adds quantized weights as constants; returns the names of weights, scales and zero point.
    fn weight_names(
        &mut self,
        name: &str,
        dims: &[usize],
        weight: &[i8],
        scales: &[f32],
    ) -> [String; 3] {
        let (steps, scale) = (format!("{name}.weight"), format!("{name}.weight_scale"));
        let zero = format!("{name}.weight_zero");
        self.graph.initializer.push(TensorProto::bytes(&zero, &[], &[0]));
        self.graph.initializer.push(TensorProto::bytes(&steps, dims, weight));
        self.graph.initializer.push(TensorProto::floats(&scale, &[scales.len()], scales));
        [steps, scale, zero]
    }

    fn push(&mut self, op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: vec![output.into()],
            name: output.into(),
            op_type: op.into(),
            attribute,
        });
    }
}
