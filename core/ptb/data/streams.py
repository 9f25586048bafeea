"""Reads an ``IterableDataset``, whose samples come in an order of their own, as if they could be indexed."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from ptb.seeding import seed_host

# Added to the seed for each sample: 2**64 divided by the golden ratio. Hashing would cost a sixth of the seeding.
SEED_STEP = 0x9E3779B97F4A7C15


class StreamEnd(Exception):
    """The stream ends before that sample."""


class Stream:
    """The samples of an ``IterableDataset`` by their number, for as long as they are asked for in order.

    Of several workers each iterates over the data set by itself, and sample ``n`` is number ``n // workers`` of those
    that worker ``n % workers`` is given. To go on inside an epoch, or back, the stream is read from its beginning.

    Attributes:
        next: the number of the sample that comes next.
    """

    def __init__(self, stream: IterableDataset[Any]) -> None:
        self._stream: Any = stream
        self._epoch: tuple[int, int | None] = 0, None  # its number, and the seed of what is drawn for its samples
        self._samples: Iterator[Any] | None = None  # where they are read from the beginning next
        self.next, self._step = 0, 1

    def begin(self, epoch: int, seed: int | None) -> None:
        """Reads from the beginning of an epoch, unless it is inside it. Without ``seed`` nothing is seeded."""
        if self._epoch != (epoch, seed):
            self._epoch, self._samples = (epoch, seed), None

    def __len__(self) -> int:
        return len(self._stream)

    def __getitem__(self, sample: int) -> Any:
        """Seeds before each sample, those in between too, and reads it.

        Raises:
            StreamEnd: there are not as many.
        """
        (epoch, seed), samples, self._samples = self._epoch, self._samples, None  # it begins again after an error
        if samples is None or sample < self.next:
            if hasattr(self._stream, "set_epoch"):
                self._stream.set_epoch(epoch)
            worker = get_worker_info()
            self.next, self._step = (worker.id, worker.num_workers) if worker else (0, 1)
            samples = iter(self._stream)
        while self.next <= sample:
            if seed is not None:
                seed_sample(seed, self.next)
            try:
                read = next(samples)
            except StopIteration:
                self._samples = samples
                raise StreamEnd from None
            self.next += self._step
        self._samples = samples
        return read


def seed_sample(seed: int, sample: int) -> None:
    """Seeds Python, NumPy and torch for one sample."""
    seed_host((seed + sample * SEED_STEP) % 2**63)
