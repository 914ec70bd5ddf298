//! From an int8 ONNX graph to a [`Program`] for its integer part and a graph for the rest.
//!
//! The integer part begins where the picture is quantized and ends at `cam_features`, the captured
//! layer in real numbers. Fused on the way:
//!
//! - `QLinearConv` and the 2x2 `MaxPool` behind it;
//! - `Conv` of the picture or of real numbers, where a model keeps a layer in float;
//! - `ConvInteger`, `Add` of a bias, `Cast`, `Mul` by scales, `Add` of another such branch, `Relu`,
//!   `QuantizeLinear`.
//!
//! A node that is none of these is refused, never run in some slower way in silence.

use std::collections::HashMap;

use tract_onnx::pb::{ModelProto, NodeProto, ValueInfoProto};

use super::onnx::{Constants, GraphError, Node};
use super::pool::Pool;
use super::program::{Features, Id, MaxPool, Program, Step};
use super::qconv::{Affine, Canvas, ConvShape, FloatParams, Kernel, Output, QConv, QConvParams};

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
    let (end, features) = builder.build(&graph.node)?;
    let Builder { constants, steps, .. } = builder;
    graph.node.drain(..end);
    graph.initializer = constants.into_rest().collect();
    graph.input = vec![features_input(features.canvas)];
    Ok(Fused { program: Program::new(steps, features, pool), tail: model })
}

/// What a name of the graph stands for.
#[derive(Clone, Copy, Debug)]
enum Value {
    /// The network's input.
    Picture,
    /// What a step computes, in steps.
    Steps(Id),
    /// What a step computes in steps, in real numbers of this scale.
    Scaled(Id, f32),
    /// The sums of the `ConvInteger` at this position of the graph.
    Sums(usize),
    /// Sums with the bias at this position's second operand.
    Biased(usize, usize),
    /// What a step computes, in real numbers.
    Reals(Id),
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
    fn build(&mut self, nodes: &[NodeProto]) -> Result<(usize, Features), GraphError> {
        for (index, node) in nodes.iter().enumerate() {
            let value = match node.op_type.as_str() {
                "QuantizeLinear" => self.quantize(node)?,
                "QLinearConv" => self.linear_convolution(node)?,
                "ConvInteger" => Value::Sums(index),
                "Conv" => self.float_convolution(node)?,
                "Add" => self.add(index, node)?,
                "Cast" => self.value(node, 0)?,
                "Mul" => self.real_convolution(nodes, node)?,
                "MaxPool" => self.max_pool(node)?,
                "DequantizeLinear" => self.dequantize(node)?,
                "Relu" => self.relu(node)?,
                _ => return Err(node.problem("it stands in the integer part of the network")),
            };
            if node.result()? == FEATURES {
                return Ok((index + 1, self.features(node, value)?));
            }
            self.values.insert(node.result()?.into(), value);
        }
        Err(GraphError::NoOutput(FEATURES))
    }

    fn quantize(&mut self, node: &NodeProto) -> Result<Value, GraphError> {
        let to = self.affine(node, 1)?;
        match self.value(node, 0)? {
            Value::Picture => {
                let [height, width] = self.picture;
                let border = self.border(node)?;
                let canvas = Canvas { height, width, channels: 1, border };
                Ok(Value::Steps(self.push(Step::Quantize { canvas, to })))
            }
            Value::Reals(id) => {
                let border = self.border(node)?;
                let convolution = self.convolution(node, id)?;
                if !convolution.fuse_quantize(to) {
                    return Err(node.problem("its convolution's output is quantized already"));
                }
                convolution.set_border(border);
                Ok(Value::Steps(id))
            }
            _ => Err(node.problem("it must quantize the picture or a convolution's output")),
        }
    }

    /// `QLinearConv`.
    fn linear_convolution(&mut self, node: &NodeProto) -> Result<Value, GraphError> {
        let x = self.affine(node, 1)?;
        let y = self.affine(node, 6)?;
        let channels = self.constants.dims(node.operand(3)?)?.first().copied().unwrap_or(0);
        let mut w_scales = self.constants.floats(node.operand(4)?)?;
        if let [scale] = w_scales[..] {
            w_scales = vec![scale; channels];
        }
        let bias = match node.operand(8) {
            Ok(name) => self.constants.integers(name)?,
            Err(_) => vec![0; channels],
        };
        let output = Output::Steps { x_scale: x.scale, w_scales: &w_scales, y };
        let id = self.pack(node, [3, 5], x.zero, &bias, output)?;
        let border = self.border(node)?;
        self.convolution(node, id)?.set_border(border);
        Ok(Value::Steps(id))
    }

