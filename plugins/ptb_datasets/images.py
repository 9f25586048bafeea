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
        return inputs.to(torch.float32).div(255).sub_(self.mean).div_(self.std)


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
    classes, left = np.unique(labels, return_counts=True)
    counts = []
    for part in parts:
        total = part if isinstance(part, int) else round(part * len(labels))
        counts.append(_shares(left, min(total, int(left.sum()))))
        left = left - counts[-1]
    shuffled = [random.permutation(np.flatnonzero(labels == label)) for label in classes]
    cuts = [np.split(members, np.cumsum(sizes)) for members, sizes in zip(shuffled, np.transpose(counts), strict=True)]
    drawn = [np.sort(np.concatenate(pieces)) for pieces in zip(*cuts, strict=True)]
    return [drawn[-1], *drawn[:-1]]


def _shares(sizes: np.ndarray, total: int) -> np.ndarray:
    """``total`` shared out in proportion to ``sizes``: whole numbers, the largest remainders rounded up."""
    exact = sizes * (total / max(sizes.sum(), 1))
    shares: np.ndarray = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: total - shares.sum()]] += 1
    return shares
