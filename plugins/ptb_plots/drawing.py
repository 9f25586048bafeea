"""What the plots of matplotlib share: a figure without pyplot, colours, and text that stays text."""

from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito, 2008: eight colours that people with any colour vision tell apart; without black and yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
GREY = "#666666"
RED = "#B00020"  # of what is wrong
MOST_TEXT = 40  # characters of a name


def figure(width: float = 6.4, height: float = 4.2) -> Figure:
    """An empty figure of this size in inches, which pyplot does not know of."""
    return Figure(figsize=(width, height), layout="constrained")


def panels(count: int, width: float = 4.6, height: float = 3.3, most: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure with so many axes of this size, at most ``most`` beside each other."""
    across = min(count, most)
    down = -(-count // across)
    drawn = figure(max(width * across, 5.0), height * down + 0.4)
    axes = [drawn.add_subplot(down, across, place + 1) for place in range(count)]
    for each in axes:
        plain(each)
    return drawn, axes


def plain(axes: Axes) -> Axes:
    """The axes with a light grid and no frame at the top and the right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def legend(drawn: Figure, axes: Sequence[Axes], most: int = 4) -> None:
    """One legend below all axes, each label once."""
    found: dict[str, Any] = {}
    for each in axes:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        across = min(len(found), most)
        drawn.legend(
            [*found.values()], [*found], loc="outside lower center", ncols=across, frameon=False, fontsize="small"
        )


def whole_numbers(axes: Axes) -> None:
    """Epochs and steps have no fractions."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))


def colours(count: int) -> Iterator[str]:
    """A colour for each of ``count`` things; they begin again where there are more."""
    for place in range(count):
        yield COLOURS[place % len(COLOURS)]


def text(value: Any, most: int = MOST_TEXT) -> str:
    """A text as it is drawn: one line of printable characters, not too long, and no formula between dollar signs."""
    shown = "".join(each if each.isprintable() else " " for each in str(value))
    shown = shown if len(shown) <= most else f"{shown[: most - 1]}…"
    return shown.replace("$", r"\$")


def thinned(x: Sequence[float], y: Sequence[float | None], most: int = 2_000) -> tuple[list[float], list[float]]:
    """At most ``most`` points of a line, among them the lowest and the highest of each stretch; None becomes NaN."""
    values = [float("nan") if each is None else each for each in y]
    if len(values) <= most:
        return list(x), values
    kept: set[int] = {0, len(values) - 1}
    stretches = (most - 2) // 3
    for number in range(stretches):
        stretch = range(number * len(values) // stretches, (number + 1) * len(values) // stretches)
        known = [place for place in stretch if values[place] == values[place]]
        if known:
            kept |= {min(known, key=values.__getitem__), max(known, key=values.__getitem__)}
        if len(known) < len(stretch):  # a gap stays a gap
            kept.add(next(place for place in stretch if values[place] != values[place]))
    places = sorted(kept)
    return [x[place] for place in places], [values[place] for place in places]
