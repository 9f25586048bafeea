"""Reads CSV text strictly: every row as long as the header, every message with its line."""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ptb import DataError
from ptb_datasets.csv_header import MARKS, Row
from ptb_datasets.table_content import Content, not_text

MOST_COLUMNS = 20_000  # each of them costs as much as hundreds of its values
BLOCK = 1 << 20


class BadRow(DataError):
    """A row that is not as long as the header; the rows after it can be read."""


def read_header(content: Content) -> Row:
    """The first row, as a rule the names of the columns, without the spaces around them.

    Raises:
        DataError: there is none, or it has too many columns; names are looked at by ``check_header``.
    """
    check_text(content)
    with content.text() as stream:
        reader = csv.reader(stream, delimiter=content.separator, strict=True)
        try:
            row = next(filter(None, reader), [])
        except csv.Error as error:
            first = reader.line_num
            if mark := _other_mark(content):
                message = f"the names are separated by {mark!r}; try dataset.separator={MARKS[mark]}"
            else:
                message = _quoting(str(error), first, first)
            raise DataError(f"{content.path}, line {first}: {message}") from error
    if not row:
        raise DataError(f"{content.path} is empty")
    if len(row) > MOST_COLUMNS:
        raise DataError(
            f"{content.path} has {len(row):,} columns, and {MOST_COLUMNS:,} can be read; put so many numbers into .npy "
            "files, for the data set arrays"
        )
    return [name.strip() for name in row]


def rows_of(content: Content, width: int, skip_bad: bool = False) -> Iterator[tuple[int, Row | BadRow]]:
    """The line on which each row ends, and the row, after the header; blank lines are passed over.

    Args:
        content: CSV.
        width: of the header.
        skip_bad: give a row of another length as the error instead of raising it.

    Raises:
        DataError: the text is no CSV; with file and line.
    """
    with content.text() as stream:
        yield from _rows(content, stream, width, skip_bad, header=content.header)


def _rows(
    content: Content, lines: Iterable[str], width: int, skip_bad: bool, before: int = 0, header: bool = True
) -> Iterator[tuple[int, Row | BadRow]]:
    """The rows of some lines of a file, ``before`` lines come before them."""
    reader = csv.reader(lines, delimiter=content.separator, strict=True)
    begun = 1
    try:
        if header:
            next(filter(None, reader), None)
        begun = reader.line_num + 1
        for row in reader:
            begun = reader.line_num + 1
            if not row:
                continue
            line = before + reader.line_num
            if len(row) == width:
                yield line, row
                continue
            bad = BadRow(
                f"{content.path}, line {line}: {len(row)} value{'s' * (len(row) != 1)}, and the header "
                f"has {width}; a value that holds {content.separator!r} must stand in double quotes"
            )
            if not skip_bad:
                raise bad
            yield line, bad
    except csv.Error as error:
        fault = _quoting(str(error), before + reader.line_num, before + begun)
        raise DataError(f"{content.path}, line {before + begun}: {fault}") from error


class Lines(NamedTuple):
    """Some whole lines of CSV text, none of which holds a quote.

    Attributes:
        data: the lines.
        before: how many lines of the file come before them.
        number: of the lines.
        plain: all of them are rows as long as the header.
    """

    data: bytes
    before: int
    number: int
    plain: bool

    def rows(self, content: Content, width: int) -> Iterator[tuple[int, Row | BadRow]]:
        """As ``rows_of`` with ``skip_bad``."""
        text = io.StringIO(self.data.decode(), newline="")
        return _rows(content, text, width, True, self.before, header=False)


def lines_without_quotes(content: Content, width: int) -> Iterator[Lines | None]:
    """The lines after the header, up to a megabyte at a time; None where the rest needs a parser to find its rows."""
    mark = content.separator.encode()
    with content.open() as stream:
        header = stream.readline() if content.header else b"1"
        if len(mark) > 1 or b'"' in header or b"\r" in header.removesuffix(b"\r\n") or not header.strip():
            yield None
            return
        before, left = int(content.header), b""
        while block := stream.read(BLOCK):
            whole, end, rest = (left + block).rpartition(b"\n")
            data, left = whole + end, rest
            if _needs_parser(data):
                yield None
                return
            if data:
                yield (lines := _lines(data, mark, before, width))
                before += lines.number
        if left:
            yield None if _needs_parser(left) else _lines(left + b"\n", mark, before, width)


