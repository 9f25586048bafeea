"""Reads which picture has which label from a table, instead of from the folders that they are in."""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ptb import DataError
from ptb_datasets.folder_scan import SPLITS, Files, Refused, Scan, Walk, files_in, listed, natural_order, shown
from ptb_datasets.typed import typed

SEPARATORS = ",;\t"
MOST_BYTES = 256 << 20


class LabelFile(NamedTuple):
    """A table of files and their labels.

    Args:
        path: a CSV file, UTF-8, with a header; values are separated by commas, semicolons or tabs.
        file: the column of the files' names below the folder of pictures, with their endings or without.
        label: the column of the labels.
        split: the column of ``train``, ``val`` or ``test``; None where the splits are drawn.
    """

    path: str
    file: str
    label: str
    split: str | None


class _Row(NamedTuple):
    line: int
    name: str
    label: str
    split: str


def scan_labels(walk: Walk, table: LabelFile, wanted: Sequence[str] | None = None) -> Scan:
    """The files of a table under their labels, in the order of its lines.

    Args:
        walk: the folder that names are relative to; links are followed as it says.
        table: where the labels are.
        wanted: the labels in the order of their numbers; rows of others are left out. None: all, in natural order.

    Raises:
        DataError: the table cannot be read, names a file that is not there or one twice, or has too few labels.
    """
    place = shown(Path(table.path))
    rows = list(_rows(table, place))
    labels = natural_order({row.label for row in rows})
    if wanted is not None and (absent := [name for name in wanted if name not in labels]):
        raise DataError(f"dataset.classes: no row of {place} has the label {absent[0]!r}; there are {listed(labels)}")
    names = tuple(labels if wanted is None else wanted)
    if len(names) < 2:
        raise DataError(
            f"{place} must have 2 labels at least in the column '{table.label}', and has {listed(labels) or 'none'}"
        )
    numbers = {name: number for number, name in enumerate(names)}
    refused: list[Refused] = []
    there = _Folder(walk, refused)
    lines: dict[str, int] = {}
    parts: dict[str, tuple[list[str], list[int]]] = {}
    for row in rows:
        if row.label not in numbers:
            continue
        path = there.find(row.name)
        if path is None:
            refused.append(Refused(walk.top / row.name, f"named in {place}, line {row.line}, and not there"))
            continue
        if path in lines:
            raise DataError(f"{place}, line {row.line}: the file {row.name!r} is named in line {lines[path]} already")
        lines[path] = row.line
        paths, classes = parts.setdefault(row.split, ([], []))
        paths.append(path)
        classes.append(numbers[row.label])
    if "train" not in parts and table.split is not None:
        raise DataError(f"{place}: no row says train in the column '{table.split}'")
    files = {
        split: Files(*(parts[split][0], np.array(parts[split][1], np.int64))) for split in SPLITS if split in parts
    }
    files = files or {"train": Files([], np.zeros(0, np.int64))}
    used = {row.label for row in rows}
    left = [name for name in natural_order(used) if name not in numbers]
    notes = (f"labels left out: {listed(left)}",) if left else ()
    return Scan(walk.top, names, files, refused, table.split is not None, notes)


class _Folder:
    """The files below a folder, found by the names that tables give them."""

    def __init__(self, walk: Walk, refused: list[Refused]) -> None:
        self._start = len(str(walk.top)) + 1
        found = files_in(walk._replace(recursive=True), str(walk.top), refused)
        self._by_name = {path[self._start :].replace(os.sep, "/"): path for path in found}
        self._by_stem: dict[str, str | None] = {}
        for name, path in self._by_name.items():
            stem = os.path.splitext(name)[0]
            self._by_stem[stem] = None if stem in self._by_stem else path

    def find(self, name: str) -> str | None:
        """The path of a name that a table gives, with slashes of either kind; None where there is none."""
        plain = os.path.normpath(name.replace("\\", "/")).replace(os.sep, "/")
        return self._by_name.get(plain) or self._by_stem.get(plain)


def _rows(table: LabelFile, place: str) -> Iterator[_Row]:
    try:
        if os.path.getsize(table.path) > MOST_BYTES:
            raise DataError(f"dataset.labels={place} is larger than {MOST_BYTES >> 20} MiB: no table of labels")
        with open(table.path, encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            separator = max(SEPARATORS, key=first.count)
            header = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
            columns = [_column(header, name, key, place) for name, key in _wanted(table)]
            reader = csv.reader(stream, delimiter=separator, strict=True)
            for values in reader:
                if not values:
                    continue
                line = reader.line_num + 1
                if len(values) != len(header):
                    raise DataError(f"{place}, line {line}: {len(values)} values, and the header has {len(header)}")
                name, label, *split = (values[column].strip() for column in columns)
                _check_row(table, name, label, split, f"{place}, line {line}")
                yield _Row(line, name, label, split[0] if split else "train")
    except OSError as error:
        raise DataError(f"dataset.labels={place}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"dataset.labels={place} is no text in UTF-8 (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"dataset.labels={place} is no CSV file: {error}") from error


def _wanted(table: LabelFile) -> list[tuple[str, str]]:
    """The columns, and the setting that names each."""
    named = [(table.file, "file_column"), (table.label, "label_column")]
    return named if table.split is None else [*named, (table.split, "split_column")]


def _column(header: Sequence[str], name: str, key: str, place: str) -> int:
    if name not in header:
        others = [other for other in header if other]
        guess = others[:1] if key == "file_column" else others[-1:]
        raise DataError(
            f"{place}, line 1: there is no column {name!r}; there are {listed(others) or 'none'}. Name the right "
            f"one, as in {typed(key, guess[0] if guess else name)}"
        )
    if header.count(name) > 1:
        raise DataError(f"{place}, line 1: two columns are called {name!r}; rename one")
    return header.index(name)


def _check_row(table: LabelFile, name: str, label: str, split: Sequence[str], place: str) -> None:
    if not name or not label:
        empty = table.label if name else table.file
        raise DataError(f"{place}: the column '{empty}' is empty; fill it, or remove the line")
    if split and split[0] not in SPLITS:
        raise DataError(f"{place}: the split {split[0]!r}; valid are {', '.join(SPLITS)}")
    if "\0" in name:
        raise DataError(f"{place}: the name of the file has a NUL character")
