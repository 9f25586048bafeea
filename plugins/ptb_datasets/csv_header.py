"""Whether the first row of a table can name its columns, and what to type where it does not."""

from collections.abc import Iterable
from pathlib import Path

from ptb import DataError

Row = list[str]
MARKS = {",": "comma", ";": "';'", "\t": "tab", "|": "'|'"}  # between values, and how they are typed


def check_header(path: Path, header: Row, separator: str, wanted: Iterable[str]) -> None:
    """Refuses names that cannot be those of columns, or that show another separator, or that are values.

    Args:
        path: of the file.
        header: the names.
        separator: between them.
        wanted: names that the settings use: numbers among them make numbers in the header names.
    """
    if len(header) == 1 or not set(wanted) <= set(header):
        check_separator(path, header, separator)
        if header[0].startswith(("#", "//")) and not header[0].startswith("#,"):
            mark = "#" if header[0].startswith("#") else "//"
            raise DataError(f"{path}, line 1: {header[0]!r} looks like a comment; add dataset.comment='{mark}'")
    if all(map(is_number, header)) and not set(wanted) & set(header):
        raise DataError(f"{path}: the first line, {header[0]!r} and so on, looks like values; {no_header(header)}")
    first: dict[str, int] = {}
    for place, name in enumerate(header):
        if not name:
            raise DataError(f"{path}: column {place + 1} of the header has no name")
        if name in first:
            raise DataError(f"{path}: columns {first[name] + 1} and {place + 1} are both called {name!r}; rename one")
        first[name] = place


def check_separator(path: Path, row: Row, separator: str) -> None:
    """Refuses a first row that another separator would cut into more values."""
    for mark, typed in MARKS.items():
        if mark != separator and len(row) <= sum(name.count(mark) for name in row):
            raise DataError(
                f"{path} has {len(row)} column{'s' * (len(row) > 1)}, {row[0]!r}; try dataset.separator={typed}"
            )


def no_header(row: Row) -> str:
    """What to do about a first row that does not name the columns."""
    return f"it must name the columns; without such a line, add dataset.header=false: they are then 1 to {len(row)}"


def is_number(text: str) -> bool:
    """Whether ``float`` reads it."""
    try:
        float(text)
    except ValueError:
        return False
    return True
