"""Makes samples of table rows as training had them: of files, data frames, and rows as dicts."""

import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptb import DataError, Preprocessor, Sample
from ptb_datasets.csv_settings import Csv
from ptb_datasets.table_column import Column, object_text
from ptb_datasets.table_features import Feature
from ptb_datasets.table_shown import shown_row, shown_words
from ptb_datasets.table_source import Block, FrameSource, open_source
from ptb_datasets.table_targets import Target
from ptb_datasets.table_values import Writing
from ptb_datasets.words import Vocabulary

READING = (
    *("header", "missing", "missing_values", "separator", "decimal", "thousands", "units", "comment", "encoding"),
    *("sheet", "date_format", "max_bytes"),
)
BLOCK_VALUES = 200_000
DICTS = 256  # rows given as dicts are taken so many at a time


class TablePreprocessor(Preprocessor):
    """What ``csv`` has learnt: how each column becomes numbers, and what the targets are.

    Attributes:
        reading: the settings that say how a file is read.
        features: of each column that the model sees, the fields of its ``Feature``.
        text: instead of features, the column whose words become tokens.
        words: then the known ones, in the order of their numbers.
        length: then the tokens of a sample.
        target: the fields of the ``Target``.
    """

    reading: dict[str, Any]
    features: list[dict[str, Any]]
    text: str | None
    words: list[str]
    length: int
    target: dict[str, Any]

    @property
    def input_columns(self) -> list[str]:
        """The columns that the model sees, in order."""
        return [self.text] if self.text is not None else [feature["name"] for feature in self.features]

    @classmethod
    def of(
        cls, options: Csv, features: Sequence[Feature], target: Target, words: Vocabulary | None, length: int
    ) -> "TablePreprocessor":
        """One that is fitted."""
        new = cls()
        values = options.model_dump(mode="json")
        new.reading = {name: values[name] for name in READING if values[name] is not None}
        new.features = [asdict(feature) for feature in features]
        new.target = asdict(target)
        new.text, new.length = options.text, length
        new.words = [] if words is None else list(words.numbers)
        return new

    def keep(self, columns: Sequence[str]) -> "deque[tuple[str, list[str]]]":
        """The name, and the texts of these columns, of each sample that ``read`` yields from now on, in order.

        Take them out as samples are used up; it is for one reader.
        """
        self.kept_columns, self._kept = list(columns), deque[tuple[str, list[str]]]()
        return self._kept

    def read(self, sources: Iterable[Any]) -> Iterator[Sample]:
        """Yield a sample for each row of files (paths), data frames, arrays and rows (dicts by column), in order.

        Those of an array ``[N, columns]`` or of one row are the features in their order. Columns of others may stand in
        any order, others than those of training are passed over, and targets may be missing. A row
        that cannot be used is a sample with an error, and so is a file; one whose targets cannot be used has inputs and
        an error.

        Warns:
            UserWarning: rows have categories that training had not, once for each column.

        Yields:
            Inputs float32 ``[columns]`` or int64 tokens ``[length]``; targets int64 ``[]`` for class, else float32
            ``[D]``.
        """
        options = Csv.model_construct(path="", **self.reading)
        columns = getattr(self, "kept_columns", [])
        made = _Rows(self, options, columns)
        for sample in self._read(sources, made):
            if columns:
                self._kept.append((sample.name, made.kept.pop(sample.name, [""] * len(columns))))
            yield sample
        made.warn_of_unknown()

    def show(self, inputs: Any) -> Any:
        """A row by column in its own units, or the words of a text."""
        if self.text is not None:
            return shown_words(self.words, inputs)
        return shown_row([Feature(**fields) for fields in self.features], inputs)

    def _read(self, sources: Iterable[Any], made: "_Rows") -> Iterator[Sample]:
        rows: list[Mapping[str, Any]] = []
        taken = 0
        for source in sources:
            if isinstance(source, Mapping):
                rows.append(source)
                taken += 1
                if len(rows) == DICTS:
                    yield from made.of_dicts(rows, taken - len(rows))
                    rows = []
                continue
            yield from made.of_dicts(rows, taken - len(rows))
            rows = []
            yield from made.of_source(source)
        yield from made.of_dicts(rows, taken - len(rows))


