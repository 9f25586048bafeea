"""What a run is made with, as its ``manifest.json`` records it, and what of that has changed since."""

import platform
import subprocess
import sys
import warnings
from typing import Any

import torch

from ptb.config.layers import RunConfig, leaves
from ptb.device import describe_device
from ptb.errors import ConfigError, DataError, PluginError, Problem, listing
from ptb.registry.discovery import own_version
from ptb.runs.blame import explaining, name_of
from ptb.runs.compose import ComposedRun
from ptb.runs.fingerprint import fingerprint
from ptb.runs.overrides import RESUME_KEYS
from ptb.runs.provenance import plugin_changes, record, recorded_plugins
from ptb.seeding import seed_global
from ptb.storage.checkpoint import Checkpoint
from ptb.storage.run_directory import RunDirectory, read_json

# What the last bits of a run depend on, and what messages call it.
_REPORTED = {
    "ptb": "ptb",
    "torch": "torch",
    "python": "Python",
    "device": "the device",
    "cpu_capability": "the instructions of the CPU",
    "threads": "threads",
    "world_size": "the number of processes",
    "dataset_sha256": "the data (dataset_sha256)",
}


def describe(composed: ComposedRun) -> dict[str, Any]:
    """What ``manifest.json`` says of a run that is made here and now: versions, machine, data, plugins."""
    config, device = composed.config, composed.trainer.device
    entries = {section: component.entry for section, component in config.components().items()}
    records = {found.name: record(found) for found in {entry.found for entry in entries.values()}}
    return {
        "ptb": own_version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(device),
        "device_name": describe_device(device, config.run.threads),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": config.run.threads,
        "world_size": composed.world.size if composed.world else 1,
        "seed": config.run.seed,
        "argv": sys.argv,
        "git_commit": git_commit(),
        "dataset_sha256": _fingerprint(composed),
        "data": _describe_data(composed),
        "plugins": [
            {
                "section": section,
                "id": entry.id,
                "distribution": entry.plugin,
                "version": entry.version,
                "target": entry.target,
                "sha256": records[entry.plugin]["sha256"],
                "used": True,
            }
            for section, entry in entries.items()
        ]
        + [
            {"distribution": p.name, "version": p.version, "status": p.status, "reason": p.reason, "used": False}
            for p in composed.installed
            if p.name not in records
        ],
        "plugin_files": dict(sorted(records.items())),
    }


