"""A float ONNX model as ncnn's own files, by ncnn's converter.

Usage: bench_pnnx.py FLOAT_ONNX OUT
Writes OUT/float.ncnn.param and OUT/float.ncnn.bin, with the converter's own optimisations.
"""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

source, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
# Found without importing the package, whose Python half needs PyTorch.
package = importlib.util.find_spec("pnnx").submodule_search_locations[0]
with tempfile.TemporaryDirectory() as scratch:
    # The converter writes many files beside its input.
    copy = shutil.copy(source, Path(scratch) / "float.onnx")
    command = [Path(package) / "pnnx", copy, "inputshape=[1,1,224,224]"]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"pnnx failed ({done.returncode}): {done.stderr}")
    for name in ["float.ncnn.param", "float.ncnn.bin"]:
        shutil.move(Path(scratch) / name, out / name)
