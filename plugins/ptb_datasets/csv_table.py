"""Your own table: numbers, categories or a column of text, from a CSV file."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn

import numpy as np

from ptb import ConfigError, DataBundle, DataError, DataSpec
from ptb_datasets.csv_file import is_number, read_csv
from ptb_datasets.splits import class_counts, quantile_split, stratified_split
from ptb_datasets.tables import splits_of, standardized
from ptb_datasets.words import SPECIAL, Vocabulary

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Kind = Literal["class", "binary", "real"]
DEFAULT_MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
DEFAULT_MAX_LENGTH, DEFAULT_VOCABULARY = 64, 10_000
FEW_VALUES = 20  # the most that are taken for categories unasked
MOST_CATEGORIES = 1000
MOST_CLASSES = 1000


class Targets(NamedTuple):
    """The column that is predicted: ``labels`` are None where it is real, ``values`` float64 where it is."""

    kind: Kind
    labels: np.ndarray | None
    values: np.ndarray | None
    names: tuple[str, ...]


class Inputs(NamedTuple):
    """What the model sees, and for tokens how many there are."""

    values: np.ndarray
    vocabulary: int | None = None


def csv_table(
    *,
    path: str,
    target: str,
    features: tuple[str, ...] | None = None,
    categorical: tuple[str, ...] = (),
    text: str | None = None,
    max_length: int | None = None,
    vocabulary: int | None = None,
    kind: Literal["auto", "class", "binary", "real"] = "auto",
    standardize_target: bool | None = None,
    missing: Literal["error", "drop", "mean"] = "error",
    missing_values: tuple[str, ...] = DEFAULT_MISSING,
    separator: str = ",",
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    split_seed: int = 0,
    max_bytes: int = 256 * 2**20,
) -> DataBundle:
    """A table in a CSV file with a header, in UTF-8. Whatever is learnt from it is learnt from the training rows alone.

    Columns of numbers are standardised; columns of text with at most 20 different values become one 0 or 1 for each
    value that the training rows have, all 0 for other values. Alternatively one column of text becomes tokens.

    Args:
        path: the file.
        target: the column that is predicted.
        features: the columns that are given; left out, all others.
        categorical: those of them whose values are names even if they look like numbers; up to 1000 different values.
        text: a column of text to use instead of features: its words in lower case, 0 pads, 1 is an unknown word.
        max_length: tokens of a text, the rest is cut off; left out, 64.
        vocabulary: the most different tokens; left out, 10,000.
        kind: of the target. ``"auto"``: two different values are binary, other text and at most 20 different whole
            numbers are classes, other numbers are real.
        standardize_target: real targets only: predict (value - mean) / deviation of the training rows; left out, true.
        missing: ``"error"`` stops, ``"drop"`` leaves the rows out, ``"mean"`` gives numbers the mean of the training
            rows, and categories and texts nothing.
        missing_values: what stands for a missing value, spaces around it aside.
        separator: the character between two values.
        val_fraction: part of the rows for validation, of each class, or of each tenth by a real target; 0: none.
        test_fraction: the same for the test.
        split_seed: chooses which rows go where.
        max_bytes: a larger file is refused.

    Returns:
        Inputs float32 ``[N, columns]``, or int64 tokens ``[N, max_length]``; targets int64 ``[N]`` for class, else
        float32 ``[N, 1]``.

    Raises:
        ConfigError: options do not go together.
        DataError: the table cannot be read or used; the message names the column and the line.
    """
    table = _Table(_expanded(path), separator, max_bytes, missing_values)
    columns = _columns(table, target, features, categorical, text)
    table.drop_missing([*columns, target], missing, target)
    targets = _targets(table, target, kind)
    if standardize_target is not None and targets.kind != "real":
        raise ConfigError(
            f"dataset.standardize_target belongs to a real target, and {target!r} is of kind {targets.kind}: leave it "
            "out, or predict numbers with dataset.kind=real"
        )
    fractions = (val_fraction, test_fraction)
    if targets.values is not None:
        parts = quantile_split(targets.values, fractions, split_seed)
    else:
        assert targets.labels is not None
        parts = stratified_split(targets.labels, fractions, split_seed)
    _check_parts(table, target, targets, parts, fractions)
    if text is None:
        inputs = Inputs(_features(table, columns, categorical, parts[0]))
    else:
        inputs = _tokens(table, text, max_length or DEFAULT_MAX_LENGTH, vocabulary or DEFAULT_VOCABULARY, parts[0])
    train, val, test = splits_of(
        inputs.values, _target_values(targets, parts[0], standardize_target is not False), parts
    )
    assert train is not None
    counts = () if targets.labels is None else class_counts(targets.labels[parts[0]], len(targets.names))
    spec = DataSpec(
        (inputs.values.shape[1],),
        "vector" if text is None else "tokens",
        targets.kind,
        len(targets.names) if targets.kind == "class" else 1,
        class_names=targets.names,
        vocabulary=inputs.vocabulary,
        class_counts=counts,
    )
    return DataBundle(spec, train, val, test)


class _Table:
    """The rows of a file as text, and where each of them stands in it."""

    def __init__(self, path: Path, separator: str, max_bytes: int, missing_values: Sequence[str]) -> None:
        import pandas as pd  # only tables need it

        header, rows, lines = read_csv(path, separator, max_bytes)
        self.path = path
        self.frame: DataFrame = pd.DataFrame(rows, columns=header, dtype=object).apply(lambda c: c.str.strip())
        self.names = dict.fromkeys(header)  # in order, and found at once
        self.lines = np.array(lines)
        self.absent: DataFrame = self.frame.isin(list(missing_values))

    def __len__(self) -> int:
        return len(self.frame)

    def check_name(self, key: str, name: str) -> None:
        if name not in self.names:
            raise DataError(f"dataset.{key}: {self.path} has no column {name!r}{_near(name, list(self.names))}")

    def values(self, column: str) -> "Series":
        return self.frame[column]

    def present(self, column: str) -> np.ndarray:
        return ~np.asarray(self.absent[column], dtype=bool)

    def numbers(self, column: str) -> np.ndarray:
        """Float64 ``[N]``, NaN where there is no number."""
        import pandas as pd

        values = self.values(column).where(self.present(column))
        return np.asarray(pd.to_numeric(values, errors="coerce"), dtype=np.float64)

    def distinct(self, column: str) -> list[str]:
        return sorted(self.values(column)[self.present(column)].unique())

    def drop_missing(self, columns: list[str], missing: str, target: str) -> None:
        """Holds the rows that lack a value against the policy."""
        lacking = self.absent[columns].to_numpy(dtype=bool)
        for place, column in enumerate(columns):
            if not lacking[:, place].any() or missing == "drop" or (missing == "mean" and column != target):
                continue
            count = int(lacking[:, place].sum())
            if count == len(self):
                remedy = "choose another dataset.target" if column == target else "name the others in dataset.features"
            else:
                mean = column != target and not np.isnan(self.numbers(column)).all()
                remedy = "add dataset.missing=drop" + " or dataset.missing=mean" * mean
            found = f"{count} of {len(self)} values {'is' if count == 1 else 'are'} missing"
            self.fail(column, int(lacking[:, place].argmax()), f"{found}; {remedy}")
        incomplete = lacking.any(axis=1)
        if missing != "drop" or not incomplete.any():
            return
        if incomplete.all():
            raise DataError(f"{self.path}: every row lacks a value; nothing is left with dataset.missing=drop")
        message = f"left out the rows of {self.path} that lack a value, {incomplete.sum()} of {len(self)}"
        warnings.warn(message, UserWarning, stacklevel=3)
        self.frame, self.absent = self.frame[~incomplete], self.absent[~incomplete]
        self.lines = self.lines[~incomplete]

    def fail(self, column: str, row: int, what: str) -> NoReturn:
        raise DataError(f"{self.path}, column {column!r}, line {self.lines[row]}: {what}")


def _near(name: str, names: list[str]) -> str:
    from difflib import get_close_matches

    folded = {candidate.lower(): candidate for candidate in names}
    close = get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    hint = f" (did you mean {folded[close[0]]!r}?)" if close else ""
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    lost = (
        "; the first line must name the columns, and this one looks like values" if any(map(is_number, names)) else ""
    )
    return f"{hint}; it has {shown}{lost}"


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:  # a home that does not exist
        raise DataError(f"dataset.path={path}: {error}") from error


def _columns(
    table: _Table, target: str, features: Sequence[str] | None, categorical: Sequence[str], text: str | None
) -> list[str]:
    """The columns that the model sees."""
    table.check_name("target", target)
    if text is not None:
        table.check_name("text", text)
        chosen = [text]
    else:
        chosen = [name for name in table.names if name != target] if features is None else list(features)
        for key, names in (("features", chosen), ("categorical", categorical)):
            for name in names:
                table.check_name(key, name)
    if target in chosen:
        raise ConfigError(f"dataset.{'features' if text is None else 'text'}: {target!r} is the target")
    if not chosen:
        raise DataError(f"{table.path} has no column besides the target {target!r}")
    if strange := [name for name in categorical if name not in chosen]:
        raise ConfigError(f"dataset.categorical: {strange[0]!r} is none of the features")
    return chosen


def _targets(table: _Table, column: str, kind: str) -> Targets:
    values, numbers, distinct = table.values(column), table.numbers(column), table.distinct(column)
    numeric = not np.isnan(numbers).any() and (kind == "real" or not _are_codes(distinct))
    if numeric:
        _check_finite(table, column, numbers)
        if len(np.unique(numbers)) == 1:
            distinct = distinct[:1]
    if len(distinct) < 2:
        word = "constant" if numeric and kind in ("auto", "real") else "of one class only"
        table.fail(column, 0, f"the target is {word}: every row has {distinct[0]!r}")
    if kind == "auto":
        kind = _guessed(numbers, distinct, numeric)
    if kind == "real":
        if not numeric:
            row = int(np.isnan(numbers).argmax())
            table.fail(column, row, f"{values.iloc[row]!r} is no number, and dataset.kind is real")
        return Targets("real", None, numbers, ())
    names, labels = _labels(values.to_numpy(), numbers, numeric)
    if kind == "binary" and len(names) != 2:
        table.fail(column, int((labels == 2).argmax()), f"{names[2]!r} is a third value, and dataset.kind is binary")
    if len(names) > MOST_CLASSES:
        table.fail(
            column, 0, f"it has {len(names):,} different values, too many for classes (at most {MOST_CLASSES:,})"
        )
    if 2 < len(names) == len(table):
        remedy = "dataset.kind=real predicts numbers" if numeric else "choose another dataset.target"
        table.fail(column, 0, f"every row has a value of its own, and a class needs several rows; {remedy}")
    return Targets("binary" if kind == "binary" else "class", labels, None, names)


def _are_codes(distinct: list[str]) -> bool:
    """Whether these are digits but no amounts: as float64 some of them would be one (01 and 1; above 2**53)."""
    whole = [text for text in distinct if text.isdecimal()]
    padded = any(len(text) > 1 and text.startswith("0") for text in whole)
    return padded or len(set(map(float, whole))) < len(set(map(int, whole)))


def _guessed(numbers: np.ndarray, distinct: list[str], numeric: bool) -> Kind:
    count = len(np.unique(numbers)) if numeric else len(distinct)
    if count == 2:
        return "binary"
    return "real" if numeric and (count > FEW_VALUES or bool((numbers % 1).any())) else "class"


def _labels(values: np.ndarray, numbers: np.ndarray, numeric: bool) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the classes, in the order of numbers or of text, and int64 labels."""
    if numeric:  # 1 and 1.0 are one class
        found, labels = np.unique(numbers, return_inverse=True)
        return tuple(str(value).removesuffix(".0") for value in found.tolist()), labels.astype(np.int64)
    found, labels = np.unique(values.astype(str), return_inverse=True)
    return tuple(map(str, found)), labels.astype(np.int64)


