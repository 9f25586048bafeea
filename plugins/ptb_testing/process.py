"""What all code of a process shares and a component must leave alone: generators, switches, hooks, threads."""

import atexit
import json
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from ptb.internals import encode, listing, preserve_rng_state, weights_sha256


class Switch(NamedTuple):
    """One thing of the whole process: how to read it, and how to put it back, unless that cannot be done."""

    read: Callable[[], Any]
    write: Callable[[Any], Any] | None = None


def _attributes(owner: Any, *names: str) -> Switch:
    def write(values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            setattr(owner, name, value)

    return Switch(lambda: {name: getattr(owner, name) for name in names}, write)


def _set_environment(values: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


def _hooks() -> dict[str, dict[int, Any]]:
    """The hooks that torch calls for every module or optimizer, by the name of the table that holds them."""
    owners = (torch.nn.modules.module, sys.modules[torch.optim.Optimizer.__module__])
    tables = [(name, table) for owner in owners for name, table in vars(owner).items() if name.startswith("_global_")]
    return {name: table for name, table in tables if isinstance(table, dict)}


def _set_hooks(values: Mapping[str, Mapping[int, Any]]) -> None:
    for name, table in _hooks().items():
        table.clear()
        table.update(values[name])


def _umask() -> int:
    mask = os.umask(0)  # there is no other way to read it
    os.umask(mask)
    return mask


def _set_handlers(values: Mapping[str, Any]) -> None:
    for name, handler in values.items():
        if signal.getsignal(signal.Signals[name]) != handler and handler is not None:
            signal.signal(signal.Signals[name], handler)


def _set_filters(values: list[Any]) -> None:
    warnings.filters = values


SWITCHES = {
    "torch.get_default_dtype()": Switch(torch.get_default_dtype, torch.set_default_dtype),
    "torch.get_default_device()": Switch(
        torch.get_default_device,
        lambda device: torch.set_default_device(None if device.type == "cpu" else device),  # None removes torch's hook
    ),
    "torch.is_grad_enabled()": Switch(torch.is_grad_enabled, torch.set_grad_enabled),
    "torch.get_num_threads()": Switch(torch.get_num_threads, torch.set_num_threads),
    "torch.use_deterministic_algorithms": Switch(
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda values: torch.use_deterministic_algorithms(values[0], warn_only=values[1]),
    ),
    "torch.get_float32_matmul_precision()": Switch(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ),
    "torch.is_anomaly_enabled()": Switch(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "torch.backends.cudnn": _attributes(torch.backends.cudnn, "benchmark", "deterministic"),
    "torch's hooks for all modules and optimizers": Switch(
        lambda: {name: dict(table) for name, table in _hooks().items()}, _set_hooks
    ),
    "numpy.geterr()": Switch(np.geterr, lambda values: np.seterr(**values)),
    "the current folder": Switch(os.getcwd, os.chdir),
    "os.environ": Switch(lambda: dict(os.environ), _set_environment),
    "the umask": Switch(_umask, os.umask),
    "the handlers of signals": Switch(
        lambda: {number.name: signal.getsignal(number) for number in signal.Signals}, _set_handlers
    ),
    "sys": _attributes(sys, "stdin", "stdout", "stderr", "excepthook"),
    "sys.path": Switch(lambda: list(sys.path), lambda values: sys.path.__setitem__(slice(None), values)),
    "warnings.filters": Switch(lambda: list(warnings.filters), _set_filters),
    "the threads that the process waits for": Switch(lambda: [t for t in threading.enumerate() if not t.daemon]),
    "the functions of atexit": Switch(atexit._ncallbacks),
}


class Snapshot(NamedTuple):
    """The global generators and the switches, as they were at one time."""

    generators: dict[str, Any]
    switches: dict[str, Any]

    @classmethod
    def take(cls) -> "Snapshot":
        """As they are now."""
        drawn = {"random": random.getstate(), "numpy.random": np.random.get_state(), "torch": torch.get_rng_state()}
        return cls(drawn, {name: switch.read() for name, switch in SWITCHES.items()})

    def moved_generators(self, later: "Snapshot") -> list[str]:
        """The generators from which somebody has drawn, or which somebody has seeded."""
        return differing(self.generators, later.generators)

    def changed_switches(self, later: "Snapshot") -> dict[str, str]:
        """The switches that have changed, each in words."""
        changed = [name for name, one in self.switches.items() if one != later.switches[name]]
        return {name: f"{name}{_how(self.switches[name], later.switches[name])}" for name in changed}


@contextmanager
def guarded() -> Iterator[None]:
    """Undoes after the block whatever it did to the generators and the switches."""
    before = Snapshot.take()
    with preserve_rng_state(), warnings.catch_warnings():
        try:
            yield
        finally:
            for name in before.changed_switches(Snapshot.take()):
                if write := SWITCHES[name].write:
                    write(before.switches[name])


def identical(one: Any, other: Any) -> bool:
    """Whether two values that a checkpoint could hold are the same to the last bit; NaN equals NaN."""
    left, right = encode(one), encode(other)
    same_form = json.dumps(left.node, sort_keys=True) == json.dumps(right.node, sort_keys=True)
    return same_form and weights_sha256(left.tensors) == weights_sha256(right.tensors)


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys under which two mappings differ."""
    return [key for key in {**one, **other} if not identical(one.get(key), other.get(key))]


def _how(one: Any, other: Any) -> str:
    if isinstance(one, Mapping):
        changed = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    elif isinstance(one, list):
        changed = [str(value) for value in other if value not in one]
    else:
        return f" from {one} to {other}"
    return f" ({listing(changed, 5)})" if changed else ""
