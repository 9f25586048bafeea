"""Where batches come from: the memory of the device, that of the host, or a data set that is read one by one.

All of them give the same batches to the last bit, so that the fastest can be chosen.
"""

import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate

from ptb.device import is_memory_error
from ptb.errors import DataError, MisfitError, PtbError, one_line
from ptb.seeding import isolated, seed_host

Batch = tuple[Tensor, Tensor]
Tier = Literal["resident", "gather", "workers"]
# Of the free memory of a GPU, or of the memory of the machine: beyond it, samples stay where they are.
RESIDENT_SHARE = 0.25
# Batches that are cut before they are asked for.
AHEAD = 2
# Reading that takes longer than this in an epoch is worth the start of processes, seconds.
WORTH_WORKERS = 2.0
MOST_WORKERS = 8
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


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
class Held:
    """Samples that are at hand: sample ``n`` is row ``rows[n]`` of the tensors, or row ``n`` where ``rows`` is None."""

    inputs: Tensor
    targets: Tensor
    rows: Tensor | None = None

    @classmethod
    def of(cls, split: Dataset[Any]) -> "Held | None":
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

    def __len__(self) -> int:
        return self.size

    def take(self, samples: Tensor) -> Batch:
        """As in ``Source``."""
        rows = samples if self.rows is None else self.rows.index_select(0, samples)
        return self.inputs.index_select(0, rows), self.targets.index_select(0, rows)

    def to(self, device: torch.device, moved: dict[int, Tensor]) -> "Held":
        """On that device; ``moved`` knows what is there already, by the id of the tensor on the host."""
        for tensor in (self.inputs, self.targets):
            if id(tensor) not in moved:
                moved[id(tensor)] = tensor.to(device)
        rows = None if self.rows is None else self.rows.to(device)
        return Held(moved[id(self.inputs)], moved[id(self.targets)], rows)


class Resident:
    """Samples in the memory of the device: a batch is cut there by index, and nothing is copied."""

    tier: Tier = "resident"

    def __str__(self) -> str:
        return self.tier

    def __init__(self, held: Held, device: torch.device, moved: dict[int, Tensor]) -> None:
        self._held = held.to(device, moved)
        self._device = device
        self.size = held.size

    def take(self, samples: Tensor) -> Batch:
        """As in ``Source``."""
        return self._held.take(samples.to(self._device))

    def batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """As in ``Source``."""
        held, rows = self._held, order.to(self._device)
        if held.rows is not None:
            rows = held.rows.index_select(0, rows)
        for chosen in _cut(rows, batch_size):
            yield held.inputs.index_select(0, chosen), held.targets.index_select(0, chosen)

    def close(self) -> None:
        """As in ``Source``."""


