"""For a second opinion on which step was the best: keeps one more checkpoint, by a figure of your own choice."""

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from ptb import Callback, ConfigError


class BestCheckpoint(Callback):
    """Keeps the checkpoint of the best evaluation so far. The first of equals wins, and NaN never does.

    Args:
        monitor: the figure, ``SPLIT/LABEL`` or ``SPLIT/LABEL/FIGURE``.
        mode: ``"min"`` or ``"max"``.
        label: of the checkpoint; empty makes one of the figure's name: ``val-accuracy`` for ``val/accuracy``.
    """

    def __init__(self, *, monitor: str, mode: Literal["min", "max"], label: str = "") -> None:
        self.monitor = monitor
        self.mode = mode
        self.label = label or re.sub(r"[^a-z0-9]+", "-", monitor.lower()).strip("-")
        self.value = math.nan

    def on_evaluation(self, trainer: Any, split: str, metrics: Mapping[str, float]) -> None:
        """Ask for a checkpoint where the figure is better than ever.

        Raises:
            ConfigError: the split has no such figure.
        """
        wanted, _, figure = self.monitor.partition("/")
        if split != wanted:
            return
        if figure not in metrics:
            there = ", ".join(f"{split}/{name}" for name in metrics)
            raise ConfigError(f"best-checkpoint: nothing reports {self.monitor}; reported are {there}")
        value = metrics[figure]
        improved = value < self.value if self.mode == "min" else value > self.value
        if improved or (math.isnan(self.value) and not math.isnan(value)):
            self.value = value
            trainer.request_checkpoint(self.label)

    def on_fit_end(self, trainer: Any) -> None:
        """Do not leave without a word where there is no checkpoint.

        Raises:
            ConfigError: the figure was never reported.
        """
        reported = trainer.state.metrics
        if self.monitor not in reported:
            there = ", ".join(reported) or "no figures"
            raise ConfigError(f"best-checkpoint: nothing reported {self.monitor}; reported were {there}")

    def state_dict(self) -> dict[str, Any]:
        """The best value so far; NaN before the first."""
        return {"value": self.value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it."""
        self.value = float(state["value"])
