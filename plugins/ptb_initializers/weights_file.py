"""Weights from a file: to train on from what another run, or another program, has learnt."""

import hashlib
import json
import os
import re
import shlex
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ptb import ConfigError, StorageError, checkpoint_path

SHOWN = 3
MOST_NAMED = 8  # names that a message tells to type
MOST_HEADER = 16 << 20  # bytes, for a hundred thousand tensors
CHECKPOINT = re.compile(r"ckpt-\d+-([0-9a-f]{32})\.safetensors")
OF_THE_MODEL = "model."  # is what the names of a model's tensors begin with in a checkpoint of a run


@torch.no_grad()
def weights_file(
    module: nn.Module,
    *,
    path: str,
    prefix: str = "",
    ignore: tuple[str, ...] = (),
    skip: tuple[str, ...] = (),
    fitting: bool = False,
) -> None:
    """Copies a safetensors file into the model, its buffers (the statistics of batch norm) too.

    The file is one of ``ptb import-torch``, of ``safetensors.torch.save_file``, or a checkpoint of a run. Names and
    shapes must be those of the model; floats of another width are converted.

    Args:
        module: the model.
        path: the file; or a run, whose checkpoint is taken: ``RUN``, ``RUN@best``, ``RUN@last`` or ``RUN@STEP``.
        prefix: what is removed from the beginning of the file's names: ``"model."`` of Lightning.
        ignore: patterns of names of the file, after that, which are not used: ``("loss.*",)``.
        skip: patterns of names of the model, as in a shell, which are left as they are: ``("fc3.*",)`` for a last
            layer of other classes.
        fitting: take what fits by name and shape, and leave the rest as it is.

    Raises:
        ConfigError: there is no such run, or it has no such checkpoint.
        StorageError: the file cannot be read, is damaged, or holds weights that are not finite.
        ValueError: the names or shapes are those of another model, or a pattern or the prefix matches nothing. The
            model is as before.

    Warns:
        UserWarning: weights are left as they are, or some of the file are not used; it says which.
    """
    own = {name: value for name, value in module.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
    _check_patterns("skip", skip, own, "the model")
    with _opened(_file(path)) as (file, keys):
        names = {key.removeprefix(prefix): place for key, place in keys.items()}
        if prefix and not any(key.startswith(prefix) for key in keys):
            raise ValueError(f"initializer.prefix is '{prefix}', and no name of the file begins so: {_listed(keys)}")
        _check_patterns("ignore", ignore, names, "the file")
        unused = [name for name in names if _matches(name, ignore)]
        kept = {name: key for name, key in names.items() if name not in unused and not _matches(name, skip)}
        wanted = {name: value for name, value in own.items() if not _matches(name, skip)}
        if fitting:
            wanted = {name: value for name, value in wanted.items() if name in kept and _fits(file, kept[name], value)}
            unused += [name for name in kept if name not in wanted]
            kept = {name: key for name, key in kept.items() if name in wanted}
            if not wanted:
                raise ValueError(f"{path} holds no weights that fit the model: {_listed(names)}")
        _check_fit(path, file, kept, wanted)
        for name, target in wanted.items():
            if isinstance(target, nn.Parameter) and not _is_finite(file.get_tensor(kept[name])):
                raise StorageError(f"{path}: {name} holds values that are not finite; take weights from before that")
        for name, target in wanted.items():
            target.copy_(file.get_tensor(kept[name]))
    if len(wanted) < len(own) or unused:
        left = [name for name in own if name not in wanted]
        parts = [f"left as they are: {_listed(left)}"] if left else []
        parts += [f"in the file and not used: {_listed(unused)}"] if unused else []
        warnings.warn(f"loaded {len(wanted)} of {len(own)} tensors from {path}; {'; '.join(parts)}", stacklevel=2)


def _file(path: str) -> Path:
    """The file itself, or that of a checkpoint of a run."""
    file = Path(path).expanduser()
    is_run = file.is_dir() or ("@" in file.name and not os.path.lexists(file))
    folder = file.with_name(file.name.rpartition("@")[0]) if is_run and not file.is_dir() else file
    if not os.path.lexists(folder):
        raise (ConfigError if is_run else StorageError)(
            f"cannot read initializer.path={path}: {folder} does not exist; if it has moved, add its new place, "
            f"{shlex.quote(f'initializer.path=NEW/PLACE/{file.name}')}"
        )
    return checkpoint_path(file) if is_run else file


def _check_patterns(key: str, patterns: Sequence[str], names: Iterable[str], owner: str) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"initializer.{key} has '{pattern}', which matches no name of {owner}: {_listed(names)}")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """The open file, and its key for each name of the model.

    Raises:
        StorageError: it is no sound safetensors file.
    """
    try:
        if not S_ISREG(path.stat().st_mode):
            raise StorageError(f"initializer.path={path} is not a file")
        _check_begin(path)
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            is_checkpoint = "ptb" in (file.metadata() or {})
            of_model = [key for key in keys if key.startswith(OF_THE_MODEL)] if is_checkpoint else []
            yield file, {key.removeprefix(OF_THE_MODEL): key for key in of_model} or {key: key for key in keys}
    except OSError as error:
        raise StorageError(f"cannot read initializer.path={path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise StorageError(f"{path} is no sound safetensors file: {error}") from error


def _check_begin(path: Path) -> None:
    with path.open("rb") as stream:
        begin = stream.read(9)
        length = int.from_bytes(begin[:8], "little")
        if begin[8:] != b"{":
            is_torch = begin.startswith((b"PK\x03\x04", b"\x80"))
            remedy = (
                f", but one of torch.save; run: ptb import-torch {shlex.quote(str(path))}"
                if is_torch
                else ": it has no header"
            )
            raise StorageError(f"{path} is no safetensors file{remedy}")
        if length > MOST_HEADER:
            raise StorageError(
                f"{path} is no sound safetensors file: its header claims {length:,} bytes, {MOST_HEADER:,} are allowed"
            )
        name = CHECKPOINT.fullmatch(path.name)
        stream.seek(0)
        if name and not hashlib.file_digest(stream, "sha256").hexdigest().startswith(name[1]):
            raise StorageError(f"the checkpoint {path} is damaged: its bytes are not those that were saved")


def _check_fit(path: str, file: Any, kept: Mapping[str, str], wanted: Mapping[str, Tensor]) -> None:
    problems = []
    missing, surplus = [name for name in wanted if name not in kept], [name for name in kept if name not in wanted]
    if missing:
        problems.append(f"the file lacks {_listed(missing)}")
    if surplus:
        problems.append(f"it has {_listed(surplus)}, which the model lacks")
    other = []
    for name in (name for name in wanted if name in kept):
        there, target = file.get_slice(kept[name]), wanted[name]
        if not _fits(file, kept[name], target):
            same = list(there.get_shape()) == list(target.shape)
            forms = (there.get_dtype(), target.dtype) if same else (there.get_shape(), list(target.shape))
            problems.append(f"{name} is {forms[0]} in the file and {forms[1]} in the model")
            other.append(name)
    if problems:
        rest = f" and {len(problems) - SHOWN} more problems" if len(problems) > SHOWN else ""
        raise ValueError(
            f"{path} holds the weights of another model: {'; '.join(problems[:SHOWN])}{rest}. Choose the model that "
            f"they are of{_remedy(missing, surplus, other, wanted)}"
        )


def _fits(file: Any, key: str, target: Tensor) -> bool:
    """Whether a tensor of the file has the shape of one of the model, and is of numbers of its kind."""
    there = file.get_slice(key)
    is_float: bool = there.get_dtype().startswith(("F", "BF"))
    return list(there.get_shape()) == list(target.shape) and target.is_floating_point() == is_float


def _remedy(missing: Sequence[str], surplus: Sequence[str], other: Sequence[str], wanted: Iterable[str]) -> str:
    """What to add to the command, quoted for a shell, so that the rest of the file is used."""
    prefixes = {name.removesuffix(missing[0]) for name in surplus if missing and name.endswith(f".{missing[0]}")}
    if prefix := next((each for each in prefixes if all(each + name in surplus for name in missing)), ""):
        return f", or remove a prefix: {shlex.quote(f'initializer.prefix={prefix}')}"
    left = [*missing, *other]
    if len(left) == len([*wanted]):
        return ""
    parts = [(key, names) for key, names in (("skip", left), ("ignore", [*surplus])) if names]
    if any(len(names) > MOST_NAMED for _, names in parts):
        return ", or name in initializer.skip what shall keep its own values, in initializer.ignore what is not used"
    return ", or use the rest: " + " ".join(shlex.quote(f"initializer.{k}={json.dumps(names)}") for k, names in parts)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor.to(torch.float32)).all())


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    shown = ", ".join(name if name.isprintable() else ascii(name) for name in islice(every, SHOWN))
    return shown + (f" and {len(every) - SHOWN} more" if len(every) > SHOWN else "")
