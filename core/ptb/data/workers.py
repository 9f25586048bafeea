"""Reads batches in this process, or in worker processes with torch's ``DataLoader``, with the same bits.

The ``DataLoader`` gets keys ``(split, seed, samples)``, each for a whole batch. So one pool of workers serves all
splits and epochs, and an epoch can start at any batch.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from queue import Empty, SimpleQueue
from threading import Thread, current_thread
from time import monotonic, perf_counter, sleep
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data._utils import signal_handling

from ptb.data.samples import Batch, read_batch, remedy
from ptb.device import is_memory_error
from ptb.errors import DataError, PtbError, one_line
from ptb.seeding import preserve_rng_state

Key = tuple[str, int, list[int]]
# Workers are started for an epoch that would take longer than this without them, seconds.
WORTH_WORKERS = 2.0
MOST_WORKERS = 8
# The default of the longest wait for a batch, seconds.
TIMEOUT = 120.0
# While a batch is waited for, the time between two looks at what else happened, seconds.
SLICE = 1.0
# What workers get to end by themselves, seconds.
GRACE = 0.5
# Terminals and job schedulers send these to all processes of a run, and only the main one knows what to save.
LEFT_TO_THE_RUN = ("SIGINT", "SIGTERM", "SIGHUP")
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


class Workers:
    """Reads batches from the splits of a data set.

    The global generators are seeded for each sample and put back afterwards: what a data set draws at random depends on
    epoch and sample only. ``pin_device`` is the GPU for which batches are copied into page-locked memory, or None; the
    other arguments are those of ``ptb.data.sources.make_sources``.
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
    ) -> None:
        self.splits = dict(splits)
        self._wanted = num_workers
        self._prefetch_factor = prefetch_factor
        self._pin_device = pin_device
        self._persistent = persistent_workers
        self._context = multiprocessing_context
        self._timeout = timeout or float("inf")
        self._seconds_per_sample = float("inf")
        self._processes: list[BaseProcess] = []
        self._end: Callable[[], object] = lambda: None

    @property
    def num_workers(self) -> int:
        """The setting; without it 0 where an epoch was seen to be read quickly, and one a core where not."""
        if self._wanted is not None:
            return self._wanted
        samples = max(len(cast(Any, split)) for split in self.splits.values())
        slow = WORTH_WORKERS < self._seconds_per_sample * samples < float("inf")
        return min(cores(), MOST_WORKERS) if slow else 0

    def take(self, split: str, samples: Tensor) -> Batch:
        """Reads samples (int64 ``[B]``) in this process; nothing is seeded for them."""
        start = perf_counter()
        with preserve_rng_state():
            batch = read_batch(self.splits[split], split, None, samples.tolist())
        seconds = (perf_counter() - start) / max(len(samples), 1)
        self._seconds_per_sample = min(self._seconds_per_sample, seconds)  # the first read may import and open much
        return batch

    def batches(
        self, split: str, parts: Sequence[Tensor], seed: int, waiting: Callable[[], object] = lambda: None
    ) -> Iterator[Batch]:
        """Yields one batch on the host for each of ``parts``, the numbers of its samples (int64 ``[B]``).

        Another epoch may be read between two batches; what was read ahead is then read again. While a worker's batch is
        waited for, ``waiting`` is called about once a second; what it raises ends the wait and the workers.

        Raises:
            DataError: a sample cannot be read, or a worker died or gave no batch in time; no worker is left then.
        """
        for number, part in enumerate(parts):
            if not self._processes and self.num_workers:
                self._start()
            if not self._processes:
                with preserve_rng_state():
                    batch = read_batch(self.splits[split], split, seed, part.tolist())
            else:
                try:
                    batch = self._await_batch(split, parts, number, seed, waiting)
                except BaseException:
                    self.close()
                    raise
            yield batch
        if not self._persistent:
            self.close()

    def close(self) -> None:
        """Ends the workers, by force those that do not end at once. Reading again starts new ones."""
        self._processes = []
        self._end()

    def _start(self) -> None:
        """Starts workers, and a thread that receives from them; where that fails, this process reads alone."""
        method = self._context or multiprocessing.get_start_method()
        if method not in (methods := multiprocessing.get_all_start_methods()):
            method = methods[0]  # joblib sets one of its own, with which a DataLoader starts nothing
        self._reader, sampler = _Reader(self.splits, self.num_workers), _Sampler()
        others = set(multiprocessing.active_children())
        try:
            with warnings.catch_warnings(), torch.inference_mode(False):
                # Of more workers than cores, which were asked for; of pickling, which is told below; of threads.
                warnings.filterwarnings("ignore", module=r"torch\.utils\.data|multiprocessing\.popen_fork")
                loader: DataLoader[Any] = DataLoader(
                    self._reader,
                    batch_size=None,  # one key is one batch
                    sampler=cast(Any, sampler),
                    num_workers=self.num_workers,
                    worker_init_fn=_begin_worker,
                    generator=torch.Generator(),  # without it, a number is drawn from the global one
                    prefetch_factor=self._prefetch_factor,
                    persistent_workers=True,
                    multiprocessing_context=method,
                )
                iterator = cast(Any, iter(loader))
        except BaseException as error:
            for child in set(multiprocessing.active_children()) - others:
                child.kill()
            if not isinstance(error, Exception):
                raise
            # A daemonic process may have no children, a data set cannot be pickled, or the system has no more.
            self._wanted = 0
            reason = f"{one_line(error)}{remedy(str(error))}"
            warnings.warn(f"workers cannot be started, so this process reads the samples: {reason}", stacklevel=3)
            return
        # When a worker dies, torch's handler of SIGCHLD would raise wherever this process is, be it in a save.
        cast(Any, signal_handling)._remove_worker_pids(id(iterator))
        iterator._worker_pids_set = False
        self._processes = iterator._workers
        self._parts: Sequence[Tensor] | None = None
        self._asked: SimpleQueue[Iterator[Key] | None] = SimpleQueue()
        self._replies: SimpleQueue[tuple[Iterator[Key], Any]] = SimpleQueue()
        arguments = (loader, sampler, self._asked, self._replies, self._pin_device)
        thread = Thread(target=_receive, args=arguments, name="ptb-receive", daemon=True)
        thread.start()
        # With a priority it comes before multiprocessing waits for its children, at the exit of any process.
        self._end = Finalize(self, _end, (self._processes, thread, self._asked), exitpriority=0)

    def _await_batch(
        self, split: str, parts: Sequence[Tensor], number: int, seed: int, waiting: Callable[[], object]
    ) -> Batch:
        """Waits for one batch, and asks for the next. The thread that receives it may be stuck, this one never is."""
        if self._parts is not parts:
            self._parts, self._first = parts, number
            self._keys = ((split, seed, part.tolist()) for part in parts[number:])
            self._asked.put(self._keys)
        worker = (number - self._first) % len(self._processes)
        waited, most = 0.0, min(SLICE, self._timeout / 4)
        while True:
            start, reply = monotonic(), None
            with suppress(Empty):
                keys, reply = self._replies.get(timeout=most)
            if reply is None:
                took = monotonic() - start
                if took < most + SLICE / 2:  # else this process was stopped meanwhile, perhaps with its workers
                    waited += took
                waiting()
                self._raise_if_dead(split)
                if waited >= self._timeout:
                    raise DataError(
                        f"no batch of the {split} split has come for {self._timeout:g} seconds: "
                        f"{self._say(worker, 'still reads, and was ended')}; set loader.timeout to more seconds if a "
                        "batch may take longer; loader.num_workers=0 reads in this process and shows where it waits"
                    )
            elif keys is self._keys:
                break
        if isinstance(reply, ConnectionError):
            sleep(GRACE)  # a worker that is dying is dead after that
            self._raise_if_dead(split)
            raise DataError(
                f"a batch of the {split} split cannot be received: {reply}{remedy(str(reply))}; loader.num_workers=0 "
                "reads in this process"
            )
        if isinstance(reply, Exception):
            raise reply
        if number + 1 < len(parts):
            self._asked.put(self._keys)
        return cast(Batch, tuple(reply))

    def _raise_if_dead(self, split: str) -> None:
        for worker, process in enumerate(self._processes):
            if not process.is_alive():
                name, how = _ending(process.exitcode)
                raise DataError(
                    f"a process that reads the {split} split has died: {self._say(worker, how)}{remedy(name)}; "
                    "loader.num_workers=0 reads in this process and may show why"
                )

    def _say(self, worker: int, what: str) -> str:
        return f"worker {worker} (pid {self._processes[worker].pid}) {what}; {self._reader.last(worker)}"


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Sampler:
    """The sampler of the ``DataLoader``, which asks it for the keys of each epoch when that begins."""

    keys: Iterator[Key] = iter(())

    def __iter__(self) -> Iterator[Key]:
        return self.keys


