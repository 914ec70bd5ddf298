"""One peer of the benchmark: a network on another runtime, run whenever it is asked to.

Usage: bench_peer.py --runtime onnxruntime|openvino|ncnn --model FILE --threads N --inputs FILE

Speaks lines of JSON. First it says `{"ready": {"runtime": ..., "logits": [...]}}` once it has
judged the first picture of INPUTS (little-endian float32, 1 x 1 x 224 x 224), or
`{"failed": reason}`. Then it answers each `{"run": N}` with `{"ns": [...]}`: the wall time of each
of N inferences in nanoseconds, after one that is not counted. It ends with its input.

Every runtime has its fastest settings for one picture at a time, and computes both outputs.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy

Run = Callable[[], list[float]]


def main() -> None:
    # Whatever a library prints must not get between the lines of the protocol.
    protocol = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtime", choices=RUNTIMES, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--inputs", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        picture = numpy.fromfile(arguments.inputs, dtype="<f4", count=224 * 224)
        picture = picture.reshape(1, 1, 224, 224)
        name, run = RUNTIMES[arguments.runtime](arguments.model, arguments.threads, picture)
        logits = [float(value) for value in run()]
    except Exception as error:  # The reason belongs into the table.
        print(json.dumps({"failed": f"{type(error).__name__}: {error}"}), file=protocol)
        sys.exit(1)
    print(json.dumps({"ready": {"runtime": name, "logits": logits}}), file=protocol)
    for line in sys.stdin:
        print(json.dumps({"ns": times(run, json.loads(line)["run"])}), file=protocol)


def times(run: Run, count: int) -> list[int]:
    """Wall time of each of `count` inferences in nanoseconds, after an uncounted one."""
    run()
    taken = []
    for _ in range(count):
        start = time.perf_counter_ns()
        run()
        taken.append(time.perf_counter_ns() - start)
    return taken


def onnx_runtime(model: Path, threads: int, picture: numpy.ndarray) -> tuple[str, Run]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs = {"input": picture}
    name = f"ONNX Runtime {onnxruntime.__version__}"
    return name, lambda: session.run(["logits", "cam_features"], inputs)[0][0]


def openvino(model: Path, threads: int, picture: numpy.ndarray) -> tuple[str, Run]:
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(picture, shared_memory=True))
    logits = compiled.output("logits")

    def run() -> list[float]:
        request.infer()
        return request.get_tensor(logits).data[0]

    return f"OpenVINO {openvino.__version__.split('-')[0]}", run


def ncnn(model: Path, threads: int, picture: numpy.ndarray) -> tuple[str, Run]:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.lightmode = True
    net.opt.use_winograd_convolution = True
    if net.load_param(str(model)) or net.load_model(str(model.with_suffix(".bin"))):
        raise RuntimeError(f"{model} cannot be loaded")
    # The Mat borrows the array's memory, which lives in the closure.
    array = numpy.ascontiguousarray(picture[0])
    pixels = ncnn.Mat(array)

    def run() -> list[float]:
        with net.create_extractor() as extractor:
            extractor.input("in0", pixels)
            # In the order of the ONNX graph: logits, cam_features.
            failed, logits = extractor.extract("out0")
            failed_too, _ = extractor.extract("out1")
            if failed or failed_too:
                raise RuntimeError("an output cannot be computed")
            return numpy.array(logits)

    return f"ncnn {ncnn.__version__}", run


RUNTIMES = {"onnxruntime": onnx_runtime, "openvino": openvino, "ncnn": ncnn}

if __name__ == "__main__":
    main()
