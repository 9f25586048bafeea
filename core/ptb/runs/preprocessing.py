"""The preprocessor of a run on disk: ``preprocessor.json`` and ``preprocessor.safetensors``, without pickle."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from safetensors.torch import save

from ptb.config.resolve import ComponentConfig
from ptb.data.spec import DataBundle
from ptb.errors import PluginError
from ptb.runs.blame import explaining
from ptb.storage import atomic
from ptb.storage.codec import encode
from ptb.storage.run_directory import SCHEMA, RunDirectory

NAMES = ("preprocessor.json", "preprocessor.safetensors")


def encoded(dataset: ComponentConfig, bundle: DataBundle) -> dict[str, bytes]:
    """The files of a data set's preprocessor by name; none where it has none.

    Raises:
        PluginError: its state holds what cannot be saved, or its class could not be found again.
    """
    preprocessor = bundle.preprocessor
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
            "spec": asdict(bundle.spec),
            "state": state.node,
        }
        return dict(zip(NAMES, (json.dumps(values, indent=2).encode(), save(state.tensors)), strict=True))


def write(run: RunDirectory, files: dict[str, bytes]) -> dict[str, Any]:
    """Write the files, and return what the manifest says of them."""
    for name, content in files.items():
        atomic.write_atomically(run.path / name, content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return {"preprocessor": hashes} if files else {}
