"""Pairs of real digits, same or different: for models that learn an embedding instead of classes."""

import numpy as np
import torch
from torch.utils.data import TensorDataset

from ptb import DataBundle, DataError, DataSpec
from ptb_datasets.digits import normalize, read_digits
from ptb_datasets.splits import stratified_split


def digit_pairs(
    *,
    size: int = 32,
    pairs: int = 1,
    embedding: int = 16,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    split_seed: int = 0,
) -> DataBundle:
    """The digits of ``digits``, each beside pictures of the same digit and beside pictures of others.

    The digits are split first and paired within their split, so no picture is in two splits. Each picture is the first
    half of ``pairs`` pairs of either sort; the second halves are drawn, and may come more than once.

    Args:
        size: height and width of the pictures, resized from 8x8 by cubic interpolation.
        pairs: for each picture, how many pairs of the same digit, and how many of different digits.
        embedding: values in the embedding that the model gives for each half.
        val_fraction: part of each class for validation.
        test_fraction: part of each class for the test.
        split_seed: chooses which digits go where and how they are paired.

    Returns:
        uint8 inputs ``[N, 2, 1, size, size]``, float32 targets ``[N]``: +1 (same digit) for half of them, else -1.

    Raises:
        DataError: the installed scikit-learn does not hold the file, or a split has too few pictures to make pairs.
    """
    pixels, labels = read_digits(size)
    parts = stratified_split(labels, (val_fraction, test_fraction), split_seed)
    datasets = []
    for name, part in zip(("train", "val", "test"), parts, strict=True):
        _check_pairable(name, labels[part])
        first, second, targets = _draw(labels[part], pairs, np.random.RandomState(split_seed))
        halves = torch.from_numpy(np.stack((part[first], part[second]), axis=1))  # (N, 2)
        datasets.append(TensorDataset(pixels[halves], torch.from_numpy(targets)))
    train, val, test = datasets
    spec = DataSpec((1, size, size), "image", "similarity", embedding)
    return DataBundle(spec, train, val, test, transform=normalize(pixels[torch.from_numpy(parts[0])]))


def _check_pairable(split: str, labels: np.ndarray) -> None:
    counts = np.bincount(labels, minlength=10)
    if counts.min() < 2:
        digit = int(counts.argmin())
        raise DataError(
            f"the {split} split has too few pictures of the digit {digit}, {counts[digit]} in all; pairs need 2 of "
            "each: change dataset.val_fraction or dataset.test_fraction"
        )


def _draw(labels: np.ndarray, pairs: int, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of the first and the second pictures, and float32 +1 or -1 for each such pair, one after the other."""
    numbers = np.arange(len(labels))
    first = np.repeat(numbers, 2 * pairs)
    second = np.empty_like(first)
    for number, digit in enumerate(labels):
        same = numbers[(labels == digit) & (numbers != number)]
        other = numbers[labels != digit]
        place = 2 * pairs * number
        second[place : place + 2 * pairs : 2] = random.choice(same, pairs)
        second[place + 1 : place + 2 * pairs : 2] = random.choice(other, pairs)
    targets = np.tile(np.array([1, -1], dtype=np.float32), pairs * len(labels))
    return first, second, targets
