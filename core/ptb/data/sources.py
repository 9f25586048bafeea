"""Where batches come from: the memory of the device, that of the host, or a data set that is read sample by sample.

All sources give the same batches to the last bit, so the fastest can be chosen.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, cycle, islice
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, StackDataset, Subset, TensorDataset

from ptb.data.batch import Batch as Batch
from ptb.data.samples import Collate, make_batch, wrong_length
from ptb.data.workers import Workers
from ptb.errors import IncompatibleError

Placement = Literal["device", "host", "workers"]
# Of the free memory of a GPU, or of the memory of the machine: what needs more stays on the host.
DEVICE_SHARE = 0.25
# Batches that the host cuts before they are asked for.
AHEAD = 2


@dataclass(frozen=True)
class InMemorySamples:
    """Samples in memory: sample ``n`` is row ``rows[n]`` of the tensors, or row ``n`` where ``rows`` is None."""

    tensors: Batch
    rows: Tensor | None = None

    @classmethod
    def of(cls, split: Dataset[Any]) -> "InMemorySamples | None":
        """Those of tensors in a ``TensorDataset`` or ``StackDataset``, or of a ``Subset`` of one; None for others."""
        rows: Tensor | None = None
        while type(split) is Subset:
            chosen = torch.as_tensor(split.indices, dtype=torch.int64)
            chosen = torch.where(chosen < 0, chosen + len(cast(Any, split.dataset)), chosen)
            rows = chosen if rows is None else chosen[rows]
            split = split.dataset
        tensors = _stacked(split)
        if tensors is None or isinstance(tensors, Tensor):
            return None
        batch = Batch.of(tensors)
        if any(tensor.requires_grad for tensor in batch.tensors()):
            batch = batch.map(Tensor.detach)
        return cls(batch, rows)

    @property
    def size(self) -> int:
        """How many samples there are."""
        return self.tensors.size if self.rows is None else len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of these samples; the tensors may hold others too."""
        return self.size * self.tensors.map(lambda tensor: tensor[:1]).nbytes

    def take(self, samples: Tensor) -> Batch:
        """Returns samples (int64 ``[B]``) as one batch; all tensors are on one device."""
        rows = samples if self.rows is None else self.rows.index_select(0, samples)
        return self.tensors.map(lambda tensor: tensor.index_select(0, rows))

    def to(self, device: torch.device, moved: dict[int, Tensor]) -> "InMemorySamples":
        """Moves them to a device; ``moved`` has what is there already, by the id of the tensor on the host."""
        for tensor in self.tensors.tensors():
            if id(tensor) not in moved:
                moved[id(tensor)] = tensor.to(device)
        rows = None if self.rows is None else self.rows.to(device)
        return InMemorySamples(self.tensors.map(lambda tensor: moved[id(tensor)]), rows)


class DeviceSource:
    """Samples in the memory of the device: a batch is cut there by index, and nothing is copied."""

    placement: Placement = "device"

    def __init__(self, held: InMemorySamples, device: torch.device) -> None:
        self._held = held
        self._device = device
        self.is_stream = False  # its samples can be had in any order
        self.collate: Collate | None = None
        self.size = held.size
        self.waiting: Callable[[], object] = lambda: None

    def __str__(self) -> str:
        return self.placement

    def take(self, samples: Tensor) -> Batch:
        """Returns these samples (int64 ``[B]`` on the host) as one batch on the device."""
        return self._held.take(samples.to(self._device))

    def batches(self, parts: Sequence[Tensor], seed: int) -> Iterator[Batch]:
        """Yields a batch on the device for each of ``parts``, the numbers of its samples (int64 ``[B]``)."""
        held, rows = self._held, torch.cat([*parts, torch.empty(0, dtype=torch.int64)]).to(self._device)
        if held.rows is not None:
            rows = held.rows.index_select(0, rows)
        whole = InMemorySamples(held.tensors)
        for chosen in torch.split(rows, [len(part) for part in parts]) if parts else ():
            yield whole.take(chosen)

    def close(self) -> None:
        """Does nothing: no process was started to read samples."""


