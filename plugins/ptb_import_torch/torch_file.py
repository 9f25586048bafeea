"""Reads the files that could run a stranger's code, those of ``torch.save``, and writes safetensors.

A ``.pt`` file is a zip archive of tensors and a pickle that says what they are. Before torch reads it, the archive is
held against what ``torch.save`` writes, and the pickle against the few names that weights need; then torch reads it
with ``weights_only=True``. There is no other way in, and nothing lowers these guards.
"""

import pickletools
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from struct import Struct
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from ptb.errors import StorageError, listing, one_line, tidy
from ptb.storage.atomic import write_atomically

HOLDERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")  # DataParallel and torch.compile put them before every name
REMEDY = "save the weights alone, with torch 1.6 or newer: torch.save(model.state_dict(), FILE)"
PIECE = 1 << 20
MOST_DIRECTORY = 8 << 20  # bytes: 100,000 tensors
MOST_PICKLE = 16 << 20
MOST_STEPS = 4_000_000  # of the pickle; a tensor needs about 30
MOST_NESTING = 100  # of tuples: whoever looks up one in a dict goes down all of them, however deep
MOST_COPIES = 32  # of what the file holds, where tensors share memory

_END = Struct("<4sHHHHIIH")  # of the archive: its mark is first; size and place of its directory are before the last
_LOCATOR = Struct("<4sIQI")
_END_64 = Struct("<4sQHHIIQQQQ")
# What weights are made of. torch allows more, such as bytearray, which makes gigabytes out of a few bytes.
_NAMES = {
    *(f"torch._utils {name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3")),
    *("torch._utils _rebuild_parameter", "torch.storage UntypedStorage"),
    *("torch Size", "torch device", "collections OrderedDict", "collections Counter"),
    *("builtins set", "__builtin__ set", "builtins complex", "__builtin__ complex"),
    *(f"torch {name}" for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)),
    *(f"torch {name}" for name in dir(torch) if name.endswith("Storage")),
}
_FOREIGN = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}  # torch.save writes none


@dataclass(frozen=True)
class ForeignWeights:
    """What a file of ``torch.save`` holds.

    Args:
        tensors: by name, on the CPU.
        holder: the key under which they were, or nothing if the file is a ``state_dict`` itself.
        prefix: what was removed from the beginning of every name.
        left_out: the other keys of the file.
    """

    tensors: dict[str, Tensor]
    holder: str = ""
    prefix: str = ""
    left_out: tuple[str, ...] = ()