def changes(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between the manifest of a run and that of ``describe``: versions, machine, data, plugins."""
    if not then:
        return ["no manifest.json says what the run was made with"]
    lines = [
        f"{name} was {then[key]}, and is {now[key]} here"
        for key, name in _REPORTED.items()
        if key in then and then[key] != now[key]
    ]
    # Two GPUs may have one number; the name of a CPU says nothing beyond its instructions.
    if then.get("device") == now["device"] != "cpu" and then.get("device_name") != now["device_name"]:
        lines.append(f"the device was {then.get('device_name')}, and is {now['device_name']} here")
    return lines + [f"plugin {line}" for line in plugin_changes(recorded_plugins(then) or {}, now["plugin_files"])]


def check_config(run: RunDirectory, checkpoint: Checkpoint | None, composed: ComposedRun, same_data: bool) -> None:
    """Refuse to continue with another ``config.toml`` than the checkpoint was saved with.

    Observers may come and go, and the same data may be somewhere else.
    """
    saved = checkpoint.metadata.get("config") if checkpoint else None
    if checkpoint is None or not isinstance(saved, dict):
        return
    config, callbacks = composed.config, composed.trainer.callbacks
    then, now = leaves(saved), leaves(config.as_config())
    written = leaves(RunConfig.read([run.config]).values)
    observers = {*checkpoint.metadata.get("observers", ()), *callbacks.observers.components}
    # What it means that a callback is gone is said where its state is not used.
    gone = {*saved.get("callbacks", ())} - {*config.callbacks}
    free = tuple(f"callbacks.{label}." for label in observers | gone)
    changed = [key for key in then if now.get(key) != then[key]] + [key for key in written if key not in then]
    key = "loader.num_workers"
    if composed.trainer.train_loader.source.is_stream and now.get(key) != then.get(key):
        before, value = then.get(key, "not set"), now.get(key, "not set")
        why = f"is {value}, and was {before} before: each worker reads its share of a stream, so it decides the order"
        raise ConfigError(Problem(key, f"{why}; set it as it was"))
    problems = [
        Problem(
            key,
            f"is {now.get(key, 'not set')} in {run.config}, and was {then.get(key, 'not set')} when the run was begun: "
            f"put it back, or go on with it in a new run: ptb run --continue {run.path} KEY=VALUE",
        )
        for key in sorted(changed)
        if key not in RESUME_KEYS and not key.startswith((*free, *["dataset."] * same_data))
    ]
    if problems:
        raise ConfigError(*problems)


def check_same_data(run: RunDirectory, composed: ComposedRun) -> None:
    """Warns where the data is not that of the run; where the data set has other settings, raises ``DataError``."""
    recorded = read_json(run.manifest).get("dataset_sha256")
    then, now = RunConfig.read([run.config]).values.get("dataset"), composed.config.dataset.as_config()
    if then != now and recorded != _fingerprint(composed):
        changed = sorted(f"dataset.{key}" for key in {*(then or {}), *now} if (then or {}).get(key) != now.get(key))
        raise DataError(
            f"with {', '.join(changed)} the data is not that of the run: its dataset_sha256 is another than "
            f"{run.manifest} says; to evaluate on other data, name it as SOURCE: ptb eval {run.path} SOURCE"
        )
    if recorded is None:
        warnings.warn(f"{run.manifest} does not say which data the run used: it may have changed since", stacklevel=3)
    elif recorded != _fingerprint(composed):
        warnings.warn(
            f"the data has changed since the run: {name_of(composed.config.dataset)} has another dataset_sha256 than "
            f"{run.manifest} says",
            stacklevel=3,
        )


def git_commit() -> str | None:
    """The commit of the working directory, with ``+`` if files were changed, or None outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _describe_data(composed: ComposedRun) -> dict[str, Any]:
    spec = composed.bundle.spec
    further = {
        "positions": list(spec.positions),
        "class_names": list(spec.class_names),
        "class_counts": list(spec.class_counts),
        "columns": _columns(composed),
    }
    return {
        "samples": {split: loader.samples for split, loader in composed.trainer.eval_loaders.items()},
        "inputs": spec.inputs,
        "input_shape": list(spec.input_shape),
        "target": spec.target,
        **{key: values for key, values in further.items() if values},
    }


def _columns(composed: ComposedRun) -> list[str]:
    """The columns of a table that the preprocessor reads, if it says so by ``input_columns``."""
    preprocessor = composed.bundle.preprocessor
    with explaining(
        PluginError, f"input_columns of the preprocessor of {composed.config.dataset.entry} cannot be read"
    ):
        return [str(name) for name in getattr(preprocessor, "input_columns", ())]


def other_columns(run: RunDirectory, composed: ComposedRun) -> str:
    """Where a table has other columns than that of the run with which it begins, as text; else empty."""
    data, now = read_json(run.manifest).get("data"), _columns(composed)
    then = data.get("columns", []) if isinstance(data, dict) else []  # the folder of a config file may be anything
    changed = {"new": [name for name in now if name not in then], "gone": [name for name in then if name not in now]}
    told = [f"{word}: {listing(names)}" for word, names in changed.items() if names]
    if not then or not told:
        return ""
    return f"other columns than those of {run.path}, {'; '.join(told)}: scaling and categories are learnt anew"


def _fingerprint(composed: ComposedRun) -> str:
    seed_global(composed.config.run.seed, "fingerprint")  # samples may be changed at random when they are read
    with explaining(DataError, f"{name_of(composed.config.dataset)}: its samples cannot be read for the fingerprint"):
        return fingerprint(composed.bundle.splits, composed.bundle.collate)