class _Reader(Dataset[Any]):
    """The data set of the ``DataLoader``: the batch of a key, or the error that it ends with."""

    def __init__(self, splits: Mapping[str, Dataset[Any]], num_workers: int) -> None:
        self._splits = dict(splits)
        self._names = list(splits)
        self._last = multiprocessing.RawArray("q", [-1] * 2 * num_workers)  # shared: of each worker, split and sample

    def __getitem__(self, key: Key) -> Batch | Exception:
        split, seed, samples = key
        worker = cast(Any, get_worker_info()).id

        def note(sample: int) -> None:
            self._last[2 * worker : 2 * worker + 2] = self._names.index(split), sample

        try:
            return read_batch(self._splits[split], split, seed, samples, note)
        except PtbError as error:  # perhaps of a class that cannot be pickled
            return DataError(str(error))
        except Exception as error:  # all but running out of memory has become a DataError
            return MemoryError(one_line(error))

    def last(self, worker: int) -> str:
        """Says which sample a worker began to read last."""
        split, sample = self._last[2 * worker : 2 * worker + 2]
        if sample < 0:
            return "it had not begun to read a sample"
        return f"the last sample that it began to read is sample {sample} of the {self._names[split]} split"


def _begin_worker(worker: int) -> None:
    """Has this worker ignore signals to its process group, and end with the process that started it."""
    for name in LEFT_TO_THE_RUN:
        if hasattr(signal, name):  # Windows lacks one
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform == "linux":  # whatever a sample does
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    Thread(target=_end_with_the_run, daemon=True).start()  # a forkserver, which is a parent too, would outlive it


