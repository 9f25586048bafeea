"""Reads batches in this process, or in worker processes with torch's ``DataLoader``, with the same bits.

The ``DataLoader`` goes on for as long as its workers live: its sampler hands out keys, each for a whole batch. So one
pool of workers serves all splits and epochs, and an epoch can start at any batch.
"""

import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain, repeat
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from threading import Event, Thread
from time import perf_counter, sleep
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info
from torch.utils.data._utils import signal_handling

from ptb.data.batch import Batch
from ptb.data.samples import BatchReader, Collate, remedy, split_size
from ptb.device import cores, is_memory_error
from ptb.errors import SIGNALS, DataError, PtbError, one_line

Parts = Callable[[int], Iterator[Sequence[int]]]  # the samples of each batch from one batch on
Key = tuple[int, str, int, Sequence[int], int]  # number of the reading; split, seed, samples and epoch for the reader
# Workers are started for an epoch that would take longer than this without them, seconds.
WORTH_WORKERS = 2.0
MOST_WORKERS = 8
# The default of the longest wait for a batch, seconds.
TIMEOUT = 120.0
# While a batch is waited for, the time between two looks at what else happened, seconds.
SLICE = 1.0
# What a worker gets to be gone, seconds.
GRACE = 0.5


class Workers:
    """Reads batches from the splits of a data set.

    The arguments mean what they mean in torch's ``DataLoader``, but that ``num_workers=None`` is as many as are worth
    it, and ``pin_device`` the GPU for which batches are copied into page-locked memory, or None.
    """

    def __init__(
        self,
        splits: Mapping[str, Dataset[Any]],
        num_workers: int | None = None,
        prefetch_factor: int | None = None,
        pin_device: torch.device | None = None,
        persistent_workers: bool = True,
        multiprocessing_context: str | None = None,
        timeout: float = TIMEOUT,
        collate: Collate | None = None,
    ) -> None:
        self.splits = dict(splits)
        self.collate = collate
        self._has_streams = any(isinstance(split, IterableDataset) for split in splits.values())
        self.sizes = {name: split_size(split, name) for name, split in splits.items()}
        self._reader = BatchReader(splits, collate)
        self._wanted = num_workers
        self._prefetch_factor = prefetch_factor
        self._pin_device = pin_device
        self._persistent = persistent_workers
        self._context = multiprocessing_context
        self._timeout = timeout or float("inf")
        self._seconds_per_sample = float("inf")
        self._reading = 0
        self._keys = _Keys(1)
        self._processes: list[BaseProcess] = []
        self._replies: Iterator[Any] = iter(())
        self._end: Callable[[], object] = lambda: None

    @property
    def num_workers(self) -> int:
        """The setting; without it 0 where an epoch was seen to be read quickly, and one a core where not."""
        if self._wanted is not None:
            return self._wanted
        # Of a stream they decide the order, so only the setting can start some.
        if self._has_streams:
            return 0
        samples = max(self.sizes.values())
        slow = WORTH_WORKERS < self._seconds_per_sample * samples < float("inf")
        return min(cores(), MOST_WORKERS) if slow else 0

    def take(self, split: str, samples: Tensor) -> Batch:
        """Reads samples (int64 ``[B]``) in this process; nothing is seeded for them."""
        start = perf_counter()
        batch = self._reader.take(split, samples.tolist())
        seconds = (perf_counter() - start) / max(len(samples), 1)
        self._seconds_per_sample = min(self._seconds_per_sample, seconds)  # the first read may import and open much
        return batch

    def read(
        self, split: str, seed: int, parts: Parts, waiting: Callable[[], object], epoch: int = 0
    ) -> Iterator[Batch | list[Any]]:
        """Yields a batch on the host for each of ``parts(0)``, in its turn; of a stream at its end a list of samples.

        Other parts may be read between two of these; what was read ahead is then read again, from ``parts(number)`` on.
        While a worker's batch is waited for, ``waiting`` is called about once a second; what it raises ends the wait
        and the workers.

        Raises:
            DataError: a sample cannot be read, or a worker died or gave no batch in time; no worker is left then.
        """
        reading = 0
        for number, samples in enumerate(parts(0)):
            workers = len(self._processes) or self.num_workers
            if workers and (not self._processes or reading != self._reading):
                reading = self._reading = self._reading + 1
                if not self._processes:
                    self._keys = _Keys(workers)
                self._keys.begin(number, ((reading, split, seed, part, epoch) for part in parts(number)))
                if not self._processes:
                    self._start()
            if not self._processes:
                reply = self._reader.read(split, seed, samples, epoch)
            else:
                try:
                    reply = self._receive(split, waiting)
                except BaseException:
                    self.close()
                    raise
            yield reply

    def end_epoch(self) -> None:
        """Ends the workers, where they are not to stay."""
        if not self._persistent:
            self.close()

    def close(self) -> None:
        """Ends the workers. Reading again starts new ones."""
        self._end()
        self._processes, self._replies = [], iter(())

    def _start(self) -> None:
        """Starts workers; where that fails, this process reads alone from now on."""
        method = self._context or multiprocessing.get_start_method()
        if method not in (methods := multiprocessing.get_all_start_methods()):
            method = methods[0]  # joblib sets one of its own, with which a DataLoader starts nothing
        self._samples = _WorkerSamples(self.splits, self.num_workers, self.collate)
        others = set(multiprocessing.active_children())
        pinning = torch.cuda.device(self._pin_device) if self._pin_device else nullcontext()
        try:
            with warnings.catch_warnings(), torch.inference_mode(False), pinning:
                # Of more workers than cores, which were asked for; of pickling, which is told below; of threads.
                warnings.filterwarnings("ignore", module=r"torch\.utils\.data|multiprocessing\.popen_fork")
                loader: DataLoader[Any] = DataLoader(
                    self._samples,
                    batch_size=None,  # one key is one batch
                    sampler=cast(Any, self._keys),
                    num_workers=self.num_workers,
                    worker_init_fn=_begin_worker,
                    generator=torch.Generator(),  # without it, a number is drawn from the global one
                    prefetch_factor=self._prefetch_factor,
                    pin_memory=self._pin_device is not None,
                    timeout=min(SLICE, self._timeout),
                    multiprocessing_context=method,
                )
                replies = cast(Any, iter(loader))
        except BaseException as error:
            for child in set(multiprocessing.active_children()) - others:
                child.kill()
            if not isinstance(error, Exception):
                raise
            # A daemonic process may have no children, a data set cannot be pickled, or the system has no more.
            reason = f"{one_line(error)}{remedy(str(error))}"
            if self._has_streams:
                raise DataError(f"workers cannot be started: {reason}; loader.num_workers=0 needs none") from error
            self._wanted = 0
            warnings.warn(f"workers cannot be started, so this process reads the samples: {reason}", stacklevel=3)
            return
        # When a worker dies, torch's handler of SIGCHLD would raise wherever this process is, be it in a save.
        cast(Any, signal_handling)._remove_worker_pids(id(replies))
        replies._worker_pids_set = False
        self._replies, self._received = replies, 0
        self._processes = replies._workers
        # With a priority it comes before multiprocessing waits for its children, at the exit of any process.
        self._end = Finalize(self, _kill, (replies,), exitpriority=0)

    def _receive(self, split: str, waiting: Callable[[], object]) -> Any:
        """Waits for the next reply of the epoch, and lets go what was read ahead of earlier ones."""
        waited = 0.0
        while True:
            try:
                reply = next(self._replies)
            except Exception as error:
                if is_memory_error(error):
                    raise
                if not str(error).startswith("DataLoader timed out"):
                    sleep(GRACE)  # a worker that is dying is dead after that
                    self._raise_if_dead(split)
                    raise DataError(f"a batch of the {split} split cannot be received: {one_line(error)}") from error
                # Slices are counted, not seconds: this process may have been stopped meanwhile, with its workers.
                waited += min(SLICE, self._timeout)
                waiting()
                self._raise_if_dead(split)
                if waited >= self._timeout:
                    raise DataError(
                        f"no batch of the {split} split has come for {self._timeout:g} seconds: "
                        f"{self._say(self._received % len(self._processes), 'still reads, and was ended')}; set "
                        "loader.timeout to more seconds if a batch may take longer; loader.num_workers=0 reads in this "
                        "process and shows where it waits"
                    ) from None
                continue
            self._received += 1  # workers take turns, so this says whose turn it is
            if reply is None or reply[0] != self._reading:
                continue
            if isinstance(reply[1], Exception):
                raise reply[1]
            return reply[1]

    def _raise_if_dead(self, split: str) -> None:
        for worker, process in enumerate(self._processes):
            if not process.is_alive():
                code = process.exitcode
                how = f"ended with exit code {code}"
                if code is not None and -code in set(signal.Signals):
                    how = f"was killed by {signal.Signals(-code).name}"
                raise DataError(
                    f"a process that reads the {split} split has died: {self._say(worker, how)}{remedy(how)}; "
                    "loader.num_workers=0 reads in this process and may show why"
                ) from None

    def _say(self, worker: int, what: str) -> str:
        return f"worker {worker} (pid {self._processes[worker].pid}) {what}; {self._samples.last(worker)}"


