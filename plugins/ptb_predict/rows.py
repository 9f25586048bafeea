"""Rows of predictions: which columns they have, and how they are written as CSV or JSON lines."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import IO, Any

import torch
from torch import Tensor

from ptb import DataSpec
from ptb.internals import Predicted, plain

PROBABILITY = "probability:"
NOTHING: Mapping[str, list[str]] = {}


@dataclass(frozen=True)
class Shape:
    """Which columns a row of predictions has.

    Args:
        spec: what is predicted.
        scores: every class has its probability.
        top: so many classes are named, the most probable first.
        threshold: from which probability a label is named; multilabel only.
    """

    spec: DataSpec
    scores: bool = False
    top: int = 1
    threshold: float = 0.5

    def columns(self, batch: Predicted) -> dict[str, list[Any]]:
        """The columns of a batch, of the inputs that have no error."""
        given = dict(batch.columns)
        probabilities = {
            name.removeprefix(PROBABILITY): each for name, each in given.items() if name.startswith(PROBABILITY)
        }
        shown = {name: each for name, each in given.items() if not name.startswith(PROBABILITY)}
        if self.spec.target == "multilabel" and self.threshold != 0.5:
            rows = torch.stack([*probabilities.values()], 1) > self.threshold
            shown["prediction"] = [
                "|".join(name for name, on in zip(probabilities, row, strict=True) if on) for row in rows.tolist()
            ]
        if self.top > 1 and self.spec.target in ("class", "binary"):
            shown |= _top(probabilities, self.top)
        if self.scores or not shown:
            shown |= {f"{PROBABILITY}{name}": each for name, each in probabilities.items()}
        return {name: plain(each) for name, each in shown.items()}


class CsvRows:
    """Writes CSV: ``input``, the columns, ``error``."""

    def __init__(self, stream: IO[str], shape: Shape) -> None:
        self._writer = csv.writer(stream, lineterminator="\n")
        self._shape = shape
        self._header: list[str] = []
        self._waiting: list[tuple[str, str]] = []  # inputs with an error before the columns are known

    def write(self, batch: Predicted, kept: Mapping[str, list[str]] = NOTHING) -> None:
        """Write a batch; ``kept`` are columns of its inputs, those with an error left out."""
        columns = {**kept, **self._shape.columns(batch)} if batch.columns else {}
        if columns and not self._header:
            self._begin([*columns])
        if columns and not batch.errors:
            self._writer.writerows(zip(batch.names, *columns.values(), repeat("")))
            return
        for name, error, row in _rows(batch, columns):
            if error and not self._header:
                self._waiting.append((name, error))
            elif error:
                self._writer.writerow([name, *[""] * len(self._header), error])
            else:
                self._writer.writerow([name, *row, ""])

    def close(self) -> None:
        """Write what still waits, where no input could be used."""
        if not self._header:
            one = self._shape.spec.target in ("class", "binary")
            self._begin(["prediction", *["probability"] * one])

    def _begin(self, columns: list[str]) -> None:
        self._header = columns
        self._writer.writerow(["input", *columns, "error"])
        for name, error in self._waiting:
            self._writer.writerow([name, *[""] * len(columns), error])


class JsonRows:
    """Writes JSON lines: ``input``, and the columns or ``error``."""

    def __init__(self, stream: IO[str], shape: Shape) -> None:
        self._stream = stream
        self._shape = shape

    def write(self, batch: Predicted, kept: Mapping[str, list[str]] = NOTHING) -> None:
        """Write a batch; ``kept`` are columns of its inputs, those with an error left out."""
        columns = {**kept, **self._shape.columns(batch)} if batch.columns else {}
        for name, error, row in _rows(batch, columns):
            values = {"error": error} if error else dict(zip(columns, row, strict=True))
            self._stream.write(json.dumps({"input": name, **values}, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Nothing waits."""


def _rows(batch: Predicted, columns: dict[str, list[Any]]) -> Iterator[tuple[str, str, Sequence[Any]]]:
    """Name, error and values of each input."""
    values = zip(*columns.values(), strict=True)
    for place, name in enumerate(batch.names):
        error = batch.errors.get(place, "")
        yield name, error, () if error else next(values)


def _top(probabilities: dict[str, Tensor], top: int) -> dict[str, Any]:
    """The second, third ... class and its probability; the first one is the prediction."""
    names = [*probabilities]
    values, places = torch.stack([*probabilities.values()], 1).topk(min(top, len(names)), 1)
    found: dict[str, Any] = {}
    for rank in range(1, values.shape[1]):
        found[f"prediction:{rank + 1}"] = [names[place] for place in places[:, rank].tolist()]
        found[f"probability:{rank + 1}"] = values[:, rank]
    return found
