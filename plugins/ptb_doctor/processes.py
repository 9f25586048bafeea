"""Commands in processes of their own: nothing to read, output kept, a time limit, and nothing left behind."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, Self

MAX_OUTPUT = 1 << 24  # bytes: of more than that the end is kept


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Args:
        status: the exit status, minus the number of the signal that killed it, or None: its time was up.
        output: what it wrote on standard output.
        errors: what it wrote on standard error.
    """

    status: int | None
    output: str
    errors: str

    @property
    def how(self) -> str:
        """``exit status 7``, ``killed by SIGSEGV`` or ``does not come to an end``."""
        if self.status is None:
            return "does not come to an end"
        if self.status >= 0:
            return f"exit status {self.status}"
        try:
            return f"killed by {signal.Signals(-self.status).name}"
        except ValueError:
            return f"killed by signal {-self.status}"

    @property
    def last_line(self) -> str:
        """The last line on standard error that is not empty."""
        return next((line.strip() for line in reversed(self.errors.splitlines()) if line.strip()), "")


class Child:
    """A process that runs while the block does; at its end it is killed, with the processes that it started.

    It has a session of its own: Ctrl-C reaches this process alone, and leaving the block is what ends the other.

    Args:
        command: the program and its arguments.
        environment: all of its environment; that of this process when left out.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        # files, not pipes: a process that has been left behind could hold a pipe open for ever
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # __exit__ closes it
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._over = False
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._errors,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        self._output.close()
        self._errors.close()

    def wait(self, seconds: float | None = None) -> Ended:
        """How it ended; it is killed after so many seconds."""
        try:
            status: int | None = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        self._kill()
        return Ended(status, _text(self._output), _text(self._errors))

    def _kill(self) -> None:
        if self._over:  # its number may be that of another process by now
            return
        self._over = True
        with suppress(OSError):  # there is nobody left
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        self._process.wait()


def python(*arguments: str) -> list[str]:
    """This Python with these arguments; the current folder is on its path only if it is on that of this process.

    ``python -m ptb`` has it there and the script ``ptb`` does not; a file in it may hide a package.
    """
    here = sys.path[:1] in ([""], [os.getcwd()])
    return [sys.executable, *([] if here else ["-P"]), *arguments]


def _text(file: IO[Any]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - MAX_OUTPUT))
    return bytes(file.read()).decode(errors="replace")
