"""Turns a split of a data set into batches on the device.

The order of the samples is a function of the seed and the epoch, the augmentation one of the seed, the epoch and the
sample. Nothing is drawn from the global state, so the number of workers or of evaluations changes nothing.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ptb.data.sample_rng import SampleGenerator
from ptb.data.samples import Batch, cut, read_batch
from ptb.data.sources import InMemorySamples, Source
from ptb.seeding import derive_seed, generator
from ptb.storage.codec import raw

FINGERPRINT_SAMPLES = 64
# Of more than that a part is looked at: to read it all would cost more than a short training.
SCAN_BYTES = 1 << 30
# Samples that are read at once where all are read and none is kept.
CHUNK = 4096


class BatchLoader:
    """The batches of one split, epoch by epoch.

    Args:
        source: where they come from; ``ptb.data.sources.place`` chooses one.
        batch_size: samples in a batch.
        seed: of the order and of the augmentation.
        shuffle: a new order for each epoch; else that of the data set.
        drop_last: leave out a last batch that is not full.
        prepare: applied to the inputs of each batch on the device.
        augment: applied after ``prepare``, with random numbers for the samples of that batch.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        prepare: Callable[[Tensor], Tensor] | None = None,
        augment: Callable[[Tensor, SampleGenerator], Tensor] | None = None,
    ) -> None:
        self.source = source
        self.size = source.size
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.prepare = prepare
        self.augment = augment

    @property
    def at_hand(self) -> bool:
        """Whether all samples are in memory, or mapped into it, and none has to be read by itself."""
        return self.source.tier != "workers"

    def __len__(self) -> int:
        full, rest = divmod(self.size, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    @property
    def samples(self) -> int:
        """How many samples one epoch has."""
        return min(len(self) * self.batch_size, self.size)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch as ``(inputs[B, *input_shape], targets[B, ...])`` on the device.

        Args:
            number: of the epoch.
            start: of the batch to begin with. Those before it are neither read nor drawn, and the others are what
                they are in the whole epoch.

        Raises:
            ValueError: the epoch has no such batch, nor does it end there.
        """
        order = self._order(number, start)
        batches = self.source.batches(order, self.batch_size, derive_seed(self.seed, "workers", number))
        return batches if self.prepare is None and self.augment is None else self._changed(batches, order, number)

    def chosen(self, number: int, start: int, count: int = 1) -> Tensor:
        """The numbers of the samples in ``count`` batches of an epoch from batch ``start``, int64 on the host.

        Fewer where the epoch ends before; in the order in which they are in the batches.

        Raises:
            ValueError: as ``epoch``.
        """
        return self._order(number, start)[: count * self.batch_size]

    def probe(self, count: int = 2) -> Batch:
        """The first samples of the split as one batch on the device, prepared but not augmented."""
        inputs, targets = self.source.take(torch.arange(min(count, self.size)))
        return (inputs if self.prepare is None else self.prepare(inputs)), targets

    def _order(self, number: int, start: int) -> Tensor:
        """The samples of an epoch from batch ``start``, in order."""
        if not 0 <= start <= len(self):
            raise ValueError(f"an epoch of {len(self)} batches cannot begin with batch {start}")
        if self.shuffle:
            order = torch.randperm(self.size, generator=generator(self.seed, "order", number))
        else:
            order = torch.arange(self.size)
        return order[start * self.batch_size : self.samples]

    def _changed(self, batches: Iterator[Batch], order: Tensor, number: int) -> Iterator[Batch]:
        """Prepared and augmented."""
        for samples, (inputs, targets) in zip(cut(order, self.batch_size), batches, strict=True):
            if self.prepare is not None:
                inputs = self.prepare(inputs)
            if self.augment is not None:
                inputs = self.augment(inputs, SampleGenerator(self.seed, number, samples.to(inputs.device)))
            yield inputs, targets


def fingerprint(splits: Mapping[str, Dataset[Any]]) -> str:
    """A SHA-256 of the data.

    It covers every byte of a split that is at hand and has at most 1 GiB, else sizes and 64 evenly spaced samples.
    """
    digest = hashlib.sha256()
    for name, split in splits.items():
        size = len(cast(Sized, split))
        digest.update(f"{name}\0{size}\0".encode())
        held = InMemorySamples.of(split)
        if held is not None and size and held.nbytes <= SCAN_BYTES:
            for tensor in (held.inputs, held.targets):
                _update_header(digest, tensor.dtype, (size, *tensor.shape[1:]))
                for start in range(0, size, CHUNK):
                    stop = min(start + CHUNK, size)
                    chunk = tensor[start:stop] if held.rows is None else tensor[held.rows[start:stop]]
                    _update_bytes(digest, chunk)
        elif size:
            chosen = torch.arange(0, size, max(size // FINGERPRINT_SAMPLES, 1))
            some = held.take(chosen) if held else read_batch(split, name, None, chosen.tolist())
            for tensor in some:
                update_digest(digest, tensor)
    return digest.hexdigest()


def update_digest(digest: "hashlib._Hash", tensor: Tensor) -> None:
    """Adds a tensor to a hash: dtype, NUL, shape, NUL, the little-endian bytes of the contiguous CPU tensor."""
    _update_header(digest, tensor.dtype, tuple(tensor.shape))
    _update_bytes(digest, tensor)


def _update_header(digest: "hashlib._Hash", dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    digest.update(f"{dtype}\0{tuple(shape)}\0".encode())


def _update_bytes(digest: "hashlib._Hash", tensor: Tensor) -> None:
    digest.update(raw(tensor.detach().cpu()).numpy().data if tensor.numel() else b"")
