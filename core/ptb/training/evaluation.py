"""Figures of a split, and what they say of a training."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ptb.data.loader import BatchLoader
from ptb.training.blame import Calls
from ptb.training.metrics import RunningMetrics
from ptb.training.objective import Objective
from ptb.training.protocols import Metric
from ptb.training.state import preserve_state

if TYPE_CHECKING:
    from ptb.training.trainer import Trainer


@dataclass(frozen=True)
class MetricsRow:
    """What was measured on one split at one step; ``lr`` is the learning rate of that step."""

    step: int
    epoch: int
    split: str
    values: dict[str, float]
    lr: float
    samples_per_second: float | None = None


def evaluate(
    objective: Objective,
    metrics: Mapping[str, Metric],
    batches: BatchLoader,
    calls: Calls | None = None,
    check_stop: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """The mean loss and every metric over a split, in eval mode and without gradients.

    Model, loss and random numbers are as before afterwards; the metrics are not.

    Args:
        objective: what is evaluated.
        metrics: are reset first.
        batches: of the split.
        calls: notes which component is being called.
        check_stop: is called after each batch; what it raises ends the evaluation.
    """
    calls = calls or Calls()
    with preserve_state(objective.model, objective.loss), torch.inference_mode():
        objective.model.eval()
        figures = RunningMetrics(objective, metrics, calls)
        calls.now = "dataset"
        for inputs, targets in batches.epoch():
            calls.now = "model"
            scores = objective.forward(inputs)
            calls.now = "loss"
            figures.add(scores, targets, objective.mean_loss(scores, targets))
            check_stop()
            calls.now = "dataset"
        return figures.compute()


def sample_losses(objective: Objective, batches: BatchLoader) -> Tensor | None:
    """The loss of each sample ``[N]``, in the order of the split; None where the loss gives one value a batch."""
    losses = []
    with preserve_state(objective.model, objective.loss), torch.inference_mode():
        objective.model.eval()
        for inputs, targets in batches.epoch():
            loss = objective.loss(objective.forward(inputs), targets)
            if loss.ndim == 0:
                return None
            losses.append(loss.flatten(1).mean(1) if loss.ndim > 1 else loss)
    return torch.cat(losses)


def epoch_rows(trainer: "Trainer") -> list[MetricsRow]:
    """The training figures of the epoch that has just ended, and those of the validation split if they are due."""
    state, settings = trainer.state, trainer.settings
    seconds = state.seconds - state.epoch_start_time
    speed = trainer.epoch_samples / seconds if seconds else None
    # This waits for the device.
    values = trainer.train_metrics.compute()
    rows = [MetricsRow(state.step, state.epoch, "train", values, state.lr, speed)]
    due = is_due(state.epoch, settings.eval_every) or is_due(state.step, settings.eval_steps)
    if "val" in trainer.eval_loaders and (due or (trainer.is_over and settings.eval_every)):
        rows.append(evaluate_row(trainer, state.epoch))
    return rows


def evaluate_row(trainer: "Trainer", epoch: int) -> MetricsRow:
    """The figures of the validation split now."""
    return MetricsRow(trainer.state.step, epoch, "val", trainer.evaluate("val"), trainer.state.lr)


def update_best(trainer: "Trainer", row: MetricsRow, better: str) -> None:
    """Compare the monitored figure, if the row has it, with the best so far; every evaluation counts.

    Args:
        trainer: of the row.
        row: has just been measured.
        better: ``"lower"`` or ``"higher"``.
    """
    state = trainer.state
    split, _, figure = trainer.settings.monitor.partition("/")
    if row.split != split or figure not in row.values:
        return
    value, best = row.values[figure], state.best_value
    # The first of equals wins, and NaN never does.
    improved = value < best if better == "lower" else value > best
    if improved or (math.isnan(best) and not math.isnan(value)):
        state.best_step, state.best_value, state.evals_since_best = state.step, value, 0
        trainer.request_checkpoint("best")
    else:
        state.evals_since_best += 1


def is_due(number: int, every: int) -> bool:
    """Whether something that happens every so often happens now; 0 is never."""
    return every > 0 and number % every == 0


def fresh(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """Copies of metrics that were never used, so that no evaluation depends on those before it."""
    try:
        return copy.deepcopy(dict(metrics))
    except Exception:
        # A component may hold what cannot be copied; reset() then has to do.
        return dict(metrics)
