"""Checks, on one small batch and before the first step, that the parts of a run fit each other.

Declared contracts are compared first; then two samples go through the model and the loss, in eval mode and with the
random state put back afterwards.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ptb.component import Component
from ptb.errors import DataError, MisfitError, first_line
from ptb.seeding import isolated
from ptb.spec import DataSpec
from ptb.trainer import Parts

PROBE_SAMPLES = 2


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


def check_batches(parts: Parts, spec: DataSpec, dataset: str) -> None:
    """Takes two training samples and holds them against the spec.

    Args:
        parts: the built run.
        spec: what the data set says of itself.
        dataset: what to call the data set in messages.

    Raises:
        DataError: there are no training batches, or the samples are not what the spec says.
    """
    for name, batches in {"train": parts.train, "val": parts.val, "test": parts.test}.items():
        if batches is not None and len(batches) == 0:
            dropped = f": loader.drop_last leaves none of its {batches.size} samples" if batches.size else ""
            raise DataError(f"{dataset}: the {name} split is empty{dropped}")
    inputs, targets = _probe(parts, dataset)
    count = len(inputs)
    shape = (count, 2, *spec.input_shape) if parts.pairs else (count, *spec.input_shape)
    if tuple(inputs.shape) != shape:
        raise DataError(f"{dataset}: its spec says inputs of shape {shape[1:]}, its samples have {tuple(inputs.shape[1:])}")
    if not bool(torch.isfinite(inputs).all()):
        raise DataError(f"{dataset}: its first samples hold values that are not finite")
    wanted_shape, wanted_dtype = _target_form(spec, count)
    if tuple(targets.shape) != wanted_shape or targets.dtype != wanted_dtype:
        raise DataError(
            f"{dataset}: targets of kind '{spec.target}' are {_form(wanted_shape, wanted_dtype)}; "
            f"its first {count} samples give {_form(tuple(targets.shape), targets.dtype)}"
        )


def check_forward(parts: Parts, spec: DataSpec, model: str, loss: str, dataset: str) -> None:
    """Sends two training samples through the model, the loss and the metrics.

    Raises:
        MisfitError: one of them raises, or gives a tensor of another shape; the message names both parties and shapes.
    """
    inputs, targets = _probe(parts, dataset)
    was_training = parts.model.training
    with isolated(), torch.no_grad():
        parts.model.eval()
        try:
            scores = parts.forward(inputs)
        except Exception as error:  # a stranger's model may raise anything
            raise MisfitError(
                f"{model} cannot take the inputs of {dataset}, of shape {spec.input_shape}: {first_line(error)}"
            ) from error
        finally:
            parts.model.train(was_training)
        wanted = (len(inputs), 2, spec.output_size) if parts.pairs else (len(inputs), spec.output_size)
        if not isinstance(scores, Tensor) or tuple(scores.shape) != wanted:
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise MisfitError(f"{model} must give scores of shape {wanted} for {dataset}, it gives {got}")
        _check_loss(parts, scores, targets, loss, dataset)
        for label, metric in parts.eval_metrics.items():
            try:
                metric.update(scores, targets)
                float(metric.compute())
            except Exception as error:
                raise MisfitError(f"metric '{label}' cannot take the scores and targets: {first_line(error)}") from error
            metric.reset()


def _check_loss(parts: Parts, scores: Tensor, targets: Tensor, loss: str, dataset: str) -> None:
    try:
        value = parts.loss(scores, targets)
    except Exception as error:
        raise MisfitError(
            f"{loss} cannot take scores {_form(tuple(scores.shape), scores.dtype)} with the targets of {dataset} "
            f"{_form(tuple(targets.shape), targets.dtype)}: {first_line(error)}"
        ) from error
    if not isinstance(value, Tensor) or value.ndim != 0:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise MisfitError(f"{loss} must give a scalar tensor, it gives {got}")


def _probe(parts: Parts, dataset: str) -> tuple[Tensor, Tensor]:
    try:
        with isolated():
            return parts.train.probe(PROBE_SAMPLES)
    except DataError as error:
        raise DataError(f"{dataset}: {error}") from error
    except Exception as error:  # a stranger's data set may raise anything
        raise DataError(f"{dataset}: reading its first samples failed: {first_line(error)}") from error


def _target_form(spec: DataSpec, count: int) -> tuple[tuple[int, ...], torch.dtype]:
    if spec.target == "class":
        return (count,), torch.int64
    return ((count,) if spec.target == "similarity" else (count, spec.output_size)), torch.float32


def _form(shape: tuple[int, ...], dtype: torch.dtype) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"
