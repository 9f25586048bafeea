"""Writes a figure of matplotlib as PNG, SVG or PDF, and a chart of pyecharts as HTML; the same bytes each time."""

import io
import sys
import warnings
from pathlib import Path
from typing import Any

from ptb import ConfigError, PluginError
from ptb.internals import listing, storage_errors, write_atomically
from ptb_draw.fonts import use_fonts

FIGURE = (".png", ".svg", ".pdf")
CHART = (".html",)
DPI = 150
# What a file would else say of the day on which it was drawn.
UNDATED: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}


def check_file(output: Path | None) -> None:
    """Refuses, before anything is drawn, a file that is there and one of a format that nothing can be drawn in.

    Raises:
        ConfigError: it says which formats there are.
    """
    if output is None:
        return
    if output.suffix.lower() not in FIGURE + CHART:
        raise ConfigError(f"-o {output}: a plot is a file that ends in {listing([*FIGURE, *CHART])}")
    if output.exists() or output.is_symlink():
        raise ConfigError(f"-o {output} is there already; name a new file, or remove it")


def write(drawn: Any, output: Path | None, default: Path, plot: str = "the plot") -> Path:
    """Write what a plot has drawn.

    Args:
        drawn: a matplotlib ``Figure`` or a chart of pyecharts.
        output: the file; None for ``default`` with the first suffix that it can have, which may be there.
        plot: what messages call the plot.
        default: a path without a suffix.

    Returns:
        The file.

    Raises:
        ConfigError: it cannot be drawn in this format.
        PluginError: it is neither.
    """
    is_figure, is_chart = _is_figure(drawn), callable(getattr(drawn, "dump_options", None))
    if not (is_figure or is_chart):
        got = "None" if drawn is None else f"a {type(drawn).__name__}"
        raise PluginError(f"{plot} returned {got}, not a figure of matplotlib or a chart of pyecharts")
    suffixes, what = (FIGURE, "a figure of matplotlib") if is_figure else (CHART, "a chart of pyecharts")
    file = default.with_name(default.name + suffixes[0]) if output is None else output
    if file.suffix.lower() not in suffixes:
        raise ConfigError(f"-o {file}: this plot is {what}, which is written as {listing([*suffixes])}")
    if output is None:
        with storage_errors(file.parent):
            file.parent.mkdir(exist_ok=True)
    write_atomically(file, figure_bytes(drawn, file.suffix.lower()) if is_figure else _page(drawn, file))
    return file


def figure_bytes(figure: Any, suffix: str) -> bytes:
    """The file of a figure, which is the same whenever it is drawn; text stays text in SVG."""
    import matplotlib as mpl

    use_fonts(figure, warns=suffix != ".svg")
    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "ptb", "svg.fonttype": "none", "pdf.fonttype": 42}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # use_fonts has said it
        figure.savefig(stream, format=suffix[1:], dpi=DPI, metadata=UNDATED[suffix])
    return stream.getvalue()


def _page(chart: Any, file: Path) -> str:
    from ptb_draw.page import page

    return page(chart, file.stem)


def _is_figure(drawn: Any) -> bool:
    figure = getattr(sys.modules.get("matplotlib.figure"), "Figure", None)
    return figure is not None and isinstance(drawn, figure)
