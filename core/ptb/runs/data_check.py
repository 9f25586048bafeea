"""Checks before training that the samples of a data set are what its spec says."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ptb.data.loader import BatchLoader
from ptb.data.sample_rng import SampleGenerator
from ptb.data.spec import DataSpec
from ptb.errors import DataError, count
from ptb.runs.blame import explaining
from ptb.seeding import preserve_rng_state

PROBE_SAMPLES = 2
# Reading samples one by one takes long: then so many are looked at. Of those in memory all are, CHUNK at a time, or
# about CHUNK of them where they need more than SCAN_BYTES.
SCAN_SAMPLES = 64
SCAN_BYTES = 1 << 30
CHUNK = 4096

Ignored = Callable[[Tensor], "Tensor | None"]


def check_data(loaders: Mapping[str, BatchLoader], spec: DataSpec, ignored: Ignored, dataset: str) -> None:
    """Compare samples of every split with the spec.

    ``ignored`` says which samples of a batch of targets the loss leaves out, as a mask ``[B]`` or None.
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
            _check_augment(batches, place)
        else:
            _check_form(batches, spec, place)
            _check_values(batches, spec, place, ignored)


def first_samples(batches: BatchLoader, place: str) -> tuple[Tensor, Tensor]:
    """The first samples of a split as a batch."""
    with explaining(DataError, f"{place}: reading the first samples failed"), preserve_rng_state():
        return batches.first_batch(PROBE_SAMPLES)


def form(tensor: object) -> str:
    """Type and shape for people: ``float32 [2, 3]``."""
    if not isinstance(tensor, Tensor):
        return type(tensor).__name__
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _check_form(batches: BatchLoader, spec: DataSpec, place: str) -> None:
    inputs, targets = first_samples(batches, place)
    size = len(inputs)
    shape = (2, *spec.input_shape) if spec.target == "similarity" else spec.input_shape
    if tuple(inputs.shape[1:]) != shape:
        raise DataError(f"{place}: the spec says inputs of shape {shape}, the samples have {tuple(inputs.shape[1:])}")
    wanted = torch.empty((size, spec.output_size), dtype=torch.float32, device="meta")
    if spec.target in ("class", "similarity"):
        wanted = torch.empty(size, dtype=torch.int64 if spec.target == "class" else torch.float32, device="meta")
    if form(targets) != form(wanted):
        raise DataError(
            f"{place}: targets of kind '{spec.target}' are {form(wanted)}; the first {count(size, 'sample')} give "
            f"{form(targets)}"
        )


def _check_augment(batches: BatchLoader, place: str) -> None:
    if batches.augment is None:
        return
    inputs, _ = first_samples(batches, place)
    with explaining(DataError, f"{place}: augment failed"), preserve_rng_state():
        augmented = batches.augment(inputs, SampleGenerator(0, 1, torch.arange(len(inputs), device=inputs.device)))
    if form(augmented) != form(inputs):
        raise DataError(
            f"{place}: augment makes {form(augmented)} of inputs {form(inputs)}; it must keep shape and type"
        )


def _check_values(batches: BatchLoader, spec: DataSpec, place: str, ignored: Ignored) -> None:
    """Look for inputs and targets that are not valid, and name the first sample that has some."""
    order = _scanned(batches)
    left_out = 0
    for indices in torch.split(order, CHUNK):
        with explaining(DataError, f"{place}: reading {count(len(order), 'sample')} failed"), preserve_rng_state():
            inputs, targets = batches.source.take(indices)
        wrong, valid = _wrong_targets(targets, spec)
        if (mask := ignored(targets)) is not None:
            wrong, left_out = wrong & ~mask, left_out + int(mask.sum())
        if (bad := _first(wrong)) is not None:
            shown = targets[bad].tolist()
            raise DataError(f"{place}: the target of sample {int(indices[bad])} is {shown}; valid are {valid}")
        if inputs.is_floating_point() and (bad := _first(~torch.isfinite(inputs).flatten(1).all(1))) is not None:
            raise DataError(f"{place}: sample {int(indices[bad])} holds inputs that are not finite")
        if spec.inputs == "tokens" and spec.vocabulary is not None:
            outside = ((inputs < 0) | (inputs >= spec.vocabulary)).flatten(1).any(1)
            if (bad := _first(outside)) is not None:
                raise DataError(f"{place}: sample {int(indices[bad])} has tokens outside 0 to {spec.vocabulary - 1}")
    if left_out == len(order):
        raise DataError(f"{place}: the loss ignores every sample")


def _scanned(batches: BatchLoader) -> Tensor:
    """The indices of the samples that are looked at."""
    order = torch.arange(batches.size)
    if batches.source.placement == "workers":
        return order[:: max(batches.size // SCAN_SAMPLES, 1)]
    inputs, targets = batches.source.take(order[:1])
    large = batches.size * (inputs.nbytes + targets.nbytes) > SCAN_BYTES
    return order[:: max(batches.size // CHUNK, 1)] if large else order


def _wrong_targets(targets: Tensor, spec: DataSpec) -> tuple[Tensor, str]:
    """Which targets are not valid (a mask ``[N]``), and what is."""
    if spec.target == "class":
        return (targets < 0) | (targets >= spec.output_size), f"0 to {spec.output_size - 1}"
    if spec.target == "binary":
        return ((targets != 0) & (targets != 1)).flatten(1).any(1), "0 and 1"
    if spec.target == "similarity":
        return (targets != 1) & (targets != -1), "+1 and -1"
    if spec.target == "distribution":
        close = torch.isclose(targets.sum(1), torch.ones(()), atol=1e-4)
        return ~(close & (targets >= 0).all(1)), "rows of probabilities that sum to 1"
    return ~torch.isfinite(targets).flatten(1).all(1), "finite numbers"


def _first(mask: Tensor) -> int | None:
    """Where the first True stands."""
    return int(mask.int().argmax()) if bool(mask.any()) else None