class _Keys:
    """The sampler of the ``DataLoader``: never ends, and gives None where there is nothing to read."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._ahead: Iterator[Key | None] = iter(())
        self._given = 0  # so far; workers take turns, so the next one is for worker ``given % workers``

    def begin(self, turn: int, keys: Iterator[Key]) -> None:
        """Gives these from now on, the first of them when it is the turn of the worker ``turn % workers``."""
        self._ahead = chain(repeat(None, (turn - self._given) % self._workers), keys)

    def __iter__(self) -> Iterator[Key | None]:
        while True:
            self._given += 1
            yield next(self._ahead, None)


class _WorkerSamples(Dataset[Any]):
    """The data set of the ``DataLoader``: for a key the number of its reading, and the batch or the error there."""

    def __init__(self, splits: Mapping[str, Dataset[Any]], num_workers: int, collate: Collate | None) -> None:
        self._reader = BatchReader(splits, collate)
        self._names = list(splits)
        self._last = multiprocessing.RawArray("q", [-1] * 2 * num_workers)  # shared: of each worker, split and sample

    def __getitem__(self, key: Key | None) -> tuple[int, Any] | None:
        if key is None:
            return None
        reading, split, seed, samples, epoch = key
        worker, number = cast(Any, get_worker_info()).id, self._names.index(split)

        def note(sample: int) -> None:
            self._last[2 * worker] = number
            self._last[2 * worker + 1] = sample

        try:
            return reading, self._reader.read(split, seed, samples, epoch, note)
        except PtbError as error:  # perhaps of a class that cannot be pickled
            return reading, DataError(str(error))
        except Exception as error:  # all but running out of memory has become a DataError
            return reading, MemoryError(one_line(error))

    def last(self, worker: int) -> str:
        """Says which sample a worker began to read last."""
        split, sample = self._last[2 * worker : 2 * worker + 2]
        if sample < 0:
            return "it had not begun to read a sample"
        return f"the last sample that it began to read is sample {sample} of the {self._names[split]} split"


def _begin_worker(worker: int) -> None:
    """Has this worker ignore signals to its process group, and end with the process that started it."""
    for number in SIGNALS:  # only the main process knows what to save
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_end_with_the_run, daemon=True).start()  # torch's own watch looks only between two batches


def _end_with_the_run() -> None:
    cast(Any, multiprocessing.parent_process()).join()
    os._exit(1)


def _kill(replies: Any) -> None:
    """Ends workers. torch would wait five seconds for each that hangs, and they ignore its SIGTERM."""
    for process in replies._workers:
        process.kill()
    for process in replies._workers:
        process.join(GRACE)  # one that waits for a broken disk outlives even that
    replies._workers_done_event = Event()  # one that was killed may hold the lock of theirs, which torch still sets