    /// `ConvInteger`, bias, `Cast`, and this `Mul`.
    fn real_convolution(
        &mut self,
        nodes: &[NodeProto],
        node: &NodeProto,
    ) -> Result<Value, GraphError> {
        let (sums, bias) = match self.value(node, 0)? {
            Value::Biased(sums, add) => {
                (&nodes[sums], Some(self.constants.integers(nodes[add].operand(1)?)?))
            }
            Value::Sums(sums) => (&nodes[sums], None),
            _ => return Err(node.problem("it does not stand behind a ConvInteger")),
        };
        let scales = self.constants.floats(node.operand(1)?)?;
        let bias = bias.unwrap_or_else(|| vec![0; scales.len()]);
        let zero = self.constants.step(sums.operand(2)?)?;
        self.pack(sums, [1, 3], zero, &bias, Output::Reals(&scales)).map(Value::Reals)
    }

    /// `Conv`.
    fn float_convolution(&mut self, node: &NodeProto) -> Result<Value, GraphError> {
        let from = match self.value(node, 0)? {
            Value::Picture => self.picture(node)?,
            Value::Reals(id) => id,
            _ => return Err(node.problem("its input is not in real numbers")),
        };
        let shape = shape(node, &self.constants.dims(node.operand(1)?)?)?;
        let weights = &self.constants.floats(node.operand(1)?)?;
        let bias = match node.operand(2) {
            Ok(name) => self.constants.floats(name)?,
            Err(_) => vec![0.0; shape.output_channels],
        };
        let params = FloatParams { shape, weights, bias: &bias };
        // Other real numbers than the picture's have no border.
        let input = match self.steps[from] {
            Step::Picture(canvas) => canvas,
            ref step => Canvas { border: 0, ..step.output() },
        };
        let convolution = QConv::in_floats(&params, input, self.kernel)
            .map_err(|error| node.problem(error.to_string()))?;
        let convolution = Box::new(convolution);
        Ok(Value::Reals(self.push(Step::Convolution { convolution, from, skip: None })))
    }

    /// The picture in real numbers, with the border that a node needs.
    fn picture(&mut self, node: &NodeProto) -> Result<Id, GraphError> {
        let [height, width] = self.picture;
        let border = node.integers("pads", [0; 4])?.into_iter().max().unwrap_or(0);
        Ok(self.push(Step::Picture(Canvas { height, width, channels: 1, border })))
    }

    /// Packs the convolution of a node whose weights and their zero points are these operands.
    fn pack(
        &mut self,
        node: &NodeProto,
        [weights, zeros]: [usize; 2],
        x_zero: i8,
        bias: &[i32],
        output: Output<'_>,
    ) -> Result<Id, GraphError> {
        let Value::Steps(from) = self.value(node, 0)? else {
            return Err(node.problem("its input is not in steps"));
        };
        let weights = node.operand(weights)?;
        if self.constants.steps(node.operand(zeros)?)?.iter().any(|zero| *zero != 0) {
            return Err(node.problem("its weights are not symmetric"));
        }
        let shape = shape(node, &self.constants.dims(weights)?)?;
        let steps = &self.constants.steps(weights)?;
        let params = QConvParams { shape, x_zero, weights: steps, bias, output };
        let input = self.steps[from].output();
        let convolution = QConv::new(&params, input, 0, self.kernel)
            .map_err(|error| node.problem(error.to_string()))?;
        // Packed weights replace the graph's: large models must not be held twice.
        if self.uses.get(weights) == Some(&1) {
            self.constants.remove(weights)?;
        }
        let convolution = Box::new(convolution);
        Ok(self.push(Step::Convolution { convolution, from, skip: None }))
    }

