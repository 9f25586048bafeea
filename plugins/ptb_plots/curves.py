"""Learning curves: the first thing to look at, for it shows whether a run learns, has learnt enough, or overfits."""

from collections.abc import Sequence
from math import isfinite, nan
from typing import Any, Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ptb import RunRecord
from ptb_plots.drawing import RED, colours, legend, panels, text, thinned, whole_numbers
from ptb_plots.runs import SPLITS, Group, best_step, figure_names, groups

MOST_FIGURES = 12
STYLES = {"train": "--", "val": "-"}
SHADES = {"train": "#e07b00", "val": "#3b7dd8"}  # of one run, as `ptb report` draws it


class Line(NamedTuple):
    """One figure of one split: a value for each place, and the lowest and highest of several seeds."""

    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]


def curves(
    records: Sequence[RunRecord],
    *,
    figures: tuple[str, ...] = (),
    x: Literal["auto", "epoch", "step"] = "auto",
    log: bool = False,
) -> Figure:
    """Every figure of the training and the validation split over the run, with the best evaluation marked.

    Several runs lie over each other; runs that differ in the seed only are one line, their mean, in a band from the
    lowest to the highest. A diamond is the test split, measured with the best weights. At most 2,000 points are drawn
    of a line, its extremes among them.

    Raises:
        ConfigError: no run has the figures.
    """
    named = figure_names(records, figures)
    axis = _axis(records, x)
    drawn, axes = panels(min(len(named), MOST_FIGURES))
    together = groups(records)
    for each, name in zip(axes, named, strict=False):
        _panel(each, name, together, axis)
        each.set(title=text(name), xlabel=axis)
        whole_numbers(each)
        if log and name == "loss":
            each.set_yscale("log")
    legend(drawn, axes)
    if len(named) > MOST_FIGURES:
        drawn.suptitle(f"{MOST_FIGURES} of {len(named)} figures; the setting figures chooses others", fontsize="medium")
    return drawn


def _axis(records: Sequence[RunRecord], x: str) -> Literal["epoch", "step"]:
    """Epochs, where no epoch has several rows."""
    if x != "auto":
        return "step" if x == "step" else "epoch"
    for record in records:
        for split in SPLITS:
            epochs = record.columns(split)["epoch"]
            if None in epochs or len(set(epochs)) < len(epochs):
                return "step"
    return "epoch"


def _panel(axes: Axes, name: str, together: Sequence[Group], axis: str) -> None:
    single = len(together) == 1
    for colour, group in zip(colours(len(together)), together, strict=True):
        for split in SPLITS:
            line = _line(group, split, name, axis)
            if not line.x:
                continue
            shade = SHADES[split] if single else colour
            label = split if single and len(group.runs) == 1 else f"{text(group.label)}, {split}"
            x, y = thinned(line.x, line.y)
            axes.plot(x, y, STYLES[split], color=shade, label=label, linewidth=1.6, marker="o" if len(x) == 1 else "")
            if len(group.runs) > 1:
                _band(axes, line, shade)
            _not_finite(axes, line)
        if len(group.runs) == 1:
            _marks(axes, name, group, axis, SHADES["val"] if single else colour)


def _band(axes: Axes, line: Line, colour: str) -> None:
    x, low = thinned(line.x, line.low)
    other, high = thinned(line.x, line.high)
    if x != other:  # the extremes of the two edges lie elsewhere
        x, low, high = line.x, line.low, line.high
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def _marks(axes: Axes, name: str, group: Group, axis: str, colour: str) -> None:
    """The best evaluation as a vertical line, and the test split as a diamond."""
    (record,) = group.runs
    place = _place_of(record, best_step(record), axis)
    if place is not None:
        axes.axvline(place, color=colour, linewidth=1, linestyle=":", label=f"best {axis}")
    test = record.columns("test")
    if test.get(name) and test[name][-1] is not None and isfinite(test[name][-1]):
        x = _place_of(record, record.summary.get("test_step"), axis)
        at = test[axis][-1] if x is None else x
        axes.plot([at], [test[name][-1]], "D", color=colour, markeredgecolor="white", markersize=7, label="test")


def _place_of(record: RunRecord, step: int | None, axis: str) -> float | None:
    for split in SPLITS:
        rows: dict[str, list[Any]] = record.columns(split)
        if step is not None and step in rows["step"]:
            return float(rows[axis][rows["step"].index(step)])
    return None


def _line(group: Group, split: str, name: str, axis: str) -> Line:
    """The mean of the runs of a group at each place, of those that got there."""
    found: dict[float, list[float]] = {}
    for record in group.runs:
        columns = record.columns(split)
        for x, y in zip(columns[axis], columns.get(name, ()), strict=False):
            if x is not None:
                found.setdefault(float(x), []).append(nan if y is None else y)
    line = Line([], [], [], [])
    for x in sorted(found):
        line.x.append(x)
        line.y.append(sum(found[x]) / len(found[x]))
        line.low.append(min(found[x]))
        line.high.append(max(found[x]))
    return line


def _not_finite(axes: Axes, line: Line) -> None:
    """A cross at the foot of the axes for each value that is no number: a line would just end."""
    bad = [x for x, y in zip(line.x, line.y, strict=True) if not isfinite(y)]
    if bad:
        x, y = thinned(bad, [0.02] * len(bad))
        transform = axes.get_xaxis_transform()
        axes.plot(x, y, "x", color=RED, transform=transform, clip_on=False, label="not finite")
