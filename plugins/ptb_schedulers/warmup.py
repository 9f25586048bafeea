"""For large models, large batches and optimizers that begin blind: a linear climb before any other schedule."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from torch.optim import Optimizer, Rprop


class Schedule(Protocol):
    """What can come after a warm-up: a scheduler that has set the first ``lr`` of its optimizer."""

    optimizer: Optimizer

    def step(self) -> Any:
        """Moves on by one optimizer step."""

    def state_dict(self) -> dict[str, Any]:
        """Where it stands."""

    def load_state_dict(self, state: Any, /) -> None:
        """Takes that up again."""


AnySchedule = TypeVar("AnySchedule", bound=Schedule)


class WarmUp:
    """Step t of the W steps of the climb has ``first * (start * (1 - t / W) + t / W)``; then ``schedule`` goes on.

    Args:
        schedule: a schedule that was just built, so that the optimizer's ``lr`` is its ``first`` value.
        steps: W, optimizer steps.
        start: where the climb begins, as a factor of ``first``.
    """

    def __init__(self, schedule: Schedule, steps: int, start: float) -> None:
        self._schedule = schedule
        self._steps = steps
        self._start = start
        self._done = 0
        self._first = [float(group["lr"]) for group in schedule.optimizer.param_groups]
        self._climb()

    def step(self) -> None:
        """Moves on by one optimizer step."""
        self._done += 1
        if self._done > self._steps:
            self._schedule.step()
        else:
            self._climb()

    def state_dict(self) -> dict[str, Any]:
        """The steps done, and the state of the schedule."""
        return {"done": self._done, "schedule": self._schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes that up again; the learning rates themselves stand in the optimizer's own state."""
        self._done = state["done"]
        self._schedule.load_state_dict(state["schedule"])

    def _climb(self) -> None:
        climbed = self._done / self._steps
        factor = self._start * (1 - climbed) + climbed  # exactly start at the beginning, exactly 1 at the end
        for group, first in zip(self._schedule.optimizer.param_groups, self._first, strict=True):
            group["lr"] = first * factor


class ListeningWarmUp(WarmUp):
    """A warm-up before a schedule that listens to evaluations: those of the climb do not count."""

    def on_evaluation(self, metrics: Mapping[str, float], *, monitor: str, better: str) -> None:
        """Passes the figures on after the climb."""
        if self._done >= self._steps:
            self._schedule.on_evaluation(metrics, monitor=monitor, better=better)  # type: ignore[attr-defined]


def check_min_lr(optimizer: Optimizer, min_lr: float) -> None:
    """Refuses a lowest learning rate to which that of the optimizer would have to rise, with a ``ValueError``."""
    lowest = min(group["lr"] for group in optimizer.param_groups)
    if min_lr > lowest:
        raise ValueError(
            f"min_lr is {min_lr} and the optimizer's lr {lowest}, so the learning rate would rise; "
            "choose a min_lr that is not above lr"
        )


def check_follows_lr(optimizer: Optimizer) -> None:
    """Refuses an optimizer whose steps no schedule changes.

    Raises:
        ValueError: it is Rprop, which reads ``lr`` once, for its first step.
    """
    if isinstance(optimizer, Rprop):
        raise ValueError("optimizer 'rprop' reads lr for its first step only; choose scheduler 'constant', or drop it")


def with_warmup(
    build: Callable[[int], AnySchedule], total_steps: int, warmup_steps: int, warmup_start: float
) -> AnySchedule | WarmUp:
    """A schedule over the steps that a warm-up leaves it; without a warm-up the schedule itself.

    Args:
        build: makes the schedule for a number of optimizer steps.
        total_steps: the optimizer steps of the whole run.
        warmup_steps: how many of them are the climb.
        warmup_start: where the climb begins, as a factor of the schedule's first learning rate.

    Raises:
        ValueError: the warm-up leaves no step of the run.
    """
    if warmup_steps == 0:
        return build(total_steps)
    if warmup_steps >= total_steps:
        raise ValueError(
            f"warmup_steps is {warmup_steps} and the run has {total_steps} optimizer step{'s' * (total_steps != 1)}; "
            "warm up for fewer steps, or train for more"
        )
    schedule = build(total_steps - warmup_steps)
    kind = ListeningWarmUp if hasattr(schedule, "on_evaluation") else WarmUp
    return kind(schedule, warmup_steps, warmup_start)
