"""Chooses the mean and the standard deviation by which pictures are normalised."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ptb_datasets.images import IMAGENET, Normalize
from ptb_datasets.picture_cache import in_threads

HALF = 0.5


def normalizer(
    normalize: str | None, mean: Sequence[float] | None, std: Sequence[float] | None, train: Dataset[Any]
) -> Normalize:
    """``(inputs / 255 - mean) / std`` of the numbers that are asked for.

    Args:
        normalize: ``"half"`` or None is 0.5 for both, which every picture fits roughly; ``"imagenet"`` the figures of
            its training pictures, as weights from torchvision expect; ``"data"`` those of each channel of the training
            pictures, which costs a pass over them.
        mean: instead of these.
        std: instead of these.
        train: gives uint8 pictures ``[C, H, W]`` first.
    """
    if mean is not None and std is not None:
        return Normalize(_numbers(mean), _numbers(std))
    if normalize == "imagenet":
        return Normalize(*IMAGENET)
    if normalize == "data":
        return Normalize(*channel_statistics(train))
    return Normalize(HALF, HALF)


def channel_statistics(train: Dataset[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel as fractions of 255, of sums of whole numbers, so without error.

    A channel of one value gets the standard deviation 1 of 255.
    """
    counts: np.ndarray | None = None  # of each value, [C, 256]

    def histogram(index: int) -> np.ndarray:
        picture: torch.Tensor = train[index][0]
        return np.stack([np.bincount(plane.ravel(), minlength=256) for plane in picture.numpy()])

    for each in in_threads(histogram, range(len(train))):  # type: ignore[arg-type]  # map-style: it has a length
        counts = each if counts is None else counts + each
    if counts is None:
        return (HALF,), (HALF,)
    values = np.arange(256)
    means = counts @ values / counts.sum(1)
    squares = (counts * (values - means[:, None]) ** 2).sum(1) / counts.sum(1)
    return tuple((means / 255).tolist()), tuple((np.maximum(np.sqrt(squares), 1) / 255).tolist())


def _numbers(given: Sequence[float]) -> float | tuple[float, ...]:
    return given[0] if len(given) == 1 else tuple(given)
