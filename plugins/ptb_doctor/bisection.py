"""Finds the plugins that make a command fail, by running it with some of them only.

A plugin may be at fault alone, or together with others; and a command may need plugins to get as far as the failure.
So a run is compared with the one that has all of the plugins: it *fails* if it ends with the same exit status and its
error begins with the same words. Any other error is another failure, which tells as little of this one as success does.

Runs more confirm what is found: there may be another culprit among the rest of the plugins, and a command may succeed
at one time and fail at another.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ptb_doctor.processes import Ended

P = TypeVar("P")


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Args:
        status: as in ``Ended``; 0 is success.
        how: that in words, with its last words if it told no error.
        error: the error that it told, on one line, or empty.
    """

    status: int | None
    how: str = ""
    error: str = ""

    @classmethod
    def of(cls, ended: Ended) -> "Outcome":
        """The outcome of a process that writes its error behind ``error:``, further lines of it indented."""
        errors = re.findall(r"^error:(.*(?:\n[ \t].*)*)", ended.errors, re.MULTILINE | re.IGNORECASE)
        if errors:
            return cls(ended.status, ended.how, " ".join(errors[-1].split()))
        return cls(ended.status, ", ".join(filter(None, (ended.how, ended.last_line))))

    @property
    def succeeded(self) -> bool:
        """Whether the command did what it should."""
        return self.status == 0

    def is_like(self, other: "Outcome") -> bool:
        """Whether it is the same failure: the names and numbers in a message may be others with other plugins."""
        return (self.status, _beginning(self.error)) == (other.status, _beginning(other.error))

    def __str__(self) -> str:
        return f"{self.how}, {self.error}" if self.error else self.how


@dataclass(frozen=True)
class Verdict(Generic[P]):
    """What came of a search.

    Args:
        result: ``culprit``, ``needs`` (several plugins together), ``several`` (the command fails without those found,
            too), ``not-a-plugin`` (it fails without any), ``nothing`` (it succeeds with all) or ``unsteady`` (two equal
            runs ended differently).
        failure: how it ended with all plugins.
        plugins: those at fault, in the order in which they were given.
        context: others without which the command does not get as far as this failure.
        instead: how it ended without them, where no run succeeded.
        runs: how many there were.
    """

    result: str
    failure: Outcome
    runs: int
    plugins: tuple[P, ...] = ()
    context: tuple[P, ...] = ()
    instead: Outcome | None = None


class _Unsteady(Exception):
    """Two equal runs ended differently."""


def bisect(candidates: Sequence[P], run: Callable[[Sequence[P]], Outcome]) -> Verdict[P]:
    """Finds a smallest set of plugins with which the command fails as it does with all of them.

    One plugin among n is found in at most log2(n), rounded up, and two runs: the first run has all of them, and the
    last one the suspect alone, or none where no run has shown yet that it takes a plugin to fail. Three runs more
    confirm it: two without it and one with it. Each plugin more that it takes costs about log2(n) runs more. It is
    assumed that a failure does not go away when plugins are added.

    Args:
        candidates: the plugins.
        run: runs the command with these.
    """
    seen: dict[frozenset[int], Outcome] = {}
    runs = 0

    def outcome(chosen: Sequence[int], again: bool = False) -> Outcome:
        nonlocal runs
        key = frozenset(chosen)
        if again or key not in seen:
            runs += 1
            ended = run([candidates[i] for i in sorted(key)])
            before = seen.setdefault(key, ended)
            if not (before.is_like(ended) or (before.succeeded and ended.succeeded)):
                raise _Unsteady
        return seen[key]

    def fails(chosen: Sequence[int], again: bool = False) -> bool:
        return outcome(chosen, again).is_like(failure)

    failure = outcome(range(len(candidates)))
    if failure.succeeded:
        return Verdict("nothing", failure, runs)
    try:
        guilty = _smallest(range(len(candidates)), fails)
        if all(other.is_like(failure) for other in seen.values()) and fails(()):
            return Verdict("not-a-plugin", failure, runs)
        context: list[int] = []
        if len(guilty) > 1 and any(not (o.succeeded or o.is_like(failure)) for o in seen.values()):
            cured = [i for i in guilty if outcome([j for j in guilty if j != i]).succeeded]
            if cured:
                context, guilty = [i for i in guilty if i not in cured], cured
        rest = [i for i in range(len(candidates)) if i not in guilty]
        for chosen in (rest, rest, guilty + context):  # twice in a row: every second run may fail
            outcome(chosen, again=True)
    except _Unsteady:
        return Verdict("unsteady", failure, runs)
    without = outcome(rest)
    result = "several" if without.is_like(failure) else "culprit" if len(guilty) == 1 else "needs"
    return Verdict(
        result,
        failure,
        runs,
        tuple(candidates[i] for i in sorted(guilty)),
        tuple(candidates[i] for i in sorted(context)),
        None if result == "several" or any(ended.succeeded for ended in seen.values()) else without,
    )


def _smallest(candidates: Sequence[int], fails: Callable[..., bool]) -> list[int]:
    """A smallest part of the candidates that still fails; all of them are known to.

    The shortest beginning of the list that fails, found by halving, ends with one that is needed. What stands behind it
    is not, and so the same is done with what stands before it, always together with those that were found. Before more
    than one is looked for, all are run once more: a failure that comes and goes looks as if it took many.
    """
    needed: list[int] = []
    rest = list(candidates)
    while rest and not (needed and fails(needed)):
        if len(needed) == 1:
            fails(candidates, again=True)
        passes, failing = 0, len(rest)
        while failing - passes > 1:
            middle = (passes + failing) // 2
            if fails([*needed, *rest[:middle]]):
                failing = middle
            else:
                passes = middle
        needed.append(rest[failing - 1])
        rest = rest[: failing - 1]
    return needed


def _beginning(error: str) -> str:
    """What the error is called: its words before the details, without the key of a setting and without numbers."""
    error = re.sub(r"^[a-z_][\w.\[\]-]*: ", "", error)
    return re.sub(r"0x[0-9a-f]+|\d+", "#", re.split(r"[:;(]", error, maxsplit=1)[0]).strip()
