"""Checkpoint files: one pickle-free safetensors file a step, whose name carries the hash of its bytes.

``ckpt-<step>-<first 32 hex digits of the file's SHA-256>.safetensors`` is written under a temporary name, waited for
until it is on the disk, read back, and renamed; only then are older ones deleted. So a file that has its name is whole,
and one whose bytes do not match its name is not loaded. Nothing points at the latest: it is found by looking.

The weights are the tensors ``model.<name in the state_dict>``; what else a training goes on from are tensors with other
names, and a tree of JSON in the metadata (``ptb.tree``).
"""

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ptb.data.loader import update_digest
from ptb.errors import StorageError, count, listing, one_line
from ptb.storage import atomic
from ptb.storage.codec import DecodeError, Decoder, Node, State, raw

FORMAT = 2
_NAME = re.compile(r"(ckpt|replay)-(\d{1,18})-([0-9a-f]{32})\.safetensors")
# Of one and the same training these differ from time to time.
VOLATILE = ("totals.seconds", "totals.began", "totals.looked_at")
LONGEST_HEADER = 1 << 24  # bytes; some 100,000 tensors
_NO_FILE = (errno.ENOENT, errno.EISDIR, errno.EINVAL, errno.ENXIO, errno.ELOOP)  # a folder, pipe, or link to nothing


class CorruptCheckpoint(StorageError):
    """The bytes of a checkpoint are not those that were saved under its name."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds: the state of a training, and some facts about it."""

    path: Path
    step: int
    facts: dict[str, Any]
    state: State

    @property
    def weights(self) -> dict[str, Tensor]:
        """The model's ``state_dict``."""
        if self.state.node is None:  # format 1 held nothing else
            return self.state.tensors
        with _understood(self.path):
            weights: dict[str, Tensor] = Decoder(self.state.tensors).value(self.state.node["model"])
            return weights

    def restore(self, model: nn.Module) -> None:
        """Copies the weights into the model.

        Raises:
            StorageError: the names or shapes are those of another model.
        """
        try:
            load_weights(model, self.weights)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise StorageError(f"the checkpoint of step {self.step} does not fit the model: {error}") from error


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Loads a ``state_dict``; a buffer that has grown, or has another dtype than at first, gets the room it needs.

    Raises:
        RuntimeError: it is that of another model.
    """
    for prefix, module in model.named_modules():
        for name, buffer in module._buffers.items():
            saved = weights.get(f"{prefix}.{name}".removeprefix("."))
            if isinstance(saved, Tensor) and (buffer is None or _form(saved) != _form(buffer)):
                module._buffers[name] = torch.empty_like(
                    saved, device=saved.device if buffer is None else buffer.device
                )
    model.load_state_dict(weights)


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """The SHA-256 of a ``state_dict``: entries by name, each as name, NUL, dtype, NUL, shape, NUL, bytes.

    dtype and shape are spelled as torch and Python print them: ``torch.float32`` and ``(6, 1, 5, 5)``.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name}\0".encode())
        update_digest(digest, state[name])
    return digest.hexdigest()


