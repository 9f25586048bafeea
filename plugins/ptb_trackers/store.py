"""What each tracker implements, and which class does."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from ptb_trackers.about import About, Outcome
from ptb_trackers.rows import Row
from ptb_trackers.state import State

STORES = {
    "tensorboard": "ptb_trackers.tensorboard:TensorBoardStore",
    "mlflow": "ptb_trackers.mlflow:MlflowStore",
    "wandb": "ptb_trackers.wandb:WandbStore",
}


class Store(Protocol):
    """Where the rows of a run go. Every method raises what the library raises; then it is opened once more.

    Attributes:
        destination: where that is, without passwords.
        confirms_late: what was sent is only known to be there after ``finish``.
    """

    destination: str
    confirms_late: bool

    def is_gone(self, id: str) -> bool:
        """Whether nothing is left of the run, so that all is sent anew."""

    def open(self, about: About, state: State, seconds: float) -> None:
        """Find the run, or make it, and write its id into ``state``; wait at most about so long."""

    def send(self, rows: Sequence[Row]) -> None:
        """Send rows, but for those that are there."""

    def finish(self, outcome: Outcome | None) -> None:
        """Send how the run ended, None where it goes on, and wait until all has arrived."""

    def close(self) -> None:
        """Let go of what is open; nothing more is sent."""


def load_store(tracker: str, settings: Mapping[str, Any], run: Path) -> Store:
    """The store of a tracker; this imports its library, which takes seconds."""
    module, _, name = STORES[tracker].partition(":")
    return cast(Store, getattr(importlib.import_module(module), name)(settings, run))
