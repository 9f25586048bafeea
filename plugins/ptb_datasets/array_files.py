"""Which samples of the files of ``arrays`` each split has, and files that hold those of one split each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptb_datasets.folder_files import present
from ptb_datasets.npy import map_npy

BLOCK_BYTES = 1 << 26


@dataclass(frozen=True)
class ArrayFiles:
    """The files, which are mapped again when it is asked for copies: in training, values may have taken NaN's place.

    Args:
        paths: of the inputs, the targets and perhaps the weights.
        rows: of each split that there is: numbers of samples in the files, int64 ``[n]``.
    """

    paths: Mapping[str, Path]
    rows: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, paths: Mapping[str, str | None], parts: Sequence[np.ndarray]) -> "ArrayFiles":
        """Those of the settings, with the rows of train, val and test."""
        there = {name: Path(path).expanduser() for name, path in paths.items() if path is not None}
        return cls(there, present(parts))

    def names(self, split: str) -> list[str]:
        """``"inputs.npy[12]"`` for each sample of a split."""
        return [f"{self.paths['inputs'].name}[{row}]" for row in self.rows[split].tolist()]

    def write(self, folder: Path) -> dict[str, Path]:
        """Write ``SPLIT-inputs.npy``, ``SPLIT-targets.npy`` and perhaps ``SPLIT-weights.npy``.

        Returns:
            The paths of the inputs by split.
        """
        for name, path in self.paths.items():
            values = map_npy(path)
            size = max(1, BLOCK_BYTES // max(1, values[:1].nbytes))
            for split, rows in self.rows.items():
                header = np.lib.format.header_data_from_array_1_0(values) | {"shape": (len(rows), *values.shape[1:])}
                with (folder / f"{split}-{name}.npy").open("wb") as stream:
                    np.lib.format.write_array_header_1_0(stream, header)
                    for start in range(0, len(rows), size):
                        stream.write(values[rows[start : start + size]].tobytes())
        return {split: folder / f"{split}-inputs.npy" for split in self.rows}
