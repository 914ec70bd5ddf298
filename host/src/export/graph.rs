//! From a trained network to an ONNX graph, in float or in int8.
//!
//! Outputs, in this order: `logits`, `cam_features`, then the pre-activations `hidden_1`,
//! `hidden_2` of a head with hidden layers.

use models::arch::{Architecture, Conv, Op};
use models::label;
use models::preprocess::SIDE;
use prost::Message;

use super::fold::{Layer, folded};
use super::onnx::{
    AttributeProto, FLOAT, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    ValueInfoProto,
};
use crate::quantize::affine::Affine;
use crate::quantize::scheme::{Convolution, IntegerLayer, Quantized, fused_end, read_as_steps};
use crate::train::network::{Network, NetworkError};

const IR_VERSION: i64 = 8;
const OPSET: i64 = 13;
const INPUT: &str = "input";
const LOGITS: &str = "logits";
const FEATURES: &str = "cam_features";

/// ONNX bytes of a network; in int8 where a quantized form of it is given.
///
/// # Errors
/// When the network lacks a tensor.
pub fn model_from_network(
    network: &Network,
    quantized: Option<&Quantized>,
) -> Result<Vec<u8>, NetworkError> {
    let architecture = network.architecture();
    let mut writer = Writer {
        network,
        quantized,
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
#[derive(Clone, Debug, Default)]
struct Value {
    name: String,
    /// Whether it is in steps.
    in_steps: bool,
    /// A copy in steps of a value in floats, once a convolution has asked for it.
    copy: Option<String>,
}

impl Value {
    fn floats(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    fn steps(name: impl Into<String>) -> Self {
        Self { name: name.into(), in_steps: true, copy: None }
    }
}

struct Writer<'a> {
    network: &'a Network,
    quantized: Option<&'a Quantized>,
    graph: GraphProto,
    values: Vec<Option<Value>>,
}

impl Writer<'_> {
    fn node(&mut self, at: usize) -> Result<(), NetworkError> {
        let node = self.network.architecture().nodes[at].clone();
        let operand = |writer: &Self, index: usize| {
            writer.values[node.inputs[index]].clone().unwrap_or_default()
        };
        match node.op {
            Op::Input => {
                let value = self.as_readers_need(at, Value::floats(INPUT));
                self.values[at] = Some(value);
            }
            Op::Conv(conv) => self.conv(at, &conv)?,
            Op::Add => self.add(at, &operand(self, 0).name, &operand(self, 1).name),
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
                self.emit(at, "Flatten", Value::floats(pooled), axis);
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
    fn conv(&mut self, at: usize, conv: &Conv) -> Result<(), NetworkError> {
        let end = fused_end(self.network.architecture(), at);
        let form = self.quantized.and_then(|q| q.convolutions.get(&at));
        let value = match form {
            Some(Convolution::Integer(layer)) => self.integer_conv(at, end, conv, layer)?,
            Some(Convolution::Float(layer)) => self.float_conv(at, end, conv, layer),
            None => self.float_conv(at, end, conv, &folded(self.network, at)?),
        };
        (at..=end).for_each(|position| self.values[position] = Some(value.clone()));
        Ok(())
    }

    fn float_conv(&mut self, at: usize, end: usize, conv: &Conv, layer: &Layer) -> Value {
        let nodes = &self.network.architecture().nodes;
        let name = nodes[at].name.clone();
        let input = self.values[nodes[at].inputs[0]].clone().unwrap_or_default().name;
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let constants = [
            TensorProto::floats(&weight, &weight_dims(conv), &layer.weight),
            TensorProto::floats(&bias, &[conv.outputs], &layer.bias),
        ];
        self.graph.initializer.extend(constants);
        let output = format!("{name}_out");
        self.push("Conv", &[&input, &weight, &bias], &output, window(conv));
        self.finished(end, output)
    }

    /// `QLinearConv` where only integer convolutions read the output; otherwise the exact integer
    /// sums, scaled in float, so that nothing is rounded on the way to a sum or the captured layer.
    fn integer_conv(
        &mut self,
        at: usize,
        end: usize,
        conv: &Conv,
        layer: &IntegerLayer,
    ) -> Result<Value, NetworkError> {
        let architecture = self.network.architecture();
        let name = architecture.nodes[at].name.clone();
        let missing = || NetworkError::Missing(name.clone());
        let x = self.quantized.and_then(|q| q.input_steps(architecture, at)).ok_or_else(missing)?;
        let input = self.steps_read_by(at)?;
        let weight = format!("{name}.weight");
        let weight_zero = format!("{name}.weight_zero");
        let bias = format!("{name}.bias");
        self.graph.initializer.extend([
            TensorProto::bytes(&weight, &weight_dims(conv), &layer.weight),
            TensorProto::bytes(&weight_zero, &[], &[0]),
        ]);
        if let Some(y) = self.steps_alone(end) {
            let weight_scale = format!("{name}.weight_scale");
            self.graph.initializer.extend([
                TensorProto::floats(&weight_scale, &[conv.outputs], &layer.scales),
                TensorProto::ints(&bias, &[conv.outputs], &layer.bias),
            ]);
            let [x_scale, x_zero] = self.affine_names(&input, x);
            let [y_scale, y_zero] = self.affine_names(&name, y);
            let operands = [
                &input,
                &x_scale,
                &x_zero,
                &weight,
                &weight_scale,
                &weight_zero,
                &y_scale,
                &y_zero,
                &bias,
            ];
            let output = format!("{name}_steps");
            self.push("QLinearConv", &operands.map(String::as_str), &output, window(conv));
            return Ok(Value::steps(output));
        }
        let scale = format!("{name}.sum_scale");
        let scales: Vec<f32> = layer.scales.iter().map(|s| s * x.scale).collect();
        self.graph.initializer.extend([
            TensorProto::floats(&scale, &[1, conv.outputs, 1, 1], &scales),
            TensorProto::ints(&bias, &[1, conv.outputs, 1, 1], &layer.bias),
        ]);
        let part = |what: &str| format!("{name}_{what}");
        let x_zero = format!("{name}.input_zero");
        self.graph.initializer.push(TensorProto::bytes(&x_zero, &[], &[x.zero]));
        let (sums, biased, floats, out) =
            (part("acc"), part("biased"), part("floats"), part("out"));
        self.push("ConvInteger", &[&input, &weight, &x_zero, &weight_zero], &sums, window(conv));
        self.push("Add", &[&sums, &bias], &biased, vec![]);
        let to_float = vec![AttributeProto::int("to", FLOAT as usize)];
        self.push("Cast", &[&biased], &floats, to_float);
        self.push("Mul", &[&floats, &scale], &out, vec![]);
        Ok(self.finished(end, out))
    }

    /// A sum with the ReLU behind it, in float.
    fn add(&mut self, at: usize, left: &str, right: &str) {
        let sum = format!("{}_sum", self.network.architecture().nodes[at].name);
        self.push("Add", &[left, right], &sum, vec![]);
        let value = self.finished(at + 1, sum);
        self.values[at] = Some(value.clone());
        self.values[at + 1] = Some(value);
    }

    /// A float output with the ReLU that it has been fused with, in the form its readers need.
    fn finished(&mut self, end: usize, output: String) -> Value {
        let is_relu = self.network.architecture().nodes[end].op == Op::Relu;
        let value = if is_relu { self.relu(end, &output) } else { Value::floats(output) };
        self.as_readers_need(end, value)
    }

    /// In steps where nothing else is read of it.
    fn as_readers_need(&mut self, at: usize, value: Value) -> Value {
        match self.steps_alone(at) {
            Some(steps) => Value::steps(self.in_steps(&value.name, steps)),
            None => value,
        }
    }

    /// The steps of a node that is read in steps alone.
    fn steps_alone(&self, at: usize) -> Option<Affine> {
        let quantized = self.quantized?;
        let integer = |conv: usize| {
            matches!(quantized.convolutions.get(&conv), Some(Convolution::Integer(_)))
        };
        let steps = quantized.steps.get(&at).copied();
        steps.filter(|_| read_as_steps(self.network.architecture(), at, &integer))
    }

    /// Name of the steps that an integer convolution reads; makes them where the value is in
    /// floats, once for all readers.
    fn steps_read_by(&mut self, conv: usize) -> Result<String, NetworkError> {
        let architecture = self.network.architecture();
        let input = architecture.nodes[conv].inputs[0];
        let value = self.values[input].clone().unwrap_or_default();
        if value.in_steps {
            return Ok(value.name);
        }
        if let Some(copy) = value.copy {
            return Ok(copy);
        }
        let steps = self.quantized.and_then(|q| q.input_steps(architecture, conv));
        let missing = || NetworkError::Missing(architecture.nodes[conv].name.clone());
        let name = self.in_steps(&value.name, steps.ok_or_else(missing)?);
        if let Some(value) = &mut self.values[input] {
            value.copy = Some(name.clone());
        }
        Ok(name)
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
        self.values[at] = Some(Value::floats(output));
        Ok(())
    }

    /// A one-operand step that keeps the number format.
    fn emit(&mut self, at: usize, op: &str, input: Value, attributes: Vec<AttributeProto>) {
        let name = format!("{}_out", self.network.architecture().nodes[at].name);
        self.push(op, &[&input.name], &name, attributes);
        self.values[at] = Some(Value { name, copy: None, ..input });
    }

    fn relu(&mut self, at: usize, input: &str) -> Value {
        let architecture = self.network.architecture();
        let output = if at == architecture.cam {
            FEATURES.to_string()
        } else {
            format!("{}_out", architecture.nodes[at].name)
        };
        self.push("Relu", &[input], &output, vec![]);
        Value::floats(output)
    }

    /// Adds the steps of a value in floats; returns their name.
    fn in_steps(&mut self, value: &str, steps: Affine) -> String {
        let name = format!("{value}_steps");
        let [scale, zero] = self.affine_names(&name, steps);
        self.push("QuantizeLinear", &[value, &scale, &zero], &name, vec![]);
        name
    }

    /// Adds the scale and zero point of a tensor as constants; returns their names.
    fn affine_names(&mut self, tensor: &str, steps: Affine) -> [String; 2] {
        let count = self.graph.initializer.len();
        let (scale, zero) = (format!("{tensor}.{count}.scale"), format!("{tensor}.{count}.zero"));
        self.graph.initializer.push(TensorProto::floats(&scale, &[], &[steps.scale]));
        self.graph.initializer.push(TensorProto::bytes(&zero, &[], &[steps.zero]));
        [scale, zero]
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

fn weight_dims(conv: &Conv) -> [usize; 4] {
    [conv.outputs, conv.inputs, conv.kernel, conv.kernel]
}

fn window(conv: &Conv) -> Vec<AttributeProto> {
    vec![
        AttributeProto::ints("kernel_shape", &[conv.kernel; 2]),
        AttributeProto::ints("strides", &[conv.stride; 2]),
        AttributeProto::ints("pads", &[conv.padding; 4]),
    ]
}
