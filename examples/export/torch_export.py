"""Predict with an exported model in PyTorch alone: no ptb, and no code of the model.

ptb export RUN --format torch-export -o model.pt2
python torch_export.py model.pt2 FILE...
"""

import json
import sys
from pathlib import Path

import torch
from reading import read

path, *files = sys.argv[1:]
sidecar = json.loads(Path(f"{path}.preprocessor.json").read_text())
about = {"ptb.json": ""}
model = torch.export.load(path, extra_files=about).module()
print(json.loads(about["ptb.json"])["output"])  # what the second output is: probabilities, values, cosine
for file in files:
    _, values = model(torch.from_numpy(read(sidecar, file)))
    print(file, values.tolist(), sep="\t")