def _check_parts(
    table: _Table, column: str, targets: Targets, parts: list[np.ndarray], fractions: tuple[float, float]
) -> None:
    training = parts[0]
    for split, part, fraction in zip(("val", "test"), parts[1:], fractions, strict=True):
        if fraction > 0 and not len(part):
            raise DataError(
                f"{table.path} has too few rows for dataset.{split}_fraction={fraction}, {len(table)} in all; 0 makes "
                "no such split"
            )
    if targets.labels is None:
        assert targets.values is not None
        if len(training) < 2 or np.ptp(targets.values[training]) == 0:
            raise DataError(
                f"{table.path}: the training rows, {len(training)} in all, do not vary in {column!r}: too few rows"
            )
        return
    counts = np.bincount(targets.labels[training], minlength=len(targets.names))
    if counts.min() == 0:
        label = int(counts.argmin())
        row = int((targets.labels == label).argmax())
        remedy = "; dataset.kind=real predicts numbers" if all(map(is_number, targets.names)) else ""
        table.fail(
            column, row, f"too few rows of the class {targets.names[label]!r}: none is left for training{remedy}"
        )


def _target_values(targets: Targets, training: np.ndarray, standardize: bool) -> np.ndarray:
    if targets.labels is None:
        assert targets.values is not None
        values = targets.values[:, None]
        return standardized(values, training) if standardize else values.astype(np.float32)
    return targets.labels[:, None].astype(np.float32) if targets.kind == "binary" else targets.labels