class HostSource(DeviceSource):
    """Samples in the memory of the host, perhaps mapped from a file: a thread cuts batches ahead."""

    placement: Placement = "host"

    def take(self, samples: Tensor) -> Batch:
        """Returns these samples as one batch on the device."""
        return to_device(self._held.take(samples), self._device)

    def batches(self, parts: Sequence[Tensor], seed: int) -> Iterator[Batch]:
        """Yields a batch on the device for each of ``parts``."""
        ahead: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(1, "ptb-host") as pool:
            for samples in parts:
                ahead.append(pool.submit(self._cut, samples))
                if len(ahead) > AHEAD:
                    yield to_device(ahead.popleft().result(), self._device)
            while ahead:
                yield to_device(ahead.popleft().result(), self._device)

    def _cut(self, samples: Tensor) -> Batch:
        batch = self._held.take(samples)
        # From page-locked memory, the GPU copies while the host goes on.
        return batch.map(Tensor.pin_memory) if self._device.type == "cuda" else batch


class WorkerSource:
    """One split of a data set that is read sample by sample, by ``Workers`` that all splits share."""

    placement: Placement = "workers"

    def __init__(self, workers: Workers, split: str, device: torch.device) -> None:
        self.workers = workers
        self.collate = workers.collate
        self.is_stream = isinstance(workers.splits[split], IterableDataset)
        self._split = split
        self._device = device
        self.size = workers.sizes[split]
        # Called about once a second while a worker's batch is waited for; what it raises ends the wait.
        self.waiting: Callable[[], object] = lambda: None

    def __str__(self) -> str:
        number = self.workers.num_workers
        return f"{self.placement} ({f'{number} process' + 'es' * (number > 1) if number else 'in this process'})"

    def take(self, samples: Tensor) -> Batch:
        """Returns these samples as one batch on the device; this process reads them."""
        return to_device(self.workers.take(self._split, samples), self._device)

    def batches(self, parts: Sequence[Tensor], seed: int) -> Iterator[Batch]:
        """Yields a batch on the device for each of ``parts``; ``seed`` is for a data set that uses random numbers."""
        wanted = [part.tolist() for part in parts]
        for batch in self.workers.read(self._split, seed, lambda first: islice(wanted, first, None), self.waiting):
            yield to_device(cast(Batch, batch), self._device)
        self.workers.end_epoch()

    def stream(self, batch_size: int, seed: int, epoch: int, start: int) -> Iterator[Batch]:
        """Yields the batches of a stream from batch ``start``; it has an order of its own in each ``epoch``.

        Raises:
            DataError: it gives another number of samples than its length; or as ``Workers.read``.
        """
        for batch in islice(self._whole_stream(batch_size, seed, epoch), start, None):
            yield to_device(batch, self._device)
        self.workers.end_epoch()

    def _whole_stream(self, batch_size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """Full batches of the shares of all workers in turn, then what is left at the ends of all shares together."""
        number = self.workers.num_workers or 1
        stride = batch_size * number

        def parts(first: int) -> Iterator[range]:
            starts = (turn // number * stride + turn % number for turn in count(first))
            return (range(start, start + stride, number) for start in starts)

        replies = self.workers.read(self._split, seed, parts, self.waiting, epoch)
        left: list[Any] = []
        ended: set[int] = set()
        given = 0
        for worker, reply in zip(cycle(range(number)), replies, strict=False):
            if isinstance(reply, Batch):
                given += reply.size
                if given > self.size:
                    raise wrong_length(self._split, self.size, f"more than {self.size}", number)
                yield reply
            elif worker not in ended:
                left += reply
                ended.add(worker)
                if len(ended) == number:
                    break
        if given + len(left) != self.size:
            raise wrong_length(self._split, self.size, given + len(left), number)
        for first in range(0, len(left), batch_size):
            part = left[first : first + batch_size]
            yield make_batch(part, range(given + first, given + first + len(part)), self._split, self.collate)

    def close(self) -> None:
        """Ends the workers; reading again starts new ones."""
        self.workers.close()


# One split of a data set: numbers of samples in, batches on the device out.
Source = DeviceSource | WorkerSource


def make_sources(
    splits: Mapping[str, Dataset[Any]],
    device: torch.device,
    placement: Placement | Literal["auto"] = "auto",
    num_workers: int | None = None,
    pin_memory: bool | None = None,
    collate: Collate | None = None,
    **options: Any,
) -> dict[str, Source]:
    """Chooses where the samples of a data set's splits are kept, the same for all of them.

    ``auto`` takes the first placement that is possible: ``device``, if each split is a ``TensorDataset`` or a
    ``Subset`` of one and they need at most a quarter of the free memory of a GPU (of the machine's memory, for other
    devices); ``host``, if each split is that; ``workers``. The other arguments are those of ``Workers``;
    ``pin_memory=None`` is page-locked memory for a GPU. With ``collate``, and for streams, only ``workers`` are
    possible.

    Raises:
        IncompatibleError: only ``workers`` can read the samples.
        DataError: the samples are none that a batch can hold.
    """
    held = {name: None if collate else InMemorySamples.of(split) for name, split in splits.items()}
    in_memory = {name: split for name, split in held.items() if split is not None}
    if placement == "auto":
        placement = "workers" if len(in_memory) < len(held) else "device" if _fits(in_memory, device) else "host"
    if placement == "workers":
        pin_device = device if device.type == "cuda" and pin_memory is not False else None
        workers = Workers(splits, num_workers, pin_device=pin_device, collate=collate, **options)
        return {name: WorkerSource(workers, name, device) for name in splits}
    if len(in_memory) < len(held):
        read = ", ".join(name for name in held if name not in in_memory)
        raise IncompatibleError(
            f"loader.placement={placement} needs samples that are in memory, in a TensorDataset and without a "
            f"collate; the data set reads those of {read} one by one: leave loader.placement out"
        )
    if placement == "host":
        return {name: HostSource(split, device) for name, split in in_memory.items()}
    moved: dict[int, Tensor] = {}
    return {name: DeviceSource(split.to(device, moved), device) for name, split in in_memory.items()}


def cut(order: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Cuts samples (``[N]``) into batches, the last one perhaps smaller, and none empty."""
    return torch.split(order, batch_size) if len(order) else ()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Moves a batch; where it is in page-locked memory, a GPU copies it while the host goes on."""
    return batch.map(lambda tensor: tensor.to(device, non_blocking=True))


def _stacked(split: Any) -> Any:
    """What a data set of tensors holds: a tensor, or a tuple or dict of them; None where it computes its samples."""
    if isinstance(split, Tensor):
        return split
    overrides = any(
        getattr(type(split), name) is not getattr(kind, name)
        for kind in (TensorDataset, StackDataset)
        if isinstance(split, kind)
        for name in ("__getitem__", "__len__")
    )
    if overrides or not isinstance(split, TensorDataset | StackDataset):
        return None
    held = split.tensors if isinstance(split, TensorDataset) else split.datasets
    if isinstance(held, dict):
        found = {name: _stacked(each) for name, each in held.items()}
        return found if all(isinstance(each, Tensor) for each in found.values()) else None
    parts = tuple(map(_stacked, held))
    return parts if all(isinstance(each, Tensor | dict) for each in parts) else None


def _fits(held: Mapping[str, InMemorySamples], device: torch.device) -> bool:
    tensors = {id(tensor): tensor for split in held.values() for tensor in split.tensors.tensors()}
    needed = sum(tensor.nbytes for tensor in tensors.values())
    return needed <= DEVICE_SHARE * _free_memory(device)


def _free_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if hasattr(os, "sysconf"):
        return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    return float("inf")  # Windows does not say; what it maps and has read, it can drop again
