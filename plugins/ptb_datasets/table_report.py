"""What ``ptb data show`` says of a table: what each column was taken for, its figures, and what looks wrong."""

import warnings
from typing import Any

import numpy as np

from ptb_datasets.csv_settings import Csv
from ptb_datasets.csv_table import open_table
from ptb_datasets.table import Table, typed
from ptb_datasets.table_features import Feature, fit_feature, numbers_rows, suspected_codes
from ptb_datasets.table_leaks import leaks, straddling
from ptb_datasets.table_splits import split_table
from ptb_datasets.table_targets import find_target

FAR = 10  # standard deviations from the mean
SHOWN = 20


def described(options: Csv) -> dict[str, Any]:
    """Columns, transformations and warnings; the table is read again.

    Args:
        options: the settings.

    Returns:
        JSON values: ``columns``, of each ``name``, ``used_as``, ``why`` and figures of the training rows;
        ``transforms`` and ``warnings``, sentences.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are given when the data set is made
        table, columns = open_table(options)
        target = find_target(table)
        raw = target.raw([table.column(name) for name in target.columns], table.writing)
        parts = split_table(table, target, raw)
    wrong: list[str] = []
    rows: dict[str, dict[str, Any]] = {}
    transforms, features = [], []
    if options.text is not None:
        rows[options.text] = {"used_as": "text", "why": "dataset.text names it"}
    else:
        for name in columns:
            feature = fit_feature(table, name, name in options.categorical, parts[0])
            rows[name] = {"used_as": feature.used_as, "why": feature.why, **_figures(table, feature, parts[0])}
            transforms.append(_sentence(feature))
            features.append(feature)
            wrong += _suspicions(table, feature, parts[0]) or filter(None, [straddling(table, feature, parts)])
        wrong[:0] = leaks(table, features, target, raw, parts[0])
    for name in target.columns:
        figures = _numbers(table, name, parts[0]) if target.kind == "real" else {}
        rows[name] = {"used_as": "target", "why": f"dataset.target names it; {target.kind}", **figures}
    if target.kind == "real" and options.standardize_target is not False:
        for name, values in zip(target.columns, raw[parts[0]].T, strict=True):
            transforms.append(f"target {name}: {_scaled(values.mean(), values.std())}")
    uses = {"split": options.split, "group": options.group, "date": options.time, "weight": options.sample_weight}
    for use, column in uses.items():
        if column is not None and column not in rows:
            key = {"date": "time", "weight": "sample_weight"}.get(use, use)
            rows[column] = {"used_as": use, "why": f"dataset.{key} names it"}
    for name in table.names:
        if name not in rows:
            why = "dataset.exclude names it" if name in options.exclude else "it is not in dataset.features"
            rows[name] = {"used_as": "excluded", "why": why}
    left_out = [{"name": "", "used_as": "excluded", "why": note} for note in table.notes if " left out: " in note]
    order = [name for name in table.names if name in rows]
    return {
        "columns": [*left_out, *({"name": name} | rows[name] for name in order)],
        "transforms": transforms,
        "warnings": wrong,
    }


def _figures(table: Table, feature: Feature, training: np.ndarray) -> dict[str, Any]:
    column = table.column(feature.name).take(training)
    missing = int((~column.present()).sum())
    figures: dict[str, Any] = {"missing": missing} if missing else {}
    if feature.used_as == "category":
        figures |= {"values": len(feature.categories), "categories": feature.categories[:SHOWN]}
    elif feature.used_as == "boolean":
        figures |= {"share_of_yes": feature.fill[0], "yes": feature.words[1]}
    elif feature.used_as == "date":
        days = Feature(feature.name, "date", form=feature.form).numbers(column, table.writing)[:, 0]
        first, last = (np.datetime64(int(day), "D") for day in (np.nanmin(days), np.nanmax(days)))
        figures |= {"format": feature.form, "first": str(first), "last": str(last)}
    else:
        figures |= _numbers(table, feature.name, training)
    return figures


def _numbers(table: Table, name: str, training: np.ndarray) -> dict[str, Any]:
    values = table.column(name).take(training).numbers(table.writing)
    values = values[~np.isnan(values)]
    if not len(values):
        return {}
    found = {"mean": values.mean(), "std": values.std(), "smallest": values.min(), "largest": values.max()}
    return {key: float(value) for key, value in found.items()} | {"values": len(np.unique(values))}


def _sentence(feature: Feature) -> str:
    if feature.used_as == "category":
        shown = ", ".join(feature.categories[:SHOWN]) + " ..." * (len(feature.categories) > SHOWN)
        return f"{feature.name}: a 0 or 1 for each of {len(feature.categories)} values: {shown}"
    if feature.used_as == "boolean":
        return f"{feature.name}: {feature.words[0]} is 0, {feature.words[1]} is 1"
    numbers = ", ".join(_scaled(mean, std) for mean, std in zip(feature.mean, feature.std, strict=True))
    if feature.used_as == "number":
        return f"{feature.name}: {numbers}"
    what = "year, month, day, weekday, hour"[: 31 - 6 * (feature.parts == 4)] if feature.parts else "days since 1970"
    return f"{feature.name}: {what}: {numbers}"


def _scaled(mean: float, std: float) -> str:
    return f"(value {'+' if mean < 0 else '-'} {abs(mean):.6g}) / {std:.6g}"


def _suspicions(table: Table, feature: Feature, training: np.ndarray) -> list[str]:
    name, column = feature.name, table.column(feature.name)
    exclude = f"dataset.exclude={typed(name)} leaves it out"
    if feature.used_as == "category":
        if len(feature.categories) == 1:
            return [f"column {name!r} has the one value {feature.categories[0]!r} in training; {exclude}"]
        if len(feature.categories) > len(training) / 2:
            return [f"column {name!r} has a value of its own in most rows, as an id has; {exclude}"]
        return []
    numbers = feature.numbers(column, table.writing)[:, 0]
    if feature.parts:
        numbers = Feature(name, "date", form=feature.form).numbers(column, table.writing)[:, 0]
    known = numbers[training][~np.isnan(numbers[training])]
    if known.min() == known.max():
        return [f"column {name!r} is constant in training; {exclude}"]
    if codes := suspected_codes(feature, column):
        return [codes]
    if numbers_rows(column, table.writing):
        return [f"column {name!r} numbers the rows, as an id does; {exclude}"]
    if feature.used_as == "number" and not (known % 1).any() and len(np.unique(known)) == len(known) > SHOWN:
        return [f"column {name!r} has another whole number in every row, as an id has; {exclude}"]
    if feature.used_as != "number":
        return []
    far = np.abs(np.where(np.isnan(numbers), feature.mean[0], numbers) - feature.mean[0]) / feature.std[0]
    if far.max() <= FAR:
        return []
    row = int(far.argmax())
    path, line, _ = table.where(row)
    count = int((far > FAR).sum())
    others = f", and {count - 1} more" if count > 1 else ""
    value = table.written(name, row)
    return [
        f"column {name!r}, {path.name}, {line}: {value} is {far.max():.0f} standard deviations from the mean{others}; "
        "if it stands for a missing value, add it to dataset.missing_values"
    ]
