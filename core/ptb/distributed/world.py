"""What the processes of a run say to each other, over ``torch.distributed``."""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from time import monotonic
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import GroupMember
from torch.distributed.rendezvous import rendezvous

from ptb.distributed.place import KEYS, LAUNCHER, LISTENER, PEER_LOST, Place, timeout
from ptb.errors import PtbError, listing, one_line

BEAT = 1.0  # seconds between two notes of how far a process is
DAY = timedelta(days=1)  # the longest preparation of data


class PeerLostError(PtbError):
    """Another process of the run is gone, or does not come to where all meet."""

    exit_code = PEER_LOST
    waited = False  # for somebody who did not come in time


class World:
    """All processes of a run. Each method is called by all of them, in the same order.

    Attributes:
        place: of this process.
        device: of its tensors.
    """

    def __init__(self, place: Place, device: torch.device) -> None:
        self.place, self.device = place, device
        self.rank, self.size = place.rank, place.size
        self._seconds = timeout()
        self._calls = 0
        try:
            limit = timedelta(seconds=self._seconds)
            self._store = _store(place, limit)
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=self._store, rank=self.rank, world_size=self.size, timeout=limit)
        except (RuntimeError, ValueError) as error:
            raise PeerLostError(
                f"rank {self.rank} of {self.size} does not find the others within {self._seconds:g} s "
                f"(MASTER_ADDR={os.environ.get('MASTER_ADDR')}, MASTER_PORT={os.environ.get('MASTER_PORT')}): "
                f"{one_line(error)}"
            ) from error
        self._over = Event()
        self._beat = Thread(target=self._note, daemon=True, name="ptb-beat")
        self._beat.start()
        atexit.register(self._end_beat)  # a thread that is inside C++ when Python ends would abort the process

    def sum_(self, tensor: Tensor) -> Tensor:
        """Adds a tensor of all processes in place, in each of them; returns it."""
        with self._meeting():
            dist.all_reduce(tensor)
        return tensor

    def gather(self, thing: Any) -> list[Any]:
        """What each process has given, by rank: plain values and tensors, which arrive on the CPU."""
        found: list[Any] = [None] * self.size
        with self._meeting():
            dist.all_gather_object(found, thing)
        return found

    def gather_rows(self, rows: Tensor) -> Tensor:
        """Tensors ``[R, P]`` of all processes, of one shape, as ``[W, R, P]``."""
        found = rows.new_empty((self.size, *rows.shape))
        with self._meeting():
            dist.all_gather([*found], rows)
        return found

    def share(self, thing: Any = None) -> Any:
        """What rank 0 has given."""
        found = [thing]
        with self._meeting():
            dist.broadcast_object_list(found, device=self.device if self.device.type == "cuda" else None)
        return found[0]

    @contextmanager
    def first_on_host(self) -> Iterator[None]:
        """The first process of a host does the block, then the others do; they wait as long as it takes."""
        key = f"prepared/{self.rank - self.place.local_rank}"
        if self.place.local_rank == 0:
            self._calls += 1
            try:
                yield
            finally:  # the others meet the same error, or find out that this one is gone
                self._store.set(key, "")
            return
        with self._meeting():
            self._store.wait([key], DAY)
        yield

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Inside it this process is alone, as nobody would listen: a collective is an error at once.

        What is evaluated or started there is a run of one process.
        """
        group, GroupMember.WORLD = GroupMember.WORLD, None
        hidden = {key: os.environ.pop(key) for key in (*KEYS, LAUNCHER) if key in os.environ}
        try:
            yield
        finally:
            os.environ.update(hidden)
            GroupMember.WORLD = group

    def leave(self) -> None:
        """Wait for the others at the end, so that nobody is missed."""
        with self._meeting():
            dist.barrier()
        self._end_beat()
        dist.destroy_process_group()

    def _end_beat(self) -> None:
        self._over.set()
        self._beat.join(BEAT)

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        """What all processes do together; counted, so that it can be told who did not come."""
        self._calls += 1
        begun = monotonic()
        try:
            yield
        except RuntimeError as error:
            waited = monotonic() - begun > 0.9 * self._seconds
            reason = self._missing() if waited else "the connection is gone"
            lost = PeerLostError(f"rank {self.rank} has lost the others: {reason}")
            lost.waited = waited
            raise lost from error

    def _note(self) -> None:
        """Tell the others now and then how far this process is, from a thread: it may be stuck."""
        store = self._store.clone()
        while not self._over.wait(BEAT):
            try:
                store.set(f"calls/{self.rank}", str(self._calls))
            except RuntimeError:  # the host of the store is gone
                return

    def _missing(self) -> str:
        """The ranks that are behind, as far as can be seen."""
        keys = [f"calls/{rank}" for rank in range(self.size) if rank != self.rank]
        try:
            store = self._store.clone()
            behind = [key[6:] for key in keys if store.check([key]) and int(store.get(key)) < self._calls]
        except RuntimeError:
            behind = []
        who = f"rank {listing(behind)}" if behind else "somebody"
        return f"{who} did not come within {self._seconds:g} s (--timeout)"


def _store(place: Place, limit: timedelta) -> Any:
    """Where the processes meet: at the socket of the launcher, on which rank 0 listens, or as torchrun says."""
    if LAUNCHER not in os.environ:
        store, _, _ = next(iter(rendezvous("env://", timeout=limit)))
        return store
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    listener = int(os.environ[LISTENER]) if place.rank == 0 else None
    return TCPStore(address, port, place.size, place.rank == 0, limit, master_listen_fd=listener)
