"""Turns a split of a data set into batches on the device.

The order of the samples depends on the seed and the epoch, the augmentation of a sample on the seed, the epoch and the
sample. The global generators are not used, so neither workers nor evaluations change anything.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import zip_longest
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from ptb.data.balance import balanced
from ptb.data.batch import NOTHING, Batch, MixedBatch
from ptb.data.sample_rng import SampleGenerator
from ptb.data.sources import Source, WorkerSource, cut
from ptb.seeding import derive_seed, generator

Turn = tuple[int, int]  # the number of this process, and of how many that take whole batches in turn


@dataclass(eq=False)
class BatchLoader:
    """The batches of one split, epoch by epoch.

    ``transform`` is applied to the inputs of each batch on the device, then ``augment`` to inputs and targets, with
    random numbers for the samples of that batch. With ``classes`` (int64 ``[N]``) an epoch chooses from each class
    alike, with replacement. Where the model ``reconstructs``, the inputs between both are the targets. A stream comes
    in its own order.
    """

    source: Source
    _: KW_ONLY
    batch_size: int
    seed: int = 0
    shuffle: bool = False
    drop_last: bool = False
    transform: Callable[[Any], Any] | None = None
    augment: Callable[[Any, Any, SampleGenerator], tuple[Any, Any]] | None = None
    reconstructs: bool = False
    classes: Tensor | None = None

    def __post_init__(self) -> None:
        self.size = self.source.size
        self.shuffle = self.shuffle and not self.source.is_stream
        # Which pieces of each batch this process takes, of how many.
        self.pieces, self.piece_count = range(1), 1

    def __len__(self) -> int:
        full, rest = divmod(self.size, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    @property
    def samples(self) -> int:
        """The number of samples in one epoch."""
        return min(len(self) * self.batch_size, self.size)

    def epoch(self, number: int = 0, start: int = 0, turn: Turn = (0, 1)) -> Iterator[Batch]:
        """Returns the batches of an epoch from batch ``start``, or the pieces of each that are this process's.

        Those before ``start`` are not read, but for a stream, and the others are the same as in the whole epoch. Where
        processes take whole batches in ``turn``, there is ``NOTHING`` in place of those of the others.
        """
        batches = cut(self._order(number, start), self.batch_size)
        seed = derive_seed(self.seed, "workers", number)
        if isinstance(self.source, WorkerSource) and self.source.is_stream:
            # It is read to its end, where its length is checked, also where drop_last leaves out the last batch.
            stream = zip_longest(batches, self.source.stream(self.batch_size, seed, number, start))
            changed = (self._changed(batch, samples, number) for samples, batch in stream if samples is not None)
            return (piece for place, batch in enumerate(changed) for piece in self.own_pieces(batch, place, turn))
        parts = [part for place, batch in enumerate(batches) for part in self._own(batch, place, turn)]
        read = self.source.batches([self._samples(part) for part in parts if len(part)], seed)
        if self.transform is None and self.augment is None and not self.reconstructs and all(map(len, parts)):
            return read
        return (self._changed(next(read), part, number) if len(part) else NOTHING for part in parts)

    def batches(self, samples: Tensor, batch_size: int) -> Iterator[Batch]:
        """Returns these samples (int64 ``[N]``) in batches as they are read; of a stream its first ones."""
        if isinstance(self.source, WorkerSource) and self.source.is_stream:
            return self.source.stream(batch_size, 0, 0, 0)
        return self.source.batches(cut(samples, batch_size), 0)

    def sample_indices(self, number: int, start: int, count: int = 1) -> Tensor:
        """Returns which samples are in ``count`` batches of an epoch from batch ``start``, int64 ``[N]``."""
        return self._samples(self._order(number, start)[: count * self.batch_size])

    def first_batch(self, count: int = 2) -> Batch:
        """Returns the first samples of the split as one batch on the device, transformed but not augmented."""
        return self._transformed(self.source.take(torch.arange(min(count, self.size))))

    def own_pieces(self, batch: Batch, place: int = 0, turn: Turn = (0, 1)) -> Iterator[Batch]:
        """Returns the pieces of a whole batch, the one at ``place`` of an epoch, that are this process's."""
        for piece in self._own(torch.arange(batch.size), place, turn):
            yield batch.map(itemgetter(slice(int(piece[0]), int(piece[-1]) + 1))) if len(piece) else NOTHING

    def augmented(self, batch: Batch, epoch: int, samples: Tensor) -> Batch:
        """Returns a batch of these samples (int64 ``[B]``) as it is in a training epoch."""
        if self.augment is None:
            return batch
        device = next(batch.tensors()).device
        inputs, targets = self.augment(
            batch.inputs, batch.targets, SampleGenerator(self.seed, epoch, samples.to(device))
        )
        augmented = Batch(inputs, targets, batch.weights)
        mixed = isinstance(targets, Tensor) and targets.ndim > batch.targets.ndim
        return MixedBatch.of_classes(augmented, batch.targets) if mixed else augmented

    def _order(self, number: int, start: int) -> Tensor:
        """The samples of an epoch from batch ``start``; balanced, those that come again have larger numbers."""
        if not 0 <= start <= len(self):
            raise ValueError(f"an epoch of {len(self)} batches cannot begin with batch {start}")
        if self.classes is not None:
            order = balanced(self.classes, generator(self.seed, "balance", number))
        elif self.shuffle:
            order = torch.randperm(self.size, generator=generator(self.seed, "order", number))
        else:
            order = torch.arange(self.size)
        return order[start * self.batch_size : self.samples]

    def _samples(self, order: Tensor) -> Tensor:
        return order if self.classes is None else order % self.size

    def _own(self, batch: Tensor, place: int, turn: Turn) -> Sequence[Tensor]:
        """The pieces of a batch, contiguous and perhaps empty, that this process takes."""
        number, turns = turn
        if place % turns != number:
            return [batch[:0]]
        if self.piece_count == 1:
            return [batch]
        pieces = batch.tensor_split(self.piece_count)
        return [pieces[each] for each in self.pieces]

    def _changed(self, batch: Batch, samples: Tensor, number: int) -> Batch:
        """Transforms and augments a batch."""
        return self.augmented(self._transformed(batch), number, samples)

    def _transformed(self, batch: Batch) -> Batch:
        inputs = batch.inputs if self.transform is None else self.transform(batch.inputs)
        return Batch(inputs, inputs if self.reconstructs else batch.targets, batch.weights)
