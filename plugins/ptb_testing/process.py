"""The state of the process around a component: global generators, and what all code shares."""

import json
import random
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from ptb.internals import encode, preserve_rng_state, weights_sha256
from ptb_testing.switches import OF_PYTHON, Switch, attributes, changes, put_back, read


def _hooks() -> dict[str, dict[int, Any]]:
    """The hooks that torch calls for every module or optimizer, by the name of the table that holds them."""
    owners = (torch.nn.modules.module, sys.modules[torch.optim.Optimizer.__module__])
    tables = [(name, table) for owner in owners for name, table in vars(owner).items() if name.startswith("_global_")]
    return {name: table for name, table in tables if isinstance(table, dict)}


def _set_hooks(values: Mapping[str, Mapping[int, Any]]) -> None:
    for name, table in _hooks().items():
        table.clear()
        table.update(values[name])


SWITCHES = OF_PYTHON | {
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
    "torch.backends.cudnn": attributes(torch.backends.cudnn, "benchmark", "deterministic"),
    "torch's hooks for all modules and optimizers": Switch(
        lambda: {name: dict(table) for name, table in _hooks().items()}, _set_hooks
    ),
    "numpy.geterr()": Switch(np.geterr, lambda values: np.seterr(**values)),
}


class Snapshot(NamedTuple):
    """The global generators and the switches, as they were at one time."""

    generators: dict[str, Any]
    switches: dict[str, Any]

    @classmethod
    def take(cls) -> "Snapshot":
        """As they are now."""
        drawn = {"random": random.getstate(), "numpy.random": np.random.get_state(), "torch": torch.get_rng_state()}
        return cls(drawn, read(SWITCHES))

    def moved_generators(self, later: "Snapshot") -> list[str]:
        """The generators from which somebody has drawn, or which somebody has seeded."""
        return differing(self.generators, later.generators)

    def changed_switches(self, later: "Snapshot") -> dict[str, str]:
        """The switches that have changed, each in words."""
        return changes(self.switches, later.switches)


@contextmanager
def guarded() -> Iterator[None]:
    """Undoes after the block whatever it did to the generators and the switches."""
    before = Snapshot.take()
    with preserve_rng_state(), warnings.catch_warnings():
        try:
            yield
        finally:
            put_back(SWITCHES, before.switches)


def identical(one: Any, other: Any) -> bool:
    """Whether two values that a checkpoint could hold are the same to the last bit; NaN equals NaN."""
    left, right = encode(one), encode(other)
    same_form = json.dumps(left.node, sort_keys=True) == json.dumps(right.node, sort_keys=True)
    return same_form and weights_sha256(left.tensors) == weights_sha256(right.tensors)


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys under which two mappings differ."""
    return [key for key in {**one, **other} if not identical(one.get(key), other.get(key))]
