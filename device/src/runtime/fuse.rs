//! From an int8 ONNX graph to a [`Program`] for its integer part and a graph for the rest.
//!
//! The integer part begins where the picture is quantized and ends at `cam_features`, the captured
//! layer in real numbers. Fused on the way:
//!
//! - `QLinearConv` and the 2x2 `MaxPool` behind it;
//! - `QLinearConv`, `DequantizeLinear` of both operands, `Add`, `Relu`, `QuantizeLinear`.
//!
//! A node that is none of these is refused, never run in some slower way in silence.

use std::collections::HashMap;

use tract_onnx::pb::{ModelProto, NodeProto, ValueInfoProto};

use super::onnx::{Constants, GraphError, Node};
use super::pool::Pool;
use super::program::{Id, MaxPool, Program, Step};
use super::qconv::{Canvas, ConvShape, Kernel, QConv, QConvParams, ResidualParams};

/// Name of the captured layer.
pub const FEATURES: &str = "cam_features";

/// A network cut in two.
#[derive(Debug)]
pub struct Fused {
    /// From the picture to the captured layer.
    pub program: Program,
    /// From the captured layer, its input, to the graph's outputs.
    pub tail: ModelProto,
}

/// Fuses the integer part of a model for pictures of `[height, width]`.
///
/// # Errors
/// Names the first node that does not fit.
pub fn fused(
    mut model: ModelProto,
    picture: [usize; 2],
    kernel: Kernel,
    pool: Pool,
) -> Result<Fused, GraphError> {
    let graph = model.graph.as_mut().ok_or(GraphError::NoOutput(FEATURES))?;
    let mut builder = Builder {
        constants: Constants::take(graph),
        uses: uses(&graph.node),
        borders: borders(&graph.node)?,
        picture,
        kernel,
        steps: Vec::new(),
        values: HashMap::new(),
    };
    if let Some(input) = graph.input.first() {
        builder.values.insert(input.name.clone(), Value::Picture);
    }
    let end = builder.build(&graph.node)?;
    let Builder { constants, steps, .. } = builder;
    let features = features_canvas(&steps)?;
    graph.node.drain(..end);
    graph.initializer = constants.into_rest().collect();
    graph.input = vec![features_input(features)];
    Ok(Fused { program: Program::new(steps, features, pool), tail: model })
}

/// What a name of the graph stands for.
#[derive(Clone, Copy, Debug)]
enum Value {
    /// The network's input.
    Picture,
    /// An activation in steps.
    Steps(Operand),
    /// An activation in real numbers.
    Real(Operand),
    /// The sum of two, maybe behind a ReLU.
    Sum { operands: [Operand; 2], relu: bool },
}

/// An activation, and the real value of its step.
#[derive(Clone, Copy, Debug)]
struct Operand {
    id: Id,
    scale: f32,
}

struct Builder {
    constants: Constants,
    /// How many nodes read a name.
    uses: HashMap<String, usize>,
    /// The border that a name's readers need.
    borders: HashMap<String, usize>,
    picture: [usize; 2],
    kernel: Kernel,
    steps: Vec<Step>,
    values: HashMap<String, Value>,
}

impl Builder {
    /// Builds steps until the captured layer is reached; returns how many nodes that took.
    fn build(&mut self, nodes: &[NodeProto]) -> Result<usize, GraphError> {
        for (index, node) in nodes.iter().enumerate() {
            let value = match node.op_type.as_str() {
                "QuantizeLinear" => self.quantize(node)?,
                "QLinearConv" => self.convolution(node)?,
                "MaxPool" => self.max_pool(node)?,
                "DequantizeLinear" => self.dequantize(node)?,
                "Add" => self.add(node)?,
                "Relu" => self.relu(node)?,
                _ => return Err(node.problem("it stands in the integer part of the network")),
            };
            if node.result()? == FEATURES {
                self.features(node, value)?;
                return Ok(index + 1);
            }
            self.values.insert(node.result()?.into(), value);
        }
        Err(GraphError::NoOutput(FEATURES))
    }

    fn quantize(&mut self, node: &NodeProto) -> Result<Value, GraphError> {
        let scale = self.constants.float(node.operand(1)?)?;
        let zero = self.constants.step(node.operand(2)?)?;
        if !(scale.is_finite() && scale > 0.0) {
            return Err(node.problem("its scale is not a positive number"));
        }
        match self.value(node, 0)? {
            Value::Picture => {
                let [height, width] = self.picture;
                let border = self.border(node)?;
                let canvas = Canvas { height, width, channels: 1, border };
                let range = [-128, 127].map(|end: i16| f32::from(end - i16::from(zero)));
                Ok(self.push(Step::Quantize { canvas, scale, range }, scale))
            }
            Value::Sum { operands, relu } => self.residual(node, operands, relu, scale, zero),
            _ => Err(node.problem("it must quantize the picture or a sum")),
        }
    }

