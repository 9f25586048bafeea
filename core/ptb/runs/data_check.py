"""Checks before training that the samples of a data set are what its spec says."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from ptb.data.loader import BatchLoader
from ptb.data.sample_rng import SampleGenerator
from ptb.data.spec import DataSpec
from ptb.device import is_memory_error
from ptb.errors import DataError, count, one_line
from ptb.seeding import preserve_rng_state

PROBE_SAMPLES = 2
# Of samples that are read one by one, so many are looked at; of samples in memory all, or about as many as are read at
# once where they need more than SCAN_BYTES.
SCAN_SAMPLES = 64
SCAN_BYTES = 1 << 30
CHUNK = 4096

Ignored = Callable[[Tensor], "Tensor | None"]


def check_data(loaders: Mapping[str, BatchLoader], spec: DataSpec, ignored: Ignored, dataset: str) -> bool:
    """Compare samples of every split with the spec.

    Args:
        loaders: of every split.
        spec: what the data set says of itself.
        ignored: which samples of a batch of targets the loss leaves out, as a mask ``[B]`` or None.
        dataset: what to call the data set in messages.

    Returns:
        Whether the loss leaves out some sample, as far as was seen; False where all were seen and it uses all.

    Raises:
        DataError: a split is empty, or its samples are not what the spec says.
    """
    ignores = False
    for name, batches in loaders.items():
        split = "train" if name == "fit" else name
        if len(batches) == 0:
            dropped = f": loader.drop_last leaves none of its {count(batches.size, 'sample')}; choose a smaller "
            dropped = f"{dropped}loader.batch_size, or leave drop_last out" if batches.size else ""
            raise DataError(f"{dataset}: the {split} split is empty{dropped}")
        place = f"{dataset}, {split} split"
        _check_form(batches, spec, place)
        _check_augment(batches, place)
        if name != "fit":
            ignores |= _check_values(batches, spec, place, ignored)
    return ignores


def first_samples(batches: BatchLoader, place: str, samples: int = PROBE_SAMPLES) -> tuple[Tensor, Tensor]:
    """The first samples of a split as a batch.

    Raises:
        DataError: they cannot be read; the message names the place.
    """
    with _reading(place, "the first samples"), preserve_rng_state():
        return batches.first_batch(samples)


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
    with _reading(place, "samples through augment"), preserve_rng_state():
        augmented = batches.augment(inputs, SampleGenerator(0, 1, torch.arange(len(inputs), device=inputs.device)))
    if form(augmented) != form(inputs):
        raise DataError(
            f"{place}: augment makes {form(augmented)} of inputs {form(inputs)}; it must keep shape and type"
        )


def _check_values(batches: BatchLoader, spec: DataSpec, place: str, ignored: Ignored) -> bool:
    """All samples, or some, evenly spaced, where to read them all takes long."""
    order = _scanned(batches)
    left_out = 0
    for indices in torch.split(order, CHUNK):
        with _reading(place, count(len(order), "sample")), preserve_rng_state():
            inputs, targets = batches.source.take(indices)
        if inputs.is_floating_point() and (bad := _first(~torch.isfinite(inputs).flatten(1).all(1))) is not None:
            raise DataError(f"{place}: sample {int(indices[bad])} holds inputs that are not finite")
        wrong, valid = _wrong_targets(targets, spec)
        if (mask := ignored(targets)) is not None:
            wrong, left_out = wrong & ~mask, left_out + int(mask.sum())
        if (bad := _first(wrong)) is not None:
            shown = targets[bad].tolist()
            raise DataError(f"{place}: the target of sample {int(indices[bad])} is {shown}; valid are {valid}")
        if spec.inputs == "tokens" and spec.vocabulary is not None:
            outside = ((inputs < 0) | (inputs >= spec.vocabulary)).flatten(1).any(1)
            if (bad := _first(outside)) is not None:
                raise DataError(f"{place}: sample {int(indices[bad])} has tokens outside 0 to {spec.vocabulary - 1}")
    if left_out == len(order):
        raise DataError(f"{place}: the loss ignores every sample")
    return left_out > 0 or len(order) < batches.size


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


@contextmanager
def _reading(place: str, what: str) -> Iterator[None]:
    """Turns what a data set raises inside, which may be anything, into a ``DataError`` that names the place."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
    except (Exception, SystemExit) as error:
        if is_memory_error(error):
            raise
        raise DataError(f"{place}: reading {what} failed: {one_line(error)}") from error
