"""For short runs with a large learning rate: one climb to the peak, one long fall, momentum the other way."""

import math
from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ptb_schedulers.settings import MOMENTA
from ptb_schedulers.warmup import WarmUp, check_follows_lr, with_warmup


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    *,
    warmup_steps: int = 0,
    warmup_start: float = 0.01,
    max_factor: float = 1.0,
    pct_start: float = 0.3,
    anneal: Literal["cos", "linear"] = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    cycle_momentum: bool = True,
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
) -> LRScheduler | WarmUp:
    """From ``peak / div_factor`` up to ``peak = lr * max_factor``, down to ``peak / div_factor / final_div_factor``.

    Smith and Topin, 2017, arXiv:1708.07120, in the two phases of ``torch.optim.lr_scheduler.OneCycleLR``: step t from 0
    climbs while ``t <= max(pct_start * T - 1, 0)``, and the last value is reached at t = T - 1. It differs from that
    class where the climb has no step: then the first step is the peak (that class begins inside the fall, or divides
    by zero). ``lr`` is the peak, so that every parameter group keeps its proportion.

    Args:
        optimizer: its ``lr`` times ``max_factor`` is the peak.
        total_steps: the optimizer steps of the whole run; T is what the warm-up leaves of them.
        warmup_steps: optimizer steps of a linear climb to ``peak / div_factor`` before the cycle.
        warmup_start: where that climb begins, as a factor of ``peak / div_factor``.
        max_factor: the peak, as a factor of ``lr``.
        pct_start: part of T in which the learning rate climbs.
        anneal: ``"cos"`` or ``"linear"``, the form of both phases.
        div_factor: the peak divided by the first value.
        final_div_factor: the first value divided by the last.
        cycle_momentum: moves the first of ``betas``, or a ``momentum`` above 0, the other way; parameter groups that
            have neither are left alone.
        base_momentum: momentum at the peak.
        max_momentum: momentum at the first and at the last step.

    Raises:
        ValueError: the warm-up leaves no step of the run, the optimizer does not follow its ``lr`` or lacks the momenta
            that are given, or the default ones would replace one of its own that is not between them.
    """
    check_follows_lr(optimizer)
    if cycle_momentum:
        _check_momentum(optimizer, base_momentum, max_momentum)
    low = max_factor / div_factor
    return with_warmup(
        lambda steps: OneCycle(
            optimizer,
            steps,
            pct_start=pct_start,
            linear=anneal == "linear",
            factors=(low, max_factor, low / final_div_factor),
            momenta=(max_momentum, base_momentum, max_momentum) if cycle_momentum else None,
        ),
        total_steps,
        warmup_steps,
        warmup_start,
    )


class OneCycle(LRScheduler):
    """The schedule behind ``one_cycle``: each learning rate is computed from the step alone.

    Args:
        optimizer: its ``lr`` is what the factors multiply.
        steps: T.
        pct_start: part of T in which the learning rate climbs.
        linear: straight lines, not half cosines.
        factors: of ``lr`` at the start, the peak and the end.
        momenta: momentum at the start, the peak and the end; None leaves it alone.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        *,
        pct_start: float,
        linear: bool,
        factors: tuple[float, float, float],
        momenta: tuple[float, float, float] | None,
    ) -> None:
        self.peak = max(pct_start * steps - 1, 0.0)
        self.last = steps - 1
        self.linear = linear
        self.factors = factors
        self.momenta = momenta
        self.momentum_keys = [_momentum_key(group) for group in optimizer.param_groups]
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rates of the parameter groups at this step."""
        factor = self._between(*self.factors)
        return [lr * factor for lr in self.base_lrs]

    def step(self, epoch: int | None = None) -> None:
        """Moves on by one optimizer step."""
        super().step(epoch)
        if self.momenta is None:
            return
        momentum = self._between(*self.momenta)
        for group, key in zip(self.optimizer.param_groups, self.momentum_keys, strict=True):
            if key == "betas":
                group["betas"] = (momentum, *group["betas"][1:])
            elif key == "momentum":
                group["momentum"] = momentum

    def _between(self, start: float, peak: float, end: float) -> float:
        """The value at this step of a curve through three values."""
        t = self.last_epoch
        if t > self.peak:
            length = self.last - self.peak
            return self._anneal(peak, end, min((t - self.peak) / length, 1.0) if length > 0 else 1.0)
        return self._anneal(start, peak, t / self.peak if self.peak > 0 else 1.0)

    def _anneal(self, start: float, end: float, part: float) -> float:
        if self.linear:
            return start + (end - start) * part
        return end + (start - end) / 2 * (1 + math.cos(math.pi * part))


def _check_momentum(optimizer: Optimizer, base: float, most: float) -> None:
    """Refuses momenta that move nothing, and default ones that would replace what the optimizer was given."""
    for group in optimizer.param_groups:
        key = _momentum_key(group)
        if key is None and (base, most) != MOMENTA:
            raise ValueError(
                f"base_momentum={base} and max_momentum={most} move nothing: the optimizer has neither betas nor a "
                "momentum above 0; leave them out"
            )
        own = base if key is None else group["betas"][0] if key == "betas" else group["momentum"]
        if (base, most) == MOMENTA and not base <= own <= most:
            raise ValueError(
                f"optimizer.{key}={group[str(key)]} would be lost: the momentum moves between base_momentum={base} and "
                f"max_momentum={most}; choose these, or add scheduler.cycle_momentum=false"
            )


def _momentum_key(group: dict[str, Any]) -> str | None:
    if "betas" in group:
        return "betas"
    return "momentum" if group.get("momentum", 0) > 0 else None
