"""Finds and reads the files that scikit-learn ships; importing ``sklearn.datasets`` would cost as much as torch."""

import gzip
import zlib
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import IO, TypeVar, cast

import numpy as np

from ptb import DataError

T = TypeVar("T")


def read_shipped(name: str, parse: Callable[[IO[str]], T]) -> T:
    """What ``parse`` makes of a file in ``sklearn/datasets/data``, unpacked where its name ends in ``.gz``.

    Raises:
        DataError: the file is not there, is damaged, or ``parse`` raises a ValueError or an IndexError.
    """
    path = Path(str(distribution("scikit-learn").locate_file(f"sklearn/datasets/data/{name}")))
    try:
        with cast(IO[str], gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8")) as stream:
            return parse(stream)
    except (OSError, EOFError, zlib.error, ValueError, IndexError) as error:
        raise DataError(f"cannot read the data that scikit-learn ships, {path}: {error}; reinstall scikit-learn") from (
            error
        )


def numbers(stream: IO[str], separator: str | None = ",") -> np.ndarray:
    """The rest of a file as float64 ``[rows, columns]``.

    Raises:
        ValueError: a value is no number, the rows differ in length, or there are none.
    """
    table = np.array([line.split(separator) for line in stream], dtype=float)
    if table.ndim != 2:
        raise ValueError("it holds no table")
    return table
