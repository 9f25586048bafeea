"""Reads samples of a data set one by one, and collates them into a batch."""

from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, cast

import torch
from torch.utils.data import Dataset, IterableDataset, default_collate, get_worker_info

from ptb.data.batch import Batch as Batch
from ptb.data.streams import Stream, StreamEnd, seed_sample
from ptb.device import cpu_threads, is_memory_error
from ptb.errors import DataError, PtbError, count, one_line
from ptb.seeding import GlobalGenerators

Collate = Callable[[list[Any]], Any]
Note = Callable[[int], object]


class BatchReader:
    """Reads batches of the splits of a data set in this process, and leaves the global generators as they were.

    The random numbers of a data set depend on seed and sample only, because the generators are seeded before each
    sample. That takes a twentieth of the time of a small JPEG, so it begins with the first batch that uses them.
    """

    def __init__(self, splits: Mapping[str, Dataset[Any]], collate: Collate | None = None) -> None:
        self._splits: dict[str, Any] = {
            name: Stream(split) if isinstance(split, IterableDataset) else split for name, split in splits.items()
        }
        self._collate = collate
        self._draws = False
        self._generators: GlobalGenerators | None = None

    def take(self, split: str, samples: Sequence[int]) -> Batch:
        """Reads one batch, of a stream in epoch 0; nothing is seeded."""
        batch = self.read(split, None, samples)
        if isinstance(batch, list):
            stream = self._splits[split]
            raise wrong_length(split, split_size(stream, split), stream.next)
        return batch

    def read(
        self,
        split: str,
        seed: int | None,
        samples: Sequence[int],
        epoch: int = 0,
        before_each: Note = lambda sample: None,
    ) -> Batch | list[Any]:
        """Reads one batch on the host; where a stream ends before, the list of its samples that are left.

        Before each sample, ``before_each`` is called, and Python, NumPy and torch are seeded from ``seed`` and the
        sample; None seeds nothing.

        Raises:
            DataError: a sample cannot be read, or the samples are not alike, or they are no samples.
        """
        source = self._splits[split]
        if isinstance(source, Stream):
            source.begin(epoch, seed)
            seed = None  # it seeds for itself
        self._generators = self._generators or GlobalGenerators()  # not earlier: it cannot be sent to another process
        # With more threads, what a sample computes may differ in its last bits.
        with self._generators.preserved(torch.device("cpu")), cpu_threads(1):
            if seed is not None and not self._draws:
                batch = self._read(split, None, samples, before_each)
                if not self._generators.used():
                    return batch
                self._draws = True  # this batch is read again
            return self._read(split, seed, samples, before_each)

    def _read(self, split: str, seed: int | None, samples: Sequence[int], before_each: Note) -> Batch | list[Any]:
        source, read, sample = self._splits[split], [], -1
        try:
            for sample in samples:
                before_each(sample)
                if seed is not None:
                    seed_sample(seed, sample)
                read.append(source[sample])
            return make_batch(read, samples, split, self._collate)
        except StreamEnd:
            return read
        except PtbError:
            raise
        except (Exception, SystemExit) as error:
            if is_memory_error(error):
                raise
            failure = f"reading sample {sample} of the {split} split failed"
            raise DataError(f"{failure}: {one_line(error)}{remedy(str(error))}") from error


def make_batch(read: Sequence[Any], samples: Sequence[int], name: str, collate: Collate | None) -> Batch:
    """Makes one batch of samples that were read; ``samples`` are their numbers.

    Raises:
        DataError: they cannot be one batch.
    """
    if collate is None:
        _check_alike(read, name, samples)
    try:
        with torch.no_grad():
            batch = Batch.of((collate or default_collate)(list(read)))
        if get_worker_info() is not None:  # torch would do it in a thread, where an error only loses the batch
            for tensor in batch.tensors():
                tensor.share_memory_()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    except PtbError:
        raise
    except (Exception, SystemExit) as error:
        if is_memory_error(error):
            raise
        form = "; tensors, numbers and dicts of them can be; others need a collate in the DataBundle that makes tensors"
        raise DataError(
            f"samples {samples[0]} to {samples[-1]} of the {name} split cannot be put into one batch: "
            f"{one_line(error)}{remedy(str(error)) or ('' if collate else form)}"
        ) from error
    return batch


def split_size(split: Dataset[Any], name: str) -> int:
    """The number of samples of a split; a ``DataError`` where it cannot be had."""
    try:
        return len(cast(Sized, split))
    except (Exception, SystemExit) as error:  # a data set may raise anything
        raise DataError(
            f"len() of the {name} split failed: {one_line(error)}; a data set must say how many samples it has, a "
            "stream how many an epoch has"
        ) from error


def wrong_length(name: str, size: int, given: int | str, workers: int = 1) -> DataError:
    """The error of a stream that gives another number of samples than it says."""
    if workers > 1:
        advice = (
            f"with loader.num_workers={workers}, each process must give its own share of them "
            "(torch.utils.data.get_worker_info)"
        )
    else:
        advice = "its len() must be what it gives in an epoch"
    return DataError(f"the {name} split says that an epoch has {count(size, 'sample')}, and gives {given}; {advice}")


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
    if isinstance(part, dict):
        return {name: _form(inner) for name, inner in part.items()}
    return (part.dtype, part.shape) if hasattr(part, "shape") else type(part)


def _say(part: Any) -> str:
    """The form for people, such as ``(float32 [3, 32, 32], int)``."""
    if isinstance(part, tuple | list):
        return f"({', '.join(map(_say, part))})"
    if isinstance(part, dict):
        return f"{{{', '.join(f'{name}: {_say(inner)}' for name, inner in part.items())}}}"
    return f"{part.dtype} {list(part.shape)}".removeprefix("torch.") if hasattr(part, "shape") else type(part).__name__
