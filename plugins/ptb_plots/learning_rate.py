"""The learning rate over the run: does the schedule do what was meant?"""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from ptb import ConfigError, RunRecord
from ptb_plots.drawing import colours, legend, panels, text, thinned, whole_numbers
from ptb_plots.runs import names


def learning_rate(records: Sequence[RunRecord], *, log: bool = False) -> Figure:
    """The learning rate after each recorded evaluation, one line a run, or one a group of parameters.

    Raises:
        ConfigError: no run has recorded one.
    """
    drawn, (axes,) = panels(1, width=6.4, height=4.0)
    named = names(records)
    for name, record, colour in zip(named, records, colours(len(records)), strict=False):
        columns = record.columns("train")
        for group, rates in _groups(columns["lr"]).items():
            known = [(step, rate) for step, rate in zip(columns["step"], rates, strict=True) if rate is not None]
            if not known:
                continue
            x, y = thinned([step for step, _ in known], [rate for _, rate in known])
            label = text(name) + (f", group {group}" if group else "")
            axes.plot(x, y, color=colour, label=label, linewidth=1.6, marker="o" if len(x) < 30 else "", markersize=4)
    if not axes.lines:
        raise ConfigError(f"{records[0].path} has recorded no learning rate yet")
    axes.set(xlabel="step", ylabel="learning rate")
    if log:
        axes.set_yscale("log")
    whole_numbers(axes)
    legend(drawn, [axes], most=3)
    return drawn


def _groups(rates: Sequence[Any]) -> dict[str, list[float | None]]:
    """The rates of each group of parameters; a run with one group records a number."""
    lists = [rate if isinstance(rate, list) else [rate] for rate in rates]
    count = max(map(len, lists), default=0)
    columns = [[rate[place] if place < len(rate) else None for rate in lists] for place in range(count)]
    return {str(place) if count > 1 else "": column for place, column in enumerate(columns)}
