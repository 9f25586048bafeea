"""Reads the weights in a file of ``torch.save``, which could hold code beside them, and writes safetensors.

Two guards stand before what is in the file: ``archive`` checks it without running it, then torch reads it with
``weights_only=True``. There is no other way in, and no setting lowers them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from ptb import StorageError
from ptb.internals import listing, one_line, tidy, write_atomically
from ptb_import_torch.archive import REMEDY, check_archive

HOLDERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")  # DataParallel and torch.compile put them before every name
MOST_COPIES = 32  # times the size of the file, where tensors share memory


@dataclass(frozen=True)
class TorchWeights:
    """The weights of a file of ``torch.save``.

    Args:
        tensors: by name, on the CPU.
        holder: the key under which they were; empty if the file is a ``state_dict`` itself.
        prefix: what was removed from the beginning of every name.
        ignored: the other keys of the file.
    """

    tensors: dict[str, Tensor]
    holder: str = ""
    prefix: str = ""
    ignored: tuple[str, ...] = ()


def read_torch_file(path: Path) -> TorchWeights:
    """The weights in a ``.pt`` or ``.pth`` file: a ``state_dict``, or a dict with one under a key of ``HOLDERS``.

    Raises:
        StorageError: the file cannot be read, is damaged, has a format from before torch 1.6, or holds something else
            than weights. The message says what was found and what to do.
    """
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode):
            raise StorageError(f"{path} is not a file")
        with path.open("rb") as stream:  # the same open file for the checks and for torch
            check_archive(path, stream)
            stream.seek(0)
            try:
                found = torch.load(stream, map_location="cpu", weights_only=True)
            except Exception as error:  # bad values in a pickle can raise anything
                raise StorageError(f"{path} cannot be read as weights: {_cause(error)}; {REMEDY}") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise StorageError(f"cannot read {str(path)!r}: {error}") from error
    weights = _find_weights(path, found)
    total = sum(tensor.numel() * tensor.element_size() for tensor in weights.tensors.values())
    if total > MOST_COPIES * status.st_size:
        raise StorageError(
            f"{path}: its tensors would take {total:,} bytes, the file has {status.st_size:,}: call .clone() on "
            f"tensors that were made by expand, and {REMEDY}"
        )
    return weights


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes a safetensors file with the names sorted. Tensors that share memory get memory of their own.

    Raises:
        StorageError: the file cannot be written, or the format has no place for such a tensor.
    """
    try:
        own = {name: tensors[name].detach().clone(memory_format=torch.contiguous_format) for name in sorted(tensors)}
        data = save(own, {"format": "pt"})
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise StorageError(f"these tensors cannot be written as safetensors: {one_line(error)}") from error
    write_atomically(path, data)


def _find_weights(path: Path, found: Any) -> TorchWeights:
    """Picks the ``state_dict`` in what torch has read."""
    if not isinstance(found, dict):
        raise StorageError(f"{path} holds {_describe(found)}, not a state_dict; {REMEDY}")
    found = _plain(found)
    if _is_state(found):
        return _name_weights(path, found)
    dicts = {key: _plain(found[key]) for key in HOLDERS if isinstance(found.get(key), dict)}
    holders = [key for key, value in dicts.items() if _is_state(value)] or [*dicts]
    if len(holders) > 1:
        raise StorageError(f"{path} holds several dicts that may be weights: {', '.join(holders)}; {REMEDY}")
    if not holders:
        raise StorageError(
            f"{path} holds a dict with {_describe_items(found)}. There is no state_dict, which holds tensors only, "
            f"neither there nor under {' or '.join(HOLDERS)}; {REMEDY}"
        )
    (holder,) = holders
    ignored = tuple(tidy(key, 80) if isinstance(key, str) else _describe(key) for key in found if key != holder)
    return _name_weights(path, dicts[holder], holder, ignored)


def _name_weights(path: Path, state: dict[Any, Any], holder: str = "", ignored: tuple[str, ...] = ()) -> TorchWeights:
    where = f"{path}, {holder}" if holder else str(path)
    if not _is_state(state):
        others = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
        raise StorageError(
            f"{where}: a state_dict holds tensors only, this one has {_describe_items(others)}; {REMEDY}"
        )
    for name in state:
        if not isinstance(name, str) or not name.isprintable() or name in ("", "__metadata__"):
            raise StorageError(f"{where}: {tidy(ascii(name), 80)} cannot be the name of a tensor; {REMEDY}")
    prefix = ""
    while longer := [prefix + more for more in PREFIXES if all(_goes_on(name, prefix + more) for name in state)]:
        (prefix,) = longer
    return TorchWeights({name.removeprefix(prefix): tensor for name, tensor in state.items()}, holder, prefix, ignored)


def _plain(found: dict[Any, Any]) -> dict[Any, Any]:
    """A dict without attributes: an ``OrderedDict`` in a pickle may bring its own ``items``."""
    return dict(dict.items(found))


def _is_state(found: dict[Any, Any]) -> bool:
    return len(found) > 0 and all(isinstance(value, Tensor) for value in found.values())


def _goes_on(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and name != prefix


def _cause(error: Exception) -> str:
    """The sentence of torch that says what is wrong; its others advise to lower the guard."""
    _, found, message = str(error).partition("WeightsUnpickler error: ")
    return tidy((message if found else one_line(error)).partition(". ")[0], 200)


def _describe(value: Any) -> str:
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, dict | list | tuple) else type(value).__name__


def _describe_items(items: dict[Any, Any]) -> str:
    shown = [
        f"{tidy(key, 80) if isinstance(key, str) else _describe(key)} ({_describe(value)})"
        for key, value in items.items()
    ]
    return listing(shown, 6) or "nothing"
