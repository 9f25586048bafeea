"""Checks before training that the samples of a data set are what its spec says."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ptb.data.batch import Batch
from ptb.data.loader import BatchLoader
from ptb.data.spec import MAIN, DataSpec, InputSpec
from ptb.errors import DataError, count, tidy
from ptb.runs.blame import explaining
from ptb.seeding import preserve_rng_state
from ptb.training.objective import HIDDEN

PROBE_SAMPLES = 2
# Reading samples one by one takes long: then so many are looked at. Of those in memory all are, CHUNK at a time, or
# about CHUNK of them where they need more than SCAN_BYTES.
SCAN_SAMPLES = 64
SCAN_BYTES = 1 << 30
CHUNK = 4096

Ignored = Callable[[Any], "Tensor | None"]


def check_data(
    loaders: Mapping[str, BatchLoader], spec: DataSpec, ignored: Ignored, dataset: str, probabilities: bool = False
) -> None:
    """Compare samples of every split with the spec.

    ``ignored`` says which targets of a batch the loss leaves out, as a mask ``[B, *positions]`` or None;
    ``probabilities`` whether it takes those of the classes ``[B, C]`` as targets too.
    """
    for name, batches in loaders.items():
        split = "train" if name == "fit" else name
        place = f"{dataset}, {split} split"
        if batches.size == 0:
            raise DataError(f"{dataset}: the {split} split is empty")
        if len(batches) == 0:
            raise DataError(
                f"{place}: loader.drop_last leaves none of its {count(batches.size, 'sample')}; choose a smaller "
                "loader.batch_size, or leave drop_last out"
            )
        if name == "fit":
            _check_augment(batches, spec, place, probabilities)
        else:
            _check_form(batches, spec, place)
            _check_values(batches, spec, place, ignored)


def first_samples(batches: BatchLoader, place: str) -> Batch:
    """The first samples of a split as a batch."""
    with explaining(DataError, f"{place}: reading the first samples failed"), preserve_rng_state():
        return batches.first_batch(PROBE_SAMPLES)


def form(tree: object) -> str:
    """Type and shape for people: ``float32 [2, 3]``."""
    if isinstance(tree, dict):
        return f"{{{', '.join(f'{name}: {form(each)}' for name, each in tree.items())}}}"
    if not isinstance(tree, Tensor):
        return type(tree).__name__
    return f"{str(tree.dtype).removeprefix('torch.')} {list(tree.shape)}"


def _check_form(batches: BatchLoader, spec: DataSpec, place: str) -> None:
    batch = first_samples(batches, place)
    varies = batches.source.collate is not None
    _check_inputs(batch.inputs, spec, place, varies)
    if spec.target == "none":
        # The loader has put the inputs in their place.
        if isinstance(batches.source.take(torch.arange(1)).targets, Tensor):
            raise DataError(
                f"{place}: the spec says target 'none', and the samples have targets; give the inputs alone"
            )
        return
    dtype = torch.int64 if spec.target == "class" else torch.float32
    width = () if spec.target in ("class", "similarity") else (spec.output_size,)
    positions = spec.positions
    if varies and isinstance(batch.targets, Tensor):
        positions = tuple(map(min, positions, batch.targets.shape[1 + len(width) :]))
    wanted = torch.empty((batch.size, *width, *positions), dtype=dtype, device="meta")
    if form(batch.targets) != form(wanted):
        raise DataError(
            f"{place}: targets of kind '{spec.target}' are {form(wanted)}; the first {count(batch.size, 'sample')} "
            f"give {form(batch.targets) if isinstance(batch.targets, Tensor) else 'none'}"
        )


def _check_inputs(inputs: Any, spec: DataSpec, place: str, varies: bool) -> None:
    """Each input must have the shape that the spec says, or at most that where a ``collate`` makes the batches."""
    wanted = spec.all_inputs()
    named = inputs if isinstance(inputs, dict) else {MAIN: inputs}
    if isinstance(inputs, dict) != bool(spec.fields) or named.keys() != wanted.keys():
        raise DataError(
            f"{place}: by the spec, the inputs are "
            f"{'a dict of ' + ', '.join(wanted) if spec.fields else 'one tensor'}; the samples give {form(inputs)}"
        )
    for name, each in wanted.items():
        shape = (2, *each.shape) if spec.target == "similarity" else each.shape
        got = tuple(named[name].shape[1:])
        smaller = varies and len(got) == len(shape) and all(map(operator.le, got, shape))
        if got != shape and not smaller:
            what = "inputs" if not spec.fields else f"'{name}'"
            raise DataError(f"{place}: the spec says {what} of shape {shape}, the samples have {got}")


def _check_augment(batches: BatchLoader, spec: DataSpec, place: str, probabilities: bool) -> None:
    if batches.augment is None:
        return
    batch = first_samples(batches, place)
    with explaining(DataError, f"{place}: augment failed"), preserve_rng_state():
        augmented = batches.augmented(batch, 1, torch.arange(batch.size))
    if spec.target_form == "class" and form(augmented.targets) == f"float32 {[batch.size, spec.target_size]}":
        if not probabilities:
            raise DataError(
                f"{place}: augment makes probabilities of the classes, as mixup does, and the loss takes classes only; "
                "choose a loss with `takes_probabilities`, such as the default one, or no such augment"
            )
        augmented = augmented._replace(targets=batch.targets)
    for before, after, what in zip(batch, augmented, ("inputs", "targets"), strict=False):
        if form(after) != form(before):
            raise DataError(
                f"{place}: augment makes {form(after)} of {what} {form(before)}; it must keep shape and type"
            )


def _check_values(batches: BatchLoader, spec: DataSpec, place: str, ignored: Ignored) -> None:
    """Look for inputs and targets that are not valid, and name the first sample that has some."""
    order, varies = _scanned(batches), batches.source.collate is not None
    used = 0
    for indices in torch.split(order, CHUNK):
        with explaining(DataError, f"{place}: reading {count(len(order), 'sample')} failed"), preserve_rng_state():
            inputs, targets, weights = batches.source.take(indices)
            shown = inputs if batches.transform is None or not varies else batches.transform(inputs)
        if varies:  # later samples may be larger than the first
            _check_inputs(shown, spec, place, varies)
        if spec.target != "none":
            wrong, valid = _wrong_targets(targets, spec)
            mask = ignored(targets)
            mask = torch.zeros_like(wrong) if mask is None else mask.view(*mask.shape, *(1,) * (wrong.ndim - mask.ndim))
            used += int((~mask).sum())
            if (bad := _first(wrong & ~mask)) is not None:
                # Of a class at each position, only the values that are not valid.
                of_positions = spec.positions and spec.target == "class"
                shown = (targets[bad][(wrong & ~mask)[bad]].unique() if of_positions else targets[bad]).tolist()
                raise DataError(
                    f"{place}: the target of sample {int(indices[bad])} is {tidy(str(shown), 80)}; valid are {valid}"
                )
        if weights is not None and (bad := _first(~(torch.isfinite(weights) & (weights >= 0)))) is not None:
            raise DataError(
                f"{place}: the weight of sample {int(indices[bad])} is {weights[bad]}; it must be 0 or more"
            )
        named = inputs if isinstance(inputs, dict) else {MAIN: inputs}
        for name, each in spec.all_inputs().items():
            _check_input(named[name], each, "" if name == MAIN else f" in '{name}'", indices, place)
    if not used and spec.target != "none":
        raise DataError(f"{place}: the loss ignores every sample")


def _check_input(values: Tensor, spec: InputSpec, where: str, indices: Tensor, place: str) -> None:
    if values.is_floating_point() and (bad := _first(~torch.isfinite(values))) is not None:
        raise DataError(f"{place}: sample {int(indices[bad])} holds inputs that are not finite{where}")
    if spec.kind == "tokens" and spec.vocabulary is not None:
        outside = (values < 0) | (values >= spec.vocabulary)
        if (bad := _first(outside)) is not None:
            raise DataError(f"{place}: sample {int(indices[bad])} has tokens outside 0 to {spec.vocabulary - 1}{where}")


def _scanned(batches: BatchLoader) -> Tensor:
    """The indices of the samples that are looked at."""
    order = torch.arange(batches.size)
    if batches.source.is_stream:
        return order[:SCAN_SAMPLES]
    if batches.source.placement == "workers":
        return order[:: max(batches.size // SCAN_SAMPLES, 1)]
    large = batches.size * batches.source.take(order[:1]).nbytes > SCAN_BYTES
    return order[:: max(batches.size // CHUNK, 1)] if large else order


def _wrong_targets(targets: Tensor, spec: DataSpec) -> tuple[Tensor, str]:
    """Which targets are not valid, a mask of their shape or ``[N]``, and what is."""
    if spec.target == "class":
        hidden = f", and {HIDDEN} for a position without a class" if spec.positions else ""
        wrong = (targets < 0) | (targets >= spec.output_size)
        return wrong & (targets != HIDDEN) if spec.positions else wrong, f"0 to {spec.output_size - 1}{hidden}"
    if spec.target in ("binary", "multilabel"):
        return (targets != 0) & (targets != 1), "0 and 1"
    if spec.target == "similarity":
        return (targets != 1) & (targets != -1), "+1 and -1"
    if spec.target == "distribution":
        close = torch.isclose(targets.sum(1), torch.ones(()), atol=1e-4)
        return ~(close & (targets >= 0).all(1)), "rows of probabilities that sum to 1"
    return ~torch.isfinite(targets), "finite numbers"


def _first(mask: Tensor) -> int | None:
    """The first sample with a True."""
    found = mask.flatten(1).any(1) if mask.ndim > 1 else mask
    return int(found.int().argmax()) if bool(found.any()) else None
