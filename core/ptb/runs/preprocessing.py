"""The preprocessor of a run on disk: ``preprocessor.json`` and ``preprocessor.safetensors``, without pickle."""

import hashlib
import json
from dataclasses import asdict
from pkgutil import resolve_name
from typing import Any, NamedTuple

from safetensors.torch import load, save

from ptb.data.preprocessor import Preprocessor
from ptb.data.spec import DataSpec, InputSpec
from ptb.errors import ConfigError, PluginError, StorageError, one_line
from ptb.registry.local import advice
from ptb.registry.registry import Registry
from ptb.runs.blame import explaining
from ptb.runs.compose import ComposedRun
from ptb.storage import atomic
from ptb.storage.codec import State, decode, encode
from ptb.storage.run_directory import SCHEMA, RunDirectory, read_json

NAMES = ("preprocessor.json", "preprocessor.safetensors")


def encoded(composed: ComposedRun) -> dict[str, bytes]:
    """The files of a data set's preprocessor by name; none where it has none.

    Beside it they say how scores are read: how many the loss has asked for, and whether it changes them.

    Raises:
        PluginError: its state holds what cannot be saved, or its class could not be found again.
    """
    preprocessor, spec = composed.bundle.preprocessor, composed.bundle.spec
    dataset, loss = composed.config.dataset, composed.trainer.objective.loss
    if preprocessor is None:
        return {}
    target = f"{type(preprocessor).__module__}:{type(preprocessor).__qualname__}"
    with explaining(PluginError, f"the preprocessor {target} of {dataset.entry} cannot be saved"):
        if "<locals>" in target:
            raise ValueError("its class must stand at the top of a module, to be found again")
        state = encode(preprocessor.state_dict())
        values = {
            "schema": SCHEMA,
            "target": target,
            "distribution": dataset.entry.plugin,
            "spec": asdict(spec),
            "output_size": getattr(loss, "output_size", spec.output_size),
            "predictions": hasattr(loss, "predictions"),
            "state": state.node,
        }
        return dict(zip(NAMES, (json.dumps(values, indent=2).encode(), save(state.tensors)), strict=True))


def write(run: RunDirectory, files: dict[str, bytes]) -> dict[str, Any]:
    """Write the files, and return what the manifest says of them."""
    for name, content in files.items():
        atomic.write_atomically(run.path / name, content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return {"preprocessor": hashes} if files else {}


class Saved(NamedTuple):
    """What a run has saved of its preprocessing: the width of the model's output, and whether the loss reads it."""

    preprocessor: Preprocessor
    output_size: int
    predictions: bool


def read(run: RunDirectory, registry: Registry) -> Saved:
    """The preprocessor of a run; its class is looked up in the plugin that the run has recorded, and nowhere else.

    Raises:
        ConfigError: the run has none.
        StorageError: its files are not those that were saved, or its manifest cannot be read.
        PluginError: its plugin is not installed, or has no such class.
    """
    manifest = read_json(run.manifest)
    if not manifest:
        raise StorageError(f"{run.manifest} is not there or damaged; put it back")
    hashes = manifest.get("preprocessor")
    if not isinstance(hashes, dict) or {*hashes} != {*NAMES}:
        raise ConfigError(
            f"{run.path} has no preprocessor: its data set gives none, so nothing is known of how files become samples"
        )
    content = {}
    for name in NAMES:
        with atomic.storage_errors(run.path / name, verb="read"):
            content[name] = atomic.read(run.path / name)
        if hashlib.sha256(content[name]).hexdigest() != hashes[name]:
            raise StorageError(f"{run.path / name} is damaged: its bytes are not those that were saved; put it back")
    try:
        values = json.loads(content[NAMES[0]])
        spec = dict(values["spec"])
        fields = {name: InputSpec(**each) for name, each in spec.pop("fields").items()}
        made = DataSpec(**spec, fields=fields)
        state = decode(State(values["state"], load(content[NAMES[1]])))
        target, distribution = str(values["target"]), str(values["distribution"])
        width, predictions = int(values["output_size"]), bool(values["predictions"])
    except Exception as error:  # whatever else it holds
        raise StorageError(f"{run.path / NAMES[0]} is not a preprocessor of ptb: {one_line(error)}") from error
    kind = _class(run, target, distribution, registry)
    with explaining(PluginError, f"the preprocessor {target} ({distribution}) does not take its saved state"):
        preprocessor = kind()
        preprocessor.spec = made
        preprocessor.load_state_dict(state)
    return Saved(preprocessor, width, predictions)


def _class(run: RunDirectory, target: str, distribution: str, registry: Registry) -> type[Preprocessor]:
    """The class at ``target``; only modules of the plugin are imported, because a run may come from anywhere."""
    rejected = [plugin.found for plugin in registry.rejected()]
    plugin = next((each for each in registry.found() if each.name == distribution and each not in rejected), None)
    if plugin is None:
        is_file = distribution.endswith(".py")
        remedy = advice(distribution, [run.config]) if is_file else f"run\n  python -m pip install {distribution}"
        raise PluginError(
            f"the run needs the plugin '{distribution}' for its preprocessor, and it is not installed or not used; "
            f"{remedy}"
        )
    module = target.partition(":")[0]
    tops = {point.module.partition(".")[0] for point in plugin.entry_points}
    if module.partition(".")[0] not in tops:
        raise PluginError(f"the preprocessor {target} of the run is in no module of the plugin '{plugin}'")
    with explaining(PluginError, f"the preprocessor {target} of '{plugin}' cannot be imported"):
        kind: Any = resolve_name(target)
    if not (isinstance(kind, type) and issubclass(kind, Preprocessor)):
        raise PluginError(f"{target} of '{plugin}' is not a ptb.Preprocessor")
    return kind
