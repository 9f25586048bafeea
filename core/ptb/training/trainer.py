"""The training loop. It knows built objects only: no registry, no config file, no plugin machinery."""

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from signal import Signals
from time import perf_counter
from typing import Any, Literal, NoReturn, Protocol

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from ptb.data.loader import BatchLoader
from ptb.errors import InterruptedRunError, NumericalError, StorageError, count, listing, one_line
from ptb.seeding import preserve_rng_state, random_state, set_random_state
from ptb.storage.checkpoint import load_weights
from ptb.storage.codec import DecodeError, Decoder, Encoder, State
from ptb.storage.object_state import capture, grown, outline, restore
from ptb.training.metrics import RunningMetrics
from ptb.training.nonfinite import Finding, find
from ptb.training.objective import Parts
from ptb.training.stepping import Group, NotFinite, Stepper, pieces

STEPS_BETWEEN_COLLECTIONS = 64
_KINDS = {int: int, float: float | int, dict: dict, type(None): int | None}  # of totals, by what they are at first


@dataclass(frozen=True)
class Recipe:
    """How a training goes; the fields are the keys of the section ``trainer``.

    Args:
        epochs: passes over the training samples.
        eval_every: epochs from one evaluation on the validation split to the next; 0 never evaluates there.
        eval_steps: optimizer steps from one evaluation to the next, beside those of ``eval_every``; 0 is none.
        checkpoint_every: optimizer steps from one checkpoint to the next; 0 is every epoch.
        accumulate: batches whose gradients make one optimizer step, as if they were one batch.
        clip_norm: the gradients are scaled down to this norm where theirs is larger; None never.
        patience: evaluations without a smaller validation loss after which training ends, with the epoch; 0 never.
        on_oom: where memory runs out in a step, ``"fail"``, or ``"split"`` the batches and add up their gradients.
    """

    epochs: int
    eval_every: int = 1
    eval_steps: int = 0
    checkpoint_every: int = 0
    accumulate: int = 1
    clip_norm: float | None = None
    patience: int = 0
    on_oom: Literal["fail", "split"] = "fail"


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

    ``epoch`` counts whole epochs, ``taken`` the steps of the next one, ``rows`` those that were reported, ``looked_at``
    is the last step inside an epoch after which an evaluation or a checkpoint was due, and made; ``seconds``
    is the time in the loop, ``began`` what it was when the epoch began, ``lr`` that of the last step. ``metrics`` holds
    the newest figures as ``{"val/accuracy": 0.98}``, ``since_best`` counts evaluations, ``skipped`` the steps whose
    fp16 gradients overflowed, so that the weights stayed as they were.
    """

    epoch: int = 0
    step: int = 0
    taken: int = 0
    samples: int = 0
    rows: int = 0
    looked_at: int = 0
    seconds: float = 0.0
    began: float = 0.0
    lr: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    best_step: int | None = None
    best_loss: float = math.inf
    since_best: int = 0
    skipped: int = 0


class Stopwatch:
    """Adds up the time between its starts and stops, in seconds."""

    def __init__(self) -> None:
        self.runs = False
        self._started = 0.0

    def start(self, seconds: float) -> None:
        """Runs on from so many."""
        self._started = perf_counter() - seconds
        self.runs = True

    def stop(self) -> float:
        """Stands still, and tells the sum so far."""
        self.runs = False
        return perf_counter() - self._started


class Watcher(Protocol):
    """Is told how a training goes on, and saves it; nothing that it does changes the weights."""

    def epoch_started(self, epoch: int, steps: int, taken: int) -> None:
        """An epoch of that many steps begins, or goes on after so many of them."""

    def step_ended(self) -> None:
        """An optimizer step is done."""

    def row(self, row: Row) -> None:
        """A split was measured."""

    def line(self, text: str) -> None:
        """Something happened that people should know."""

    def warn(self, text: str) -> None:
        """Something happened that people should mend."""

    def save(self, training: "Training") -> None:
        """The training is to be saved as it is now."""

    def save_replay(self, state: State, step: int, group: Group, samples: list[Tensor], finding: Finding) -> str:
        """A step that cannot be taken is to be saved, with the state before it; tells where it was."""

    def stop_signal(self) -> int | None:
        """The number of the signal that asks the training to stop, if one has come."""


class Training:
    """A training that can stop after any step, and go on from there as if it had not.

    Args:
        parts: what is trained, changed in place.
        recipe: for how long, and how.
        watcher: is told how it goes on.
    """

    def __init__(self, parts: Parts, recipe: Recipe, watcher: Watcher) -> None:
        self.parts = parts
        self.recipe = recipe
        self.totals = Totals()
        self._watcher = watcher
        self._stepper = Stepper(parts, recipe.clip_norm, recipe.on_oom == "split", self)
        self._tally = RunningMetrics(parts, parts.train_metrics)
        self._steps = -(-len(parts.train) // recipe.accumulate)
        self._clock = Stopwatch()
        writer = Encoder()
        metrics = {label: capture(metric, label, writer) for label, metric in parts.eval_metrics.items()}
        self._unused_metrics = State(metrics, writer.tensors)
        self._odd = self._lost_numbers()  # a mask may hold infinities
        self._outlines = {label: outline(root) for label, root in self._roots().items()}

    def _roots(self) -> dict[str, object]:
        """The objects whose attributes are saved."""
        metrics = {f"metric '{label}'": metric for label, metric in self.parts.train_metrics.items()}
        return {
            "the model": self.parts.model,
            "the loss": self.parts.loss,
            "the optimizer": self.parts.optimizer,
        } | metrics

    def _warn_of_what_is_new(self) -> None:
        """Once of each object that keeps others of which nobody will know how they were made."""
        for label, root in self._roots().items():
            if label in self._outlines and (new := grown(root, self._outlines[label])):
                del self._outlines[label]
                self._watcher.warn(
                    f"{label} keeps objects that it has made since the training began ({listing(new, 3)}): "
                    "`ptb resume` cannot make them again; give it state_dict() and load_state_dict(), or keep numbers "
                    "and tensors"
                )

    def run(self, until: int | None = None) -> bool:
        """Trains, evaluates and saves; tells whether it came to the end.

        Args:
            until: the optimizer step after which it saves and returns, if that is not the end.

        Raises:
            NumericalError: a loss, a gradient or a weight is not finite, and the step was not taken or saved; or all
                fp16 gradients overflow.
            Interrupted: the watcher told of a signal; the training was saved.
        """
        self.parts.while_waiting(self._look)
        try:
            while not self.is_over():
                if (until is not None and self.totals.step >= until) or not self._run_epoch(until):
                    return False
        except _Asked as asked:
            self._stop(asked.signal)
        if 0 < self.totals.skipped == self.totals.step:
            raise NumericalError(
                f"no step could be taken: the fp16 gradients overflowed in all {self.totals.step} of them; train for "
                "more steps, so that their scale can adapt, or use trainer.precision=bf16 or fp32"
            )
        return True

    def is_over(self) -> bool:
        """Whether nothing is left to train."""
        totals, patience = self.totals, self.recipe.patience
        # Inside an epoch patience may be at its end, and the epoch is not.
        return totals.epoch >= self.recipe.epochs or (totals.taken == 0 and 0 < patience <= totals.since_best)

    def _run_epoch(self, until: int | None) -> bool:
        parts, recipe, totals, watcher, tally = self.parts, self.recipe, self.totals, self._watcher, self._tally
        take_step, step_ended, stop_signal = self._stepper.take, watcher.step_ended, watcher.stop_signal
        epoch = totals.epoch + 1
        if totals.taken == 0:
            parts.model.train()
            tally.reset()
            totals.began = totals.seconds
        watcher.epoch_started(epoch, self._steps, totals.taken)
        if totals.taken and self._due_inside() and totals.looked_at < totals.step:  # it was stopped before that
            self._inside_epoch(epoch)
        self._clock.start(totals.seconds)
        with manual_gc() as collect:
            batches = parts.train.epoch(epoch, min(totals.taken * recipe.accumulate, len(parts.train)))
            while group := list(islice(batches, recipe.accumulate)):
                rates = [float(each["lr"]) for each in parts.optimizer.param_groups]
                totals.lr = rates[0]
                if not all(map(math.isfinite, rates)):
                    raise NumericalError(
                        f"the learning rate of step {totals.step + 1} is {listing([*map(str, rates)])}, and the step "
                        "was not taken: look at the scheduler, or choose another"
                    )
                try:
                    if not take_step(group, tally):
                        totals.skipped += 1
                        self._check_scale()
                except NotFinite as lost:
                    self._give_up(lost, group)
                totals.step += 1
                totals.taken += 1
                totals.samples += sum(len(targets) for _, targets in group)
                step_ended()
                collect()
                if signal := stop_signal():
                    self._stop(signal)
                if totals.step == until:
                    totals.seconds = self._clock.stop()
                    self._save()
                    return False
                if self._due_inside():
                    totals.seconds = self._clock.stop()
                    self._inside_epoch(epoch)
                    self._clock.start(totals.seconds)
        totals.seconds = self._clock.stop()
        self._end_epoch(epoch)
        return True

    def _look(self) -> None:
        """Is called where nothing goes on because a batch is waited for."""
        if signal := self._watcher.stop_signal():
            raise _Asked(signal)

    def _due_inside(self) -> bool:
        """Whether something is to be done inside an epoch; at the end of one all is done together."""
        recipe, totals = self.recipe, self.totals
        due = _falls_on(totals.step, recipe.checkpoint_every) or _falls_on(totals.step, recipe.eval_steps)
        return due and totals.taken < self._steps

    def _inside_epoch(self, epoch: int) -> None:
        improved = False
        if _falls_on(self.totals.step, self.recipe.eval_steps) and "val" in self.parts.evaluation:
            values = self._evaluated("val")
            improved = self._judge(values["loss"])
            self._report(Row(self.totals.step, epoch, "val", values, self.totals.lr))
        self.totals.looked_at = self.totals.step
        if improved or _falls_on(self.totals.step, self.recipe.checkpoint_every):
            self._save()

    def _end_epoch(self, epoch: int) -> None:
        parts, recipe, totals = self.parts, self.recipe, self.totals
        values = self._tally.figures()  # waits for the device
        speed = parts.train.samples / (totals.seconds - totals.began)
        rows = [Row(totals.step, epoch, "train", values, totals.lr, speed)]
        last = epoch == recipe.epochs
        improved = False
        before = (totals.best_step, totals.best_loss, totals.since_best)
        due = _falls_on(epoch, recipe.eval_every) or _falls_on(totals.step, recipe.eval_steps)
        try:
            if "val" in parts.evaluation and (due or (last and recipe.eval_every)):
                values = self._evaluated("val")
                improved = self._judge(values["loss"])
                rows.append(Row(totals.step, epoch, "val", values, totals.lr))
            last = last or 0 < recipe.patience <= totals.since_best
            if last and "test" in parts.evaluation and math.isfinite(values["loss"]):
                rows.append(Row(totals.step, epoch, "test", self._evaluated("test"), totals.lr))
        except BaseException:  # a signal, or a fault: the epoch is not over
            totals.best_step, totals.best_loss, totals.since_best = before
            raise
        totals.epoch, totals.taken = epoch, 0
        for row in rows:
            self._report(row)
        if last or improved or recipe.checkpoint_every == 0 or _falls_on(totals.step, recipe.checkpoint_every):
            self._save()

    def _evaluated(self, split: str) -> dict[str, float]:
        reader = Decoder(self._unused_metrics.tensors, self.parts.device)
        for label, metric in self.parts.eval_metrics.items():  # no evaluation depends on those before it
            restore(metric, self._unused_metrics.node[label], reader)
        return evaluate(self.parts, self.parts.evaluation[split], self._watcher.stop_signal, most=self._stepper.most)

    def _judge(self, loss: float) -> bool:
        """Whether this validation loss is the best so far."""
        totals = self.totals
        improved = loss < totals.best_loss
        totals.since_best = 0 if improved else totals.since_best + 1
        if improved:
            totals.best_step, totals.best_loss = totals.step, loss
        return improved

    def _report(self, row: Row) -> None:
        """Passes a row on, and stops a training whose loss is not a number any more."""
        totals = self.totals
        totals.metrics |= {f"{row.split}/{label}": value for label, value in row.values.items()}
        totals.rows += 1
        self._watcher.row(row)
        if not math.isfinite(row.values["loss"]):
            split = {"train": "training", "val": "validation"}.get(row.split, row.split)
            raise NumericalError(
                f"the {split} loss is {row.values['loss']} after step {row.step}, and nothing is saved after that; the "
                f"learning rate is {row.lr:g}: try a smaller optimizer.lr, or look for values in the data that are too "
                "large"
            )

    def _save(self) -> None:
        if lost := self._lost_numbers() - self._odd:
            raise NumericalError(
                f"the weights are not finite after step {self.totals.step} ({listing(sorted(lost), 3)}), although loss "
                f"and gradients were: they are not saved; the learning rate is {self.totals.lr:g}: try a smaller one, "
                "or look for values in the data that are too large"
            )
        self._warn_of_what_is_new()
        self._watcher.save(self)

    def _lost_numbers(self) -> set[str]:
        """The trained parameters and the buffers that are not finite; waits for the device once."""
        model = self.parts.model
        trained = {name: each.detach() for name, each in model.named_parameters() if each.requires_grad}
        numbers = trained | {name: each for name, each in model.named_buffers() if each.is_floating_point()}
        finite = [torch.isfinite(each).all() for each in numbers.values()]
        return {name for name, well in zip(numbers, torch.stack(finite).tolist(), strict=True) if not well}

    def _stop(self, signal: int) -> NoReturn:
        if self._clock.runs:
            self.totals.seconds = self._clock.stop()
        self._save()
        raise InterruptedRunError(
            f"stopped by {Signals(signal).name} after step {self.totals.step}; it is saved", signal
        )

    def _give_up(self, lost: NotFinite, group: Group) -> NoReturn:
        """Says what is not finite and where, and leaves the training as it was before the step."""
        totals, parts, before = self.totals, self.parts, self._stepper.before
        totals.seconds = self._clock.stop()
        step, epoch = totals.step + 1, totals.epoch + 1
        before.put_back()
        state = self.state()
        chosen = parts.train.chosen(epoch, totals.taken * self.recipe.accumulate, len(group))
        samples = list(torch.split(chosen, [len(targets) for _, targets in group]))
        finding = find(parts, group, samples, lost.loss, self._stepper.most)
        before.put_back()
        values = {"loss": lost.loss} | ({} if not math.isfinite(lost.loss) else {"gradient_norm": math.nan})
        totals.metrics |= {f"train/{name}": value for name, value in values.items()}
        self._watcher.row(Row(step, epoch, "train", values, totals.lr))
        try:
            path = self._watcher.save_replay(state, step, group, samples, finding)
            again = f"`ptb replay {path}` " + ("shows it again" if finding.again else "tries it again")
        except StorageError as error:
            again = f"no replay file could be written: {error}"
        raise NumericalError(
            f"{finding.told(step)}; the step was not taken. The learning rate is {totals.lr:g}: try a smaller "
            f"optimizer.lr or trainer.clip_norm=1, or look at these samples; {again}"
        ) from None

    def _check_scale(self) -> None:
        if self._stepper.scaler.get_scale() < 1:  # below 1 it would make small what has overflowed without it
            raise NumericalError(
                f"the fp16 gradients overflow at step {self.totals.step + 1}, even when they are not scaled up any "
                f"more (steps skipped so far: {self.totals.skipped}): use trainer.precision=bf16 or fp32, "
                "or a smaller optimizer.lr"
            )

    def smaller(self, samples: int) -> None:
        """As in ``Eyes``."""
        norms = [name for name, module in self.parts.model.named_modules() if isinstance(module, _BatchNorm)]
        told = f"; batch norm ({listing(norms, 2)}) sees so many only, which changes what it does" if norms else ""
        self._watcher.line(
            f"out of memory: from step {self.totals.step + 1} on {count(samples, 'sample')} at once go through the "
            f"model, and their gradients are added up (trainer.on_oom=split){told}"
        )

    def state(self) -> State:
        """All that it would need to go on from here.

        Raises:
            EncodeError: a component keeps something that is no number, text or tensor.
        """
        parts, writer = self.parts, Encoder()
        weights = parts.model.state_dict()
        known = [each for each in (*weights.values(), *parts.model.parameters()) if isinstance(each, Tensor)]
        node = {
            "totals": writer.node(vars(self.totals).copy(), "totals"),
            "model": {name: writer.node(value, f"model.{name}") for name, value in weights.items()},
            "rest": capture(parts.model, "rest", writer, known),
            "loss": capture(parts.loss, "loss", writer),
            "optimizer": writer.node(parts.optimizer.state_dict(), "optimizer"),
            "optimizer_rest": capture(
                parts.optimizer, "optimizer_rest", writer, [*known, *_tensors_of(parts.optimizer)]
            ),
            "scheduler": writer.node(parts.scheduler.state_dict(), "scheduler"),
            "scaler": writer.node(self._stepper.scaler.state_dict(), "scaler"),
            "most": self._stepper.most,
            "random": writer.node(random_state(parts.device), "random"),
            "tally": self._tally.state(writer),
        }
        return State(node, writer.tensors)

    def load_state(self, state: State) -> None:
        """Goes on from there.

        Raises:
            DecodeError: it is the state of another training.
        """
        parts, node, reader = self.parts, state.node, Decoder(state.tensors, self.parts.device)
        try:
            self.totals = self._totals_of(reader.value(node["totals"]))
            load_weights(parts.model, reader.value(node["model"]))
            load_rest(parts, state, reader)
            _load_optimizer(parts.optimizer, reader.value(node["optimizer"]))
            restore(parts.optimizer, node["optimizer_rest"], reader)
            parts.scheduler.load_state_dict(reader.value(node["scheduler"]))
            self._stepper.scaler.load_state_dict(reader.value(node["scaler"]))
            self._stepper.most = most_at_once(state)
            float(parts.optimizer.param_groups[0]["lr"])  # every step begins with it
            self._tally.load_state(node["tally"], reader)
            set_random_state(reader.value(node["random"]), parts.device)
        except DecodeError:
            raise
        except (Exception, SystemExit) as error:  # a stranger's code may raise anything
            raise DecodeError(one_line(error)) from error

    def _totals_of(self, values: dict[str, Any]) -> Totals:
        totals = Totals(**values)
        for name, fresh in vars(Totals()).items():
            value = values.get(name, fresh)
            if not isinstance(value, _KINDS[type(fresh)]) or (isinstance(value, int) and value < 0):
                raise DecodeError(f"totals.{name} is {value!r}")
        if totals.taken > self._steps:
            raise DecodeError(f"{totals.taken} steps are taken of an epoch that has {self._steps}")
        return totals


class _Asked(Exception):
    """A signal asks an evaluation to stop."""

    def __init__(self, signal: int) -> None:
        self.signal = signal


def load_rest(parts: Parts, state: State, reader: Decoder) -> None:
    """Gives model and loss what they held beside the weights when a training was saved.

    Raises:
        DecodeError: it is the state of another training.
        LookupError: it lacks one of them.
    """
    if state.node is not None:  # format 1 held the weights only
        restore(parts.model, state.node["rest"], reader)
        restore(parts.loss, state.node["loss"], reader)


def most_at_once(state: State) -> int | None:
    """How many samples went through the model at once where memory had run out; None is as many as a batch has.

    Raises:
        DecodeError: it is no state of a training.
    """
    most = state.node and state.node.get("most")
    if most is not None and not (type(most) is int and most > 0):
        raise DecodeError(f"no number of samples that fit into the memory: {most!r}")
    return most


def _falls_on(number: int, every: int) -> bool:
    return every > 0 and number % every == 0


def _tensors_of(optimizer: Optimizer) -> list[Tensor]:
    """What the optimizer's ``state_dict`` holds."""
    kept = [value for state in optimizer.state.values() for value in state.values()]
    return [value for value in kept if isinstance(value, Tensor)]


