"""Samples of a data set, one by one, and the batch that they make."""

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from ptb.device import cpu_threads, is_memory_error
from ptb.errors import DataError, PtbError, one_line
from ptb.seeding import seed_host

Batch = tuple[Tensor, Tensor]
SHARED_MEMORY = "/dev/shm"


def pair(batch: Any) -> Batch:
    """``(inputs, targets)``, checked.

    Raises:
        DataError: it is something else.
    """
    parts = list(batch) if isinstance(batch, tuple | list) else [batch]
    if len(parts) != 2 or not all(isinstance(part, Tensor) for part in parts):
        got = ", ".join(type(part).__name__ for part in parts)
        raise DataError(f"a sample must be a pair (inputs, targets) of tensors or numbers, got ({got})")
    return parts[0], parts[1]


def cut(order: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """The samples of each batch, the last one perhaps shorter; no batch of no samples."""
    return torch.split(order, batch_size) if len(order) else ()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch there; a GPU copies what is in page-locked memory while the host goes on."""
    return batch[0].to(device, non_blocking=True), batch[1].to(device, non_blocking=True)


def pinned(batch: Batch, device: torch.device) -> Batch:
    """In page-locked memory, for a GPU."""
    return (batch[0].pin_memory(), batch[1].pin_memory()) if device.type == "cuda" else batch


@cpu_threads(1)  # with more, what a sample computes may differ in its last bits
def read_batch(
    split: Dataset[Any],
    name: str,
    seed: int | None,
    samples: list[int],
    note: Callable[[int], object] | None = None,
) -> Batch:
    """These samples of a split as one batch on the host.

    Args:
        split: what gives the samples.
        name: of the split.
        seed: before each sample, Python, NumPy and torch are seeded from it and the sample; None leaves them alone.
        samples: the numbers of the samples.
        note: is told of each before it is read.

    Raises:
        DataError: a sample cannot be read, or the samples are not alike, or no pairs.
    """
    read: list[Any] = []
    form = None
    for sample in samples:
        if note is not None:
            note(sample)
        if seed is not None:
            seed_host(seed, sample)
        try:
            read.append(split[sample])
        except PtbError:
            raise
        except (Exception, SystemExit) as error:  # a stranger's code may raise anything
            if is_memory_error(error):
                raise
            raise DataError(f"reading sample {sample} of the {name} split failed: {one_line(error)}") from error
        if form is None:
            form = _form(read[0])
        # A collation would cast or stretch what differs, each in its own way in this process and in another.
        elif _form(read[-1]) != form and (got := _words(read[-1])) != (first := _words(read[0])):
            raise DataError(
                f"the samples of the {name} split must be alike: sample {samples[0]} is {first}, sample {sample} "
                f"is {got}"
            )
    try:
        with torch.no_grad():
            return pair(default_collate(read))
    except PtbError:
        raise
    except Exception as error:
        if is_memory_error(error):
            raise
        raise DataError(
            f"samples {samples[0]} to {samples[-1]} of the {name} split cannot be put into one batch: "
            f"{one_line(error)}{remedy(str(error))}"
        ) from error


def remedy(told: str) -> str:
    """What to do about what the system tells: the name of a signal, or the text of an error."""
    if told == "SIGKILL":
        return "; the system kills where memory runs out: fewer loader.num_workers or a smaller loader.batch_size help"
    if told == "SIGBUS" or "shared memory" in told or "shm" in told:
        size = ""
        with suppress(OSError):
            usage = shutil.disk_usage(SHARED_MEMORY)
            size = f": {SHARED_MEMORY} has {usage.total >> 20:,} MiB, of which {usage.free >> 20:,} are free"
        return (
            f"; shared memory may be too small for what is read ahead{size}; make it larger, or use fewer "
            "loader.num_workers or a smaller loader.batch_size"
        )
    if "ancdata" in told or os.strerror(errno.EMFILE) in told:
        return "; too many files are open, and each batch that is kept is one or two: `ulimit -n 65536` allows more"
    return ""


def _form(sample: Any) -> Any:
    """Types and shapes of a sample's parts, quick to compare."""
    if isinstance(sample, tuple | list):
        return tuple(map(_form, sample))
    shape = getattr(sample, "shape", None)
    return type(sample) if shape is None else (getattr(sample, "dtype", None), shape)


def _words(sample: Any) -> str:
    """The same for people."""
    if isinstance(sample, tuple | list):
        return f"({', '.join(map(_words, sample))})"
    shape, dtype = getattr(sample, "shape", None), getattr(sample, "dtype", None)
    return type(sample).__name__ if shape is None else f"{dtype} {list(shape)}".removeprefix("torch.")
