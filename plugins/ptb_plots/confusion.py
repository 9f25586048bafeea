"""The confusion matrix: which classes are taken for which others."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ptb import RunRecord
from ptb_plots.drawing import COLOURS, figure, plain, text, whole_numbers
from ptb_plots.predicted import Classified, classified, rows_of

MOST_CLASSES = 30  # whose cells have their numbers in them: the text of 100 x 100 cells takes 14 s
MOST_PAIRS = 20
SHORT = 18
SHADES = ("#a63603", "#e6762d", "#ffffff", "#4292c6", "#08306b")  # from always wrong over never to always right
FAINTEST = 0.25  # of the colour of a mistake


def confusion(records: Sequence[RunRecord], *, split: str = "test") -> Figure:
    """How many samples of each class were taken for each class, and beside it the rate among those of the class.

    Rows are the truth, columns the prediction. Of more than 30 classes the cells have no numbers; the 20 pairs that are
    confused most often stand beside them instead.

    Raises:
        ConfigError: there are several runs, or their targets are no classes.
    """
    record, rows = rows_of(records, "confusion", split)
    found = classified(record, rows)
    counts = found.counts()
    totals = counts.sum(1, keepdims=True)
    rates = counts / np.maximum(totals, 1)
    few = len(found.names) <= MOST_CLASSES
    side = min(max(0.5 * len(found.names) + 2.2, 4.2), 14) if few else 8
    drawn = figure(2 * side + 0.6, side)
    left, right = drawn.subplots(1, 2, width_ratios=(1, 1))
    if few:
        _matrix(left, counts, found, "samples", "d")
        _matrix(right, rates, found, "rate of the true class", ".2f")
    else:
        _matrix(left, rates, found, "rate of the true class: blue is right, orange wrong", "")
        _pairs(right, counts, found)
    right_ones = int(np.trace(counts))
    drawn.suptitle(f"{split}: {right_ones:,} of {len(rows):,} samples right")
    return drawn


def _matrix(axes: Axes, values: NDArray[np.generic], found: Classified, title: str, numbers: str) -> None:
    names = [text(name, SHORT) for name in found.names] if numbers else False
    # Counts differ by orders of magnitude, and mistakes are what one looks for: colours follow the rate, and a mistake
    # has one of its own, which a single sample already shows.
    rates = values / np.maximum(values.sum(1, keepdims=True), 1)
    shades = np.where(np.eye(len(rates), dtype=bool), rates, -np.where(rates > 0, FAINTEST + (1 - FAINTEST) * rates, 0))
    size = 11 if len(found.names) <= 12 else 8
    cells = np.array([[format(value, numbers) if value else "" for value in row] for row in values])
    sns.heatmap(
        shades,
        vmin=-1,
        vmax=1,
        cmap=LinearSegmentedColormap.from_list("wrong and right", SHADES),
        annot=cells if numbers else None,
        fmt="",
        annot_kws={"fontsize": size},
        cbar=False,
        square=True,
        linewidths=0.4 if numbers else 0,
        linecolor="#DDDDDD",
        xticklabels=names,
        yticklabels=names,
        ax=axes,
    )
    axes.set(title=title, xlabel="prediction", ylabel="truth")
    if numbers:
        long = max(map(len, found.names)) > 3
        axes.tick_params(axis="x", rotation=90 if long else 0, labelsize=size)
        axes.tick_params(axis="y", rotation=0, labelsize=size)


def _pairs(axes: Axes, counts: NDArray[np.int64], found: Classified) -> None:
    """The pairs that are confused most often, as bars."""
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    places = [(int(place // len(counts)), int(place % len(counts))) for place in order if wrong.flat[place]]
    labels = [f"{text(found.names[i], SHORT)} → {text(found.names[j], SHORT)}" for i, j in places]
    plain(axes)
    axes.barh(range(len(places)), [wrong[pair] for pair in places], color=COLOURS[1])
    axes.set_yticks(range(len(places)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    whole_numbers(axes)
    axes.set(title="confused most often: truth → prediction", xlabel="samples")
