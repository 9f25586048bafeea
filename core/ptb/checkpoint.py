"""Checkpoint files: one pickle-free safetensors file a step, whose name carries the hash of its bytes.

``ckpt-<step>-<first 32 hex digits of the file's SHA-256>.safetensors`` is written under a temporary name, flushed to
the disk, and renamed; so a file that has its name is whole, and one whose bytes do not match its name is not loaded.
Nothing points at the latest: it is found by looking.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ptb.batches import update_digest
from ptb.errors import StorageError
from ptb.rundir import write_atomically

FORMAT = 1
KEEP_LAST = 2
_NAME = re.compile(r"ckpt-(\d+)-([0-9a-f]{32})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds: the model's tensors and the facts that were saved with them."""

    step: int
    facts: dict[str, Any]
    tensors: dict[str, Tensor]

    def restore(self, model: nn.Module) -> None:
        """Copies the tensors into the model.

        Raises:
            StorageError: the names or shapes are those of another model.
        """
        try:
            model.load_state_dict(self.tensors)
        except RuntimeError as error:
            raise StorageError(f"the checkpoint of step {self.step} does not fit the model: {error}") from error


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """The SHA-256 of a ``state_dict``: entries by name, each as name, NUL, dtype, NUL, shape, NUL, bytes.

    dtype and shape are spelled as torch and Python print them: ``torch.float32`` and ``(6, 1, 5, 5)``.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name}\0".encode())
        update_digest(digest, state[name])
    return digest.hexdigest()


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
    """Writes one checkpoint, so that it is on the disk under its name or not at all.

    Args:
        folder: where it goes.
        step: optimizer steps done.
        state: the model's ``state_dict``.
        facts: JSON values to keep with it, such as the epoch and the best step so far.

    Raises:
        StorageError: the file cannot be written; the message names it and its size.
    """
    # safetensors refuses tensors that share memory (tied weights, views): each entry gets memory of its own
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}
    data = save(tensors, {"ptb": json.dumps({"format": FORMAT, "step": step, **facts})})
    path = folder / f"ckpt-{step}-{hashlib.sha256(data).hexdigest()[:32]}.safetensors"
    write_atomically(path, data)
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint and holds its bytes against its name.

    Raises:
        StorageError: the file cannot be read, is damaged, or has a format that this version does not know.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read the checkpoint {path}: {error.strerror}") from error
    match = _NAME.fullmatch(path.name)
    if match is None or not hashlib.sha256(data).hexdigest().startswith(match[2]):
        raise StorageError(f"the checkpoint {path} is damaged: its bytes are not those that were saved under this name")
    try:
        size = int.from_bytes(data[:8], "little")
        facts = dict(json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["ptb"]))
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} is not a checkpoint of ptb: {error}") from error
    if facts.get("step") != int(match[1]):
        raise StorageError(f"{path} was renamed: it was saved at step {facts.get('step')}")
    if facts.get("format") != FORMAT:
        raise StorageError(f"{path} has format {facts.get('format')!r}; this version of ptb reads format {FORMAT}")
    return Checkpoint(int(match[1]), facts, tensors)


def find_checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints of a folder by step, oldest first; files with other names are not looked at."""
    found = [(int(match[1]), path) for path in folder.glob("ckpt-*") if (match := _NAME.fullmatch(path.name))]
    return dict(sorted(found))


def prune_checkpoints(folder: Path, best: int | None) -> None:
    """Deletes all but the newest ones and the best; call it only after a newer one was saved."""
    checkpoints = find_checkpoints(folder)
    for step in list(checkpoints)[:-KEEP_LAST]:
        if step != best:
            checkpoints[step].unlink(missing_ok=True)


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """The model's ``state_dict``.

    Raises:
        StorageError: an entry is no tensor, which a pickle-free file cannot hold.
    """
    state = model.state_dict()
    odd = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if odd:
        raise StorageError(
            f"the model's state_dict holds other things than tensors, which cannot be saved: {', '.join(odd)}"
        )
    return dict(state)