    fn convolution(&mut self, node: &NodeProto) -> Result<Value, GraphError> {
        let Value::Steps(Operand { id, .. }) = self.value(node, 0)? else {
            return Err(node.problem("its input is not in steps"));
        };
        let constants = &self.constants;
        let shape = shape(node, &constants.dims(node.operand(3)?)?)?;
        let input = self.canvas(node, id)?;
        let y_scale = constants.float(node.operand(6)?)?;
        if constants.steps(node.operand(5)?)?.iter().any(|zero| *zero != 0) {
            return Err(node.problem("its weights are not symmetric"));
        }
        let mut w_scales = constants.floats(node.operand(4)?)?;
        if let [scale] = w_scales[..] {
            w_scales = vec![scale; shape.output_channels];
        }
        let bias = match node.operand(8) {
            Ok(name) => constants.integers(name)?,
            Err(_) => vec![0; shape.output_channels],
        };
        let params = QConvParams {
            shape,
            x_scale: constants.float(node.operand(1)?)?,
            x_zero: constants.step(node.operand(2)?)?,
            w_scales: &w_scales,
            y_scale,
            y_zero: constants.step(node.operand(7)?)?,
            weights: &constants.steps(node.operand(3)?)?,
            bias: &bias,
        };
        let convolution = QConv::new(&params, input, self.border(node)?, self.kernel)
            .map_err(|error| node.problem(error.to_string()))?;
        // Packed weights replace the graph's: large models must not be held twice.
        if self.uses.get(node.operand(3)?) == Some(&1) {
            self.constants.remove(node.operand(3)?)?;
        }
        let convolution = Box::new(convolution);
        Ok(self.push(Step::Convolution { convolution, from: id, skip: None }, y_scale))
    }

    fn max_pool(&mut self, node: &NodeProto) -> Result<Value, GraphError> {
        let Value::Steps(Operand { id, scale }) = self.value(node, 0)? else {
            return Err(node.problem("its input is not in steps"));
        };
        let kernel = node.integers("kernel_shape", [0, 0])?;
        let strides = node.integers("strides", [1, 1])?;
        let padding = node.integers("pads", [0; 4])?;
        let [top, left, bottom, right] = padding;
        let fits = kernel.iter().all(|side| *side > 0)
            && strides[0] == strides[1]
            && strides[0] > 0
            && padding.iter().all(|pad| *pad < kernel[0].min(kernel[1]))
            && node.integer("ceil_mode", 0) == 0;
        let input = self.canvas(node, id)?;
        if !fits
            || input.height + top + bottom < kernel[0]
            || input.width + left + right < kernel[1]
        {
            return Err(node.problem("its window does not fit"));
        }
        let border = self.border(node)?;
        if kernel == [2, 2]
            && strides == [2, 2]
            && padding == [0; 4]
            && self.is_read_once(node, 0)
            && let Some(Step::Convolution { convolution, .. }) = self.steps.get_mut(id)
            && convolution.fuse_max_pool()
        {
            convolution.set_border(border);
            return Ok(Value::Steps(Operand { id, scale }));
        }
        let side = |size: usize, kernel: usize| (size - kernel) / strides[0] + 1;
        let output = Canvas {
            height: side(input.height + top + bottom, kernel[0]),
            width: side(input.width + left + right, kernel[1]),
            channels: input.channels,
            border,
        };
        let (stride, padding) = (strides[0], [top, left]);
        let pool = MaxPool { from: id, input, output, kernel, stride, padding };
        Ok(self.push(Step::MaxPool(pool), scale))
    }

    fn dequantize(&mut self, node: &NodeProto) -> Result<Value, GraphError> {
        let scale = self.constants.float(node.operand(1)?)?;
        match self.value(node, 0)? {
            Value::Steps(operand) => Ok(Value::Real(Operand { scale, ..operand })),
            _ => Err(node.problem("its input is not in steps")),
        }
    }

    fn add(&mut self, node: &NodeProto) -> Result<Value, GraphError> {
        match (self.value(node, 0)?, self.value(node, 1)?) {
            (Value::Real(left), Value::Real(right)) => {
                Ok(Value::Sum { operands: [left, right], relu: false })
            }
            _ => Err(node.problem("its operands are not dequantized activations")),
        }
    }

    fn relu(&mut self, node: &NodeProto) -> Result<Value, GraphError> {
        match self.value(node, 0)? {
            Value::Sum { operands, .. } => Ok(Value::Sum { operands, relu: true }),
            _ => Err(node.problem("it does not stand behind a sum")),
        }
    }

