"""The errors of ptb, and helpers for their messages.

::

    PtbError
    |-- ConfigError           exit 2   usage and configuration, known before data is touched
    |   `-- UnknownNameError           a kind, component or plugin that does not exist
    |-- DataError             exit 3   a data set that cannot be read
    |   `-- IncompatibleError          components that do not fit each other
    |-- NumericalError        exit 4   a loss that is not finite
    |-- StorageError          exit 5   a file or checkpoint that cannot be written or trusted
    |-- ResourceError         exit 6   out of memory
    |-- PluginError           exit 7   a plugin that breaks its contract
    `-- InterruptedRunError   exit 128 + N   stopped by signal N (130: SIGINT, 143: SIGTERM), after saving

``except ptb.PtbError as error`` catches all of them. ``str(error)`` says what happened, with which value, what is valid
and what to do.
"""

import difflib
import shlex
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# What stops a run: Ctrl-C, a plain kill, and a closed terminal, which Windows does not have. Terminals and job
# schedulers send them to all of its processes.
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))

LONGEST_WARNING = 1000  # characters of one that are shown


class PtbError(Exception):
    """Base class of all errors that ptb raises on purpose; the command line ends with ``exit_code``."""

    exit_code = 1


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a configuration: its key, what is wrong, and the file or flag that it comes from."""

    key: str
    message: str
    source: str = ""

    def __str__(self) -> str:
        where = f"{self.key}: " if self.key else ""
        return f"{where}{self.message}" + (f"  [{self.source}]" if self.source else "")


class ConfigError(PtbError):
    """The usage or the configuration is wrong; ``problems`` holds all problems that were found, not only the first."""

    exit_code = 2

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(p if isinstance(p, Problem) else Problem("", p) for p in problems)
        lines = [str(problem) for problem in self.problems]
        if len(lines) > 1:
            lines = [f"{len(lines)} problems in the configuration", *(f"  {line}" for line in lines)]
        super().__init__("\n".join(lines))


class UnknownNameError(ConfigError):
    """There is nothing of this name; the message lists the names that exist."""


class DataError(PtbError):
    """A data set is missing or damaged, or does not have the form that it declares."""

    exit_code = 3


class IncompatibleError(DataError):
    """Two components of a run do not fit each other; the message names both."""


class NumericalError(PtbError):
    """A loss or a gradient is not finite, and no step can be taken with it."""

    exit_code = 4


class StorageError(PtbError):
    """A file cannot be read or written, or a checkpoint is damaged."""

    exit_code = 5


class ResourceError(PtbError):
    """The machine does not have enough memory for the run."""

    exit_code = 6


class PluginError(PtbError):
    """A plugin cannot be loaded or breaks its contract; its own exception, if it raised one, is the ``__cause__``."""

    exit_code = 7


class InterruptedRunError(PtbError):
    """A signal stopped the run, after its state was saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def closest(word: str, candidates: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The candidate that ``word`` was probably meant to be, or None. Case is ignored; ``-``, ``_`` and ``.`` are equal.

    ``cutoff`` says how similar the two must be, from 0 to 1 (equal).
    """
    folded = {_fold(candidate): candidate for candidate in candidates}
    matches = difflib.get_close_matches(_fold(word), folded, n=1, cutoff=cutoff)
    return folded[matches[0]] if matches else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """``" (did you mean 'lenet'?)"`` if a candidate is similar, else an empty string."""
    match = closest(word, candidates)
    return f" (did you mean '{match}'?)" if match else ""


def listing(names: Sequence[str], limit: int = 20) -> str:
    """``a, b, c and 4 more``, with at most ``limit`` names."""
    shown = ", ".join(names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def pip_install(*requirements: str) -> str:
    """The command that installs them for this Python, as a shell takes it."""
    return shlex.join([sys.executable, "-m", "pip", "install", *requirements])


def count(number: int, noun: str) -> str:
    """``1 step``, ``1,200 steps``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def one_line(error: BaseException, limit: int = 400) -> str:
    """``ValueError: its message``, on one line of at most about ``limit`` characters."""
    try:
        text = tidy(str(error), limit)
    except KeyboardInterrupt:
        raise
    except BaseException:  # str() of a third-party exception may raise anything
        text = "(its message cannot be shown)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def tidy(text: str, limit: int) -> str:
    """Untrusted text on one line of at most ``limit`` characters, without control characters for the terminal."""
    text = " ".join(printable(text).split())
    return text if len(text) <= limit else f"{text[:limit]}..."


def printable(text: str, kept: str = "") -> str:
    """The text with control characters replaced by spaces, except those in ``kept``: plugins and files can hold any."""
    return "".join(character if character.isprintable() or character in kept else " " for character in text)


def _fold(word: str) -> str:
    return word.lower().replace("_", "-").replace(".", "-")
