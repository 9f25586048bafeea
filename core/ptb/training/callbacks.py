"""What a callback may have, and which of it a callback has."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptb.errors import did_you_mean

if TYPE_CHECKING:
    from ptb.training.step import StepOutput

EVENTS = (
    "on_fit_start",
    "on_epoch_start",
    "on_step_end",
    "on_evaluation",
    "on_epoch_end",
    "on_checkpoint",
    "on_fit_end",
    "on_exception",
)
ACTOR_EVENTS = ("around_step", "evaluation_weights")

Listeners = list[tuple[str, Callable[..., Any]]]
"""Methods that receive an event, each with the label or the section of its callback."""


class Callback:
    """Receives training events. Deriving from it is optional: any object with some of these methods fits.

    An observer only looks: what it reaches is a copy, made when it asks for it. An actor gets the training itself and
    may change it; it may also have ``around_step`` and ``evaluation_weights``. ``on_fit_start`` and ``on_epoch_start``
    are called again after a resume; random numbers drawn there do not move those of the steps.
    """

    def on_fit_start(self, trainer: Any) -> None:
        """Training begins, or resumes."""

    def on_epoch_start(self, trainer: Any) -> None:
        """An epoch begins, or resumes inside; the model is in train mode."""

    def on_step_end(self, trainer: Any, output: "StepOutput") -> None:
        """An optimizer step is done."""

    def on_evaluation(self, trainer: Any, split: str, metrics: Mapping[str, float]) -> None:
        """The split ``val`` was evaluated; ``metrics`` holds its figures, ``{"loss": 0.1, "accuracy": 0.98}``.

        Those of the test split are in ``trainer.state.metrics`` when observers get ``on_fit_end``.
        """

    def on_epoch_end(self, trainer: Any) -> None:
        """An epoch is over."""

    def on_checkpoint(self, trainer: Any, path: Path) -> None:
        """A checkpoint was saved."""

    def on_fit_end(self, trainer: Any) -> None:
        """Training has come to its end; not called where it was stopped before.

        For observers the run directory is whole then: ``trainer.run.path`` is it (``trainer.run`` is None where nothing
        is recorded), and ``trainer.run.record_predictions("test")`` adds what is predicted for each sample.
        """

    def on_exception(self, trainer: Any, error: BaseException) -> None:
        """Training ends with this error."""


def listeners(callbacks: Mapping[str, object], event: str) -> Listeners:
    """The methods for an event, each with its label; the empty ones of ``Callback`` are left out."""
    empty = getattr(Callback, event, None)
    found = []
    for label, callback in callbacks.items():
        method = getattr(callback, event, None)
        if callable(method) and (empty is None or getattr(method, "__func__", None) is not empty):
            found.append((label, method))
    return found


def misfit(callback: object, role: str | None) -> str:
    """Why an object is no callback of this role, or nothing. A misspelt event would never be called, and not be missed.

    It has a method for at least one event, and none that begins with ``on_`` for anything else.
    """
    events = (*EVENTS, *ACTOR_EVENTS) if role == "actor" else EVENTS
    kind = type(callback)
    named = [name for name in dir(kind) if name.startswith("on_") or name in ACTOR_EVENTS]
    for name in named:
        if name not in events and callable(getattr(kind, name, None)):
            meant = did_you_mean(name, events)
            return f"it has {name}, which is no event of an {role}{meant}; there are {', '.join(events)}"
    if not any(callable(getattr(callback, event, None)) for event in events):
        return f"it gives {kind.__name__}, which has no method for any of {', '.join(events)}"
    return ""
