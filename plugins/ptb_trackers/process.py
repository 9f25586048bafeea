"""Starts a sender in a process of its own, ends it, and says what was not sent."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ptb.internals import count, listing, tidy
from ptb_trackers.rows import unsent
from ptb_trackers.sender import GAVE_UP, LOADING
from ptb_trackers.state import State, file_of

# The sender finds the modules that this process finds. Nothing in the working directory may stand in for one of them.
PROGRAM = (
    "import sys, json; sys.path[:] = json.loads(sys.stdin.readline()); from ptb_trackers.sender import main; main()"
)
ENDING = 5.0  # seconds that a sender may take to end itself when its time is up
LONGEST_PROBLEM = 200


class SenderProcess:
    """A process that sends one run to one tracker; its arguments are those of ``Sender``.

    A signal that stops the training does not reach it: it belongs to a session of its own. It ends by itself, also
    where the process that trains was killed.
    """

    def __init__(self, run: Path, label: str, tracker: str, settings: Mapping[str, Any], seconds: float) -> None:
        self.run, self.label, self.tracker, self._seconds = run, label, tracker, seconds
        request = {"run": str(run.absolute()), "label": label, "tracker": tracker, "settings": dict(settings)}
        log = file_of(run, label, ".log")
        log.parent.mkdir(exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )
        path = [os.path.abspath(each) for each in sys.path]
        self._tell(json.dumps(path), json.dumps(request | {"seconds": seconds}))

    def end(self) -> None:
        """Say that the run is over."""
        # Processes that read samples may hold the pipe open: closing it would not be noticed.
        self._tell("over")
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def wait(self) -> str:
        """Wait until it has ended; returns what was not sent, empty where all was."""
        try:
            code = self._process.wait(self._seconds + LOADING + ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait() and GAVE_UP
        return self._left(code) if code else ""

    def _left(self, code: int) -> str:
        state = State.read(self.run, self.label)
        left, total = unsent(self.run / "metrics.jsonl", state.position)
        problem = state.problem or f"it ended with code {code}, see {file_of(self.run, self.label, '.log')}"
        if code == GAVE_UP:
            problem = f"it took longer than {self._seconds:g} s" + (f"; {state.problem}" if state.problem else "")
        what = f"{left} of {count(total, 'row')}" if left else "the final summary"
        return f"{what} not sent to {self.tracker}: {tidy(problem, LONGEST_PROBLEM)}"

    def _tell(self, *lines: str) -> None:
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):  # it may have ended, or was told before
            self._process.stdin.write("".join(f"{line}\n" for line in lines).encode())
            self._process.stdin.flush()


def remedy(run: Path, label: str) -> str:
    """What to type."""
    return f"`{shlex.join(['ptb', 'sync', str(run), label])}`"


def replaced(run: Path, label: str) -> str:
    """Which secrets were found in what was sent; empty where there were none."""
    names = State.read(run, label).replaced
    if not names:
        return ""
    return f"what is sent held the value of {listing(names)} from the environment; it was replaced by ***"
