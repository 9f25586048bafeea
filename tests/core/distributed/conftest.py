"""Processes that are threads of this one, and processes that are processes."""

import copy
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from threading import Barrier, Thread

import pytest
import torch

from ptb.distributed import launcher


class Threads:
    """Plays the world: every method is called by as many threads as there are ranks."""

    def __init__(self, size):
        self.size, self._barrier, self._given = size, Barrier(size, timeout=60), [None] * size

    def of(self, rank):
        member = copy.copy(self)
        member.rank = rank
        return member

    def gather(self, thing):
        self._given[self.rank] = thing
        self._barrier.wait()
        found = copy.deepcopy(self._given)
        self._barrier.wait()
        return found

    def sum_(self, tensor):
        tensor.copy_(sum(self.gather(tensor.clone())))
        return tensor

    def gather_rows(self, rows):
        return torch.stack(self.gather(rows))

    def closed(self):
        return nullcontext()


@pytest.fixture
def world_of_threads():
    return Threads


@pytest.fixture
def in_ranks():
    """Calls a function for each rank, at the same time, with its world; returns what they return by rank."""

    def run(size, function):
        world, found, errors = Threads(size), [None] * size, []

        def call(rank):
            torch.set_num_threads(1)  # OpenMP has a number for each thread
            try:
                found[rank] = function(world.of(rank))
            except BaseException as error:
                errors.append(error)
                world._barrier.abort()

        threads = [Thread(target=call, args=(rank,)) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return found

    return run


@pytest.fixture
def launched(monkeypatch):
    """Runs a Python script as the processes of the launcher."""

    def run(script, nproc, *arguments):
        start = subprocess.Popen

        def popen(_command, **options):
            return start([sys.executable, str(script), *map(str, arguments)], **options)

        monkeypatch.setattr(launcher.subprocess, "Popen", popen)
        try:
            return launcher.launch(nproc, [])
        finally:
            monkeypatch.setattr(launcher.subprocess, "Popen", start)

    return run


@pytest.fixture
def cases():
    return Path(__file__).with_name("training_cases.py")
