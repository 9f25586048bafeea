"""What ptb's own tools (ptb_config, ptb_doctor and others in ``plugins``) use of the core beyond the facade.

Promised to nobody else: what is here may change with any version. A name is imported when it is first used, because
most of them need torch, pydantic or click.
"""

import ast
import importlib
import inspect
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptb.cli import CORE, main
    from ptb.cli.errors import speaks
    from ptb.cli.lazy_dynamo import put_off_dynamo
    from ptb.cli.options import (
        ComponentName,
        UserPath,
        installed,
        is_override,
        plugin_arguments,
        plugin_options,
        processes_options,
        refuse_plugin_options,
        stray_output_to_stderr,
    )
    from ptb.cli.text import columns, printable
    from ptb.config.resolve import ComponentConfig, GroupConfig, PartialConfig, resolve, resolve_some
    from ptb.config.sections import CORE_SECTIONS, SHARED_SECTIONS, ParameterGroup, RunSettings
    from ptb.data.batch import Batch, leaves, map_leaves
    from ptb.data.decoding import plain
    from ptb.data.loader import BatchLoader
    from ptb.data.sources import InMemorySamples, Placement, make_sources
    from ptb.data.spec import TargetKind
    from ptb.device import cpu_threads, describe_device, resolve_device
    from ptb.errors import count, did_you_mean, listing, one_line, tidy
    from ptb.kinds import KINDS, RUN_KINDS, Kind
    from ptb.registry.discovery import (
        BUILT_IN,
        FoundPlugin,
        LoadedPlugin,
        RejectedPlugin,
        find_plugins,
        load_plugin,
        normalize,
        own_version,
    )
    from ptb.registry.entry import RegisteredCommand, RegisteredComponent
    from ptb.registry.local import found_locally
    from ptb.registry.registry import PluginInfo
    from ptb.registry.selection import ONLY, Selection
    from ptb.registry.settings import arguments, derive_model, naming_model, plain_values, validate
    from ptb.runs.assembly import build_dataset
    from ptb.runs.blame import explaining
    from ptb.runs.compose import ComposedRun, compose
    from ptb.runs.evaluate import evaluate_run
    from ptb.runs.fingerprint import fingerprint
    from ptb.runs.overrides import evaluation_config
    from ptb.runs.processes import join
    from ptb.runs.progress import ProgressBar
    from ptb.runs.start import start_run
    from ptb.runs.state_check import drop_unsavable, lost_state
    from ptb.runs.together import leaving
    from ptb.runs.trained import Predicted
    from ptb.seeding import generator, preserve_rng_state, seed_global
    from ptb.storage.atomic import locked, storage_errors, write_atomically
    from ptb.storage.checkpoint import differences, find_checkpoints, load_checkpoint, save_checkpoint
    from ptb.storage.codec import decode, encode
    from ptb.storage.digest import weights_sha256
    from ptb.storage.run_directory import RunDirectory, check_output, finite, split_checkpoint
    from ptb.training.callbacks import ACTOR_EVENTS, EVENTS, listeners, misfit
    from ptb.training.metrics import RunningMetrics
    from ptb.training.objective import Objective, scores_of
    from ptb.training.snapshot import restore_snapshot, take_snapshot
    from ptb.training.state import model_state
    from ptb.training.trainer import Trainer


# The module of each name above, read off these lines: a second list would only repeat them.
_MODULES = {
    alias.name: node.module
    for node in ast.walk(ast.parse(inspect.getsource(sys.modules[__name__])))
    if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ptb.")
    for alias in node.names
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'ptb.internals' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)