class _Rows:
    """Samples of blocks of rows."""

    def __init__(self, fitted: TablePreprocessor, options: Csv, keep: Sequence[str] = ()) -> None:
        self.options, self.writing = options, Writing.of(options)
        self.missing = [*options.missing_values]
        self.features = [Feature(**fields) for fields in fitted.features]
        self.target = Target(**fitted.target)
        self.text, self.length = fitted.text, fitted.length
        self.words = Vocabulary.of(fitted.words)
        self.numbers = {feature.name for feature in self.features if feature.used_as == "number"}
        if self.target.kind == "real":
            self.numbers |= {*self.target.columns}
        self.keep = keep
        self.kept: dict[str, list[str]] = {}  # of the rows of a block, by their places
        self.numbers -= {*keep}  # as they are written
        self.unknown: dict[str, Counter[str]] = {}
        self.columns = fitted.input_columns

    def warn_of_unknown(self) -> None:
        """Warns of the categories so far that are none of the known ones, with how often they were there."""
        for name, counts in self.unknown.items():
            rows, shown = counts.total(), ", ".join(map(repr, [*counts][:3])) + " and more" * (len(counts) > 3)
            warnings.warn(
                f"column {name!r}: {rows:,} {'row has' if rows == 1 else 'rows have'} a value that training had not, "
                f"{shown}; to the model, such a row has none of the known values",
                UserWarning,
                stacklevel=4,
            )

    def of_source(self, source: Any) -> Iterator[Sample]:
        if isinstance(source, np.ndarray):
            width = len(self.columns)
            if source.ndim not in (1, 2) or source.shape[-1] != width:
                shape = list(source.shape)
                yield Sample("array", error=f"the array has the shape {shape}, and a row has {width} values")
                return
            rows = np.atleast_2d(source)
            for start in range(0, len(rows), DICTS):
                block = rows[start : start + DICTS].tolist()
                yield from self.of_dicts([dict(zip(self.columns, row, strict=True)) for row in block], start)
            return
        if isinstance(source, str | Path):
            name = str(source)
        elif hasattr(source, "columns") and hasattr(source, "iloc"):
            name = "table"
        else:
            kind = type(source).__name__
            yield Sample(
                kind, error=f"a {kind} is no table; give a file, a data frame, an array, or a dict for each row"
            )
            return
        try:
            table: Any
            if isinstance(source, str | Path):
                table = open_source(Path(source).expanduser(), self.options)
            else:
                table = FrameSource(source, Path(name), self.missing, self.options.decimal)
            if lost := [column for column in (*self.columns, *self.keep) if column not in table.header]:
                held = ", ".join(map(repr, table.header[:20]))
                one = "; the training table was read with another separator" if len(table.header) == 1 else ""
                yield Sample(name, error=f"{name} has no column {lost[0]!r}; it has {held}{one}")
                return
            used = dict.fromkeys((*self.columns, *self.target.columns, *self.keep))
            wanted = [name for name in used if name in table.header]
            for block in table.blocks(max(1, BLOCK_VALUES // len(wanted)), wanted, self.numbers):
                yield from self.of_block(block)
        except DataError as error:
            yield Sample(name, error=str(error))

    def of_dicts(self, rows: Sequence[Mapping[str, Any]], start: int) -> Iterator[Sample]:
        names = [f"[{start + number}]" for number in range(len(rows))]
        good, errors = [], {}
        for name, row in zip(names, rows, strict=True):
            lost = [column for column in self.columns if column not in row]
            if lost:
                errors[name] = f"it has no value for {lost[0]!r}; it has {', '.join(map(repr, [*row][:20]))}"
            else:
                good.append((name, row))
        wanted = [*self.columns, *self.target.columns, *self.keep]
        texts = {column: [object_text(row.get(column), self.options.decimal) for _, row in good] for column in wanted}
        columns = {column: Column.of_texts(values, self.missing) for column, values in texts.items()}
        made = {sample.name: sample for sample in self.of_block(Block(columns, [name for name, _ in good], []))}
        for name in names:
            yield made[name] if name in made else Sample(name, error=errors[name])

    def of_block(self, block: Block) -> Iterator[Sample]:
        """The samples of a block, in order."""
        count = len(block.places)
        if self.keep:
            texts = ([block.columns[name].text(row) for row in range(count)] for name in self.keep)
            self.kept = dict(zip(block.places, map(list, zip(*texts, strict=True)), strict=True))
        errors: list[str | None] = [None] * count
        samples: list[Sample] = []
        if count:
            inputs = self._inputs(block.columns, errors)
            targets, known, wrong = self._targets(block.columns, count)
            truths: Iterable[torch.Tensor | None] = repeat(None) if targets is None else _rows_of(targets)
            if targets is not None and not known.all():
                truths = (truth if there else None for truth, there in zip(truths, known.tolist(), strict=True))
            made = map(Sample, block.places, _rows_of(inputs), truths)
            if not wrong and not block.errors and not any(errors):
                yield from made
                return
            samples.extend(made)
            for row, error in wrong.items():
                samples[row] = Sample(block.places[row], inputs[row], error=error)
            for row in (row for row, error in enumerate(errors) if error is not None):
                samples[row] = Sample(block.places[row], error=errors[row])
        for before, place, error in reversed(block.errors):
            samples.insert(before, Sample(place, error=error))
        yield from samples

    def _inputs(self, columns: Mapping[str, Column], errors: list[str | None]) -> torch.Tensor:
        fill = self.options.missing == "mean"
        if self.text is not None:
            column = columns[self.text]
            if not fill:
                _note(errors, ~column.present(), lambda row: f"no value for {self.text!r}")
            texts = [column.text(row) for row in range(len(column))]
            return torch.from_numpy(self.words.encode(texts, self.length))
        parts = []
        for feature in self.features:
            column = columns[feature.name]
            if not fill:
                _note(errors, ~column.present(), lambda row, f=feature: f"no value for {f.name!r}")
            bad = feature.unreadable(column, self.writing)
            _note(errors, bad, lambda row, f=feature, c=column: f"{f.name!r}: {c.text(row)!r} is {f.refusal}")
            if (unknown := feature.unknown(column)).any():
                texts = [column.text(row) for row in np.flatnonzero(unknown).tolist()]
                self.unknown.setdefault(feature.name, Counter()).update(texts)
            with np.errstate(over="ignore"):  # of rows that are refused
                parts.append(feature.encode(column, self.writing))
        return torch.from_numpy(np.concatenate(parts, axis=1))

    def _targets(
        self, columns: Mapping[str, Column], count: int
    ) -> tuple[torch.Tensor | None, np.ndarray, dict[int, str]]:
        """The targets, of which rows they are known, and what is wrong with others; None where the source has none."""
        names = self.target.columns
        if not all(name in columns for name in names):
            return None, np.zeros(count, bool), {}
        chosen = [columns[name] for name in names]
        known = np.logical_and.reduce([column.present() for column in chosen])
        raw = self.target.raw(chosen, self.writing)
        bad = known & ((raw < 0) if raw.ndim == 1 else ~(np.abs(raw) <= np.finfo(np.float32).max).all(axis=1))
        shown = ", ".join(self.target.names[:20])
        want = (
            f"one of {shown}"
            if shown and raw.ndim == 1
            else "0 or 1"
            if self.target.kind == "multilabel"
            else "a number"
        )
        wrong = {row: f"{names[0]!r}: {chosen[0].text(row)!r} is not {want}" for row in np.flatnonzero(bad).tolist()}
        with np.errstate(over="ignore", invalid="ignore"):
            return torch.from_numpy(self.target.encode(raw)), known, wrong


def _rows_of(values: torch.Tensor) -> Iterator[torch.Tensor]:
    """Its rows, made a few hundred at a time: thousands at once would set off garbage collections of all of torch."""
    return (row for some in torch.split(values, 256) for row in some.unbind())


def _note(errors: list[str | None], bad: np.ndarray, what: Any) -> None:
    for row in np.flatnonzero(bad).tolist():
        errors[row] = errors[row] or what(row)
