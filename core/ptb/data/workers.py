"""Samples of a data set that reads them itself: in this process, or in processes of their own.

A process is told of an epoch, then asked for its batches by number, and sends each back in shared memory, over a pipe
that it shares with no other. Threads of this process receive them: whatever a process dies of or waits for, this one
can still tell.
"""

import atexit
import ctypes
import os
import signal
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import Empty, SimpleQueue
from threading import Event, Thread, current_thread
from time import monotonic, perf_counter, sleep
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data._utils import worker as torch_worker

from ptb.data.samples import Batch, pinned, read_batch, remedy, to_device
from ptb.device import is_memory_error
from ptb.errors import DataError, PtbError, one_line
from ptb.seeding import preserve_rng_state

# BatchLoader that each process reads before they are asked for.
AHEAD = 2
# Reading that takes longer than this in an epoch is worth the start of processes, seconds.
WORTH_WORKERS = 2.0
MOST_WORKERS = 8
# The longest wait for a batch unless another is asked for, seconds.
TIMEOUT = 120.0
# Between two looks at what else may have happened, seconds.
SLICE = 1.0
# What processes get to end by themselves, seconds.
GRACE = 0.5
# Terminals and job schedulers send them to all processes of a run, and only the first one knows what to save.
LEFT_TO_THE_RUN = ("SIGINT", "SIGTERM", "SIGHUP")
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


