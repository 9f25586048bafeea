"""One table, wherever it comes from: CSV, Excel, Parquet, a data frame. It knows the line of each of its rows."""

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ptb import DataError
from ptb_datasets.csv_file import (
    BadRow,
    Lines,
    count_rows,
    lines_without_quotes,
    read_header,
    rows_of,
)
from ptb_datasets.csv_header import Row, check_header, check_separator
from ptb_datasets.csv_settings import Csv
from ptb_datasets.table_codes import is_padded, may_be_codes, padded_columns
from ptb_datasets.table_column import FEW_ROWS, Column, ColumnBuilder, object_text
from ptb_datasets.table_content import Content, open_content
from ptb_datasets.table_frames import numbered

if TYPE_CHECKING:
    from pandas import DataFrame

HEAD = 1000  # rows from which a column is taken for one of numbers, until one proves otherwise
BLOCK_VALUES = 2_000_000
ATTEMPTS = 4  # then all columns are read as texts


class Block(NamedTuple):
    """Some rows.

    Attributes:
        columns: by name.
        places: where each row stands.
        errors: other rows, and why they cannot be used, with how many of ``places`` come before.
    """

    columns: dict[str, Column]
    places: list[str]
    errors: list[tuple[int, str, str]]


class CsvSource:
    """CSV text.

    Args:
        content: of the file.
        missing: the texts that stand for a missing value.
        decimal: the mark before the decimals, if numbers have no other marks; None: columns are read as texts.
    """

    word = "line"

    def __init__(self, content: Content, missing: Sequence[str], decimal: str | None) -> None:
        self.content, self.path = content, content.path
        self.missing, self.decimal = missing, decimal
        self.first = read_header(content)
        self.header = self.first if content.header else numbered(self.first)

    def check(self, wanted: Sequence[str], header: Row) -> None:
        """Refuses a header that cannot be one; ``header`` has a name for those columns that may lack one."""
        if not self.content.header:
            check_separator(self.path, self.first, self.content.separator)
            return
        check_header(self.path, header, self.content.separator, wanted)

    def read(self, texts: set[int], codes: set[int], wanted: Sequence[int]) -> dict[int, Column]:
        """The columns at these places, as texts those of ``texts``, and those of ``codes`` if they are all digits."""
        with ThreadPoolExecutor(1) as pool:  # both parse without Python's lock
            counted = pool.submit(count_rows, self.content, len(self.header))
            read = self._columns(texts, codes, wanted)
            count = counted.result()
            if padded := padded_columns(self.content, len(self.header), may_be_codes(read)):
                read |= self._columns(texts | padded, codes, [*padded])
        if count == 0:
            raise DataError(f"{self.path} has a header and no rows")
        complete = {len(column) for column in read.values()} <= {count}
        return read if complete else self._strictly(wanted)

    def _columns(self, texts: set[int], codes: set[int], wanted: Sequence[int]) -> dict[int, Column]:
        width = len(self.header)
        if len(self.content.separator.encode()) > 1 or width == 1:
            return self._strictly(wanted)
        as_text = texts | self._words(width, codes)
        for attempt in range(ATTEMPTS + 1):
            as_text = set(range(width)) if attempt == ATTEMPTS or self.decimal is None else as_text
            read = self._quickly(wanted, as_text)
            if isinstance(read, set):
                as_text |= read
                continue
            return read
        return self._strictly(wanted)

    def row(self, number: int) -> tuple[int, Row]:
        """The line of a row, and its values; the file is read up to there."""
        found = next(islice(rows_of(self.content, len(self.header)), number, None))
        assert not isinstance(found[1], DataError)
        return found[0], found[1]

    def blocks(self, size: int, wanted: Sequence[str], numbers: Collection[str]) -> Iterator[Block]:
        """The rows, some at a time.

        Args:
            size: rows of a block; a block of plain text is a megabyte.
            wanted: the columns that a block has.
            numbers: those of them that are numbers if they can be.
        """
        places = {name: self.header.index(name) for name in wanted}
        width, done = len(self.header), 0
        texts = {place for name, place in places.items() if name not in numbers or self.decimal is None}
        for lines in lines_without_quotes(self.content, width):
            if lines is None:
                rows = (row for row in rows_of(self.content, width, skip_bad=True) if row[0] > done)
                yield from self._blocks(rows, size, places)
                return
            done = lines.before + lines.number
            read = (
                self._numbers(lines, list(places.values()), texts) if lines.plain and lines.number >= FEW_ROWS else None
            )
            if read is None:
                yield from self._blocks(lines.rows(self.content, width), size, places)
            else:
                columns = {name: read[place] for name, place in places.items()}
                name = str(self.path)
                yield Block(columns, [f"{name}:{line}" for line in range(lines.before + 1, done + 1)], [])

    def _blocks(
        self, rows: Iterator[tuple[int, Row | BadRow]], size: int, places: Mapping[str, int]
    ) -> Iterator[Block]:
        end: DataError | None = None
        while end is None:
            good: list[tuple[int, Row]] = []
            errors = []
            taken: list[tuple[int, Row | BadRow]] = []
            try:
                taken.extend(islice(rows, size))
            except DataError as error:  # the rows before it are good
                end = error
            if not taken:
                break
            for line, row in taken:
                if isinstance(row, DataError):
                    errors.append((len(good), f"{self.path}:{line}", str(row)))
                else:
                    good.append((line, row))
            columns = {
                name: Column.of_texts([row[place] for _, row in good], self.missing) for name, place in places.items()
            }
            yield Block(columns, [f"{self.path}:{line}" for line, _ in good], errors)
        if end is not None:
            raise end

    def _numbers(self, lines: Lines, wanted: Sequence[int], texts: set[int]) -> dict[int, Column] | None:
        """The columns of plain lines; None where one of the others than ``texts`` is not all finite numbers."""
        import pandas as pd

        options = self._options(wanted, texts) | {"header": None}
        try:
            frame = pd.read_csv(io.BytesIO(lines.data), **options)
        except (ValueError, OverflowError):
            return None
        builders = {place: ColumnBuilder(self.missing) for place in wanted}
        self._add(frame, builders, texts)
        columns = {place: builder.column() for place, builder in builders.items()}
        known = [column.known for column in columns.values() if column.known is not None]
        # A number that is too large is shown as it is written.
        return None if any(np.isinf(values).any() for values in known) else columns

    def _words(self, width: int, codes: set[int]) -> set[int]:
        """The columns whose first values are no numbers, or only digits where these may be codes."""
        marks = set(self.missing)
        rows = [row for _, row in islice(rows_of(self.content, width), HEAD) if not isinstance(row, DataError)]
        return {
            place
            for place, values in enumerate(zip(*rows, strict=True))
            if not all(_quick_number(value, self.decimal or ".") for value in set(values) - marks)
            or any(map(is_padded, values))
            or (place in codes and all(value.strip().lstrip("+-").isdecimal() for value in set(values) - marks))
        }

    def _quickly(self, wanted: Sequence[int], texts: set[int]) -> dict[int, Column] | set[int]:
        """What pandas reads, or the columns that it cannot read as numbers."""
        import pandas as pd

        builders = {place: ColumnBuilder(self.missing) for place in wanted}
        size = max(256, BLOCK_VALUES // len(self.header))
        options = self._options(wanted, texts)
        done = 0
        try:
            with self.content.open() as stream, pd.read_csv(stream, chunksize=size, **options) as blocks:
                for block in blocks:
                    self._add(block, builders, texts)
                    done += len(block)
        except (ValueError, OverflowError):
            words = self._words_after(done, size, [place for place in wanted if place not in texts])
            return words or set(range(len(self.header)))
        return {place: builder.column() for place, builder in builders.items()}

    def _options(self, wanted: Sequence[int], texts: set[int]) -> dict[str, Any]:
        """Those of ``pandas.read_csv``."""
        import pandas as pd

        options: dict[str, Any] = {
            "sep": self.content.separator,
            "header": 0 if self.content.header else None,
            "names": list(range(len(self.header))),
            "index_col": False,
            "usecols": list(wanted),
            "dtype": {place: object if place in texts else np.float64 for place in wanted},
            "keep_default_na": False,
            "na_values": list(self.missing),
            "decimal": self.decimal or ".",
            "encoding": "utf-8",
            "engine": "c",
        }
        if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1):
            options["float_precision"] = "round_trip"  # the default of later versions is exact
        return options

    def _add(self, frame: "DataFrame", builders: Mapping[int, ColumnBuilder], texts: set[int]) -> None:
        import pandas as pd

        for place, builder in builders.items():
            values = frame[place].to_numpy()
            if place in texts:
                builder.add_codes(*pd.factorize(values))
            else:
                builder.add_numbers(values)

    def _words_after(self, start: int, size: int, numbers: Sequence[int]) -> set[int]:
        found = set()
        marks = set(self.missing)
        for _, row in islice(rows_of(self.content, len(self.header)), start, start + size):
            if isinstance(row, DataError):
                continue
            found |= {
                place
                for place in numbers
                if place not in found and row[place] not in marks and not _quick_number(row[place], self.decimal or ".")
            }
        return found

    def _strictly(self, wanted: Sequence[int]) -> dict[int, Column]:
        builders = {place: ColumnBuilder(self.missing) for place in wanted}
        rows = rows_of(self.content, len(self.header))
        while taken := [row for _, row in islice(rows, 10_000) if not isinstance(row, DataError)]:
            for place, builder in builders.items():
                builder.add_texts([row[place] for row in taken])
        return {place: builder.column() for place, builder in builders.items()}


