"""Times candidates in turn, so that what else the machine does falls on all of them alike. Imports no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Timings:
    """What one candidate took in each round, in seconds."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Half of the rounds were faster."""
        return median(self.seconds)


@dataclass(frozen=True)
class Comparison:
    """Candidates that took turns.

    Args:
        title: the work, for people.
        timings: of each candidate.
        facts: other figures that were measured, for people.
        unit: the name of the candidate whose median is the unit of all ratios; without it, the first is divided by each
            of the others.
    """

    title: str
    timings: tuple[Timings, ...]
    facts: tuple[str, ...] = ()
    unit: str | None = None

    def ratio(self, timings: Timings) -> float:
        """The median of the first divided by this one, so that below 1 the first is faster; or this one in units."""
        if self.unit is None:
            return self.timings[0].median / timings.median
        return timings.median / next(t.median for t in self.timings if t.name == self.unit)

    def rows(self) -> list[tuple[str, ...]]:
        """A table: name, median, fastest to slowest round, ratio."""
        itself = self.unit or self.timings[0].name
        lines: list[tuple[str, ...]] = [
            ("", "MEDIAN", "FASTEST", "SLOWEST", f"/ {self.unit}" if self.unit else "PTB / IT")
        ]
        for timings in self.timings:
            ratio = "" if timings.name == itself else f"{self.ratio(timings):.2f}"
            figures = (timings.median, min(timings.seconds), max(timings.seconds))
            lines.append((timings.name, *(f"{seconds:.3f} s" for seconds in figures), ratio))
        return lines

    def as_json(self) -> dict[str, Any]:
        """The same for programs, with every round."""
        return {
            "title": self.title,
            "timings": [
                {"name": t.name, "median": t.median, "seconds": list(t.seconds), "ratio": self.ratio(t)}
                for t in self.timings
            ],
            "facts": list(self.facts),
        }


def in_turn(candidates: Mapping[str, Callable[[], float]], rounds: int) -> tuple[Timings, ...]:
    """Calls every candidate once in each round, after a round that does not count.

    Args:
        candidates: by name; each returns the seconds that count.
        rounds: how often; every other one goes backwards, so that none is always the one that follows another.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name in list(candidates)[:: 1 if number % 2 else -1]:
            taken = candidates[name]()
            if number:
                seconds[name].append(taken)
    return tuple(Timings(name, tuple(values)) for name, values in seconds.items())
