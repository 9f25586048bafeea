"""The options of the charts of a page, made with pyecharts; they hold data only, no JavaScript."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pyecharts import options as opts
from pyecharts.charts import Bar, HeatMap, Line, Parallel, Scatter
from pyecharts.charts.base import default

from ptb_report.thinning import thinned

BLUE, ORANGE, GREEN, GREY = "#3b7dd8", "#e07b00", "#2a9d6f", "#8a94a3"
COLOURS = (BLUE, ORANGE, GREEN, "#b0569f", "#c9a400", "#c94f4f", "#4fa8c9", "#7a6bd0", "#7f9a3a", GREY)
MOST_SYMBOLS = 40  # points of a line that are drawn one by one
ZOOMED = 40  # bars that are shown at first
FEWEST_ZOOMED = 10  # points of a line, of fewer all can be seen


class Series:
    """One line of a chart: ``ys`` over ``xs``; ``band`` is the smallest and the largest value at each place."""

    def __init__(
        self,
        name: str,
        xs: Sequence[float],
        ys: Sequence[float | None],
        *,
        colour: str,
        dashed: bool = False,
        band: tuple[Sequence[float | None], Sequence[float | None]] | None = None,
    ) -> None:
        self.name, self.colour, self.dashed = name, colour, dashed
        kept = thinned(ys)
        self.places = [xs[place] for place in kept]
        self.points = [[xs[place], _finite(ys[place])] for place in kept]
        self.band = band and [[xs[place], _finite(band[0][place]), _finite(band[1][place])] for place in kept]


def lines(
    identity: str,
    series: Sequence[Series],
    x_name: str,
    *,
    mark: tuple[str, float] | None = None,
    whole: bool = True,
    bounds: tuple[float | None, float | None] = (None, None),
    y_name: str = "",
    zoom: bool = True,
) -> dict[str, Any]:
    """Curves, with zoom where they have many points.

    ``mark`` is a name and a place of a vertical line, ``whole`` says that places are integers.
    """
    chart = Line(_init(identity))
    for each in series:
        if each.band:
            _add_band(chart, each)
        alone = len(each.points) <= MOST_SYMBOLS
        chart.add_xaxis([])
        chart.add_yaxis(
            each.name,
            [],
            is_symbol_show=alone,
            symbol="circle",
            symbol_size=5,
            color=each.colour,
            label_opts=opts.LabelOpts(is_show=False),
            linestyle_opts=opts.LineStyleOpts(width=2, type_="dashed" if each.dashed else "solid", color=each.colour),
            itemstyle_opts=opts.ItemStyleOpts(color=each.colour),
            markline_opts=_mark_line(mark) if mark and each is series[-1] else None,
        )
        _set_data(chart, each.points)
    places = {place for each in series for place in each.places}
    low: Any = "dataMin"
    high: Any = "dataMax"
    if len(places) == 1:  # in the middle, and not on the edge of an axis without a length
        (place,) = places
        low, high = place - 1, place + 1
    long = zoom and len(places) >= FEWEST_ZOOMED
    chart.set_global_opts(
        **_shared("axis"),
        xaxis_opts=opts.AxisOpts(type_="value", name=x_name, min_=low, max_=high, **_middle(whole)),
        yaxis_opts=opts.AxisOpts(type_="value", is_scale=True, min_=bounds[0], max_=bounds[1], **_top(y_name)),
        datazoom_opts=[_zoom("inside"), _zoom("slider")] if long else None,
    )
    return _options(chart)


def bars(
    identity: str,
    names: Sequence[str],
    columns: Mapping[str, Sequence[float | None]],
    *,
    stacked: bool = False,
    x_name: str = "",
    y_name: str = "",
) -> dict[str, Any]:
    """Bars of several columns over names; with zoom where there are many."""
    chart = Bar(_init(identity))
    chart.add_xaxis([*names])
    for (name, values), colour in zip(columns.items(), COLOURS * len(columns), strict=False):
        chart.add_yaxis(
            name,
            [_finite(value) for value in values],
            stack="all" if stacked else None,
            label_opts=opts.LabelOpts(is_show=False),
            itemstyle_opts=opts.ItemStyleOpts(color=colour),
            category_gap="25%",
        )
    zoom = [_zoom("slider", 100 * ZOOMED / max(1, len(names)))]
    chart.set_global_opts(
        **_shared("axis"),
        xaxis_opts=opts.AxisOpts(
            type_="category", axislabel_opts=opts.LabelOpts(is_show=True), name=x_name or None, **_middle(False)
        ),
        yaxis_opts=opts.AxisOpts(type_="value", **_top(y_name)),
        datazoom_opts=zoom if len(names) > ZOOMED else None,
    )
    return _options(chart)


def points(
    identity: str, pairs: Sequence[tuple[float, float]], x_name: str, y_name: str, *, line: tuple[float, float] | None
) -> dict[str, Any]:
    """A scatter plot; ``line`` is the stretch over which the diagonal is drawn."""
    chart = Scatter(_init(identity))
    chart.add_xaxis([])
    chart.add_yaxis(
        y_name,
        [],
        symbol_size=6,
        label_opts=opts.LabelOpts(is_show=False),
        itemstyle_opts=opts.ItemStyleOpts(color=BLUE, opacity=0.6),
    )
    _set_data(chart, [[*pair] for pair in pairs])
    if line is not None:
        diagonal = Line()
        diagonal.add_xaxis([])
        diagonal.add_yaxis(
            "y = x",
            [],
            is_symbol_show=False,
            label_opts=opts.LabelOpts(is_show=False),
            linestyle_opts=opts.LineStyleOpts(width=1, type_="dashed", color=GREY),
            itemstyle_opts=opts.ItemStyleOpts(color=GREY),
        )
        _set_data(diagonal, [[each, each] for each in line])
        chart.overlap(diagonal)
    chart.set_global_opts(
        **_shared("item"),
        xaxis_opts=opts.AxisOpts(type_="value", name=x_name, is_scale=True, **_middle(False)),
        yaxis_opts=opts.AxisOpts(type_="value", is_scale=True, **_top(y_name)),
        datazoom_opts=[_zoom("inside"), _zoom("inside", orient="vertical")],
    )
    return _options(chart)


def heatmap(identity: str, names: Sequence[str], cells: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
    """Counts of many classes: ``cells`` are the numbers of truth and prediction, and how many samples they have.

    Truth goes down, prediction to the right.
    """
    most = max((count for _, _, count in cells), default=1)
    chart = HeatMap(_init(identity))
    chart.add_xaxis([*names])
    chart.add_yaxis(
        "",
        [*names],
        [[prediction, truth, count] for truth, prediction, count in cells],
        label_opts=opts.LabelOpts(is_show=False),
    )
    chart.set_global_opts(
        **_shared("item", legend=False),
        xaxis_opts=opts.AxisOpts(type_="category"),
        yaxis_opts=opts.AxisOpts(type_="category", is_inverse=True),
        visualmap_opts=opts.VisualMapOpts(
            min_=0, max_=most, is_show=False, range_color=["#9ec5f2", "#3b7dd8", "#12305c"]
        ),
        datazoom_opts=[_zoom("inside"), _zoom("inside", orient="vertical")],
    )
    return _options(chart)


def parallel(identity: str, axes: Sequence[str], rows: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    """Parallel coordinates: a line for each run over settings and figures."""
    chart = Parallel(_init(identity))
    schema = [opts.ParallelAxisOpts(dim=place, name=name, is_scale=True) for place, name in enumerate(axes)]
    chart.add_schema(schema, opts.ParallelOpts(pos_left="8%", pos_right="12%", pos_top="60", pos_bottom="30"))
    for (name, values), colour in zip(rows.items(), COLOURS * len(rows), strict=False):
        style = opts.LineStyleOpts(width=2, opacity=0.9, color=colour)
        item = opts.ItemStyleOpts(color=colour)
        chart.add(name, [[*map(_finite, values)]], linestyle_opts=style, itemstyle_opts=item)
    chart.set_global_opts(**_shared("item"))
    return _options(chart)


def _init(identity: str) -> opts.InitOpts:
    return opts.InitOpts(chart_id=identity, animation_opts=opts.AnimationOpts(animation=False))


def _shared(trigger: str, legend: bool = True) -> dict[str, Any]:
    return {
        "title_opts": opts.TitleOpts(is_show=False),
        "legend_opts": opts.LegendOpts(is_show=legend, type_="scroll", pos_top="0"),
        "tooltip_opts": opts.TooltipOpts(trigger=trigger, is_confine=True),
    }


def _zoom(kind: str, end: float = 100, orient: str = "horizontal") -> opts.DataZoomOpts:
    return opts.DataZoomOpts(type_=kind, range_start=0, range_end=end, orient=orient)


def _middle(whole: bool) -> dict[str, Any]:
    """The name of an axis stands below the middle of it."""
    return {"name_location": "middle", "name_gap": 26, "min_interval": 1 if whole else 0}


def _top(name: str) -> dict[str, Any]:
    """The name of a vertical axis stands above it, to be read without turning one's head."""
    style = opts.TextStyleOpts(align="left")
    return {"name": name, "name_location": "end", "name_gap": 8, "name_textstyle_opts": style} if name else {}


