//! `QLinearConv` as a tract operator: tract's own runs im2col, a matrix product and separate
//! requantization passes; this one hands the whole convolution to [`super::qconv`].

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::infer::{InferenceOp, TensorProxy};
use tract_onnx::tract_hir::internal::{Expansion, Solver, expand};

use super::qconv::{ConvShape, QConv, QConvParams};

/// Teaches an ONNX loader to use our convolution for every `QLinearConv`.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("QLinearConv", parse);
}

fn parse(
    _context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let group: i64 = node.get_attr_opt("group")?.unwrap_or(1);
    let dilations: TVec<usize> = node.get_attr_opt_tvec("dilations")?.unwrap_or(tvec!(1, 1));
    let strides: TVec<usize> = node.get_attr_opt_tvec("strides")?.unwrap_or(tvec!(1, 1));
    let pads: TVec<usize> = node.get_attr_opt_tvec("pads")?.unwrap_or(tvec!(0, 0, 0, 0));
    ensure!(group == 1 && dilations[..] == [1, 1], "grouped or dilated QLinearConv");
    ensure!(strides.len() == 2 && strides[0] == strides[1], "QLinearConv with uneven strides");
    ensure!(pads.len() == 4, "QLinearConv needs four pads");
    ensure!(node.input.len() == 9, "QLinearConv without bias");
    let padding = [pads[0], pads[1], pads[2], pads[3]];
    Ok((expand(Declared { stride: strides[0], padding }), vec![]))
}

/// The node as ONNX declares it; its operands become known when the graph is typed.
#[derive(Clone, Debug)]
struct Declared {
    stride: usize,
    padding: [usize; 4],
}

impl Declared {
    fn shape(&self, weights: &[usize]) -> TractResult<ConvShape> {
        let &[output_channels, input_channels, height, width] = weights else {
            bail!("QLinearConv weights must have four dimensions")
        };
        Ok(ConvShape {
            input_channels,
            output_channels,
            kernel: [height, width],
            stride: self.stride,
            padding: self.padding,
        })
    }
}

impl Expansion for Declared {
    fn name(&self) -> StaticName {
        "FusedQLinearConv".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> TractResult<()> {
        s.equals(&outputs[0].datum_type, i8::datum_type())?;
        s.given_2(&inputs[0].shape, &inputs[3].shape, move |s, x, w| {
            let x: TVec<usize> = x.iter().map(|d| d.to_usize()).collect::<Result<_, _>>()?;
            let w: TVec<usize> = w.iter().map(|d| d.to_usize()).collect::<Result<_, _>>()?;
            let shape = self.shape(&w)?;
            ensure!(x.len() == 4 && x[0] == 1, "QLinearConv needs a batch of one");
            let [height, width] = output_side(&shape, x[2], x[3]);
            let shape: TVec<TDim> =
                [1, shape.output_channels, height, width].iter().map(|d| d.to_dim()).collect();
            s.equals(&outputs[0].shape, shape)
        })
    }

    fn wire(
        &self,
        prefix: &str,
        target: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let constant = |at: usize| -> TractResult<Arc<Tensor>> {
            let fact = target.outlet_fact(inputs[at])?;
            fact.konst.clone().with_context(|| format!("operand {at} must be constant"))
        };
        let scalar = |at: usize| -> TractResult<f32> { first(constant(at)?.as_ref()) };
        let zero = |at: usize| -> TractResult<i8> { first(constant(at)?.as_ref()) };
        let (weights, scales, bias) = (constant(3)?, constant(4)?, constant(8)?);
        let weight_zero = constant(5)?;
        ensure!(
            weight_zero.try_as_plain_ram()?.as_slice::<i8>()?.iter().all(|&z| z == 0),
            "weights must be symmetric"
        );
        let shape = self.shape(weights.shape())?;
        let mut w_scales = scales.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        if w_scales.len() == 1 {
            w_scales = vec![w_scales[0]; shape.output_channels];
        }
        let convolution = QConv::new(&QConvParams {
            shape,
            x_scale: scalar(1)?,
            x_zero: zero(2)?,
            w_scales: &w_scales,
            y_scale: scalar(6)?,
            y_zero: zero(7)?,
            weights: weights.try_as_plain_ram()?.as_slice::<i8>()?,
            bias: bias.try_as_plain_ram()?.as_slice::<i32>()?,
        })?;
        let op = FusedQLinearConv {
            shape,
            convolution: Arc::new(convolution),
            scratch: Scratch::default(),
        };
        target.wire_node(prefix, op, &[inputs[0]])
    }
}

/// The only value of a scalar, or the first of equal ones.
fn first<T: Datum + Copy>(tensor: &Tensor) -> TractResult<T> {
    tensor.try_as_plain_ram()?.as_slice::<T>()?.first().copied().context("empty operand")
}

fn output_side(shape: &ConvShape, height: usize, width: usize) -> [usize; 2] {
    let [top, left, bottom, right] = shape.padding;
    let side = |size: usize, before: usize, after: usize, kernel: usize| {
        (size + before + after).checked_sub(kernel).map_or(0, |span| span / shape.stride + 1)
    };
    [side(height, top, bottom, shape.kernel[0]), side(width, left, right, shape.kernel[1])]
}

/// Working memory that outlives a run, so that later runs allocate nothing for it.
#[derive(Clone, Debug, Default)]
struct Scratch(Arc<Mutex<Vec<i16>>>);

/// The typed operator: weights packed, everything but the picture known.
#[derive(Clone, Debug)]
struct FusedQLinearConv {
    shape: ConvShape,
    convolution: Arc<QConv>,
    scratch: Scratch,
}

impl PartialEq for FusedQLinearConv {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.convolution, &other.convolution)
    }
}

impl Eq for FusedQLinearConv {}

impl Hash for FusedQLinearConv {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.convolution).hash(state);
    }
}

impl Op for FusedQLinearConv {
    fn name(&self) -> StaticName {
        "FusedQLinearConv".into()
    }

    op_as_typed_op!();
}

impl EvalOp for FusedQLinearConv {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let (height, width) = (input.shape()[2], input.shape()[3]);
        let [output_height, output_width] = output_side(&self.shape, height, width);
        let shape = [1, self.shape.output_channels, output_height, output_width];
        let mut output = Tensor::zero::<i8>(&shape)?;
        // A scratch left behind by a panicking run holds no state worth distrusting.
        let mut scratch = self.scratch.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.convolution.run(
            input.try_as_plain_ram()?.as_slice::<i8>()?,
            height,
            width,
            output.try_as_plain_ram_mut()?.as_slice_mut::<i8>()?,
            &mut scratch,
            1,
        )?;
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for FusedQLinearConv {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let x = inputs[0].shape.as_concrete().context("QLinearConv needs a fixed input size")?;
        let [height, width] = output_side(&self.shape, x[2], x[3]);
        Ok(tvec!(i8::fact([1, self.shape.output_channels, height, width])))
    }

    as_op!();
}
