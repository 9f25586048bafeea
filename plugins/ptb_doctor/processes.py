"""Commands in processes of their own: nothing to read, output kept, a time limit, and nothing left behind."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import IO, Any

from ptb import InterruptedRunError

MAX_OUTPUT = 1 << 24  # bytes: the last of what a process writes


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Args:
        status: the exit status, minus the number of the signal that killed it, or None if it ran out of time.
        output: what it wrote to standard output.
        errors: what it wrote to standard error.
    """

    status: int | None
    output: str = ""
    errors: str = ""

    @property
    def how(self) -> str:
        """``exit status 7``, ``killed by SIGSEGV`` or ``does not end``."""
        if self.status is None:
            return "does not end"
        if self.status >= 0:
            return f"exit status {self.status}"
        known = {number.value: number.name for number in signal.Signals}
        return f"killed by {known.get(-self.status, f'signal {-self.status}')}"

    @property
    def error(self) -> str:
        """The last error that ptb printed, which is ``error:`` with further lines indented, on one line; or empty."""
        errors = re.findall(r"^error:(.*(?:\n[ \t].*)*)", self.errors, re.MULTILINE | re.IGNORECASE)
        return " ".join(errors[-1].split()) if errors else ""

    def __str__(self) -> str:
        last_line = next((line.strip() for line in reversed(self.errors.splitlines()) if line.strip()), "")
        return ", ".join(filter(None, (self.how, self.error or last_line)))


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, seconds: float | None = None) -> Ended:
    """Runs a command, and kills it after so many seconds; the processes that it has started end with it.

    It has a session of its own: Ctrl-C reaches this process only, and leaving the function ends the other.

    Args:
        command: the program and its arguments.
        environment: all of its environment; by default that of this process.
        seconds: the time limit.
    """
    # Files, not pipes: a process that outlives the command could hold a pipe open for ever.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        status = None
        try:
            with suppress(subprocess.TimeoutExpired):
                status = process.wait(seconds)
        finally:
            with suppress(OSError):  # nobody is left
                os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
            process.wait()
        return Ended(status, _text(output), _text(errors))


def python(*arguments: str) -> list[str]:
    """The command that runs this Python with these arguments.

    ``python -m ptb`` has the current folder on its path, the script ``ptb`` does not, and the command has it if this
    process has it.
    """
    here = sys.path[:1] in ([""], [os.getcwd()])
    return [sys.executable, *([] if here else ["-P"]), *arguments]


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Inside it, a signal raises ``InterruptedRunError``, so that a command that is running ends too."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise InterruptedRunError(f"stopped by {signal.Signals(number).name}", number)

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    former = {signal.Signals[name]: signal.signal(signal.Signals[name], stop) for name in names}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _text(file: IO[Any]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - MAX_OUTPUT))
    return bytes(file.read()).decode(errors="replace")
