"""What the inputs of ``arrays`` are taken for, what is measured of them, and how they become what a model sees."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from ptb import DataError
from ptb_datasets.mapped import forget

InputKind = Literal["image", "vector", "tokens", "array"]
MOST_TOKENS = 10_000_000
CHUNK = 1 << 20  # values that are looked at together
INPUT_FORMS = (
    "pictures are uint8 [N, H, W] or [N, C, H, W], or floats [N, C, H, W]; vectors are floats [N, F]; tokens are whole "
    "numbers [N, L], other than uint8; or say what they are: dataset.inputs_as=vector, tokens, image or array (numbers "
    "of any shape)"
)
AXES = {"image": (3, 4), "vector": (1, 2), "tokens": (2,), "array": range(2, 65)}


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


@dataclass(frozen=True)
class AsFloat:
    """``transform`` for numbers of any type, as float32.

    Args:
        mask: as for ``AsTokens``; 0 for numbers with a sign.
        mean: float64, in a shape that broadcasts to the inputs; what is taken off, if anything.
        std: and that by which the rest is divided.
    """

    mask: int = 0
    mean: Tensor | None = None
    std: Tensor | None = None

    def __call__(self, inputs: Tensor) -> Tensor:
        """``(inputs - mean) / std``, computed with 64 bits where the inputs have them."""
        values = inputs.to(torch.int64) & self.mask if self.mask else inputs
        values = values if values.dtype == torch.float64 else values.to(torch.float32)
        if self.mean is not None and self.std is not None:
            # Two small copies a batch on a GPU; tensors that are kept there could not be pickled for another machine.
            values = (values - self.mean.to(values)) / self.std.to(values)
        return values.to(torch.float32)


def kind_of(path: Path, values: np.ndarray, asked: str) -> InputKind:
    """What the values of a file are: what is asked for, or what type and axes say.

    Raises:
        DataError: they cannot be that, or type and axes do not say it.
    """
    type_, axes = values.dtype.kind, values.ndim
    form = f"{path} holds {values.dtype} {list(values.shape)}"
    if asked == "auto":
        if values.dtype == np.uint8 and axes in (3, 4):
            return "image"
        if type_ == "f" and axes in (2, 4):
            return "vector" if axes == 2 else "image"
        if type_ in "iu" and axes == 2 and values.dtype != np.uint8:
            return "tokens"
        raise DataError(f"{form}: {INPUT_FORMS}")
    if axes not in AXES[asked]:
        wanted = {"image": "3 or 4 axes", "vector": "1 or 2 axes", "tokens": "2 axes", "array": "2 axes or more"}[asked]
        raise DataError(f"{form}, and dataset.inputs_as is {asked}, which has {wanted}: {INPUT_FORMS}")
    if asked == "tokens" and type_ not in "iu":
        raise DataError(
            f"{form}, and tokens are whole numbers: save array.astype(int), or say dataset.inputs_as=vector"
        )
    return cast(InputKind, asked)


def as_samples(values: np.ndarray, kind: str) -> np.ndarray:
    """The values of a file as samples have them: with channels, and of a type that torch has on every device."""
    if kind == "image" and values.ndim == 3:
        values = values[:, None]
    if kind == "vector" and values.ndim == 1:
        values = values[:, None]
    return values.view(f"i{values.dtype.itemsize}") if values.dtype.kind == "u" and values.itemsize > 1 else values


def mask_of(dtype: "np.dtype[Any]") -> int:
    """The bits of a type without a sign, which ``as_samples`` gives one; 0 for others."""
    return 2 ** (8 * dtype.itemsize) - 1 if dtype.kind == "u" and 1 < dtype.itemsize < 8 else 0


def chunks(
    values: np.ndarray, rows: np.ndarray | None = None, written: bool = False
) -> Iterator[tuple[int, np.ndarray]]:
    """The number of the first row, and rows: all of them, or the chosen ones.

    Memory for one chunk is needed where nothing was ``written`` to a mapped file, else for what is read.
    """
    count = len(values) if rows is None else len(rows)
    step = max(CHUNK // max(values[:1].size, 1), 1)
    for start in range(0, count, step):
        yield start, values[start : start + step] if rows is None else values[rows[start : start + step]]
        if not written:
            forget(values)


def vocabulary(path: Path, tokens: np.ndarray) -> int:
    """How many different tokens there are, if the largest is the last one.

    Raises:
        DataError: one is below 0, or very large.
    """
    largest = 0
    for start, chunk in chunks(tokens):
        for wrong, place in ((chunk.min() < 0, chunk.argmin()), (chunk.max() >= MOST_TOKENS, chunk.argmax())):
            if wrong:
                row, column = np.unravel_index(place, chunk.shape)
                raise DataError(
                    f"{path}: token {column} of sample {start + row} is {chunk[row, column]}; valid are 0 to "
                    f"{MOST_TOKENS - 1:,}: number the tokens from 0, without large gaps; or, if they are features and "
                    "no tokens, say dataset.inputs_as=vector"
                )
        largest = max(largest, int(chunk.max()))
    return largest + 1


def unusable(values: np.ndarray, nan_is_filled: bool) -> np.ndarray:
    """Which samples hold an infinite value or one that is none, bool ``[N]``.

    Args:
        values: of any type.
        nan_is_filled: then only infinite ones count.
    """
    bad = np.zeros(len(values), dtype=bool)
    if values.dtype.kind == "f":
        for start, chunk in chunks(values):
            wrong = np.isinf(chunk) if nan_is_filled else ~np.isfinite(chunk)
            bad[start : start + len(chunk)] = wrong.reshape(len(chunk), -1).any(axis=1)
    return bad


def first_unusable(sample: np.ndarray) -> str:
    """``value 2 is nan`` of a sample that holds such a value, ``it is nan`` of a number."""
    if sample.ndim == 0:
        return f"it is {sample}"
    place = np.unravel_index(int((~np.isfinite(sample)).argmax()), sample.shape)
    name = place[0] if len(place) == 1 else f"[{', '.join(map(str, place))}]"
    return f"value {name} is {sample[place]}"


def fill(values: np.ndarray, mean: np.ndarray) -> None:
    """Writes the mean of each feature, float64 ``[...]`` that broadcasts to a sample, where there is NaN."""
    for _, chunk in chunks(values, written=True):
        if (missing := np.isnan(chunk)).any():
            np.copyto(chunk, mean.astype(values.dtype), where=missing)


def statistics(values: np.ndarray, rows: np.ndarray, kind: str, written: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each feature, of pictures of each channel; float64, NaN left out.

    They are merged chunk by chunk as Chan, Golub and LeVeque do (1979, "Updating formulae and a pairwise algorithm for
    computing sample variances"), so the values may be more than fit into memory. Divided by N; 1 for a constant.

    Args:
        values: as in the file, ``[N, ...]``; the last axis holds the features, of pictures the second one the channels.
        rows: those to look at, int64 ``[n]``.
        kind: of the inputs.
        written: as for ``chunks``.

    Returns:
        Two arrays that broadcast to samples.
    """
    axis = 1 if kind == "image" else values.ndim - 1
    others = tuple(each for each in range(values.ndim) if each != axis)
    shape = [size if each == axis else 1 for each, size in enumerate(values.shape)]
    count = mean = squares = np.zeros(shape)
    for _, chunk in chunks(values, rows, written):
        numbers = chunk.astype(np.float64)
        there = ~np.isnan(numbers)
        more = there.sum(axis=others, keepdims=True)
        center = np.where(there, numbers, 0).sum(axis=others, keepdims=True) / np.maximum(more, 1)
        spread = np.square(np.where(there, numbers - center, 0)).sum(axis=others, keepdims=True)
        total = np.maximum(count + more, 1)
        squares = squares + spread + np.square(center - mean) * count * more / total
        mean = mean + (center - mean) * more / total
        count = count + more
    std = np.sqrt(squares / np.maximum(count, 1))
    constant = std <= 1e-12 * np.maximum(np.abs(mean), 1e-300)  # what rounding leaves of equal values
    return mean[0], np.where(constant, 1.0, std)[0]


