"""Starts the processes of a run on this host, passes signals on, and ends all of them where one fails.

It imports no torch, so the processes begin at once: torchrun's agent imports it first, and they wait for that.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from time import monotonic, sleep
from typing import IO, Any

from ptb.distributed.place import LAUNCHER, LISTENER, PEER_LOST
from ptb.errors import SIGNALS, ConfigError, one_line

LOOK = 0.05  # seconds between two looks at the processes
GRACE = 3.0  # what the others get to end by themselves after one has failed, seconds
MOST_LINES = 10  # of what a failed process has said
_PR_SET_PDEATHSIG = 1  # Linux, prctl(2)


def launch(nproc: int, arguments: Sequence[str]) -> int:
    """Run ``ptb ARGUMENTS`` in ``nproc`` processes; returns the exit code.

    Rank 0 has the terminal. Of the others it is shown what the one has said that failed first.
    """
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        except OSError as error:
            raise ConfigError(f"the processes cannot meet on 127.0.0.1: {one_line(error)}") from error
        os.set_inheritable(listener.fileno(), True)
        heard: list[int] = []
        former = {number: signal.signal(number, lambda number, _: heard.append(number)) for number in SIGNALS}
        stack.callback(lambda: [signal.signal(number, each) for number, each in former.items()])
        if sys.stderr is not None and sys.stderr.isatty():
            print(f"starting {nproc} processes", file=sys.stderr)  # each imports torch first, which takes seconds
        said: list[IO[bytes]] = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(nproc)]
        processes = [_start(rank, nproc, arguments, listener, said[rank]) for rank in range(nproc)]
        stack.callback(_end, processes)
        listener.close()
        return _watch(processes, said, heard)


def die_with(launcher: int) -> None:
    """End this process when the one that started it is gone, however that ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:  # it was gone before that
        os._exit(PEER_LOST)


def _start(
    rank: int, nproc: int, arguments: Sequence[str], listener: socket.socket, said: IO[bytes]
) -> "subprocess.Popen[bytes]":
    number = str(listener.fileno())
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": nproc, "LOCAL_WORLD_SIZE": nproc}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": listener.getsockname()[1], LAUNCHER: os.getpid()}
    environment = os.environ | {key: str(value) for key, value in (place | meeting).items()}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // nproc)))  # else each takes all cores
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": said}
    if rank == 0:
        environment[LISTENER] = number
        quiet = {"pass_fds": (listener.fileno(),)}
    return subprocess.Popen([sys.executable, "-m", "ptb", *arguments], env=environment, **quiet)


def _watch(processes: "list[subprocess.Popen[bytes]]", said: list[IO[bytes]], heard: list[int]) -> int:
    """Wait until all have ended well, or one has not."""
    passed_on = 0
    while True:
        for number in heard[passed_on:]:
            passed_on += 1
            for process in processes:
                if process.poll() is None:
                    process.send_signal(number)
        if passed_on > 1 and not _all_end(processes, GRACE):  # one that waits for something hears no signal
            print(f"error: ended by a second {signal.Signals(heard[-1]).name}", file=sys.stderr)
            return 128 + heard[-1]
        codes = [process.poll() for process in processes]
        if all(code is not None for code in codes) or any(code not in (None, 0) for code in codes):
            break
        if 0 in codes and not _all_end(processes, 5 * GRACE):
            break
        sleep(LOOK)
    _all_end(processes, GRACE)
    codes = [process.poll() for process in processes]
    own = [rank for rank, code in enumerate(codes) if code not in (None, 0, PEER_LOST)]
    if not own:
        if not any(codes) and None not in codes:
            return 0
        early = [rank for rank, code in enumerate(codes) if code == 0]
        left = f"rank {early[0]} has left before the run was over" if early else "the processes have lost each other"
        print(f"error: {left}", file=sys.stderr)
        return 1
    # Where several have failed, as they do together, rank 0 has said why.
    rank = own[0]
    code = codes[rank] or 0
    if code < 0:
        name = signal.Signals(-code).name
        hint = ": the system does that when memory is short" if -code == signal.SIGKILL else ""
        print(f"error: rank {rank} was killed by {name}{hint}; the others were ended", file=sys.stderr)
        return 128 - code
    if rank:
        _show(rank, said[rank])
    return code


def _show(rank: int, said: IO[bytes]) -> None:
    said.seek(0)
    lines = said.read().decode(errors="replace").splitlines()
    print(f"rank {rank} has failed:", file=sys.stderr)
    for line in lines[-MOST_LINES + 1 :]:
        print(line, file=sys.stderr)


def _all_end(processes: "list[subprocess.Popen[bytes]]", seconds: float) -> bool:
    """Wait so long for all to end; whether they have."""
    until = monotonic() + seconds
    while monotonic() < until:
        if all(process.poll() is not None for process in processes):
            return True
        sleep(LOOK)
    return False


def _end(processes: "list[subprocess.Popen[bytes]]") -> None:
    for process in processes:
        with suppress(OSError):
            process.kill()
        process.wait()
