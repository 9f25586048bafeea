"""Checks before the first step, on copies, that the parts of a run fit each other and can be saved.

Two samples go through the model, the loss and the metrics in eval mode, then through ``Trainer.train_step``; then the
state is saved and loaded by the trainer's own code, and what does not come back is reported with its component.
"""

import math
import warnings
from contextlib import nullcontext
from functools import partial
from numbers import Real
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ptb.data.batch import map_leaves
from ptb.device import is_memory_error
from ptb.errors import IncompatibleError, PtbError, count, listing, one_line
from ptb.runs.assembly import Assembly
from ptb.runs.blame import explaining, name_of
from ptb.runs.data_check import first_samples, form
from ptb.runs.state_check import lost_state
from ptb.training.metrics import RunningMetrics
from ptb.training.objective import scores_of

WALKED_STEPS = 1000  # of a schedule, which take some milliseconds


class _NoModules(nullcontext[None]):
    """Stands in for torch's tracker of modules, which fails where one is called with a parameter under no_grad."""

    parents = ("Global",)


class Preflight:
    """Tries a run on copies of its model and loss, which stay as they are."""

    def __init__(self, assembly: Assembly, model: nn.Module, loss: object, memory_format: str) -> None:
        self._assembly = assembly
        self._names = {section: name_of(each) for section, each in assembly.config.components().items()}
        self._trial = partial(assembly.trial, model, loss, memory_format)
        self.figures = ["loss"]  # what an evaluation reports
        self.trainer = self._trial()
        self._batch = first_samples(self.trainer.train_loader, self._names["dataset"])

    def check_forward(self) -> None:
        """Send two training samples through the model, the loss and the metrics, in eval mode."""
        trainer, names = self.trainer, self._names
        trainer.calls.now = "model"
        known = {id(parameter) for parameter in trainer.model.parameters()}
        trainer.model.eval()
        with torch.no_grad():
            with explaining(
                IncompatibleError,
                f"{names['model']} raised on samples of {names['dataset']}, of shape {self._assembly.spec.input_shape}",
                f"; if that shape does not suit it, {self._assembly.shape_remedy}",
            ):
                outputs = trainer.objective.forward(self._batch.inputs)
            if made := [name for name, each in trainer.model.named_parameters() if id(each) not in known]:
                raise IncompatibleError(
                    f"{names['model']} makes parameters in its forward pass ({listing(made)}), which no optimizer "
                    "would train; make them in its constructor"
                )
            self._check_scores(outputs)
            loss = self._check_loss(outputs)
            with explaining(IncompatibleError, f"predictions() of {names['loss']} cannot take the scores"):
                scores = trainer.objective.predictions(outputs)
            self._check_predictions(scores)
            for label, metric in trainer.eval_metrics.items():
                message = f"metric '{label}' cannot take the scores {form(scores)} and targets"
                with explaining(IncompatibleError, message), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # two samples are too few for many a figure
                    figures = RunningMetrics(trainer.objective, {label: metric})
                    figures.add(scores, self._batch, loss.detach())
                    self.figures += [name for name in figures.compute() if name != "loss"]
                    metric.reset()

    def check_step(self) -> float:
        """Take one step on two samples, and return about how many floating-point operations a step of the run takes."""
        trainer = self.trainer
        trainer.calls.now = "model"
        trainer.model.train()
        counter = FlopCounterMode(display=False)
        counter.mod_tracker = _NoModules()  # type: ignore[assignment]
        try:
            with counter:
                trainer.try_step([self._batch])
        except (Exception, SystemExit) as error:  # a component may raise anything
            section = trainer.calls.now
            if isinstance(error, PtbError) or is_memory_error(error) or section.startswith("callbacks."):
                raise  # nothing else has to fit a callback
            raise IncompatibleError(self._explanation(section, error)) from error
        self._warn_of_missing_gradients()
        self._check_smallest_batch()
        batch = trainer.train_loader.batch_size * trainer.settings.accumulate
        return counter.get_total_flops() / self._batch.size * batch

    def check_schedule(self) -> None:
        """Walk a scheduler of its own through the run, at most ``WALKED_STEPS``: a step needs a learning rate."""
        optimizer, name, total = self.trainer.optimizer, self._names["scheduler"], self._assembly.total_steps
        groups = optimizer.param_groups
        before = [dict(group) for group in groups]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of steps of a scheduler without those of its optimizer
            scheduler = self._assembly.scheduler(optimizer)
            for step in range(1, min(total, WALKED_STEPS) + 1):
                with explaining(IncompatibleError, f"{name} cannot take step {step} of {total}"):
                    scheduler.step()
                for lr in (group["lr"] for group in groups if "lr" in group) if step < total else ():
                    if not isinstance(lr, Tensor | Real) or not 0 <= float(lr) < math.inf:
                        raise IncompatibleError(
                            f"{name} sets the learning rate to {lr!r} after step {step} of {total}; it must be a "
                            "number of at least 0"
                        )
        for group, values in zip(groups, before, strict=True):
            group.update(values)

    def lost_state(self) -> dict[str, str]:
        """What each component would lose in a checkpoint after that step, by its section."""
        return lost_state(self.trainer, self._trial(), [self._batch], self._names)

    def _check_scores(self, outputs: object) -> None:
        names, spec, targets = self._names, self._assembly.spec, self._batch.targets
        if isinstance(outputs, dict) and "scores" not in outputs:
            raise IncompatibleError(
                f"{names['model']} returns a dict of {listing(list(outputs))}; what the loss takes must be in it under "
                "'scores'"
            )
        scores = outputs["scores"] if isinstance(outputs, dict) else outputs
        if not isinstance(scores, Tensor):
            raise IncompatibleError(f"{names['model']} must give a tensor of scores, it gives {type(scores).__name__}")
        if spec.target == "none":  # only the loss knows what it takes
            return
        pair = (2,) if self.trainer.objective.pairs else ()
        positions = targets.shape[len(targets.shape) - len(spec.positions) :]
        width = getattr(self.trainer.objective.loss, "output_size", spec.output_size)
        wanted = (self._batch.size, *pair, width, *positions)
        if tuple(scores.shape) != wanted:
            raise IncompatibleError(
                f"{names['model']} must give scores of shape {wanted} for {names['dataset']}, it gives "
                f"{tuple(scores.shape)}"
            )

    def _check_predictions(self, scores: Tensor) -> None:
        """Metrics compare what they get with the targets: scores of another width would give them any figure."""
        spec, loss = self._assembly.spec, self._names["loss"]
        if spec.target in ("none", "similarity") or scores.shape[1] == spec.target_size:
            return
        if hasattr(self.trainer.objective.loss, "predictions"):
            raise IncompatibleError(
                f"predictions() of {loss} must give {count(spec.target_size, 'score')} for a target of "
                f"{self._names['dataset']}, it gives {scores.shape[1]}"
            )
        if metrics := [*self.trainer.eval_metrics]:
            warnings.warn(
                f"{loss} takes {count(scores.shape[1], 'score')} for {spec.target_size}, and has no "
                f"predictions(scores) that says what they predict: {listing(metrics)} get them as they are; "
                "metrics={} leaves metrics out",
                stacklevel=2,
            )

    def _check_loss(self, outputs: Any) -> Tensor:
        objective, names, batch = self.trainer.objective, self._names, self._batch
        parties = f"scores {form(scores_of(outputs))} with the targets of {names['dataset']} {form(batch.targets)}"
        with explaining(IncompatibleError, f"{names['loss']} cannot take {parties}"):
            value = objective.loss_values(outputs, batch.targets)
            objective.denominator(batch.targets, batch.weights)  # the figures need it, and metrics are not to blame
        if not isinstance(value, Tensor) or (value.ndim and len(value) != batch.size):
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise IncompatibleError(f"{names['loss']} must give a scalar tensor or one value a sample, it gives {got}")
        if self._assembly.has_weights and not value.ndim:
            raise IncompatibleError(
                f"{names['loss']} gives one value for a batch, and the samples of {names['dataset']} have weights: "
                "choose a loss that can give one value a sample (reduction 'none')"
            )
        with explaining(IncompatibleError, f"the term 'loss' of {names['model']} cannot be added"):
            loss = objective.mean_loss(outputs, batch)
        if self.trainer.settings.accumulate > 1 or self._assembly.pieces > 1:
            self._check_shares(outputs)
        return loss

    def _check_shares(self, outputs: Any) -> None:
        """Gradients can only be accumulated where the loss of a batch is made of those of its parts."""
        objective, batch = self.trainer.objective, self._batch
        if isinstance(outputs, dict):  # the model's own term is a mean, whatever it is the mean of
            outputs = {name: each for name, each in outputs.items() if name != "loss"}
        message = (
            f"the loss of a batch by {self._names['loss']} is not made of the losses of its samples, so gradients "
            "cannot be accumulated, and batches cannot be cut: leave out trainer.accumulate, --nproc and "
            "trainer.virtual_shards, and choose loader.batch_size as large as it should be"
        )
        if getattr(objective.loss, "couples_samples", False):
            raise IncompatibleError(message)
        parts = [batch.map(itemgetter(slice(n, n + 1))) for n in range(batch.size)]
        with explaining(IncompatibleError, message):
            losses = [objective.mean_loss(_of_sample(outputs, n, batch.size), part) for n, part in enumerate(parts)]
        divisor = objective.divisor(parts)
        shares = [objective.share(loss, part, divisor) for loss, part in zip(losses, parts, strict=True)]
        if not torch.isclose(torch.stack(shares).sum(), objective.mean_loss(outputs, batch), rtol=1e-3):
            raise IncompatibleError(message)

    def _explanation(self, section: str, error: BaseException) -> str:
        """Why no step can be taken, with the component that was being called."""
        names = self._names
        if section == "scheduler":
            what = f"{names[section]} cannot take a step, which is step() without arguments"
        elif section.startswith("optimizer"):
            what = f"{names[section]} cannot take a step on {names['model']}"
        elif section.startswith("metrics."):
            what = f"{names[section]} cannot be used"
        else:
            what = f"{names['model']} with {names['loss']} cannot be trained"
        sparse = any(each.grad is not None and each.grad.is_sparse for each in self.trainer.model.parameters())
        remedy = (
            f"; the gradients of {names['model']} are sparse: leave weight decay and trainer.clip_norm out, or choose "
            "an optimizer that takes them"
        )
        return f"{what}: {one_line(error)}{remedy if sparse else ''}"

    def _warn_of_missing_gradients(self) -> None:
        parameters = self.trainer.model.named_parameters()
        if unused := [name for name, each in parameters if each.requires_grad and each.grad is None]:
            warnings.warn(
                f"{self._names['model']}: no gradient reaches {listing(unused)}: the scores do not depend on them, and "
                "they stay as they are; use them, or set requires_grad to False",
                stacklevel=2,
            )

    def _check_smallest_batch(self) -> None:
        """Batch norm has no variance over a single value: a last batch of one sample would stop the first epoch."""
        train, pieces = self.trainer.train_loader, self._assembly.pieces
        sizes = {min(train.batch_size, train.samples), train.samples % train.batch_size or train.batch_size}
        if not any(size < 2 * pieces for size in sizes):
            return
        try:
            self.trainer.objective.forward(map_leaves(lambda tensor: tensor[:1], self._batch.inputs))
        except ValueError as error:
            raise IncompatibleError(
                f"{self._names['model']} cannot train on a batch of one sample, and with loader.batch_size="
                f"{train.batch_size} the last one of {count(train.samples, 'sample')} has one: {one_line(error)}; set "
                "loader.drop_last=true, or choose another loader.batch_size"
            ) from error


def _of_sample(outputs: Any, number: int, size: int) -> Any:
    """What of the outputs belongs to one of ``size`` samples; what has no sample dimension is kept."""
    if isinstance(outputs, dict):
        return {name: _of_sample(each, number, size) for name, each in outputs.items()}
    has_samples = isinstance(outputs, Tensor) and outputs.shape[:1] == (size,)
    return outputs[number : number + 1] if has_samples else outputs