class FrameSource:
    """A data frame, of a Parquet or Excel file or as it is.

    Args:
        frame: of any types.
        path: of the file, or how to call the frame.
        missing: the texts that stand for a missing value.
        decimal: the mark before decimals that texts have.
        lines: the row of the sheet of each row; None: rows are counted from 1.
    """

    word = "row"

    def __init__(
        self,
        frame: "DataFrame",
        path: Path,
        missing: Sequence[str],
        decimal: str,
        lines: Sequence[int] | None = None,
    ) -> None:
        self.frame, self.path, self.missing, self.decimal = frame, path, missing, decimal
        self.lines = lines
        self.header = ["" if name is None else str(name).strip() for name in frame.columns]

    def check(self, wanted: Sequence[str], header: Row) -> None:
        """Refuses a header that cannot be one."""
        check_header(self.path, header, "", wanted)

    def read(self, texts: set[int], codes: set[int], wanted: Sequence[int]) -> dict[int, Column]:
        """The columns at these places, those of ``texts`` as texts even if all are numbers."""
        if not len(self.frame):
            raise DataError(f"{self.path} has a header and no rows")
        return {place: self._column(place, place in texts) for place in wanted}

    def row(self, number: int) -> tuple[int, Row]:
        """The row of the sheet, and its values."""
        line = number + 1 if self.lines is None else self.lines[number]
        return line, [object_text(value, self.decimal) or "" for value in self.frame.iloc[number]]

    def blocks(self, size: int, wanted: Sequence[str], numbers: Collection[str]) -> Iterator[Block]:
        """The rows, some at a time; see ``CsvSource.blocks``."""
        places = {name: self.header.index(name) for name in wanted}
        for start in range(0, len(self.frame), size):
            part = slice(start, start + size)
            columns = {name: self._column(place, name not in numbers, part) for name, place in places.items()}
            count = len(self.frame.iloc[part])
            lines = range(start + 1, start + 1 + count) if self.lines is None else self.lines[part]
            yield Block(columns, [f"{self.path}:{line}" for line in lines], [])

    def _column(self, place: int, as_text: bool, rows: slice = slice(None)) -> Column:
        values: Any = self.frame.iloc[rows, place]
        if values.dtype.kind in "iuf" and not as_text:
            return Column(values.to_numpy(dtype=np.float64, na_value=np.nan))
        return Column.of_texts((object_text(value, self.decimal) for value in values.tolist()), self.missing)


