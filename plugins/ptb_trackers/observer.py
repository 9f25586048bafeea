"""The observers: each starts the process that sends, and waits for it at the end."""

import atexit
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptb import Callback, RunRecord
from ptb_trackers.process import SenderProcess, remedy, replaced


class Tracker(Callback):
    """Sends what a run records, from a process of its own. No step does anything for it, so none takes longer."""

    def __init__(self, tracker: str, settings: Mapping[str, Any]) -> None:
        self._tracker, self._settings = tracker, dict(settings)
        self._process: SenderProcess | None = None

    def on_fit_start(self, trainer: Any) -> None:
        """Start the process."""
        if trainer.run is None:  # nothing is recorded
            return
        path = Path(trainer.run.path)
        label = label_of(path, self._tracker, self._settings)
        self._process = SenderProcess(path, label, self._tracker, self._settings, self._settings["flush_seconds"])
        # A run that is stopped gets no event after its summary is written.
        atexit.register(self._at_exit)

    def on_fit_end(self, trainer: Any) -> None:
        """Wait until all is sent, at most ``flush_seconds``.

        Warns:
            UserWarning: something was not sent, with what to type; or a secret was found in it.
        """
        for text in self._end():
            warnings.warn(text, stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: what was sent is noted in the run directory, where `ptb sync` reads it."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing is restored."""

    def _end(self) -> list[str]:
        process, self._process = self._process, None
        if process is None:
            return []
        atexit.unregister(self._at_exit)
        process.end()
        left, secrets = process.wait(), replaced(process.run, process.label)
        where = f"callbacks.{process.label}: "
        texts = [f"{where}{left}; {remedy(process.run, process.label)} sends the rest"] if left else []
        return texts + ([where + secrets] if secrets else [])

    def _at_exit(self) -> None:
        for text in self._end():
            print(f"warning: {text}", file=sys.stderr)


class TensorBoard(Tracker):
    """Writes TensorBoard event files, of which ``tensorboard --logdir`` draws curves.

    Args:
        logdir: folder in which the run gets a folder; empty for ``tensorboard`` in the run directory.
        flush_seconds: how long the end of a run waits, at most.
    """

    def __init__(self, *, logdir: str = "", flush_seconds: float = 5.0) -> None:
        super().__init__("tensorboard", {"logdir": logdir, "flush_seconds": flush_seconds})


class Mlflow(Tracker):
    """Sends to an MLflow server.

    Args:
        uri: server or store; empty for that in ``MLFLOW_TRACKING_URI``.
        experiment: in which the run is.
        flush_seconds: how long the end of a run waits, at most.

    Raises:
        ConfigError: nothing says which server.
    """

    def __init__(self, *, uri: str = "", experiment: str = "ptb", flush_seconds: float = 5.0) -> None:
        from ptb_trackers.mlflow import uri_of  # this imports no MLflow

        settings = {"uri": uri, "experiment": experiment, "flush_seconds": flush_seconds}
        uri_of(settings)
        super().__init__("mlflow", settings)


class Wandb(Tracker):
    """Sends to Weights & Biases.

    Args:
        project: in which the run is.
        entity: user or team that owns the project; empty for that of the login.
        mode: ``"online"``, ``"offline"``, or ``"auto"`` for what ``WANDB_MODE`` says.
        flush_seconds: how long the end of a run waits, at most.
    """

    def __init__(
        self, *, project: str = "ptb", entity: str = "", mode: str = "auto", flush_seconds: float = 5.0
    ) -> None:
        settings = {"project": project, "entity": entity, "mode": mode, "flush_seconds": flush_seconds}
        super().__init__("wandb", settings)


def label_of(run: Path, tracker: str, settings: Mapping[str, Any]) -> str:
    """The label in ``config.toml``; the name of the component where the run does not have it: it was added later."""
    tables = RunRecord(run).config.get("callbacks", {})
    labels = [label for label, table in tables.items() if table.get("name", label) == tracker]
    same = [label for label in labels if all(settings.get(key) == tables[label].get(key) for key in settings)]
    return next(iter([*same, *labels]), tracker)
