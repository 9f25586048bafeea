"""Classify picture files with an exported model: ONNX Runtime, NumPy and OpenCV, neither ptb nor torch.

ptb export RUN --format onnx -o model.onnx
python onnx_pictures.py model.onnx photos/*.png
"""

import json
import sys
from pathlib import Path

import onnxruntime
from reading import read

model, *files = sys.argv[1:]
sidecar = json.loads(Path(f"{model}.preprocessor.json").read_text())
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
for file in files:
    _, probabilities = session.run(None, {"inputs": read(sidecar, file)})
    best = int(probabilities[0].argmax())
    print(f"{file}\t{sidecar['class_names'][best]}\t{probabilities[0, best]:.4f}")
