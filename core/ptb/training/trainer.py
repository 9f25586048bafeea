"""The training loop. It knows built objects only: no registry, no config file, no files.

One epoch, in the order of every PyTorch tutorial: train mode (1), a batch on the device (2), zero the gradients (3),
forward (4), loss (5), backward (6), optimizer step (7).
"""

import gc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ptb.config.sections import TrainerSettings
from ptb.data.loader import BatchLoader
from ptb.device import is_memory_error
from ptb.errors import NumericalError, PtbError, listing
from ptb.training.blame import Calls, ComponentFailed, StopRequested
from ptb.training.callback_list import CallbackList
from ptb.training.evaluation import evaluate, fresh
from ptb.training.finite import FiniteCheck, abort_non_finite, non_finite_tensors
from ptb.training.metrics import RunningMetrics
from ptb.training.objective import Objective
from ptb.training.protocols import Batch, Metric, Scheduler
from ptb.training.state import TrainState
from ptb.training.step import NonFiniteError, StepOutput, TrainStep


class Trainer:
    """A training that can stop after any step and resume as if it had not.

    Args:
        objective: the model and the loss.
        optimizer: over the model's parameters.
        scheduler: of the optimizer's learning rate.
        train_loader: batches of the training split.
        eval_loaders: batches of the splits that can be evaluated, by name.
        settings: the section ``trainer``.
        train_metrics: measured on the training batches as they pass.
        eval_metrics: measured in evaluations; other objects than ``train_metrics``.
        callbacks: in their order.
        needs_closure: the optimizer evaluates the loss several times a step (LBFGS).

    Attributes:
        state: how far training has come.
        saved_step: the step of the newest checkpoint.
        finished: training has come to its end, and ``on_fit_end`` was called.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizer,
        scheduler: Scheduler,
        train_loader: BatchLoader,
        eval_loaders: Mapping[str, BatchLoader],
        settings: TrainerSettings,
        *,
        train_metrics: Mapping[str, Metric] | None = None,
        eval_metrics: Mapping[str, Metric] | None = None,
        callbacks: CallbackList | None = None,
        needs_closure: bool = False,
    ) -> None:
        self.model = objective.model
        self.objective = objective
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.train_loader = train_loader
        self.eval_loaders = dict(eval_loaders)
        self.settings = settings
        self.device = objective.device
        self.calls = Calls()
        self.train_metrics = RunningMetrics(objective, train_metrics or {}, self.calls)
        self.eval_metrics = dict(eval_metrics or {})
        self.callbacks = callbacks or CallbackList()
        self.state = TrainState()
        self.epoch_steps = -(-len(train_loader) // settings.accumulate)
        self.requested_labels: set[str] = set()
        self.saved_step: int | None = None
        self.finished = False
        fp16 = objective.autocast_dtype is torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=fp16)
        self.needs_closure = needs_closure
        # A mask may hold infinities from the start.
        self.initially_non_finite = non_finite_tensors(self.model)
        self._finite = FiniteCheck(self.device)
        self._can_stop = True
        self._began = 0.0
        self._output: StepOutput | None = None
        self._take_step = self._with_actors()

    def fit(self, stop_after: int | None = None) -> TrainState:
        """Train. Every iteration starts from a state that a checkpoint can hold, so a run resumes at its top.

        Args:
            stop_after: the optimizer step after which training is saved and stopped.

        Raises:
            NumericalError: a loss, gradient or weight is not finite; nothing is saved after that.
            ComponentFailed: a component raised; it names the section.
        """
        state, callbacks = self.state, self.callbacks
        with self._running():
            # This also does what a stopped run still owes: an evaluation, a checkpoint.
            callbacks.on_fit_start(self)
            while not self.is_over and not state.should_stop:
                batches = self._begin_epoch()  # 1 train mode
                callbacks.on_epoch_start(self)
                while micro_batches := self._next(batches):  # 2 to the device
                    output = self._take_step(micro_batches)
                    self._advance(output)
                    callbacks.on_step_end(self, output)
                    # At max_steps or max_time the epoch ends early, and everything that belongs to its end follows.
                    if self._limit_reached:
                        break
                    # Also after the last step of an epoch: a resumed run finds no batch left, and ends it.
                    if state.should_stop or state.step == stop_after:
                        self.stop()
                        return state
                self._end_epoch()
                callbacks.on_epoch_end(self)
            if self.is_over:
                callbacks.on_fit_end(self)
                self.finished = True
            else:
                self.stop()
        return state

    def train_step(self, micro_batches: Sequence[Batch]) -> StepOutput:
        """Take one optimizer step on the gradients of all micro-batches, as of one large batch.

        Args:
            micro_batches: inputs and targets, on the device.

        Raises:
            NonFiniteError: the loss or a gradient is not finite; no step was taken.
        """
        objective, scaler, calls = self.objective, self.scaler, self.calls
        lr = self._learning_rate()
        calls.now = "loss"
        divisor = objective.divisor(micro_batches)
        figures: list[tuple[Tensor, Tensor, Tensor]] = []
        step_loss: Tensor | None = None

        # LBFGS calls it several times a step.
        def compute_gradients() -> Tensor:
            nonlocal step_loss
            losses = []
            self._zero_gradients()  # 3 zero the gradients
            for inputs, targets in micro_batches:
                calls.now = "model"
                scores = objective.forward(inputs)  # 4 forward: [B, C]
                calls.now = "loss"
                loss = objective.mean_loss(scores, targets)  # 5 loss: a scalar
                share = objective.share(loss, targets, divisor)
                calls.now = "model"
                scaler.scale(share).backward()  # type: ignore[no-untyped-call]  # 6 backward
                losses.append(share.detach())
                if step_loss is None:
                    figures.append((scores.detach(), targets, loss.detach()))
            total = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
            norm = self._gradient_norm()
            # The one wait for the device. Later calls try other weights, and the optimizer judges their loss.
            if step_loss is None:
                self._check_finite(total, norm, lr, micro_batches)
                step_loss = total
            self._clip_gradients(norm)
            calls.now = "optimizer"
            return total

        scale = scaler.get_scale()
        if self.needs_closure:
            self._step_with_closure(compute_gradients)
        else:
            compute_gradients()
            scaler.step(self.optimizer)  # 7 step; without fp16 the scaler does nothing else
            scaler.update()
        # The scaler leaves out a step on fp16 gradients that overflowed, and makes its scale smaller.
        stepped = scaler.get_scale() >= scale
        if stepped:
            calls.now = "scheduler"
            self.scheduler.step()
        for scores, targets, loss in figures:
            self.train_metrics.add(scores, targets, loss)
        samples = sum(len(targets) for _, targets in micro_batches)
        self._output = StepOutput(torch.zeros(()) if step_loss is None else step_loss, lr, samples, stepped)
        return self._output

    def try_step(self, micro_batches: Sequence[Batch], *, begin: bool = True) -> None:
        """Take one step as ``fit`` does, with the actors and nobody else: for trials on copies.

        Args:
            micro_batches: as in ``train_step``.
            begin: go into train mode and tell the actors that training begins.
        """
        callbacks = self.callbacks
        if begin:
            callbacks.call_actors("on_fit_start", self)
            self.model.train()
            callbacks.call_actors("on_epoch_start", self)
        output = self._take_step(micro_batches)
        self._advance(output)
        callbacks.call_actors("on_step_end", self, output)

    def evaluate(self, split: str) -> dict[str, float]:
        """The loss and every metric over a split, with the weights that are saved; changes nothing.

        Raises:
            StopRequested: ``state.should_stop`` was set meanwhile; never where a callback evaluates.
        """
        caller, values = self.calls.now, None
        # A callback that has done half of its work cannot be stopped and called again.
        self._can_stop = not caller.startswith("callbacks.")
        try:
            # Suppressed inside: an actor's context manager need not expect exceptions to put its weights back.
            with self.callbacks.evaluation_weights(self), suppress(StopRequested):
                metrics, loader = fresh(self.eval_metrics), self.eval_loaders[split]
                values = evaluate(self.objective, metrics, loader, self.calls, self.check_stop)
        finally:
            self._can_stop = True
        if values is None:
            raise StopRequested
        self.calls.now = caller
        return values

    def request_checkpoint(self, label: str) -> None:
        """Ask for a checkpoint at the end of this step or epoch, kept under ``label`` until the next one of it."""
        self.requested_labels.add(label)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to train."""
        state = self.state
        over = state.stopped_early or state.epoch >= self.settings.epochs or self._limit_reached
        return over and state.epoch_step == 0

    @property
    def epoch_is_over(self) -> bool:
        """Whether the step that was just taken is the last one of the epoch."""
        return self.state.epoch_step >= self.epoch_steps or self._limit_reached

    @property
    def epoch_samples(self) -> int:
        """Samples seen in the epoch that has just ended."""
        return self.state.samples - (self.state.epoch - 1) * self.train_loader.samples

    def stop(self) -> None:
        """Save the training as it is now, unless the last checkpoint holds just that."""
        if self.saved_step != self.state.step:
            self.callbacks.save(self)

    def check_stop(self) -> None:
        """Called while something is waited for or evaluated.

        Raises:
            StopRequested: ``state.should_stop`` is set.
        """
        if self.state.should_stop and self._can_stop:
            raise StopRequested

    @property
    def _limit_reached(self) -> bool:
        """Whether ``max_steps`` or ``max_time`` ends training here."""
        steps, seconds = self.settings.max_steps, self.settings.max_time
        return 0 < steps <= self.state.step or 0 < seconds <= self.state.seconds

    def _begin_epoch(self) -> Iterator[Batch]:
        """The batches that are left of the epoch: a function of seed and epoch, so none is read or drawn to skip it."""
        state = self.state
        if state.epoch_step == 0:
            self.train_metrics.reset()
            state.epoch_start_time = state.seconds
        self.model.train()
        start = min(state.epoch_step * self.settings.accumulate, len(self.train_loader))
        self.calls.now = "dataset"
        return self.train_loader.epoch(state.epoch + 1, start=start)

    def _next(self, batches: Iterator[Batch]) -> list[Batch]:
        self._began = perf_counter()
        self.calls.now = "dataset"
        return list(islice(batches, self.settings.accumulate))

    def _with_actors(self) -> Callable[[Sequence[Batch]], StepOutput]:
        """``train_step`` inside ``around_step`` of each actor, the first one outermost."""
        take: Callable[[Sequence[Batch]], StepOutput] = self.train_step
        for section, around in reversed(self.callbacks.around_step):
            take = partial(self._step_around, section, around, take)
        return take

    def _step_around(
        self,
        section: str,
        around: Callable[..., object],
        take: Callable[[Sequence[Batch]], StepOutput],
        micro_batches: Sequence[Batch],
    ) -> StepOutput:
        def take_step(pieces: Sequence[Batch]) -> None:
            take(pieces)
            # What the actor does after the step is its own.
            self.calls.now = section

        self.calls.now = section
        self._output = None
        around(self, TrainStep(micro_batches, take_step))
        if self._output is None:
            raise RuntimeError("around_step did not call step()")
        return self._output

    def _advance(self, output: StepOutput) -> None:
        state = self.state
        state.step += 1
        state.epoch_step += 1
        state.samples += output.samples
        state.lr = output.lr
        state.seconds += perf_counter() - self._began
        if output.stepped:
            return
        state.skipped_steps += 1
        # Below 1 the scale would make small what has overflowed without it.
        if self.scaler.get_scale() < 1:
            raise NumericalError(
                f"the fp16 gradients overflow at step {state.step}, even when they are not scaled up any more (steps "
                f"skipped so far: {state.skipped_steps}): use trainer.precision=bf16 or fp32, or a smaller optimizer.lr"
            )

    def _end_epoch(self) -> None:
        self.state.epoch += 1
        self.state.epoch_step = 0

    def _parameters(self) -> Iterator[nn.Parameter]:
        """Those of the optimizer, which an actor may have given others."""
        return (each for group in self.optimizer.param_groups for each in group["params"])

    def _zero_gradients(self) -> None:
        self.calls.now = "optimizer"
        if type(self.optimizer).zero_grad is not Optimizer.zero_grad:
            self.optimizer.zero_grad(set_to_none=True)
            return
        # The usual zero_grad does just this, and enters the range of a profiler, which takes 10 us.
        for parameter in self._parameters():
            parameter.grad = None

    def _gradient_norm(self) -> Tensor | None:
        """The norm of all gradients, where ``clip_norm`` limits it."""
        if self.settings.clip_norm is None:
            return None
        self.scaler.unscale_(self.optimizer)
        return nn.utils.get_total_norm([each.grad for each in self._parameters() if each.grad is not None]).detach()

    def _clip_gradients(self, norm: Tensor | None) -> None:
        if norm is not None and self.settings.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self._parameters(), self.settings.clip_norm, norm)

    def _check_finite(self, loss: Tensor, norm: Tensor | None, lr: float, micro_batches: Sequence[Batch]) -> None:
        values = [loss]
        # Gradients of fp16 may overflow: then the scaler leaves the step out.
        if not self.scaler.is_enabled():
            gradients = (each.grad for each in self._parameters())
            values += [each for each in gradients if each is not None] if norm is None else [norm]
        if not self._finite.all_finite(values):
            abort_non_finite(self, float(loss), lr, micro_batches)

    def _step_with_closure(self, compute_gradients: Callable[[], Tensor]) -> None:
        optimizer = self.optimizer
        state = {parameter: dict(values) for parameter, values in optimizer.state.items()}
        self.calls.now = "optimizer"
        try:
            optimizer.step(compute_gradients)  # type: ignore[arg-type]  # it returns a tensor
        except NonFiniteError:
            # It may have prepared its first step before it called.
            optimizer.state.clear()
            optimizer.state.update(state)
            raise

    def _learning_rate(self) -> float:
        """That of the first group.

        Raises:
            NumericalError: that of a group is not finite.
        """
        self.calls.now = "optimizer"
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        if not all(map(math.isfinite, rates)):
            raise NumericalError(
                f"the learning rate of step {self.state.step + 1} is {listing([*map(str, rates)])}, and the step was "
                "not taken: look at the scheduler, or choose another"
            )
        return rates[0]

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Ends well in every way: a stop saves, an error is blamed on the component that was called."""
        for loader in (self.train_loader, *self.eval_loaders.values()):
            loader.source.waiting = self.check_stop
        # Otherwise a collection would look through all of torch in the middle of a step.
        gc.freeze()
        try:
            try:
                yield
            except StopRequested:
                self.stop()
        except BaseException as error:
            section = self.calls.now
            self.callbacks.on_exception(self, error)
            if not isinstance(error, Exception | SystemExit) or isinstance(error, PtbError) or is_memory_error(error):
                raise
            raise ComponentFailed(section) from error
        finally:
            gc.unfreeze()
