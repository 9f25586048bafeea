"""Real targets: predictions beside the truth, and what is left between them."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from ptb import RunRecord
from ptb_plots.drawing import COLOURS, GREY, panels, text
from ptb_plots.predicted import Numbers, real_values, rows_of

MOST_TARGETS = 9
MOST_POINTS = 5_000


def truth(records: Sequence[RunRecord], *, split: str = "test") -> Figure:
    """Prediction against truth, a point a sample, in the units of the target; on the line both are the same.

    Raises:
        ConfigError: there are several runs, or their targets are no real numbers.
    """
    record, rows = rows_of(records, "truth", split)
    values = real_values(record, rows)
    drawn, axes = panels(min(len(values), MOST_TARGETS), width=4.6, height=4.4)
    for each, (name, (true, said)) in zip(axes, values.items(), strict=False):
        x, y = _some(true, said)
        sns.scatterplot(x=x, y=y, s=16, alpha=0.6, color=COLOURS[0], linewidth=0, ax=each)
        ends = [float(np.min([x.min(), y.min()])), float(np.max([x.max(), y.max()]))]
        each.plot(ends, ends, color=GREY, linewidth=1)
        spread = float(((true - true.mean()) ** 2).sum())
        r2 = 1 - float(((true - said) ** 2).sum()) / spread if spread else float("nan")
        error = float(np.abs(true - said).mean())
        each.set(title=f"{text(name)}: R² {r2:z.3f}, mean |error| {error:.3g}", xlabel="truth", ylabel="prediction")
    return drawn


def residuals(records: Sequence[RunRecord], *, split: str = "test") -> Figure:
    """Prediction minus truth against the prediction, and how often each size of it occurs.

    Raises:
        ConfigError: there are several runs, or their targets are no real numbers.
    """
    record, rows = rows_of(records, "residuals", split)
    values = [*real_values(record, rows).items()][:MOST_TARGETS]
    drawn, axes = panels(2 * len(values), width=4.6, height=3.6, most=2)
    for place, (name, (true, said)) in enumerate(values):
        left, right = axes[2 * place : 2 * place + 2]
        x, y = _some(said, said - true)
        sns.scatterplot(x=x, y=y, s=16, alpha=0.6, color=COLOURS[0], linewidth=0, ax=left)
        left.axhline(0, color=GREY, linewidth=1)
        left.set(title=text(name), xlabel="prediction", ylabel="prediction - truth")
        sns.histplot(x=said - true, bins=min(40, max(10, len(true) // 10)), color=COLOURS[0], ax=right)
        right.axvline(0, color=GREY, linewidth=1)
        right.set(title=f"mean {float((said - true).mean()):z.3g}", xlabel="prediction - truth", ylabel="samples")
    return drawn


def _some(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """The finite points, at most 5,000 that are spread evenly over the samples."""
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if not len(known):
        return np.zeros(1), np.zeros(1)
    kept = known[np.linspace(0, len(known) - 1, min(len(known), MOST_POINTS)).astype(int)]
    return x[kept], y[kept]
