"""Predict the rows of a CSV file with an exported model: ONNX Runtime and NumPy, neither ptb nor torch.

ptb export RUN --format onnx -o model.onnx
python onnx_table.py model.onnx new.csv
"""

import json
import sys
from pathlib import Path

import onnxruntime
from reading import read

model, table = sys.argv[1:]
sidecar = json.loads(Path(f"{model}.preprocessor.json").read_text())
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
metadata = session.get_modelmeta().custom_metadata_map
_, values = session.run(None, {"inputs": read(sidecar, table)})
print(",".join(sidecar["class_names"] or json.loads(metadata["ptb.target_names"])))
for row in values:  # probabilities of classes, or numbers in the units of the target
    print(",".join(f"{value:.6g}" for value in row))
