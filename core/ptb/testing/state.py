"""What all code of a process shares and a component must leave alone: the global generators, and torch's switches."""

import os
import random
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptb.seeding import isolated


@dataclass(frozen=True)
class Switch:
    """One setting of the whole process: how to read it, and how to put it back."""

    read: Callable[[], Any]
    write: Callable[[Any], Any]


def _environment() -> dict[str, str]:
    return dict(os.environ)


def _set_environment(values: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


def _set_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)  # None takes torch's hook away again


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(values: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(values[0], warn_only=values[1])


SWITCHES = {
    "torch.get_default_dtype()": Switch(torch.get_default_dtype, torch.set_default_dtype),
    "torch.get_default_device()": Switch(torch.get_default_device, _set_default_device),
    "torch.is_grad_enabled()": Switch(torch.is_grad_enabled, torch.set_grad_enabled),
    "torch.get_num_threads()": Switch(torch.get_num_threads, torch.set_num_threads),
    "torch.use_deterministic_algorithms": Switch(_deterministic, _set_deterministic),
    "torch.get_float32_matmul_precision()": Switch(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ),
    "torch.is_anomaly_enabled()": Switch(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "numpy.geterr()": Switch(np.geterr, lambda values: np.seterr(**values)),
    "the current folder": Switch(os.getcwd, os.chdir),
    "os.environ": Switch(_environment, _set_environment),
    "the handler of SIGINT": Switch(
        lambda: signal.getsignal(signal.SIGINT), lambda value: signal.signal(signal.SIGINT, value)
    ),
    "the handler of SIGTERM": Switch(
        lambda: signal.getsignal(signal.SIGTERM), lambda value: signal.signal(signal.SIGTERM, value)
    ),
}


def switches() -> dict[str, Any]:
    """How they stand now."""
    return {name: switch.read() for name, switch in SWITCHES.items()}


def generators() -> dict[str, Any]:
    """The state of the global generators."""
    return {"random": random.getstate(), "numpy.random": np.random.get_state(), "torch": torch.get_rng_state()}


@contextmanager
def guarded() -> Iterator[None]:
    """Whatever the block does to the generators and the switches is undone after it."""
    before = switches()
    with isolated(), warnings.catch_warnings():
        try:
            yield
        finally:
            for name in differences(before, switches()):
                SWITCHES[name].write(before[name])


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names under which two snapshots differ."""
    return [name for name in before if not identical(before[name], after[name])]


def identical(one: Any, other: Any) -> bool:
    """Whether two values, or lists, tuples and dicts of them, are the same to the last bit; NaN equals NaN."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.dtype != other.dtype or one.shape != other.shape or one.device != other.device:
            return False
        if one.is_sparse or other.is_sparse:
            return one.is_sparse == other.is_sparse and identical(one.to_dense(), other.to_dense())
        return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return list(one) == list(other) and all(identical(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(identical, one, other))
    return type(one) is type(other) and (one == other or one != one)
