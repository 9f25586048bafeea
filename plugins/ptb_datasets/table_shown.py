"""A sample of a table as people read it: the columns by their names, the values in their own units."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from torch import Tensor

from ptb_datasets.table_features import DATE_PARTS, Feature
from ptb_datasets.words import PADDING, SPECIAL

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNKNOWN_WORD = "?"
OTHER = "(another or none)"  # of a category: a text that training had not, or none at all


def shown_row(features: Iterable[Feature], inputs: Tensor) -> dict[str, Any]:
    """The columns of the inputs float32 ``[columns]``; a missing value is what stood in for it in training."""
    values, place, row = inputs.detach().cpu().double().tolist(), 0, {}
    for feature in features:
        row[feature.name] = _value(feature, values[place : place + feature.width])
        place += feature.width
    return row


def shown_words(words: Sequence[str], inputs: Tensor) -> str:
    """The known words of the tokens int64 ``[length]``; ``?`` stands for another one."""
    tokens = [token for token in inputs.tolist() if token != PADDING]
    return " ".join(words[token - SPECIAL] if token >= SPECIAL else UNKNOWN_WORD for token in tokens)


def _value(feature: Feature, values: Sequence[float]) -> Any:
    if feature.used_as == "category":
        return feature.categories[values.index(1.0)] if 1.0 in values else OTHER
    own = [value * std + mean for value, std, mean in zip(values, feature.std, feature.mean, strict=True)]
    if feature.used_as == "number":
        return _number(own[0])
    if feature.used_as == "boolean":
        return feature.words[round(own[0])]
    if feature.parts:
        return ", ".join(f"{name} {round(each)}" for name, each in zip(DATE_PARTS, own, strict=False))
    return _date(own[0])


def _date(days: float) -> Any:
    try:
        return (EPOCH + timedelta(minutes=round(days * 1440))).strftime("%Y-%m-%d")
    except OverflowError:
        return _number(days)


def _number(value: float) -> float:
    """As many digits as a 32-bit number has for certain."""
    return float(f"{value:.6g}")
