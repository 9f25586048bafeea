"""Where batches come from: the memory of the device, that of the host, or a data set that is read one by one.

All of them give the same batches to the last bit, so that the fastest can be chosen.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from ptb.data.samples import Batch as Batch
from ptb.data.samples import cut, pair, pinned, to_device
from ptb.data.workers import AHEAD, TIMEOUT, Workers
from ptb.errors import IncompatibleError

Tier = Literal["resident", "gather", "workers"]
# Of the free memory of a GPU, or of the memory of the machine: beyond it, samples stay where they are.
RESIDENT_SHARE = 0.25


class Source(Protocol):
    """One split: samples in, batches on the device out."""

    tier: Tier
    size: int

    def take(self, samples: Tensor) -> Batch:
        """The samples of these numbers, int64 ``[B]`` on the host, as one batch on the device."""

    def batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """The samples in this order, cut into batches on the device, the last one perhaps shorter.

        ``seed`` is for a data set that draws at random while it is read.
        """

    def close(self) -> None:
        """Ends what was started to read samples; reading again starts it anew."""


@dataclass(frozen=True)
class InMemorySamples:
    """Samples that are at hand: sample ``n`` is row ``rows[n]`` of the tensors, or row ``n`` where ``rows`` is None."""

    inputs: Tensor
    targets: Tensor
    rows: Tensor | None = None

    @classmethod
    def of(cls, split: Dataset[Any]) -> "InMemorySamples | None":
        """Of a ``TensorDataset``, or a ``Subset`` of one; None of what reads its samples itself."""
        rows: Tensor | None = None
        while type(split) is Subset:
            chosen = torch.as_tensor(split.indices, dtype=torch.int64)
            chosen = torch.where(chosen < 0, chosen + len(cast(Any, split.dataset)), chosen)
            rows = chosen if rows is None else chosen[rows]
            split = split.dataset
        if not isinstance(split, TensorDataset) or any(
            getattr(type(split), name) is not getattr(TensorDataset, name) for name in ("__getitem__", "__len__")
        ):
            return None
        inputs, targets = pair(split.tensors)
        if inputs.requires_grad or targets.requires_grad:
            inputs, targets = inputs.detach(), targets.detach()
        return cls(inputs, targets, rows)

    @property
    def size(self) -> int:
        """How many samples there are."""
        return len(self.inputs if self.rows is None else self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes of these samples; the tensors may hold others too."""
        return self.size * (self.inputs[:1].nbytes + self.targets[:1].nbytes)

    def take(self, samples: Tensor) -> Batch:
        """As in ``Source``."""
        rows = samples if self.rows is None else self.rows.index_select(0, samples)
        return self.inputs.index_select(0, rows), self.targets.index_select(0, rows)

    def to(self, device: torch.device, moved: dict[int, Tensor]) -> "InMemorySamples":
        """On that device; ``moved`` knows what is there already, by the id of the tensor on the host."""
        for tensor in (self.inputs, self.targets):
            if id(tensor) not in moved:
                moved[id(tensor)] = tensor.to(device)
        rows = None if self.rows is None else self.rows.to(device)
        return InMemorySamples(moved[id(self.inputs)], moved[id(self.targets)], rows)


class _AtHand:
    """What the two tiers of samples in memory share."""

    tier: Tier

    def __init__(self, held: InMemorySamples, device: torch.device) -> None:
        self._held = held
        self._device = device
        self.size = held.size

    def __str__(self) -> str:
        return self.tier

    def close(self) -> None:
        """As in ``Source``."""


class Resident(_AtHand):
    """Samples in the memory of the device: a batch is cut there by index, and nothing is copied."""

    tier: Tier = "resident"

    def take(self, samples: Tensor) -> Batch:
        """As in ``Source``."""
        return self._held.take(samples.to(self._device))

    def batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """As in ``Source``."""
        held, rows = self._held, order.to(self._device)
        if held.rows is not None:
            rows = held.rows.index_select(0, rows)
        for chosen in cut(rows, batch_size):
            yield held.inputs.index_select(0, chosen), held.targets.index_select(0, chosen)