def _needs_parser(data: bytes) -> bool:
    """Whether only a parser can say where rows end."""
    return b'"' in data or (b"\r" in data and data.count(b"\r") != data.count(b"\r\n"))


def _lines(data: bytes, mark: bytes, before: int, width: int) -> Lines:
    values = np.frombuffer(data, np.uint8)
    found = values[(values == mark[0]) | (values == 10)]
    count = data.count(b"\n")
    plain = width > 1 and len(found) == count * width and bool((found[width - 1 :: width] == 10).all())
    return Lines(data, before, count, plain)


def raw_rows(content: Content) -> Iterator[tuple[int, str]]:
    """Each row's first line and its text as it stands in the file, its line end included; a header comes first."""
    taken: list[str] = []

    def lines() -> Iterator[str]:
        with content.text() as stream:
            for line in stream:
                taken.append(line)
                yield line

    reader = csv.reader(lines(), delimiter=content.separator, strict=True)
    for row in reader:
        if row:
            yield reader.line_num - len(taken) + 1, "".join(taken)
        taken.clear()


def check_text(content: Content) -> None:
    """Refuses NUL bytes and bytes that are not UTF-8.

    Raises:
        DataError: with file and line.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    start = 0
    with content.open() as stream:
        while block := stream.read(BLOCK):
            pending = decoder.getstate()[0]
            data = pending + block
            if b"\0" in block:
                place = data.index(b"\0")
                not_text(content.path, data, place, _line(content, start - len(pending) + place))
            if pending or not block.isascii():
                try:
                    decoder.decode(block)
                except UnicodeDecodeError as error:
                    not_text(content.path, data, error.start, _line(content, start - len(pending) + error.start))
            start += len(block)
        if rest := decoder.getstate()[0]:
            not_text(content.path, rest, 0, _line(content, start - len(rest)))


def _line(content: Content, place: int) -> int:
    """The line of a byte: counted only for a message, it would cost as much as the check."""
    with content.open() as stream:
        return stream.read(place).count(b"\n") + 1


def count_rows(content: Content, width: int) -> int:
    """The rows, without the header; each has been found to be as long as it.

    Text without quotes needs no parser for that: in the row of all separators and line ends, every ``width``-th is a
    line end. Other text is read by the strict reader, which takes longer.

    Raises:
        DataError: a row has another length, or the text is no CSV.
    """
    plain = _plain_rows(content, width)
    return sum(1 for _ in rows_of(content, width)) if plain is None else plain - content.header


def _plain_rows(content: Content, width: int) -> int | None:
    """The lines, all of them rows of this length; None where only a parser can say."""
    mark = content.separator.encode()
    if len(mark) > 1 or width == 1:
        return None
    rows, left, ended = 0, b"", True
    with content.open() as stream:
        while block := stream.read(BLOCK):
            if block.endswith(b"\r"):
                block += stream.read(1)
            if b'"' in block or (b"\r" in block and block.count(b"\r") != block.count(b"\r\n")):
                return None
            data = np.frombuffer(block, np.uint8)
            found = left + data[(data == mark[0]) | (data == 10)].tobytes()
            whole = len(found) // width * width
            ends = np.frombuffer(found[:whole], np.uint8).reshape(-1, width)
            if (ends[:, -1] != 10).any() or (ends[:, :-1] == 10).any():
                return None
            rows, left, ended = rows + len(ends), found[whole:], block.endswith(b"\n")
    if ended:
        return rows if not left else None
    return rows + 1 if left == mark * (width - 1) else None


def _other_mark(content: Content) -> str:
    """The mark between quoted names in the first line that is not blank, if it is another than the separator."""
    with content.text() as stream:
        line = next((line for line in stream if line.strip()), "")
    found = re.search(r'" ?([,;|\t]) ?"', line)
    return found[1] if found and found[1] != content.separator else ""


def _quoting(fault: str, line: int, begun: int) -> str:
    """The reader's fault in the words of someone who mends a file; ``begun`` is the line of the row's first value."""
    remedy = "a value holds a quote only if it stands in double quotes itself, with that quote written twice"
    if "field limit" in fault:
        return f"a value has more than {csv.field_size_limit():,} characters; perhaps a double quote is not closed"
    if "end of data" in fault:
        return f"a double quote is opened and not closed; {remedy}"
    where = f" on line {line}" if line > begun else ""
    return f"there is text after a closing double quote{where}; {remedy}" if "expected after" in fault else fault