def _mark_line(mark: tuple[str, float]) -> opts.MarkLineOpts:
    name, place = mark
    item = opts.MarkLineItem(name=name, x=place)
    label = opts.LabelOpts(formatter="{b}", position="end", rotate=0)
    style = opts.LineStyleOpts(type_="dotted", color=GREY)
    return opts.MarkLineOpts(data=[item], symbol="none", label_opts=label, linestyle_opts=style, is_silent=True)


def _add_band(chart: Line, series: Series) -> None:
    """Two stacked areas: an invisible one up to the smallest value, a shaded one from there to the largest."""
    for place in (0, 1):
        chart.add_xaxis([])
        chart.add_yaxis(
            "",
            [],
            is_symbol_show=False,
            stack=f"band {series.name}",
            stack_strategy="all",
            label_opts=opts.LabelOpts(is_show=False),
            linestyle_opts=opts.LineStyleOpts(width=0, opacity=0),
            areastyle_opts=opts.AreaStyleOpts(opacity=0.2 * place, color=series.colour),
            tooltip_opts=opts.TooltipOpts(is_show=False),
        )
        _set_data(chart, [[x, _height(low, high, place)] for x, low, high in series.band or ()])


def _set_data(chart: Any, points: Sequence[Sequence[float | None]]) -> None:
    """Points of the series that was added last: pyecharts would give each of them options of its own."""
    chart.options["series"][-1]["data"] = points


def _height(low: float | None, high: float | None, place: int) -> float | None:
    return low if place == 0 or low is None or high is None else high - low


def _options(chart: Any) -> dict[str, Any]:
    """As the JSON that ECharts gets, less what says nothing."""
    options: dict[str, Any] = json.loads(json.dumps(chart.get_options(), default=default, allow_nan=False))
    options.pop("title", None)
    for axis in options.get("xAxis", ()):
        if axis.get("type") == "value":
            axis.pop("data", None)
    for legend in options["legend"]:
        legend["data"] = [name for name in legend.get("data", ()) if name]
    return options


def _finite(value: float | None) -> float | None:
    """What JSON can hold; a gap for what it cannot."""
    return value if value is not None and value - value == 0 else None
