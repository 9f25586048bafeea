"""The curves of one run: every figure, train and validation, and the learning rate."""

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

from ptb import RunRecord
from ptb_report import charts
from ptb_report.blocks import Chart, Note, Table
from ptb_report.history import Curve, History
from ptb_report.thinning import thinned
from ptb_report.words import Words

MOST_ROWS = 200  # of a table behind a chart
MOST_CHARTS = 12
STYLES = {"train": (charts.ORANGE, True), "val": (charts.BLUE, False)}


def curves(record: RunRecord, past: History, words: Words) -> Iterator[Any]:
    """A chart for each figure; the first ones, where there are many."""
    if not past.curves:
        yield Note(words("There are no rows in metrics.jsonl."), "warning")
        return
    figures = list(past.curves.items())
    for place, (name, of_splits) in enumerate(figures[:MOST_CHARTS]):
        yield _chart(f"curve-{place}", name, of_splits, record, past, words)
    if len(figures) > MOST_CHARTS:
        text = "{number} more figures are in metrics.jsonl: {names}"
        rest = ", ".join(name for name, _ in figures[MOST_CHARTS:])
        yield Note(words(text, number=len(figures) - MOST_CHARTS, names=rest))
    if len(past.rates.values) > 1:
        yield _chart("curve-lr", words("learning rate"), [past.rates], record, past, words, mark=False)


def _chart(
    identity: str,
    name: str,
    of_splits: Sequence[Curve],
    record: RunRecord,
    past: History,
    words: Words,
    mark: bool = True,
) -> Chart:
    place_name = words("epoch") if past.by_epoch else words("step")
    series = [
        charts.Series(
            curve.split, curve.places, curve.values, colour=STYLES[curve.split][0], dashed=STYLES[curve.split][1]
        )
        for curve in of_splits
    ]
    best = _best(record, past) if mark else None
    options = charts.lines(identity, series, place_name, mark=None if best is None else (words("best"), best))
    alt = words("Curve of {name} by {place}.", name=name, place=place_name) + " ".join(
        _told(curve, place_name, words) for curve in of_splits
    )
    note = _gaps(of_splits, place_name, words)
    return Chart(identity, name, alt, options, table(of_splits, place_name, words), note=note)


def table(of_splits: Sequence[Curve], place_name: str, words: Words) -> Table:
    """The values behind a chart, thinned where there are many."""
    rows: dict[float, list[Any]] = {}
    whole = 0
    for column, curve in enumerate(of_splits):
        whole = max(whole, len(curve.values))
        for place in thinned(curve.values, MOST_ROWS):
            row = rows.setdefault(curve.places[place], [None] * len(of_splits))
            row[column] = curve.values[place]
    caption = words("The values as a table")
    if whole > MOST_ROWS:
        text = "{shown} of {number} values as a table; all are in metrics.jsonl"
        caption = words(text, shown=f"{len(rows):,}", number=f"{whole:,}")
    head = [place_name, *(curve.split for curve in of_splits)]
    return Table(head, [(place, *rows[place]) for place in sorted(rows)], caption, hidden=True)


def _best(record: RunRecord, past: History) -> float | None:
    """Where the best step stands on the axis."""
    step = record.summary.get("best_step")
    if step is None or not past.by_epoch:
        return step
    return next((row["epoch"] for row in record.history if row.get("step") == step and "epoch" in row), None)


def _told(curve: Curve, place_name: str, words: Words) -> str:
    """A curve in words, for those who cannot see it."""
    finite = [(value, place) for value, place in zip(curve.values, curve.places, strict=True) if _is_finite(value)]
    if not finite:
        return words(" {split}: no finite value.", split=curve.split)
    (low, low_place), (high, high_place) = min(finite), max(finite)
    text = (
        " {split}: from {first} to {last}; smallest {low} at {place} {low_place}, largest {high} at {place} "
        "{high_place}."
    )
    return words(
        text,
        split=curve.split,
        first=f"{finite[0][0]:.4g}",
        last=f"{finite[-1][0]:.4g}",
        low=f"{low:.4g}",
        high=f"{high:.4g}",
        place=place_name,
        low_place=low_place,
        high_place=high_place,
    )


def _gaps(of_splits: Sequence[Curve], place_name: str, words: Words) -> str:
    """Where a curve is not finite, which no axis can show."""
    found = [
        f"{curve.split} {value} ({place_name} {place})"
        for curve in of_splits
        for value, place in zip(curve.values, curve.places, strict=True)
        if value is not None and not isfinite(value)
    ]
    if not found:
        return ""
    shown = ", ".join(found[:5]) + (" …" if len(found) > 5 else "")
    return words("Not finite, so not drawn: {values}", values=shown)


def _is_finite(value: float | None) -> bool:
    return value is not None and isfinite(value)
