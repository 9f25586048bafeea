"""The rows of ``metrics.jsonl`` as they grow, and which of them a tracker has."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

MOST_ROWS = 500  # that are read at once: the file is the queue, and memory holds no more of it


class Row(NamedTuple):
    """The figures of a split at a step, named ``SPLIT/LABEL``; NaN and infinite ones are floats too."""

    step: int
    split: str
    figures: dict[str, float]

    @classmethod
    def of(cls, line: bytes) -> "Row":
        """Raises ValueError or KeyError where the line is no row."""
        row = json.loads(line)
        split = str(row["split"])
        figures = {f"{split}/{label}": float(value) for label, value in row["values"].items()}
        if split == "train":  # the other splits repeat them
            facts = ("lr", "epoch", "samples_per_second")
            figures |= {name: float(row[name]) for name in facts if row.get(name) is not None}
        return cls(int(row["step"]), split, figures)


@dataclass
class Position:
    """How far the rows of a run were sent.

    Rows have a step and a split, by which a row is known again that a resumed run has taken once more. Steps grow, but
    for the one row of the test split: it has the step of the weights that were measured.
    """

    step: int = -1
    splits: list[str] = field(default_factory=list)  # of which the row of that step was sent
    test: int | None = None  # the step of the row of the test split

    def covers(self, row: Row) -> bool:
        """Whether the row was sent."""
        if row.split == "test":
            return self.test == row.step
        return row.step < self.step or (row.step == self.step and row.split in self.splits)

    def add(self, row: Row) -> None:
        """The row was sent."""
        if row.split == "test":
            self.test = row.step
        elif row.step > self.step:
            self.step, self.splits = row.step, [row.split]
        elif row.step == self.step:
            self.splits.append(row.split)


class Tail:
    """Reads the rows of a file that grows, each once; one that was replaced is read from its beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._file: tuple[int, int] | None = None

    def read(self, most: int = MOST_ROWS) -> list[Row]:
        """The next rows, at most so many; an empty list where there are no more now."""
        try:
            stream = self._path.open("rb")
        except FileNotFoundError:
            return []
        with stream:
            facts = os.fstat(stream.fileno())
            if self._file != (facts.st_dev, facts.st_ino) or facts.st_size < self._offset:
                self._file, self._offset = (facts.st_dev, facts.st_ino), 0
            stream.seek(self._offset)
            rows = []
            for line in _whole_lines(stream):
                self._offset += len(line)
                rows += _rows(line)
                if len(rows) == most:
                    break
            return rows


def unsent(path: Path, position: Position) -> tuple[int, int]:
    """How many rows of a file were not sent, and how many there are."""
    tail, left, total = Tail(path), 0, 0
    while rows := tail.read():
        total += len(rows)
        left += sum(not position.covers(row) for row in rows)
    return left, total


def _whole_lines(stream: Any) -> Iterator[bytes]:
    for line in stream:
        if not line.endswith(b"\n"):  # it is being written, or was cut off by a crash
            return
        yield line


def _rows(line: bytes) -> list[Row]:
    """The row of a line; none of a damaged one, which must not hide those behind it."""
    try:
        return [Row.of(line)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
