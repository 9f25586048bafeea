"""Turns a split of a data set into batches on the device.

The order of the samples depends on the seed and the epoch, the augmentation of a sample on the seed, the epoch and the
sample. Nothing is drawn from the global generators, so neither workers nor evaluations change anything.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ptb.data.sample_rng import SampleGenerator
from ptb.data.sources import Batch, Source, cut
from ptb.seeding import derive_seed, generator


class BatchLoader:
    """The batches of one split, epoch by epoch.

    ``transform`` is applied to the inputs of each batch on the device, then ``augment``, with random numbers for the
    samples of that batch.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        transform: Callable[[Tensor], Tensor] | None = None,
        augment: Callable[[Tensor, SampleGenerator], Tensor] | None = None,
    ) -> None:
        self.source = source
        self.size = source.size
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.transform = transform
        self.augment = augment

    def __len__(self) -> int:
        full, rest = divmod(self.size, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    @property
    def samples(self) -> int:
        """The number of samples in one epoch."""
        return min(len(self) * self.batch_size, self.size)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """Returns the batches ``(inputs[B, *input_shape], targets[B, ...])`` of an epoch from batch ``start``.

        Those before ``start`` are not read, and the others are the same as in the whole epoch.
        """
        order = self._order(number, start)
        batches = self.source.batches(order, self.batch_size, derive_seed(self.seed, "workers", number))
        return batches if self.transform is None and self.augment is None else self._changed(batches, order, number)

    def sample_indices(self, number: int, start: int, count: int = 1) -> Tensor:
        """Returns which samples are in ``count`` batches of an epoch from batch ``start``, int64 ``[N]``."""
        return self._order(number, start)[: count * self.batch_size]

    def first_batch(self, count: int = 2) -> Batch:
        """Returns the first samples of the split as one batch on the device, transformed but not augmented."""
        inputs, targets = self.source.take(torch.arange(min(count, self.size)))
        return (inputs if self.transform is None else self.transform(inputs)), targets

    def _order(self, number: int, start: int) -> Tensor:
        """The samples of an epoch from batch ``start``."""
        if not 0 <= start <= len(self):
            raise ValueError(f"an epoch of {len(self)} batches cannot begin with batch {start}")
        if self.shuffle:
            order = torch.randperm(self.size, generator=generator(self.seed, "order", number))
        else:
            order = torch.arange(self.size)
        return order[start * self.batch_size : self.samples]

    def _changed(self, batches: Iterator[Batch], order: Tensor, number: int) -> Iterator[Batch]:
        """Transforms and augments batches."""
        for samples, (inputs, targets) in zip(cut(order, self.batch_size), batches, strict=True):
            if self.transform is not None:
                inputs = self.transform(inputs)
            if self.augment is not None:
                inputs = self.augment(inputs, SampleGenerator(self.seed, number, samples.to(inputs.device)))
            yield inputs, targets
