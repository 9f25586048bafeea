"""The training loop. It knows built objects only: no registry, no config file, no files.

One epoch, in the order of every PyTorch tutorial: train mode (1), a batch on the device (2), zero the gradients (3),
forward (4), loss (5), backward (6), optimizer step (7).
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from math import isfinite
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ptb.config.sections import TrainerSettings
from ptb.data.loader import BatchLoader
from ptb.training.blame import StopRequested, fitting
from ptb.training.callback_list import CallbackList
from ptb.training.evaluation import borrowed, evaluate, fresh
from ptb.training.finite import FiniteCheck, abort_non_finite, check_scale, non_finite_tensors
from ptb.training.metrics import RunningMetrics
from ptb.training.objective import Objective
from ptb.training.optimizers import closure_after, learning_rates
from ptb.training.protocols import Batch, Metric, Processes, Scheduler, SharedGradients
from ptb.training.state import TrainState
from ptb.training.step import Agreed, StepOutput, wrap_step

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # of a checkpoint


class Trainer:
    """A training that can stop after any step and resume as if it had not."""

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
        create_graph: bool = False,
    ) -> None:
        self.model = objective.model
        self.objective = objective
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.train_loader = train_loader
        self.eval_loaders = dict(eval_loaders)
        self.settings = settings
        self.device = objective.device
        self.calls = objective.calls
        # Measured on the training batches as they pass; those of evaluations are other objects.
        self.train_metrics = RunningMetrics(objective, train_metrics or {})
        self.eval_metrics = dict(eval_metrics or {})
        self.callbacks = callbacks or CallbackList()
        self.state = TrainState()
        self.epoch_steps = -(-len(train_loader) // settings.accumulate)
        self.requested_labels: set[str] = set()
        self.saved_step: int | None = None  # of the newest checkpoint
        self.run: Any = None  # what observers see of the run directory; None where nothing is recorded
        self.finished = False  # training has come to its end, and on_fit_end was called
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=objective.autocast_dtype is torch.float16)
        self.needs_closure = needs_closure  # the optimizer evaluates the loss several times a step (LBFGS)
        self.create_graph = create_graph  # it differentiates the gradients (AdaHessian)
        self.shared: SharedGradients | None = None  # of the pieces of a batch; None where it is whole
        self._agreed = Agreed()
        self._nothing = torch.zeros((), device=self.device)  # the loss of a piece without samples
        # A mask may hold infinities from the start.
        self.calls.now = "model"
        self.initially_non_finite = non_finite_tensors(self.model)
        self._finite = FiniteCheck(self.device)
        self._began = 0.0
        # The first actor is the outermost.
        self._take_step: Callable[[Sequence[Batch]], StepOutput] = self.train_step
        for section, around_step in reversed(self.callbacks.actor_methods["around_step"]):
            self._take_step = wrap_step(section, partial(around_step, self), self._take_step, self.calls)

    def fit(self, stop_after: int | None = None) -> TrainState:
        """Train; save and stop after the optimizer step ``stop_after``.

        Every iteration starts from a state that a checkpoint can hold, so a run resumes at its top.

        Raises:
            NumericalError: a loss, gradient or weight is not finite; nothing is saved after that.
            Exception: what a component raised; ``calls.now`` has its section.
        """
        state, callbacks = self.state, self.callbacks
        with fitting(self):
            # This also does what a stopped run still owes: an evaluation, a checkpoint.
            callbacks.on_fit_start(self)
            while not self.is_over and not self._is_asked_to_stop:
                batches = self._begin_epoch()  # 1 train mode
                callbacks.on_epoch_start(self)
                while micro_batches := self._next(batches):  # 2 to the device
                    output = self._take_step(micro_batches)  # 3 to 7: train_step, inside around_step of actors
                    self._advance(output)
                    callbacks.on_step_end(self, output)
                    # At max_steps or max_time the epoch ends early, and everything that belongs to its end follows.
                    if self._limit_reached:
                        break
                    # Also after the last step of an epoch: a resumed run finds no batch left, and ends it.
                    if self._is_asked_to_stop or state.step == stop_after:
                        self.stop()
                        return state
                state.end_epoch()
                callbacks.on_epoch_end(self)
            if self.is_over:
                callbacks.on_fit_end(self)
                self.finished = True
            else:
                self.stop()
        return state

    def train_step(self, micro_batches: Sequence[Batch]) -> StepOutput:
        """Take one optimizer step on the gradients of all micro-batches, as of one large batch.

        Raises:
            NonFiniteError: the loss, a gradient or the learning rate is not finite; no step was taken.
        """
        objective, optimizer, scaler, calls = self.objective, self.optimizer, self.scaler, self.calls
        calls.now = "optimizer"
        rates = learning_rates(optimizer)
        shared = self.shared
        if shared is not None:
            shared.begin_step(self.state.step)
        divisor = objective.divisor(micro_batches, None if shared is None else shared.sum_)
        # Of each micro-batch, for the metrics; they wait until the step is taken.
        seen: list[tuple[Tensor, Batch, Tensor]] = []
        totals: list[Tensor] = []

        # Optimizers with a closure call it again, with other weights: only the first call measures the step.
        def compute_gradients() -> Tensor:
            shares = []
            self._zero_gradients()  # 3 zero the gradients
            for number, batch in enumerate(micro_batches):
                if shared is not None:
                    shared.begin(number)
                scores = loss = share = self._nothing
                if batch.size:
                    outputs = objective.forward(batch.inputs)  # 4 forward: [B, C]
                    loss = objective.mean_loss(outputs, batch)  # 5 loss: a scalar
                    share = objective.share(loss, batch, divisor)
                    calls.now = "model"
                    self._backward(scaler.scale(share))  # 6 backward
                    scores = objective.predictions(outputs) if not totals else scores
                shares.append(share.detach())
                if shared is not None:
                    shared.end(self._parameters(), batch.size, shares[-1])
                if not totals:
                    seen.append((scores, batch, loss.detach()))
            total = shares[0] if len(shares) == 1 else torch.stack(shares).sum()
            if shared is not None:
                total = self._combine(shared, total, micro_batches)
            self._check_and_clip(total, rates, micro_batches, check=not totals)
            totals.append(total)
            calls.now = "optimizer"
            return total

        scale = scaler.get_scale()
        first = compute_gradients()
        if self.needs_closure:
            closure = closure_after(first, compute_gradients, self._parameters())
            optimizer.step(closure)  # type: ignore[arg-type]  # it returns a tensor
        else:
            scaler.step(optimizer)  # 7 step; without fp16 the scaler does nothing else
            scaler.update()
        # The scaler leaves out a step on fp16 gradients that overflowed, and makes its scale smaller.
        stepped = scaler.get_scale() >= scale
        if stepped:
            calls.now = "scheduler"
            self.scheduler.step()
        for scores, batch, loss in seen:
            self.train_metrics.add(scores, batch, loss)
        samples = sum(batch.size for batch in micro_batches) if shared is None else self._agreed.samples
        return StepOutput(first, rates[0] if rates else None, samples, stepped)

    def try_step(self, micro_batches: Sequence[Batch], *, begin: bool = True) -> None:
        """Take one step as ``fit`` does, with the actors and nobody else, for trials; ``begin`` starts an epoch."""
        callbacks = self.callbacks
        if begin:
            callbacks.call_actors("on_fit_start", self)
            self.calls.now = "model"
            self.model.train()
            callbacks.call_actors("on_epoch_start", self)
        output = self._take_step(micro_batches)
        self._advance(output)
        callbacks.call_actors("on_step_end", self, output)

    def evaluate(
        self, split: str, saved: Mapping[str, Any] | None = None, metrics: Mapping[str, Metric] | None = None
    ) -> dict[str, float]:
        """The loss and every metric over a split, with the weights of now or of a checkpoint; changes nothing.

        Args:
            split: its name.
            saved: the state of model and loss in a checkpoint.
            metrics: what to compute, and to ask for more afterwards; left out, copies of those of the run.

        Raises:
            StopRequested: a stop was asked for meanwhile.
        """
        values = None
        weights = self.callbacks.evaluation_weights(self) if saved is None else borrowed(self.objective, saved)
        # Suppressed inside: an actor's context manager need not expect exceptions to put its weights back.
        with weights, suppress(StopRequested):
            metrics = metrics or fresh(self.eval_metrics)
            values = evaluate(self.objective, metrics, self.eval_loaders[split], self.check_stop)
        if values is None:
            raise StopRequested
        self.calls.now = ""
        return values

    def request_checkpoint(self, label: str) -> None:
        """Ask for a checkpoint at the end of this step or epoch, kept under ``label`` until the next one of it.

        Raises:
            ValueError: it is no label, or one of the core's own.
        """
        if not LABEL.fullmatch(label) or label.isdigit() or label in ("best", "last"):
            raise ValueError(
                f"a checkpoint cannot have the label {label[:40]!r}: a label is made of letters, digits, '.', '_' and "
                "'-', and is no number; every run has best and last"
            )
        self.requested_labels.add(label)

    def stop(self) -> None:
        """Save the training as it is now, unless the last checkpoint holds just that."""
        if self.saved_step != self.state.step:
            self.callbacks.save(self)

    def check_stop(self) -> None:
        """Called while something is waited for or evaluated, so that a stop is heard soon."""
        # Several processes stop after a step only, and an actor that stops a run at its end has nothing to stop.
        if self.objective.processes is None and (self.stop_signal or (self.state.should_stop and not self.is_over)):
            raise StopRequested

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
    def stop_signal(self) -> int:
        """The signal that stops the training, 0 without one; of several processes the one that all know of."""
        return self.state.stop_signal if self.objective.processes is None else self._agreed.signal

    @property
    def broken_ranks(self) -> tuple[int, ...]:
        """Of several processes those whose loss was not finite in the last step."""
        return self._agreed.broken if self.objective.processes is not None else ()

    @property
    def _limit_reached(self) -> bool:
        """Whether ``max_steps`` or ``max_time`` ends training here."""
        steps, seconds = self.settings.max_steps, self.settings.max_time
        passed = self.state.seconds if self.shared is None else self._agreed.seconds
        return 0 < steps <= self.state.step or 0 < seconds <= passed

    @property
    def _is_asked_to_stop(self) -> bool:
        """Whether to stop after this step: an actor says so, in all processes, or a signal that all know of."""
        return self.state.should_stop or self.stop_signal != 0

    def _begin_epoch(self) -> Iterator[Batch]:
        """The batches that are left of the epoch: a function of seed and epoch, so none is read or drawn to skip it."""
        state = self.state
        if state.epoch_step == 0:
            self.train_metrics.reset()
            state.epoch_start_time = state.seconds
        self.calls.now = "model"
        self.model.train()
        start = min(state.epoch_step * self.settings.accumulate, len(self.train_loader))
        self.calls.now = "dataset"
        return self.train_loader.epoch(state.epoch + 1, start=start)

    def _next(self, batches: Iterator[Batch]) -> list[Batch]:
        """The micro-batches of the next step; none at the end of the epoch."""
        self._began = perf_counter()
        self.calls.now = "dataset"
        return list(islice(batches, self.settings.accumulate * len(self.train_loader.pieces)))

    def _advance(self, output: StepOutput) -> None:
        """Count a step that was taken, or that fp16 gradients made the scaler skip."""
        self.state.advance(output.samples, output.lr, perf_counter() - self._began)
        if not output.stepped:
            self.state.skipped_steps += 1
            check_scale(self)

    def share(self, shared: SharedGradients, processes: Processes | None, pieces: range, piece_count: int) -> None:
        """Take these pieces of each batch from now on, and of evaluations whole batches in turn."""
        self.shared, self.objective.processes = shared, processes
        self.train_loader.pieces, self.train_loader.piece_count = pieces, piece_count

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside it, this process evaluates by itself what it else shares with others."""
        processes, self.objective.processes = self.objective.processes, None
        try:
            yield
        finally:
            self.objective.processes = processes

    def _combine(self, shared: SharedGradients, loss: Tensor, micro_batches: Sequence[Batch]) -> Tensor:
        """The loss of all pieces, whose gradients are in place then; what all processes know now is agreed."""
        state = self.state
        own = [sum(batch.size for batch in micro_batches), state.stop_signal, state.seconds, float(loss.isfinite())]
        loss, of_all = shared.combine(self._parameters(), loss, own)
        samples, signals, seconds, finite = zip(*of_all, strict=True)
        broken = tuple(rank for rank, each in enumerate(finite) if not each)
        self._agreed = Agreed(int(sum(samples)), int(max(signals)), seconds[0], broken)
        return loss

    def _parameters(self) -> list[nn.Parameter]:
        """Those of the optimizer, which an actor may have given others."""
        return [each for group in self.optimizer.param_groups for each in group["params"]]

    def _backward(self, loss: Tensor) -> None:
        if not self.create_graph:
            loss.backward()  # type: ignore[no-untyped-call]
            return
        with warnings.catch_warnings():
            # The cycle that it warns of ends with the next step, which drops the gradients.
            warnings.filterwarnings("ignore", "Using backward.* with create_graph=True")
            loss.backward(create_graph=True)  # type: ignore[no-untyped-call]

    def _zero_gradients(self) -> None:
        self.calls.now = "optimizer"
        if type(self.optimizer).zero_grad is not Optimizer.zero_grad:
            self.optimizer.zero_grad(set_to_none=True)
            return
        # The usual zero_grad does just this, and enters the range of a profiler, which takes 10 us.
        for parameter in self._parameters():
            parameter.grad = None

    def _check_and_clip(
        self, loss: Tensor, rates: Sequence[float], micro_batches: Sequence[Batch], *, check: bool
    ) -> None:
        """Refuse a step on what is not finite, then apply ``clip_norm`` to the gradients."""
        parameters, clip_norm = self._parameters(), self.settings.clip_norm
        checked = gradients = [each.grad for each in parameters if each.grad is not None]
        if clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            norm = nn.utils.get_total_norm(gradients).detach()
            checked = [norm]  # it is finite where all gradients are, unless it overflows
        if self.scaler.is_enabled():
            checked = []  # gradients of fp16 may overflow: then the scaler leaves the step out
        # The second condition waits for the device, once a step.
        if check and not (all(map(isfinite, rates)) and self._finite.all_finite([loss, *checked])):
            abort_non_finite(self, float(loss), micro_batches)
        if clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