    fn max_pool(&mut self, node: &NodeProto) -> Result<Value, GraphError> {
        let (id, in_reals) = match self.value(node, 0)? {
            Value::Steps(id) => (id, false),
            Value::Reals(id) => (id, true),
            _ => return Err(node.problem("its input is neither in steps nor in real numbers")),
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
        let output = self.steps[id].output();
        let input = if in_reals { Canvas { border: 0, ..output } } else { output };
        if !fits
            || input.height + top + bottom < kernel[0]
            || input.width + left + right < kernel[1]
        {
            return Err(node.problem("its window does not fit"));
        }
        let border = if in_reals { 0 } else { self.border(node)? };
        if kernel == [2, 2]
            && strides == [2, 2]
            && padding == [0; 4]
            && self.is_read_once(node, 0)
            && let Some(Step::Convolution { convolution, .. }) = self.steps.get_mut(id)
            && convolution.fuse_max_pool()
        {
            convolution.set_border(border);
            return Ok(Value::Steps(id));
        }
        let side = |size: usize, kernel: usize| (size - kernel) / strides[0] + 1;
        let output = Canvas {
            height: side(input.height + top + bottom, kernel[0]),
            width: side(input.width + left + right, kernel[1]),
            channels: input.channels,
            border,
        };
        let (stride, padding) = (strides[0], [top, left]);
        let pool = MaxPool { from: id, input, in_reals, output, kernel, stride, padding };
        let pooled = self.push(Step::MaxPool(pool));
        Ok(if in_reals { Value::Reals(pooled) } else { Value::Steps(pooled) })
    }

    fn dequantize(&mut self, node: &NodeProto) -> Result<Value, GraphError> {
        match self.value(node, 0)? {
            Value::Steps(id) => Ok(Value::Scaled(id, self.affine(node, 1)?.scale)),
            _ => Err(node.problem("its input is not in steps")),
        }
    }

    /// A bias, or the sum of two branches, fused with the convolution that computes the later one.
    fn add(&mut self, index: usize, node: &NodeProto) -> Result<Value, GraphError> {
        let left = self.value(node, 0)?;
        if let Value::Sums(sums) = left {
            return Ok(Value::Biased(sums, index));
        }
        let (Value::Reals(left), Value::Reals(right)) = (left, self.value(node, 1)?) else {
            return Err(node.problem("its operands are not the outputs of convolutions"));
        };
        let (skip, branch) = (left.min(right), left.max(right));
        // Whoever else reads the branch must not be given the sum.
        let is_free = self.is_read_once(node, usize::from(right > left));
        let fused = is_free && skip != branch && self.convolution(node, branch)?.fuse_add();
        match &mut self.steps[branch] {
            Step::Convolution { skip: operand, .. } if fused => *operand = Some(skip),
            _ => return Err(node.problem("its later operand is used otherwise, too")),
        }
        Ok(Value::Reals(branch))
    }

    fn relu(&mut self, node: &NodeProto) -> Result<Value, GraphError> {
        if let Value::Reals(id) = self.value(node, 0)?
            && self.is_read_once(node, 0)
            && self.convolution(node, id)?.fuse_relu()
        {
            return Ok(Value::Reals(id));
        }
        Err(node.problem("it does not stand alone behind a convolution in real numbers"))
    }

    fn features(&self, node: &NodeProto, value: Value) -> Result<Features, GraphError> {
        let (from, scale) = match value {
            Value::Scaled(from, scale) => (from, Some(scale)),
            Value::Reals(from) => (from, None),
            _ => return Err(node.problem("the captured layer is not in real numbers")),
        };
        Ok(Features { from, canvas: self.steps[from].output(), scale })
    }

    fn push(&mut self, step: Step) -> Id {
        self.steps.push(step);
        self.steps.len() - 1
    }

    fn convolution(&mut self, node: &NodeProto, id: Id) -> Result<&mut QConv, GraphError> {
        match self.steps.get_mut(id) {
            Some(Step::Convolution { convolution, .. }) => Ok(convolution),
            _ => Err(node.problem("it does not stand behind a convolution")),
        }
    }

    fn value(&self, node: &NodeProto, operand: usize) -> Result<Value, GraphError> {
        let name = node.operand(operand)?;
        let unknown = || node.problem(format!("`{name}` is computed nowhere before"));
        self.values.get(name).copied().ok_or_else(unknown)
    }

    /// The scale at an operand, and the zero point behind it.
    fn affine(&self, node: &NodeProto, operand: usize) -> Result<Affine, GraphError> {
        let scale = self.constants.float(node.operand(operand)?)?;
        let zero = self.constants.step(node.operand(operand + 1)?)?;
        let affine = Affine { scale, zero };
        affine.is_proper().then_some(affine).ok_or_else(|| node.problem("a scale is not usable"))
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
    for node in nodes.iter().filter(|node| is_convolution(node)) {
        let border = node.integers("pads", [0; 4])?.into_iter().max().unwrap_or(0);
        let entry = borders.entry(node.operand(0)?.to_string()).or_insert(0);
        *entry = border.max(*entry);
    }
    Ok(borders)
}

fn is_convolution(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "QLinearConv" | "ConvInteger")
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
