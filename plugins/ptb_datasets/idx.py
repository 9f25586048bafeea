"""Reads IDX files, the format of MNIST: two zero bytes, a type, a number of dimensions, the sizes, the values.

The sizes in the header are held against the bytes that are there before anything is allocated for them. A plain file is
mapped into memory, a gzipped one is unpacked into it.
"""

import gzip
import os
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np

from ptb import DataError
from ptb_datasets.mapped import mapped

UNSIGNED_BYTE = 0x08
# The format's own numbers for types, most significant byte first.
TYPES = {UNSIGNED_BYTE: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4"}
# A byte of deflate output costs at least 1/1032 of a byte of input (zlib's documentation).
MAX_INFLATION = 1032
# Pictures shrink to a half or a tenth: what makes so much memory out of so little was made to do that.
SUSPECT_BYTES, SUSPECT_INFLATION = 1 << 28, 100
CHUNK = 1 << 20


def read_labels(path: Path) -> np.ndarray:
    """The whole numbers of an IDX file of one dimension and any width, plain or gzipped: int64 ``[N]``.

    Raises:
        DataError: as ``read_idx``.
    """
    return read_idx(path, 1, tuple(TYPES)).astype(np.int64)


def read_idx(path: Path, dimensions: int, types: Sequence[int] = (UNSIGNED_BYTE,)) -> np.ndarray:
    """The array in an IDX file of whole numbers, plain or gzipped.

    Args:
        path: the file; ``.gz`` at its end means gzipped.
        dimensions: how many the array must have.
        types: which types of ``TYPES`` it may have.

    Returns:
        uint8 of the shape in the header, or another type in the byte order of the file; writable, and what is written
        never reaches the file. The values of a plain file are read when they are used, so it must stay as it is.

    Raises:
        DataError: the file cannot be read, is no IDX file, is cut short, or its header lies about its size.
    """
    try:
        if path.suffix == ".gz":
            with cast(IO[bytes], gzip.open(path)) as stream:
                shape, dtype = _read_header(stream, path, dimensions, types)
                return np.frombuffer(_unpacked(stream, path, shape, dtype), dtype=dtype).reshape(shape)
        with path.open("rb") as stream:
            shape, dtype = _read_header(stream, path, dimensions, types)
            _check_size(path, shape, dtype, os.fstat(stream.fileno()).st_size - stream.tell())
            return mapped(stream, dtype, shape, stream.tell())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"cannot read {path}: {error.strerror if isinstance(error, OSError) and error.strerror else error}"
        ) from error


def _read_header(
    stream: IO[bytes], path: Path, dimensions: int, types: Sequence[int]
) -> tuple[tuple[int, ...], "np.dtype[np.generic]"]:
    magic = stream.read(4)
    if magic not in (bytes((0, 0, each, dimensions)) for each in types):
        what = "unsigned bytes" if len(types) == 1 else "whole numbers"
        expected = " or ".join(f"{each:02x}" for each in types)
        raise DataError(
            f"{path} is not an IDX file of {what} in {dimensions} dimension{'s' * (dimensions > 1)}: it begins "
            f"with {magic.hex(' ') or 'nothing'}, expected 00 00 {expected} {dimensions:02x}"
        )
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise DataError(f"{path} ends inside its header")
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
    if 0 in shape:
        raise DataError(f"{path} holds no values: its header says {shape}")
    return shape, np.dtype(TYPES[magic[2]])


def _unpacked(stream: IO[bytes], path: Path, shape: tuple[int, ...], dtype: "np.dtype[np.generic]") -> bytearray:
    expected = prod(shape) * dtype.itemsize
    on_disk = path.stat().st_size
    if expected > on_disk * MAX_INFLATION:
        raise DataError(
            f"{path}: its header says {shape}, that is {expected:,} bytes; the file has {on_disk:,} bytes on disk"
        )
    if expected > max(SUSPECT_BYTES, on_disk * SUSPECT_INFLATION):
        raise DataError(
            f"{path} has {on_disk:,} bytes on disk and would unpack to {expected:,}, far more than pictures do; if you "
            "trust it, unpack it yourself (gunzip): a plain file is not read into memory"
        )
    values = bytearray()
    while chunk := stream.read(min(CHUNK, expected - len(values) + 1)):
        values += chunk
        if len(values) > expected:
            break
    _check_size(path, shape, dtype, len(values))
    return values


def _check_size(path: Path, shape: tuple[int, ...], dtype: "np.dtype[np.generic]", there: int) -> None:
    expected = prod(shape) * dtype.itemsize
    if there > expected:
        raise DataError(f"{path}: its header says {shape}, that is {expected:,} bytes of values, and more follow")
    if there < expected:
        raise DataError(
            f"{path} is cut short: its header says {shape}, that is {expected:,} bytes; there are {there:,}"
        )
