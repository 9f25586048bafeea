"""What all code of a process shares and a component must leave alone: generators, switches, hooks, threads."""

import atexit
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptb.errors import listing
from ptb.seeding import preserve_rng_state


@dataclass(frozen=True)
class Switch:
    """One thing of the whole process: how to read it, and how to put it back, unless that cannot be done."""

    read: Callable[[], Any]
    write: Callable[[Any], Any] | None = None


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


def _cudnn() -> dict[str, bool]:
    return {name: getattr(torch.backends.cudnn, name) for name in ("benchmark", "deterministic")}


def _set_cudnn(values: Mapping[str, bool]) -> None:
    for name, value in values.items():
        setattr(torch.backends.cudnn, name, value)


def _hooks() -> dict[str, dict[int, Any]]:
    """The hooks that torch calls for every module or optimizer, by the name of the table that holds them."""
    homes = (torch.nn.modules.module, sys.modules[torch.optim.Optimizer.__module__])
    tables = [(name, table) for home in homes for name, table in vars(home).items() if name.startswith("_global_")]
    return {name: table for name, table in tables if isinstance(table, dict)}


def _set_hooks(values: Mapping[str, Mapping[int, Any]]) -> None:
    for name, table in _hooks().items():
        table.clear()
        table.update(values[name])


def _umask() -> int:
    mask = os.umask(0)  # there is no other way to read it
    os.umask(mask)
    return mask


def _handlers() -> dict[str, Any]:
    return {number.name: signal.getsignal(number) for number in signal.Signals}


def _set_handlers(values: Mapping[str, Any]) -> None:
    for name, handler in values.items():
        if signal.getsignal(signal.Signals[name]) != handler and handler is not None:
            signal.signal(signal.Signals[name], handler)


def _streams() -> dict[str, Any]:
    return {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr", "excepthook")}


def _set_streams(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        setattr(sys, name, value)


def _set_filters(values: list[Any]) -> None:
    warnings.filters = values


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if not thread.daemon]


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
    "torch.backends.cudnn": Switch(_cudnn, _set_cudnn),
    "torch's hooks for all modules and optimizers": Switch(
        lambda: {name: dict(table) for name, table in _hooks().items()}, _set_hooks
    ),
    "the umask": Switch(_umask, os.umask),
    "the handlers of signals": Switch(_handlers, _set_handlers),
    "sys.path": Switch(lambda: list(sys.path), lambda values: sys.path.__setitem__(slice(None), values)),
    "sys": Switch(_streams, _set_streams),
    "warnings.filters": Switch(lambda: list(warnings.filters), _set_filters),
    "the threads that the process waits for": Switch(_threads),
    "the functions of atexit": Switch(atexit._ncallbacks),
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
    with preserve_rng_state(), warnings.catch_warnings():
        try:
            yield
        finally:
            for name in differences(before, switches()):
                if write := SWITCHES[name].write:
                    write(before[name])


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names under which two snapshots differ."""
    return [name for name in before if not identical(before[name], after[name])]


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What is another between two snapshots, in words."""
    return [f"{name}{_how(before[name], after[name])}" for name in differences(before, after)]


def _how(one: Any, other: Any) -> str:
    if isinstance(one, Mapping):
        parts = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    elif isinstance(one, list):
        parts = [str(value) for value in other if value not in one]
    else:
        return f" from {one} to {other}"
    return f" ({listing(parts, 5)})" if parts else ""


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
