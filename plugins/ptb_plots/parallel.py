"""Parallel coordinates: which settings go with which figures, over many runs."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from pyecharts import options as opts
from pyecharts.charts import Parallel

from ptb import ConfigError, RunRecord
from ptb_plots.runs import names

MOST_AXES = 16
SHADES = ["#0072B2", "#56B4E9", "#E69F00", "#D55E00"]


def parallel(records: Sequence[RunRecord], *, figure: str = "") -> Parallel:
    """An axis for each setting in which the runs differ and for each of their figures, a line for each run.

    Drag along an axis to choose runs.

    Args:
        records: two runs at least.
        figure: which colours the lines, such as ``val/accuracy``; without it the first of the last split.

    Raises:
        ConfigError: the runs have no figure, or not this one, in common.
    """
    found = [_numbers(record) for record in records]
    common = [key for key in found[0] if all(key in each for each in found)]
    if not common:
        raise ConfigError(
            "the runs have no figure in common: none has ended, or they were measured by different metrics"
        )
    if figure and figure not in common:
        raise ConfigError(f"the runs have no figure '{figure}' in common; they have {', '.join(common)}")
    settings = _differing(records)
    split = next(s for s in ("test", "val", "train") if any(key.startswith(f"{s}/") for key in common))
    shown = [key for key in common if key.startswith(f"{split}/") and key.count("/") == 1] or common[:1]
    figure = figure or shown[0]
    shown = [*[key for key in shown if key != figure], figure]
    columns: dict[str, list[Any]] = {"run": names(records)}
    columns |= dict([*settings.items()][: MOST_AXES - len(shown) - 1])
    columns |= {key: [each[key] for each in found] for key in shown}
    columns = {name: _numbers_or_words(column) for name, column in columns.items()}
    rows = [[*row] for row in zip(*columns.values(), strict=True)]
    values = [each[figure] for each in found]
    chart = Parallel(init_opts=opts.InitOpts(chart_id="parallel", animation_opts=opts.AnimationOpts(animation=False)))
    chart.add_schema([_axis(place, name, column) for place, (name, column) in enumerate(columns.items())])
    chart.add("runs", rows, linestyle_opts=opts.LineStyleOpts(width=2, opacity=0.7))
    chart.set_global_opts(
        legend_opts=opts.LegendOpts(is_show=False),
        visualmap_opts=opts.VisualMapOpts(
            min_=min(values),
            max_=max(values),
            dimension=len(columns) - 1,
            range_color=SHADES,
            precision=4,
            pos_left="left",
            pos_bottom="bottom",
        ),
    )
    return chart


def _axis(place: int, name: str, column: Sequence[Any]) -> opts.ParallelAxisOpts:
    """An axis of numbers, logarithmic where they are of different sizes, or of words."""
    if not isinstance(column[0], str):
        low, high = min(column), max(column)
        kind = "log" if low > 0 and high / low >= 100 else "value"
        return opts.ParallelAxisOpts(dim=place, name=name, type_=kind, is_scale=True)
    return opts.ParallelAxisOpts(dim=place, name=name, type_="category", data=[*dict.fromkeys(column)])


def _numbers_or_words(column: Sequence[Any]) -> list[Any]:
    """The values as numbers, if all are, else as words."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in column):
        return [*column]
    return ["none" if value is None else str(value)[:40] for value in column]


def _numbers(record: RunRecord) -> dict[str, float]:
    """The finite figures of the summary; of a run that has not ended the last rows of each split."""
    figures: dict[str, Any] = dict(record.summary.get("metrics") or {})
    if not figures:
        for row in record.history:
            figures |= {f"{row.get('split')}/{name}": value for name, value in row.get("values", {}).items()}
    known = {key: float(value) for key, value in figures.items() if value is not None}
    return {key: value for key, value in known.items() if isfinite(value)}


def _differing(records: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """The settings that differ, with the value of each run."""
    flat = [dict(_leaves(record.config)) for record in records]
    keys = dict.fromkeys(key for each in flat for key in each)
    values = {key: [each.get(key) for each in flat] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def _leaves(values: Mapping[str, Any], place: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        found += _leaves(value, f"{place}{key}.") if isinstance(value, Mapping) else [(f"{place}{key}", value)]
    return found