class Gather:
    """Samples in the memory of the host, perhaps mapped from a file: batches are cut ahead, by a thread of its own.

    For a GPU they go through page-locked memory and a stream of their own, beside the computation.
    """

    tier: Tier = "gather"

    def __str__(self) -> str:
        return self.tier

    def __init__(self, held: Held, device: torch.device) -> None:
        self._held = held
        self._device = device
        self.size = held.size

    def take(self, samples: Tensor) -> Batch:
        """As in ``Source``."""
        return _to(self._held.take(samples), self._device)

    def batches(self, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """As in ``Source``."""
        cuda = self._device.type == "cuda"
        stream = torch.cuda.Stream(self._device) if cuda else None  # type: ignore[no-untyped-call]  # torch's own
        ahead: deque[Future[Callable[[], Batch]]] = deque()
        with ThreadPoolExecutor(1, "ptb-gather") as pool:
            for samples in _cut(order, batch_size):
                ahead.append(pool.submit(self._read, samples, stream))
                if len(ahead) > AHEAD:
                    yield ahead.popleft().result()()
            while ahead:
                yield ahead.popleft().result()()

    def close(self) -> None:
        """As in ``Source``."""

    def _read(self, samples: Tensor, stream: "torch.cuda.Stream | None") -> Callable[[], Batch]:
        """Reads a batch; what is returned waits until it is on the device."""
        batch = self._held.take(samples)
        if stream is None:
            on_device = _to(batch, self._device)
            return lambda: on_device
        with torch.cuda.stream(stream):
            copied = _to((batch[0].pin_memory(), batch[1].pin_memory()), self._device)
            done = stream.record_event()

        def wait() -> Batch:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(done)
            for tensor in copied:
                tensor.record_stream(current)  # its memory is not given away earlier
            return copied

        return wait


class Workers:
    """Splits of a data set that reads its samples itself, in this process or in some of its own.

    Before each sample the global generators are seeded for that epoch and sample, and put back afterwards: what a data
    set draws at random does not depend on the number of processes, and changes nothing else.

    Args:
        splits: map-style data sets of ``(inputs, targets)``, by name.
        device: where the batches are put.
        num_workers: processes; None takes as many as are worth it.
    """

    def __init__(self, splits: Mapping[str, Dataset[Any]], device: torch.device, num_workers: int | None) -> None:
        self.splits = dict(splits)
        self.device = device
        self._wanted = num_workers
        self._seconds_per_sample = float("inf")
        self._keys: list[_Key] = []
        self._loader: DataLoader[Any] | None = None

    @property
    def num_workers(self) -> int:
        """As was asked; else none for what is read quickly, as far as that was seen, and one a core for the rest."""
        if self._wanted is not None:
            return self._wanted
        samples = max(len(cast(Any, split)) for split in self.splits.values())
        slow = WORTH_WORKERS < self._seconds_per_sample * samples < float("inf")
        return min(_cores(), MOST_WORKERS) if slow else 0

    def take(self, split: str, samples: Tensor) -> Batch:
        """These samples of a split as one batch on the device."""
        began = perf_counter()
        with isolated():
            batch = _Reader(self.splits)[(split, None, samples.tolist())]
        seconds = (perf_counter() - began) / max(len(samples), 1)
        self._seconds_per_sample = min(self._seconds_per_sample, seconds)  # the first read may import and open much
        return _to(batch, self.device)

    def batches(self, split: str, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """As in ``Source``."""
        self._keys[:] = [(split, seed, samples.tolist()) for samples in _cut(order, batch_size)]
        if self._loader is None:
            self._loader = self._start()
        loader = self._loader
        batches = iter(loader)
        for _ in range(len(self._keys)):
            try:
                with isolated() if loader.num_workers == 0 else nullcontext():
                    batch = next(batches)
            except (RuntimeError, OSError) as error:  # a process is gone; what samples raise comes as a value
                with suppress(RuntimeError, OSError):  # it may be told again and again
                    self.close()
                raise DataError(
                    f"a process that reads the {split} split has died: {one_line(error)}; loader.num_workers=0 reads "
                    "in this process and may show why"
                ) from error
            if isinstance(batch, PtbError):
                raise batch
            yield _to(batch, self.device)

    def close(self) -> None:
        """Ends the processes."""
        iterator = getattr(self._loader, "_iterator", None)
        self._loader = None
        if iterator is not None:  # left to the garbage collector, it would wait for them in the middle of other work
            iterator._shutdown_workers()

    def _start(self) -> "DataLoader[Any]":
        workers = self.num_workers
        return DataLoader(
            cast(Any, _Reader(self.splits)),
            batch_sampler=cast(Any, _Listed(self._keys)),
            collate_fn=_same,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_leave_signals_to_the_run,
            generator=torch.Generator(),  # without one, it draws from the global state
        )


class OneOfWorkers:
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
) -> dict[str, Source]:
    """Chooses where the samples of a data set are kept, the same for all its splits.

    Args:
        splits: map-style data sets of ``(inputs, targets)``, by name.
        device: where the batches are put.
        tier: ``auto`` takes the first that can be: ``resident``, if all splits are a ``TensorDataset`` or a ``Subset``
            of one and need at most a quarter of the free memory of a GPU (of the machine's memory, for other devices);
            ``gather``, if they are; ``workers``.
        num_workers: processes of ``workers``; None takes as many as are worth it.

    Raises:
        MisfitError: the samples are not at hand, so that only ``workers`` can read them.
        DataError: samples are no pairs.
    """
    held = {name: Held.of(split) for name, split in splits.items()}
    at_hand = {name: split for name, split in held.items() if split is not None}
    if tier == "auto":
        tier = "workers" if len(at_hand) < len(held) else "resident" if _fits(at_hand, device) else "gather"
    if tier == "workers":
        workers = Workers(splits, device, num_workers)
        return {name: OneOfWorkers(workers, name) for name in splits}
    if len(at_hand) < len(held):
        read = ", ".join(name for name in held if name not in at_hand)
        raise MisfitError(
            f"loader.tier={tier} needs samples that are at hand, in a TensorDataset; the data set reads those of "
            f"{read} one by one: leave loader.tier out"
        )
    if tier == "gather":
        return {name: Gather(split, device) for name, split in at_hand.items()}
    moved: dict[int, Tensor] = {}
    return {name: Resident(split, device, moved) for name, split in at_hand.items()}


def pair(batch: Any) -> Batch:
    """``(inputs, targets)``, checked.

    Raises:
        DataError: it is something else.
    """
    parts = list(batch) if isinstance(batch, tuple | list) else [batch]
    if len(parts) != 2 or not all(isinstance(part, Tensor) for part in parts):
        got = ", ".join(type(part).__name__ for part in parts)
        raise DataError(f"a sample must be a pair (inputs, targets) of tensors or numbers, got ({got})")
    return parts[0], parts[1]


# A split, the seed of an epoch or None, and the numbers of the samples of one batch.
_Key = tuple[str, int | None, list[int]]


class _Reader:
    """What a ``DataLoader`` asks for whole batches, in whatever process."""

    def __init__(self, splits: Mapping[str, Dataset[Any]]) -> None:
        self.splits = splits

    def __getitem__(self, key: _Key) -> Batch:
        name, seed, samples = key
        split, read = self.splits[name], []
        for sample in samples:
            if seed is not None:
                seed_host(seed, sample)
            try:
                read.append(split[sample])
            except PtbError:
                raise
            except (Exception, SystemExit) as error:  # a stranger's code may raise anything
                if is_memory_error(error):
                    raise
                raise DataError(f"reading sample {sample} of the {name} split failed: {one_line(error)}") from error
            # A collation would cast or stretch what differs, each in its own way in this process and in another.
            if (form := _form(read[-1])) != (first := _form(read[0])):
                raise DataError(
                    f"the samples of the {name} split must be alike: sample {samples[0]} is {first}, sample {sample} "
                    f"is {form}"
                )
        with torch.no_grad():
            return pair(default_collate(read))

    def __getitems__(self, key: _Key) -> Batch | PtbError:
        try:
            return self[key]
        except PtbError as error:  # raised in another process, it would come with a traceback in its text
            return type(error)(*error.args)


class _Listed:
    """Batches to be read: the list that it is given, as it is when an epoch begins."""

    def __init__(self, keys: list[_Key]) -> None:
        self.keys = keys

    def __iter__(self) -> Iterator[_Key]:
        return iter(list(self.keys))

    def __len__(self) -> int:
        return len(self.keys)


def _same(batch: Any) -> Any:
    return batch


def _form(sample: Any) -> str:
    """Types and shapes of a sample's parts, for people."""
    if isinstance(sample, tuple | list):
        return f"({', '.join(map(_form, sample))})"
    shape, dtype = getattr(sample, "shape", None), getattr(sample, "dtype", None)
    return type(sample).__name__ if shape is None else f"{dtype} {list(shape)}".removeprefix("torch.")


def _leave_signals_to_the_run(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal, and only the run knows what to save.

    A worker that hangs ends with the thread that started it, where the system can do that.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _cut(order: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    return torch.split(order, batch_size) if len(order) else ()


def _to(batch: Batch, device: torch.device) -> Batch:
    return batch[0].to(device, non_blocking=True), batch[1].to(device, non_blocking=True)


def _fits(held: Mapping[str, Held], device: torch.device) -> bool:
    tensors = {id(tensor): tensor for split in held.values() for tensor in (split.inputs, split.targets)}
    needed = sum(tensor.nbytes for tensor in tensors.values())
    return needed <= RESIDENT_SHARE * _free_memory(device)


def _free_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if hasattr(os, "sysconf"):
        return float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    return float("inf")  # Windows does not tell; what it maps and has read, it can drop again


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
