"""Observers look at a training and cannot change it: they get copies, and their errors are reported once."""

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ptb.errors import one_line
from ptb.seeding import GlobalGenerators
from ptb.training.callbacks import EVENTS, listeners
from ptb.training.state import component_state
from ptb.training.step import StepOutput

if TYPE_CHECKING:
    from ptb.training.trainer import Trainer


class Observers:
    """Calls observers so that none of them changes the training.

    Args:
        observers: by label, in the order in which they are called.
    """

    def __init__(self, observers: Mapping[str, object]) -> None:
        self.components = dict(observers)
        self.methods = {event: listeners(self.components, event) for event in EVENTS}
        self._generators = GlobalGenerators()
        self._failed: set[str] = set()

    def notify(self, event: str, trainer: "Trainer", *arguments: Any) -> None:
        """Call the observers that listen to an event; each gets copies of its own."""
        gradients = torch.is_grad_enabled()
        with self._generators.preserved(trainer.device):
            for label, method in self.methods[event]:
                try:
                    method(TrainerView(trainer), *map(_view, arguments))
                except (Exception, SystemExit) as error:  # a component may raise anything
                    self._report(label, event, error)
                torch.set_grad_enabled(gradients)

    def state_dict(self, trainer: "Trainer") -> dict[str, Any]:
        """The state of each by its label; one that raises is reported, and left out."""
        states = {}
        with self._generators.preserved(trainer.device):
            for label, observer in self.components.items():
                try:
                    states[label] = component_state(observer)
                except (Exception, SystemExit) as error:
                    self._report(label, "state_dict", error)
        return states

    def _report(self, label: str, event: str, error: BaseException) -> None:
        if label not in self._failed:
            self._failed.add(label)
            warnings.warn(
                f"callbacks.{label} failed in {event}: {one_line(error)}; training goes on, and its further errors are "
                "not shown",
                stacklevel=2,
            )


class TrainerView:
    """What an observer sees of a training.

    ``model``, ``optimizer``, ``scheduler`` and ``state`` are copies, made when it asks for them; of what cannot be
    copied it gets the ``state_dict``.
    """

    def __init__(self, trainer: "Trainer") -> None:
        # Closures, not attributes: the training itself is not to be reached from here by accident.
        self._copy_of = lambda name: _copy(getattr(trainer, name))
        self.request_checkpoint = lambda label: trainer.request_checkpoint(str(label))
        self.settings = trainer.settings
        self.device = trainer.device

    model = property(lambda self: self._copy_of("model"))
    optimizer = property(lambda self: self._copy_of("optimizer"))
    scheduler = property(lambda self: self._copy_of("scheduler"))
    state = property(lambda self: self._copy_of("state"))


class OutputView:
    """What an observer sees of a step: a ``StepOutput`` whose ``loss`` is a copy, made when it asks for it."""

    def __init__(self, output: StepOutput) -> None:
        self._loss: Callable[[], Tensor] = output.loss.clone
        self.lr = output.lr
        self.samples = output.samples
        self.stepped = output.stepped

    @property
    def loss(self) -> Tensor:
        """The mean over all samples of the step, a scalar."""
        return self._loss()


def _copy(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # a component may hold what cannot be copied
        return copy.deepcopy(value.state_dict())


def _view(argument: Any) -> Any:
    if isinstance(argument, StepOutput):
        return OutputView(argument)
    return dict(argument) if isinstance(argument, Mapping) else argument
