"""ptb: a plugin-registry framework for PyTorch training.

This is the facade: the public names of ptb, and nothing else. A name is imported when it is first used, so that
``from ptb import Component, hookimpl`` in a plugin costs no more than those two.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptb.cli.options import json_option, run_options, verbose_option
    from ptb.config.layers import RunConfig
    from ptb.data.preprocessor import Preprocessor, Sample
    from ptb.data.sample_rng import SampleGenerator
    from ptb.data.spec import DataBundle, DataSpec, InputSpec
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
    from ptb.runs.record import RunRecord
    from ptb.runs.result import RunResult
    from ptb.runs.trained import TrainedModel, load
    from ptb.storage.checkpoint import checkpoint_path
    from ptb.training.callbacks import Callback
    from ptb.training.step import NonFiniteError, StepOutput

    __version__: str

__all__ = ["hookimpl", "Component", "Command", "DataSpec", "InputSpec", "DataBundle", "Sample", "Preprocessor"]
__all__ += ["SampleGenerator"]
__all__ += [
    "Registry",
    "load_registry",
    "Callback",
    "StepOutput",
    "RunConfig",
    "RunResult",
    "RunRecord",
    "train",
    "resume",
    "evaluate",
    "load",
    "TrainedModel",
    "checkpoint_path",
]
__all__ += ["run_options", "json_option", "verbose_option", "__version__"]
__all__ += ["PtbError", "ConfigError", "UnknownNameError", "DataError", "IncompatibleError", "NumericalError"]
__all__ += ["NonFiniteError", "StorageError", "ResourceError", "PluginError", "InterruptedRunError"]

# Where each name is defined; those that are not listed are in ``errors``.
_NAMES = {
    "registry.hookspecs": ("hookimpl",),
    "registry.component": ("Component", "Command"),
    "registry.registry": ("Registry", "load_registry"),
    "data.spec": ("DataSpec", "DataBundle", "InputSpec"),
    "data.preprocessor": ("Preprocessor", "Sample"),
    "data.sample_rng": ("SampleGenerator",),
    "training.callbacks": ("Callback",),
    "training.step": ("StepOutput", "NonFiniteError"),
    "config.layers": ("RunConfig",),
    "runs.result": ("RunResult",),
    "runs.record": ("RunRecord",),
    "runs.api": ("train", "resume", "evaluate"),
    "runs.trained": ("TrainedModel", "load"),
    "storage.checkpoint": ("checkpoint_path",),
    "cli.options": ("run_options", "json_option", "verbose_option"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from ptb.registry.discovery import own_version

        return own_version()
    if name not in __all__:
        raise AttributeError(f"module 'ptb' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"ptb.{_MODULES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
