"""Probabilities of classes: how far they can be trusted, and what each threshold would give."""

from collections.abc import Callable, Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ptb import ConfigError, RunRecord
from ptb_plots.drawing import COLOURS, GREY, figure, plain, text
from ptb_plots.predicted import Numbers, classified, probabilities, rows_of

MOST_LINES = 10  # the worst classes, where there are more


def calibration(records: Sequence[RunRecord], *, split: str = "test", bins: int = 10) -> Figure:
    """How often predictions of each probability were right: on the diagonal the model knows how sure it may be.

    The predicted class counts, of several labels each one. ECE, the expected calibration error, is the mean distance to
    the diagonal, weighted by samples. Guo et al., 2017, arXiv:1706.04599.

    Raises:
        ConfigError: there are several runs, or nothing has a probability.
    """
    record, rows = rows_of(records, "calibration", split)
    if record.manifest.get("data", {}).get("target") == "multilabel":
        pairs = probabilities(record, rows).values()
        right, sure = np.concatenate([there for there, _ in pairs]), np.concatenate([value for _, value in pairs])
    else:
        found = classified(record, rows)
        right, sure = found.truth == found.predicted, np.array([float(row["probability"]) for row in rows])
    edges = np.linspace(0, 1, bins + 1)
    places = np.clip(np.digitize(sure, edges) - 1, 0, bins - 1)
    count = np.bincount(places, minlength=bins)
    hit, mean = (np.bincount(places, each, bins) / np.maximum(count, 1) for each in (right.astype(float), sure))
    ece = float((count * np.abs(hit - mean)).sum() / max(count.sum(), 1))
    drawn = figure(5.2, 5.4)
    upper, lower = drawn.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    used = np.flatnonzero(count)
    plain(upper).plot([0, 1], [0, 1], color=GREY, linewidth=1)
    upper.plot(mean[used], hit[used], "o-", color=COLOURS[0])
    for place in used:
        upper.plot([mean[place]] * 2, [mean[place], hit[place]], color=COLOURS[1], linewidth=1)
    upper.set(ylabel="part that is right", ylim=(-0.03, 1.03), title=f"{split}: ECE {ece:.3f}, {len(rows):,} samples")
    sns.histplot(x=sure, bins=edges, color=COLOURS[0], ax=plain(lower))
    lower.set(xlabel="probability of the prediction", ylabel="samples", xlim=(-0.03, 1.03))
    return drawn


def roc(records: Sequence[RunRecord], *, split: str = "test") -> Figure:
    """The rate of right alarms against that of false alarms for every threshold, a line for each class.

    Of more than 10 classes those with the smallest area are drawn. AUC is the area under a line: 0.5 by chance, 1 at
    best.

    Raises:
        ConfigError: there are several runs, or the probabilities are not recorded.
    """
    from sklearn.metrics import auc, roc_curve

    def curve(there: NDArray[np.bool_], value: Numbers) -> tuple[Numbers, Numbers, float]:
        false, right, _ = roc_curve(there, value)
        return false, right, float(auc(false, right))

    def chance(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
        axes.set(xlabel="false positive rate", ylabel="true positive rate")

    return _lines(records, "roc", split, "AUC", curve, chance)


def precision_recall(records: Sequence[RunRecord], *, split: str = "test") -> Figure:
    """Precision against recall for every threshold, a line for each class; better than `roc` where a class is rare.

    Of more than 10 classes those with the smallest average precision (AP) are drawn. By chance AP is the part of the
    samples that are of the class.

    Raises:
        ConfigError: there are several runs, or the probabilities are not recorded.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    def curve(there: NDArray[np.bool_], value: Numbers) -> tuple[Numbers, Numbers, float]:
        precision, recall, _ = precision_recall_curve(there, value)
        return recall, precision, float(average_precision_score(there, value))

    def names(axes: Axes) -> None:
        axes.set(xlabel="recall", ylabel="precision")

    return _lines(records, "precision-recall", split, "AP", curve, names)


def _lines(
    records: Sequence[RunRecord],
    plot: str,
    split: str,
    figure_name: str,
    curve: Callable[[NDArray[np.bool_], Numbers], tuple[Numbers, Numbers, float]],
    labelled: Callable[[Axes], None],
) -> Figure:
    record, rows = rows_of(records, plot, split)
    found = probabilities(record, rows)
    lines = [(name, *curve(*each)) for name, each in found.items() if 0 < each[0].sum() < len(each[0])]
    if not lines:
        raise ConfigError(f"the {split} split of {record.path} has samples of one class only: no threshold tells more")
    lines.sort(key=lambda line: line[3])
    drawn = figure(6.8, 4.6)
    axes = plain(drawn.add_subplot())
    labelled(axes)
    shades = sns.color_palette("colorblind", MOST_LINES)
    for place, (name, x, y, area) in enumerate(lines[:MOST_LINES]):
        style = "-" if place < 5 else "--"
        axes.plot(x, y, style, color=shades[place], linewidth=1.5, label=f"{text(name, 24)}: {figure_name} {area:.3f}")
    more = f", the {MOST_LINES} worst of {len(lines)} classes" if len(lines) > MOST_LINES else ""
    axes.set(title=f"{split}{more}", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize="small")
    return drawn
