"""Real handwritten digits for a first run: small enough to train on in seconds, and already on the machine."""

import gzip
import zlib
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import TensorDataset

from ptb import DataBundle, DataError, DataSpec
from ptb_datasets.images import Normalize, stratified_split


def digits(
    *, size: int = 32, val_fraction: float = 0.15, test_fraction: float = 0.15, split_seed: int = 0
) -> DataBundle:
    """The 1,797 digits of the "Optical Recognition of Handwritten Digits" set (Alpaydin and Kaynak, 1998).

    Args:
        size: height and width of the pictures, resized from 8x8 by cubic interpolation.
        val_fraction: part of each class for validation.
        test_fraction: part of each class for the test.
        split_seed: chooses which samples go where.

    Returns:
        uint8 inputs ``[N, 1, size, size]``, int64 targets ``[N]`` in 0..9.

    Raises:
        DataError: the installed scikit-learn does not hold the file.
    """
    pictures, labels = _read()
    pixels = torch.from_numpy(_resized(pictures, size)).unsqueeze(1)  # (N, 1, size, size)
    targets = torch.from_numpy(labels)
    train, val, test = map(torch.from_numpy, stratified_split(labels, (val_fraction, test_fraction), split_seed))
    values = pixels[train].float() / 255
    spec = DataSpec((1, size, size), "image", "class", 10, class_names=tuple("0123456789"))
    return DataBundle(
        spec,
        train=TensorDataset(pixels[train], targets[train]),
        val=TensorDataset(pixels[val], targets[val]),
        test=TensorDataset(pixels[test], targets[test]),
        prepare=Normalize(float(values.mean()), float(values.std())),
    )


def _read() -> tuple[np.ndarray, np.ndarray]:
    # sklearn.datasets.load_digits reads this file too, but importing it costs as much as importing torch
    path = Path(str(distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")))
    try:
        with gzip.open(path, "rt") as stream:
            table = np.array([line.split(",") for line in stream], dtype=float).astype(np.int64)
        pictures, labels = table[:, :64].reshape(-1, 8, 8), table[:, 64]  # 64 pixels in 0..16, then the digit
    except (OSError, EOFError, zlib.error, ValueError, IndexError) as error:
        raise DataError(
            f"cannot read the digits that scikit-learn ships, {path}: {error}; reinstall scikit-learn"
        ) from error
    return pictures, labels


def _resized(pictures: np.ndarray, size: int) -> np.ndarray:
    import cv2  # only this function needs it

    stretched = pictures.astype(np.float32) * (255 / 16)
    resized = [cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC) for picture in stretched]
    return np.stack(resized).round().clip(0, 255).astype(np.uint8)
