"""Real handwritten digits for a first run: small enough to train on in seconds, and already on the machine."""

from functools import lru_cache
from typing import IO, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from ptb import DataBundle, DataSpec
from ptb_datasets.array_targets import TargetForm
from ptb_datasets.grey_preprocessor import GreyPreprocessor, smoothed
from ptb_datasets.images import Normalize
from ptb_datasets.shipped import numbers, read_shipped
from ptb_datasets.splits import class_counts, stratified_split

CLASS_NAMES = tuple("0123456789")
DEFAULT_SMOOTHING = 0.1


def digits(
    *,
    size: int = 32,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    split_seed: int = 0,
    target: Literal["class", "distribution"] = "class",
    smoothing: float | None = None,
) -> DataBundle:
    """The 1,797 digits of the "Optical Recognition of Handwritten Digits" set (Alpaydin and Kaynak, 1998).

    Args:
        size: height and width of the pictures, resized from 8x8 by cubic interpolation.
        val_fraction: part of each class for validation.
        test_fraction: part of each class for the test.
        split_seed: chooses which samples go where.
        target: ``"class"``, or ``"distribution"`` for losses that compare distributions.
        smoothing: distribution only, the s of ``smoothed``; None means 0.1.

    Returns:
        uint8 inputs ``[N, 1, size, size]``; targets int64 ``[N]`` in 0..9, or float32 ``[N, 10]`` whose rows sum to 1.

    Raises:
        DataError: the installed scikit-learn does not hold the file.
        ValueError: ``smoothing`` is given for a class target.
    """
    if target == "class" and smoothing is not None:
        raise ValueError(f"smoothing={smoothing} belongs to target='distribution', this is target='class'")
    pixels, labels = read_digits(size)
    targets = torch.from_numpy(labels)
    counts: tuple[int, ...] = ()
    share: float | None = None
    parts = stratified_split(labels, (val_fraction, test_fraction), split_seed)
    if target == "distribution":
        share = DEFAULT_SMOOTHING if smoothing is None else smoothing
        targets = smoothed(targets, len(CLASS_NAMES), share)
    else:
        counts = class_counts(labels[parts[0]], len(CLASS_NAMES))
    spec = DataSpec((1, size, size), "image", target, len(CLASS_NAMES), CLASS_NAMES, class_counts=counts)
    train, val, test = (TensorDataset(pixels[part], targets[part]) for part in map(torch.from_numpy, parts))
    form = TargetForm("class", classes=len(CLASS_NAMES))
    preprocessor = GreyPreprocessor.fit(spec, normalize(train.tensors[0]), form, smoothing=share)
    return DataBundle(
        spec,
        train,
        val,
        test,
        transform=preprocessor.transform,
        preprocessor=preprocessor,
        describe=preprocessor.describe,
    )


@lru_cache(maxsize=1)  # a process that trains many runs reads them once
def read_digits(size: int) -> tuple[Tensor, np.ndarray]:
    """All digits in the order of the file: uint8 ``[1797, 1, size, size]``, and their int64 labels ``[1797]``.

    The next call gets the same arrays, so nobody may write into them.
    """
    pictures, labels = read_shipped("digits.csv.gz", _parse)
    return torch.from_numpy(_resized(pictures, size)).unsqueeze(1), labels


def normalize(pixels: Tensor) -> Normalize:
    """The normalising that gives these pixels mean 0 and standard deviation 1."""
    values = pixels.float() / 255
    return Normalize(float(values.mean()), float(values.std()))


def _parse(stream: IO[str]) -> tuple[np.ndarray, np.ndarray]:
    table = numbers(stream).astype(np.int64)
    return table[:, :64].reshape(-1, 8, 8), table[:, 64]  # 64 pixels in 0..16, then the digit


def _resized(pictures: np.ndarray, size: int) -> np.ndarray:
    import cv2  # only this function needs it

    stretched = pictures.astype(np.float32) * (255 / 16)
    resized = [cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC) for picture in stretched]
    return np.stack(resized).round().clip(0, 255).astype(np.uint8)