class Workers:
    """Splits of a data set that reads its samples itself, in this process or in some of its own.

    Before each sample the global generators are seeded for that epoch and sample, and put back afterwards: what a data
    set draws at random does not depend on the number of processes, and changes nothing else.

    Args:
        splits: map-style data sets of ``(inputs, targets)``, by name.
        device: where the batches are put.
        num_workers: processes; None takes as many as are worth it.
        timeout: the longest wait for one batch of a process, in seconds.

    Attributes:
        waiting: called about once a second while a batch of a process is waited for; what it raises ends the wait.
    """

    def __init__(
        self,
        splits: Mapping[str, Dataset[Any]],
        device: torch.device,
        num_workers: int | None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.splits = dict(splits)
        self.device = device
        self.timeout = timeout
        self.waiting: Callable[[], object] = _nothing
        self._wanted = num_workers
        self._seconds_per_sample = float("inf")
        self._processes: _Processes | None = None

    @property
    def num_workers(self) -> int:
        """As was asked; else none for what is read quickly, as far as that was seen, and one a core for the rest."""
        if self._wanted is not None:
            return self._wanted
        samples = max(len(cast(Any, split)) for split in self.splits.values())
        slow = WORTH_WORKERS < self._seconds_per_sample * samples < float("inf")
        return min(cores(), MOST_WORKERS) if slow else 0

    def take(self, split: str, samples: Tensor) -> Batch:
        """These samples of a split as one batch on the device, read in this process."""
        began = perf_counter()
        with preserve_rng_state():
            batch = read_batch(self.splits[split], split, None, samples.tolist())
        seconds = (perf_counter() - began) / max(len(samples), 1)
        self._seconds_per_sample = min(self._seconds_per_sample, seconds)  # the first read may import and open much
        return to_device(batch, self.device)

    def batches(self, split: str, order: Tensor, batch_size: int, seed: int) -> Iterator[Batch]:
        """The samples of a split in this order; see ``ptb.data.sources.Source``.

        Raises:
            DataError: a sample cannot be read, or a process has died or gives no batch in time; none is left then.
        """
        epoch = _Epoch(split, seed, order, batch_size)
        alone = self._processes is None and self.num_workers == 0
        for number in range(epoch.batches):
            if alone:
                with preserve_rng_state():
                    batch = read_batch(self.splits[split], split, seed, epoch.samples(number))
                yield to_device(pinned(batch, self.device), self.device)
            else:
                yield to_device(self._received(epoch, number), self.device)

    def close(self) -> None:
        """Ends the processes, by force those that do not end by themselves at once."""
        processes, self._processes = self._processes, None
        if processes is not None:
            processes.end()

    def _received(self, epoch: "_Epoch", number: int) -> Batch:
        try:
            if self._processes is None:
                self._processes = _Processes(self.splits, max(self.num_workers, 1), self.device)
            return self._processes.take(epoch, number, self.timeout, self.waiting)
        except BaseException:
            self.close()
            raise


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Epoch(NamedTuple):
    """What is read: the samples ``order`` of a split, cut into batches; ``seed`` is None for what draws nothing."""

    split: str
    seed: int | None
    order: Tensor
    batch_size: int

    @property
    def batches(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def samples(self, number: int) -> list[int]:
        return self.order[number * self.batch_size : (number + 1) * self.batch_size].tolist()


class _Processes:
    """Processes that read, each every so many batches, and what they were asked for.

    One epoch is read at a time. Another one may come between its batches: what was read ahead is then read again.
    """

    def __init__(self, splits: Mapping[str, Dataset[Any]], number: int, device: torch.device) -> None:
        self._splits = list(splits)
        self._replies: SimpleQueue[_Reply] = SimpleQueue()
        self._arrived: dict[int, Batch | Exception] = {}
        self._epoch: _Epoch | None = None
        self._told = 0
        self._workers: list[BaseProcess] = []
        self._connections: list[Connection] = []
        self._receivers: list[Thread] = []
        self._ended = Event()
        self._finalizer = weakref.finalize(
            self, _end, os.getpid(), self._workers, self._connections, self._receivers, self._ended
        )
        # That of finalize itself may come after that of multiprocessing, which waits for processes that nobody ends.
        self._finalizer.atexit = False
        atexit.register(self._finalizer)
        try:
            self._begun = _shared(torch.full((number, 2), -1))  # of each, the split and the sample
            for worker in range(number):
                self._start(worker, number, splits)
            for worker, connection in enumerate(self._connections):
                self._listen(worker, connection, device)
        except Exception as error:
            self.end()
            raise self._lost("a process that reads samples cannot be started", error) from error

    def end(self) -> None:
        """Ends the processes; it can be called again."""
        self._finalizer()
        atexit.unregister(self._finalizer)

    def _start(self, worker: int, number: int, splits: Mapping[str, Dataset[Any]]) -> None:
        context = get_context()
        ours, theirs = context.Pipe()
        self._connections.append(ours)
        parent = os.getpid() if context.get_start_method() == "fork" else None  # others have one between
        arguments = (worker, number, dict(splits), theirs, self._begun, parent)
        process = cast(Any, context).Process(target=_work, args=arguments, name=f"ptb-reads-{worker}", daemon=True)
        process.start()
        self._workers.append(process)
        theirs.close()

    def _listen(self, worker: int, connection: Connection, device: torch.device) -> None:
        arguments = (worker, connection, self._replies, self._ended, device)
        receiver = Thread(target=_receive, args=arguments, name=f"ptb-reading-{worker}", daemon=True)
        receiver.start()
        self._receivers.append(receiver)

    def take(self, epoch: _Epoch, number: int, timeout: float, waiting: Callable[[], object]) -> Batch:
        """One batch of an epoch, in page-locked memory where a GPU copies it; the next ones are read meanwhile."""
        worker = number % len(self._workers)
        if self._epoch is not epoch:
            self._tell(epoch, number)
        waited, most = 0.0, min(SLICE, timeout / 4)
        while number not in self._arrived:
            reply, began = None, monotonic()
            with suppress(Empty):
                reply = self._replies.get(timeout=most)
            took = monotonic() - began
            if took < most + SLICE / 2:  # else this process was stopped meanwhile, perhaps with those that read
                waited += took
            if reply is None:
                dead = next((w for w, process in enumerate(self._workers) if not process.is_alive()), None)
                if dead is not None:
                    raise self._death(dead, epoch)
                if waited >= timeout:
                    raise self._hang(worker, epoch, timeout)
                waiting()
                continue
            if reply.batch is None:
                raise self._death(reply.worker, epoch)
            if reply.told is None:
                assert isinstance(reply.batch, Exception)
                raise self._lost(f"a batch that worker {reply.worker} has read cannot be received", reply.batch)
            if reply.worker == worker:
                waited = 0.0
            if reply.told == self._told and reply.number is not None:
                self._arrived[reply.number] = reply.batch
        batch = self._arrived.pop(number)
        if isinstance(batch, Exception):
            raise batch
        self._ask(epoch, number + AHEAD * len(self._workers))
        return batch

    def _tell(self, epoch: _Epoch, number: int) -> None:
        """Begins with that batch of an epoch."""
        self._epoch = epoch
        self._told += 1
        self._arrived.clear()
        try:
            shared = epoch._replace(order=_shared(epoch.order.clone()))
            for worker in range(len(self._workers)):
                self._send(worker, (self._told, shared))
        except (RuntimeError, OSError) as error:
            raise self._lost(f"the order of the {epoch.split} split cannot be sent to its processes", error) from error
        for ahead in range(AHEAD * len(self._workers)):
            self._ask(epoch, number + ahead)

    def _ask(self, epoch: _Epoch, number: int) -> None:
        if number < epoch.batches:
            self._send(number % len(self._workers), number)

    def _send(self, worker: int, message: object) -> None:
        with suppress(ConnectionError):  # the process has died, which its receiver tells
            self._connections[worker].send(message)

    def _lost(self, what: str, error: Exception) -> Exception:
        if is_memory_error(error):
            return error
        return DataError(f"{what}: {one_line(error)}{remedy(str(error))}; loader.num_workers=0 reads in this process")

    def _death(self, worker: int, epoch: _Epoch) -> DataError:
        process = self._workers[worker]
        process.join(GRACE)
        name, how = _ending(process.exitcode)
        return DataError(
            f"a process that reads the {epoch.split} split has died: {self._who(worker)} {how}; "
            f"{self._last(worker)}{remedy(name)}; loader.num_workers=0 reads in this process and may show why"
        )

    def _hang(self, worker: int, epoch: _Epoch, timeout: float) -> DataError:
        return DataError(
            f"no batch of the {epoch.split} split has come for {timeout:g} seconds: {self._who(worker)} still reads, "
            f"and was ended; {self._last(worker)}; set loader.timeout to more seconds if a batch may take longer; "
            "loader.num_workers=0 reads in this process and shows where it waits"
        )

    def _who(self, worker: int) -> str:
        return f"worker {worker} (pid {self._workers[worker].pid})"

    def _last(self, worker: int) -> str:
        split, sample = self._begun[worker].tolist()
        if sample < 0:
            return "it had not begun to read a sample"
        return f"the last sample that it began to read is sample {sample} of the {self._splits[split]} split"


class _Reply(NamedTuple):
    """What came from a process: a batch, an error instead of it, or None where the process is gone.

    ``told`` is the number of the epoch that it was told of, ``number`` that of the batch in it. Both are None where
    something came that could not be received.
    """

    worker: int
    told: int | None
    number: int | None
    batch: Batch | Exception | None


def _receive(
    worker: int, connection: Connection, replies: "SimpleQueue[_Reply]", ended: Event, device: torch.device
) -> None:
    """Passes on what a process sends, in a thread of its own.

    The memory of a batch is handed over by a thread of the process that read it. Where that process stands still, this
    thread waits in vain, and nobody else does.
    """
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        while not ended.is_set():
            try:
                if not connection.poll(SLICE):
                    continue
                told, number, batch = connection.recv()
                reply = _Reply(worker, told, number, batch if isinstance(batch, Exception) else pinned(batch, device))
            except (EOFError, ConnectionError, FileNotFoundError):
                reply = _Reply(worker, None, None, None)
            except Exception as error:
                reply = _Reply(worker, None, None, error)
            replies.put(reply)
            if reply.batch is None:
                return


def _end(
    owner: int,
    workers: Sequence[BaseProcess],
    connections: Sequence[Connection],
    receivers: Sequence[Thread],
    ended: Event,
) -> None:
    """Ends processes and all that belongs to them, however they fare."""
    if os.getpid() != owner:  # a copy of this process, to which they do not belong
        return
    ended.set()
    for connection in connections:
        with suppress(OSError):
            connection.send(None)
    deadline = monotonic() + GRACE
    for worker in workers:
        worker.join(max(deadline - monotonic(), 0.0))
        if worker.is_alive():
            worker.kill()
    for worker in workers:
        worker.join(GRACE)  # one that waits for a broken disk outlives even that
    for receiver in receivers:
        if receiver is not current_thread():  # garbage is collected in any
            receiver.join(2 * SLICE)
    if not any(receiver.is_alive() for receiver in receivers):
        for connection in connections:
            connection.close()


def _work(
    worker: int,
    number: int,
    splits: dict[str, Dataset[Any]],
    connection: Connection,
    begun: Tensor,
    parent: int | None,
) -> None:
    """What a process does: it reads the batches that it is asked for until it is told to end, or nobody is there."""
    for name in LEFT_TO_THE_RUN:
        if hasattr(signal, name):  # Windows lacks one
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform == "linux":  # it ends with the thread that started it, whatever it does
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    Thread(target=_end_with_the_run, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    # Data sets may ask for it, and torch collates into shared memory where it is set.
    torch_worker._worker_info = torch_worker.WorkerInfo(
        id=worker, num_workers=number, seed=worker, dataset=cast(Any, splits)
    )
    names, noted = list(splits), begun[worker].numpy()
    told, epoch = 0, _Epoch("", None, torch.empty(0), 1)

    def note(sample: int) -> None:
        noted[1] = sample

    with suppress(EOFError, ConnectionError):  # nobody is there any more
        while True:
            message = connection.recv()
            if message is None:
                return
            if isinstance(message, tuple):
                told, epoch = message
                noted[:] = names.index(epoch.split), -1
                continue
            try:
                batch: Any = read_batch(splits[epoch.split], epoch.split, epoch.seed, epoch.samples(message), note)
            except PtbError as error:
                batch = _plain(error)
            except Exception as error:  # memory: all else has become a DataError
                batch = MemoryError(one_line(error))
            try:
                connection.send((told, message, batch))
            except (EOFError, ConnectionError):
                raise
            except Exception as error:
                failed = f"batch {message} of the {epoch.split} split cannot be shared: {one_line(error)}"
                connection.send((told, message, DataError(failed + remedy(str(error)))))


def _end_with_the_run(parent: int | None) -> None:
    """Ends this process soon after the run, which is its parent of that number, or one that has no such place."""
    run = parent_process()
    while os.getppid() == parent if parent else run is not None and run.is_alive():
        sleep(SLICE / 2)
    os._exit(1)


def _plain(error: PtbError) -> PtbError:
    """As one of ptb's own classes, which can be made of its text anywhere, and without its traceback."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == PtbError.__module__)
    return cast(PtbError, kind(str(error)))


def _shared(tensor: Tensor) -> Tensor:
    """In memory that processes share."""
    return cast(Tensor, tensor.share_memory_())  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _ending(code: int | None) -> tuple[str, str]:
    """How a process ended: the name of the signal or nothing, and a sentence."""
    if code is None:
        return "", "has closed its pipe"
    if code >= 0:
        return "", f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return name, f"was killed by {name}"


def _nothing() -> None:
    """What is done while a batch is waited for, unless somebody asks for more."""
