"""Checks a file of ``torch.save`` before torch reads it. Runs nothing of what is in it, and imports no torch.

Such a file is a zip archive: one folder with the tensors and ``data.pkl``, a pickle that says what they are. Two
readers open it, Python's ``zipfile`` here and torch's own afterwards. The first checks refuse whatever the two could
understand differently, so that torch sees what was checked.
"""

import pickletools
import re
import shlex
import struct
import zipfile
from pathlib import Path
from typing import IO

from ptb import StorageError
from ptb.internals import listing, one_line, tidy

REMEDY = "save the weights alone, with torch 1.6 or newer: torch.save(model.state_dict(), FILE)"
MOST_DIRECTORY = 8 << 20  # bytes: 100,000 tensors
MOST_PICKLE = 16 << 20  # bytes
MOST_STEPS = 4_000_000  # of the pickle; a tensor needs about 30
MOST_NESTING = 100  # of tuples: Python hashes a tuple with everything in it, without a limit to its stack

_END = 98  # bytes at the end of an archive of torch: the long end record, its locator, the short end record
# What weights are made of. torch allows more, such as bytearray, which makes gigabytes out of a few bytes.
_WEIGHTS = re.compile(
    r"torch\._utils _rebuild_(tensor|tensor_v2|tensor_v3|parameter)|torch\.storage UntypedStorage"
    r"|torch (Size|device|[A-Z]\w+Storage|b?float\d\w*|u?int\d+|complex\d+|bool)"
    r"|collections (OrderedDict|Counter)|(builtins|__builtin__) (set|complex)"
)


def check_archive(path: Path, stream: IO[bytes]) -> None:
    """Reads the whole file once, piece by piece.

    Args:
        path: its name, for messages.
        stream: the file, open at its beginning.

    Raises:
        StorageError: ``torch.save`` does not write such files, or the file is damaged.
    """
    begin = stream.read(9)
    if begin[4:] == b"\0\0\0\0{":
        raise StorageError(
            f"{path} is already a safetensors file: use it with --init weights-file "
            + shlex.quote(f"initializer.path={path}")
        )
    if not begin.startswith(b"PK\x03\x04"):
        raise StorageError(
            f"{path} is not a zip archive, which torch.save writes since torch 1.6. An older file can run code when it "
            f"is read: if you trust it, load it with torch itself and {REMEDY}"
        )
    size = _check_end(path, stream)
    try:
        with zipfile.ZipFile(stream) as archive:
            description = _check_entries(path, archive, size)
            if damaged := archive.testzip():  # torch compares no checksums
                raise StorageError(f"{path} is damaged: the checksum of {damaged} is wrong; copy it again")
            _check_pickle(path, archive.read(description))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise StorageError(f"{path} is damaged: {one_line(error)}; copy it again, or {REMEDY}") from error


def _check_end(path: Path, stream: IO[bytes]) -> int:
    """Only one end of the archive can be found, and it closes the file. Nothing else is read yet.

    Returns:
        The size of the file.
    """
    size = stream.seek(0, 2)
    stream.seek(max(0, size - _END))
    tail = stream.read().rjust(_END, b"\0")
    length, place = struct.unpack_from("<II", tail, _END - 10)
    short = tail[-22:-18] == b"PK\x05\x06" and tail[-2:] == b"\0\0"  # with a comment of no bytes
    if tail[56:60] == b"PK\x06\x07":
        long_end, length, place = *struct.unpack_from("<Q", tail, 64), *struct.unpack_from("<QQ", tail, 40)
        long = tail[:4] == b"PK\x06\x06" and long_end + _END == size == place + length + _END
    else:
        long = place + length + 22 == size
    if not (short and long):
        raise StorageError(f"{path} is cut, or something was added before or after the archive; {REMEDY}")
    if length > MOST_DIRECTORY:
        raise StorageError(f"{path} has a directory of {length:,} bytes; at most {MOST_DIRECTORY:,} are read; {REMEDY}")
    return size


def _check_entries(path: Path, archive: zipfile.ZipFile, size: int) -> zipfile.ZipInfo:
    """Sizes and names. Nothing is unpacked to disk, so a name can lead nowhere.

    Returns:
        The entry that describes the others.
    """
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    descriptions = [entry for entry in entries if re.fullmatch(r"[^/]+/data\.pkl", entry.filename)]
    # torch looks names up without regard to case
    if len(descriptions) != 1 or len({name.casefold() for name in names}) < len(names):
        raise StorageError(
            f"{path} is a zip archive, but not one of torch.save: it holds {tidy(listing(names, 4), 400)}; {REMEDY}"
        )
    total = sum(entry.file_size for entry in entries)
    if total > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise StorageError(
            f"{path} has {size:,} bytes and claims to hold {total:,}: its entries overlap or are compressed, as "
            f"torch.save never writes them; {REMEDY}"
        )
    if descriptions[0].file_size > MOST_PICKLE:
        raise StorageError(
            f"{path}: {descriptions[0].filename} has {descriptions[0].file_size:,} bytes; at most {MOST_PICKLE:,} are "
            f"read; {REMEDY}"
        )
    return descriptions[0]


def _check_pickle(path: Path, data: bytes) -> None:
    """Follows the steps of a pickle without taking them.

    For every value on the stack of the unpickler it keeps how deep tuples are nested in it. A step that torch's reader
    does not know, or that takes what is not there, ends the reading, so it does not matter what is made of it here.
    """
    stack: list[int] = []
    marks: list[int] = []
    memo: dict[object, int] = {}
    try:
        for steps, (operation, argument, _) in enumerate(pickletools.genops(data), start=1):
            name, taken = operation.name, operation.stack_before
            if name == "GLOBAL" and not _WEIGHTS.fullmatch(str(argument)):
                asked = tidy(str(argument).replace(" ", ".", 1), 80)
                raise StorageError(f"{path} holds more than weights: it asks for {asked}; {REMEDY}")
            if steps > MOST_STEPS:
                raise StorageError(f"{path} is described in more than {MOST_STEPS:,} steps; {REMEDY}")
            if name == "MARK":
                marks.append(len(stack))
            elif name.endswith("PUT"):
                memo[argument] = stack[-1]
            elif name.endswith("GET"):
                stack.append(memo[argument])
            else:
                marked = pickletools.markobject in taken
                first = marks.pop() - taken.index(pickletools.markobject) if marked else len(stack) - len(taken)
                depth = max(stack[first:], default=0) + ("TUPLE" in name)
                if depth > MOST_NESTING:
                    raise StorageError(f"{path} has tuples in tuples, more than {MOST_NESTING} deep; {REMEDY}")
                stack[first:] = [depth] * len(operation.stack_after)
    except (ValueError, LookupError, OverflowError, MemoryError) as error:
        raise StorageError(f"{path} has a damaged description: {one_line(error)}; {REMEDY}") from error
