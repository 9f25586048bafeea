"""The classic for image networks: hold the learning rate, then drop it by a factor, at intervals or chosen points."""

from bisect import bisect_right
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ptb_schedulers.warmup import WarmUp, check_follows_lr, with_warmup


def step(
    optimizer: Optimizer,
    total_steps: int,
    *,
    warmup_steps: int = 0,
    warmup_start: float = 0.01,
    every: int | float = 0.3,
    gamma: float = 0.1,
) -> LRScheduler | WarmUp:
    """After step t: ``lr * gamma ** floor((t + 1/2) / length)``, so each drop comes at the step nearest to its place.

    ``length`` is ``every``, or ``every * T`` where ``every`` is a part of the run, but at least one step. With a whole
    number it is the curve of ``torch.optim.lr_scheduler.StepLR`` with that ``step_size``.

    Args:
        optimizer: its ``lr`` is where the fall begins.
        total_steps: the optimizer steps of the whole run; T is what the warm-up leaves of them.
        warmup_steps: optimizer steps of a linear climb to ``lr``; the intervals are counted from its end.
        warmup_start: where the climb begins, as a factor of ``lr``.
        every: an int, optimizer steps from one drop to the next; or a float below 1, a part of T.
        gamma: what the learning rate is multiplied by at each drop.

    Raises:
        ValueError: the warm-up leaves no step of the run, the first drop would come after its last step, or the
            optimizer does not follow its ``lr``.
    """
    check_follows_lr(optimizer)

    def build(steps: int) -> LambdaLR:
        length = _place("every", every, steps)
        _check_drops("every", length, steps)
        return LambdaLR(optimizer, lambda t: float(gamma ** int((t + 0.5) / length)))

    return with_warmup(build, total_steps, warmup_steps, warmup_start)


def multi_step(
    optimizer: Optimizer,
    total_steps: int,
    *,
    warmup_steps: int = 0,
    warmup_start: float = 0.01,
    milestones: Sequence[int | float] = (0.5, 0.75),
    gamma: float = 0.1,
) -> LRScheduler | WarmUp:
    """After step t: ``lr * gamma ** (number of milestones up to t + 1/2)``; a part of the run counts as part * T.

    So each drop comes at the step nearest to its milestone, and none before the first step. With whole numbers it is
    the curve of ``torch.optim.lr_scheduler.MultiStepLR``. The defaults are those of He et al., 2015, arXiv:1512.03385,
    section 4.2, who drop after 32,000 and 48,000 of 64,000 steps.

    Args:
        optimizer: its ``lr`` is where the fall begins.
        total_steps: the optimizer steps of the whole run; T is what the warm-up leaves of them.
        warmup_steps: optimizer steps of a linear climb to ``lr``; the milestones are counted from its end.
        warmup_start: where the climb begins, as a factor of ``lr``.
        milestones: increasing; ints, optimizer steps; or floats below 1, parts of T.
        gamma: what the learning rate is multiplied by at each of them.

    Raises:
        ValueError: the warm-up leaves no step of the run, a milestone in steps or all others would come after its
            last step, or the
            optimizer does not follow its ``lr``.
    """
    check_follows_lr(optimizer)

    def build(steps: int) -> LambdaLR:
        places = [_place("milestones", milestone, steps) for milestone in milestones]
        _check_drops("milestones", places[0], steps)
        return LambdaLR(optimizer, lambda t: float(gamma ** bisect_right(places, t + 0.5)))

    return with_warmup(build, total_steps, warmup_steps, warmup_start)


def _place(setting: str, place: int | float, steps: int) -> float:
    """A setting's place in a schedule, in steps from its start; parts of a step count as one."""
    if isinstance(place, float):
        return max(1.0, place * steps)
    if place >= steps:
        raise ValueError(
            f"{setting} has {place} and the schedule {steps} optimizer step{'s' * (steps != 1)}, so that drop would "
            "never come; "
            f"choose fewer steps, or a part of the run such as {setting}={'[0.5]' if setting == 'milestones' else 0.3}"
        )
    return float(place)


def _check_drops(setting: str, first: float, steps: int) -> None:
    """Refuses a schedule without a drop; in a run of one step there can be none."""
    if steps > 1 and first > steps - 0.5:
        raise ValueError(
            f"{setting} puts the first drop at {first:g} of {steps} optimizer steps, so the learning rate would never "
            "drop; choose a smaller part of the run"
        )
