"""The columns of a table: how their values are spread, and which go together."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ptb import ConfigError, RunRecord
from ptb_plots.data import rows_of
from ptb_plots.drawing import COLOURS, figure, panels, text
from ptb_plots.runs import one

MOST_ROWS = 5_000
MOST_COLUMNS = 24
MOST_VALUES = 12  # of a column of words
MOST_NUMBERS = 20  # columns whose correlations have their numbers in them


def features(records: Sequence[RunRecord]) -> Figure:
    """How the values of each column are spread over the training split; at most 24 columns and 5,000 rows.

    Raises:
        ConfigError: there are several runs, or the run was not trained on a table.
    """
    record = one(records, "features")
    table = pd.DataFrame(rows_of(record, MOST_ROWS))
    columns = [*table.columns][:MOST_COLUMNS]
    drawn, axes = panels(len(columns), width=3.0, height=2.4, most=4)
    for each, name in zip(axes, columns, strict=True):
        values = table[name]
        if pd.api.types.is_numeric_dtype(values):
            known = values[np.isfinite(values.astype(float))].astype(float)
            sns.histplot(x=known, bins=min(30, max(5, known.nunique())), color=COLOURS[0], ax=each)
        else:
            counts = values.astype(str).value_counts().head(MOST_VALUES)
            sns.barplot(x=counts.to_numpy(), y=[text(name, 16) for name in counts.index], color=COLOURS[0], ax=each)
        each.set(title=text(name, 28), xlabel="", ylabel="")
        each.tick_params(labelsize=7)
    more = f", {len(columns)} of {len(table.columns)} columns" if len(table.columns) > len(columns) else ""
    drawn.suptitle(f"training split, {len(table):,} rows{more}", fontsize="medium")
    return drawn


def correlations(records: Sequence[RunRecord]) -> Figure:
    """Pearson's correlation of each two columns of numbers over the training split.

    Raises:
        ConfigError: there are several runs, or the table has fewer than two columns of numbers that vary.
    """
    record = one(records, "correlations")
    table = pd.DataFrame(rows_of(record, MOST_ROWS)).select_dtypes("number").astype(float)
    table = table.loc[:, table.nunique() > 1]
    if table.shape[1] < 2:
        raise ConfigError(f"{record.path} was trained on fewer than two columns of numbers that vary")
    found = table.iloc[:, : 3 * MOST_NUMBERS].corr()
    few = len(found) <= MOST_NUMBERS
    names = [text(name, 20) for name in found.columns]
    side = min(max(0.55 * len(found) + 2.4, 4.6), 13)
    drawn = figure(side + 0.8, side)
    axes = drawn.add_subplot()
    sns.heatmap(
        found.to_numpy(),
        vmin=-1,
        vmax=1,
        cmap="RdBu",
        annot=few,
        fmt=".2f",
        annot_kws={"fontsize": 7},
        square=True,
        linewidths=0.4 if few else 0,
        cbar_kws={"shrink": 0.7, "label": "correlation"},
        xticklabels=names,
        yticklabels=names,
        ax=axes,
    )
    axes.tick_params(axis="x", rotation=90, labelsize=8)
    axes.tick_params(axis="y", rotation=0, labelsize=8)
    return drawn
