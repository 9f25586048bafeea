"""The rows and columns that the settings of ``csv`` name, from one file or from one for each split."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import NoReturn

import numpy as np

from ptb import DataError
from ptb_datasets.csv_header import Row, is_number, no_header
from ptb_datasets.csv_settings import Csv
from ptb_datasets.table_column import Column
from ptb_datasets.table_source import Source, open_source
from ptb_datasets.table_values import Writing

LISTS = ("target", "features", "categorical", "exclude")  # settings that name columns


class Table:
    """The used columns of some files, one below the other; ``keep`` leaves rows out.

    Args:
        options: the settings.
        paths: of the files, which have the same columns.

    Raises:
        DataError: a file cannot be read, or lacks a column that the settings name.
    """

    def __init__(self, options: Csv, paths: Sequence[Path]) -> None:
        self.options, self.writing = options, Writing.of(options)
        self.notes: list[str] = []
        self.sources: list[Source] = []
        self.names: list[str] = []
        pieces: list[dict[str, Column]] = []
        lengths = []
        for path in paths:
            source = open_source(path, options)
            header = _labelled(source.header)
            source.check(named(options), header)
            self.sources.append(source)
            if not self.names:
                self.names = [name for name in header if not name.startswith("\0")]
                self._check_names()
            pieces.append(self._read(source, header))
            lengths.append(len(next(iter(pieces[-1].values()))))
        self.path = self.sources[0].path
        self.starts = np.cumsum([0, *lengths])
        self.rows = np.arange(self.starts[-1])
        self.columns = (
            pieces[0] if len(pieces) == 1 else {name: _joined([p[name] for p in pieces]) for name in pieces[0]}
        )

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> Column:
        """A column of the rows that are kept."""
        return self.columns[name]

    def files(self) -> np.ndarray:
        """Which file each row is from, int64 ``[N]``."""
        return np.searchsorted(self.starts, self.rows, side="right") - 1

    def where(self, row: int) -> tuple[Path, str, Row]:
        """The file of a row, ``"line 12"``, and its values as they are written."""
        number = int(self.rows[row])
        file = int(np.searchsorted(self.starts, number, side="right")) - 1
        source = self.sources[file]
        line, values = source.row(number - int(self.starts[file]))
        return source.path, f"{source.word} {line}", values

    def written(self, name: str, row: int) -> str:
        """A value as it is written in the file."""
        source = self.sources[int(np.searchsorted(self.starts, int(self.rows[row]), side="right")) - 1]
        return self.where(row)[2][source.header.index(name)].strip()

    def fail(self, name: str, row: int, what: str) -> NoReturn:
        """Raises a DataError that names the file, the column and the line."""
        path, line, _ = self.where(row)
        raise DataError(f"{path}, column {name!r}, {line}: {what}")

    def keep(self, kept: np.ndarray) -> None:
        """Leaves out the rows where ``kept``, bool ``[N]``, is false."""
        rows = np.flatnonzero(kept)
        self.rows = self.rows[rows]
        for name in list(self.columns):
            self.columns[name] = self.columns[name].take(rows)

    def drop_missing(self, features: Sequence[str], others: Sequence[str]) -> None:
        """Holds the rows that lack a value against the policy; only features can be filled with a mean."""
        missing, count = self.options.missing, len(self)
        complete = np.ones(count, bool)
        lacking = {}
        for name in (*features, *others):
            present = self.column(name).present()
            if present.all() or missing == "drop" or (missing == "mean" and name in features):
                complete &= present
            else:
                lacking[name] = (count - int(present.sum()), int(np.argmin(present)))
        if lacking:
            self._refuse_missing(lacking, others)
        if missing != "drop" or complete.all():
            return
        if not complete.any():
            raise DataError(f"{self.path}: every row lacks a value; nothing is left with dataset.missing=drop")
        left = count - int(complete.sum())
        warnings.warn(
            f"left out the rows of {self.path} that lack a value, {left} of {count}", UserWarning, stacklevel=3
        )
        self.keep(complete)

    def _refuse_missing(self, lacking: dict[str, tuple[int, int]], others: Sequence[str]) -> NoReturn:
        name, (number, row) = next(iter(lacking.items()))
        column = self.column(name)
        empty = [name for name, (absent, _) in lacking.items() if absent == len(self)]
        if name in empty:
            remedy = "choose another dataset.target"
            if name not in others:
                remedy = f"add dataset.exclude={typed_list(empty)}"
        else:
            mean = not any(name in others for name in lacking)
            mean = mean and not np.isnan(column.numbers(self.writing)).all()
            remedy = "add dataset.missing=drop" + " or dataset.missing=mean" * mean
        found = f"{number} of {len(self)} values {'is' if number == 1 else 'are'} missing"
        more = [f"{other!r} ({absent})" for other, (absent, _) in lacking.items() if other != name]
        also = f"; values are missing too in {', '.join(more[:10])}{' and more' * (len(more) > 10)}" if more else ""
        self.fail(name, row, f"{found}; {remedy}{also}")

    def _check_names(self) -> None:
        options = self.options
        keys = {
            "target": options.targets,
            "features": options.features or (),
            "categorical": options.categorical,
            "exclude": options.exclude,
            **{key: (getattr(options, key),) for key in ("text", "split", "group", "time", "sample_weight")},
        }
        for key, names in keys.items():
            for name in names:
                if name is not None and name not in self.names:
                    raise DataError(
                        f"dataset.{key}: {self.sources[0].path} has no column {name!r}{_near(key, name, self.names)}"
                    )

    def _read(self, source: Source, header: Row) -> dict[str, Column]:
        """The columns that are used, and a note of those without a name."""
        options = self.options
        if lost := [name for name in self.names if name not in header]:
            raise DataError(f"{source.path} has no column {lost[0]!r}, and {self.sources[0].path} has it")
        places = {name: place for place, name in enumerate(header)}
        asked = named(options)
        used = list(dict.fromkeys(asked)) if options.features is not None or options.text is not None else self.names
        used = [name for name in used if name not in options.exclude]
        nameless = [name for name in header if name.startswith("\0") or re.fullmatch(r"Unnamed: 0(\.\d+)?", name)]
        texts = {places[name] for name in (*options.categorical, *_present(options.text, options.split, options.group))}
        codes = {places[name] for name in _present(*options.targets, options.time)}
        wanted = [places[name] for name in dict.fromkeys((*used, *nameless))]
        read = source.read(texts, codes, wanted)
        columns = {header[place]: column for place, column in read.items()}
        for name in nameless:
            if name not in asked:
                self._leave_out(source, name, places[name], columns)
        return columns

    def _leave_out(self, source: Source, name: str, place: int, columns: dict[str, Column]) -> None:
        column = columns.get(name)
        if column is None:
            return
        shown = f"column {place + 1} ({'no name' if name.startswith(chr(0)) else name})"
        if not column.present().any() or column.texts == [""]:
            note = f"{shown} left out: it is empty"
        elif _is_index(column, self.writing):
            note = f"{shown} left out: it numbers the rows"
        elif name.startswith("\0"):
            raise DataError(f"{source.path}: column {place + 1} of the header has no name")
        else:
            return
        del columns[name]
        if name in self.names:
            self.names.remove(name)
        if note not in self.notes:
            self.notes.append(note)


def named(options: Csv) -> list[str]:
    """The columns that the settings name for a use, in order."""
    features = options.features or (_present(options.text))
    others = _present(options.split, options.group, options.time, options.sample_weight)
    return [*features, *options.targets, *others]


def typed(text: str) -> str:
    """A text as it is typed after ``dataset.KEY=`` in a shell, also where TOML would take it for something else."""
    bare = not re.match(r"[\[{\"'\s]|.*\s$|\d+-\d+-\d+|\d+:\d+|$", text) and "\n" not in text
    return quote(text if bare else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')


def typed_list(names: Sequence[str]) -> str:
    """Names of columns, typed so; one of them needs no list."""
    if len(names) == 1:
        return typed(names[0])
    return quote("[" + ", ".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names) + "]")


def _present(*names: str | None) -> list[str]:
    return [name for name in names if name is not None]


def _labelled(header: Row) -> Row:
    """Names for a first column that has none, and for empty ones at the end, that no file can hold."""
    end = len(header)
    while end > 1 and not header[end - 1]:
        end -= 1
    return [name if name or (place and place < end) else f"\0{place}" for place, name in enumerate(header)]


def _is_index(column: Column, writing: Writing) -> bool:
    numbers = column.numbers(writing)
    return bool(not np.isnan(numbers).any() and not (numbers % 1).any() and len(np.unique(numbers)) == len(numbers))


def _joined(columns: Sequence[Column]) -> Column:
    """Some columns, one below the other; texts where one of them has texts."""
    if all(column.known is not None for column in columns):
        return Column(np.concatenate([column.known for column in columns if column.known is not None]))
    places: dict[str, int] = {}
    codes = []
    for column in columns:
        texts, rows = column.texts, column.codes
        if column.known is not None:
            found, rows = np.unique(column.known, return_inverse=True)
            texts = [repr(value).removesuffix(".0") for value in found.tolist()]
            rows = np.where(np.isnan(column.known), -1, rows)
        codes.append(np.array([*(places.setdefault(text, len(places)) for text in texts), -1], np.int32)[rows])
    return Column(None, np.concatenate(codes), list(places))


def _near(key: str, name: str, names: list[str]) -> str:
    from difflib import get_close_matches

    several = [part.strip() for part in re.split("[,;]", name)]
    if key in LISTS and len(several) > 1 and set(several) <= set(names):
        return f"; several columns are a list: dataset.{key}={typed_list(several)}"
    folded = {candidate.lower(): candidate for candidate in names}
    close = get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    hint = f" (did you mean {folded[close[0]]!r}?)" if close else ""
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    values = any(map(is_number, names)) and names != [str(place) for place in range(1, len(names) + 1)]
    lost = f"; the first line looks like values: {no_header(names)}" * values
    return f"{hint}; it has {shown}{lost}"