def save_checkpoint(folder: Path, step: int, state: State, facts: Mapping[str, Any], kind: str = "ckpt") -> Path:
    """Writes one checkpoint, so that it is on the disk under its name or not at all.

    Args:
        folder: where it goes.
        step: optimizer steps done.
        state: of the training.
        facts: JSON values that can be read without the state.
        kind: what its name begins with.

    Raises:
        StorageError: the file cannot be written; the message names it and its size.
    """
    told = json.dumps({"format": FORMAT, "step": step, "facts": facts, "state": state.node})
    data = save(state.tensors, {"ptb": told})
    if int.from_bytes(data[:8], "little") > LONGEST_HEADER:
        raise StorageError(f"the state of step {step} has too many parts for one file ({len(state.tensors):,} tensors)")
    path = folder / f"{kind}-{step}-{hashlib.sha256(data).hexdigest()[:32]}.safetensors"
    atomic.write_atomically(path, data)
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint and holds its bytes against its name.

    Raises:
        CorruptCheckpoint: they do not match, or are no checkpoint of ptb, or it is no file.
        StorageError: the file cannot be read, or has a format that this version does not know.
    """
    try:
        data = atomic.read(path)
    except OSError as error:
        kind = (
            CorruptCheckpoint if error.errno in _NO_FILE else StorageError
        )  # a disk that fails now may not fail later
        raise kind(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    match = _NAME.fullmatch(path.name)
    if match is None or hashlib.sha256(data).hexdigest()[:32] != match[3]:
        raise CorruptCheckpoint(
            f"the checkpoint {path} is damaged: its bytes are not those that were saved under this name"
        )
    with _understood(path):
        told = _told(data)
        if not isinstance(told, dict) or not isinstance(told.get("format"), int):
            raise DecodeError("no format")
        if told["format"] > FORMAT:
            raise StorageError(
                f"the checkpoint {path} has format {told['format']}, and this version of ptb knows up to {FORMAT}: "
                "use the version that wrote it, or a newer one"
            )
        if told["step"] != int(match[2]):
            raise CorruptCheckpoint(
                f"the checkpoint {path} is that of step {told['step']}, under the name of another one"
            )
        tensors = load(data)
        if told["format"] == 1:
            return Checkpoint(path, told["step"], {"best_step": told.get("best_step")}, State(None, tensors))
        if not isinstance(told["facts"], dict) or not isinstance(told["state"], dict):
            raise DecodeError("no state")
        return Checkpoint(path, told["step"], told["facts"], State(told["state"], tensors))


def find_checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints of a folder by step, oldest first; files with other names are not looked at.

    Where two have the same step, the one that was written last counts.

    Raises:
        StorageError: the folder cannot be read.
    """
    return {step: path for step, _, path in _found(folder)}


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Deletes all but the newest ones and what they call their best; call it only after a newer one was saved.

    Nothing is deleted while one of the newest is damaged, so that its best cannot be known.

    Args:
        folder: where they are.
        keep: how many of the newest.

    Raises:
        StorageError: one cannot be read or deleted.
    """
    checkpoints = find_checkpoints(folder)
    newest = list(checkpoints)[-keep:]
    kept = {checkpoints[step] for step in newest}
    try:
        kept |= {checkpoints[best] for step in newest if (best := _best_step(checkpoints[step])) in checkpoints}
    except CorruptCheckpoint:
        return
    for _, _, path in _found(folder):
        if path not in kept:
            with atomic.told(path):
                atomic.remove(path)


def latest_valid(folder: Path, run: str | None, tell: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint whose bytes are those that were saved; None where there never was one.

    CorruptCheckpoint ones are set aside as ``.corrupt-<name>``, and told.

    Args:
        folder: where they are.
        run: the id of the run that must have written it; None where that is not known.
        tell: is called with a line for each damaged one.

    Raises:
        StorageError: there are checkpoints, and none is intact; or one cannot be read.
    """
    aside = [folder / name for name in _names(folder) if name.startswith(".corrupt-")]
    foreign: list[Path] = []
    for _, _, path in reversed(_found(folder)):
        try:
            checkpoint = load_checkpoint(path)
        except CorruptCheckpoint as error:
            aside.append(_set_aside(path))
            tell(f"{error}; it is kept as {aside[-1].name}")
            continue
        if run is None or checkpoint.facts.get("run", run) == run:
            for each in foreign:
                tell(f"the checkpoint {each} is one of another run; it is kept as {_set_aside(each).name}")
            return checkpoint
        foreign.append(path)
    if foreign:  # perhaps it is the id that is wrong
        raise StorageError(
            f"{listing([path.name for path in foreign], 3)} in {folder} are of another run than manifest.json tells "
            f"('run': {run!r}): put the manifest.json of their run back, or the checkpoints of this one"
        )
    if aside:
        raise StorageError(
            f"no checkpoint in {folder} is intact ({count(len(aside), 'damaged one')}: "
            f"{listing([path.name for path in aside], 3)}): put an intact copy back under its own name, "
            "or begin a new run"
        )
    return None