def _features(table: _Table, columns: list[str], categorical: Sequence[str], training: np.ndarray) -> np.ndarray:
    """Float32 ``[N, columns]``, a categorical column as wide as it has values."""
    blocks = []
    for column in columns:
        numbers = table.numbers(column)
        if column not in categorical and _is_numeric(table, column, numbers):
            blocks.append(_standardized(table, column, numbers, training))
        else:
            blocks.append(_one_hot(table, column, training, MOST_CATEGORIES if column in categorical else FEW_VALUES))
    return np.concatenate(blocks, axis=1)


def _is_numeric(table: _Table, column: str, numbers: np.ndarray) -> bool:
    present = table.present(column)
    words = np.isnan(numbers) & present
    if words.any() and 2 * words.sum() <= present.sum():
        row = int(words.argmax())
        value = table.values(column).iloc[row]
        remedy = "correct it, name it in dataset.missing_values, or name the column in dataset.categorical"
        table.fail(column, row, f"{value!r} is no number, and most values of this column are; {remedy}")
    return not words.any()


def _standardized(table: _Table, column: str, numbers: np.ndarray, training: np.ndarray) -> np.ndarray:
    present = table.present(column)
    _check_finite(table, column, np.where(present, numbers, 0.0))
    known = numbers[training][present[training]]
    if not len(known):
        raise DataError(
            f"{table.path}, column {column!r}: no training row has a value; name the others in dataset.features"
        )
    filled = np.where(present, numbers, known.mean())
    return standardized(filled[:, None], training)


