"""Observers look at a training and cannot change it: they get copies, and their errors are reported once."""

import copy
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ptb.errors import one_line
from ptb.seeding import GlobalGenerators
from ptb.training.callbacks import Listeners
from ptb.training.state import TrainState, component_state
from ptb.training.step import StepOutput

if TYPE_CHECKING:
    from ptb.training.trainer import Trainer

GIVEN_AS_IT_IS = (int, float, str, Path, BaseException, type(None))


class Observers:
    """Calls observers, given by label, so that none of them changes the training."""

    def __init__(self, observers: Mapping[str, object]) -> None:
        self.components = dict(observers)  # others may be added before the training begins
        self._generators = GlobalGenerators()
        self._failed: set[str] = set()

    def notify(self, event: str, listeners: Listeners, trainer: "Trainer", *arguments: Any) -> None:
        """Call the methods of observers that listen to an event; each gets copies of its own."""
        gradients = torch.is_grad_enabled()
        processes = trainer.objective.processes
        with self._generators.preserved(trainer.device), processes.closed() if processes else nullcontext():
            for label, method in listeners:
                self._guarded(label, event, method, view_of(trainer), *map(_view, arguments))
                if torch.is_grad_enabled() != gradients:
                    torch.set_grad_enabled(gradients)

    def state_dict(self, trainer: "Trainer") -> dict[str, Any]:
        """The state of each by its label; one that raises is left out."""
        with self._generators.preserved(trainer.device):
            states = {
                label: self._guarded(label, "state_dict", component_state, observer)
                for label, observer in self.components.items()
            }
        return {label: state for label, state in states.items() if state is not None}

    def _guarded(self, label: str, event: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call what is an observer's; what it raises is reported once for each observer."""
        try:
            return function(*arguments)
        except (Exception, SystemExit) as error:  # a component may raise anything
            if label not in self._failed:
                self._failed.add(label)
                warnings.warn(
                    f"callbacks.{label} failed in {event}: {one_line(error)}; training goes on, and its further errors "
                    "are not shown",
                    stacklevel=2,
                )


class View:
    """What an observer sees of an object: attributes that are copied when it asks for them, and some as they are."""

    _copied: tuple[str, ...] = ()

    def __init__(self, source: object, *copied: str, **shown: Any) -> None:
        # A closure, not an attribute: the training itself is not to be reached from here by accident.
        self._copy_of: Callable[[str], Any] = lambda name: _view(getattr(source, name))
        self._copied = copied
        vars(self).update(shown)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise AttributeError(f"an observer cannot set '{name}': it only looks; a callback of role='actor' can")
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in self._copied:
            seen = (*self._copied, *(each for each in vars(self) if not each.startswith("_")))
            raise AttributeError(f"an observer sees {', '.join(seen)}, not '{name}'")
        return self._copy_of(name)


def view_of(trainer: "Trainer") -> View:
    """What an observer sees of a training."""
    return View(
        trainer,
        *("model", "optimizer", "scheduler", "state", "settings", "device"),
        request_checkpoint=lambda label: trainer.request_checkpoint(str(label)),
        run=trainer.run,
    )


def _copy(value: Any) -> Any:
    try:
        copied = copy.deepcopy(value)
        if isinstance(value, nn.Module):  # a parameter leaves its gradient behind when it is copied
            for parameter, other in zip(value.parameters(), copied.parameters(), strict=True):
                other.grad = None if parameter.grad is None else parameter.grad.detach().clone()
        return copied
    except Exception:  # a component may hold what cannot be copied
        return copy.deepcopy(value.state_dict())


def _view(value: Any) -> Any:
    """What an observer gets for a value: what has fields can be looked at, other things are copied."""
    if isinstance(value, TrainState):  # which goes on
        value = copy.copy(value)
    if isinstance(value, StepOutput | TrainState):
        return View(value, *(each.name for each in fields(value)))
    return value if isinstance(value, GIVEN_AS_IT_IS) else _copy(value)
