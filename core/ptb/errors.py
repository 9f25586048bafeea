"""The errors of ptb, and the words they are made of.

::

    PtbError
    |-- ConfigError           exit 2   usage and configuration, known before data is touched
    |   `-- UnknownNameError                a kind, component or run that does not exist
    |-- DataError             exit 3   a data set that cannot be read
    |   `-- IncompatibleError                parts that do not fit each other
    |-- NumericalError        exit 4   a loss that is not finite
    |-- StorageError          exit 5   a file or checkpoint that cannot be written or trusted
    |-- ResourceError         exit 6   out of memory
    |-- PluginError           exit 7   a plugin that breaks its contract
    `-- InterruptedRunError           exit 128 + N   stopped by signal N (130: SIGINT, 143: SIGTERM), after saving

A caller who wants to go on after any of them writes ``except ptb.PtbError as error``; ``str(error)`` says what
happened, with which value, what is valid and what to do.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class PtbError(Exception):
    """Base of everything that ptb raises on purpose; ``exit_code`` is what the command line ends with."""

    exit_code = 1


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a configuration: where, what, and who said it."""

    key: str
    message: str
    source: str = ""

    def __str__(self) -> str:
        where = f"{self.key}: " if self.key else ""
        return f"{where}{self.message}" + (f"  [{self.source}]" if self.source else "")


class ConfigError(PtbError):
    """Usage or configuration is wrong; ``problems`` holds every fault that was found, not the first one only."""

    exit_code = 2

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(p if isinstance(p, Problem) else Problem("", p) for p in problems)
        lines = [str(problem) for problem in self.problems]
        if len(lines) > 1:
            lines = [f"{len(lines)} problems in the configuration", *(f"  {line}" for line in lines)]
        super().__init__("\n".join(lines))


class UnknownNameError(ConfigError):
    """A name that nothing answers to; the message lists what does."""


class DataError(PtbError):
    """A data set is missing, damaged or not what it says it is."""

    exit_code = 3


class IncompatibleError(DataError):
    """Two parts of a run do not fit each other: the message names both."""


class NumericalError(PtbError):
    """The loss is not finite: going on would only hide it."""

    exit_code = 4


class StorageError(PtbError):
    """A file cannot be written, or a checkpoint cannot be trusted."""

    exit_code = 5


class ResourceError(PtbError):
    """The machine has too little memory for what was asked."""

    exit_code = 6


class PluginError(PtbError):
    """A plugin breaks its contract; the original exception, if any, is the ``__cause__``."""

    exit_code = 7


class InterruptedRunError(PtbError):
    """A signal stopped the run, after its state was saved."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def closest(word: str, candidates: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The candidate that was probably meant by ``word``, or None; case does not count, nor ``-``, ``_`` or ``.``.

    Args:
        word: what was written.
        candidates: what is valid.
        cutoff: how much of both must be common, from 0 to 1 (the same).
    """
    folded = {_fold(candidate): candidate for candidate in candidates}
    matches = difflib.get_close_matches(_fold(word), folded, n=1, cutoff=cutoff)
    return folded[matches[0]] if matches else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """``" (did you mean 'lenet'?)"`` where a candidate is near, else nothing."""
    match = closest(word, candidates)
    return f" (did you mean '{match}'?)" if match else ""


def listing(names: Sequence[str], limit: int = 20) -> str:
    """``a, b, c``, cut after ``limit`` names with the number of those left out."""
    shown = ", ".join(names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def count(number: int, noun: str) -> str:
    """``1 step``, ``1,200 steps``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def one_line(error: BaseException, limit: int = 400) -> str:
    """``ValueError: what it said``, on one line, cut where it is very long."""
    try:
        text = tidy(str(error), limit)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a stranger's exception: even its text may raise
        text = "(its message cannot be shown)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def tidy(text: str, limit: int) -> str:
    """A stranger's text on one line, without signs that steer a terminal, cut where it is very long."""
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return text if len(text) <= limit else f"{text[:limit]}..."


def _fold(word: str) -> str:
    return word.lower().replace("_", "-").replace(".", "-")
