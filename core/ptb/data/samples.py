"""Reads samples of a data set one by one, and collates them into a batch."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from ptb.device import cpu_threads, is_memory_error
from ptb.errors import DataError, PtbError, one_line
from ptb.seeding import seed_host

Batch = tuple[Tensor, Tensor]
SHARED_MEMORY = "/dev/shm"


def pair(batch: Any) -> Batch:
    """Returns ``(inputs, targets)``, two tensors.

    Raises:
        DataError: the batch is something else.
    """
    parts = list(batch) if isinstance(batch, tuple | list) else [batch]
    if len(parts) != 2 or not all(isinstance(part, Tensor) for part in parts):
        got = ", ".join(type(part).__name__ for part in parts)
        raise DataError(f"a sample must be a pair (inputs, targets) of tensors or numbers, got ({got})")
    return parts[0], parts[1]


@cpu_threads(1)  # with more, what a sample computes may differ in its last bits
def read_batch(
    split: Dataset[Any],
    name: str,
    seed: int | None,
    samples: Sequence[int],
    before_each: Callable[[int], object] = lambda sample: None,
) -> Batch:
    """Reads samples of a split into one batch on the host.

    Args:
        split: the data set.
        name: the name of the split, for messages.
        seed: before each sample, Python, NumPy and torch are seeded from this and the sample; None seeds nothing.
        samples: the numbers of the samples.
        before_each: called with the number of each sample before it is read.

    Raises:
        DataError: a sample cannot be read, or the samples are not alike, or they are no pairs.
    """
    read: list[Any] = []
    first = ""
    for sample in samples:
        before_each(sample)
        if seed is not None:
            seed_host(seed, sample)
        with _as_data_error(f"reading sample {sample} of the {name} split failed"):
            read.append(split[sample])
        # default_collate would cast or stretch samples that differ, and in a worker in another way than here.
        first, form = first or _form(read[0]), _form(read[-1])
        if form != first:
            raise DataError(
                f"the samples of the {name} split must be alike: sample {samples[0]} is {first}, "
                f"sample {sample} is {form}"
            )
    failure = f"samples {samples[0]} to {samples[-1]} of the {name} split cannot be put into one batch"
    with torch.no_grad(), _as_data_error(failure):
        batch = pair(default_collate(read))
        if get_worker_info() is not None:  # torch would do it in a thread, where an error only loses the batch
            for tensor in batch:
                tensor.share_memory_()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return batch


def remedy(reason: str) -> str:
    """What a user can do about the name of a signal that ended a worker, or about the text of an error."""
    if reason == "SIGKILL":
        return "; the system kills where memory runs out: fewer loader.num_workers or a smaller loader.batch_size help"
    if reason == "SIGBUS" or "shared memory" in reason or "shm" in reason:
        size = ""
        with suppress(OSError):
            usage = shutil.disk_usage(SHARED_MEMORY)
            size = f": {SHARED_MEMORY} has {usage.total >> 20:,} MiB, of which {usage.free >> 20:,} are free"
        return (
            f"; shared memory may be too small for what is read ahead{size}; make it larger, or use fewer "
            "loader.num_workers or a smaller loader.batch_size"
        )
    if "ancdata" in reason or os.strerror(errno.EMFILE) in reason:
        return "; too many files are open, and each batch that is kept is one or two: `ulimit -n 65536` allows more"
    return ""


@contextmanager
def _as_data_error(failure: str) -> Iterator[None]:
    """Turns whatever a data set raises into a ``DataError``, except running out of memory."""
    try:
        yield
    except PtbError:
        raise
    except (Exception, SystemExit) as error:
        if is_memory_error(error):
            raise
        raise DataError(f"{failure}: {one_line(error)}{remedy(str(error))}") from error


def _form(sample: Any) -> str:
    """Types and shapes of a sample's parts, such as ``(float32 [3, 32, 32], int)``."""
    if isinstance(sample, tuple | list):
        return f"({', '.join(map(_form, sample))})"
    shape, dtype = getattr(sample, "shape", None), getattr(sample, "dtype", None)
    return type(sample).__name__ if shape is None else f"{dtype} {list(shape)}".removeprefix("torch.")
