"""Figures of each class: how right the model is about it, and how many samples of it there are."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ptb import ConfigError, RunRecord
from ptb_plots.drawing import COLOURS, figure, legend, plain, text
from ptb_plots.predicted import class_names, classified, rows_of
from ptb_plots.runs import one

MOST_CLASSES = 30


def per_class(records: Sequence[RunRecord], *, split: str = "test") -> Figure:
    """Precision and recall of each class, the class with the lowest F1 first; at most 30 of them.

    Precision is the part of the predictions of a class that is right, recall the part of its samples that is found, F1
    their harmonic mean.

    Raises:
        ConfigError: there are several runs, or their targets are no classes.
    """
    record, rows = rows_of(records, "per-class", split)
    found = classified(record, rows)
    counts = found.counts()
    right, true, said = np.diag(counts), counts.sum(1), counts.sum(0)
    precision, recall = right / np.maximum(said, 1), right / np.maximum(true, 1)
    f1 = 2 * right / np.maximum(true + said, 1)
    order = [place for place in np.argsort(f1, kind="stable").tolist() if true[place] or said[place]]
    shown = order[:MOST_CLASSES]
    labels = [f"{text(found.names[place], 24)} ({true[place]})" for place in shown]
    table = pd.DataFrame(
        {
            "class": labels * 2,
            "value": [*precision[shown], *recall[shown]],
            "figure": ["precision"] * len(shown) + ["recall"] * len(shown),
        }
    )
    drawn = figure(6.4, max(0.32 * len(shown) + 1.6, 3.2))
    axes = plain(drawn.add_subplot())
    sns.barplot(table, x="value", y="class", hue="figure", palette=COLOURS[:2], ax=axes)
    axes.legend([], [], frameon=False)
    axes.scatter(f1[shown], range(len(shown)), marker="D", color="black", s=18, zorder=3, label="F1")
    axes.grid(False, axis="y")
    axes.set(xlim=(0, 1.02), xlabel=f"of the {split} split; samples in brackets", ylabel="")
    if len(order) > len(shown):
        axes.set_title(f"the {len(shown)} worst of {len(order)} classes")
    legend(drawn, [axes])
    return drawn


def class_balance(records: Sequence[RunRecord], *, splits: tuple[str, ...] = ("val", "test")) -> Figure:
    """The part of each class, or label, in the training split and in those that were predicted, most frequent first.

    Raises:
        ConfigError: there are several runs, or nothing counts their classes.
    """
    record = one(records, "class-balance")
    data = record.manifest.get("data", {})
    sizes, several = data.get("samples", {}), data.get("target") == "multilabel"
    predicted = {split: record.predictions(split) for split in splits if not sizes or split in sizes}
    rows = [row for each in predicted.values() for row in each]
    if not rows or not isinstance(rows[0].get("truth"), str):
        raise ConfigError(f"{record.path} has recorded no classes of the splits {', '.join(splits)}")
    names = class_names(record, rows)
    counts: dict[str, list[int]] = {}
    trained = data.get("class_counts", [])
    if len(trained) == len(names):
        counts["train"] = trained
    for split, each in predicted.items():
        said = [name for row in each for name in (row["truth"].split("|") if several else [row["truth"]])]
        counts[split] = [said.count(name) for name in names] if len(names) <= 200 else _counted(said, names)
    parts = {split: np.array(each) / max(sizes.get(split) or sum(each), 1) for split, each in counts.items()}
    first = next(iter(parts.values()))
    order = np.argsort(-first, kind="stable").tolist()
    shown = order if len(order) <= MOST_CLASSES else [*order[: MOST_CLASSES // 2], *order[-MOST_CLASSES // 2 :]]
    table = pd.DataFrame(
        [
            {"class": text(names[place], 24), "part": 100 * part[place], "split": f"{split} ({sizes.get(split, '?')})"}
            for split, part in parts.items()
            for place in shown
        ]
    )
    drawn = figure(6.4, max(0.1 * len(shown) * (len(parts) + 0.6) + 1.6, 3.2))
    axes = plain(drawn.add_subplot())
    sns.barplot(table, x="part", y="class", hue="split", palette=COLOURS[: len(parts)], ax=axes)
    axes.legend([], [], frameon=False)
    axes.grid(False, axis="y")
    axes.set(xlabel="% of the samples of the split", ylabel="")
    if len(order) > len(shown):
        axes.set_title(f"the {len(shown) // 2} largest and the {len(shown) // 2} smallest of {len(order)} classes")
    legend(drawn, [axes])
    return drawn


def _counted(said: Sequence[str], names: Sequence[str]) -> list[int]:
    counted = dict.fromkeys(names, 0)
    for name in said:
        counted[name] = counted.get(name, 0) + 1
    return [counted[name] for name in names]