def channels_first(values: np.ndarray) -> np.ndarray:
    """Pictures ``[..., H, W, C]`` as ``[..., C, H, W]``, a view."""
    return np.moveaxis(values, -1, -3)


def warn_of_doubts(path: Path, values: np.ndarray, kind: str, asked: str, scaled: bool, layout: str | None) -> None:
    """Warns of what the values may be instead of what they are taken for."""
    message = ""
    if layout is None and kind == "image" and values.ndim == 4 and values.shape[3] in (1, 3, 4) and values.shape[1] > 4:
        message = (
            f"{path} is taken for {values.shape[1]} channels of {values.shape[2]}x{values.shape[3]}; if the channels "
            "come last, add dataset.layout=channels-last; else dataset.layout=channels-first"
        )
    elif kind == "image" and values.dtype.kind in "iu" and values.dtype != np.uint8 and not scaled:
        message = f"{path}: pictures of {values.dtype} are used as they are, unscaled; dataset.standardize=true scales"
    elif kind == "tokens" and asked == "auto":
        message = (
            f"{path} holds whole numbers {list(values.shape)}, which are taken for tokens (words by their number); if "
            "they are features, say dataset.inputs_as=vector; if they are tokens, dataset.inputs_as=tokens"
        )
    if message:
        warnings.warn(message, UserWarning, stacklevel=3)
