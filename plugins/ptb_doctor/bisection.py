"""Finds the plugins that make a command fail, by running it with some of them only.

A plugin may be at fault alone or together with others, and a command may need plugins to get as far as the failure. So
every run is compared with the one that has all plugins: it *fails* if it ends with the same exit status and its error
begins with the same words. Any other error is another failure, which says as little about this one as success does.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ptb_doctor.processes import Ended

P = TypeVar("P")


@dataclass(frozen=True)
class Verdict(Generic[P]):
    """The result of a search.

    Args:
        result: ``culprit``, ``needs`` (several plugins together), ``several`` (the command fails without the plugins
            found, too), ``not-a-plugin`` (it fails without any), ``nothing`` (it succeeds with all) or ``unsteady``
            (two equal runs ended differently).
        failure: how the command ended with all plugins.
        runs: how many there were.
        plugins: those at fault, in the order of the candidates.
        context: others without which the command does not get as far as this failure.
        instead: how it ended without those at fault, if it never succeeded without them.
    """

    result: str
    failure: Ended
    runs: int
    plugins: tuple[P, ...] = ()
    context: tuple[P, ...] = ()
    instead: Ended | None = None


class _Unsteady(Exception):
    """Two equal runs ended differently."""


def bisect(candidates: Sequence[P], run: Callable[[Sequence[P]], Ended]) -> Verdict[P]:
    """Finds a smallest set of plugins with which the command fails as it does with all of them.

    One plugin among n is found in at most log2(n) + 2 runs, and three more confirm it: two without it and one with it
    alone. Each further plugin that it takes costs about log2(n) runs more. A failure is assumed not to go away when
    plugins are added.

    Args:
        candidates: the plugins.
        run: runs the command with these.
    """
    seen: dict[frozenset[int], Ended] = {}
    runs = 0

    def outcome(chosen: Sequence[int], again: bool = False) -> Ended:
        nonlocal runs
        key = frozenset(chosen)
        if again or key not in seen:
            runs += 1
            ended = run([candidates[i] for i in sorted(key)])
            if not alike(seen.setdefault(key, ended), ended):
                raise _Unsteady
        return seen[key]

    def fails(chosen: Sequence[int], again: bool = False) -> bool:
        return alike(outcome(chosen, again), failure)

    every = range(len(candidates))
    failure = outcome(every)
    if failure.status == 0:
        return Verdict("nothing", failure, runs)
    try:
        guilty = _smallest(every, fails)
        if all(alike(ended, failure) for ended in seen.values()) and fails(()):
            return Verdict("not-a-plugin", failure, runs)
        # Without one of several the command succeeds if that one is at fault, and fails otherwise if it needs that one.
        others = {i: [j for j in guilty if j != i] for i in guilty if len(guilty) > 1}
        cured = [i for i, chosen in others.items() if outcome(chosen).status == 0]
        context = [i for i in guilty if cured and i not in cured]
        guilty = cured or guilty
        rest = [i for i in every if i not in guilty]
        for chosen in (rest, rest, [*guilty, *context]):  # twice in a row: every second run may fail
            outcome(chosen, again=True)
    except _Unsteady:
        return Verdict("unsteady", failure, runs)
    without = outcome(rest)
    result = "several" if fails(rest) else "culprit" if len(guilty) == 1 else "needs"
    plugins, needed = (tuple(candidates[i] for i in sorted(chosen)) for chosen in (guilty, context))
    instead = None if result == "several" or any(ended.status == 0 for ended in seen.values()) else without
    return Verdict(result, failure, runs, plugins, needed, instead)


def alike(one: Ended, other: Ended) -> bool:
    """Whether both succeeded or are the same failure. Names and numbers in an error may differ with other plugins."""
    return one.status == other.status and (one.status == 0 or _first_words(one.error) == _first_words(other.error))


def _smallest(candidates: Sequence[int], fails: Callable[..., bool]) -> list[int]:
    """A smallest part of the candidates that still fails; with all of them the command is known to fail.

    The shortest beginning of the list that fails, found by halving, ends with a candidate that is needed. What comes
    after it is not, so the search goes on in what comes before it, always together with those that were found.
    """
    needed: list[int] = []
    rest = list(candidates)
    while rest and not (needed and fails(needed)):
        if len(needed) == 1:  # a failure that comes and goes looks as if it took many: look again first
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


def _first_words(error: str) -> str:
    """What the error is called: its words before the details, without the key of a setting and without numbers."""
    error = re.sub(r"^[a-z_][\w.\[\]-]*: ", "", error)
    return re.sub(r"0x[0-9a-f]+|\d+", "#", re.split(r"[:;(]", error, maxsplit=1)[0]).strip()
