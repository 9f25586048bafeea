"""Checks before the first step, on copies, that the parts of a run fit each other and can be saved.

Two samples go through the model, the loss and the metrics in eval mode, then through ``Trainer.train_step``; then the
state is saved and loaded by the trainer's own code, and what does not come back is reported with its component.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ptb.data.spec import DataSpec
from ptb.device import is_memory_error
from ptb.errors import IncompatibleError, PtbError, count, listing, one_line
from ptb.registry.component import Component
from ptb.runs.assembly import Assembly
from ptb.runs.blame import name_of
from ptb.runs.data_check import first_samples, form
from ptb.runs.state_check import lost_state
from ptb.training.trainer import Trainer


def check_declared(spec: DataSpec, components: Mapping[str, Component], dataset: str) -> None:
    """Compare what losses and metrics say they accept with the data set's target kind.

    Args:
        spec: of the data set.
        components: those of the run, by section (``loss``, ``metrics.accuracy``).
        dataset: what to call the data set in the message.

    Raises:
        IncompatibleError: one does not take the target kind; the message says which kinds it takes.
    """
    for section, component in components.items():
        if component.accepts and spec.target not in component.accepts:
            kind = section.partition(".")[0].removesuffix("s") if section.startswith("metrics") else section
            raise IncompatibleError(
                f"{kind} '{component.name}' takes targets of kind {' or '.join(component.accepts)}; those of {dataset} "
                f"are '{spec.target}': choose another {kind} or another data set (`ptb list {kind}`)"
            )


class Preflight:
    """Tries a run on copies of its model and loss.

    Args:
        assembly: builds trainers.
        model: of the run; it stays as it is.
        loss: of the run; it stays as it is.
        memory_format: of the copies.
    """

    def __init__(self, assembly: Assembly, model: nn.Module, loss: object, memory_format: torch.memory_format) -> None:
        self._assembly = assembly
        self._names = {section: name_of(each) for section, each in assembly.config.components().items()}
        self._make: Callable[[], Trainer] = lambda: assembly.trial(model, loss, memory_format)
        self.trainer: Trainer = self._make()
        self._inputs, self._targets = first_samples(self.trainer.train_loader, self._names["dataset"])

    def check_forward(self) -> None:
        """Send two training samples through the model, the loss and the metrics, in eval mode.

        Raises:
            IncompatibleError: one of them raises, or gives a tensor of another shape; the message names both, and
                shapes.
        """
        trainer, names, spec = self.trainer, self._names, self._assembly.spec
        model, inputs, targets = trainer.model, self._inputs, self._targets
        known = {id(parameter) for parameter in model.parameters()}
        model.eval()
        with torch.no_grad():
            with _misfit(
                f"{names['model']} raised on samples of {names['dataset']}, of shape {spec.input_shape}",
                f"; if that shape does not suit it, {self._assembly.shape_remedy}",
            ):
                scores = trainer.objective.forward(inputs)
            if made := [name for name, each in model.named_parameters() if id(each) not in known]:
                raise IncompatibleError(
                    f"{names['model']} makes parameters in its forward pass ({listing(made)}), which no optimizer "
                    "would train; make them in its constructor"
                )
            wanted = (len(inputs), *((2,) if trainer.objective.pairs else ()), spec.output_size)
            if not isinstance(scores, Tensor) or tuple(scores.shape) != wanted:
                got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
                raise IncompatibleError(
                    f"{names['model']} must give scores of shape {wanted} for {names['dataset']}, it gives {got}"
                )
            self._check_loss(scores)
            for label, metric in trainer.eval_metrics.items():
                with _misfit(f"metric '{label}' cannot take the scores and targets"), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # two samples are too few for many a figure
                    metric.update(scores, targets)
                    metric.compute()
                    metric.reset()

    def check_step(self) -> float:
        """Take one step on two samples.

        Returns:
            About how many floating-point operations a step of the run takes.

        Raises:
            IncompatibleError: the step cannot be taken; the message names the component that cannot.
        """
        trainer = self.trainer
        trainer.model.train()
        counter = FlopCounterMode(display=False)
        try:
            with counter:
                trainer.try_step([(self._inputs, self._targets)])
        except (Exception, SystemExit) as error:  # a component may raise anything
            if isinstance(error, PtbError) or is_memory_error(error):
                raise
            self._explain(trainer.calls.now, error)
        self._check_gradients()
        self._check_smallest_batch()
        batch = trainer.train_loader.batch_size * trainer.settings.accumulate
        return counter.get_total_flops() / len(self._inputs) * batch

    def lost_state(self) -> list[str]:
        """What a checkpoint after that step would lose, each with its component."""
        return lost_state(self.trainer, self._make(), [(self._inputs, self._targets)], self._names)

    def _explain(self, section: str, error: BaseException) -> None:
        names, sparse = self._names, self._has_sparse_gradients()
        clip = self.trainer.settings.clip_norm
        if sparse and section == "model" and clip is not None:
            raise IncompatibleError(
                f"trainer.clip_norm={clip:g} cannot be used with the gradients of {names['model']}: they are sparse; "
                "leave it out"
            ) from error
        self._check_sparse()
        what = {
            "optimizer": f"{names['optimizer']} cannot take a step on {names['model']}",
            "scheduler": f"{names['scheduler']} cannot be stepped",
        }.get(section, f"{names['model']} with {names['loss']} cannot be trained")
        what = f"{names[section]} cannot be used" if section.startswith(("metrics.", "callbacks.")) else what
        remedy = "; its gradients are sparse: leave weight decay out, or choose optimizer sparse-adam" if sparse else ""
        remedy = remedy if section == "optimizer" else ""
        raise IncompatibleError(f"{what}: {one_line(error)}{remedy}") from error

    def _has_sparse_gradients(self) -> bool:
        return any(each.grad is not None and each.grad.is_sparse for each in self.trainer.model.parameters())

    def _check_gradients(self) -> None:
        trainer, names = self.trainer, self._names
        trained = {name: each for name, each in trainer.model.named_parameters() if each.requires_grad}
        if unused := [name for name, each in trained.items() if each.grad is None]:
            warnings.warn(
                f"{names['model']}: no gradient reaches {listing(unused)}: the scores do not depend on them, and they "
                "stay as they are; use them, or set requires_grad to False",
                stacklevel=2,
            )

    def _check_sparse(self) -> None:
        names, parameters = self._names, self.trainer.model.named_parameters()
        dense = [name for name, each in parameters if each.grad is not None and not each.grad.is_sparse]
        if "sparse-gradients" in self._assembly.config.optimizer.entry.component.needs and dense:
            raise IncompatibleError(
                f"{names['optimizer']} takes sparse gradients only, and {names['model']} gives dense ones to "
                f"{listing(dense)}; choose another optimizer, or a model whose gradients are sparse (embedding-bag "
                "with model.sparse=true)"
            )

    def _check_loss(self, scores: Tensor) -> None:
        objective, names = self.trainer.objective, self._names
        with _misfit(
            f"{names['loss']} cannot take scores {form(scores)} with the targets of {names['dataset']} "
            f"{form(self._targets)}"
        ):
            value = objective.loss(scores, self._targets)
        if not isinstance(value, Tensor) or (value.ndim and len(value) != len(scores)):
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise IncompatibleError(f"{names['loss']} must give a scalar tensor or one value a sample, it gives {got}")

    def _check_smallest_batch(self) -> None:
        """Batch norm has no variance over a single value: a last batch of one sample would stop the first epoch."""
        train = self.trainer.train_loader
        if train.samples % train.batch_size != 1 and train.batch_size != 1:
            return
        try:
            self.trainer.objective.forward(self._inputs[:1])
        except ValueError as error:
            size, remedy = ("loader.batch_size is 1", "choose a larger one")
            if train.batch_size != 1:
                size = f"the last batch of {count(train.samples, 'sample')} has one"
                remedy = "set loader.drop_last=true, or choose another loader.batch_size"
            raise IncompatibleError(
                f"{self._names['model']} cannot train on a batch of one sample, and {size}: {one_line(error)}; {remedy}"
            ) from error


@contextmanager
def _misfit(message: str, remedy: str = "") -> Iterator[None]:
    """Turns what a component raises inside, which may be anything, into an ``IncompatibleError``."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, PtbError) or is_memory_error(error):
            raise
        raise IncompatibleError(f"{message}: {one_line(error)}{remedy}") from error
