"""For runs whose length is not known beforehand: the learning rate falls when the monitored figure gets no better."""

from collections.abc import Mapping
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ptb_schedulers.warmup import WarmUp, check_follows_lr, with_warmup


def plateau(
    optimizer: Optimizer,
    total_steps: int,
    *,
    warmup_steps: int = 0,
    warmup_start: float = 0.01,
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: Literal["rel", "abs"] = "rel",
    cooldown: int = 0,
    min_lr: float = 0.0,
    eps: float = 1e-8,
) -> "Plateau | WarmUp":
    """``torch.optim.lr_scheduler.ReduceLROnPlateau`` on ``trainer.monitor``, with the options and defaults of torch.

    Its ``mode`` is the direction in which the monitored figure is better, and its epochs are evaluations: those at the
    ends of epochs and those of ``trainer.eval_steps``.

    Args:
        optimizer: its ``lr`` is where the fall begins.
        total_steps: the optimizer steps of the whole run.
        warmup_steps: optimizer steps of a linear climb to ``lr``; evaluations in it do not count.
        warmup_start: where the climb begins, as a factor of ``lr``.
        factor: what the learning rate is multiplied by when it falls.
        patience: evaluations without a better figure that are let pass; the next one makes the learning rate fall.
        threshold: how much better a figure must be to count.
        threshold_mode: whether that is a part of the best figure (``"rel"``) or a difference to it (``"abs"``).
        cooldown: evaluations after a fall that do not count.
        min_lr: no learning rate falls below it.
        eps: a fall by no more than this is left out.

    Raises:
        ValueError: the warm-up leaves no step of the run, ``min_lr`` is not below the ``lr`` of a parameter group, or
            the optimizer does not follow its ``lr``.
    """
    check_follows_lr(optimizer)
    lowest = min(group["lr"] for group in optimizer.param_groups)
    if min_lr >= lowest:
        raise ValueError(
            f"min_lr is {min_lr} and the optimizer's lr {lowest}, so the learning rate would never fall; choose a "
            "min_lr below lr"
        )
    options = {
        "factor": factor,
        "patience": patience,
        "threshold": threshold,
        "threshold_mode": threshold_mode,
        "cooldown": cooldown,
        "min_lr": min_lr,
        "eps": eps,
    }
    return with_warmup(lambda steps: Plateau(optimizer, options), total_steps, warmup_steps, warmup_start)


class Plateau:
    """The scheduler behind ``plateau``: steps leave the learning rate alone, evaluations may lower it.

    Args:
        optimizer: whose learning rates fall.
        options: of ``ReduceLROnPlateau``, but for its mode.
    """

    def __init__(self, optimizer: Optimizer, options: Mapping[str, Any]) -> None:
        self.optimizer = optimizer
        self._options = dict(options)
        self._better: str | None = None
        self._schedule: ReduceLROnPlateau | None = None  # the first evaluation says what is better

    def step(self) -> None:
        """Moves on by one optimizer step."""

    def on_evaluation(self, metrics: Mapping[str, float], *, monitor: str, better: str) -> None:
        """Lowers the learning rate if the monitored figure has not been better for long enough."""
        if monitor in metrics:
            self._made(better).step(metrics[monitor])

    def state_dict(self) -> dict[str, Any]:
        """What is better, and the state of torch's scheduler once there is one."""
        return {"better": self._better, "schedule": self._schedule and self._schedule.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes that up again; the learning rates themselves stand in the optimizer's own state."""
        self._better = self._schedule = None
        if state["better"]:
            self._made(state["better"]).load_state_dict(state["schedule"])

    def _made(self, better: str) -> ReduceLROnPlateau:
        if self._schedule is None:
            self._better = better
            mode: Literal["min", "max"] = "min" if better == "lower" else "max"
            self._schedule = ReduceLROnPlateau(self.optimizer, mode, **self._options)
        return self._schedule