def _check_finite(table: _Table, column: str, numbers: np.ndarray) -> None:
    bad = np.isinf(numbers) | (np.abs(numbers) > np.finfo(np.float32).max)
    if bad.any():
        row = int(bad.argmax())
        table.fail(column, row, f"{table.values(column).iloc[row]!r} is not finite as a 32-bit number")


def _one_hot(table: _Table, column: str, training: np.ndarray, most: int) -> np.ndarray:
    values, present = table.values(column).to_numpy(), table.present(column)
    known = training[present[training]]
    if not len(known):
        raise DataError(
            f"{table.path}, column {column!r}: no training row has a value; name the others in dataset.features"
        )
    found = np.unique(values[known].astype(str))
    if len(found) > most:
        remedy = "leave it out of dataset.features, or use it as dataset.text"
        if most < MOST_CATEGORIES:
            remedy += ", or name it in dataset.categorical"
        table.fail(
            column, int(known[0]), f"text with {len(found)} different values, at most {most} are taken; {remedy}"
        )
    return np.asarray((values[:, None] == found[None, :]) & present[:, None], dtype=np.float32)


def _tokens(table: _Table, column: str, length: int, limit: int, training: np.ndarray) -> Inputs:
    texts = table.values(column).where(table.present(column), "").tolist()
    known = Vocabulary((texts[row] for row in training), limit)
    if len(known) == SPECIAL:
        table.fail(column, int(training[0]), "no training row has a word in it")
    return Inputs(known.encode(texts, length), len(known))
