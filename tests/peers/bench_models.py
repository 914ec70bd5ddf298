"""The models of the benchmark's peers, made from the network that a bundle holds.

Usage: bench_models.py MODEL INPUTS OUT
MODEL is a bundle's int8 `model.onnx`; INPUTS holds little-endian float32 pictures of
1 x 1 x 224 x 224, on which ONNX Runtime's quantizer chooses activation ranges. Writes to OUT:

- `float.onnx`: the same network with its weights and activations back in floats;
- `qoperator.onnx`: quantized anew by ONNX Runtime's quantizer, integer operators, for itself;
- `qdq.onnx`: the same as quantize/dequantize pairs, which OpenVINO's ONNX reader takes.

So every contender computes the same function, and their answers can be compared.
"""

import sys
from pathlib import Path

import numpy
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

# Operators of floats, or that compute the same on floats as on steps of one scale.
UNCHANGED = {"Add", "Conv", "Flatten", "Gemm", "GlobalAveragePool", "MaxPool", "Relu"}


def main() -> None:
    source, inputs, out = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    model = in_floats(onnx.load(source))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, out / "float.onnx")
    pictures = numpy.fromfile(inputs, dtype="<f4").reshape(-1, 1, 1, 224, 224)
    prepared = str(out / "prepared.onnx")
    quant_pre_process(str(out / "float.onnx"), prepared, skip_symbolic_shape=True)
    for name, quant_format in [("qoperator", QuantFormat.QOperator), ("qdq", QuantFormat.QDQ)]:
        quantize_static(
            prepared,
            str(out / f"{name}.onnx"),
            Pictures(pictures),
            quant_format=quant_format,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
    (out / "prepared.onnx").unlink()


class Pictures(CalibrationDataReader):
    """Calibration pictures, one at a time."""

    def __init__(self, pictures: numpy.ndarray) -> None:
        self.rest = iter(pictures)

    def get_next(self) -> dict | None:
        picture = next(self.rest, None)
        return None if picture is None else {"input": picture}


def in_floats(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float network from one whose convolutions are `QLinearConv`, `ConvInteger` or `Conv`."""
    graph = model.graph
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    renamed: dict[str, str] = {}
    nodes, kept, done = [], [], set()
    for node in graph.node:
        if node.output[0] in done:
            continue
        operands = [renamed.get(name, name) for name in node.input]
        if node.op_type == "QuantizeLinear":
            renamed[node.output[0]] = operands[0]
        elif node.op_type == "QLinearConv":
            made, values = rounded_convolution(node, operands[0], constants)
            nodes += made
            kept += values
        elif node.op_type == "ConvInteger":
            parts = scaled_sum(node, graph)
            made, values = exact_convolution(parts, operands[0], graph, constants)
            nodes += made
            kept += values
            done.update(part.output[0] for part in parts)
        elif node.op_type in UNCHANGED:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[:] = operands
            nodes.append(copy)
            kept += [c for c in graph.initializer if c.name in operands]
        else:
            raise SystemExit(f"{node.op_type}: this benchmark does not know its float form")
    floats = helper.make_graph(nodes, graph.name, graph.input, graph.output, kept)
    return helper.make_model(floats, opset_imports=model.opset_import, ir_version=model.ir_version)


def rounded_convolution(node: onnx.NodeProto, x: str, constants: dict) -> tuple[list, list]:
    """`Conv` of a `QLinearConv`, and `Relu` where its steps begin at zero, with its constants."""
    x_scale, scale, zero, bias = (constants[node.input[i]] for i in (1, 4, 7, 8))
    scale = scale.astype(numpy.float64).reshape(-1)
    output = node.output[0]
    rectified = zero == numpy.iinfo(zero.dtype).min
    raw = f"{output}_raw" if rectified else output
    weight = scaled_weight(node, 3, scale, constants)
    made, values = convolution(node, x, weight, bias * scale * float(x_scale), raw)
    relu = [helper.make_node("Relu", [raw], [output], output)] if rectified else []
    return [*made, *relu], values


def exact_convolution(
    parts: list, x: str, graph: onnx.GraphProto, constants: dict
) -> tuple[list, list]:
    """`Conv` of the parts of a scaled sum, with its constants."""
    node, add, _, mul = parts
    scale = constants[mul.input[1]].astype(numpy.float64).reshape(-1)
    bias = constants[add.input[1]].reshape(-1)
    x_scale = step_scale(node.input[0], graph, constants)
    weight = scaled_weight(node, 1, scale / x_scale, constants)
    return convolution(node, x, weight, bias * scale, mul.output[0])


def scaled_sum(node: onnx.NodeProto, graph: onnx.GraphProto) -> list:
    """A `ConvInteger` and the nodes behind it that add its bias and scale its sums to floats."""
    parts = [node]
    for op_type in ("Add", "Cast", "Mul"):
        readers = [reader for reader in graph.node if parts[-1].output[0] in reader.input]
        if [reader.op_type for reader in readers] != [op_type]:
            raise SystemExit(f"{parts[-1].name}: not read by one {op_type} alone")
        parts += readers
    return parts


def step_scale(name: str, graph: onnx.GraphProto, constants: dict) -> float:
    """What one step of an int8 tensor is worth."""
    maker = next(node for node in graph.node if name in node.output)
    if maker.op_type == "MaxPool":
        return step_scale(maker.input[0], graph, constants)
    return float(constants[maker.input[{"QuantizeLinear": 1, "QLinearConv": 6}[maker.op_type]]])


def scaled_weight(
    node: onnx.NodeProto, index: int, scale: numpy.ndarray, constants: dict
) -> numpy.ndarray:
    """Weights that are the operand at `index`, two before their zero point; scaled by channel."""
    if constants[node.input[index + 2]].any():
        raise SystemExit(f"{node.name}: its weights are not symmetric")
    return constants[node.input[index]] * scale.reshape(-1, 1, 1, 1)


def convolution(
    node: onnx.NodeProto, x: str, weight: numpy.ndarray, bias: numpy.ndarray, output: str
) -> tuple[list, list]:
    """`Conv` with the window of `node`, with its constants."""
    values = [
        numpy_helper.from_array(weight.astype(numpy.float32), f"{output}.weight"),
        numpy_helper.from_array(bias.astype(numpy.float32), f"{output}.bias"),
    ]
    conv = helper.make_node("Conv", [x, values[0].name, values[1].name], [output], output)
    conv.attribute.extend(node.attribute)
    return [conv], values


if __name__ == "__main__":
    main()
