"""Reads samples of a data set one by one, and collates them into a batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from ptb.device import cpu_threads, is_memory_error
from ptb.errors import DataError, PtbError, one_line
from ptb.seeding import GlobalGenerators, seed_host

Batch = tuple[Tensor, Tensor]
# Added to the seed for each sample: 2**64 divided by the golden ratio. Hashing would cost a sixth of the seeding.
SEED_STEP = 0x9E3779B97F4A7C15


def pair(batch: Any) -> Batch:
    """Returns ``(inputs, targets)``; raises ``DataError`` unless the batch is two tensors."""
    parts = list(batch) if isinstance(batch, tuple | list) else [batch]
    if len(parts) != 2 or not all(isinstance(part, Tensor) for part in parts):
        got = ", ".join(type(part).__name__ for part in parts)
        raise DataError(f"a sample must be a pair (inputs, targets) of tensors or numbers, got ({got})")
    return parts[0], parts[1]


class BatchReader:
    """Reads batches of the splits of a data set in this process, and leaves the global generators as they were.

    What a data set draws from them depends on seed and sample only, because they are seeded before each sample. That
    would be a twentieth of the time that a small JPEG takes, so it is done only from the first batch on that draws.
    """

    def __init__(self, splits: Mapping[str, Dataset[Any]]) -> None:
        self.splits = dict(splits)
        self._draws = False
        self._generators: GlobalGenerators | None = None

    def read(
        self,
        split: str,
        seed: int | None,
        samples: Sequence[int],
        before_each: Callable[[int], object] = lambda sample: None,
    ) -> Batch:
        """Reads one batch as ``read_batch`` does."""
        self._generators = self._generators or GlobalGenerators()  # not earlier: it cannot be sent to another process
        with self._generators.preserved(torch.device("cpu")):
            if seed is not None and not self._draws:
                batch = read_batch(self.splits[split], split, None, samples, before_each)
                if not self._generators.used():
                    return batch
                self._draws = True  # this batch is read again
            return read_batch(self.splits[split], split, seed, samples, before_each)


@cpu_threads(1)  # with more, what a sample computes may differ in its last bits
def read_batch(
    split: Dataset[Any],
    name: str,
    seed: int | None,
    samples: Sequence[int],
    before_each: Callable[[int], object] = lambda sample: None,
) -> Batch:
    """Reads samples of the split called ``name`` into one batch on the host.

    Before each sample, Python, NumPy and torch are seeded from ``seed`` and the sample; None seeds nothing. Raises
    ``DataError`` if a sample cannot be read, or the samples are not alike, or they are no pairs.
    """
    read: list[Any] = []
    sample = -1
    try:
        for sample in samples:
            before_each(sample)
            if seed is not None:
                seed_host((seed + sample * SEED_STEP) % 2**63)
            read.append(split[sample])
        _check_alike(read, name, samples)
        with torch.no_grad():
            batch = pair(default_collate(read))
        if get_worker_info() is not None:  # torch would do it in a thread, where an error only loses the batch
            for tensor in batch:
                tensor.share_memory_()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return batch
    except PtbError:
        raise
    except (Exception, SystemExit) as error:
        if is_memory_error(error):
            raise
        failure = f"reading sample {sample} of the {name} split failed"
        if len(read) == len(samples):
            failure = f"samples {samples[0]} to {sample} of the {name} split cannot be put into one batch"
        raise DataError(f"{failure}: {one_line(error)}{remedy(str(error))}") from error


def remedy(reason: str) -> str:
    """What a user can do about the way in which a worker ended, or about the text of an error."""
    if "SIGKILL" in reason:
        return "; the system kills where memory runs out: fewer loader.num_workers or a smaller loader.batch_size help"
    if "SIGBUS" in reason or "shared memory" in reason:
        return (
            "; shared memory may be too small for what is read ahead: make /dev/shm larger, or use fewer "
            "loader.num_workers or a smaller loader.batch_size"
        )
    return ""


def _check_alike(read: Sequence[Any], name: str, samples: Sequence[int]) -> None:
    """Refuses samples that differ in form: collating would cast them, and in a worker in another way than here."""
    first = _form(read[0])
    for sample, each in zip(samples, read, strict=True):
        if _form(each) != first:
            raise DataError(
                f"the samples of the {name} split must be alike: sample {samples[0]} is {_say(read[0])}, "
                f"sample {sample} is {_say(each)}"
            )


def _form(part: Any) -> Any:
    """What has to be equal for two samples, or parts of them, to be alike."""
    if isinstance(part, tuple | list):
        return [_form(inner) for inner in part]
    return (part.dtype, part.shape) if hasattr(part, "shape") else type(part)


def _say(part: Any) -> str:
    """The form for people, such as ``(float32 [3, 32, 32], int)``."""
    if isinstance(part, tuple | list):
        return f"({', '.join(map(_say, part))})"
    return f"{part.dtype} {list(part.shape)}".removeprefix("torch.") if hasattr(part, "shape") else type(part).__name__