def read_torch_file(path: Path) -> ForeignWeights:
    """The weights in a ``.pt`` or ``.pth`` file: a ``state_dict``, or a dict with one under a key of ``HOLDERS``.

    Raises:
        StorageError: the file cannot be read, is not what ``torch.save`` writes today, is damaged, or holds something
            else; the message says what was found and what to do.
    """
    try:
        if not S_ISREG(path.stat().st_mode):
            raise StorageError(f"{path} is not a file")
        with path.open("rb") as stream:  # one and the same for the checks and for torch
            _check_archive(path, stream)
            stream.seek(0)
            try:
                found = torch.load(stream, map_location="cpu", weights_only=True)
            except Exception as error:  # what its reader of pickles meets may raise anything
                raise StorageError(f"{path} cannot be read as weights: {_cause(error)}; {REMEDY}") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise StorageError(f"cannot read {str(path)!r}: {error}") from error
    return _weights(path, found)


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes a safetensors file with the names sorted; tensors that share memory get memory of their own.

    Raises:
        StorageError: it cannot be written.
    """
    own = {name: tensors[name].detach().clone(memory_format=torch.contiguous_format) for name in sorted(tensors)}
    try:
        data = save(own, {"format": "pt"})
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise StorageError(f"these tensors do not fit into a safetensors file: {one_line(error)}") from error
    write_atomically(path, data)


def _check_archive(path: Path, stream: IO[bytes]) -> None:
    """Refuses what ``torch.save`` would not have written, without reading more of it than is needed."""
    begin = stream.read(512)
    if not begin.startswith(b"PK\x03\x04"):
        raise StorageError(f"{path} {_kind(begin)}")
    size = _check_end(path, stream)
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
            top = _check_entries(path, entries, size)
            for entry in entries:
                with archive.open(entry) as content:  # zipfile compares the checksum at the end; torch does not
                    while content.read(PIECE):
                        pass
            _check_pickle(path, archive.read(f"{top}/data.pkl"))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise StorageError(f"{path} is damaged: {one_line(error)}; copy it again, or {REMEDY}") from error


def _kind(begin: bytes) -> str:
    """What a file is that is no zip archive, and what to do with it."""
    if not begin:
        return "is empty"
    if begin[4:9] == b"\0\0\0\0{":
        return (
            "is a safetensors file by its beginning, which needs no import: "
            "use it with --init weights-file initializer.path=FILE"
        )
    if begin[257:262] == b"ustar":
        return f"is a tar archive, as torch wrote before 0.1.10; {REMEDY}"
    if begin.startswith(b"\x80"):
        return (
            "is a bare pickle, as torch wrote before 1.6: reading one can run what is in it. Where you trust it, "
            f"read it where it was made and {REMEDY}"
        )
    return f"is not a file of torch.save, which is a zip archive: it begins with {begin[:4].hex(' ')}; {REMEDY}"


def _check_end(path: Path, stream: IO[bytes]) -> int:
    """The size of the file; nothing may stand before, between or behind the parts of the archive."""
    size = stream.seek(0, 2)
    tail_size = min(size, _END_64.size + _LOCATOR.size + _END.size)
    stream.seek(size - tail_size)
    tail = stream.read(tail_size).rjust(_END_64.size + _LOCATOR.size + _END.size, b"\0")
    mark, *_, length, place, comment = _END.unpack_from(tail, len(tail) - _END.size)
    extra = _END.size
    if tail[_END_64.size : _END_64.size + 4] == b"PK\x06\x07":
        mark_64, *_, length, place = _END_64.unpack_from(tail)
        extra = len(tail)
        mark = mark if mark_64 == b"PK\x06\x06" else b""
    if mark != b"PK\x05\x06" or comment or place + length + extra != size:
        raise StorageError(f"{path} is a zip archive that is cut, or that something was put before or behind; {REMEDY}")
    if length > MOST_DIRECTORY:
        raise StorageError(f"{path} has a directory of {length:,} bytes, {MOST_DIRECTORY:,} are allowed; {REMEDY}")
    return size


def _check_entries(path: Path, entries: list[zipfile.ZipInfo], size: int) -> str:
    """The name of the folder that holds everything."""
    names = [entry.filename for entry in entries]
    for name in names:
        parts = name.split("/")
        if len(parts) < 2 or not name.isprintable() or "\\" in name or any(part in ("", ".", "..") for part in parts):
            raise StorageError(f"{path} has an entry {tidy(ascii(name), 80)}, as no file of torch.save has; {REMEDY}")
    tops = {PurePosixPath(name).parts[0] for name in names}
    inner = {name.partition("/")[2] for name in names}
    if inner & {"constants.pkl", "code"} or any(name.startswith("code/") for name in inner):
        raise StorageError(f"{path} is a TorchScript archive, which holds a program beside the weights; {REMEDY}")
    if len(tops) != 1 or len(inner) < len(names) or "data.pkl" not in inner:
        raise StorageError(
            f"{path} is a zip archive, and not one of torch.save: it holds {listing(names, 4)}; {REMEDY}"
        )
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
            raise StorageError(
                f"{path}: its entry {entry.filename} is compressed or encrypted, as torch.save does not; {REMEDY}"
            )
    total = sum(entry.file_size for entry in entries)
    if total > size:
        raise StorageError(f"{path} has {size:,} bytes and claims to hold {total:,}: its entries overlap; {REMEDY}")
    pickle = next(entry for entry in entries if entry.filename.endswith("/data.pkl"))
    if pickle.file_size > MOST_PICKLE:
        raise StorageError(
            f"{path}: its description of {pickle.file_size:,} bytes is larger than that of any weights; {REMEDY}"
        )
    return tops.pop()


def _check_pickle(path: Path, data: bytes) -> None:
    """Looks at the steps of a pickle without taking any of them."""
    steps, nesting = 0, _Nesting()
    try:
        for operation, argument, _ in pickletools.genops(data):
            steps += 1
            if nesting.after(operation, argument) > MOST_NESTING:
                raise StorageError(
                    f"{path} has tuples in tuples, more than {MOST_NESTING} deep, as torch.save writes none; {REMEDY}"
                )
            name = str(argument)
            if operation.name == "GLOBAL" and name not in _NAMES:
                raise StorageError(
                    f"{path} holds more than weights: it asks for {tidy(name.replace(' ', '.', 1), 80)}; {REMEDY}"
                )
            if operation.name in _FOREIGN or steps > MOST_STEPS:
                what = f"more than {MOST_STEPS:,} steps" if steps > MOST_STEPS else f"the step {operation.name}"
                raise StorageError(f"{path} has a description with {what}, as torch.save writes none; {REMEDY}")
    except (ValueError, LookupError, OverflowError, MemoryError) as error:
        raise StorageError(f"{path} has a damaged description: {one_line(error)}; {REMEDY}") from error


class _Nesting:
    """How deep the tuples that a pickle makes are in each other, told from its steps."""

    def __init__(self) -> None:
        self._stack: list[int] = []
        self._marks: list[int] = []
        self._memo: dict[int, int] = {}

    def after(self, operation: pickletools.OpcodeInfo, argument: Any) -> int:
        """The depth of what a step has made or used.

        Raises:
            LookupError: it takes what is not there.
        """
        stack, name, taken = self._stack, operation.name, len(operation.stack_before)
        if name == "MARK":
            self._marks.append(len(stack))
            return 0
        if "PUT" in name or name == "MEMOIZE":
            self._memo[len(self._memo) if argument is None else int(argument)] = stack[-1]
            return 0
        if "GET" in name:
            stack.append(self._memo[int(argument)])
            return stack[-1]
        place = len(stack) - taken
        if pickletools.markobject in operation.stack_before:
            place = self._marks.pop() - operation.stack_before.index(pickletools.markobject)
        if place < 0:
            raise LookupError(f"{name} takes what is not there")
        depth = max(stack[place:], default=0) + ("TUPLE" in name)
        stack[place:] = [depth] * len(operation.stack_after)
        return depth


def _weights(path: Path, found: Any) -> ForeignWeights:
    """The ``state_dict`` that was found, looked at through ``dict`` itself: an instance may carry names of its own."""
    if not isinstance(found, dict):
        raise StorageError(f"{path} holds {_told(found)}, and no state_dict; {REMEDY}")
    if _is_state(found):
        return _named(path, found)
    dicts = [key for key in HOLDERS if isinstance(dict.get(found, key), dict)]
    holders = [key for key in dicts if _is_state(dict.__getitem__(found, key))] or dicts
    if len(holders) == 1:
        holder = holders[0]
        left_out = tuple(_key(key) for key in dict.keys(found) if key != holder)
        return _named(path, dict.__getitem__(found, holder), holder, left_out)
    if holders:
        raise StorageError(f"{path} holds several dicts that may be weights: {', '.join(holders)}; {REMEDY}")
    there = [f"{_key(key)} ({_told(value)})" for key, value in dict.items(found)]
    raise StorageError(
        f"{path} holds a dict with {listing(there, 6) or 'nothing'}, and no state_dict, which has tensors alone, there "
        f"or under one of {', '.join(HOLDERS)}; {REMEDY}"
    )


def _is_state(found: dict[Any, Any]) -> bool:
    return len(found) > 0 and all(isinstance(value, Tensor) for value in dict.values(found))


def _named(path: Path, state: dict[Any, Any], holder: str = "", left_out: tuple[str, ...] = ()) -> ForeignWeights:
    where = f"{path}, {holder}" if holder else str(path)
    odd = [f"{_key(key)} ({_told(value)})" for key, value in dict.items(state) if not isinstance(value, Tensor)]
    if odd or not state:
        raise StorageError(
            f"{where}: a state_dict has tensors alone, this one has {listing(odd, 6) or 'nothing'}; {REMEDY}"
        )
    names = list(dict.keys(state))
    for name in names:
        if not isinstance(name, str) or not name.isprintable() or name in ("", "__metadata__"):
            raise StorageError(f"{where}: {tidy(ascii(name), 80)} is no name of a tensor; {REMEDY}")
    prefix = _prefix(names)
    tensors = {name.removeprefix(prefix): dict.__getitem__(state, name) for name in names}
    _check_tensors(where, tensors)
    return ForeignWeights(tensors, holder, prefix, left_out)


def _prefix(names: list[str]) -> str:
    """What wrappers have put before every name."""
    prefix = ""
    while more := next((more for more in PREFIXES if all(name.startswith(prefix + more) for name in names)), ""):
        if any(name == prefix + more for name in names):
            break
        prefix += more
    return prefix


def _check_tensors(where: str, tensors: Mapping[str, Tensor]) -> None:
    """Refuses what is no plain array, and what would grow a lot when each tensor gets memory of its own."""
    memory: dict[int, int] = {}
    total = 0
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            what = "quantized" if tensor.is_quantized else f"{tensor.layout} on {tensor.device}"
            raise StorageError(f"{where}: {name} is {what.replace('torch.', '')}, not a plain tensor; {REMEDY}")
        storage = tensor.untyped_storage()
        memory[storage.data_ptr()] = storage.nbytes()
        total += tensor.numel() * tensor.element_size()
    if total > MOST_COPIES * max(sum(memory.values()), 1):
        raise StorageError(
            f"{where}: its tensors have {total:,} bytes, made of {sum(memory.values()):,} that they share; call "
            f".clone() on those that were made by expand, and {REMEDY}"
        )


def _cause(error: Exception) -> str:
    """The sentence of torch that says what is wrong; its others advise to lower the guard."""
    _, of_reader, told = str(error).partition("WeightsUnpickler error: ")
    return tidy((told if of_reader else one_line(error)).partition(". ")[0], 200)


def _key(key: Any) -> str:
    return tidy(key, 80) if isinstance(key, str) else _told(key)


def _told(value: Any) -> str:
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, dict | list | tuple) else type(value).__name__
