"""Finds columns that give the target away, and those whose rows belong together and stand in several splits."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from ptb_datasets.csv_settings import Csv
from ptb_datasets.table import Table, typed, typed_list
from ptb_datasets.table_features import FEW_VALUES, Feature
from ptb_datasets.table_targets import Target

FEWEST_ROWS = 20  # in fewer, chance alone may pair two columns
HEAD = 1000  # rows that nearly always say that two columns have nothing to do with each other
ID = re.compile(r"(?i)(?:^|[_ .-])(?:id|idx|index|nr|no|key|row)$|[a-z]I[Dd]$")
_WHO = re.compile(
    r"(?i)(?:^|[_ .-])(?:patient|subject|person|participant|user|customer|client|member|player|student|pupil|speaker|"
    r"author|writer|driver|employee|animal|specimen|household|family|session)s?(?:$|[_ .-])"
)


def leaks(
    table: Table, features: Sequence[Feature], target: Target, raw: np.ndarray, training: np.ndarray
) -> Iterator[str]:
    """A sentence for each feature that is a column of the target: equal, in other words, or in another unit.

    Args:
        table: the rows.
        features: what the model sees.
        target: what is predicted.
        raw: as ``Target.raw`` gives it.
        training: the numbers of the rows that are looked at.
    """
    if len(training) < FEWEST_ROWS:
        return
    for feature in features:
        for name, values in zip(target.columns, raw.T if raw.ndim == 2 else [raw], strict=True):
            if how := _copied(table, feature, values, training):
                yield (
                    f"column {feature.name!r} gives the target {name!r} away: {how}. If it is not known when the model "
                    f"is used, add dataset.exclude={typed_list([feature.name])}"
                )


def straddling(table: Table, feature: Feature, parts: Sequence[np.ndarray]) -> str:
    """What to do about a column that says whose each row is, where rows of one stand in several splits; else empty."""
    options, name = table.options, feature.name
    if not may_group(options) or not (ID.search(name) or _WHO.search(name)) or feature.used_as == "date":
        return ""
    places = _places(table, feature)
    distinct = len(np.unique(places[places >= 0]))
    held = np.unique(places[np.concatenate(parts[1:])]) if len(parts[1]) + len(parts[2]) else places[:0]
    shared = np.intersect1d(held[held >= 0], places[parts[0]])
    if distinct <= FEW_VALUES or 2 * distinct > len(table) or 2 * len(shared) < len(held):
        return ""
    return (
        f"column {name!r}: {len(shared):,} of its {len(held):,} values in val and test are in train too; if rows with "
        f"the same one belong together, as those of a person, dataset.group={typed(name)} keeps them in one split"
    )


def may_group(options: Csv) -> bool:
    """Whether rows are drawn one by one, and could be drawn by a column."""
    return not (options.group or options.split or options.time or options.train)


def _copied(table: Table, feature: Feature, values: np.ndarray, training: np.ndarray) -> str:
    for rows in (training[:HEAD], training):  # most columns end here with the first
        places, wanted = _places(table, feature, rows), values[rows]
        known = places >= 0
        places, wanted = places[known], wanted[known]
        if len(places) < FEWEST_ROWS:
            return ""
        if (one_to_one := _pairs(places, wanted)) or feature.used_as not in ("number", "boolean"):
            how = "each of its values goes with one value of the target" if one_to_one else ""
        else:
            how = _line(feature.numbers(table.column(feature.name).take(rows), table.writing)[known, 0], wanted)
        if not how:
            return ""
    return how


def _pairs(places: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether each value has a value of the target of its own; where all differ, that says nothing."""
    labels, codes = np.unique(wanted, return_inverse=True)
    count = len(np.unique(places))
    if count != len(labels) or 2 * count > len(places) or count < 2:
        return False
    return len(np.unique(places.astype(np.int64) * len(labels) + codes)) == count


def _line(numbers: np.ndarray, wanted: np.ndarray) -> str:
    """How the target follows from the numbers, if it does by a factor and a sum; NaN, or words, have none."""
    if np.array_equal(numbers, wanted):
        return "it is equal to it"
    numbers, others = numbers - numbers.mean(), wanted - wanted.mean()
    size = np.sqrt((numbers @ numbers) * (others @ others))
    if not size > 0 or len(np.unique(wanted)) <= 2 or abs(numbers @ others) < (1 - 1e-9) * size:
        return ""
    factor = float(numbers @ others / (numbers @ numbers))
    return f"it is {1 / factor:.6g} times the target and a constant"


def _places(table: Table, feature: Feature, rows: np.ndarray | None = None) -> np.ndarray:
    """Which of its different values each row has, -1 for none."""
    column = table.column(feature.name)
    column = column if rows is None else column.take(rows)
    if column.known is None:
        return column.codes
    codes = np.unique(column.known, return_inverse=True)[1]
    return np.where(np.isnan(column.known), -1, codes)
