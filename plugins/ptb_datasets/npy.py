"""Maps a NumPy file, ``.npy``, into memory; one that holds no plain array is named for what it is, never unpickled."""

import os
import shlex
import zipfile
import zlib
from math import prod
from pathlib import Path
from stat import S_ISREG
from typing import IO

import numpy as np
from numpy.lib import format as npy

from ptb_datasets.mapped import machine_memory, mapped

PLAIN_KINDS = "biuf"  # booleans, whole numbers and floats
PLAIN_BYTES = 8
# Of the machine's memory: so much is turned into C order and the byte order of the machine, in memory.
COPY_SHARE = 0.25


class BadNpy(Exception):
    """A file that cannot be used as an array; the message is the reason and the remedy."""


def map_npy(path: Path) -> np.ndarray:
    """The array of a file, its values read when they are used; what is written to it never reaches the file.

    The file must stay as it is while the array is used.

    Returns:
        Booleans, or whole numbers or floats of up to 64 bits, in the byte order of this machine, in C order; no size
        of the shape is 0. A file in Fortran order (what NumPy saves of ``array.T`` and of many frames), or in another
        byte order, is copied into memory, up to a quarter of that.

    Raises:
        BadNpy: the file cannot be read, or holds something else.
    """
    try:
        if not S_ISREG(path.stat().st_mode):
            raise BadNpy("is not a file")
        with path.open("rb") as stream:
            shape, dtype, fortran = _header(stream)
            _check_size(shape, dtype, os.fstat(stream.fileno()).st_size - stream.tell())
            if fortran or not dtype.isnative:
                return _copied(stream, shape, dtype, fortran)
            if stream.tell() % dtype.alignment:
                raise BadNpy(f"its values begin at byte {stream.tell()}; {_again('array')}")
            return mapped(stream, dtype, shape, stream.tell())
    except OSError as error:
        raise BadNpy(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise BadNpy(f"cannot be read: {error}") from error


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays ``inputs`` and, if there are any, ``targets`` of an archive, in memory.

    Raises:
        BadNpy: it cannot be read, is larger than a quarter of the memory, lacks ``inputs``, or holds objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > COPY_SHARE * machine_memory():
            raise BadNpy(f"unpacks to {size:,} bytes, more than a quarter of the memory; save its arrays as .npy files")
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in ("inputs", "targets") if name in arrays}
            if "inputs" not in found:
                valid = "numpy.savez(path, inputs=..., targets=...), targets only where they are known"
                raise BadNpy(f"has no array 'inputs', but {', '.join(arrays) or 'none'}; save it by {valid}")
            return found
    except OSError as error:
        raise BadNpy(f"cannot be read: {error.strerror or error}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise BadNpy(f"cannot be read: {error}") from error


def _copied(stream: IO[bytes], shape: tuple[int, ...], dtype: "np.dtype[np.generic]", fortran: bool) -> np.ndarray:
    if prod(shape) * dtype.itemsize > COPY_SHARE * machine_memory():
        if fortran:
            raise BadNpy(f"is in Fortran order and too large to be copied; {_again('numpy.ascontiguousarray(array)')}")
        again = _again("array.astype(array.dtype.newbyteorder('='))")
        raise BadNpy(f"is in the byte order of other machines and too large to be copied; {again}")
    values = mapped(stream, dtype, shape[::-1] if fortran else shape, stream.tell())
    return np.array(values.T if fortran else values, dtype.newbyteorder("="), order="C")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], "np.dtype[np.generic]", bool]:
    start = stream.read(npy.MAGIC_LEN)
    if not start.startswith(npy.MAGIC_PREFIX) or len(start) < npy.MAGIC_LEN:
        if start.startswith(b"PK"):
            raise BadNpy(_archive(stream))
        begins = start.hex(" ") or "nothing"
        raise BadNpy(f"is not a .npy file: it begins with {begins}; save the array by numpy.save(path, array)")
    readers = {1: npy.read_array_header_1_0, 2: npy.read_array_header_2_0}
    if start[6] not in readers:
        raise BadNpy(f"is of version {start[6]} of the format, valid are 1 and 2; {_again('array')}")
    try:
        shape, fortran, dtype = readers[start[6]](stream)
    except Exception as error:  # Python's parser of literals reads it, and raises what it will
        raise BadNpy(f"has a damaged header: {str(error).splitlines()[0] if str(error) else error!r}") from error
    if dtype.kind not in PLAIN_KINDS or dtype.itemsize > PLAIN_BYTES:
        what = "objects, which only a program can read" if dtype.hasobject else f"values of type {dtype}"
        valid = "booleans, and whole numbers and floats of up to 64 bits"
        raise BadNpy(f"holds {what}; valid are {valid}: convert them and save them again")
    if not all(size > 0 for size in shape):
        raise BadNpy(f"holds no values: its shape is {shape}")
    return shape, dtype, bool(fortran and len(shape) > 1)


def _archive(stream: IO[bytes]) -> str:
    """What to type for each array of a ``.npz`` archive."""
    try:
        with zipfile.ZipFile(stream) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        names = []
    said = f" with the arrays {', '.join(names[:10])}" if names else ""
    name = names[0] if names else "x"
    file = f"{name if name.isidentifier() else 'array'}.npy"
    code = f"import numpy; numpy.save({file!r}, numpy.load({os.fspath(stream.name)!r})[{name!r}])"
    return f"is a .npz archive{said}, and not a .npy file; save each by itself: python -c {shlex.quote(code)}"


def _check_size(shape: tuple[int, ...], dtype: "np.dtype[np.generic]", there: int) -> None:
    expected = prod(shape) * dtype.itemsize
    form = f"its header says {dtype} {list(shape)}, that is {expected:,} bytes"
    if there < expected:
        raise BadNpy(f"is cut short: {form}; there are {there:,}")
    if there > expected:
        raise BadNpy(f"holds more than one array: {form}, and {there - expected:,} more follow; {_again('array')}")


def _again(array: str) -> str:
    return f"save it again by numpy.save(path, {array})"
