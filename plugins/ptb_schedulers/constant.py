"""For short runs and for comparing optimizers: the learning rate stays as it is."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler

from ptb_schedulers.warmup import WarmUp, with_warmup


def constant(
    optimizer: Optimizer, total_steps: int, *, warmup_steps: int = 0, warmup_start: float = 0.01
) -> "LRScheduler | WarmUp | Unmoved":
    """``torch.optim.lr_scheduler.ConstantLR`` with factor 1; nothing at all for an optimizer without ``lr``.

    Args:
        optimizer: its ``lr`` is what stays.
        total_steps: the optimizer steps of the whole run.
        warmup_steps: optimizer steps of a linear climb to ``lr`` before it stays.
        warmup_start: where the climb begins, as a factor of ``lr``.

    Raises:
        ValueError: the warm-up leaves no step of the run.
    """
    if warmup_steps == 0 and not all("lr" in group for group in optimizer.param_groups):
        return Unmoved()
    return with_warmup(
        lambda steps: ConstantLR(optimizer, factor=1.0, total_iters=0), total_steps, warmup_steps, warmup_start
    )


class Unmoved:
    """The scheduler of an optimizer that has no learning rate."""

    def step(self) -> None:
        """Moves on by one optimizer step."""

    def state_dict(self) -> dict[str, Any]:
        """There is nothing to keep."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing to take up again."""
