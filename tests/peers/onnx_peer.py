"""ONNX's own checker and ONNX Runtime as independent judges of an exported model.

Usage: onnx_peer.py MODEL INPUTS COUNT
INPUTS holds COUNT little-endian float32 pictures of 1 x 1 x 224 x 224.
Prints a JSON list of logits, one list per picture.
"""

import json
import sys

import numpy
import onnx
import onnxruntime

model, inputs, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
onnx.checker.check_model(model, full_check=True)
options = onnxruntime.SessionOptions()
# The graph as it is written: the levels above fuse quantized operators into others.
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
pictures = numpy.fromfile(inputs, dtype="<f4").reshape(count, 1, 1, 224, 224)
logits = [session.run(["logits"], {"input": picture})[0][0].tolist() for picture in pictures]
print(json.dumps(logits))
