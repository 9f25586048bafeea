"""How a check ends: it returns, or raises one of these three; and the record of it."""

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["passed", "failed", "note", "skipped", "expected failure"]


class CheckFailed(Exception):
    """A component breaks its contract: the message says what happened, with which value, and what to do."""


class Noted(Exception):
    """Something that could be better and breaks no contract; the message says how."""


class Skipped(Exception):
    """A check does not apply, or cannot run here; the message is the reason."""


@dataclass(frozen=True)
class Result:
    """One check of one component.

    Args:
        check: the name of the check.
        status: how it ended.
        message: why it failed or was skipped; or what a check that passed has to tell.
        error: what was raised, if anything.
    """

    check: str
    status: Status
    message: str = ""
    error: BaseException | None = None

    @property
    def ran(self) -> bool:
        """Whether the check said anything about the component."""
        return self.status != "skipped"

    def as_json(self) -> dict[str, Any]:
        """The facts without the exception."""
        return {"check": self.check, "status": self.status, "message": self.message}
