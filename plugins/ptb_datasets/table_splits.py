"""Which rows of a table train, validate and test: as its files or a column say, by group, time or fold, or drawn."""

from collections.abc import Sequence

import numpy as np

from ptb import DataError
from ptb_datasets.csv_settings import Csv
from ptb_datasets.splits import fold_split, keep_classes, quantile_split, stratified_split, value_bins
from ptb_datasets.table import Table
from ptb_datasets.table_targets import Target

SPLITS = ("train", "val", "test")
WORDS = {
    **dict.fromkeys(("train", "training"), 0),
    **dict.fromkeys(("val", "valid", "validation", "dev"), 1),
    **dict.fromkeys(("test", "testing"), 2),
}


def split_table(table: Table, target: Target, raw: np.ndarray) -> list[np.ndarray]:
    """The sorted row numbers of train, val and test; a split that is not asked for has none.

    Raises:
        DataError: a split that is asked for would have no rows, or training would lack a class.
    """
    options = table.options
    fractions = options.fractions()
    given = _given(table)
    pool = np.arange(len(table)) if given is None else given[0]
    if options.time is not None:
        parts = _by_time(table, fractions)
    elif options.group is not None:
        parts = _by_group(table, raw, fractions)
    else:
        parts = [pool[part] for part in _drawn(options, target, raw[pool], fractions)]
        if target.kind in ("class", "binary") and given is None:
            asked = (fractions[0], 1.0 if options.folds else fractions[1])
            _check_sizes(table, parts, fractions)
            parts = keep_classes(raw, parts, target.names, asked)
    if given is not None:
        parts = [parts[0], *(np.concatenate([one, two]) for one, two in zip(given[1:], parts[1:], strict=True))]
    _check(table, target, raw, parts, fractions)
    return parts


def _given(table: Table) -> list[np.ndarray] | None:
    """The rows of each split where files or a column say so."""
    options = table.options
    if options.train is not None:
        places = [0, *(split for split, path in ((1, options.val), (2, options.test)) if path)]
        which = np.array(places)[table.files()]
        return [np.flatnonzero(which == split) for split in range(3)]
    if options.split is None:
        return None
    column = table.column(options.split)
    which = column.each(np.array([WORDS.get(text.casefold(), -1) for text in column.texts]))
    if (which < 0).any():
        row = int((which < 0).argmax())
        table.fail(options.split, row, f"{column.text(row)!r} is no split; valid are train, val and test")
    parts = [np.flatnonzero(which == split) for split in range(3)]
    if not len(parts[0]):
        raise DataError(f"{table.path}, column {options.split!r}: no row is of the split train")
    return parts


def _drawn(options: Csv, target: Target, raw: np.ndarray, fractions: tuple[float, float]) -> list[np.ndarray]:
    labels = _labels(target, raw)
    if options.folds is None:
        if target.kind == "real" and raw.shape[1] == 1:
            return quantile_split(raw[:, 0], fractions, options.split_seed)
        return stratified_split(labels, fractions, options.split_seed)
    assert options.fold is not None
    test = fold_split(labels, options.folds, options.fold, options.split_seed)
    rest = np.setdiff1d(np.arange(len(labels)), test)
    train, val = stratified_split(labels[rest], fractions[:1], options.split_seed)
    return [rest[train], rest[val], test]


def _labels(target: Target, raw: np.ndarray) -> np.ndarray:
    """What splits keep in proportion, int ``[N]``."""
    if target.kind in ("class", "binary"):
        return raw
    if target.kind == "multilabel":  # rows with the same labels are a class
        return np.unique(raw, axis=0, return_inverse=True)[1].reshape(-1)
    return raw.argmax(axis=1) if target.kind == "distribution" else value_bins(raw[:, 0])


def _by_group(table: Table, raw: np.ndarray, fractions: tuple[float, float]) -> list[np.ndarray]:
    """Draws whole groups, in proportion to the class of most of their rows, or to the mean of their targets."""
    options = table.options
    assert options.group is not None
    column = table.column(options.group)
    groups = column.codes.astype(np.int64)
    if len(column.texts) < 2:
        table.fail(options.group, 0, "every row is of one group; a split needs several")
    if raw.ndim == 1:
        counts = np.zeros((len(column.texts), int(raw.max()) + 1), np.int64)
        np.add.at(counts, (groups, raw), 1)
        labels = counts.argmax(axis=1)
    else:
        sums = np.bincount(groups, weights=raw[:, 0], minlength=len(column.texts))
        labels = value_bins(sums / np.bincount(groups, minlength=len(column.texts)))
    order = np.argsort(column.texts, kind="stable")  # so that the order of the rows does not matter
    whole = Csv.model_construct(folds=options.folds, fold=options.fold, split_seed=options.split_seed)
    parts = _drawn(whole, Target("class", []), labels[order], fractions)
    return [np.flatnonzero(np.isin(groups, order[part])) for part in parts]


def _by_time(table: Table, fractions: tuple[float, float]) -> list[np.ndarray]:
    """The last rows test, those before them validate; rows of one time stay together."""
    name = table.options.time
    assert name is not None
    column = table.column(name)
    times = column.numbers(table.writing)
    if np.isnan(times).any():
        found = table.writing.days(column.texts)
        if found is None or np.isnan(found[0]).any():
            bad = np.isnan(times) if found is None else np.isnan(column.each(found[0]))
            row = int(bad.argmax())
            table.fail(
                name,
                row,
                f"{column.text(row)!r} is no number and no date; dataset.date_format says how dates are written",
            )
        times = column.each(found[0])
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    starts = []
    end = len(order)
    for fraction in reversed(fractions):
        start = end - round(fraction * len(order))
        if 0 < start < end:  # from the first row of that time
            start = int(np.searchsorted(ordered, ordered[start], side="left"))
        starts.append(start)
        end = start
    test, val = starts
    return [np.sort(part) for part in (order[:val], order[val:test], order[test:])]


def _check(
    table: Table, target: Target, raw: np.ndarray, parts: Sequence[np.ndarray], fractions: tuple[float, float]
) -> None:
    _check_sizes(table, parts, fractions)
    training = parts[0]
    if target.kind == "real" and (len(training) < 2 or (np.ptp(raw[training], axis=0) == 0).any()):
        constant = target.columns[int((np.ptp(raw[training], axis=0) == 0).argmax())]
        raise DataError(
            f"{table.path}: the training rows, {len(training)} in all, do not vary in {constant!r}: too few rows"
        )
    if target.kind in ("class", "binary"):
        counts = np.bincount(raw[training], minlength=len(target.names))
        if counts.min() == 0:
            label = int(counts.argmin())
            table.fail(
                target.columns[0],
                int((raw == label).argmax()),
                f"no training row is of the class {target.names[label]!r}; split otherwise, or leave its rows out",
            )


def _check_sizes(table: Table, parts: Sequence[np.ndarray], fractions: tuple[float, float]) -> None:
    options = table.options
    whole = "groups" if options.group else "different times" if options.time else "rows"
    for split, part, fraction in zip(SPLITS[1:], parts[1:], fractions, strict=True):
        if fraction > 0 and not len(part):
            number = len(table.column(options.group).texts) if options.group else len(table)
            raise DataError(
                f"{table.path} has too few {whole} for dataset.{split}_fraction={fraction}, {number} in all; "
                f"dataset.{split}_fraction=0 makes no such split"
            )
    if options.folds and not len(parts[2]):
        raise DataError(f"{table.path} has too few {whole} for dataset.folds={options.folds}")
    if not len(parts[0]):
        raise DataError(f"{table.path} has too few {whole}: none is left for training")
