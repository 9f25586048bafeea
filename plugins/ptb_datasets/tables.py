"""What tables share: standardising with what the training samples say, and nothing else."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import TensorDataset


@dataclass(frozen=True)
class Standardizer:
    """``(values - mean) / std`` for each column; a column that is constant in training becomes 0.

    Args:
        mean: float64 ``[columns]``.
        std: float64 ``[columns]``, none of them 0.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, training: np.ndarray) -> "Standardizer":
        """From float64 ``[N, columns]``: the standard deviation is that of the sample itself, divided by N."""
        mean, std = training.mean(axis=0), training.std(axis=0)
        constant = std <= 1e-12 * np.maximum(np.abs(mean), 1e-300)  # what rounding leaves of equal values
        return cls(mean, np.where(constant, 1.0, std))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Float64 ``[N, columns]``, standardised, as float32."""
        return np.asarray((values - self.mean) / self.std, dtype=np.float32)


def standardized(values: np.ndarray, training: np.ndarray) -> np.ndarray:
    """All rows of float64 ``[N, columns]`` as float32, standardised by the rows whose numbers are in ``training``."""
    return Standardizer.of(values[training])(values)


def splits_of(inputs: np.ndarray, targets: np.ndarray, parts: list[np.ndarray]) -> list[TensorDataset | None]:
    """The parts of a table in memory; None for a part without rows."""
    return [
        TensorDataset(torch.from_numpy(inputs[part]), torch.from_numpy(targets[part])) if len(part) else None
        for part in parts
    ]
