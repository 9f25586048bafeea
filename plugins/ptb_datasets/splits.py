"""Which samples train, which validate, which test: drawn once, from a seed of its own."""

import warnings
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
    return stratified_split(value_bins(values), parts, seed)


def keep_classes(
    labels: np.ndarray, parts: Sequence[np.ndarray], names: Sequence[str], fractions: Sequence[float] = (0.15, 0.15)
) -> list[np.ndarray]:
    """Gives the training samples back the classes that a draw took from them, and warns of classes that a split lacks.

    A class with too few samples for every split is trained on; a split that has none of it says nothing of it.

    Args:
        labels: int ``[N]``.
        parts: sample numbers of the training, then of each drawn part, as the functions above return them.
        names: of the classes, in the order of their numbers.
        fractions: those that were drawn: a part of which 0 was asked lacks every class without a warning.

    Returns:
        The parts, sorted.
    """
    whole, *drawn = (np.bincount(labels[part], minlength=len(names)) for part in parts)
    lost = np.flatnonzero((whole == 0) & (np.bincount(labels, minlength=len(names)) > 0))
    kept = list(parts)
    if len(lost):
        moved = [part[np.isin(labels[part], lost)] for part in parts[1:]]
        kept = [np.sort(np.concatenate([parts[0], *moved]))]
        kept += [part[~np.isin(labels[part], lost)] for part in parts[1:]]
        drawn = [np.bincount(labels[part], minlength=len(names)) for part in kept[1:]]
    total = np.bincount(labels, minlength=len(names))
    asked = [counts for counts, fraction in zip(drawn, fractions, strict=True) if fraction > 0 and counts.any()]
    rare = [number for number, count in enumerate(total) if count > 0 and any(counts[number] == 0 for counts in asked)]
    few = [f"{names[number]!r} ({total[number]})" for number in rare if total[number] <= len(asked)]
    if few:
        shown = ", ".join(few[:10]) + (f" and {len(few) - 10} more" if len(few) > 10 else "")
        warnings.warn(
            f"{'classes have' if len(few) > 1 else 'a class has'} too few samples to be in every split: {shown}; "
            "the splits that lack it measure nothing of it",
            UserWarning,
            stacklevel=3,
        )
    return kept


def fold_split(labels: np.ndarray, folds: int, fold: int, seed: int) -> np.ndarray:
    """The sorted sample numbers of one of ``folds`` parts, each of which has the classes in proportion.

    All folds of one seed together are all samples, each once.

    Args:
        labels: int ``[N]``.
        folds: how many.
        fold: which, from 0.
        seed: of the draw.
    """
    random = np.random.RandomState(seed)
    order = np.concatenate([random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)])
    return np.sort(order[fold::folds])


def value_bins(values: np.ndarray) -> np.ndarray:
    """Int64 ``[N]``: to which tenth of the samples each belongs, from the smallest values to the largest."""
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks * BINS // max(len(values), 1)


def class_counts(labels: np.ndarray, classes: int) -> tuple[int, ...]:
    """How many samples each class has, in the order of their numbers."""
    return tuple(np.bincount(labels, minlength=classes).tolist())


def _shares(sizes: np.ndarray, total: int) -> np.ndarray:
    """``total`` shared out in proportion to ``sizes``: whole numbers, the largest remainders rounded up."""
    exact = sizes * (total / max(sizes.sum(), 1))
    shares: np.ndarray = np.floor(exact).astype(int)
    shares[np.argsort(shares - exact, kind="stable")[: total - shares.sum()]] += 1
    return shares
