"""Reads a CSV file as text, strictly: every row as long as the header, every message with its row."""

import csv
import io
from pathlib import Path
from stat import S_ISREG
from typing import NoReturn

from ptb import DataError

Row = list[str]
MOST_COLUMNS = 20_000  # each of them costs as much as hundreds of its values


def read_csv(path: Path, separator: str, max_bytes: int) -> tuple[Row, list[Row], list[int]]:
    """The header, the rows, and the line of the file on which each row ends; blank lines are passed over.

    Args:
        path: the file, UTF-8, with a header.
        separator: one character.
        max_bytes: the most that is read.

    Raises:
        DataError: the file cannot be read, is too large, is not UTF-8, or is no table with a header.
    """
    rows: list[Row] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO(_text(path, max_bytes), newline=""), delimiter=separator, strict=True)
    begun = 1
    try:
        for row in reader:
            begun = reader.line_num + 1
            if not row:
                continue
            if rows and len(row) != len(rows[0]):
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(row)} value{'s' * (len(row) != 1)}, and the header has "
                    f"{len(rows[0])}; a value that holds {separator!r} must stand in double quotes"
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path}, line {begun}: {_quoting(str(error), reader.line_num, begun)}") from error
    if not rows:
        raise DataError(f"{path} is empty")
    header = [name.strip() for name in rows[0]]
    _check_header(path, header, separator)
    if len(rows) == 1:
        raise DataError(f"{path} has a header and no rows")
    return header, rows[1:], lines[1:]


def is_number(text: str) -> bool:
    """Whether ``float`` reads it."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _quoting(fault: str, line: int, begun: int) -> str:
    """The reader's fault in the words of someone who mends a file; ``begun`` is the line of the row's first value."""
    remedy = "a value holds a quote only if it stands in double quotes itself, with that quote written twice"
    if "field limit" in fault:
        return f"a value has more than {csv.field_size_limit():,} characters; perhaps a double quote is not closed"
    if "end of data" in fault:
        return f"a double quote is opened and not closed; {remedy}"
    where = f" on line {line}" if line > begun else ""
    return f"there is text after a closing double quote{where}; {remedy}" if "expected after" in fault else fault


def _text(path: Path, max_bytes: int) -> str:
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode):
            raise DataError(f"dataset.path={path} is not a file")
        if status.st_size > max_bytes:
            raise DataError(
                f"{path} has {status.st_size:,} bytes; dataset.max_bytes={max_bytes} allows fewer. The whole table is "
                "held in memory: raise the limit only if it fits"
            )
        with path.open("rb") as stream:
            content = stream.read(max_bytes)
    except OSError as error:
        raise DataError(f"cannot read dataset.path={path}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise DataError(f"cannot read dataset.path={str(path)!r}: {error}") from error
    if b"\0" in content:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataError(f"{path} is UTF-16 text; save the table as CSV in UTF-8")
        _not_text(path, content, content.index(b"\0"), "a NUL byte")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _not_text(path, content, error.start, f"the byte {content[error.start]:#04x}")


def _not_text(path: Path, content: bytes, place: int, what: str) -> NoReturn:
    line = content.count(b"\n", 0, place) + 1
    raise DataError(
        f"{path}, line {line}: {what} is not UTF-8 text; save the table as CSV in UTF-8, or mend the file if it is "
        "damaged"
    )


def _check_header(path: Path, header: Row, separator: str) -> None:
    if len(header) > MOST_COLUMNS:
        raise DataError(
            f"{path} has {len(header):,} columns, and {MOST_COLUMNS:,} can be read; put so many numbers into .npy "
            "files, for the data set arrays"
        )
    if all(map(is_number, header)):
        raise DataError(f"{path}: the first line, {header[0]!r} and so on, looks like values; it must name the columns")
    first: dict[str, int] = {}
    for place, name in enumerate(header):
        if not name:
            raise DataError(f"{path}: column {place + 1} of the header has no name")
        if name in first:
            raise DataError(f"{path}: columns {first[name] + 1} and {place + 1} are both called {name!r}; rename one")
        first[name] = place
    if len(header) == 1:
        other = [mark for mark in ",;\t|" if mark != separator and mark in header[0]]
        if other:
            raise DataError(f"{path} has one column, {header[0]!r}; try dataset.separator={other[0]!r}")
