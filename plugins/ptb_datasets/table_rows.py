"""Where the rows of each split stand in their files, and files that hold the rows of one split each."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptb import DataError
from ptb_datasets.csv_file import raw_rows, rows_of
from ptb_datasets.csv_settings import Csv
from ptb_datasets.table import Table
from ptb_datasets.table_source import CsvSource, Source, open_source

SPLITS = ("train", "val", "test")


@dataclass
class SplitRows:
    """The rows of each split; the files are read again when it is asked for more.

    Args:
        options: the settings.
        paths: of the files.
        rows: of each split: numbers of files, and of rows in them from 0, int64 ``[N]`` each.
    """

    options: Csv
    paths: list[Path]
    rows: dict[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, table: Table, parts: list[np.ndarray]) -> "SplitRows":
        """Those of a table whose rows are shared out."""
        files = table.files()
        numbers = table.rows - table.starts[files]
        named = zip(SPLITS, parts, strict=True)
        rows = {split: (files[part], numbers[part]) for split, part in named if len(part)}
        return cls(table.options, [source.path for source in table.sources], rows)

    def names(self, split: str) -> list[str]:
        """``"prices.csv:12"`` for each sample of a split."""
        lines = [_lines(source) for source in self._sources()]
        files, numbers = self.rows[split]
        found = zip(files.tolist(), numbers.tolist(), strict=True)
        return [f"{self.paths[file].name}:{lines[file][number]}" for file, number in found]

    def write(self, folder: Path) -> dict[str, Path]:
        """Write a file for each split, of the form that was read and for the same settings.

        The rows of CSV are written as they stand in the file, without comments.

        Returns:
            The paths by split.

        Raises:
            DataError: the files that were read have their columns in other orders.
        """
        sources = self._sources()
        if any(source.header != sources[0].header for source in sources):
            raise DataError(f"{self.paths[0]} and the other files have their columns in other orders; write them alike")
        first = sources[0]
        if isinstance(first, CsvSource):
            return self._write_csv([source for source in sources if isinstance(source, CsvSource)], folder)
        import pandas as pd

        frames = [source.frame for source in sources if not isinstance(source, CsvSource)]
        written = {}
        for split, (files, numbers) in self.rows.items():
            starts = np.cumsum([0, *map(len, frames)])
            frame = pd.concat(frames).iloc[starts[files] + numbers]
            if first.lines is None:
                written[split] = folder / f"{split}.parquet"
                frame.to_parquet(written[split], index=False)
            else:
                written[split] = folder / f"{split}.xlsx"
                sheet = self.options.sheet or "Sheet1"
                frame.to_excel(written[split], index=False, header=self.options.header, sheet_name=sheet)
        return written

    def _write_csv(self, sources: list[CsvSource], folder: Path) -> dict[str, Path]:
        texts = [[text.rstrip("\r\n") + "\n" for _, text in raw_rows(source.content)] for source in sources]
        separator = sources[0].content.separator
        mark = f"sep={separator}\n" if separator != self.options.separator else ""
        header = self.options.header
        written = {}
        for split, (files, numbers) in self.rows.items():
            written[split] = folder / f"{split}.csv"
            with written[split].open("w", encoding=self.options.encoding, newline="") as stream:
                stream.write(mark + texts[0][0] * header)
                stream.writelines(
                    texts[file][number + header] for file, number in zip(files.tolist(), numbers.tolist(), strict=True)
                )
        return written

    def _sources(self) -> list[Source]:
        return [open_source(path, self.options) for path in self.paths]


def _lines(source: Source) -> list[int]:
    if isinstance(source, CsvSource):
        return [line for line, _ in rows_of(source.content, len(source.header))]
    return list(range(1, len(source.frame) + 1)) if source.lines is None else list(source.lines)
