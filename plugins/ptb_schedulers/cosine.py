"""The scheduler to begin with: large steps first, small ones at the end, nothing to tune but the start."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from ptb_schedulers.warmup import WarmUp, check_follows_lr, check_min_lr, with_warmup


def cosine(
    optimizer: Optimizer,
    total_steps: int,
    *,
    warmup_steps: int = 0,
    warmup_start: float = 0.01,
    min_lr: float = 0.0,
) -> LRScheduler | WarmUp:
    """After step t of T: ``min_lr + (lr - min_lr) * (1 + cos(pi * t / T)) / 2``.

    Loshchilov and Hutter, 2016, arXiv:1608.03983, without restarts; ``torch.optim.lr_scheduler.CosineAnnealingLR``.
    Parameter groups with another ``lr`` follow curves of their own to the same ``min_lr``.

    Args:
        optimizer: its ``lr`` is where the curve begins.
        total_steps: the optimizer steps of the whole run; T is what the warm-up leaves of them.
        warmup_steps: optimizer steps of a linear climb to ``lr`` before the curve.
        warmup_start: where the climb begins, as a factor of ``lr``.
        min_lr: where the curve ends.

    Raises:
        ValueError: the warm-up leaves no step of the run, or ``min_lr`` is above the ``lr`` of a parameter group
            or belongs to an optimizer that does not follow its ``lr``.
    """
    if min_lr > 0:  # without it this is the default schedule, which no optimizer is to be refused for
        check_follows_lr(optimizer)
    check_min_lr(optimizer, min_lr)
    return with_warmup(
        lambda steps: CosineAnnealingLR(optimizer, T_max=steps, eta_min=min_lr), total_steps, warmup_steps, warmup_start
    )
