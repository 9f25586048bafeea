"""The page of several runs: what they differ in, their figures, their curves over each other."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ptb import RunRecord
from ptb_report import about, charts
from ptb_report.blocks import Chart, Note, Page, Table
from ptb_report.curves import MOST_CHARTS, table
from ptb_report.history import Curve, History, history, last_figures, number
from ptb_report.one_run import section
from ptb_report.words import Words

MOST_VALUE = 200  # characters of a setting


def several_runs(records: Sequence[RunRecord], words: Words) -> Page:
    """The page of two runs or more."""
    labels = _labels(records)
    differing = _differing(records)
    sections = [
        section("figures", words("Figures"), words, lambda: _figures(records, labels, words)),
        section("settings", words("What they differ in"), words, lambda: _settings(differing, labels, words)),
        section("curves", words("Curves"), words, lambda: _curves(records, labels, differing, words)),
        section("parallel", words("Settings and figures"), words, lambda: _parallel(records, labels, differing, words)),
    ]
    title = words("{number} runs", number=len(records))
    sections = [each for each in sections if each.blocks]
    return Page(title, "", " · ".join(labels), sections)


def _labels(records: Sequence[RunRecord]) -> list[str]:
    """A name for each run that no other has: that of its directory, else its path."""
    names = [record.path.resolve().name for record in records]
    return names if len(set(names)) == len(names) else [str(record.path) for record in records]


def _figures(records: Sequence[RunRecord], labels: Sequence[str], words: Words) -> Iterator[Any]:
    metrics = [record.summary.get("metrics") or last_figures(record) for record in records]
    keys = list(dict.fromkeys(key for each in metrics for key in each))
    head = ["", *labels]
    rows: list[list[Any]] = [[words("status"), *(about.status_in(record, words) for record in records)]]
    rows += [[key, *(each.get(key) for each in metrics)] for key in keys]
    yield Table(head, rows)
    for record, label in zip(records, labels, strict=True):
        for note in about.warnings(record, history(record), words):
            if note.kind == "warning":
                yield Note(f"{label}: {note.text}", "warning")


def _settings(differing: Mapping[str, Sequence[Any]], labels: Sequence[str], words: Words) -> Iterator[Any]:
    if not differing:
        yield Note(words("Their settings are the same."))
        return
    rows = [[key, *map(_shown, values)] for key, values in differing.items()]
    yield Table(["", *labels], rows)


def _curves(
    records: Sequence[RunRecord], labels: Sequence[str], differing: Mapping[str, Sequence[Any]], words: Words
) -> Iterator[Any]:
    """A chart for each figure of the validation split, or of training where there is none; seeds become a band."""
    pasts = [history(record) for record in records]
    by_epoch = all(past.by_epoch for past in pasts)
    if not by_epoch:
        pasts = [history(record, by_epoch=False) for record in records]
    groups = _groups(records, labels, differing, words)
    names = list(dict.fromkeys(name for past in pasts for name in past.curves))
    place_name = words("epoch") if by_epoch else words("step")
    if any(len(members) > 1 for members in groups.values()):
        text = (
            "Runs that differ in the seed alone are one curve: their mean, and a band from the smallest to the largest "
            "value."
        )
        yield Note(words(text))
    for number_, name in enumerate(names[:MOST_CHARTS]):
        split = "val" if any(_curve(past, name, "val") for past in pasts) else "train"
        series, behind = [], []
        for (label, members), colour in zip(groups.items(), charts.COLOURS * len(groups), strict=False):
            curves = [curve for member in members if (curve := _curve(pasts[member], name, split))]
            if curves:
                mean, low, high = _summed(curves)
                band = (low, high) if len(curves) > 1 else None
                series.append(charts.Series(label, mean.places, mean.values, colour=colour, band=band))
                behind.append(Curve(label, mean.places, mean.values))
        if series:
            identity, title = f"curve-{number_}", f"{split}/{name}"
            alt = words("Curves of {name} of {number} runs.", name=title, number=len(records))
            options = charts.lines(identity, series, place_name)
            yield Chart(identity, title, alt, options, table(behind, place_name, words))


def _parallel(
    records: Sequence[RunRecord], labels: Sequence[str], differing: Mapping[str, Sequence[Any]], words: Words
) -> Iterator[Any]:
    """Of three runs or more: how figures go with the settings that are numbers."""
    axes = {
        key: [number(value) if not isinstance(value, str) else None for value in values]
        for key, values in differing.items()
    }
    axes = {key: values for key, values in axes.items() if all(value is not None for value in values)}
    metrics = [record.summary.get("metrics") or {} for record in records]
    for key in dict.fromkeys(key for each in metrics for key in each if key.count("/") == 1):
        if key.startswith(("val/", "test/")):
            axes[key] = [number(each.get(key)) for each in metrics]
    if len(records) < 3 or len(axes) < 2:
        return
    figures = [key for key in axes if key not in differing]
    places = [place for place in range(len(records)) if any(_is_finite(axes[key][place]) for key in figures)]
    drawn = {key: values for key, values in axes.items() if all(_is_finite(values[place]) for place in places)}
    note = " ".join(_left_out(labels, places, [key for key in axes if key not in drawn], words))
    if len(places) < 2 or len(drawn) < 2:
        yield Note(note, "warning")
        return
    rows = {labels[place]: [values[place] for values in drawn.values()] for place in places}
    whole = [(label, *(values[place] for values in axes.values())) for place, label in enumerate(labels)]
    behind = Table(["", *axes], whole, words("The values as a table"), hidden=True)
    alt = words("Parallel coordinates: a line for each run over {names}.", names=", ".join(drawn))
    options = charts.parallel("parallel", [*drawn], rows)
    yield Chart("parallel", words("Settings and figures"), alt, options, behind, 360, note=note)


def _left_out(labels: Sequence[str], places: Sequence[int], keys: Sequence[str], words: Words) -> Iterator[str]:
    """What the chart lacks: a line through a missing value would be drawn as if there were one."""
    if runs := [label for place, label in enumerate(labels) if place not in places]:
        yield words("Not drawn, because they have no figures in summary.json: {names}.", names=", ".join(runs))
    if keys:
        yield words("Not drawn, because a run has no value of them: {names}.", names=", ".join(keys))


def _is_finite(value: float | None) -> bool:
    return value is not None and value - value == 0


def _groups(
    records: Sequence[RunRecord], labels: Sequence[str], differing: Mapping[str, Sequence[Any]], words: Words
) -> dict[str, list[int]]:
    """The places of the runs that are one curve: alike but for their seeds, and recorded for the same epochs."""
    places: dict[str, list[int]] = {}
    for place, record in enumerate(records):
        others = {key: values[place] for key, values in differing.items() if key != "seed"}
        recorded = len({(row.get("epoch"), row.get("step")) for row in record.history if row.get("split") != "test"})
        places.setdefault(json.dumps([others, recorded], sort_keys=True, default=str), []).append(place)
    found: list[list[int]] = []
    for members in places.values():
        seeds = {records[place].config.get("seed") for place in members}
        found += [members] if len(seeds) == len(members) else [[place] for place in members]
    alone = sum(len(members) > 1 for members in found) == 1
    return {_label([labels[place] for place in members], alone, words): members for members in found}


def _label(runs: Sequence[str], alone: bool, words: Words) -> str:
    """What a curve is called; ``alone`` says that no other curve is one of several seeds."""
    if len(runs) == 1:
        return runs[0]
    seeds = words("{number} seeds", number=len(runs))
    return seeds if alone and seeds not in runs else f"{seeds}: {', '.join(runs)}"


def _summed(curves: Sequence[Curve]) -> tuple[Curve, list[float | None], list[float | None]]:
    """The mean of curves, and their smallest and largest values, at the places that any of them has."""
    values: dict[float, list[float]] = {}
    for curve in curves:
        for place, value in zip(curve.places, curve.values, strict=True):
            each = values.setdefault(place, [])
            if value is not None and value - value == 0:
                each.append(value)
    places = sorted(values)
    columns = [
        [reduce(values[place]) if values[place] else None for place in places]
        for reduce in (lambda found: sum(found) / len(found), min, max)
    ]
    return Curve(curves[0].split, places, columns[0]), columns[1], columns[2]


def _curve(past: History, name: str, split: str) -> Curve | None:
    return next((curve for curve in past.curves.get(name, ()) if curve.split == split), None)


def _differing(records: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, each with the value of every run, None where it has none."""
    flat = [dict(_leaves(record.config)) for record in records]
    keys = sorted({key for each in flat for key in each})
    values = {key: [each.get(key) for each in flat] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def _leaves(values: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value


def _shown(value: Any) -> Any:
    """A setting in a cell."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text[:MOST_VALUE]
