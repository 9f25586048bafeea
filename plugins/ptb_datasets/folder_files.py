"""The files of each split of a folder of pictures: which they are, and copies of them in a folder for each split."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptb import DataError
from ptb_datasets.folder_scan import SPLITS, is_litter, shown
from ptb_datasets.mask_pairs import Pair


@dataclass(frozen=True)
class ClassFiles:
    """Pictures with one class each.

    Args:
        top: the folder that all of them are in.
        paths: of the pictures.
        labels: the number of the class of each, int64 ``[N]``.
        class_names: in the order of these numbers.
        rows: of each split that there is: which of the files, int64 ``[n]``.
    """

    top: Path
    paths: Sequence[str]
    labels: np.ndarray
    class_names: Sequence[str]
    rows: Mapping[str, np.ndarray]

    def names(self, split: str) -> list[str]:
        """The path of each sample of a split below the folder."""
        return [_below(self.paths[row], self.top) for row in self.rows[split].tolist()]

    def write(self, folder: Path) -> dict[str, Path]:
        """Copy the pictures to ``folder/SPLIT/CLASS``, and return the folder of each split.

        Raises:
            DataError: a class has a name that no folder can have.
        """
        for name in self.class_names:
            if is_litter(name) or {*name} & {"/", "\\", "\0"}:
                raise DataError(f"the label {name!r} cannot be the name of a folder; rename it in the table of labels")
        for split, rows in self.rows.items():
            unused: dict[str, Callable[[str], str]] = {name: _unique() for name in self.class_names}
            for name in self.class_names:
                (folder / split / name).mkdir(parents=True)
            for row in rows.tolist():
                label = self.class_names[self.labels[row]]
                inside = _below(self.paths[row], self.top).split("/")
                file = "-".join(inside[inside.index(label) + 1 :] if label in inside[:-1] else inside)
                shutil.copyfile(self.paths[row], folder / split / label / unused[label](file))
        return {split: folder / split for split in self.rows}


@dataclass(frozen=True)
class MaskFiles:
    """Pictures with masks.

    Args:
        top: the folder of the pictures.
        pairs: the files.
        suffix: what the name of a mask has after that of its picture.
        rows: of each split that there is: which of the files, int64 ``[n]``.
    """

    top: Path
    pairs: Sequence[Pair]
    suffix: str
    rows: Mapping[str, np.ndarray]

    def names(self, split: str) -> list[str]:
        """The path of each picture of a split below the folder."""
        return [_below(str(pair.picture), self.top) for pair in self._of(split)]

    def write(self, folder: Path) -> dict[str, Path]:
        """Copy to ``folder/images/SPLIT`` and ``folder/masks/SPLIT``, and return the folders of the pictures."""
        for split in self.rows:
            unused = _unique()
            for pair in self._of(split):
                stem = Path(unused(pair.picture.stem))
                for kind, path, suffix in (("images", pair.picture, ""), ("masks", pair.mask, self.suffix)):
                    target = folder / kind / split / f"{stem}{suffix}{path.suffix}"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, target)
        return {split: folder / "images" / split for split in self.rows}

    def _of(self, split: str) -> Iterator[Pair]:
        return (self.pairs[row] for row in self.rows[split].tolist())


def present(parts: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The rows of train, val and test by name, without empty ones."""
    return {split: rows for split, rows in zip(SPLITS, parts, strict=True) if len(rows)}


def _below(path: str, top: Path) -> str:
    """With slashes, for people and programs; the whole path where a link leads out of the folder."""
    inside = os.path.relpath(path, top).replace(os.sep, "/")
    return shown(Path(path)) if inside.startswith("../") else inside


def _unique() -> Callable[[str], str]:
    """Gives each name once; one that was given before gets a number."""
    used: set[str] = set()

    def name(wanted: str) -> str:
        stem, suffix = os.path.splitext(wanted)
        number, unique = 2, wanted
        while unique.lower() in used:
            number, unique = number + 1, f"{stem}-{number}{suffix}"
        used.add(unique.lower())
        return unique

    return name