def differences(one: Checkpoint, other: Checkpoint) -> list[str]:
    """What two checkpoints of a training at one step differ in, to the last bit; time that was measured is left out."""
    return list(_differing(one.state, other.state, one.state.node, other.state.node, ""))


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the model's ``state_dict``; a module may keep numbers and texts there beside them."""
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def _form(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.dtype


def _found(folder: Path) -> list[tuple[int, int, Path]]:
    """Step, time and path of each checkpoint, oldest first."""
    found = []
    for name in _names(folder):
        match = _NAME.fullmatch(name)
        if match and match[1] == "ckpt":
            path = folder / name
            with atomic.told(path, verb="read"), suppress(FileNotFoundError):
                found.append((int(match[2]), atomic.changed_at(path), path))
    return sorted(found)


def _names(folder: Path) -> list[str]:
    with atomic.told(folder, verb="read"), suppress(FileNotFoundError):
        return atomic.names(folder)
    return []


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f".corrupt-{path.name}")
    number = 2
    while os.path.lexists(aside):
        aside = path.with_name(f".corrupt-{number}-{path.name}")
        number += 1
    with atomic.told(aside):
        atomic.replace(path, aside)
        atomic.sync_folder(path.parent)
    return aside


def _best_step(path: Path) -> int | None:
    """What a checkpoint calls the best step, if there is one.

    Raises:
        CorruptCheckpoint: that does not stand in it any more.
        StorageError: the file cannot be read.
    """
    with atomic.told(path, verb="read"), _understood(path):
        size = int.from_bytes(atomic.read(path, 0, 8), "little")
        told = _told(atomic.read(path, 0, 8 + min(size, LONGEST_HEADER)))
        best = told.get("facts", told).get("best_step")  # format 1 has no facts
        return best if isinstance(best, int) else None


def _told(data: bytes) -> Any:
    """What stands in the metadata of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    if not 0 < size <= min(len(data) - 8, LONGEST_HEADER):
        raise DecodeError("its header is cut")
    return json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["ptb"])


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Turns what goes wrong in reading a file of the right hash into a ``CorruptCheckpoint``."""
    try:
        yield
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise CorruptCheckpoint(f"{path} is not a checkpoint of ptb: {one_line(error)}") from error


def _differing(one: State, other: State, a: Node, b: Node, path: str) -> Iterator[str]:
    if path in VOLATILE:
        return
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        if ":tensor" in a:
            yield from _differing_tensors(one.tensors[a[":tensor"]], other.tensors[b[":tensor"]], a[":tensor"])
        for key in a:
            if key != ":tensor":
                yield from _differing(one, other, a[key], b[key], f"{path}.{key}".removeprefix("."))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for place, (left, right) in enumerate(zip(a, b, strict=True)):
            yield from _differing(one, other, left, right, f"{path}.{place}")
    elif type(a) is not type(b) or a != b:
        yield f"{path}: {_shown(a)} and {_shown(b)}"


def _differing_tensors(a: Tensor, b: Tensor, name: str) -> Iterator[str]:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        yield f"{name}: {a.dtype} {list(a.shape)} and {b.dtype} {list(b.shape)}"
    elif a.numel():
        bytes_a, bytes_b = (raw(t).view(t.numel(), -1) for t in (a, b))
        if number := int((bytes_a != bytes_b).any(1).sum()):
            yield f"{name}: {number} of {count(a.numel(), 'value')} differ"


def _shown(node: Node) -> str:
    text = json.dumps(node)
    return text if len(text) <= 60 else f"{text[:57]}..."
