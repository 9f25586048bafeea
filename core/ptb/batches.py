"""Turns a split of a data set into batches on the device.

The order of the samples is a function of the seed and the epoch, from a generator of its own: nothing is drawn from the
global state, so the number of workers or of evaluations changes nothing. A ``TensorDataset`` is cut by index; anything
else goes through a ``DataLoader``.
"""

import hashlib
from collections.abc import Callable, Iterator, Sized
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

from ptb.errors import DataError
from ptb.seeding import derive_seed, generator

Batch = tuple[Tensor, Tensor]
FINGERPRINT_SAMPLES = 64


class Source(Protocol):
    """Where batches come from: samples in, host tensors out."""

    def take(self, indices: Tensor) -> Batch:
        """These samples as one batch."""

    def batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """The samples in this order, cut into batches, the last one perhaps shorter.

        ``seed`` is for what draws at random while it reads them.
        """


class Gather:
    """Reads a ``TensorDataset``: whole batches by index, no sample is ever touched alone."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs = inputs
        self.targets = targets

    def take(self, indices: Tensor) -> Batch:
        """As in ``Source``."""
        return self.inputs.index_select(0, indices), self.targets.index_select(0, indices)

    def batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """As in ``Source``."""
        return map(self.take, torch.split(order, batch_size) if len(order) else ())


class Workers:
    """Reads any map-style dataset through a ``DataLoader``."""

    def __init__(self, dataset: Dataset[Any], num_workers: int) -> None:
        self.dataset = dataset
        self.num_workers = num_workers

    def take(self, indices: Tensor) -> Batch:
        """As in ``Source``."""
        return _pair(default_collate([self.dataset[index] for index in indices.tolist()]))

    def batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """As in ``Source``."""
        loader: DataLoader[Any] = DataLoader(
            self.dataset,
            batch_size=batch_size,
            sampler=order.tolist(),
            num_workers=self.num_workers,
            generator=torch.Generator().manual_seed(seed),  # without one, a DataLoader draws from the global state
        )
        return map(_pair, loader)


class Batches:
    """The batches of one split, epoch by epoch.

    Args:
        split: a map-style dataset of ``(inputs, targets)``.
        batch_size: samples in a batch.
        device: where the batches are put.
        seed: of the order and of the augmentation.
        shuffle: a new order for each epoch; else that of the data set.
        drop_last: leave out a last batch that is not full.
        num_workers: processes that read samples, for data sets that are not held in memory.
        prepare: applied to the inputs of each batch on the device.
        augment: applied after ``prepare``, with a generator for that batch.
    """

    def __init__(
        self,
        split: Dataset[Any],
        *,
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        num_workers: int = 0,
        prepare: Callable[[Tensor], Tensor] | None = None,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    ) -> None:
        self.size = len(cast(Sized, split))
        self.batch_size = batch_size
        self.device = device
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.prepare = prepare
        self.augment = augment
        self.source: Source
        if isinstance(split, TensorDataset):
            self.source = Gather(*_pair(split.tensors))
        else:
            self.source = Workers(split, num_workers)

    @property
    def in_memory(self) -> bool:
        """Whether all samples are at hand without reading them."""
        return isinstance(self.source, Gather)

    def __len__(self) -> int:
        full, rest = divmod(self.size, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    @property
    def samples(self) -> int:
        """How many samples one epoch has."""
        return min(len(self) * self.batch_size, self.size)

    def epoch(self, number: int = 0) -> Iterator[Batch]:
        """The batches of one epoch as ``(inputs[B, *input_shape], targets[B, ...])`` on the device."""
        order = self._order(number)[: self.samples]
        seed = derive_seed(self.seed, "workers", number)
        for index, (inputs, targets) in enumerate(self.source.batches(order, self.batch_size, seed)):
            inputs, targets = self._to_device(inputs, targets)
            if self.augment is not None:
                inputs = self.augment(inputs, generator(self.seed, "augment", number, index))
            yield inputs, targets

    def probe(self, count: int = 2) -> Batch:
        """The first samples of the split as one batch, prepared but not augmented."""
        return self._to_device(*self.source.take(torch.arange(min(count, self.size))))

    def _order(self, number: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(self.size)
        return torch.randperm(self.size, generator=generator(self.seed, "order", number))

    def _to_device(self, inputs: Tensor, targets: Tensor) -> Batch:
        inputs = inputs.to(self.device, non_blocking=True)
        targets = targets.to(self.device, non_blocking=True)
        return (inputs if self.prepare is None else self.prepare(inputs)), targets


def fingerprint(splits: dict[str, Dataset[Any]]) -> str:
    """A SHA-256 of the data: of every byte held in memory, else of sizes and evenly spaced samples."""
    digest = hashlib.sha256()
    for name, split in splits.items():
        size = len(cast(Sized, split))
        digest.update(f"{name}\0{size}\0".encode())
        if isinstance(split, TensorDataset):
            tensors: tuple[Tensor, ...] = split.tensors
        else:
            chosen = torch.arange(0, size, max(size // FINGERPRINT_SAMPLES, 1))
            tensors = Workers(split, 0).take(chosen) if size else ()
        for tensor in tensors:
            update_digest(digest, tensor)
    return digest.hexdigest()


def update_digest(digest: "hashlib._Hash", tensor: Tensor) -> None:
    """Adds a tensor to a hash: dtype, NUL, shape, NUL, the little-endian bytes of the contiguous CPU tensor."""
    digest.update(f"{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
    flat = tensor.detach().cpu().contiguous().flatten()
    digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")


def _pair(batch: Any) -> Batch:
    parts = list(batch) if isinstance(batch, tuple | list) else [batch]
    if len(parts) != 2 or not all(isinstance(part, Tensor) for part in parts):
        got = ", ".join(type(part).__name__ for part in parts)
        raise DataError(f"a sample must be a pair (inputs, targets) of tensors or numbers, got ({got})")
    return parts[0], parts[1]
