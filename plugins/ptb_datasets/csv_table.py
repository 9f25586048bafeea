"""Your own table: numbers, categories, dates or a column of text, from CSV, Excel or Parquet files."""

import warnings
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch.utils.data import TensorDataset

from ptb import ConfigError, DataBundle, DataError, DataSpec
from ptb_datasets.csv_settings import Csv
from ptb_datasets.splits import class_counts
from ptb_datasets.table import Table, named, typed
from ptb_datasets.table_features import Feature, fit_feature, numbers_rows, suspected_codes
from ptb_datasets.table_leaks import ID, leaks
from ptb_datasets.table_preprocessor import TablePreprocessor
from ptb_datasets.table_rows import SplitRows
from ptb_datasets.table_splits import split_table
from ptb_datasets.table_targets import Target, find_target, fit_target
from ptb_datasets.words import SPECIAL, Vocabulary

MOST_FAULTS = 10
DEFAULT_MAX_LENGTH, DEFAULT_VOCABULARY = 64, 10_000


def csv_table(**settings: Any) -> DataBundle:
    """A table with a header, in CSV or what pandas reads. Whatever is learnt from it is learnt from the training rows.

    Columns of numbers and dates are standardised; two words such as yes and no become 1 and 0; columns of other text
    with at most 20 different values become one 0 or 1 for each value that the training rows have, all 0 for other
    values. Alternatively one column of text becomes tokens: its words in lower case, 0 pads, 1 is an unknown word.

    Two different values of the target are binary, other text and at most 20 different whole numbers are classes, other
    numbers are real.

    Args:
        **settings: those of ``ptb_datasets.csv_settings.Csv``.

    Returns:
        Inputs float32 ``[N, columns]``, or int64 tokens ``[N, max_length]``; targets int64 ``[N]`` for class, float32
        ``[N, D]`` for several columns, else float32 ``[N, 1]``; with ``sample_weight`` also weights float32 ``[N]``.

    Raises:
        ConfigError: options do not go together.
        DataError: the table cannot be read or used; the message names the column and the line.
    """
    options = checked(settings)
    table, columns = open_table(options)
    target = find_target(table)
    raw = target.raw([table.column(name) for name in target.columns], table.writing)
    parts = split_table(table, target, raw)
    if target.kind == "real" and options.standardize_target is not False:
        fit_target(target, raw, parts[0])
    encoded = target.encode(raw)
    weights = _weights(table, parts[0])
    splits, preprocessor, form = _inputs(table, columns, target, raw, parts)
    if target.kind in ("class", "binary"):
        counts = class_counts(raw[parts[0]], len(target.names))
    else:
        counts = tuple(raw[parts[0]].sum(axis=0).astype(int).tolist()) if target.kind == "multilabel" else ()
    several = len(target.columns)
    spec = DataSpec(
        **form,
        target=target.kind,
        output_size=len(target.names) if target.kind == "class" else several,
        class_names=tuple(target.names or (target.columns if several > 1 else ())),
        class_counts=counts,
        target_mean=tuple(target.mean),
        target_std=tuple(target.std),
    )
    preprocessor.spec = spec
    bundles = []
    for inputs, part in zip(splits, parts, strict=True):
        tensors = [torch.from_numpy(values[part]) for values in (encoded, weights) if values is not None]
        bundles.append(TensorDataset(torch.from_numpy(inputs), *tensors) if len(part) else None)
    train, val, test = bundles
    assert train is not None
    rows = SplitRows.of(table, parts)
    return DataBundle(
        spec,
        train,
        val,
        test,
        preprocessor=preprocessor,
        notes=tuple(table.notes),
        describe=_describer(options),
        names=rows.names,
        write_splits=rows.write,
    )


def checked(settings: dict[str, Any]) -> Csv:
    """The settings, as ``ptb`` checks them.

    Raises:
        ConfigError: one is wrong.
    """
    try:
        plain = {name: fspath(value) if isinstance(value, PathLike) else value for name, value in settings.items()}
        return Csv(**plain)
    except ValidationError as error:
        problems = [
            ".".join(("dataset", *map(str, each["loc"]))) + ": " + each["msg"].removeprefix("Value error, ")
            for each in error.errors()
        ]
        raise ConfigError(*problems) from None


def open_table(options: Csv) -> tuple[Table, list[str]]:
    """The rows that are used, and the columns that the model sees."""
    for name in options.categorical:
        if options.features is not None and name not in options.features:
            raise ConfigError(f"dataset.categorical: {name!r} is none of the features")
    used = {*options.targets, options.split, options.group, options.time, options.sample_weight}
    used -= {options.group, options.time} & {*(options.features or ())}
    texts = () if options.text is None else (options.text,)
    for key, names in (("features", options.features or ()), ("text", texts), ("exclude", options.exclude)):
        for name in names:
            if name in used:
                what = "target" if name in options.targets else "column of another setting"
                raise ConfigError(f"dataset.{key}: {name!r} is the {what}")
    if both := [name for name in options.exclude if name in (*(options.features or ()), *options.categorical)]:
        raise ConfigError(f"dataset.exclude: {both[0]!r} is used; leave it out of exclude or of the other setting")
    paths = [Path(path) for path in (options.path, options.train, options.val, options.test) if path]
    table = Table(options, paths)
    if options.text is not None:
        columns = [options.text]
    elif options.features is not None:
        columns = list(options.features)
    else:
        others = {*options.targets, *options.exclude, options.split, options.group, options.time, options.sample_weight}
        columns = [name for name in table.names if name not in others]
    if not columns:
        raise DataError(f"{table.path} has no column besides the target {options.targets[0]!r}")
    try:
        table.drop_missing(columns, [name for name in named(options) if name not in columns])
    except DataError as error:
        raise _all_faults(table, columns, np.arange(len(table)), error) from None
    return table, columns


