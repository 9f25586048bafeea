"""Records how weights and gradients are spread, for the plot `histograms`: do layers learn, die or explode?"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptb import Callback

FILE = "histograms.jsonl"
BINS = 40


class WeightHistograms(Callback):
    """Writes a line of ``histograms.jsonl`` in the run directory after every ``every`` epochs.

    Gradients are those of the last step of the epoch, as the optimizer used them. Values that are not finite are left
    out. A run without a directory records nothing.

    Args:
        every: epochs from one line to the next.
    """

    def __init__(self, *, every: int = 1) -> None:
        self.every = every

    def on_fit_start(self, trainer: Any) -> None:
        """Drop the lines of steps that a resumed run takes again."""
        path = _file(trainer)
        if path is None or not path.is_file():
            return
        step, kept = trainer.state.step, []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                known = json.loads(line)["step"] <= step
            except (ValueError, TypeError, KeyError):
                break  # cut off by a crash
            if known:
                kept.append(line + "\n")
        path.write_text("".join(kept), encoding="utf-8")

    def on_epoch_end(self, trainer: Any) -> None:
        """Add a line."""
        path, state = _file(trainer), trainer.state
        if path is None or state.epoch % self.every:
            return
        model = trainer.model  # a copy, made once
        weights, gradients = {}, {}
        for name, parameter in model.named_parameters():
            weights[name] = _histogram(parameter.detach())
            if parameter.grad is not None:
                gradients[name] = _histogram(parameter.grad)
        row = {"step": state.step, "epoch": state.epoch, "weights": weights, "gradients": gradients}
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")


def _file(trainer: Any) -> Path | None:
    return None if trainer.run is None else Path(trainer.run.path) / FILE


def _histogram(values: Tensor) -> dict[str, Any]:
    """The range of the finite values and how many lie in each of 40 equal parts of it."""
    values = values.to_dense() if values.is_sparse else values
    values = values.flatten().float().cpu()
    values = values[values.isfinite()]
    if not len(values):
        return {"low": 0.0, "high": 0.0, "counts": [0] * BINS}
    low, high = (float(each) for each in values.aminmax())
    counts = torch.histc(values, BINS, low, high) if high > low else torch.tensor([float(len(values))])
    return {"low": low, "high": high, "counts": [int(each) for each in counts.tolist()]}
