"""Finds the pictures of a folder of classes, and what is wrong with its layout; opens none of them."""

import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ptb import DataError
from ptb_datasets.picture_file import SUFFIXES

SPLITS = ("train", "val", "test")
OTHER_SPLIT_NAMES = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}
LITTER = ("Thumbs.db", "desktop.ini")  # what file managers leave beside pictures, like hidden files


class Sample(NamedTuple):
    """A picture's file, the number of its class, and its place among all files of the folder."""

    path: Path
    label: int
    row: int


class Refused(NamedTuple):
    """A file that is not trained on, and why."""

    path: Path
    reason: str


class Scan(NamedTuple):
    """What a folder holds; ``samples`` has all of them under "train" where there are no split folders."""

    top: Path
    class_names: tuple[str, ...]
    samples: dict[str, list[Sample]]
    refused: list[Refused]
    has_split_folders: bool


def find_folder(root: str, setting: str = "root") -> Path:
    """The folder, with every link resolved; ``setting`` is where its name comes from.

    Raises:
        DataError: there is none.
    """
    try:
        top = Path(root).expanduser().resolve()
        if not top.is_dir():
            raise DataError(f"dataset.{setting}={root} is {'no folder' if top.exists() else 'not there'}")
    except (OSError, RuntimeError, ValueError) as error:  # no such home, a loop of links, a NUL in the name
        raise DataError(f"dataset.{setting}={root}: {error}") from error
    return top


def scan(top: Path) -> Scan:
    """Looks at the names of all folders and files.

    Raises:
        DataError: they are not laid out as a data set.
    """
    refused: list[Refused] = []
    folders = _inside(top, top, refused)
    by_name = {folder.name: folder for folder in folders}
    has_split_folders = "train" in by_name and set(by_name) <= set(SPLITS)
    if has_split_folders:
        classes = {split: _inside(top, folder, refused) for split, folder in by_name.items()}
    else:
        classes = {"train": folders}
        _check_split_names(top, folders)
    names = tuple(folder.name for folder in classes["train"])
    if len(names) < 2:
        links = "".join(f"; {shown(item.path)}: {item.reason}" for item in refused[:1] if item.path.is_symlink())
        raise DataError(
            f"{by_name['train'] if has_split_folders else top} must hold a folder of pictures for each of 2 classes at "
            f"least, and holds {len(names) or 'none'}: {top.name}/CLASS/PICTURE or {top.name}/train/CLASS/PICTURE"
            f"{links}"
        )
    for split, class_folders in classes.items():
        if strange := [folder for folder in class_folders if folder.name not in names]:
            raise DataError(f"the split '{split}' has the class {shown(strange[0])}, which 'train' does not have")
    numbers = {name: number for number, name in enumerate(names)}
    rows = itertools.count()
    samples = {
        split: [Sample(path, numbers[f.name], next(rows)) for f in class_folders for path in _files(top, f, refused)]
        for split, class_folders in classes.items()
    }
    return Scan(top, names, samples, refused, has_split_folders)


def _check_split_names(top: Path, folders: list[Path]) -> None:
    """Refuses folders of splits under other names, whose folders of classes would be taken for strange pictures."""
    meant = {f.name: OTHER_SPLIT_NAMES.get(f.name.lower(), f.name.lower()) for f in folders}
    if (
        "train" in meant.values()
        and set(meant.values()) <= set(SPLITS)
        and any(p.is_dir() for f in folders for p in f.glob("*"))
    ):
        wrong = ", ".join(f"{name} to {split}" for name, split in meant.items() if name != split)
        raise DataError(f"{top}: folders of splits are called train, val and test; rename {wrong}")


def entries(top: Path, folder: Path, refused: list[Refused]) -> Iterable["os.DirEntry[str]"]:
    """What is in a folder, by name, without hidden files and without links that lead out of ``top``."""
    try:
        with os.scandir(folder) as found:
            entries = sorted((e for e in found if not e.name.startswith(".") and e.name not in LITTER), key=_name)
    except OSError as error:
        raise DataError(f"cannot read the folder {shown(folder)}: {error.strerror or error}") from error
    for entry in entries:
        if not entry.is_symlink():
            yield entry
        elif not (path := Path(entry.path)).exists():
            refused.append(Refused(path, "a link to nothing"))
        elif not path.resolve().is_relative_to(top):
            refused.append(Refused(path, f"a link that leads out of {top}; copy what it points to"))
        else:
            yield entry


def _name(entry: "os.DirEntry[str]") -> str:
    return entry.name


def _inside(top: Path, folder: Path, refused: list[Refused]) -> list[Path]:
    """The folders in ``folder``; pictures that lie beside them belong to no class."""
    folders = []
    for entry in entries(top, folder, refused):
        path = Path(entry.path)
        if entry.is_dir():
            folders.append(path)
        elif path.suffix.lower() in SUFFIXES:
            refused.append(Refused(path, "lies in no folder of a class"))
    return folders


def _files(top: Path, folder: Path, refused: list[Refused]) -> Iterable[Path]:
    for entry in entries(top, folder, refused):
        path = Path(entry.path)
        if entry.is_dir():
            refused.append(Refused(path, "a folder inside the folder of a class"))
        else:
            yield path


def shown(path: Path) -> str:
    """A path for a message, escaped where a terminal should not see it."""
    text = str(path)
    return text if text.isprintable() else ascii(text)
