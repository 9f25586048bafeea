"""Turns other arrays into samples as ``arrays`` made them of the training files."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptb import DataSpec, Preprocessor, Sample
from ptb_datasets.array_inputs import AsFloat, AsTokens, as_samples, channels_first, first_unusable, mask_of
from ptb_datasets.array_targets import TargetForm, WrongTarget
from ptb_datasets.images import Normalize
from ptb_datasets.npy import BadNpy, map_npy, read_npz

HALF = 0.5  # pixels without other figures become -1 to 1


class ArrayPreprocessor(Preprocessor):
    """Reads ``.npy`` files, arrays and frames of numbers, a sample each row; inputs and targets from a dict."""

    def __init__(self) -> None:
        self.dtype = "float32"
        self.target: dict[str, Any] = {}
        self.mean: Tensor | None = None
        self.std: Tensor | None = None
        self.fill: np.ndarray | None = None  # stands in for NaN
        self.channels_last = False  # in files and arrays

    @classmethod
    def fit(
        cls, spec: DataSpec, dtype: "np.dtype[Any]", target: TargetForm, channels_last: bool = False
    ) -> "ArrayPreprocessor":
        """One for inputs of this type, which come as they are until ``standardize`` is called."""
        made = cls()
        made.spec, made.dtype, made.target, made.channels_last = spec, dtype.name, target.state(), channels_last
        return made

    def standardize(self, mean: np.ndarray, std: np.ndarray) -> None:
        """Take these figures of the training samples, float64."""
        self.mean, self.std = torch.from_numpy(mean), torch.from_numpy(std)

    @property
    def transform(self) -> Callable[[Tensor], Tensor] | None:  # type: ignore[override]  # follows from the state
        """From numbers of the type of the file to int64 or float32; None where they are that."""
        dtype = np.dtype(self.dtype)
        if self.spec.inputs == "tokens":
            return None if dtype.itemsize == 8 else AsTokens(2 ** (8 * dtype.itemsize) - 1)
        if self.mean is None:
            if dtype == np.float32:
                return None
            if self.spec.inputs == "image" and dtype == np.uint8:
                return Normalize(HALF, HALF)
        return AsFloat(mask_of(dtype), self.mean, self.std)

    def read(self, sources: Iterable[Any]) -> Iterator[Sample]:
        """Yield the samples of each source.

        A source is a ``.npy`` file, an array ``[N, ...]`` or one sample of it, a frame or tensor of that form; or a
        dict ``{"inputs": ..., "targets": ...}`` of two of them, or a ``.npz`` file with arrays of these names.
        """
        for source in sources:
            targets = source.get("targets") if isinstance(source, Mapping) else None
            inputs = source.get("inputs") if isinstance(source, Mapping) else source
            name = str(inputs) if isinstance(inputs, str | Path) else ""
            try:
                if name.lower().endswith(".npz"):
                    inputs, targets = map(read_npz(Path(name).expanduser()).get, ("inputs", "targets"))
                yield from self._samples(name, _array(inputs), None if targets is None else _array(targets))
            except (BadNpy, ValueError, TypeError, RuntimeError) as error:
                yield Sample(name or "array", error=str(error))

    def _samples(self, name: str, values: np.ndarray, targets: np.ndarray | None) -> Iterator[Sample]:
        values = self._rows(values)
        if targets is not None and len(targets := np.atleast_1d(targets)) != len(values):
            raise ValueError(f"holds {len(values)} inputs and {len(targets)} targets")
        form = TargetForm(**self.target)
        for row, sample in enumerate(values):
            place = f"{name}[{row}]"
            wrong = np.isinf(sample) if self.fill is not None else ~np.isfinite(sample)
            if wrong.any():
                yield Sample(place, error=f"{first_unusable(sample)}; training had finite numbers only")
                continue
            inputs = None
            try:
                inputs = torch.from_numpy(self._typed(sample))
                target = None if targets is None else torch.from_numpy(form.encode(targets[row : row + 1]))[0]
                yield Sample(place, inputs, target)
            except ValueError as error:
                yield Sample(place, inputs, error=f"{'the target ' * isinstance(error, WrongTarget)}{error}")

    def _rows(self, values: np.ndarray) -> np.ndarray:
        """``[N, *input_shape]``, of the type in the source."""
        shape, kind = self.spec.input_shape, self.spec.inputs
        if self.channels_last and values.ndim >= 3:
            values = channels_first(values)
        flat = kind == "image" and shape[0] == 1  # one channel needs no axis of its own
        for rows in (values, values[None]):
            if rows.shape[1:] == shape:
                return rows
            if flat and rows.shape[1:] == shape[1:]:
                return rows[:, None]
            if kind == "vector" and shape == (1,) and rows.ndim == 1:
                return rows[:, None]
        raise ValueError(f"holds {values.dtype} {list(values.shape)}; samples of the training data are {list(shape)}")

    def _typed(self, sample: np.ndarray) -> np.ndarray:
        """A copy of the type of the training samples.

        Raises:
            ValueError: a value cannot be of that type.
        """
        dtype = np.dtype(self.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            typed = sample.astype(dtype)
        if dtype.kind == "f":
            same = np.isfinite(typed) | (sample != sample)
            if self.fill is not None:
                typed = np.where(np.isnan(typed), self.fill.astype(dtype), typed)
        else:
            same = typed == sample
        if not same.all():
            raise ValueError(f"holds {sample[~same][0]}, and the training data is {dtype}")
        words = self.spec.vocabulary
        if words is not None and not ((typed >= 0) & (typed < words)).all():
            raise ValueError(
                f"holds the token {typed.min() if typed.min() < 0 else typed.max()}; valid are 0 to {words - 1}"
            )
        return as_samples(np.atleast_1d(typed), "array")


def _array(source: Any) -> np.ndarray:
    if isinstance(source, str | Path):
        return map_npy(Path(source).expanduser())
    values = np.asarray(source)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"holds {values.dtype}; valid are numbers and booleans")
    return values
