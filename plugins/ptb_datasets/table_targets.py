"""The columns that are predicted: classes, two values, numbers, several labels, or a distribution."""

from dataclasses import dataclass, field

import numpy as np

from ptb import ConfigError, DataError
from ptb_datasets.csv_settings import Kind
from ptb_datasets.table import Table, typed
from ptb_datasets.table_column import Column, number_text
from ptb_datasets.table_features import FEW_VALUES, check_finite
from ptb_datasets.table_values import Writing, boolean_pair, other_writing
from ptb_datasets.tables import Standardizer

MOST_CLASSES = 1000
ROWS_A_CODE = 5


@dataclass
class Target:
    """What is predicted.

    Args:
        kind: of the target.
        columns: their names.
        names: of the classes or labels, in the order of their numbers.
        folded: whether upper and lower case are one.
        values: of classes that are numbers, each.
        mean: of real targets, subtracted before training; empty: they stay as they are.
        std: then divides them.
    """

    kind: Kind
    columns: list[str]
    names: list[str] = field(default_factory=list)
    folded: bool = False
    values: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)

    def raw(self, columns: list[Column], writing: Writing) -> np.ndarray:
        """For class and binary int64 ``[N]``, -1 for an unknown one; else float64 ``[N, D]``, NaN if missing."""
        if self.kind in ("class", "binary"):
            return self._labels(columns[0], writing)
        if self.kind == "multilabel":
            return np.stack([_zero_or_one(column, writing) for column in columns], axis=1)
        values = np.stack([column.numbers(writing) for column in columns], axis=1)
        if self.kind == "distribution":
            values = values / values.sum(axis=1, keepdims=True)
        return values

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """What batches hold: int64 ``[N]`` for class, else float32 ``[N, D]``."""
        if self.kind == "class":
            return raw
        if self.kind == "binary":
            return raw[:, None].astype(np.float32)
        if self.mean:
            return Standardizer(np.array(self.mean), np.array(self.std))(raw)
        return raw.astype(np.float32)

    def _labels(self, column: Column, writing: Writing) -> np.ndarray:
        if self.values:
            numbers, known = column.numbers(writing), np.array(self.values)
            order = np.argsort(known)
            labels = order[np.minimum(np.searchsorted(known, numbers, sorter=order), len(known) - 1)]
            return np.asarray(np.where(known[labels] == numbers, labels, -1))
        texts = column.texts
        if column.known is not None:
            found, codes = np.unique(column.known, return_inverse=True)
            column = Column(
                None, np.where(np.isnan(column.known), -1, codes), texts := list(map(number_text, found.tolist()))
            )
        places = {name: place for place, name in enumerate(self.names)}
        wanted = [text.casefold() for text in texts] if self.folded else texts
        labels_of_rows: np.ndarray = np.array([*(places.get(text, -1) for text in wanted), -1], np.int64)[column.codes]
        return labels_of_rows


def find_target(table: Table) -> Target:
    """What the target columns are.

    Raises:
        ConfigError: options do not go together.
        DataError: the columns cannot be used so.
    """
    options = table.options
    names = list(options.targets)
    target = _several(table, names) if len(names) > 1 else _single(table, names[0])
    if options.standardize_target is not None and target.kind != "real":
        raise ConfigError(
            f"dataset.standardize_target belongs to a real target, and {names[0]!r} is of kind {target.kind}: leave it "
            "out, or predict numbers with dataset.kind=real"
        )
    if options.positive is not None:
        _choose_positive(options.positive, target)
    elif target.kind == "binary" and target.names != ["0", "1"]:
        other = typed(target.names[0])
        table.notes.insert(0, f"positive class (1) is {target.names[1]!r}; dataset.positive={other} makes it the other")
    return target


def fit_target(target: Target, raw: np.ndarray, training: np.ndarray) -> None:
    """Learns mean and standard deviation of a real target from the training rows."""
    scales = [Standardizer.of(values[:, None][training]) for values in raw.T]
    target.mean = [float(scale.mean[0]) for scale in scales]
    target.std = [float(scale.std[0]) for scale in scales]


def _single(table: Table, name: str) -> Target:
    column, kind = table.column(name), table.options.kind
    numbers = column.numbers(table.writing)
    numeric = not np.isnan(numbers).any() and (
        kind == "real" or column.known is not None or not _are_codes(column.texts)
    )
    values = np.unique(numbers) if numeric else np.zeros(0)
    if numeric:
        check_finite(table, name, numbers)
    count = len(values) if numeric else len(column.texts)
    if count < 2:
        word = "constant" if numeric and kind in ("auto", "real") else "of one class only"
        table.fail(name, 0, f"the target is {word}: every row has {column.distinct(1)[0]!r}")
    if not numeric and (hint := _other_writing(table, column)):
        row = int(np.isnan(numbers).argmax())
        table.fail(name, row, f"{column.text(row)!r} is no number, and {hint}")
    pair = None if numeric else boolean_pair(column.texts)
    if kind == "auto":
        kind = _guessed(table, name, numbers, numeric, 2 if pair else count)
    if kind == "real":
        if not numeric:
            row = int(np.isnan(numbers).argmax())
            table.fail(name, row, f"{column.text(row)!r} is no number, and dataset.kind is real")
        return Target("real", [name])
    if pair:
        target = _boolean(kind, name, column, pair)
    elif numeric:  # 1 and 1.0 are one class
        target = Target(kind, [name], list(map(number_text, values.tolist())), values=values.tolist())
    else:
        target = Target(kind, [name], column.distinct())
    _check_classes(table, target, numeric, numbers)
    return target


