"""Which component is being called, so that what it raises is blamed on it and on nobody else."""

from dataclasses import dataclass


@dataclass
class Calls:
    """Names the component that is being called, by its section: ``"model"``, ``"metrics.accuracy"``."""

    now: str = ""


class ComponentFailed(Exception):
    """A component raised; the ``__cause__`` is what it raised."""

    def __init__(self, section: str) -> None:
        super().__init__(section)
        self.section = section


class StopRequested(Exception):
    """Training is to stop while something is waited for or evaluated; no state has changed since the last step."""
