"""What a training is made of beside its objects, and how the state of objects is taken and put back.

State follows PyTorch's convention: what has to survive a stop is in ``state_dict()``, and in ``get_extra_state`` of
modules. Objects without it are saved by their plain attributes: numbers, texts, tensors and containers of them.
"""

import copy
import math
import random
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ptb.seeding import preserve_rng_state

_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, np.ndarray, np.generic)
_GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
_NOT_SAVED = ("should_stop", "stop_signal")
_OR_NONE: dict[str, tuple[type, ...]] = {"best_step": (int, type(None)), "lr": (float, type(None))}
_OF_MODULES = set(vars(nn.Module()))  # what torch keeps in every module


@dataclass
class TrainState:
    """How far a training has come; all of it is in a checkpoint but what asks for a stop."""

    epoch: int = 0  # whole epochs
    step: int = 0  # optimizer steps
    epoch_step: int = 0  # steps of the epoch that is going on
    samples: int = 0  # training samples seen
    rows_logged: int = 0  # rows in metrics.jsonl
    last_event_step: int = 0  # the last step after which something was due and is done
    seconds: float = 0.0  # spent on batches and steps, without callbacks, evaluations and checkpoints
    epoch_start_time: float = 0.0  # ``seconds`` when the epoch began
    lr: float | None = 0.0  # learning rate of the last step; None if the optimizer has none
    metrics: dict[str, float] = field(default_factory=dict)  # the newest figures: {"val/accuracy": 0.98}
    best_step: int | None = None  # the step with the best monitored figure
    best_value: float = math.nan  # that figure
    evals_since_best: int = 0
    skipped_steps: int = 0  # their fp16 gradients overflowed, and the weights stayed as they were
    stopped_early: bool = False  # patience ran out, or an actor has ended the run
    labels: dict[str, int] = field(default_factory=dict)  # the steps of kept checkpoints, "best" among them
    should_stop: bool = False  # set it to stop after this step, saved
    stop_signal: int = 0  # the number of a signal that asks for that

    def advance(self, samples: int, lr: float | None, seconds: float) -> None:
        """Count a step."""
        self.step += 1
        self.epoch_step += 1
        self.samples += samples
        self.lr = lr
        self.seconds += seconds

    def end_epoch(self) -> None:
        """Count an epoch."""
        self.epoch += 1
        self.epoch_step = 0

    def state_dict(self) -> dict[str, Any]:
        """All but what asks for a stop."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _NOT_SAVED}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it; a ``ValueError`` says what does not fit, for the state may be that of another version."""
        expected = TrainState().state_dict()
        if state.keys() != expected.keys():
            raise ValueError(f"train_state has {sorted(state)}, expected {sorted(expected)}")
        for name, value in state.items():
            kinds = _OR_NONE.get(name, (type(expected[name]),))
            if type(value) not in kinds or (type(value) is int and value < 0):
                raise ValueError(f"train_state.{name} is {value!r}")
            setattr(self, name, copy.copy(value))


def component_state(component: Any) -> Any:
    """The state of a loss, optimizer, metric, scheduler or callback: its ``state_dict()``, else its plain attributes.

    A module has both, because metrics keep tensors that are in no ``state_dict``, also where that is their own.
    """
    if isinstance(component, nn.Module):
        attributes = {name: _attributes(module) for name, module in component.named_modules()}
        return {"state_dict": component.state_dict(), "attributes": attributes}
    return component.state_dict() if _has_state_dict(component) else _attributes(component)


def load_component_state(component: Any, state: Any) -> None:
    """Restore what ``component_state`` gave for an object built in the same way."""
    if isinstance(component, nn.Module):
        load_weights(component, state["state_dict"])
        for name, attributes in state["attributes"].items():
            vars(component.get_submodule(name)).update(attributes)
    elif _has_state_dict(component):
        component.load_state_dict(state)
    elif state:
        vars(component).update(state)


def load_weights(model: nn.Module, weights: Mapping[str, Any]) -> None:
    """Load a ``state_dict``; a buffer that has grown, or has another dtype than at first, gets the room it needs."""
    for prefix, module in model.named_modules():
        for name, buffer in module._buffers.items():
            saved = weights.get(f"{prefix}.{name}".removeprefix("."))
            if not isinstance(saved, Tensor):
                continue
            if buffer is None or (saved.shape, saved.dtype) != (buffer.shape, buffer.dtype):
                device = saved.device if buffer is None else buffer.device
                module._buffers[name] = torch.empty_like(saved, device=device)
    model.load_state_dict(weights)


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the model's ``state_dict``; a module may keep numbers and texts there beside them."""
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


@contextmanager
def preserve_state(*components: object) -> Iterator[None]:
    """Leaves models, losses and random numbers as they were before the block: modes, buffers and attributes."""
    # Parameters are not copied: nothing that is called inside moves them.
    modules = [each for component in components if isinstance(component, nn.Module) for each in component.modules()]
    owners = [*modules, *(each for each in components if not isinstance(each, nn.Module) and hasattr(each, "__dict__"))]
    attributes = [dict(vars(owner)) for owner in owners]
    buffers = [(buffer, buffer.detach().clone()) for module in modules for buffer in module.buffers(recurse=False)]
    # The block gets copies of lists, tensors and the like: what others hold too stays as it is. Objects that are shared
    # stay shared. There is no copy of a tensor inside a graph.
    memo: dict[int, Any] = {}
    for owner in owners:
        for name, value in _attributes(owner, (*_PLAIN, *_GENERATORS)).items():
            with suppress(Exception):
                vars(owner)[name] = copy.deepcopy(value, memo)
    for module in modules:
        module._buffers = dict(module._buffers)
    with preserve_rng_state():
        try:
            yield
        finally:
            for owner, its_attributes in zip(owners, attributes, strict=True):
                vars(owner).clear()
                vars(owner).update(its_attributes)
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)


def _has_state_dict(component: object) -> bool:
    return hasattr(component, "state_dict") and hasattr(component, "load_state_dict")


def _attributes(owner: object, kinds: tuple[type, ...] = _PLAIN) -> dict[str, Any]:
    """The plain attributes of an object, without those that torch keeps in every module."""
    torchs = _OF_MODULES if isinstance(owner, nn.Module) else ()
    held = getattr(owner, "__dict__", {})
    return {name: value for name, value in held.items() if name not in torchs and is_plain(value, kinds)}


def is_plain(value: Any, kinds: tuple[type, ...] = _PLAIN, depth: int = 8) -> bool:
    """Whether a value is of these kinds, a tensor that is no parameter, or a container of them."""
    if isinstance(value, Enum) or hasattr(value, "_fields"):  # constants, of a type that only their package knows
        return False
    if isinstance(value, Tensor):
        return not isinstance(value, nn.Parameter)
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple | set | frozenset | deque):
        return depth > 0 and all(is_plain(inner, kinds, depth - 1) for inner in value)
    return isinstance(value, kinds)
