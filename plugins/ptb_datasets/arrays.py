"""Your own arrays in two NumPy files: mapped, so that they may be larger than the memory, and shared by all splits."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from ptb import DataBundle, DataError, DataSpec
from ptb_datasets.images import Normalize
from ptb_datasets.mapped import expect_random_reads
from ptb_datasets.npy import BadNpy, map_npy
from ptb_datasets.splits import class_counts, quantile_split, stratified_split
from ptb_datasets.subsets import subsets

Transform = Callable[[Tensor], Tensor]
MOST_TOKENS = 10_000_000
CHUNK = 1 << 22  # values of tokens that are looked at together
INPUT_FORMS = (
    "pictures are uint8 [N, H, W] or [N, C, H, W], or floats [N, C, H, W]; vectors are floats [N, F]; tokens are whole "
    "numbers [N, L], other than uint8"
)
TARGET_FORMS = "classes are whole numbers [N], a binary target is 0 or 1 [N], real targets are floats [N] or [N, D]"


class Inputs(NamedTuple):
    """The inputs as they are in the file, and how a model sees them."""

    values: np.ndarray
    kind: Literal["image", "vector", "tokens"]
    transform: Transform | None
    vocabulary: int | None = None


class Targets(NamedTuple):
    """Int64 labels ``[N]``, or None of real targets; and what is predicted: the labels, or float32 ``[N, D]``."""

    kind: Literal["class", "binary", "real"]
    labels: np.ndarray | None
    values: np.ndarray


@dataclass(frozen=True)
class AsFloat:
    """``transform`` for floats of any width."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """The same as float32."""
        return inputs.to(torch.float32)


@dataclass(frozen=True)
class AsTokens:
    """``transform`` for whole numbers of any width.

    Args:
        mask: the bits of a number without a sign, which comes in a tensor with one: not every device takes others.
    """

    mask: int

    def __call__(self, inputs: Tensor) -> Tensor:
        """The same as int64."""
        return inputs.to(torch.int64) & self.mask


def arrays(
    *,
    inputs: str,
    targets: str,
    kind: Literal["auto", "class", "real", "binary"] = "auto",
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    split_seed: int = 0,
) -> DataBundle:
    """Two ``.npy`` files, written by ``numpy.save``, whose first axis is the samples.

    The inputs are mapped: the system reads what a batch needs, and they may be larger than the memory. Do not change
    the files while a run uses them. Only the targets, and tokens for the largest of them, are read at the start.

    Args:
        inputs: the file. uint8 ``[N, H, W]`` or ``[N, C, H, W]`` are pictures, floats of 16, 32 or 64 bits are vectors
            ``[N, F]`` or pictures ``[N, C, H, W]``, whole numbers ``[N, L]`` are tokens.
        targets: the file. Whole numbers ``[N]``, floats ``[N]`` or ``[N, D]``, or booleans ``[N]``.
        kind: of the targets. ``"auto"``: 0 and 1 are binary, other whole numbers are classes, other floats are real.
        val_fraction: part of the samples for validation, of each class, or of each tenth by a single real target; 0:
            none.
        test_fraction: the same for the test.
        split_seed: chooses which samples go where.

    Returns:
        Inputs as in the file, which ``transform`` makes int64 or float32 (pixels to -1 to 1, other numbers as they
        are); targets int64 ``[N]`` for class, else float32 ``[N, 1]`` or ``[N, D]``.

    Raises:
        DataError: a file cannot be used, or the two do not belong together; the message says what is valid.
    """
    file = _mapped("inputs", inputs)
    given = _inputs(Path(inputs), file)
    expect_random_reads(file)
    wanted = _targets(Path(targets), _mapped("targets", targets), kind)
    count = len(given.values)
    if count != len(wanted.values):
        raise DataError(f"{inputs} and {targets} do not belong together: {count} inputs, {len(wanted.values)} targets")
    fractions = (val_fraction, test_fraction)
    parts = _parts(wanted, fractions, split_seed)
    counts: tuple[int, ...] = ()
    classes = 0 if wanted.labels is None else int(wanted.labels.max()) + 1
    if wanted.labels is not None:
        counts = class_counts(wanted.labels[parts[0]], classes)
    _check_parts(Path(targets), count, parts, fractions, counts)
    together = TensorDataset(torch.from_numpy(given.values), torch.from_numpy(wanted.values))
    train, val, test = subsets(together, parts)
    assert train is not None
    spec = DataSpec(
        given.values.shape[1:],
        given.kind,
        wanted.kind,
        {"class": classes, "binary": 1}.get(wanted.kind) or wanted.values.shape[1],
        vocabulary=given.vocabulary,
        class_counts=counts,
    )
    return DataBundle(spec, train, val, test, transform=given.transform)


def _mapped(key: str, path: str) -> np.ndarray:
    try:
        return map_npy(Path(path).expanduser())
    except BadNpy as error:
        raise DataError(f"dataset.{key}={path} {error}") from error
    except RuntimeError as error:  # a home that does not exist
        raise DataError(f"dataset.{key}={path}: {error}") from error


def _inputs(path: Path, values: np.ndarray) -> Inputs:
    kind, axes = values.dtype.kind, values.ndim
    if values.dtype == np.uint8 and axes in (3, 4):
        pictures = values[:, None] if axes == 3 else values
        _warn_of_channels_last(path, pictures)
        return Inputs(pictures, "image", Normalize(0.5, 0.5))
    if kind == "f" and axes in (2, 4):
        if axes == 4:
            _warn_of_channels_last(path, values)
        return Inputs(values, "vector" if axes == 2 else "image", None if values.dtype == np.float32 else AsFloat())
    if kind in "iu" and axes == 2 and values.dtype != np.uint8:
        vocabulary = _vocabulary(path, values)
        bits = 8 * values.dtype.itemsize
        signed = values.view(f"i{values.dtype.itemsize}")
        return Inputs(signed, "tokens", None if bits == 64 else AsTokens(2**bits - 1), vocabulary)
    raise DataError(f"{path} holds {values.dtype} {list(values.shape)}: {INPUT_FORMS}")


def _warn_of_channels_last(path: Path, pictures: np.ndarray) -> None:
    if pictures.shape[3] in (1, 3, 4) and pictures.shape[1] > 4:
        warnings.warn(
            f"{path} is taken for {pictures.shape[1]} channels of {pictures.shape[2]}x{pictures.shape[3]}; if the "
            "channels come last, save it again by numpy.save(path, array.transpose(0, 3, 1, 2).copy())",
            UserWarning,
            stacklevel=4,
        )


def _vocabulary(path: Path, tokens: np.ndarray) -> int:
    largest, rows = 0, max(CHUNK // tokens.shape[1], 1)
    for start in range(0, len(tokens), rows):
        chunk = tokens[start : start + rows]
        for wrong, place in ((chunk.min() < 0, chunk.argmin()), (chunk.max() >= MOST_TOKENS, chunk.argmax())):
            if wrong:
                row, column = np.unravel_index(place, chunk.shape)
                raise DataError(
                    f"{path}: token {column} of sample {start + row} is {chunk[row, column]}; valid are 0 to "
                    f"{MOST_TOKENS - 1:,}: number the tokens from 0, without large gaps"
                )
        largest = max(largest, int(chunk.max()))
    return largest + 1


def _targets(path: Path, values: np.ndarray, kind: str) -> Targets:
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    form = f"{path} holds {values.dtype} {list(values.shape)}"
    if values.ndim not in (1, 2) or (values.ndim == 2 and values.dtype.kind != "f"):
        raise DataError(f"{form}: {TARGET_FORMS}")
    is_0_or_1 = (values == 0) | (values == 1)
    if kind == "auto":
        flags = values.ndim == 1 and is_0_or_1.all()
        kind = "binary" if flags else "real" if values.dtype.kind == "f" else "class"
    if kind == "real":
        return Targets("real", None, _real(path, values))
    if values.ndim > 1:
        raise DataError(f"{form}, and dataset.kind is {kind}: {TARGET_FORMS}")
    if kind == "binary":
        if not is_0_or_1.all():
            where = int(is_0_or_1.argmin())
            raise DataError(f"{path}: target {where} is {values[where]}, and dataset.kind is binary: valid are 0 and 1")
        _check_varies(path, values)
        return Targets("binary", values.astype(np.int64), values[:, None].astype(np.float32))
    if values.dtype.kind == "f":
        raise DataError(f"{form}, and classes are whole numbers: save array.astype(int), or say dataset.kind=real")
    labels = _labels(path, values)
    return Targets("class", labels, labels)


def _real(path: Path, values: np.ndarray) -> np.ndarray:
    """Float32 ``[N, D]``."""
    columns = values.reshape(len(values), -1)
    bad = ~(np.abs(columns.astype(np.float64)) <= np.finfo(np.float32).max)
    if bad.any():
        row, column = np.unravel_index(bad.argmax(), bad.shape)
        raise DataError(f"{path}: target {row} is {columns[row, column]}, which is not finite as a 32-bit number")
    return columns.astype(np.float32)


def _labels(path: Path, values: np.ndarray) -> np.ndarray:
    for where in (int(values.argmin()), int(values.argmax())):
        if not 0 <= values[where] < len(values):  # there are not more classes than samples
            raise DataError(
                f"{path}: target {where} is {values[where]}; classes are numbered from 0, and each has samples: "
                "numpy.unique(array, return_inverse=True)[1] numbers them, or say dataset.kind=real"
            )
    _check_varies(path, values)
    labels = values.astype(np.int64)
    counts = np.bincount(labels)
    if counts.min() == 0:
        raise DataError(
            f"{path}: no target is {counts.argmin()}, and the largest is {len(counts) - 1}; number the classes without "
            "gaps: numpy.unique(array, return_inverse=True)[1]"
        )
    return labels


def _check_varies(path: Path, values: np.ndarray) -> None:
    if (values == values[0]).all():
        raise DataError(f"{path}: every target is {values[0]}; of one class nothing can be learnt")


def _parts(targets: Targets, fractions: tuple[float, float], seed: int) -> list[np.ndarray]:
    if targets.labels is not None:
        return stratified_split(targets.labels, fractions, seed)
    if targets.values.shape[1] == 1:
        return quantile_split(targets.values[:, 0], fractions, seed)
    return stratified_split(np.zeros(len(targets.values), dtype=np.int64), fractions, seed)


def _check_parts(
    path: Path, count: int, parts: list[np.ndarray], fractions: tuple[float, float], counts: tuple[int, ...]
) -> None:
    for split, part, fraction in zip(("val", "test"), parts[1:], fractions, strict=True):
        if fraction > 0 and not len(part):
            raise DataError(
                f"{path} has too few samples for dataset.{split}_fraction={fraction}, {count} in all; 0 makes no such "
                "split"
            )
    if not len(parts[0]):
        raise DataError(f"{path} has too few samples, {count} in all: none is left for training")
    if 0 in counts:
        raise DataError(
            f"{path}: too few samples of class {counts.index(0)}: none is left for training; add some, or change "
            "dataset.val_fraction and dataset.test_fraction (0: no such split)"
        )
