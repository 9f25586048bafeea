"""Checks, on one small batch and before the first step, that the parts of a run fit each other.

Declared contracts are compared first; then two samples go through the model and the loss, in eval mode and with the
random state put back afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ptb.batches import Batches
from ptb.component import Component
from ptb.device import MEMORY_ERRORS
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
    inputs = f"inputs of {names.dataset}, of shape {spec.input_shape}"
    return MisfitError(f"{names.model} cannot take the {inputs}: {error}; {names.remedy}")


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
    """Takes two samples of each split and holds them against the spec.

    Args:
        parts: the built run.
        spec: what the data set says of itself.
        names: what to call the parts in messages.

    Raises:
        DataError: a split is empty, or its samples are not what the spec says.
    """
    for name, batches in {**parts.evaluation, "train": parts.train}.items():
        if len(batches) == 0:
            dropped = f": loader.drop_last leaves none of its {batches.size} samples" if batches.size else ""
            raise DataError(f"{names.dataset}: the {name} split is empty{dropped}")
        _check_samples(batches, spec, f"{names.dataset}, {name} split", parts.pairs)


def check_forward(parts: Parts, spec: DataSpec, names: Names) -> None:
    """Sends two training samples through the model, the loss and the metrics.

    Raises:
        MisfitError: one of them raises, or gives a tensor of another shape; the message names both parties and shapes.
    """
    inputs, targets = _probe(parts.train, names.dataset)
    was_training = parts.model.training
    with isolated(), torch.no_grad():
        parts.model.eval()
        try:
            scores = parts.forward(inputs)
        except MEMORY_ERRORS:
            raise
        except Exception as error:  # a stranger's model may raise anything
            raise MisfitError(
                f"{names.model} raised on samples of {names.dataset}, of shape {spec.input_shape}: {one_line(error)}; "
                f"if that shape does not suit it, {names.remedy}"
            ) from error
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
            except MEMORY_ERRORS:
                raise
            except Exception as error:
                raise MisfitError(f"metric '{label}' cannot take the scores and targets: {one_line(error)}") from error
            metric.reset()


def _check_samples(batches: Batches, spec: DataSpec, place: str, pairs: bool) -> None:
    inputs, targets = _probe(batches, place)
    count = len(inputs)
    shape = (count, 2, *spec.input_shape) if pairs else (count, *spec.input_shape)
    if tuple(inputs.shape) != shape:
        raise DataError(
            f"{place}: the spec says inputs of shape {shape[1:]}, the samples have {tuple(inputs.shape[1:])}"
        )
    if not bool(torch.isfinite(inputs).all()):
        raise DataError(f"{place}: the first samples hold values that are not finite")
    wanted_shape, wanted_dtype = _target_form(spec, count)
    if tuple(targets.shape) != wanted_shape or targets.dtype != wanted_dtype:
        raise DataError(
            f"{place}: targets of kind '{spec.target}' are {_form(wanted_shape, wanted_dtype)}; "
            f"the first {count} samples give {_form(tuple(targets.shape), targets.dtype)}"
        )


def _check_loss(parts: Parts, scores: Tensor, targets: Tensor, names: Names) -> None:
    try:
        value = parts.loss(scores, targets)
    except MEMORY_ERRORS:
        raise
    except Exception as error:
        raise MisfitError(
            f"{names.loss} cannot take scores {_form(tuple(scores.shape), scores.dtype)} with the targets of "
            f"{names.dataset} {_form(tuple(targets.shape), targets.dtype)}: {one_line(error)}"
        ) from error
    if not isinstance(value, Tensor) or value.ndim != 0:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise MisfitError(f"{names.loss} must give a scalar tensor, it gives {got}")


def _probe(batches: Batches, place: str) -> tuple[Tensor, Tensor]:
    try:
        with isolated():
            return batches.probe(PROBE_SAMPLES)
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
    except MEMORY_ERRORS:
        raise
    except Exception as error:  # a stranger's data set may raise anything
        raise DataError(f"{place}: reading the first samples failed: {one_line(error)}") from error


def _target_form(spec: DataSpec, count: int) -> tuple[tuple[int, ...], torch.dtype]:
    if spec.target == "class":
        return (count,), torch.int64
    return ((count,) if spec.target == "similarity" else (count, spec.output_size)), torch.float32


def _form(shape: tuple[int, ...], dtype: torch.dtype) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"
