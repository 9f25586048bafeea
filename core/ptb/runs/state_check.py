"""What a checkpoint would lose: two trainings, one loaded from the state of the other, take a step and are compared."""

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from ptb.seeding import preserve_rng_state
from ptb.storage.codec import EncodeError, decode, encode
from ptb.training.protocols import Batch
from ptb.training.snapshot import restore_snapshot, take_snapshot
from ptb.training.trainer import Trainer

SHOWN = 3
_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic)
_GENERATORS: dict[type, Callable[[Any], object]] = {
    torch.Generator: lambda generator: generator.get_state().tolist(),
    random.Random: random.Random.getstate,
    np.random.Generator: lambda generator: generator.bit_generator.state,
    np.random.RandomState: lambda generator: generator.get_state(legacy=False),
    np.ndarray: np.ndarray.tolist,
}


def lost_state(trainer: Trainer, fresh: Trainer, batches: Sequence[Batch], names: Mapping[str, str]) -> list[str]:
    """Save a training after a step, load it into a fresh one, take the same step with both, and compare.

    Args:
        trainer: has taken a step.
        fresh: built in the same way, and new.
        batches: of the step that both take.
        names: what to call components in messages, by section.

    Returns:
        A line for each component that would lose something: its name, and what.
    """
    trainer.train_metrics.flush()
    try:
        restore_snapshot(fresh, decode(encode(take_snapshot(trainer)), trainer.device))
    except EncodeError as error:
        return [f"{error}, which no checkpoint can hold"]
    except Exception as error:  # a component may raise anything on its own state
        return [
            f"{names.get(fresh.calls.now, 'the training')} cannot load its own state: {type(error).__name__}: {error}"
        ]
    try:
        for each, begin in ((trainer, False), (fresh, True)):
            with preserve_rng_state():
                each.try_step(batches, begin=begin)
                each.train_metrics.flush()
    except Exception:  # two samples may be learned in one step, and there is none to take after that
        return []
    seen: set[int] = set()  # what one component has is not compared again where another one refers to it
    lost = []
    for section, one, other in _pairs(trainer, fresh):
        if places := list(dict.fromkeys(_differences(one, other, "", seen)))[:SHOWN]:
            lost.append(f"{names[section]} keeps state that is in no state_dict: {', '.join(places)}")
    return lost


def _pairs(one: Trainer, other: Trainer) -> Iterator[tuple[str, object, object]]:
    yield "model", one.model, other.model
    yield "loss", one.objective.loss, other.objective.loss
    yield "optimizer", one.optimizer, other.optimizer
    yield "scheduler", one.scheduler, other.scheduler
    for label, metric in one.train_metrics.metrics.items():
        yield f"metrics.{label}", metric, other.train_metrics.metrics[label]
    others = other.callbacks.components()
    for label, callback in one.callbacks.components().items():
        yield f"callbacks.{label}", callback, others[label]


def _differences(one: Any, other: Any, path: str, seen: set[int]) -> Iterator[str]:
    """The places of what differs in two objects that were built and used in the same way."""
    if one is other or id(one) in seen:
        return
    seen.add(id(one))
    if type(one) is not type(other):
        yield path
    elif isinstance(one, Tensor):
        if not _same_tensor(one, other):
            yield path
    elif read := next((read for kind, read in _GENERATORS.items() if isinstance(one, kind)), None):
        if repr(read(one)) != repr(read(other)):
            yield path
    elif isinstance(one, _PLAIN):
        if one != other and repr(one) != repr(other):  # NaN is NaN
            yield path
    elif isinstance(one, Mapping):
        ones, others = one, other
        if all(isinstance(key, str) for key in one) and one.keys() == other.keys():
            others = {key: other[key] for key in one}  # loading may change the order
        yield from _in_items(list(ones.items()), list(others.items()), path, seen)
    elif isinstance(one, list | tuple | deque):
        yield from _in_items(list(enumerate(one)), list(enumerate(other)), path, seen)
    elif isinstance(one, set | frozenset):
        if one != other:
            yield path
    elif not isinstance(one, type | ModuleType | FunctionType | BuiltinFunctionType):
        yield from _in_items(_attributes(one), _attributes(other), path, seen)


def _in_items(ones: list[tuple[Any, Any]], others: list[tuple[Any, Any]], path: str, seen: set[int]) -> Iterator[str]:
    """Of two lists of names and values; tensors as names, such as those of optimizers, are known by their place."""
    if len(ones) != len(others):
        yield path or "attributes"
        return
    for number, ((name, one), (its_name, other)) in enumerate(zip(ones, others, strict=True)):
        known = name if isinstance(name, str | int) else number
        if isinstance(name, str | int) and name != its_name:
            yield f"{path}.{known}".removeprefix(".")
        else:
            yield from _differences(one, other, f"{path}.{known}".removeprefix("."), seen)


def _attributes(owner: object) -> list[tuple[str, Any]]:
    slots = [name for kind in type(owner).__mro__ for name in getattr(kind, "__slots__", ())]
    held = {name: getattr(owner, name) for name in slots if hasattr(owner, name)} | getattr(owner, "__dict__", {})
    if isinstance(owner, Optimizer):
        held.pop("defaults", None)  # of groups that are added later; torch changes them when it loads a state
        held.pop("_numel_cache", None)  # of LBFGS, which computes it when it needs it
    # Hooks are kept under numbers that torch counts up for the whole process.
    numbered = [name for name, value in held.items() if name.endswith("_hooks") and isinstance(value, Mapping)]
    return sorted((held | {name: [*held[name].values()] for name in numbered}).items())


def _same_tensor(one: Tensor, other: Tensor) -> bool:
    if (one.shape, one.dtype, one.layout, one.requires_grad) != (
        other.shape,
        other.dtype,
        other.layout,
        other.requires_grad,
    ):
        return False
    one, other = (
        each.detach().to_dense() if each.layout is not torch.strided else each.detach() for each in (one, other)
    )
    if not one.is_floating_point():
        return torch.equal(one, other)
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(), other.nan_to_num())
