"""Checkpoint files: one safetensors file a step, without pickle, whose name carries the hash of its bytes.

``ckpt-<step>-<first 32 hex digits of the file's SHA-256>.safetensors`` is written under a temporary name, flushed, read
back and renamed; only then are older ones deleted. So a file that has such a name is whole, and one whose bytes do not
match its name is not loaded. Nothing points at the newest: it is found by looking.

The weights are the tensors ``model.<name in the state_dict>``. All else that training needs to resume is in tensors
with other names, and as JSON in the metadata (``ptb.storage.codec``).

All functions raise ``StorageError`` where the disk fails.
"""

import errno
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ptb.device import is_memory_error
from ptb.errors import ConfigError, StorageError, count, listing, one_line, tidy
from ptb.storage import atomic
from ptb.storage.codec import DecodeError, Node, State, decode, encode
from ptb.storage.digest import raw
from ptb.storage.run_directory import RunDirectory, split_checkpoint

FORMAT = 3  # formats 1 and 2 are of builds before the first release, and not read
# Measured times: they differ between two runs of one training.
VOLATILE = ("train_state.seconds", "train_state.epoch_start_time")
MAX_HEADER = 1 << 24  # bytes; some 100,000 tensors
_NAME = re.compile(r"ckpt-(\d{1,18})-([0-9a-f]{32})\.safetensors")
_NO_FILE = (errno.ENOENT, errno.EINVAL, errno.ENXIO, errno.ELOOP)  # a folder, a pipe, or a link to nothing


class CorruptCheckpoint(StorageError):
    """The bytes of a checkpoint are not those that were saved under its name."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint file, its state still encoded."""

    path: Path
    step: int
    metadata: dict[str, Any]
    state: State

    def decode(self, device: torch.device | None = None) -> dict[str, Any]:
        """The state as it was saved, tensors on the CPU or on ``device`` as they were then."""
        with _corrupt_if_malformed(self.path):
            return dict(decode(self.state, device))


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], metadata: Mapping[str, Any]) -> Path:
    """Write one checkpoint, so that it is on the disk under its name or not at all.

    ``state`` is nested dicts of all that training needs to resume; its ``model`` is the model's ``state_dict``.
    ``metadata`` is JSON that can be read without the state; its ``labels`` maps labels to steps, which are not pruned.
    Raises ``EncodeError`` if the state holds something that cannot be saved.
    """
    encoded = encode(dict(state))
    described = {"format": FORMAT, "step": step, "metadata": metadata, "state": encoded.node}
    data = save(encoded.tensors, {"ptb": json.dumps(described)})
    if int.from_bytes(data[:8], "little") > MAX_HEADER:
        raise StorageError(
            f"the state of step {step} has too many parts for one file ({len(encoded.tensors):,} tensors)"
        )
    path = folder / f"ckpt-{step}-{hashlib.sha256(data).hexdigest()[:32]}.safetensors"
    atomic.write_atomically(path, data)
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and compare its bytes with its name; raises ``CorruptCheckpoint`` where they do not match."""
    try:
        data = atomic.read(path)
    except OSError as error:
        # A disk that fails now may work later; what is no file will never be one.
        kind = CorruptCheckpoint if error.errno in _NO_FILE else StorageError
        raise kind(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    match = _NAME.fullmatch(path.name)
    if match is None or hashlib.sha256(data).hexdigest()[:32] != match[2]:
        raise CorruptCheckpoint(
            f"the checkpoint {path} is damaged: its bytes are not those that were saved under this name"
        )
    with _corrupt_if_malformed(path):
        described = _described(data)
        if described["format"] != FORMAT:
            raise StorageError(
                f"the checkpoint {path} has format {tidy(str(described['format']), 20)}, and this version of ptb reads "
                f"format {FORMAT} only: use the version that wrote it"
            )
        if described["step"] != int(match[1]):
            raise DecodeError("its step is not that of its name")
        return Checkpoint(path, int(match[1]), dict(described["metadata"]), State(dict(described["state"]), load(data)))


def find_checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints of a folder by step, oldest first; files with other names are ignored.

    Where two have the same step, the one that was written last counts.
    """
    return {step: path for step, _, path in _found(folder)}


def resolve_checkpoint(folder: Path, wanted: str | int | None = None) -> Path:
    """The file of the checkpoint ``wanted``: ``"last"``, ``"best"``, another label, or a step.

    None is ``best``, or else ``last``. Raises ``ConfigError`` if there is no such checkpoint.
    """
    by_name = {str(step): path for step, path in find_checkpoints(folder).items()}
    if not by_name:
        raise ConfigError(f"{folder.parent} has no checkpoints")
    last = list(by_name.values())[-1]
    if str(wanted) in by_name or wanted == "last":
        return by_name.get(str(wanted), last)
    labels = _labels(load_checkpoint(last).metadata)
    labelled = {label: by_name[str(step)] for label, step in labels.items() if str(step) in by_name}
    if wanted is None:
        return labelled.get("best", last)
    if wanted not in labelled:
        unmonitored = ", because no evaluation of the monitored figure was saved" if wanted == "best" else ""
        there = listing([f"{label} (step {labels[label]})" for label in labelled] + ["last"])
        raise ConfigError(
            f"{folder.parent} has no checkpoint '{wanted}'{unmonitored}; it has {there} and the steps "
            f"{listing([*by_name])}"
        )
    return labelled[str(wanted)]