Source = CsvSource | FrameSource


def open_source(path: Path, options: Csv) -> Source:
    """The table in a file.

    Raises:
        DataError: the file cannot be read as one.
    """
    content = open_content(path, options)
    if content.form == "csv":
        decimal = options.decimal if options.thousands is None and not options.units else None
        return CsvSource(content, options.missing_values, decimal)
    from ptb_datasets.table_frames import excel_frame, parquet_frame

    with content.open() as stream:
        if content.form == "parquet":
            frame = parquet_frame(path, stream, options.max_bytes)
            if not options.header:
                raise DataError(f"{path} is a Parquet file, whose columns have names: leave out dataset.header=false")
            return FrameSource(frame, path, options.missing_values, options.decimal)
        frame, lines = excel_frame(path, io.BytesIO(stream.read()), options.sheet, options.header)
    return FrameSource(frame, path, options.missing_values, options.decimal, lines)


def _quick_number(text: str, decimal: str) -> bool:
    """Whether pandas reads it as a float64 with this mark; a text that it might read otherwise is no number."""
    text = text.strip()
    if decimal != ".":
        if "." in text:
            return False
        text = text.replace(decimal, ".")
    if "_" in text or not text.isascii():
        return False
    try:
        return float(text) == float(text)  # nan is a word
    except ValueError:
        return False
