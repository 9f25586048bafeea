"""Reads IDX files, the format of MNIST: two zero bytes, a type, a number of dimensions, the sizes, the values.

The sizes in the header are held against the bytes that are there before anything is allocated for them. A plain file is
mapped into memory, a gzipped one is unpacked into it.
"""

import gzip
import os
import zlib
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np

from ptb import DataError
from ptb_datasets.mapped import mapped

UNSIGNED_BYTE = 0x08
# A byte of deflate output costs at least 1/1032 of a byte of input (zlib's documentation).
MAX_INFLATION = 1032
# Pictures shrink to a half or a tenth: what makes so much memory out of so little was made to do that.
SUSPECT_BYTES, SUSPECT_INFLATION = 1 << 28, 100
CHUNK = 1 << 20


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array in an IDX file of unsigned bytes, plain or gzipped.

    Args:
        path: the file; ``.gz`` at its end means gzipped.
        dimensions: how many the array must have.

    Returns:
        uint8 of the shape in the header; writable, and what is written never reaches the file. The values of a plain
        file are read when they are used, so it must stay as it is.

    Raises:
        DataError: the file cannot be read, is no IDX file, is cut short, or its header lies about its size.
    """
    try:
        if path.suffix == ".gz":
            with cast(IO[bytes], gzip.open(path)) as stream:
                shape = _read_header(stream, path, dimensions)
                return np.frombuffer(_unpacked(stream, path, shape), dtype=np.uint8).reshape(shape)
        with path.open("rb") as stream:
            shape = _read_header(stream, path, dimensions)
            _check_size(path, shape, os.fstat(stream.fileno()).st_size - stream.tell())
            return mapped(stream, np.dtype(np.uint8), shape, stream.tell())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"cannot read {path}: {error.strerror if isinstance(error, OSError) and error.strerror else error}"
        ) from error


def _read_header(stream: IO[bytes], path: Path, dimensions: int) -> tuple[int, ...]:
    magic = stream.read(4)
    if magic != bytes((0, 0, UNSIGNED_BYTE, dimensions)):
        raise DataError(
            f"{path} is not an IDX file of unsigned bytes in {dimensions} dimension{'s' * (dimensions > 1)}: it begins "
            f"with {magic.hex(' ') or 'nothing'}, expected 00 00 08 {dimensions:02x}"
        )
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise DataError(f"{path} ends inside its header")
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
    if 0 in shape:
        raise DataError(f"{path} holds no values: its header says {shape}")
    return shape


def _unpacked(stream: IO[bytes], path: Path, shape: tuple[int, ...]) -> bytearray:
    expected = prod(shape)
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
    _check_size(path, shape, len(values))
    return values


def _check_size(path: Path, shape: tuple[int, ...], there: int) -> None:
    expected = prod(shape)
    if there > expected:
        raise DataError(f"{path}: its header says {shape}, that is {expected:,} bytes of values, and more follow")
    if there < expected:
        raise DataError(
            f"{path} is cut short: its header says {shape}, that is {expected:,} bytes; there are {there:,}"
        )