    /// Fuses a sum with the convolution that computes its later operand.
    fn residual(
        &mut self,
        node: &NodeProto,
        operands: [Operand; 2],
        relu: bool,
        scale: f32,
        zero: i8,
    ) -> Result<Value, GraphError> {
        let [skip, branch] =
            if operands[0].id < operands[1].id { operands } else { [operands[1], operands[0]] };
        let border = self.border(node)?;
        let readers = self.steps.iter().filter(|step| step.reads().contains(&branch.id)).count();
        let params = ResidualParams {
            branch_scale: branch.scale,
            skip_scale: skip.scale,
            scale,
            zero,
            relu,
        };
        if let Some(Step::Convolution { convolution, skip: other, .. }) =
            self.steps.get_mut(branch.id)
            && readers == 0
            && skip.id != branch.id
            && convolution.fuse_residual(&params)
        {
            convolution.set_border(border);
            *other = Some(skip.id);
            return Ok(Value::Steps(Operand { id: branch.id, scale }));
        }
        Err(node.problem("its sum does not stand behind a convolution of its own"))
    }

    fn features(&mut self, node: &NodeProto, value: Value) -> Result<(), GraphError> {
        let (operands, relu) = match value {
            Value::Real(operand) => (vec![operand], false),
            Value::Sum { operands, relu } => (operands.to_vec(), relu),
            _ => return Err(node.problem("the captured layer is not in real numbers")),
        };
        let operands = operands.into_iter().map(|operand| (operand.id, operand.scale)).collect();
        self.steps.push(Step::Features { operands, relu });
        Ok(())
    }

    fn push(&mut self, step: Step, scale: f32) -> Value {
        self.steps.push(step);
        Value::Steps(Operand { id: self.steps.len() - 1, scale })
    }

    fn value(&self, node: &NodeProto, operand: usize) -> Result<Value, GraphError> {
        let name = node.operand(operand)?;
        let unknown = || node.problem(format!("`{name}` is computed nowhere before"));
        self.values.get(name).copied().ok_or_else(unknown)
    }

    fn canvas(&self, node: &NodeProto, id: Id) -> Result<Canvas, GraphError> {
        let output = self.steps.get(id).and_then(Step::output);
        output.ok_or_else(|| node.problem("its input has no shape"))
    }

    fn border(&self, node: &NodeProto) -> Result<usize, GraphError> {
        Ok(self.borders.get(node.result()?).copied().unwrap_or(0))
    }

    fn is_read_once(&self, node: &NodeProto, operand: usize) -> bool {
        node.operand(operand).is_ok_and(|name| self.uses.get(name) == Some(&1))
    }
}

fn uses(nodes: &[NodeProto]) -> HashMap<String, usize> {
    let mut uses = HashMap::new();
    for name in nodes.iter().flat_map(|node| &node.input) {
        *uses.entry(name.clone()).or_insert(0) += 1;
    }
    uses
}

fn borders(nodes: &[NodeProto]) -> Result<HashMap<String, usize>, GraphError> {
    let mut borders = HashMap::new();
    for node in nodes.iter().filter(|node| node.op_type == "QLinearConv") {
        let border = node.integers("pads", [0; 4])?.into_iter().max().unwrap_or(0);
        let entry = borders.entry(node.operand(0)?.to_string()).or_insert(0);
        *entry = border.max(*entry);
    }
    Ok(borders)
}

fn shape(node: &NodeProto, weights: &[usize]) -> Result<ConvShape, GraphError> {
    let &[output_channels, group_inputs, height, width] = weights else {
        return Err(node.problem("its weights do not have four dimensions"));
    };
    let strides = node.integers("strides", [1, 1])?;
    if strides[0] != strides[1] || node.integers("dilations", [1, 1])? != [1, 1] {
        return Err(node.problem("it has uneven strides or dilations"));
    }
    let groups = usize::try_from(node.integer("group", 1)).unwrap_or(0);
    Ok(ConvShape {
        input_channels: group_inputs * groups,
        output_channels,
        kernel: [height, width],
        stride: strides[0],
        padding: node.integers("pads", [0; 4])?,
        groups,
    })
}

/// How the captured layer lies: like its operands, without a border.
fn features_canvas(steps: &[Step]) -> Result<Canvas, GraphError> {
    let Some(Step::Features { operands, .. }) = steps.last() else {
        return Err(GraphError::NoOutput(FEATURES));
    };
    let mut canvases = operands.iter().filter_map(|(id, _)| steps.get(*id)?.output());
    let first = canvases.next().ok_or(GraphError::NoOutput(FEATURES))?;
    let first = Canvas { border: 0, ..first };
    if canvases.all(|canvas| Canvas { border: 0, ..canvas } == first) {
        Ok(first)
    } else {
        Err(GraphError::NoOutput(FEATURES))
    }
}

/// The captured layer as an input of the tail.
fn features_input(features: Canvas) -> ValueInfoProto {
    use tract_onnx::pb::tensor_proto::DataType;
    use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
    use tract_onnx::pb::{TensorShapeProto, TypeProto, type_proto};
    let dims = [1, features.channels, features.height, features.width];
    let dim = dims
        .iter()
        .map(|&side| Dimension {
            denotation: String::new(),
            value: Some(dimension::Value::DimValue(side as i64)),
        })
        .collect();
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(TensorShapeProto { dim }),
    };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: FEATURES.into(),
        r#type: Some(TypeProto { denotation: String::new(), value }),
        doc_string: String::new(),
    }
}
