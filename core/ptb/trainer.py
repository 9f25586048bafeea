"""The training loop. It knows built objects only: no registry, no config file, no plugin machinery."""

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from signal import Signals
from time import perf_counter
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ptb.batches import Batches
from ptb.errors import Interrupted, NumericalError
from ptb.parts import Parts
from ptb.tally import Tally
from ptb.tiers import Batch

STEPS_BETWEEN_COLLECTIONS = 64


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
    scaler = torch.amp.GradScaler(parts.device.type, enabled=parts.autocast is torch.float16)
    take_step = _stepper(parts, recipe, scaler)
    step_ended, stop_signal = watcher.step_ended, watcher.stop_signal
    steps = -(-len(parts.train) // recipe.accumulate)

    for epoch in range(1, recipe.epochs + 1):
        parts.model.train()
        watcher.epoch_started(epoch, steps)
        tally = Tally(parts, parts.train_metrics)
        seconds_before = clock.seconds
        clock.start()
        with collecting_rarely() as collect:
            batches = parts.train.epoch(epoch)
            while group := list(islice(batches, recipe.accumulate)):
                lr = parts.optimizer.param_groups[0]["lr"]
                if not take_step(group, tally):
                    totals.skipped += 1
                    _check_scale(scaler, totals)
                totals.step += 1
                totals.samples += sum(len(targets) for _, targets in group)
                step_ended()
                collect()
                if signal := stop_signal():
                    totals.seconds = clock.stop()
                    watcher.checkpoint(totals)
                    raise Interrupted(
                        f"stopped by {Signals(signal).name} after step {totals.step}; the weights are saved", signal
                    )
                if _due_inside(totals.step, recipe, steps):
                    totals.seconds = clock.stop()
                    check_finite("training", tally.loss(), totals, float(lr))
                    watcher.checkpoint(totals)
                    clock.start()

        lr = float(lr)
        values = tally.figures()  # waits for the device
        totals.epoch, totals.seconds = epoch, clock.stop()
        speed = parts.train.samples / (clock.seconds - seconds_before)
        _report(watcher, totals, Row(totals.step, epoch, "train", values, lr, speed))
        check_finite("training", values["loss"], totals, lr)

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


def _stepper(parts: Parts, recipe: Recipe, scaler: torch.amp.GradScaler) -> Callable[[list[Batch], Tally], bool]:
    """What takes one optimizer step on the batches of a group, tallies them, and tells whether the weights moved.

    Without fp16, an accumulation or a closure nothing in it waits for the device.
    """
    model, optimizer, scheduler = parts.model, parts.optimizer, parts.scheduler
    forward, mean_loss, denominator = parts.forward, parts.mean_loss, parts.denominator
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    # The usual zero_grad only enters a profiler's range around this; a stranger's may do more.
    usual = type(optimizer).zero_grad is Optimizer.zero_grad

    def gradients(group: list[Batch], tally: Tally | None) -> Tensor:
        if usual:
            for parameter in trained:
                parameter.grad = None
        else:
            optimizer.zero_grad(set_to_none=True)
        whole = None if len(group) == 1 or parts.summed else _denominator(parts, group)
        losses = []
        for inputs, targets in group:
            scores = forward(inputs)
            loss = mean_loss(scores, targets)
            if tally is not None:
                tally.add(scores.detach(), targets, loss.detach())
            if whole is not None:
                loss = loss * (denominator(targets) / whole)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        if recipe.clip_norm is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def with_closure(group: list[Batch], tally: Tally) -> bool:
        first: Tally | None = tally

        def closure() -> Tensor:
            nonlocal first
            tally, first = first, None  # called again, the figures are those of the first call
            return gradients(group, tally)

        optimizer.step(closure)  # type: ignore[arg-type]  # returns a tensor
        scheduler.step()
        return True

    def scaled(group: list[Batch], tally: Tally) -> bool:
        gradients(group, tally)
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        if scaler.get_scale() < scale:  # the gradients overflowed fp16, and the weights stay as they were
            return False
        scheduler.step()
        return True

    def plain(group: list[Batch], tally: Tally) -> bool:
        gradients(group, tally)
        optimizer.step()
        scheduler.step()
        return True

    return with_closure if parts.closure else scaled if scaler.is_enabled() else plain


@contextmanager
def collecting_rarely() -> Iterator[Callable[[], None]]:
    """Puts off Python's garbage collector, which would look through all of torch in the middle of a step.

    What is yielded is called after every step, and lets it look through what is new after some of them.
    """
    if not gc.isenabled():
        yield lambda: None
        return
    calls = 0

    def collect() -> None:
        nonlocal calls
        calls += 1
        if calls % STEPS_BETWEEN_COLLECTIONS == 0:
            gc.collect(0)

    gc.disable()
    try:
        yield collect
    finally:
        gc.enable()


@torch.inference_mode()
def evaluate(parts: Parts, batches: Batches) -> dict[str, float]:
    """The mean loss and every metric over a split, in eval mode and without gradients."""
    parts.model.eval()
    tally = Tally(parts, parts.eval_metrics)
    for inputs, targets in batches.epoch():
        scores = parts.forward(inputs)
        tally.add(scores, targets, parts.mean_loss(scores, targets))
    return tally.figures()


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


def _denominator(parts: Parts, group: list[Batch]) -> Tensor | int:
    """That of several batches as one; never 0, by which nothing can be divided."""
    whole = sum(parts.denominator(targets) for _, targets in group)
    return whole.float().clamp(min=torch.finfo(torch.float32).tiny) if isinstance(whole, Tensor) else whole


def _check_scale(scaler: torch.amp.GradScaler, totals: Totals) -> None:
    if scaler.get_scale() < 1:  # below 1 it would make small what has overflowed without it
        raise NumericalError(
            f"the fp16 gradients overflow at step {totals.step + 1}, even when they are not scaled up any more "
            f"(steps skipped so far: {totals.skipped}): use trainer.precision=bf16 or fp32, "
            "or a smaller optimizer.lr"
        )


def _report(watcher: Watcher, totals: Totals, row: Row) -> None:
    totals.metrics |= {f"{row.split}/{label}": value for label, value in row.values.items()}
    watcher.row(row)


def _due_inside(step: int, recipe: Recipe, steps: int) -> bool:
    """Whether a checkpoint is due inside an epoch; at the end of one it waits for the evaluation."""
    return recipe.checkpoint_every > 0 and step % recipe.checkpoint_every == 0 and step % steps != 0