def checkpoint_path(run: str | Path) -> Path:
    """The file of a checkpoint of a run, a safetensors file in which the names of the model begin with ``model.``.

    Args:
        run: the run directory, ``RUN``, or ``RUN@C`` with C ``best``, ``last``, a step or a label; without C it is
            ``best`` if there is one, else ``last``.

    Raises:
        ConfigError: there is no such run, or it has no such checkpoint.
    """
    folder, wanted = split_checkpoint(os.path.expanduser(run))
    return resolve_checkpoint(RunDirectory.open(folder).checkpoints, wanted)


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints and the steps that those label; call it only after a save.

    Nothing is deleted while one of the newest is damaged, because its labels are not known.
    """
    checkpoints = find_checkpoints(folder)
    newest = list(checkpoints)[-keep:]
    try:
        labelled = [step for each in newest for step in _labels(_read_metadata(checkpoints[each])).values()]
    except CorruptCheckpoint:
        return
    kept = {checkpoints[step] for step in (*newest, *labelled) if step in checkpoints}
    for _, _, path in _found(folder):
        if path not in kept:
            with atomic.storage_errors(path):
                os.unlink(path)


def latest_valid(folder: Path, run: str | None, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint whose bytes are those that were saved; None where there never was one.

    Damaged ones are renamed to ``.corrupt-<name>`` and reported with ``warn``. Raises ``StorageError`` if there are
    checkpoints and none is intact, or the newest intact one is not of ``run``, as its metadata says; None accepts any.
    """
    corrupt = [name for name in _names(folder) if name.startswith(".corrupt-")]
    for _, _, path in reversed(_found(folder)):
        try:
            checkpoint = load_checkpoint(path)
        except CorruptCheckpoint as error:
            corrupt.append(_rename_corrupt(path))
            warn(f"{error}; it is kept as {corrupt[-1]}")
            continue
        if run is not None and checkpoint.metadata.get("run", run) != run:
            raise StorageError(
                f"the checkpoint {path} is of another run than manifest.json says ('run': {run!r}): move it away, or "
                "put the manifest.json of its run back"
            )
        return checkpoint
    if corrupt:
        raise StorageError(
            f"no checkpoint in {folder} is intact ({count(len(corrupt), 'damaged one')}: {listing(corrupt, 3)}): put "
            "an intact copy back under its own name, or begin a new run"
        )
    return None


def differences(one: State, other: State) -> list[str]:
    """What differs between two states of a training at one step, to the last bit, one line each; not measured times."""
    left, right = ({place: leaf for place, *leaf in _leaves(each, each.node)} for each in (one, other))
    found = []
    for place, (name, _) in (left | right).items():
        values = (each.get(place, (name, "nothing"))[1] for each in (left, right))
        if name not in VOLATILE and (difference := _difference(*values)):
            found.append(f"{name}: {difference}")
    return found


def _found(folder: Path) -> list[tuple[int, int, Path]]:
    """Step, time of change in nanoseconds, and path of each checkpoint, oldest first."""
    found = []
    for name in _names(folder):
        if match := _NAME.fullmatch(name):
            path = folder / name
            with atomic.storage_errors(path, verb="read"), suppress(FileNotFoundError):
                found.append((int(match[1]), os.lstat(path).st_mtime_ns, path))
    return sorted(found)


def _names(folder: Path) -> list[str]:
    with atomic.storage_errors(folder, verb="read"), suppress(FileNotFoundError):
        return os.listdir(folder)
    return []


def _rename_corrupt(path: Path) -> str:
    target = path.with_name(f".corrupt-{path.name}")
    if os.path.lexists(target):
        target = path.with_name(f".corrupt-{secrets.token_hex(4)}-{path.name}")
    with atomic.storage_errors(target):
        os.replace(path, target)
        atomic.sync_folder(path.parent)
    return target.name


def _labels(metadata: Mapping[str, Any]) -> dict[str, int]:
    labels = metadata.get("labels")
    return {key: step for key, step in labels.items() if type(step) is int} if isinstance(labels, dict) else {}


def _read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a checkpoint without its state; its hash is not checked."""
    with atomic.storage_errors(path, verb="read"), _corrupt_if_malformed(path):
        size = int.from_bytes(atomic.read(path, 8), "little")
        return dict(_described(atomic.read(path, 8 + min(size, MAX_HEADER)))["metadata"])


def _described(data: bytes) -> Any:
    """The JSON that ptb keeps in the metadata of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    if not 0 < size <= min(len(data) - 8, MAX_HEADER):
        raise DecodeError("its header is cut")
    return json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["ptb"])


@contextmanager
def _corrupt_if_malformed(path: Path) -> Iterator[None]:
    """Turn what goes wrong in parsing a file into a ``CorruptCheckpoint``."""
    try:
        yield
    except (SafetensorError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        if is_memory_error(error):  # that says nothing about the file
            raise
        raise CorruptCheckpoint(f"{path} is not a checkpoint of ptb: {one_line(error)}") from error


def _leaves(state: State, node: Node, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Place, name and value of every number, text, tensor and empty container of a state."""
    inner = dict(enumerate(node)) if isinstance(node, list) else node
    if not isinstance(inner, dict) or not inner:
        yield place, ".".join(place), node
        return
    for key, each in inner.items():
        if key == ":tensor":
            yield place, each, state.tensors[each]
        else:
            yield from _leaves(state, each, (*place, str(key)))


def _difference(a: Any, b: Any) -> str:
    if isinstance(a, Tensor) and isinstance(b, Tensor) and (a.dtype, a.shape) == (b.dtype, b.shape):
        differing = (raw(a) != raw(b)).view(a.numel(), -1).any(1) if a.numel() else a
        return f"{int(differing.sum())} of {count(a.numel(), 'value')} differ" if differing.any() else ""
    same = type(a) is type(b) and not isinstance(a, Tensor) and a == b
    return "" if same else f"{_shown(a)} and {_shown(b)}"


def _shown(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else tidy(json.dumps(value), 60)