class Gather(_AtHand):
    """Samples in the memory of the host, perhaps mapped from a file: batches are cut ahead, by a thread of its own.

    For a GPU they go through page-locked memory and a stream of their own, beside the computation.
    """

    tier: Tier = "gather"

    def take(self, samples: Tensor) -> Batch:
        """As in ``Source``."""
        return to_device(self._held.take(samples), self._device)

    def batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """As in ``Source``."""
        cuda = self._device.type == "cuda"
        stream = torch.cuda.Stream(self._device) if cuda else None  # type: ignore[no-untyped-call]  # torch's own
        ahead: deque[Future[Callable[[], Batch]]] = deque()
        with ThreadPoolExecutor(1, "ptb-gather") as pool:
            for samples in cut(order, batch_size):
                ahead.append(pool.submit(self._read, samples, stream))
                if len(ahead) > AHEAD:
                    yield ahead.popleft().result()()
            while ahead:
                yield ahead.popleft().result()()

    def _read(self, samples: Tensor, stream: "torch.cuda.Stream | None") -> Callable[[], Batch]:
        """Reads a batch; what is returned waits until it is on the device."""
        batch = self._held.take(samples)
        if stream is None:
            on_device = to_device(batch, self._device)
            return lambda: on_device
        with torch.cuda.stream(stream):
            copied = to_device(pinned(batch, self._device), self._device)
            done = stream.record_event()

        def wait() -> Batch:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(done)
            for tensor in copied:
                tensor.record_stream(current)  # its memory is not given away earlier
            return copied

        return wait


class WorkerSource:
    """One split of ``Workers``."""

    tier: Tier = "workers"

    def __str__(self) -> str:
        number = self.workers.num_workers
        return f"{self.tier} ({f'{number} process' + 'es' * (number > 1) if number else 'in this process'})"

    def __init__(self, workers: Workers, split: str) -> None:
        self.workers = workers
        self._split = split
        self.size = len(cast(Any, workers.splits[split]))

    def take(self, samples: Tensor) -> Batch:
        """As in ``Source``."""
        return self.workers.take(self._split, samples)

    def batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """As in ``Source``."""
        return self.workers.batches(self._split, order, batch_size, seed)

    def close(self) -> None:
        """As in ``Source``."""
        self.workers.close()


def place(
    splits: Mapping[str, Dataset[Any]],
    device: torch.device,
    tier: Tier | Literal["auto"] = "auto",
    num_workers: int | None = None,
    timeout: float = TIMEOUT,
) -> dict[str, Source]:
    """Chooses where the samples of a data set are kept, the same for all its splits.

    Args:
        splits: map-style data sets of ``(inputs, targets)``, by name.
        device: where the batches are put.
        tier: ``auto`` takes the first that can be: ``resident``, if all splits are a ``TensorDataset`` or a ``Subset``
            of one and need at most a quarter of the free memory of a GPU (of the machine's memory, for other devices);
            ``gather``, if they are; ``workers``.
        num_workers: processes of ``workers``; None takes as many as are worth it.
        timeout: the longest wait for one batch of such a process, in seconds.

    Raises:
        IncompatibleError: the samples are not at hand, so that only ``workers`` can read them.
        DataError: samples are no pairs.
    """
    held = {name: InMemorySamples.of(split) for name, split in splits.items()}
    at_hand = {name: split for name, split in held.items() if split is not None}
    if tier == "auto":
        tier = "workers" if len(at_hand) < len(held) else "resident" if _fits(at_hand, device) else "gather"
    if tier == "workers":
        workers = Workers(splits, device, num_workers, timeout)
        return {name: WorkerSource(workers, name) for name in splits}
    if len(at_hand) < len(held):
        read = ", ".join(name for name in held if name not in at_hand)
        raise IncompatibleError(
            f"loader.tier={tier} needs samples that are at hand, in a TensorDataset; the data set reads those of "
            f"{read} one by one: leave loader.tier out"
        )
    if tier == "gather":
        return {name: Gather(split, device) for name, split in at_hand.items()}
    moved: dict[int, Tensor] = {}
    return {name: Resident(split.to(device, moved), device) for name, split in at_hand.items()}


def _fits(held: Mapping[str, InMemorySamples], device: torch.device) -> bool:
    tensors = {id(tensor): tensor for split in held.values() for tensor in (split.inputs, split.targets)}
    needed = sum(tensor.nbytes for tensor in tensors.values())
    return needed <= RESIDENT_SHARE * _free_memory(device)


def _free_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if hasattr(os, "sysconf"):
        return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    return float("inf")  # Windows does not tell; what it maps and has read, it can drop again
