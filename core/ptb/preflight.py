"""Checks, on one small batch and before the first step, that the parts of a run fit each other.

Declared contracts are compared first; then two samples go through the model and the loss, in eval mode and with the
random state put back afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptb.component import Component
from ptb.errors import DataError, MisfitError, one_line
from ptb.seeding import isolated
from ptb.spec import DataSpec
from ptb.trainer import Parts

PROBE_SAMPLES = 2


@dataclass(frozen=True)
class Names:
    """What to call the parts of a run in messages, and what changes the shape of the inputs."""

    dataset: str
    model: str
    loss: str
    remedy: str


def inputs_misfit(names: Names, spec: DataSpec, error: Exception) -> MisfitError:
    """The error for a model that cannot take the data set's inputs: both parties, the shape, the reason, the remedy."""
    reason = str(error) if type(error) is ValueError else one_line(error)
    inputs = f"inputs of {names.dataset}, of shape {spec.input_shape}"
    return MisfitError(f"{names.model} cannot take the {inputs}: {reason}; {names.remedy}")


def check_declared(spec: DataSpec, components: Mapping[str, Component]) -> None:
    """Compares what losses and metrics say they accept with the data set's target kind.

    Args:
        spec: of the data set.
        components: those of the run, by section (``loss``, ``metrics.accuracy``).

    Raises:
        MisfitError: one does not take the target kind; the message says which kinds it takes.
    """
    for section, component in components.items():
        if component.accepts and spec.target not in component.accepts:
            kind = section.partition(".")[0].removesuffix("s") if section.startswith("metrics") else section
            raise MisfitError(
                f"{kind} '{component.name}' takes targets of kind {' or '.join(component.accepts)}; the data set's are "
                f"'{spec.target}': choose another {kind} or another data set (`ptb list {kind}`)"
            )


def check_batches(parts: Parts, spec: DataSpec, names: Names) -> None:
    """Takes two training samples and holds them against the spec.

    Args:
        parts: the built run.
        spec: what the data set says of itself.
        names: what to call the parts in messages.

    Raises:
        DataError: there are no training batches, or the samples are not what the spec says.
    """
    for name, batches in {**parts.evaluation, "train": parts.train}.items():
        if len(batches) == 0:
            dropped = f": loader.drop_last leaves none of its {batches.size} samples" if batches.size else ""
            raise DataError(f"{names.dataset}: the {name} split is empty{dropped}")
    inputs, targets = _probe(parts, names)
    count = len(inputs)
    shape = (count, 2, *spec.input_shape) if parts.pairs else (count, *spec.input_shape)
    if tuple(inputs.shape) != shape:
        raise DataError(
            f"{names.dataset}: its spec says inputs of shape {shape[1:]}, its samples have {tuple(inputs.shape[1:])}"
        )
    if not bool(torch.isfinite(inputs).all()):
        raise DataError(f"{names.dataset}: its first samples hold values that are not finite")
    wanted_shape, wanted_dtype = _target_form(spec, count)
    if tuple(targets.shape) != wanted_shape or targets.dtype != wanted_dtype:
        raise DataError(
            f"{names.dataset}: targets of kind '{spec.target}' are {_form(wanted_shape, wanted_dtype)}; "
            f"its first {count} samples give {_form(tuple(targets.shape), targets.dtype)}"
        )


def check_forward(parts: Parts, spec: DataSpec, names: Names) -> None:
    """Sends two training samples through the model, the loss and the metrics.

    Raises:
        MisfitError: one of them raises, or gives a tensor of another shape; the message names both parties and shapes.
    """
    inputs, targets = _probe(parts, names)
    was_training = parts.model.training
    with isolated(), torch.no_grad():
        parts.model.eval()
        try:
            scores = parts.forward(inputs)
        except Exception as error:  # a stranger's model may raise anything
            raise inputs_misfit(names, spec, error) from error
        finally:
            parts.model.train(was_training)
        wanted = (len(inputs), 2, spec.output_size) if parts.pairs else (len(inputs), spec.output_size)
        if not isinstance(scores, Tensor) or tuple(scores.shape) != wanted:
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise MisfitError(f"{names.model} must give scores of shape {wanted} for {names.dataset}, it gives {got}")
        _check_loss(parts, scores, targets, names)
        for label, metric in parts.eval_metrics.items():
            try:
                metric.update(scores, targets)
                float(metric.compute())
            except Exception as error:
                raise MisfitError(f"metric '{label}' cannot take the scores and targets: {one_line(error)}") from error
            metric.reset()


def _check_loss(parts: Parts, scores: Tensor, targets: Tensor, names: Names) -> None:
    try:
        value = parts.loss(scores, targets)
    except Exception as error:
        raise MisfitError(
            f"{names.loss} cannot take scores {_form(tuple(scores.shape), scores.dtype)} with the targets of "
            f"{names.dataset} {_form(tuple(targets.shape), targets.dtype)}: {one_line(error)}"
        ) from error
    if not isinstance(value, Tensor) or value.ndim != 0:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise MisfitError(f"{names.loss} must give a scalar tensor, it gives {got}")


def _probe(parts: Parts, names: Names) -> tuple[Tensor, Tensor]:
    try:
        with isolated():
            return parts.train.probe(PROBE_SAMPLES)
    except DataError as error:
        raise DataError(f"{names.dataset}: {error}") from error
    except Exception as error:  # a stranger's data set may raise anything
        raise DataError(f"{names.dataset}: reading its first samples failed: {one_line(error)}") from error


def _target_form(spec: DataSpec, count: int) -> tuple[tuple[int, ...], torch.dtype]:
    if spec.target == "class":
        return (count,), torch.int64
    return ((count,) if spec.target == "similarity" else (count, spec.output_size)), torch.float32


def _form(shape: tuple[int, ...], dtype: torch.dtype) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"
