"""How a run ended."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        output: the run directory.
        status: ``"finished"`` or ``"interrupted"``.
        epoch: whole epochs.
        step: optimizer steps.
        best_step: the step with the best monitored figure, None without one.
        stopped_early: whether patience ran out, or a callback ended the run.
        metrics: the last figures, ``{"test/accuracy": 0.98}``.
        intervals: of metrics of the test split that are means over samples, the 95 % interval: low and high.
        test_step: the step whose weights the test split was measured with, None where it was not.
        weights_sha256: of the weights at the last step.
        parameters: number of values in the model's parameters.
        train_seconds: spent in training steps.
        samples_per_second: over them.
        skipped_steps: steps whose fp16 gradients overflowed.
        model: the trained network.
    """

    output: Path
    status: str
    epoch: int
    step: int
    best_step: int | None
    stopped_early: bool
    metrics: dict[str, float]
    intervals: dict[str, list[float]]
    test_step: int | None
    weights_sha256: str
    parameters: int
    train_seconds: float
    samples_per_second: float
    skipped_steps: int
    model: nn.Module

    def summary(self) -> dict[str, Any]:
        """The entries of ``summary.json``."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("output", "model")}


def figures(values: Mapping[str, float], gap: str = "  ") -> str:
    """Figures as people read them: ``loss 0.0890  accuracy 0.9741``."""
    return gap.join(f"{label} {value:.4f}" for label, value in values.items())
