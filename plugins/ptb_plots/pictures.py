"""Samples as people see them, with truth and prediction: pictures, texts or rows of a table."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from ptb import ConfigError, RunRecord
from ptb_plots.drawing import RED, panels, text
from ptb_plots.predicted import PROBABILITY, rows_of

ACROSS = 6
LINE = 24  # characters beside a picture
MOST_LINES = 9  # of a row or text
Row = Mapping[str, Any]


def samples(records: Sequence[RunRecord], *, split: str = "test", count: int = 24) -> Figure:
    """Some samples of each class, or spread over the split, with what is predicted; red where that is wrong.

    Raises:
        ConfigError: there are several runs, or the samples are not recorded.
    """
    record, rows = rows_of(records, "samples", split)
    shown = record.samples(split)
    return _page(record, [rows[number] for number in _of_each_class(rows, sorted(shown))[:count]], shown, split)


def worst_samples(records: Sequence[RunRecord], *, split: str = "test", count: int = 24) -> Figure:
    """The samples that cost most, with their losses: mistakes of the model, and of the labels.

    Raises:
        ConfigError: there are several runs, or the loss of the run gives no value for one sample.
    """
    record, rows = rows_of(records, "worst-samples", split)
    if "loss" not in rows[0]:
        raise ConfigError(f"the loss of {record.path} gives no value for one sample, so none can be called the worst")
    shown = record.samples(split)
    worst = sorted((row for row in rows if row["sample"] in shown), key=lambda row: -_finite(row["loss"]))
    return _page(record, worst[:count], shown, split)


def _finite(loss: Any) -> float:
    value = float(loss)
    return value if value == value else float("inf")


def _of_each_class(rows: Sequence[Row], shown: Sequence[int]) -> list[int]:
    """The numbers of samples that are shown, one class after another in turn; targets of other kinds as they stand."""
    if not isinstance(rows[0].get("truth"), str):
        return [*shown]
    by_class: dict[str, list[int]] = {}
    for number in shown:
        by_class.setdefault(rows[number]["truth"], []).append(number)
    queues = [by_class[name] for name in sorted(by_class, key=lambda name: (len(name), name))]
    longest = max(map(len, queues), default=0)
    return [queue[place] for place in range(longest) for queue in queues if place < len(queue)]


def _page(record: RunRecord, rows: Sequence[Row], shown: Mapping[int, Row], split: str) -> Figure:
    if not rows:
        raise ConfigError(f"{record.path} has recorded no samples of the {split} split: they cannot be shown")
    pictured = "picture" in shown[rows[0]["sample"]]
    across = ACROSS if pictured else 3
    drawn, axes = panels(len(rows), width=1.7 if pictured else 3.4, height=2.3 if pictured else 2.1, most=across)
    for each, row in zip(axes, rows, strict=True):
        _show(each, shown[row["sample"]])
        each.set_title("\n".join(_said(row)), fontsize=7, color=RED if _is_wrong(row) else "black")
    drawn.suptitle(f"{split} split", fontsize="medium")
    return drawn


def _show(axes: Axes, shown: Row) -> None:
    """A picture, or lines of text in a frame."""
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color("#CCCCCC")
    if "picture" in shown:
        picture = imread(io.BytesIO(base64.b64decode(shown["picture"])), format="png")
        axes.imshow(picture, cmap="gray" if picture.ndim == 2 else None, vmin=0, vmax=1)
        return
    lines = _lines(shown["row"].items() if "row" in shown else [("", shown.get("text", ""))])
    axes.text(0.03, 0.97, "\n".join(lines), transform=axes.transAxes, va="top", fontsize=7)


def _lines(pairs: Iterable[tuple[str, Any]]) -> list[str]:
    lines: list[str] = []
    for name, value in pairs:
        if name:
            lines.append(f"{text(name, 24)}: {_value(value)}")
        else:
            words = text(value, 400)
            lines += [words[start : start + 46] for start in range(0, len(words), 46)]
    more = len(lines) - MOST_LINES
    return lines if more <= 0 else [*lines[: MOST_LINES - 1], f"… and {more + 1} more"]


def _said(row: Row) -> list[str]:
    """Truth, prediction and loss, a line each."""
    lines = []
    if (truth := row.get("truth")) is not None:
        lines.append(f"truth {_value(truth)}")
    predicted = [(key.partition(":")[2], row[key]) for key in row if key.partition(":")[0] == "prediction"]
    if predicted:
        values = ", ".join(f"{name + ' ' if name else ''}{_value(value)}" for name, value in predicted)
        sure = f" ({float(row['probability']):.0%})" if "probability" in row else ""
        lines.append(f"predicted {text(values, LINE)}{sure}")
    elif likely := {key.removeprefix(PROBABILITY): row[key] for key in row if key.startswith(PROBABILITY)}:
        lines.append(f"predicted {text(max(likely, key=lambda name: float(likely[name])), LINE)}")
    if "loss" in row:
        lines.append(f"loss {_value(row['loss'])}")
    return lines


def _is_wrong(row: Row) -> bool:
    return isinstance(row.get("truth"), str) and row.get("prediction", row["truth"]) != row["truth"]


def _value(value: Any) -> str:
    if isinstance(value, list):
        return text(", ".join(map(_value, value)), LINE)
    if isinstance(value, float):
        return f"{value:z.4g}"
    return text(value, LINE)
