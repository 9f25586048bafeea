"""ptb: a plugin-registry framework for PyTorch training.

This is the facade: the public names of ptb, and nothing else. A name is imported when it is first used, so that
``from ptb import Component, hookimpl`` in a plugin costs no more than those two.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptb.cli.options import json_option, run_options
    from ptb.config.layers import RunConfig
    from ptb.data.sample_rng import SampleGenerator
    from ptb.data.spec import DataBundle, DataSpec
    from ptb.errors import (
        ConfigError,
        DataError,
        IncompatibleError,
        InterruptedRunError,
        NumericalError,
        PluginError,
        PtbError,
        ResourceError,
        StorageError,
        UnknownNameError,
    )
    from ptb.registry.component import Command, Component
    from ptb.registry.hookspecs import hookimpl
    from ptb.registry.registry import Registry, load_registry
    from ptb.runs.api import evaluate, resume, train
    from ptb.runs.result import RunResult
    from ptb.training.callbacks import Callback
    from ptb.training.step import NonFiniteError, StepOutput

    __version__: str

__all__ = [
    "hookimpl",
    "Component",
    "Command",
    "DataSpec",
    "DataBundle",
    "SampleGenerator",
    "Registry",
    "load_registry",
    "Callback",
    "StepOutput",
    "RunConfig",
    "RunResult",
    "train",
    "resume",
    "evaluate",
    "run_options",
    "json_option",
    "PtbError",
    "ConfigError",
    "UnknownNameError",
    "DataError",
    "IncompatibleError",
    "NumericalError",
    "NonFiniteError",
    "StorageError",
    "ResourceError",
    "PluginError",
    "InterruptedRunError",
    "__version__",
]

_HOMES = {
    "hookimpl": "registry.hookspecs",
    "Component": "registry.component",
    "Command": "registry.component",
    "DataSpec": "data.spec",
    "DataBundle": "data.spec",
    "SampleGenerator": "data.sample_rng",
    "Registry": "registry.registry",
    "load_registry": "registry.registry",
    "Callback": "training.callbacks",
    "StepOutput": "training.step",
    "NonFiniteError": "training.step",
    "RunConfig": "config.layers",
    "RunResult": "runs.result",
    "train": "runs.api",
    "resume": "runs.api",
    "evaluate": "runs.api",
    "run_options": "cli.options",
    "json_option": "cli.options",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from ptb.registry.discovery import own_version

        return own_version()
    if name not in __all__:
        raise AttributeError(f"module 'ptb' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"ptb.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
