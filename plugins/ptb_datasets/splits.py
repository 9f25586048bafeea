"""Which samples train, which validate, which test: drawn once, from a seed of its own."""

from collections.abc import Sequence

import numpy as np

BINS = 10


def stratified_split(labels: np.ndarray, parts: Sequence[int | float], seed: int) -> list[np.ndarray]:
    """Choose samples of each class in proportion, so that every part has the classes of the whole.

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
    sizes_by_class = np.array(counts, dtype=int).reshape(len(parts), len(classes)).T
    cuts = [np.split(members, np.cumsum(sizes)) for members, sizes in zip(shuffled, sizes_by_class, strict=True)]
    drawn = [np.sort(np.concatenate(pieces)) for pieces in zip(*cuts, strict=True)]
    return [drawn[-1], *drawn[:-1]]


def quantile_split(values: np.ndarray, parts: Sequence[int | float], seed: int) -> list[np.ndarray]:
    """The same for numbers: the tenths of the samples, from the smallest values to the largest, are the classes.

    A part of a small data set then has small and large values in proportion, where chance alone may leave it few.

    Args:
        values: float ``[N]``.
        parts: as in ``stratified_split``.
        seed: as in ``stratified_split``.
    """
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return stratified_split(ranks * BINS // max(len(values), 1), parts, seed)


def class_counts(labels: np.ndarray, classes: int) -> tuple[int, ...]:
    """How many samples each class has, in the order of their numbers."""
    return tuple(np.bincount(labels, minlength=classes).tolist())


def _shares(sizes: np.ndarray, total: int) -> np.ndarray:
    """``total`` shared out in proportion to ``sizes``: whole numbers, the largest remainders rounded up."""
    exact = sizes * (total / max(sizes.sum(), 1))
    shares: np.ndarray = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: total - shares.sum()]] += 1
    return shares
