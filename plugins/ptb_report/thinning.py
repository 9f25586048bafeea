"""Fewer points of a long curve, with its extremes."""

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite

MOST_POINTS = 2_000


def thinned(values: Sequence[float | None], most: int = MOST_POINTS) -> list[int]:
    """The places of at most ``most`` values: of each stretch the first, the last, the smallest and the largest.

    The smallest and the largest of all are among them. Values that are missing or not finite are no extremes.
    """
    if len(values) <= most:
        return list(range(len(values)))
    stretches = max(1, most // 4)
    bounds = [len(values) * number // stretches for number in range(stretches + 1)]
    kept: set[int] = set()
    for start, end in pairwise(bounds):
        finite = [(value, place) for place in range(start, end) if (value := values[place]) is not None]
        finite = [each for each in finite if isfinite(each[0])]
        kept |= {start, end - 1}
        if finite:
            kept |= {min(finite)[1], max(finite)[1]}
    return sorted(kept)
