"""What a run is made with, as its ``manifest.json`` tells it, and what of that has changed since."""

import platform
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from ptb.config.layers import RunConfig, leaves
from ptb.config.resolve import ResolvedConfig
from ptb.device import describe_device
from ptb.errors import ConfigError, Problem
from ptb.registry.discovery import own_version
from ptb.runs.compose import ComposedRun
from ptb.runs.fingerprint import fingerprint
from ptb.runs.overrides import RESUME_KEYS
from ptb.runs.provenance import record
from ptb.seeding import seed_global
from ptb.storage.checkpoint import Checkpoint
from ptb.storage.run_directory import RunDirectory

# What the last bits of a run depend on, and what people call it.
_TOLD = {
    "ptb": "ptb",
    "torch": "torch",
    "python": "Python",
    "device": "the device",
    "cpu_capability": "the instructions of the CPU",
    "threads": "threads",
    "dataset_sha256": "the data (dataset_sha256)",
}


def describe(composed: ComposedRun) -> dict[str, Any]:
    """What ``manifest.json`` says of a run that is made here and now: versions, machine, data, plugins."""
    config = composed.config
    entries = {section: component.entry for section, component in config.components().items()}
    used = {entry.found for entry in entries.values()}
    files = {
        found.name: record(found, {text for e in entries.values() if e.found is found for text in e.component.requires})
        for found in sorted(used, key=lambda found: found.name)
    }
    return {
        "ptb": own_version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(composed.trainer.device),
        "device_name": describe_device(composed.trainer.device, config.run.threads),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": config.run.threads,
        "seed": config.run.seed,
        "argv": sys.argv,
        "git_commit": git_commit(),
        "dataset_sha256": _fingerprint(composed),
        "plugins": [
            {
                "section": section,
                "id": entry.id,
                "distribution": entry.plugin,
                "version": entry.version,
                "target": entry.target,
                "sha256": files[entry.plugin]["sha256"],
                "used": True,
            }
            for section, entry in entries.items()
        ]
        + [
            {"distribution": p.name, "version": p.version, "status": p.status, "reason": p.reason, "used": False}
            for p in composed.installed
            if p.name not in files
        ],
        "plugin_files": files,
    }


def changes(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What a run was made with and is not here: versions, machine, data, files of the plugins that it uses.

    Args:
        then: the manifest of the run; empty where there is none any more.
        now: what ``describe`` tells.
    """
    if not then:
        return ["no manifest.json tells what the run was made with"]
    return [*_other_machine(then, now), *_other_plugins(_used_plugins(then), _used_plugins(now))]


def check_config(run: RunDirectory, checkpoint: Checkpoint | None, config: ResolvedConfig) -> None:
    """A run goes on as it was begun, but for observers, which may come and go.

    Raises:
        ConfigError: somebody has changed ``config.toml`` since the checkpoint was saved.
    """
    if checkpoint is None or not isinstance(checkpoint.metadata.get("config"), dict):
        return
    then, now = leaves(checkpoint.metadata["config"]), leaves(config.as_config())
    written = leaves(RunConfig.read([run.config]).values)
    observers = {*checkpoint.metadata.get("observers", ()), *observers_of(config)}
    free = tuple(f"callbacks.{label}." for label in observers)
    changed = [key for key in then if now.get(key) != then[key]] + [key for key in written if key not in then]
    problems = [
        Problem(
            key,
            f"is {now.get(key, 'not set')} in {run.config}, and was {then.get(key, 'not set')} when the run was begun: "
            "put it back, or begin a new run",
        )
        for key in sorted(changed)
        if key not in RESUME_KEYS and not key.startswith(free) and not _of_missing_callback(key, config)
    ]
    if problems:
        raise ConfigError(*problems)


def observers_of(config: ResolvedConfig) -> list[str]:
    """The labels of the callbacks that only look."""
    return [label for label, each in config.callbacks.items() if each.entry.component.role == "observer"]


def warn_of_other_data(run: RunDirectory, composed: ComposedRun) -> None:
    """Warns where the data is not that of the run."""
    recorded = run.read_manifest().get("dataset_sha256")
    if recorded is None:
        warnings.warn(f"{run.manifest} does not tell which data the run used: it may have changed since", stacklevel=3)
    elif recorded != _fingerprint(composed):
        warnings.warn(
            f"the data has changed since the run: data set '{composed.config.dataset.entry.name}' has another "
            f"dataset_sha256 than {run.manifest} tells; the figures do not compare with those of the run",
            stacklevel=3,
        )


def git_commit() -> str | None:
    """The commit of the working directory, with ``+`` if files were changed, or None outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _of_missing_callback(key: str, config: ResolvedConfig) -> bool:
    """Whether a key is one of a callback that is left out now: what that means is said where its state is missed."""
    section, _, rest = key.partition(".")
    return section == "callbacks" and rest.partition(".")[0] not in config.callbacks


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)
    return done.stdout.strip()


def _other_machine(then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for key, name in _TOLD.items():
        if key in then and then[key] != now[key]:
            yield f"{name} was {then[key]}, and is {now[key]} here"
    if then.get("device") == now["device"] != "cpu" and then.get("device_name") != now["device_name"]:
        yield f"the device was {then.get('device_name')}, and is {now['device_name']} here"


def _other_plugins(then: dict[str, tuple[str, str]], now: dict[str, tuple[str, str]]) -> Iterator[str]:
    for name in sorted({*then, *now}):
        (was, _), (is_now, _) = (used.get(name, ("not used", "")) for used in (then, now))
        if then.get(name) != now.get(name):
            yield f"plugin {name} was {was}, and is {is_now} here{' with other files' * (was == is_now)}"


def _used_plugins(manifest: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Version and hash of the plugins whose components a run uses, by name."""
    try:
        used = [each for each in manifest["plugins"] if each["used"]]
        return {str(each["distribution"]): (str(each["version"]), str(each["sha256"])) for each in used}
    except (LookupError, TypeError):
        return {}


def _fingerprint(composed: ComposedRun) -> str:
    seed_global(composed.config.run.seed, "fingerprint")  # samples may be changed at random when they are read
    return fingerprint(composed.splits)
