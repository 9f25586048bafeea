"""What picture data sets share: splitting by class, and normalising on the device."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Normalize:
    """``prepare`` for grey pictures: uint8 ``[B, 1, H, W]`` to float32 of mean 0 and deviation 1 in training.

    Args:
        mean: of the training pixels, as a fraction of 255.
        std: their standard deviation, as a fraction of 255.
    """

    mean: float
    std: float

    def __call__(self, inputs: Tensor) -> Tensor:
        """``(inputs / 255 - mean) / std``."""
        return inputs.to(torch.float32).div_(255).sub_(self.mean).div_(self.std)


def stratified_split(labels: np.ndarray, parts: Sequence[int | float], seed: int) -> list[np.ndarray]:
    """Draws samples of each class in proportion, so that every part has the classes of the whole.

    Args:
        labels: int ``[N]``.
        parts: sizes of the parts to draw: a float is a fraction of each class, an int a number of samples in all.
        seed: of the draw. NumPy keeps the stream of its legacy generator the same for ever, so a split never moves.

    Returns:
        The sorted sample numbers of the rest, then of each part.
    """
    random = np.random.RandomState(seed)
    counts = [_counts(labels, part) for part in parts]
    rest, drawn = [], [[] for _ in parts]  # type: list[np.ndarray], list[list[np.ndarray]]
    for position, label in enumerate(np.unique(labels)):
        members = random.permutation(np.flatnonzero(labels == label))
        start = 0
        for part, count in enumerate(counts):
            drawn[part].append(members[start : start + count[position]])
            start += count[position]
        rest.append(members[start:])
    return [np.sort(np.concatenate(indices)) for indices in (rest, *drawn)]


def _counts(labels: np.ndarray, part: int | float) -> list[int]:
    """How many of each class; whole numbers that add up to ``part`` exactly, the largest remainders rounded up."""
    sizes = np.unique(labels, return_counts=True)[1]
    total = part if isinstance(part, int) else round(part * len(labels))
    exact = sizes * (total / len(labels))
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return [int(count) for count in counts]
