"""Checks before the first step, on copies, that the parts of a run fit each other and can be saved.

Two samples go through the model, the loss and the metrics in eval mode, then through ``Trainer.train_step``; then the
state is saved and loaded by the trainer's own code, and what does not come back is reported with its component.
"""

import warnings
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ptb.device import is_memory_error
from ptb.errors import IncompatibleError, PtbError, count, listing, one_line
from ptb.runs.assembly import Assembly
from ptb.runs.blame import explaining, name_of
from ptb.runs.data_check import first_samples, form
from ptb.runs.state_check import lost_state


class Preflight:
    """Tries a run on copies of its model and loss, which stay as they are."""

    def __init__(self, assembly: Assembly, model: nn.Module, loss: object, memory_format: torch.memory_format) -> None:
        self._assembly = assembly
        self._names = {section: name_of(each) for section, each in assembly.config.components().items()}
        self._trial = partial(assembly.trial, model, loss, memory_format)
        self.trainer = self._trial()
        self._inputs, self._targets = first_samples(self.trainer.train_loader, self._names["dataset"])

    def check_forward(self) -> None:
        """Send two training samples through the model, the loss and the metrics, in eval mode."""
        trainer, names = self.trainer, self._names
        known = {id(parameter) for parameter in trainer.model.parameters()}
        trainer.model.eval()
        with torch.no_grad():
            with explaining(
                IncompatibleError,
                f"{names['model']} raised on samples of {names['dataset']}, of shape {self._assembly.spec.input_shape}",
                f"; if that shape does not suit it, {self._assembly.shape_remedy}",
            ):
                scores = trainer.objective.forward(self._inputs)
            if made := [name for name, each in trainer.model.named_parameters() if id(each) not in known]:
                raise IncompatibleError(
                    f"{names['model']} makes parameters in its forward pass ({listing(made)}), which no optimizer "
                    "would train; make them in its constructor"
                )
            self._check_scores(scores)
            self._check_loss(scores)
            for label, metric in trainer.eval_metrics.items():
                message = f"metric '{label}' cannot take the scores and targets"
                with explaining(IncompatibleError, message), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # two samples are too few for many a figure
                    metric.update(scores, self._targets)
                    metric.compute()
                    metric.reset()

    def check_step(self) -> float:
        """Take one step on two samples, and return about how many floating-point operations a step of the run takes."""
        trainer = self.trainer
        trainer.model.train()
        counter = FlopCounterMode(display=False)
        try:
            with counter:
                trainer.try_step([(self._inputs, self._targets)])
        except (Exception, SystemExit) as error:  # a component may raise anything
            if isinstance(error, PtbError) or is_memory_error(error):
                raise
            raise IncompatibleError(self._explanation(trainer.calls.now, error)) from error
        self._warn_of_missing_gradients()
        self._check_smallest_batch()
        batch = trainer.train_loader.batch_size * trainer.settings.accumulate
        return counter.get_total_flops() / len(self._inputs) * batch

    def lost_state(self) -> dict[str, str]:
        """What each component would lose in a checkpoint after that step, by its section."""
        return lost_state(self.trainer, self._trial(), [(self._inputs, self._targets)], self._names)

    def _check_scores(self, scores: object) -> None:
        names = self._names
        pair = (2,) if self.trainer.objective.pairs else ()
        wanted = (len(self._inputs), *pair, self._assembly.spec.output_size)
        if not isinstance(scores, Tensor) or tuple(scores.shape) != wanted:
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise IncompatibleError(
                f"{names['model']} must give scores of shape {wanted} for {names['dataset']}, it gives {got}"
            )

    def _check_loss(self, scores: Tensor) -> None:
        objective, names, targets = self.trainer.objective, self._names, self._targets
        parties = f"scores {form(scores)} with the targets of {names['dataset']} {form(targets)}"
        with explaining(IncompatibleError, f"{names['loss']} cannot take {parties}"):
            value = objective.loss(scores, targets)
        if not isinstance(value, Tensor) or (value.ndim and len(value) != len(scores)):
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise IncompatibleError(f"{names['loss']} must give a scalar tensor or one value a sample, it gives {got}")

    def _explanation(self, section: str, error: BaseException) -> str:
        """Why no step can be taken, with the component that was being called."""
        names = self._names
        if section in ("optimizer", "scheduler"):
            what = f"{names[section]} cannot take a step on {names['model']}"
        elif section.startswith(("metrics.", "callbacks.")):
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
        train = self.trainer.train_loader
        if train.samples % train.batch_size != 1 and train.batch_size != 1:
            return
        try:
            self.trainer.objective.forward(self._inputs[:1])
        except ValueError as error:
            raise IncompatibleError(
                f"{self._names['model']} cannot train on a batch of one sample, and with loader.batch_size="
                f"{train.batch_size} the last one of {count(train.samples, 'sample')} has one: {one_line(error)}; set "
                "loader.drop_last=true, or choose another loader.batch_size"
            ) from error