def _boolean(kind: Kind, name: str, column: Column, pair: tuple[str, str]) -> Target:
    """Yes becomes 1, however it is spelled; two spellings stay as they are."""
    if len(column.texts) == 2:
        return Target(kind, [name], sorted(column.texts, key=lambda text: pair.index(text.casefold())))
    return Target(kind, [name], list(pair), folded=True)


def _check_classes(table: Table, target: Target, numeric: bool, numbers: np.ndarray) -> None:
    name, names = target.columns[0], target.names
    if target.kind == "binary" and len(names) != 2:
        labels = target.raw([table.column(name)], table.writing)
        table.fail(name, int((labels == 2).argmax()), f"{names[2]!r} is a third value, and dataset.kind is binary")
    if len(names) > MOST_CLASSES:
        table.fail(name, 0, f"it has {len(names):,} different values, too many for classes (at most {MOST_CLASSES:,})")
    if 2 < len(names) == len(table):
        remedy = "dataset.kind=real predicts numbers" if numeric else "choose another dataset.target"
        table.fail(name, 0, f"every row has a value of its own, and a class needs several rows; {remedy}")


def _guessed(table: Table, name: str, numbers: np.ndarray, numeric: bool, count: int) -> Kind:
    if count == 2:
        return "binary"
    if not numeric:
        return "class"
    whole = not (numbers % 1).any()
    if whole and FEW_VALUES < count <= MOST_CLASSES:
        times = np.unique(numbers, return_counts=True)[1]
        if times.min() > 1 and len(table) >= ROWS_A_CODE * count:
            table.fail(
                name,
                0,
                f"the target has {count} different whole numbers, each several times, and may be classes or amounts: "
                "say which, dataset.kind=class or dataset.kind=real",
            )
    if whole and count > FEW_VALUES:
        table.notes.append(f"target {name!r} is taken as a number: {count:,} different whole ones")
    return "class" if whole and count <= FEW_VALUES else "real"


def _are_codes(texts: list[str]) -> bool:
    """Whether these are digits but no amounts: as float64 some of them would be one (01 and 1; above 2**53)."""
    whole = [text for text in texts if text.isdecimal()]
    padded = any(len(text) > 1 and text.startswith("0") for text in whole)
    return padded or len(set(map(float, whole))) < len(set(map(int, whole)))


def _other_writing(table: Table, column: Column) -> str:
    return other_writing([column.texts], table.writing)


def _several(table: Table, names: list[str]) -> Target:
    writing, kind = table.writing, table.options.kind
    columns = [table.column(name) for name in names]
    flags = np.stack([_zero_or_one(column, writing) for column in columns], axis=1)
    binary = not np.isnan(flags).any()
    if kind == "auto" and binary and (flags.sum(axis=1) == 1).all():
        raise DataError(
            f"{table.path}: of the target columns {', '.join(names)} every row has exactly one 1; say what they are: "
            "dataset.kind=distribution for one class a row, or dataset.kind=multilabel"
        )
    if kind == "auto":
        kind = "multilabel" if binary else "real"
    if kind == "multilabel":
        if not binary:
            row, place = np.argwhere(np.isnan(flags))[0].tolist()
            table.fail(names[place], row, f"{columns[place].text(row)!r} is not 0 or 1, and dataset.kind is multilabel")
        return Target(kind, names, names)
    for name, column in zip(names, columns, strict=True):
        numbers = column.numbers(writing)
        if np.isnan(numbers).any():
            row = int(np.isnan(numbers).argmax())
            hint = _other_writing(table, column)
            table.fail(name, row, f"{column.text(row)!r} is no number, and " + (hint or f"dataset.kind is {kind}"))
        check_finite(table, name, numbers)
    values = np.stack([column.numbers(writing) for column in columns], axis=1)
    sums = (values >= 0).all() and (np.abs(values.sum(axis=1) - 1) < 1e-3).all()
    if kind == "distribution":
        if not sums:
            bad = (values < 0).any(axis=1) | (np.abs(values.sum(axis=1) - 1) >= 1e-3)
            row = int(bad.argmax())
            table.fail(
                names[0], row, f"the targets {values[row].tolist()} are no distribution: 0 or more, with the sum 1"
            )
        return Target(kind, names, names)
    if sums and table.options.kind == "auto":
        table.notes.append("targets are real; each row sums to 1, so dataset.kind=distribution fits too")
    return Target("real", names)


def _zero_or_one(column: Column, writing: Writing) -> np.ndarray:
    """Float64 ``[N]`` of 0 and 1, NaN for what is neither."""
    numbers = column.numbers(writing)
    if column.known is None and (pair := boolean_pair(column.texts)):
        numbers = column.each(np.array([float(pair.index(text.casefold())) for text in column.texts]))
    return np.where((numbers == 0) | (numbers == 1), numbers, np.nan)


def _choose_positive(positive: str, target: Target) -> None:
    if target.kind != "binary":
        raise ConfigError(
            f"dataset.positive belongs to a target of two values, and {target.columns[0]!r} is of kind {target.kind}"
        )
    if positive not in target.names:
        valid = " or ".join(f"dataset.positive={typed(name)}" for name in target.names)
        raise ConfigError(f"dataset.positive: {target.columns[0]!r} has no value {positive!r}; write {valid}")
    if positive == target.names[0]:
        target.names.reverse()
        target.values.reverse()
