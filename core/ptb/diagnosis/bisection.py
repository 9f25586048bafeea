"""Finds the plugins that make a command fail, by running it with some of them only.

A plugin may be at fault alone, or together with others; and a command may need plugins to get as far as the failure.
So a run is compared with the one that has all of the plugins: it *fails* if it ends with the same exit status and its
error begins with the same words. Any other error is another failure, which tells as little of this one as success does.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ptb.diagnosis.processes import Ended

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
        result: ``culprit``, ``needs`` (several plugins together), ``not-a-plugin`` (the command fails without any) or
            ``nothing`` (it succeeds with all).
        failure: how it ended with all plugins.
        plugins: those at fault, in the order in which they were given.
        context: others without which the command does not get as far as this failure.
        instead: how it ended without them, where no run without them succeeded.
        runs: how many there were.
    """

    result: str
    failure: Outcome
    runs: int
    plugins: tuple[P, ...] = ()
    context: tuple[P, ...] = ()
    instead: Outcome | None = None


def bisect(candidates: Sequence[P], run: Callable[[Sequence[P]], Outcome]) -> Verdict[P]:
    """Finds a smallest set of plugins with which the command fails as it does with all of them.

    One plugin among n is found in at most log2(n), rounded up, and two runs: the first run has all of them, and the
    last one the suspect alone, or none where no run has shown yet that it takes a plugin to fail. Each plugin more that
    it takes costs about log2(n) runs more. It is assumed that a failure does not go away when plugins are added.

    Args:
        candidates: the plugins.
        run: runs the command with these.
    """
    seen: dict[frozenset[int], Outcome] = {}

    def outcome(chosen: Sequence[int]) -> Outcome:
        key = frozenset(chosen)
        if key not in seen:
            seen[key] = run([candidates[i] for i in sorted(chosen)])
        return seen[key]

    failure = outcome(range(len(candidates)))
    if failure.succeeded:
        return Verdict("nothing", failure, len(seen))
    guilty = _smallest(range(len(candidates)), lambda chosen: outcome(chosen).is_like(failure))
    if all(other.is_like(failure) for other in seen.values()) and outcome(()).is_like(failure):
        return Verdict("not-a-plugin", failure, len(seen))
    context: list[int] = []
    if len(guilty) > 1 and any(not (o.succeeded or o.is_like(failure)) for o in seen.values()):
        cured = [i for i in guilty if outcome([j for j in guilty if j != i]).succeeded]
        if cured:
            context, guilty = [i for i in guilty if i not in cured], cured
    others = [other for other in seen.values() if not other.is_like(failure)]
    return Verdict(
        "culprit" if len(guilty) == 1 else "needs",
        failure,
        len(seen),
        tuple(candidates[i] for i in sorted(guilty)),
        tuple(candidates[i] for i in sorted(context)),
        None if any(other.succeeded for other in others) else others[-1],
    )


def _smallest(candidates: Sequence[int], fails: Callable[[Sequence[int]], bool]) -> list[int]:
    """A smallest part of the candidates that still fails; all of them are known to.

    The shortest beginning of the list that fails, found by halving, ends with one that is needed. What stands behind it
    is not, and so the same is done with what stands before it, always together with those that were found.
    """
    needed: list[int] = []
    rest = list(candidates)
    while rest and not (needed and fails(needed)):
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