def _end_with_the_run() -> None:
    cast(Any, multiprocessing.parent_process()).join()
    os._exit(1)


def _receive(
    loader: DataLoader[Any],
    sampler: _Sampler,
    asked: "SimpleQueue[Iterator[Key] | None]",
    replies: "SimpleQueue[tuple[Iterator[Key], Any]]",
    pin_device: torch.device | None,
) -> None:
    """Replies to each request with the next batch of an epoch, given by its keys, until it is asked for None.

    With the end of this thread the last reference to the loader goes, and torch ends the workers.
    """
    batches: Iterator[Any] = iter(())
    with torch.cuda.device(pin_device) if pin_device else nullcontext():
        while (keys := asked.get()) is not None:
            try:
                if keys is not sampler.keys:
                    sampler.keys = keys
                    batches = iter(loader)
                reply = next(batches)
                if pin_device and not isinstance(reply, Exception):
                    reply = [tensor.pin_memory() for tensor in reply]
            except Exception as error:  # itself it would keep the loader alive, with its traceback
                reply = (MemoryError if is_memory_error(error) else ConnectionError)(one_line(error))
            replies.put((keys, reply))
            del reply


def _end(processes: Sequence[BaseProcess], thread: Thread, asked: "SimpleQueue[Any]") -> None:
    """Ends workers, and the thread that receives from them."""
    asked.put(None)
    if thread is not current_thread():  # garbage may be collected in any
        thread.join(GRACE)
    for process in processes:
        process.kill()
    for process in processes:
        process.join(GRACE)  # one that waits for a broken disk outlives even that


def _ending(code: int | None) -> tuple[str, str]:
    """How a process ended: the name of the signal or nothing, and words."""
    if code is None or code >= 0:
        return "", f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return name, f"was killed by {name}"