def _inputs(
    table: Table, columns: list[str], target: Target, raw: np.ndarray, parts: list[np.ndarray]
) -> tuple[list[np.ndarray], TablePreprocessor, dict[str, Any]]:
    """The inputs of each split, what makes them, and what the spec says of them."""
    options = table.options
    if options.text is not None:
        return _tokens(table, options.text, target, parts)
    try:
        features = [fit_feature(table, name, name in options.categorical, parts[0]) for name in columns]
    except DataError as error:
        raise _all_faults(table, columns, parts[0], error) from None
    width = sum(feature.width for feature in features)
    splits = [np.empty((len(part), width), np.float32) for part in parts]
    start = 0
    for feature in features:
        column = table.column(feature.name)
        if codes := suspected_codes(feature, column):
            warnings.warn(codes, UserWarning, stacklevel=3)
        for inputs, part in zip(splits, parts, strict=True):
            inputs[:, start : start + feature.width] = feature.encode(column.take(part), table.writing)
        start += feature.width
    _warn_of_row_numbers(table, columns, target)
    for leak in leaks(table, features, target, raw, parts[0]):
        warnings.warn(leak, UserWarning, stacklevel=3)
    table.notes.extend(_taken(features))
    spec = {"input_shape": (width,), "inputs": "vector"}
    return splits, TablePreprocessor.of(options, features, target, None, 0), spec


def _all_faults(table: Table, columns: list[str], training: np.ndarray, first: DataError) -> DataError:
    """What is wrong with each column, so that nobody mends one after another."""
    faults = [str(first)]
    for name in columns if table.options.text is None else ():
        try:
            fit_feature(table, name, name in table.options.categorical, training)
        except DataError as error:
            faults.append(str(error))
    faults = list(dict.fromkeys(faults))
    more = [f"there are {len(faults) - MOST_FAULTS} more"] * (len(faults) > MOST_FAULTS)
    return DataError("\n  ".join([*faults[:MOST_FAULTS], *more]))


def _tokens(
    table: Table, name: str, target: Target, parts: list[np.ndarray]
) -> tuple[list[np.ndarray], TablePreprocessor, dict[str, Any]]:
    options, column = table.options, table.column(name)
    length = options.max_length or DEFAULT_MAX_LENGTH
    texts = [column.text(row) for row in range(len(column))]
    known = Vocabulary((texts[row] for row in parts[0]), options.vocabulary or DEFAULT_VOCABULARY)
    if len(known) == SPECIAL:
        table.fail(name, int(parts[0][0]), "no training row has a word in it")
    splits = [known.encode([texts[row] for row in part], length) for part in parts]
    spec = {"input_shape": (length,), "inputs": "tokens", "vocabulary": len(known)}
    return splits, TablePreprocessor.of(options, [], target, known, length), spec


def _warn_of_row_numbers(table: Table, columns: list[str], target: Target) -> None:
    """Of a feature that numbers the rows and is called so, or shows the class because the rows are sorted by it."""
    labels = target.raw([table.column(name) for name in target.columns], table.writing)
    sorted_rows = labels.ndim == 1 and np.count_nonzero(np.diff(labels)) < 2 * len(target.names)
    for name in columns:
        if table.options.features is None and numbers_rows(table.column(name), table.writing):
            if sorted_rows or ID.search(name):
                shows = ", and the rows are sorted by the target, which it so gives away" if sorted_rows else ""
                warnings.warn(
                    f"column {name!r} numbers the rows{shows}: add dataset.exclude={typed(name)}, or name it in "
                    "dataset.features if a model shall see it",
                    UserWarning,
                    stacklevel=3,
                )
            else:
                table.notes.append(f"{name} numbers the rows (dataset.exclude={typed(name)} leaves it out)")


def _weights(table: Table, training: np.ndarray) -> np.ndarray | None:
    name = table.options.sample_weight
    if name is None:
        return None
    column = table.column(name)
    weights = column.numbers(table.writing)
    bad = ~((weights >= 0) & (weights <= np.finfo(np.float32).max))
    if bad.any():
        row = int(bad.argmax())
        table.fail(name, row, f"{column.text(row)!r} is no weight: 0 or more")
    if not weights[training].any():
        raise DataError(f"{table.path}, column {name!r}: the weight of every training row is 0")
    return weights.astype(np.float32)


def _taken(features: list[Feature]) -> list[str]:
    """What columns were taken for where that may surprise."""
    words = {"boolean": "yes or no", "date": "dates", "category": "categories"}
    found = {kind: [f.name for f in features if f.used_as == kind] for kind in words}
    more = {kind: f" and {len(names) - 5} more" * (len(names) > 5) for kind, names in found.items()}
    return [f"{', '.join(names[:5])}{more[kind]} taken as {words[kind]}" for kind, names in found.items() if names]


def _describer(options: Csv) -> Any:
    def describe() -> dict[str, Any]:
        from ptb_datasets.table_report import described

        return described(options)

    return describe
