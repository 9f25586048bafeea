"""For long runs that should leave a poor minimum: the cosine, from the start again and again."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LRScheduler

from ptb_schedulers.warmup import WarmUp, check_follows_lr, check_min_lr, with_warmup


def cosine_restarts(
    optimizer: Optimizer,
    total_steps: int,
    *,
    warmup_steps: int = 0,
    warmup_start: float = 0.01,
    period: int | float = 0.25,
    period_factor: int = 1,
    min_lr: float = 0.0,
) -> LRScheduler | WarmUp:
    """After step t of a period of T steps: ``min_lr + (lr - min_lr) * (1 + cos(pi * t / T)) / 2``, then t is 0 again.

    Loshchilov and Hutter, 2016, arXiv:1608.03983, equation 5; ``torch.optim.lr_scheduler.CosineAnnealingWarmRestarts``
    with ``T_0`` as ``period`` and ``T_mult`` as ``period_factor``, stepped once an optimizer step.

    Args:
        optimizer: its ``lr`` is where each period begins.
        total_steps: the optimizer steps of the whole run.
        warmup_steps: optimizer steps of a linear climb to ``lr`` before the first period.
        warmup_start: where the climb begins, as a factor of ``lr``.
        period: an int, optimizer steps of the first period; or a float below 1, a part of what the warm-up leaves.
        period_factor: how many times as long each period is as the one before.
        min_lr: where each period ends.

    Raises:
        ValueError: the warm-up leaves no step of the run, the first restart would come after its last step, ``min_lr``
            is above the ``lr`` of a parameter group, or the optimizer does not follow its ``lr``.
    """
    check_follows_lr(optimizer)
    check_min_lr(optimizer, min_lr)

    def build(steps: int) -> CosineAnnealingWarmRestarts:
        first = max(1, round(period * steps)) if isinstance(period, float) else period
        if isinstance(period, int) and first >= steps:
            raise ValueError(
                f"period is {period} and the schedule has {steps} optimizer step{'s' * (steps != 1)}, so it would "
                "never restart; choose fewer steps, a part of the run such as period=0.25, or scheduler 'cosine'"
            )
        return CosineAnnealingWarmRestarts(optimizer, T_0=first, T_mult=period_factor, eta_min=min_lr)

    return with_warmup(build, total_steps, warmup_steps, warmup_start)
