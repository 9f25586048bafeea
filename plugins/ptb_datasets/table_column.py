"""A column of a table in little memory: numbers, or its different texts and which of them each row has."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ptb_datasets.table_values import Writing

FEW_ROWS = 50


class Column:
    """Values of a column.

    Args:
        numbers: float64 ``[N]``, NaN where a value is missing; or None, and then
        codes: int32 ``[N]``: which of the texts each row has, -1 where a value is missing.
        texts: different ones, without spaces around them.
    """

    def __init__(self, numbers: np.ndarray | None, codes: np.ndarray | None = None, texts: Sequence[str] = ()) -> None:
        self.known = numbers
        self.codes = np.zeros(0, np.int32) if codes is None else codes
        self.texts = list(texts)

    @classmethod
    def of_texts(cls, values: Iterable[str | None], missing: Iterable[str]) -> "Column":
        """From the text of each row; None and the texts of ``missing`` are missing."""
        builder = ColumnBuilder(missing)
        builder.add_texts(list(values))
        return builder.column()

    def __len__(self) -> int:
        return len(self.codes if self.known is None else self.known)

    def take(self, rows: np.ndarray) -> "Column":
        """The same with these rows alone; texts that none of them has are forgotten."""
        if self.known is not None:
            return Column(self.known[rows])
        codes = self.codes[rows]
        used = np.zeros(len(self.texts) + 1, bool)
        used[codes] = True  # -1 is the last
        if used[:-1].all():
            return Column(None, codes, self.texts)
        places = np.cumsum(used[:-1]) - 1
        return Column(
            None,
            np.append(places, -1)[codes].astype(np.int32),
            [text for text, kept in zip(self.texts, used[:-1], strict=True) if kept],
        )

    def present(self) -> np.ndarray:
        """Bool ``[N]``: whether a row has a value."""
        return self.codes >= 0 if self.known is None else ~np.isnan(self.known)

    def numbers(self, writing: Writing) -> np.ndarray:
        """Float64 ``[N]``, NaN where there is no number."""
        return self.each(writing.numbers(self.texts)) if self.known is None else self.known

    def each(self, values: np.ndarray) -> np.ndarray:
        """What ``values`` has for each text, for each row; NaN where a value is missing."""
        found: np.ndarray = np.append(values.astype(np.float64), np.nan)[self.codes]
        return found

    def distinct(self, limit: int | None = None) -> list[str]:
        """The different values as texts, in the order of texts; numbers are written as Python does."""
        if self.known is None:
            return sorted(self.texts)
        found = np.unique(self.known[~np.isnan(self.known)])[:limit]
        return [number_text(value) for value in found.tolist()]

    def text(self, row: int) -> str:
        """The value of a row."""
        if self.known is not None:
            return "" if np.isnan(self.known[row]) else number_text(float(self.known[row]))
        return self.texts[self.codes[row]] if self.codes[row] >= 0 else ""


class ColumnBuilder:
    """Gathers the blocks of a column.

    Args:
        missing: the texts that stand for a missing value.
    """

    def __init__(self, missing: Iterable[str]) -> None:
        self._blocks: list[np.ndarray] = []
        self._places: dict[str, int] = {}
        self._missing = frozenset(missing)

    def add_numbers(self, values: np.ndarray) -> None:
        """Float64, NaN for a missing value; a column has only numbers or only texts."""
        self._blocks.append(np.array(values, dtype=np.float64))

    def add_codes(self, codes: np.ndarray, texts: Iterable[str]) -> None:
        """Which of the texts each row has, -1 for none."""
        places = [self._place(text) for text in texts]
        self._blocks.append(np.array([*places, -1], np.int32)[codes])

    def add_texts(self, values: Sequence[str | None]) -> None:
        """The text of each row."""
        if len(values) < FEW_ROWS:
            self._blocks.append(np.fromiter(map(self._place, values), np.int32, len(values)))
            return
        import pandas as pd  # finds different texts faster

        self.add_codes(*pd.factorize(np.array(values, dtype=object)))

    def column(self) -> Column:
        """All blocks together."""
        whole = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.int32)
        self._blocks = []
        if whole.dtype == np.float64:
            return Column(whole)
        return Column(None, whole, list(self._places))

    def _place(self, text: str | None) -> int:
        if text is None or (text := text.strip()) in self._missing:
            return -1
        return self._places.setdefault(text, len(self._places))


def number_text(value: float) -> str:
    """``2`` and ``2.5``."""
    return str(value).removesuffix(".0")


def object_text(value: Any, decimal: str = ".") -> str | None:
    """A value of a data frame, an Excel sheet or a row as CSV would have it; None for a missing one."""
    if value is None or type(value).__name__ in ("NaTType", "NAType"):
        return None
    if isinstance(value, float | np.floating) and np.isnan(value):
        return None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if hasattr(value, "isoformat"):
        return str(value.isoformat()).removesuffix("T00:00:00")
    if isinstance(value, int | float | np.number):
        return str(value.item() if isinstance(value, np.generic) else value).replace(".", decimal)
    return str(value)
