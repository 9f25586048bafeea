"""What the checks of a component, and of a plugin, came to. It is green only if enough of them ran."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ptb_testing.outcome import Result

ENOUGH = "enough-checks-ran"


@dataclass(frozen=True)
class ComponentReport:
    """The checks of one component.

    Args:
        kind: of the component.
        name: of the component.
        id: of the component.
        minimum: so many checks of this kind must run.
        results: one for each check, in the order in which they stand in the kit.
    """

    kind: str
    name: str
    id: str
    minimum: int
    results: tuple[Result, ...]

    @property
    def label(self) -> str:
        """``KIND NAME``."""
        return f"{self.kind} {self.name}"

    @property
    def counts(self) -> dict[str, int]:
        """How many ran, and how many ended in which way."""
        ends = Counter(result.status for result in self.results)
        return {
            "run": sum(result.ran for result in self.results),
            "passed": ends["passed"],
            "failed": ends["failed"],
            "notes": ends["note"],
            "skipped": ends["skipped"],
            "expected_failures": ends["expected failure"],
        }

    @property
    def shortage(self) -> str:
        """What is wrong if too few checks ran, else nothing: a skip is no pass."""
        run = self.counts["run"]
        if run >= self.minimum:
            return ""
        return f"{run} checks ran, the minimum of the kind {self.kind} is {self.minimum}: see why others were skipped"

    @property
    def green(self) -> bool:
        """Whether nothing failed, and enough ran."""
        return not self.shortage and not self.counts["failed"]

    def as_json(self) -> dict[str, Any]:
        """The facts for ``ptb plugins check --json``."""
        return {
            "kind": self.kind,
            "name": self.name,
            "id": self.id,
            "status": "ok" if self.green else "failed",
            "minimum": self.minimum,
            **self.counts,
            "checks": [result.as_json() for result in self.results],
        }


@dataclass(frozen=True)
class Report:
    """The checks of a plugin.

    Args:
        plugin: its name and version.
        components: one report for each component.
    """

    plugin: str
    components: tuple[ComponentReport, ...]

    @property
    def green(self) -> bool:
        """Whether every component is."""
        return all(component.green for component in self.components)

    @property
    def counts(self) -> dict[str, int]:
        """Those of the components, added up."""
        total: Counter[str] = Counter()
        for component in self.components:
            total.update(component.counts)
        return dict(total)

    def as_json(self) -> dict[str, Any]:
        """The object that ``ptb plugins check --json`` prints."""
        return {
            "schema": 1,
            "status": "ok" if self.green else "failed",
            "plugin": self.plugin,
            **self.counts,
            "components": [component.as_json() for component in self.components],
        }