def _load_optimizer(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Gives it its state again, every value of the type that it had: torch makes all of them like their parameter."""
    optimizer.load_state_dict(saved)
    if type(optimizer).load_state_dict is not Optimizer.load_state_dict:
        return
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        if number in saved["state"]:
            optimizer.state[parameter] = saved["state"][number]


@contextmanager
def manual_gc() -> Iterator[Callable[[], None]]:
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


@contextmanager
def preserve_state(parts: Parts) -> Iterator[None]:
    """Leaves the model, the loss and the random numbers after the block as they were before it."""
    modes = [(module, module.training) for module in parts.model.modules()]
    writer = Encoder()
    model = capture(parts.model, "model", writer, list(parts.model.parameters()))
    loss = capture(parts.loss, "loss", writer)
    with preserve_rng_state():
        try:
            yield
        finally:
            reader = Decoder(writer.tensors, parts.device)
            restore(parts.model, model, reader)
            restore(parts.loss, loss, reader)
            for module, mode in modes:
                module.training = mode


def evaluate(
    parts: Parts,
    batches: BatchLoader,
    stop_signal: Callable[[], int | None] = lambda: None,
    most: int | None = None,
) -> dict[str, float]:
    """The mean loss and every metric over a split, in eval mode and without gradients; changes nothing else.

    Args:
        parts: what is evaluated.
        batches: of the split.
        stop_signal: is asked after each batch whether to stop.
        most: samples that go through the model at once; None is as many as a batch has.
    """
    with preserve_state(parts), torch.inference_mode():
        parts.model.eval()
        tally = RunningMetrics(parts, parts.eval_metrics)
        for batch in batches.epoch():
            for inputs, targets in [batch] if most is None else pieces(batch, most):
                scores = parts.forward(inputs)
                tally.add(scores, targets, parts.mean_loss(scores, targets))
            if signal := stop_signal():
                raise _Asked(signal)
        return tally.figures()


@torch.inference_mode()
def sample_losses(parts: Parts, batches: BatchLoader, most: int | None = None) -> Tensor | None:
    """The loss of each sample ``[N]``, in the order of the split; None where the loss gives one value a batch.

    ``most`` is as in ``evaluate``.
    """
    parts.model.eval()
    losses = []
    for batch in batches.epoch():
        for inputs, targets in [batch] if most is None else pieces(batch, most):
            loss = parts.loss(parts.forward(inputs), targets)
            if loss.ndim == 0:
                return None
            losses.append(loss.flatten(1).mean(1) if loss.ndim > 1 else loss)
    return torch.cat(losses)
