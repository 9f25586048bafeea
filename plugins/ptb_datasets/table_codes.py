"""Finds codes among numbers: whole ones written with zeros in front, such as the ZIP code 01234."""

from collections.abc import Iterable, Mapping

import numpy as np

from ptb import DataError
from ptb_datasets.csv_file import BLOCK, lines_without_quotes, rows_of
from ptb_datasets.table_column import Column
from ptb_datasets.table_content import Content

ZERO, NINE, QUOTE, NEWLINE, SPACE = b'09"\n '


def is_padded(text: str) -> bool:
    """Whether a text is a whole number with zeros in front, which no amount is written with."""
    return len(text) > 1 and text[0] == "0" and text.isdecimal()


def may_be_codes(read: Mapping[int, Column]) -> list[int]:
    """The columns of whole numbers that need not be amounts: as numbers they do not show how they are written."""
    return [
        place
        for place, column in read.items()
        if column.known is not None and not (np.floor(column.known) < column.known).any()
    ]


def padded_columns(content: Content, width: int, among: Iterable[int]) -> set[int]:
    """Those of some columns of a CSV file that have such a value. A file without any takes one look at its bytes.

    Args:
        content: CSV.
        width: of the header.
        among: places of columns.
    """
    left, found = {*among}, set[int]()
    if not left or not _may_be(content):
        return found
    for lines in lines_without_quotes(content, width):
        if lines is None or not lines.plain:
            return found | _strictly(content, width, left)
        for place, text in _begun_with_zeros(lines.data, content.separator.encode(), width):
            if place in left and is_padded(text.strip()):
                found.add(place)
                left.discard(place)
    return found


def _may_be(content: Content) -> bool:
    """Whether anywhere after a mark a 0 stands before a digit."""
    mark, last = content.separator.encode()[-1], b"\n\n"
    with content.open() as stream:
        while block := stream.read(BLOCK):
            data = np.frombuffer(last + block, np.uint8)
            zeros = np.flatnonzero((data[1:-1] == ZERO) & (data[2:] >= ZERO) & (data[2:] <= NINE))
            if np.isin(data[zeros], (mark, NEWLINE, QUOTE, SPACE)).any():  # what stands before each
                return True
            last = block[-2:].rjust(2)
    return False


def _begun_with_zeros(data: bytes, mark: bytes, width: int) -> Iterable[tuple[int, str]]:
    """The column and the text of the first such value of each column, of whole plain lines."""
    values = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero((values == mark[0]) | (values == NEWLINE))
    starts = np.concatenate([[0], ends[:-1] + 1])
    begun = np.flatnonzero((values[starts] == ZERO) & (ends - starts > 1))
    after = values[starts[begun] + 1]
    begun = begun[(after >= ZERO) & (after <= NINE)]
    for place in np.unique(begun % width).tolist():
        first = begun[begun % width == place][0]
        yield place, data[starts[first] : ends[first]].decode()


def _strictly(content: Content, width: int, left: set[int]) -> set[int]:
    found: set[int] = set()
    for _, row in rows_of(content, width, skip_bad=True):
        if not isinstance(row, DataError):
            found |= {place for place in left - found if is_padded(row[place].strip())}
        if found == left:
            break
    return found
