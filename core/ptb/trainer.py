"""The training loop. It knows built objects only: no registry, no config file, no plugin machinery."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from signal import Signals
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ptb.batches import Batch, Batches
from ptb.errors import Interrupted, NumericalError


class Metric(Protocol):
    """A figure accumulated over batches, on the device."""

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Takes in one batch."""

    def compute(self) -> Any:
        """The figure over all batches since the last reset; a float, or a tensor of one value."""

    def reset(self) -> None:
        """Forgets all batches."""


@runtime_checkable
class DetailedMetric(Protocol):
    """A metric that has more to tell than its figure."""

    def details(self) -> dict[str, Any]:
        """JSON values, shown by ``ptb eval``."""


class Scheduler(Protocol):
    """Sets the optimizer's learning rate; stepped once after each optimizer step."""

    def step(self) -> Any:
        """Moves on by one optimizer step."""

    def state_dict(self) -> Any:
        """All that it would need to go on later."""

    def load_state_dict(self, state: Any) -> None:
        """Takes that up again."""


@dataclass(frozen=True)
class Parts:
    """The built objects of one training.

    Args:
        loss: gives a scalar, or one value a sample or element, of which the mean is taken.
        evaluation: the splits that there are, by name, each in the order of the data set.
        autocast: the type in which the forward pass computes where that is safe; None is the type of the weights.
        closure: the optimizer evaluates the loss several times a step (LBFGS).
        pairs: the inputs are pairs ``[B, 2, *input_shape]``, and the model embeds both halves.
        summed: the loss adds up over the batch; else it is a mean.
        denominator: what the loss of a batch with these targets was divided by to make it a mean; so much it counts in
            the mean of several batches. Weighted or ignored samples make it another number than that of the samples.
            Where it is 0, the loss is 0.
        sparse: the optimizer takes sparse gradients only.
        ignored: a class that the loss leaves out, which is therefore a valid target.
    """

    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Optimizer
    scheduler: Scheduler
    train: Batches
    evaluation: dict[str, Batches]
    train_metrics: dict[str, Metric]
    eval_metrics: dict[str, Metric]
    device: torch.device
    autocast: torch.dtype | None = None
    closure: bool = False
    pairs: bool = False
    summed: bool = False
    denominator: Callable[[Tensor], Tensor | int] = len
    sparse: bool = False
    ignored: int | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """The model's scores ``[B, output_size]``; for pairs its embeddings ``[B, 2, output_size]``."""
        if self.autocast is None:
            return self._scores(inputs)
        with torch.autocast(self.device.type, self.autocast):
            return self._scores(inputs).float()

    def mean_loss(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch as a scalar."""
        loss = self.loss(scores, targets)
        return loss.mean() if loss.ndim else loss

    def _scores(self, inputs: Tensor) -> Tensor:
        if not self.pairs:
            return self.model(inputs)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped
        return self.model(inputs.flatten(0, 1)).unflatten(0, (-1, 2))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Recipe:
    """How a training goes; the fields are the keys of the section ``trainer``.

    Args:
        epochs: passes over the training samples.
        eval_every: epochs from one evaluation on the validation split to the next.
        checkpoint_every: optimizer steps from one checkpoint to the next; 0 is every epoch.
        accumulate: batches whose gradients make one optimizer step, as if they were one batch.
        clip_norm: the gradients are scaled down to this norm where theirs is larger; None never.
        patience: evaluations without a smaller validation loss after which training ends; 0 never.
    """

    epochs: int
    eval_every: int = 1
    checkpoint_every: int = 0
    accumulate: int = 1
    clip_norm: float | None = None
    patience: int = 0


@dataclass(frozen=True)
class Row:
    """What was measured on one split at one step; ``lr`` is the learning rate that this step used."""

    step: int
    epoch: int
    split: str
    values: dict[str, float]
    lr: float
    samples_per_second: float | None = None


@dataclass
class Totals:
    """How far a training has come.

    ``metrics`` holds the newest figures as ``{"val/accuracy": 0.98}``, ``since_best`` counts evaluations, ``skipped``
    the steps whose fp16 gradients overflowed, so that the weights stayed as they were.
    """

    epoch: int = 0
    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    best_step: int | None = None
    best_loss: float = math.inf
    since_best: int = 0
    skipped: int = 0


class MeanLoss:
    """The mean loss over batches, as if they were one; added up on the device."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.reset()

    def reset(self) -> None:
        """Forgets all batches."""
        self._sum = torch.zeros((), device=self._parts.device)
        self._count: Tensor | int = 0

    def add(self, loss: Tensor, targets: Tensor) -> None:
        """Takes in the loss of a batch, a scalar; a loss that adds up counts by its samples."""
        if self._parts.summed:
            self._sum += loss
            self._count += len(targets)
        else:
            count = self._parts.denominator(targets)
            self._sum += loss * count
            self._count = self._count + count

    def compute(self) -> float:
        """The mean, 0 of nothing; waits for the device."""
        count = float(self._count)
        return float(self._sum) / count if count else 0.0


class Stopwatch:
    """Adds up the time between its starts and stops, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def start(self) -> None:
        """Runs on."""
        self._started = perf_counter()

    def stop(self) -> float:
        """Stands still, and tells the sum so far."""
        self.seconds += perf_counter() - self._started
        return self.seconds


class Watcher(Protocol):
    """Is told how a training goes on, and saves it; nothing that it does changes the weights."""

    def epoch_started(self, epoch: int, steps: int) -> None:
        """An epoch of that many steps begins."""

    def step_ended(self) -> None:
        """An optimizer step is done."""

    def row(self, row: Row) -> None:
        """A split was measured."""

    def checkpoint(self, totals: Totals) -> None:
        """The weights are to be saved as they are now."""

    def stop_signal(self) -> int | None:
        """The number of the signal that asks the training to stop, if one has come."""


def fit(parts: Parts, recipe: Recipe, watcher: Watcher, totals: Totals) -> None:
    """Trains, evaluates and saves, in the order in which it reads.

    Args:
        parts: what is trained, changed in place.
        recipe: for how long, and how.
        watcher: is told how it goes on.
        totals: is kept up to date at every moment, also for a caller who catches what is raised.

    Raises:
        NumericalError: a loss is not finite, and nothing is saved after that; or all fp16 gradients overflow.
        Interrupted: the watcher told of a signal; the weights were saved.
    """
    clock = Stopwatch()
    model, optimizer, scheduler = parts.model, parts.optimizer, parts.scheduler
    scaler = torch.amp.GradScaler(parts.device.type, enabled=parts.autocast is torch.float16)
    steps = -(-len(parts.train) // recipe.accumulate)
    group: list[Batch] = []  # the batches of one optimizer step, on the device
    batch_scores: list[Tensor] = []
    loss_mean = MeanLoss(parts)

    def gradients() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        first = not batch_scores  # LBFGS calls this again: the figures are those of the first call
        losses = []
        whole = _denominator(parts, group) if len(group) > 1 else None
        for inputs, targets in group:
            scores = parts.forward(inputs)
            loss = parts.mean_loss(scores, targets)
            if first:
                batch_scores.append(scores.detach())
                loss_mean.add(loss.detach(), targets)
            if whole is not None and not parts.summed:
                loss = loss * (parts.denominator(targets) / whole)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        if recipe.clip_norm is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        return losses[0] if whole is None else torch.stack(losses).sum()

    for epoch in range(1, recipe.epochs + 1):
        model.train()
        reset(parts.train_metrics)
        watcher.epoch_started(epoch, steps)
        loss_mean.reset()
        seconds_before = clock.seconds
        clock.start()

        batches = parts.train.epoch(epoch)
        while group := list(islice(batches, recipe.accumulate)):
            batch_scores.clear()
            lr = float(optimizer.param_groups[0]["lr"])
            if parts.closure:
                optimizer.step(gradients)  # type: ignore[arg-type]  # calls it, several times
                stepped = True
            else:
                gradients()
                stepped = _step_scaled(optimizer, scaler)
            if stepped:
                scheduler.step()
            else:
                totals.skipped += 1
                _check_scale(scaler, totals)

            totals.step += 1
            for scores, (_, targets) in zip(batch_scores, group, strict=True):
                totals.samples += len(targets)
                update(parts.train_metrics, scores, targets)
            watcher.step_ended()
            if signal := watcher.stop_signal():
                totals.seconds = clock.stop()
                watcher.checkpoint(totals)
                raise Interrupted(
                    f"stopped by {Signals(signal).name} after step {totals.step}; the weights are saved", signal
                )
            if _due_inside(totals.step, recipe, steps):
                totals.seconds = clock.stop()
                check_finite("training", loss_mean.compute(), totals, lr)
                watcher.checkpoint(totals)
                clock.start()

        mean_loss = loss_mean.compute()  # waits for the device
        totals.epoch, totals.seconds = epoch, clock.stop()
        values = _figures(mean_loss, parts.train_metrics)
        speed = parts.train.samples / (clock.seconds - seconds_before)
        _report(watcher, totals, Row(totals.step, epoch, "train", values, lr, speed))
        check_finite("training", mean_loss, totals, lr)

        last = epoch == recipe.epochs
        improved = False
        if "val" in parts.evaluation and (last or epoch % recipe.eval_every == 0):
            values = evaluate(parts, parts.evaluation["val"])
            improved = values["loss"] < totals.best_loss
            totals.since_best = 0 if improved else totals.since_best + 1
            if improved:
                totals.best_step, totals.best_loss = totals.step, values["loss"]
            last = last or totals.since_best == recipe.patience > 0
            _report(watcher, totals, Row(totals.step, epoch, "val", values, lr))
            check_finite("validation", values["loss"], totals, lr)
        if last and "test" in parts.evaluation:
            values = evaluate(parts, parts.evaluation["test"])
            _report(watcher, totals, Row(totals.step, epoch, "test", values, lr))
            check_finite("test", values["loss"], totals, lr)
        if last or improved or recipe.checkpoint_every == 0 or totals.step % recipe.checkpoint_every == 0:
            watcher.checkpoint(totals)
        if last:
            break
    if 0 < totals.skipped == totals.step:
        raise NumericalError(
            f"no step could be taken: the fp16 gradients overflowed in all {totals.step} of them; train for more "
            "steps, so that their scale can adapt, or use trainer.precision=bf16 or fp32"
        )


@torch.inference_mode()
def evaluate(parts: Parts, batches: Batches) -> dict[str, float]:
    """The mean loss and every metric over a split, in eval mode and without gradients."""
    parts.model.eval()
    reset(parts.eval_metrics)
    loss_mean = MeanLoss(parts)
    for inputs, targets in batches.epoch():
        scores = parts.forward(inputs)
        loss_mean.add(parts.mean_loss(scores, targets), targets)
        update(parts.eval_metrics, scores, targets)
    return _figures(loss_mean.compute(), parts.eval_metrics)


@torch.inference_mode()
def sample_losses(parts: Parts, batches: Batches) -> Tensor | None:
    """The loss of each sample ``[N]``, in the order of the split; None where the loss gives one value a batch."""
    parts.model.eval()
    losses = []
    for inputs, targets in batches.epoch():
        loss = parts.loss(parts.forward(inputs), targets)
        if loss.ndim == 0:
            return None
        losses.append(loss.flatten(1).mean(1) if loss.ndim > 1 else loss)
    return torch.cat(losses)


def check_finite(what: str, loss: float, totals: Totals, lr: float) -> None:
    """Stops a training whose loss is not a number any more.

    Raises:
        NumericalError: the loss is infinite or NaN.
    """
    if not math.isfinite(loss):
        raise NumericalError(
            f"the {what} loss is {loss} after step {totals.step} (epoch {totals.epoch} was the last whole one); the "
            f"learning rate is {lr:g}: try a smaller optimizer.lr, or look for values in the data that are not finite"
        )


def reset(metrics: dict[str, Metric]) -> None:
    """Resets all of them."""
    for metric in metrics.values():
        metric.reset()


def update(metrics: dict[str, Metric], scores: Tensor, targets: Tensor) -> None:
    """Shows all of them one batch."""
    for metric in metrics.values():
        metric.update(scores, targets)


def compute(metrics: dict[str, Metric]) -> dict[str, float]:
    """The figures of all of them; waits for the device."""
    return {label: float(metric.compute()) for label, metric in metrics.items()}


def _denominator(parts: Parts, group: list[Batch]) -> Tensor | int:
    """That of several batches as one; never 0, by which nothing can be divided."""
    whole = sum(parts.denominator(targets) for _, targets in group)
    return whole.float().clamp(min=torch.finfo(torch.float32).tiny) if isinstance(whole, Tensor) else whole


def _step_scaled(optimizer: Optimizer, scaler: torch.amp.GradScaler) -> bool:
    """Takes the step; False where scaled gradients overflowed fp16, and the weights stay as they were."""
    if not scaler.is_enabled():
        optimizer.step()
        return True
    scale = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    return scaler.get_scale() >= scale


def _check_scale(scaler: torch.amp.GradScaler, totals: Totals) -> None:
    if scaler.get_scale() < 1:  # below 1 it would make small what has overflowed without it
        raise NumericalError(
            f"the fp16 gradients overflow at step {totals.step + 1}, even when they are not scaled up any more "
            f"(steps skipped so far: {totals.skipped}): use trainer.precision=bf16 or fp32, "
            "or a smaller optimizer.lr"
        )


def _figures(loss: float, metrics: dict[str, Metric]) -> dict[str, float]:
    """The loss and the metrics; where the loss is not finite there is nothing to measure, and a metric might raise."""
    return {"loss": loss} | (compute(metrics) if math.isfinite(loss) else {})


def _report(watcher: Watcher, totals: Totals, row: Row) -> None:
    totals.metrics |= {f"{row.split}/{label}": value for label, value in row.values.items()}
    watcher.row(row)


def _due_inside(step: int, recipe: Recipe, steps: int) -> bool:
    """Whether a checkpoint is due inside an epoch; at the end of one it waits for the evaluation."""
    return recipe.checkpoint_every > 0 and step % recipe.checkpoint_every == 0 and step % steps != 0
