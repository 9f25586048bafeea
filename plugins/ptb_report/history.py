"""The rows of ``metrics.jsonl`` as curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptb import RunRecord

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Curve:
    """One figure of one split: values by epoch or by step, None where a row has none."""

    split: str
    places: Sequence[float]
    values: Sequence[float | None]


@dataclass(frozen=True)
class History:
    """The curves of a run by figure.

    ``by_epoch`` says that places are epochs, not steps; ``damaged`` counts lines that cannot be read.
    """

    curves: Mapping[str, Sequence[Curve]]
    rates: Curve
    by_epoch: bool
    damaged: int
    last: Mapping[str, Any]


def history(record: RunRecord, by_epoch: bool | None = None) -> History:
    """The history of a run; ``by_epoch`` None takes epochs where each has one evaluation."""
    rows = [row for row in record.history if _is_row(row)]
    if by_epoch is None:
        by_epoch = _has_one_row_an_epoch(rows)
    place = "epoch" if by_epoch else "step"
    figures: dict[str, dict[str, tuple[list[float], list[float | None]]]] = {}
    for split in ("train", "val"):
        of_split = [row for row in rows if row["split"] == split]
        for name in dict.fromkeys(name for row in of_split for name in row["values"]):
            values = [number(row["values"].get(name)) for row in of_split]
            figures.setdefault(name, {})[split] = ([row[place] for row in of_split], values)
    curves = {
        name: [Curve(split, places, values) for split, (places, values) in splits.items()]
        for name, splits in figures.items()
    }
    trained = [row for row in rows if row["split"] == "train" and number(row.get("lr")) is not None]
    rates = Curve("train", [row[place] for row in trained], [number(row["lr"]) for row in trained])
    return History(curves, rates, by_epoch, _damaged(record, len(rows)), rows[-1] if rows else {})


def last_figures(record: RunRecord) -> dict[str, Any]:
    """The newest figures in the rows, keyed as those of a summary."""
    found: dict[str, Any] = {}
    for row in record.history:
        if _is_row(row):
            found |= {f"{row['split']}/{name}": value for name, value in row["values"].items()}
    return found


def number(value: Any) -> float | None:
    """A figure of a row, where NaN and infinity are texts; None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _is_row(row: Mapping[str, Any]) -> bool:
    places = all(isinstance(row.get(name), int) for name in ("step", "epoch"))
    return places and row.get("split") in SPLITS and isinstance(row.get("values"), dict)


def _has_one_row_an_epoch(rows: Sequence[Mapping[str, Any]]) -> bool:
    for split in ("train", "val"):
        epochs = [row["epoch"] for row in rows if row["split"] == split]
        if len(epochs) != len(set(epochs)):
            return False
    return True


def _damaged(record: RunRecord, readable: int) -> int:
    """How many lines of ``metrics.jsonl`` are no rows."""
    path = record.path / "metrics.jsonl"
    lines = path.read_bytes().splitlines() if path.is_file() else []
    return max(0, sum(1 for line in lines if line.strip()) - readable)
