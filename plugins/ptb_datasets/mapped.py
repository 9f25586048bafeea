"""Puts a file of numbers into memory without reading it: the system reads what is used, and drops it again."""

import mmap
import os
import sys
from math import prod
from typing import IO

import numpy as np

# Linux: no promise that there is memory for a changed copy of the whole file, which a file larger than the memory would
# not get. Python names the flag only in its later versions.
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
# Of the machine's memory: of a larger file, what was read besides a sample is gone before it is used.
RANDOM_SHARE = 0.5
ASSUMED_MEMORY = 8 << 30  # bytes, where the system does not tell


def mapped(stream: IO[bytes], dtype: "np.dtype[np.generic]", shape: tuple[int, ...], offset: int) -> np.ndarray:
    """The values of a file from byte ``offset`` on; what is written to them stays in memory and never reaches the file.

    The file must stay as it is: the system ends a process that reads behind the end of a file that was cut.

    Args:
        stream: the open file; it may be closed afterwards.
        dtype: of the values, in the byte order of the file.
        shape: no size of it 0; its values must be in the file.
        offset: in bytes.

    Returns:
        An array of that dtype and shape, in C order; writable.

    Raises:
        OSError: the system does not map the file.
        ValueError: the file is too short.
    """
    length = offset + prod(shape) * dtype.itemsize
    if sys.platform == "linux":
        flags, access = mmap.MAP_PRIVATE | _NO_RESERVE, mmap.PROT_READ | mmap.PROT_WRITE
        memory = mmap.mmap(stream.fileno(), length, flags=flags, prot=access)
    else:
        memory = mmap.mmap(stream.fileno(), length, access=mmap.ACCESS_COPY)
    return np.ndarray(shape, dtype, memory, offset)


def expect_random_reads(values: np.ndarray) -> None:
    """Has the system read no more than is asked for of a file that is large beside the memory.

    Else it reads up to megabytes around every sample of a shuffled epoch. Files that fit come into memory faster so.

    Args:
        values: what ``mapped`` returned; nothing is done with other arrays.
    """
    memory = values.base
    if not isinstance(memory, mmap.mmap) or not hasattr(mmap, "MADV_RANDOM"):
        return
    if values.nbytes > RANDOM_SHARE * machine_memory():
        memory.madvise(mmap.MADV_RANDOM)


def forget(values: np.ndarray) -> None:
    """Gives back the memory of what was read of a mapped file so far, if nothing was written; a later use reads again.

    Args:
        values: what ``mapped`` returned, or a view of it; nothing is done with other arrays.
    """
    memory: object = values
    while isinstance(memory, np.ndarray):
        memory = memory.base
    if isinstance(memory, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        memory.madvise(mmap.MADV_DONTNEED)


def machine_memory() -> float:
    """Bytes of memory that the machine has."""
    if hasattr(os, "sysconf"):
        return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    return float(ASSUMED_MEMORY)
