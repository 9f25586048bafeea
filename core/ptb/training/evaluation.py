"""Figures of a split, and what they say of a training."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ptb.data.loader import BatchLoader
from ptb.training.metrics import RunningMetrics
from ptb.training.objective import Objective
from ptb.training.protocols import Metric
from ptb.training.state import component_state, load_component_state, load_weights, preserve_state

if TYPE_CHECKING:
    from ptb.training.trainer import Trainer


@dataclass(frozen=True)
class MetricsRow:
    """What was measured on one split at one step; ``lr`` is the learning rate of that step, if there is one."""

    step: int
    epoch: int
    split: str
    values: dict[str, float]
    lr: float | None
    samples_per_second: float | None = None

    @property
    def named_values(self) -> dict[str, float]:
        """The values by ``SPLIT/LABEL``."""
        return {f"{self.split}/{label}": value for label, value in self.values.items()}


def evaluate(
    objective: Objective,
    metrics: Mapping[str, Metric],
    batches: BatchLoader,
    check_stop: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """The mean loss and every metric over a split, in eval mode and without gradients.

    Model, loss and random numbers are as before afterwards; the metrics are not, and are reset first. What
    ``check_stop`` raises after a batch ends the evaluation.
    """
    objective.calls.now = "model"
    with preserve_state(objective.model, objective.loss), torch.inference_mode():
        objective.model.eval()
        figures = RunningMetrics(objective, metrics)
        objective.calls.now = "dataset"
        nothing = torch.zeros((), device=objective.device)
        for batch in batches.epoch(turn=objective.turn):
            if batch.size:
                outputs = objective.forward(batch.inputs)
                loss = objective.mean_loss(outputs, batch)
                figures.add(objective.predictions(outputs), batch, loss)
            else:
                figures.add(nothing, batch, nothing)
            check_stop()
            objective.calls.now = "dataset"
        return figures.compute()


@contextmanager
def borrowed(objective: Objective, saved: Mapping[str, Any]) -> Iterator[None]:
    """Inside it, model and loss have the state of a checkpoint."""
    model, loss = objective.model, objective.loss
    objective.calls.now = "model"
    own = copy.deepcopy((model.state_dict(), component_state(loss)))
    try:
        load_weights(model, saved["model"])
        load_component_state(loss, saved["loss"])
        yield
    finally:
        load_weights(model, own[0])
        load_component_state(loss, own[1])


def epoch_rows(trainer: "Trainer") -> list[MetricsRow]:
    """The training figures of the epoch that has just ended, and those of the validation split if they are due."""
    state, settings = trainer.state, trainer.settings
    seconds = state.seconds - state.epoch_start_time
    samples = state.samples - (state.epoch - 1) * trainer.train_loader.samples
    speed = samples / seconds if seconds else None
    # This waits for the device.
    values = trainer.train_metrics.compute()
    rows = [MetricsRow(state.step, state.epoch, "train", values, state.lr, speed)]
    due = is_due(state.epoch, settings.eval_every) or is_due(state.step, settings.eval_steps)
    # The last epoch is always evaluated, unless none is.
    if "val" in trainer.eval_loaders and (due or (trainer.is_over and settings.eval_every)):
        rows.append(evaluate_row(trainer, state.epoch))
    return rows


def evaluate_row(trainer: "Trainer", epoch: int) -> MetricsRow:
    """The figures of the validation split now."""
    return MetricsRow(trainer.state.step, epoch, "val", trainer.evaluate("val"), trainer.state.lr)


def update_best(trainer: "Trainer", row: MetricsRow, better: str) -> None:
    """Compare the monitored figure, if a new row has it, with the best so far; every evaluation counts."""
    state, monitor, values = trainer.state, trainer.settings.monitor, row.named_values
    if monitor not in values:
        return
    value, best = values[monitor], state.best_value
    # The first of equals wins, and NaN never does: no number is smaller or larger than NaN.
    improved = value < best if better == "lower" else value > best
    if improved or (math.isnan(best) and not math.isnan(value)):
        state.best_step, state.best_value, state.evals_since_best = state.step, value, 0
        trainer.requested_labels.add("best")
    else:
        state.evals_since_best += 1


def is_due(number: int, every: int) -> bool:
    """Whether something that happens every so often happens now; 0 is never."""
    return every > 0 and number % every == 0


def fresh(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """Copies of metrics that were never used: what ``reset`` forgets to reset would make a resumed run differ."""
    try:
        return copy.deepcopy(dict(metrics))
    except Exception:  # a component may hold what cannot be copied; reset() then has to do
        return dict(metrics)
