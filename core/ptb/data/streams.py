"""Reads an ``IterableDataset``, whose samples come in an order of their own, in one process or in several.

Each process iterates over the data set by itself and gives full batches in turn. What is left at the end of all of them
together makes the last batches, so an epoch has as many as its length says. A stream can only be read from its
beginning: to go on inside an epoch, what comes before is read again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch
from torch.utils.data import Dataset

from ptb.data.batch import Batch
from ptb.data.samples import Collate, make_batch, seed_sample
from ptb.device import cpu_threads, is_memory_error
from ptb.errors import DataError, PtbError, count, one_line
from ptb.seeding import GlobalGenerators


@dataclass(frozen=True)
class StreamPart:
    """The batch with this index that one of several workers makes of its share of an epoch."""

    epoch: int
    index: int
    size: int
    worker: int
    workers: int


@dataclass
class _Position:
    """How far a stream was read in this process."""

    epoch: int
    samples: Iterator[Any]
    index: int = 0  # of the next batch


class StreamReader:
    """Reads the streams among the splits of a data set in this process."""

    def __init__(self, splits: Mapping[str, Dataset[Any]], collate: Collate | None) -> None:
        self._splits = dict(splits)
        self._collate = collate
        self._positions: dict[str, _Position] = {}
        self._generators: GlobalGenerators | None = None

    def read(self, split: str, seed: int, part: StreamPart, before_each: Callable[[int], object]) -> Batch | list[Any]:
        """The batch, or where the stream ends before it is full, the list of samples that are left.

        The random numbers of Python, NumPy and torch are seeded before each sample.
        """
        self._generators = self._generators or GlobalGenerators()  # not earlier: it cannot be sent to another process
        with self._generators.preserved(torch.device("cpu")), cpu_threads(1):
            position = self._positions.get(split)
            try:
                if position is None or position.epoch != part.epoch or position.index > part.index:
                    position = self._positions[split] = self._begin(split, part.epoch)
                while position.index < part.index:  # read before, or by a process that was stopped since
                    self._next_samples(position, part, seed, before_each)
                read = self._next_samples(position, part, seed, before_each)
            except (Exception, SystemExit) as error:  # a data set may raise anything
                self._positions.pop(split, None)
                if isinstance(error, PtbError) or is_memory_error(error):
                    raise
                raise DataError(f"reading the {split} split failed: {one_line(error)}") from error
        if len(read) < part.size:
            return read
        return make_batch(read, range(len(read)), split, self._collate)

    def _begin(self, split: str, epoch: int) -> _Position:
        stream: Any = self._splits[split]
        if hasattr(stream, "set_epoch"):
            stream.set_epoch(epoch)
        return _Position(epoch, iter(stream))

    def _next_samples(
        self, position: _Position, part: StreamPart, seed: int, before_each: Callable[[int], object]
    ) -> list[Any]:
        read: list[Any] = []
        first = position.index * part.size
        for place in range(first, first + part.size):
            before_each(place)
            seed_sample(seed, place * part.workers + part.worker)
            try:
                read.append(next(position.samples))
            except StopIteration:
                break
        position.index += 1
        return read


def batches_of_stream(
    replies: Iterable[Batch | list[Any]], batch_size: int, workers: int, size: int, split: str, collate: Collate | None
) -> Iterator[Batch]:
    """Yields the batches of an epoch, from what the workers give in turn.

    Raises:
        DataError: they give other than ``size`` samples together.
    """
    left: list[Any] = []
    ended: set[int] = set()
    given = 0
    for worker, reply in zip(cycle(range(workers)), replies, strict=False):
        if worker in ended:
            continue
        if isinstance(reply, Batch):
            given += reply.size
            if given > size:
                break
            yield reply
            continue
        left += reply
        ended.add(worker)
        if len(ended) == workers:
            break
    if given + len(left) != size:
        found = f"more than {size}" if given > size else given + len(left)
        shares = (
            f"with loader.num_workers={workers}, each process must give its own share of them "
            "(torch.utils.data.get_worker_info)"
        )
        raise DataError(
            f"the {split} split says that an epoch has {count(size, 'sample')}, and gives {found}; "
            f"{shares if workers > 1 else 'its len() must be what it gives in an epoch'}"
        )
    for first in range(0, len(left), batch_size):
        part = left[first : first + batch_size]
        yield make_batch(part, range(given + first, given + first + len(part)), split, collate)
