"""How columns become the numbers that a model sees: learnt from the training rows, applied to any."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ptb import DataError
from ptb_datasets.table import Table, typed_list
from ptb_datasets.table_codes import is_padded
from ptb_datasets.table_column import Column
from ptb_datasets.table_values import Writing, boolean_pair, date_parts, other_writing, unknown_dates
from ptb_datasets.tables import Standardizer

FEW_VALUES = 20  # the most that are taken for categories unasked
MOST_CATEGORIES = 1000
FEW_MARKS = 3  # the most different ones that are taken for missing values in an advice
UsedAs = Literal["number", "category", "boolean", "date"]
DATE_PARTS = ("year", "month", "day", "weekday", "hour")


@dataclass
class Feature:
    """One column, and what the training rows say of it.

    Args:
        name: of the column.
        used_as: what its values are.
        why: in a few words.
        mean: subtracted from each of the numbers that a value becomes.
        std: then divides them.
        fill: stands for a missing value, before both.
        categories: texts that become one 0 or 1 each.
        words: of a boolean, no and yes in lower case.
        form: of a date, for ``strptime``.
        parts: of a date: how many numbers it becomes instead of days since 1970, 0: none.
    """

    name: str
    used_as: UsedAs
    why: str = ""
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    fill: list[float] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    form: str = ""
    parts: int = 0

    @property
    def width(self) -> int:
        """How many numbers a value becomes."""
        return len(self.categories) if self.used_as == "category" else len(self.mean)

    @property
    def refusal(self) -> str:
        """What is said of a value that cannot be read: ``is ...``."""
        if self.used_as == "boolean":
            return f"neither {self.words[0]!r} nor {self.words[1]!r}"
        return f"no {self.used_as}" + (f" as {self.form} has it" if self.used_as == "date" and self.form else "")

    def numbers(self, column: Column, writing: Writing) -> np.ndarray:
        """Float64 ``[N, width]`` before standardising, NaN for a missing value and one that cannot be read."""
        if self.used_as == "number":
            return column.numbers(writing)[:, None]
        if self.used_as == "boolean":
            places = {
                "false": 0,
                "true": 1,
                **{word: place for place, word in enumerate(self.words)},
            }  # as JSON has them
            found = [places.get(text.casefold(), np.nan) for text in column.texts]
            return column.each(np.array(found, dtype=np.float64))[:, None]
        read = Writing(date_format=self.form).days(column.texts)
        days = column.each(np.full(len(column.texts), np.nan) if read is None else read[0])
        return date_parts(days, self.parts == len(DATE_PARTS)) if self.parts else days[:, None]

    def encode(self, column: Column, writing: Writing) -> np.ndarray:
        """Float32 ``[N, width]``."""
        if self.used_as != "category":
            return self.standardized(self.numbers(column, writing))
        texts = column.distinct() if column.known is not None else column.texts
        places = {name: place for place, name in enumerate(self.categories)}
        codes = np.array([places.get(text, -1) for text in texts], np.int64)
        if column.known is not None:
            column = _as_texts(column)
        mine = np.append(codes, -1)[column.codes]
        table = np.zeros((len(column), len(self.categories)), np.float32)
        rows = np.flatnonzero(mine >= 0)
        table[rows, mine[rows]] = 1
        return table

    def standardized(self, numbers: np.ndarray) -> np.ndarray:
        """Float64 ``[N, width]`` of ``numbers`` as float32, missing values filled."""
        missing = np.isnan(numbers)
        if missing.any():
            numbers = np.where(missing, np.array(self.fill), numbers)
        return Standardizer(np.array(self.mean), np.array(self.std))(numbers)

    def unknown(self, column: Column) -> np.ndarray:
        """Bool ``[N]``: rows with a category that the training rows lack."""
        if self.used_as != "category":
            return np.zeros(len(column), bool)
        column = column if column.known is None else _as_texts(column)
        known = {*self.categories}
        unknown: np.ndarray = np.array([*(text not in known for text in column.texts), False])[column.codes]
        return unknown

    def unreadable(self, column: Column, writing: Writing) -> np.ndarray:
        """Bool ``[N]``: rows with a value that is not what the training rows had."""
        if self.used_as == "category":
            return np.zeros(len(column), bool)
        numbers = self.numbers(column, writing)[:, 0]
        large = np.abs(np.where(np.isnan(numbers), 0, numbers)) > np.finfo(np.float32).max
        return np.asarray((np.isnan(numbers) & column.present()) | large)


def find_feature(table: Table, name: str, categorical: bool) -> Feature:
    """What a column is taken for, before anything is learnt.

    Raises:
        DataError: it is not clear; the message says what can be typed.
    """
    column, writing = table.column(name), table.writing
    if categorical:
        return Feature(name, "category", "dataset.categorical names it")
    if column.known is not None:
        return Feature(name, "number", "all its values are numbers")
    texts = column.texts
    read = writing.numbers(texts)
    if not np.isnan(read).any():
        if any(map(is_padded, texts)) and len(texts) <= FEW_VALUES:
            return Feature(name, "category", "its values are codes: numbers with zeros in front")
        return Feature(name, "number", "all its values are numbers")
    if pair := boolean_pair(texts):
        return Feature(name, "boolean", f"its values are {pair[0]} and {pair[1]}", words=list(pair))
    if found := writing.days(texts):
        _check_dates(table, name, found[0])
        parts = 0
        if table.options.dates == "parts":
            parts = 5 if (found[0] % 1).any() else 4
        return Feature(name, "date", f"its values are dates, {found[1]}", form=found[1], parts=parts)
    _refuse_unclear(table, name, read)
    return Feature(name, "category", "its values are text")


def fit_feature(table: Table, name: str, categorical: bool, training: np.ndarray) -> Feature:
    """A feature with what the training rows say.

    Raises:
        DataError: the column cannot be used.
    """
    feature = find_feature(table, name, categorical)
    column = table.column(name)
    present = column.present()
    known = training[present[training]]
    if not len(known):
        remedy = "choose another dataset.text" if table.options.text else f"add dataset.exclude={typed_list([name])}"
        raise DataError(f"{table.path}, column {name!r}: no training row has a value; {remedy}")
    if feature.used_as == "category":
        feature.categories = _categories(table, name, categorical, known)
        return feature
    numbers = feature.numbers(column, table.writing)
    if feature.used_as == "number":
        check_finite(table, name, numbers[:, 0])
    # The mean of a column of its own, so that it is the same whatever stands beside it.
    feature.fill = [float(values[known].mean()) for values in numbers.T]
    if feature.used_as == "boolean":
        feature.mean, feature.std = [0.0], [1.0]
        return feature
    scales = [
        Standardizer.of(_filled(values, fill)[training][:, None])
        for values, fill in zip(numbers.T, feature.fill, strict=True)
    ]
    feature.mean = [float(scale.mean[0]) for scale in scales]
    feature.std = [float(scale.std[0]) for scale in scales]
    return feature


def suspected_codes(feature: Feature, column: Column) -> str:
    """What is wrong with numbers that have zeros in front; empty where there are none."""
    code = next(filter(is_padded, column.texts), None) if feature.used_as == "number" else None
    if code is None:
        return ""
    name = typed_list([feature.name])
    return (
        f"column {feature.name!r} looks like codes, such as {code}, and is taken as numbers, without the zeros in "
        f"front: dataset.categorical={name} takes them as they are written, dataset.exclude={name} leaves them out"
    )


def numbers_rows(column: Column, writing: Writing) -> bool:
    """Whether the values are whole numbers that go up by one from row to row."""
    if column.known is None and len(column.texts) < len(column):
        return False
    values = column.numbers(writing)
    if len(values) < 3 or np.isnan(values).any():
        return False
    return bool(values[0] % 1 == 0 and (np.diff(values) == 1).all())


def check_finite(table: Table, name: str, numbers: np.ndarray) -> None:
    """Refuses what is no number of 32 bits; NaN is a missing value."""
    bad = np.abs(numbers) > np.finfo(np.float32).max
    if bad.any():
        row = int(bad.argmax())
        table.fail(name, row, f"{table.written(name, row)!r} is not finite as a 32-bit number")


def _filled(values: np.ndarray, fill: float) -> np.ndarray:
    missing = np.isnan(values)
    return np.where(missing, fill, values) if missing.any() else values


def _check_dates(table: Table, name: str, days: np.ndarray) -> None:
    bad = np.isnan(days)
    if bad.any():
        column = table.column(name)
        row = int(np.isnan(column.each(days)).argmax())
        form = table.options.date_format
        table.fail(name, row, f"{column.text(row)!r} is no date as dataset.date_format={form!r} has it")


def _refuse_unclear(table: Table, name: str, read: np.ndarray) -> None:
    """Refuses texts that look like numbers or dates of another writing, and words among numbers."""
    column, writing = table.column(name), table.writing
    otherwise = f"name the column in dataset.categorical={typed_list([name])}"
    words = column.each(np.isnan(read).astype(float)) == 1
    row = int(words.argmax())
    value = column.text(row)
    if hint := other_writing([column.texts], writing):
        columns = [
            c.texts for c in table.columns.values() if c.known is None and np.isnan(writing.numbers(c.texts)).any()
        ]
        others = [texts for texts in columns if other_writing([texts], writing)]
        hint = other_writing(others, writing) or hint
        table.fail(name, row, f"{value!r} is no number, and {hint}; or, if it is a name, {otherwise}")
    if hint := unknown_dates(column.texts, writing):
        table.fail(name, row, f"{value!r} {hint}; or {otherwise}")
    present = column.present()
    if 2 * words.sum() <= present.sum():
        marks = [text for text, number in zip(column.texts, read, strict=True) if np.isnan(number)]
        marks = list(dict.fromkeys((*table.options.missing_values, *(marks if len(marks) <= FEW_MARKS else [value]))))
        remedy = f"correct it, add dataset.missing_values={typed_list(marks)} if it stands for none, or {otherwise}"
        table.fail(name, row, f"{value!r} is no number, and most values of this column are; {remedy}")


def _as_texts(column: Column) -> Column:
    assert column.known is not None
    found, codes = np.unique(column.known, return_inverse=True)
    codes = np.where(np.isnan(column.known), -1, codes)
    return Column(None, codes, [str(value).removesuffix(".0") for value in found[~np.isnan(found)].tolist()])


def _categories(table: Table, name: str, categorical: bool, known: np.ndarray) -> list[str]:
    column = table.column(name)
    found = (column if column.known is None else _as_texts(column)).take(known).distinct()
    most = MOST_CATEGORIES if categorical else FEW_VALUES
    if len(found) > most:
        remedy = f"add dataset.exclude={typed_list([name])}, or use it as dataset.text={typed_list([name])}"
        if not categorical:
            remedy += f", or name it in dataset.categorical={typed_list([name])}"
        if 2 * len(found) <= len(known) and not table.options.group:
            remedy += f"; or, if rows with the same value belong together, dataset.group={typed_list([name])}"
        table.fail(name, int(known[0]), f"text with {len(found)} different values, at most {most} are taken; {remedy}")
    return found
