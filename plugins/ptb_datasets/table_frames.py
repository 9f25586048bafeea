"""Reads Excel and Parquet files as data frames, with the packages that pandas uses for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ptb import ConfigError, DataError

if TYPE_CHECKING:
    from pandas import DataFrame


def parquet_frame(path: Path, stream: IO[bytes], limit: int) -> "DataFrame":
    """The table in a Parquet file.

    Raises:
        DataError: it is damaged, or holds more than ``limit`` bytes; or pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError(f"{path} is a Parquet file, and pyarrow is not installed: pip install pyarrow") from error
    try:
        file = pq.ParquetFile(stream)
        about = file.metadata
        size = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
        if max(size, about.num_rows * about.num_columns) > limit:
            raise DataError(
                f"{path} has {about.num_rows:,} rows of {about.num_columns} columns, {size:,} bytes unpacked; "
                f"dataset.max_bytes={limit} allows fewer"
            )
        frame: DataFrame = file.read().to_pandas()
    except DataError:
        raise
    except Exception as error:  # pyarrow raises many kinds on a damaged file
        raise DataError(f"cannot read {path} as Parquet: {_short(error)}; the file is damaged") from error
    if frame.index.names != [None]:  # what to_parquet() stores of an index
        frame = frame.reset_index()
    return frame


def excel_frame(path: Path, stream: IO[bytes], sheet: str | None, header: bool = True) -> tuple["DataFrame", list[int]]:
    """The table in a sheet of an Excel file, and the row of each row; its first one that is not blank is the header.

    Formulas stand for the values that Excel saved with them.

    Raises:
        ConfigError: there is no such sheet.
        DataError: the file is damaged, has several sheets and none is named, or a formula has no saved value; or
            openpyxl is not installed.
    """
    import pandas as pd

    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise DataError(f"{path} is an Excel file, and openpyxl is not installed: pip install openpyxl") from error
    try:
        book: Any = load_workbook(stream, read_only=True, data_only=True)
        names = book.sheetnames
        chosen = _sheet(path, names, sheet)
        cells = [(number, list(row)) for number, row in enumerate(book[chosen].iter_rows(values_only=True), 1)]
        stream.seek(0)
        _check_formulas(path, load_workbook(stream, read_only=True)[chosen], cells)
    except (ConfigError, DataError):
        raise
    except Exception as error:  # openpyxl raises many kinds on a damaged file
        raise DataError(f"cannot read {path} as Excel: {_short(error)}; the file is damaged") from error
    used = [(number, row) for number, row in cells if any(value not in (None, "") for value in row)]
    if len(used) < 1 + header:
        raise DataError(f"{path}, sheet {chosen!r}: {'has a header and no rows' if used else 'is empty'}")
    width = max(place + 1 for _, row in used for place, value in enumerate(row) if value not in (None, ""))
    rows = [[*row, *[None] * width][:width] for _, row in used]
    names = ["" if name is None else _label(name) for name in rows[0]] if header else numbered(rows[0])
    frame = pd.DataFrame(rows[header:], columns=names, dtype=object)
    return frame, [number for number, _ in used[header:]]


def numbered(row: Sequence[Any]) -> list[str]:
    """The names of columns that have none: 1, 2 and so on."""
    return [str(place) for place in range(1, len(row) + 1)]


def _sheet(path: Path, names: list[str], sheet: str | None) -> str:
    if sheet is None and len(names) == 1:
        return names[0]
    if sheet is None:
        shown = " or ".join(f"dataset.sheet={_quoted(name)}" for name in names)
        raise DataError(f"{path} has {len(names)} sheets; say which one is the table: {shown}")
    if sheet not in names:
        raise ConfigError(f"dataset.sheet: {path} has no sheet {sheet!r}; it has {', '.join(map(repr, names))}")
    return sheet


def _check_formulas(path: Path, sheet: Any, cells: list[tuple[int, list[Any]]]) -> None:
    for (number, values), row in zip(cells, sheet.iter_rows(), strict=False):
        for value, cell in zip(values, row, strict=False):
            if value is None and cell.data_type == "f":
                raise DataError(
                    f"{path}, row {number}: the formula {str(cell.value)!r} has no saved value; open the file in Excel "
                    "and save it, or save it as CSV"
                )


def _label(name: Any) -> str:
    return str(name.date()) if hasattr(name, "date") else str(name)


def _quoted(text: str) -> str:
    from shlex import quote

    return quote(text)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
