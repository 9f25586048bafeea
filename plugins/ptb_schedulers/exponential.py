"""For a steady fall that never rests: the learning rate loses the same share of itself each step."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ptb_schedulers.warmup import WarmUp, check_follows_lr, with_warmup


def exponential(
    optimizer: Optimizer,
    total_steps: int,
    *,
    warmup_steps: int = 0,
    warmup_start: float = 0.01,
    final_factor: float = 0.01,
) -> LRScheduler | WarmUp:
    """After step t of T: ``lr * final_factor ** (t / T)``.

    The curve of ``torch.optim.lr_scheduler.ExponentialLR`` with gamma ``final_factor ** (1 / T)``: told by where it
    ends, it means the same in a run of any length.

    Args:
        optimizer: its ``lr`` is where the curve begins.
        total_steps: the optimizer steps of the whole run; T is what the warm-up leaves of them.
        warmup_steps: optimizer steps of a linear climb to ``lr`` before the curve.
        warmup_start: where the climb begins, as a factor of ``lr``.
        final_factor: where the curve ends, as a factor of ``lr``; above 1 it climbs, as in a test of learning rates.

    Raises:
        ValueError: the warm-up leaves no step of the run, or the optimizer does not follow its ``lr``.
    """
    check_follows_lr(optimizer)
    return with_warmup(
        lambda steps: LambdaLR(optimizer, lambda t: float(final_factor ** (t / steps))),
        total_steps,
        warmup_steps,
        warmup_start,
    )
