"""Finds the pictures of a folder of classes, and what is wrong with its layout; opens none of them."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ptb import DataError
from ptb_datasets.picture_file import SUFFIXES
from ptb_datasets.typed import typed

SPLITS = ("train", "val", "test")
OTHER_SPLIT_NAMES = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}
# What operating systems, file managers and storage devices leave beside pictures; hidden files are passed over too.
LITTER = frozenset(
    [
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
        "__macosx",
        "@eadir",
        "#recycle",
        "$recycle.bin",
        "lost+found",
    ]
)
MOST_READ = 1 << 20  # bytes of a table that may be one of labels
_DIGITS = re.compile("([0-9]+)")
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?")


class Files(NamedTuple):
    """The paths of pictures, and the number of the class of each, int64 ``[N]``."""

    paths: list[str]
    labels: np.ndarray


class Refused(NamedTuple):
    """A file that is not trained on, and why."""

    path: Path
    reason: str


class Scan(NamedTuple):
    """What a folder holds; ``files`` has all of them under "train" where there are no split folders."""

    top: Path
    class_names: tuple[str, ...]
    files: dict[str, Files]
    refused: list[Refused]
    has_split_folders: bool
    notes: tuple[str, ...] = ()


class Walk(NamedTuple):
    """How folders are gone through.

    Args:
        top: the folder, with every link resolved; links that lead out of it are refused.
        recursive: folders inside the folder of a class belong to it.
        follow_links: links may lead out of ``top``.
    """

    top: Path
    recursive: bool = False
    follow_links: bool = False


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


def scan(walk: Walk, wanted: Sequence[str] | None = None) -> Scan:
    """Looks at the names of all folders and files.

    Args:
        walk: where and how.
        wanted: the classes in their order; others are left out. None: all, in natural order.

    Raises:
        DataError: they are not laid out as a data set.
    """
    top = walk.top
    refused: list[Refused] = []
    folders = _folders(walk, top, refused)
    splits = _split_folders(walk, folders)
    classes = {split: _folders(walk, folder, refused) for split, folder in splits.items()} or {"train": folders}
    there = tuple(folder.name for folder in classes["train"])
    if wanted is not None and (absent := [name for name in wanted if name not in there]):
        raise DataError(
            f"dataset.classes: there is no folder {absent[0]!r} in {splits.get('train', top)}; there are "
            f"{listed(there) or 'none'}"
        )
    names = there if wanted is None else tuple(wanted)
    if len(names) < 2:
        raise DataError(_too_few(walk, splits.get("train", top), folders, len(names), refused))
    for split, class_folders in classes.items():
        unknown = [folder for folder in class_folders if folder.name not in there]
        if unknown and wanted is None:
            raise DataError(
                f"the split '{split}' has the class {shown(unknown[0])}, which 'train' does not have; to leave it out: "
                f"{typed('classes', list(names))}"
            )
    numbers = {name: number for number, name in enumerate(names)}
    files = {}
    for split, class_folders in classes.items():
        paths: list[str] = []
        labels: list[np.ndarray] = []
        for folder in class_folders:
            if folder.name in numbers:
                found = files_in(walk, str(folder), refused)
                paths += found
                labels.append(np.full(len(found), numbers[folder.name], np.int64))
        files[split] = Files(paths, np.concatenate([np.zeros(0, np.int64), *labels]))
    notes = [f"{split} is the folder {folder.name}" for split, folder in splits.items() if folder.name != split]
    if left := [name for name in there if name not in numbers]:
        notes.append(f"classes left out: {listed(left)}")
    return Scan(top, names, files, refused, bool(splits), tuple(notes))


def natural_order(names: Iterable[str]) -> list[str]:
    """Names sorted as people count: 1, 2, 10; where all are numbers, by their values: -1, 0, 0.5."""
    listed = list(names)
    if all(map(_NUMBER.fullmatch, listed)):
        return sorted(listed, key=lambda name: (float(name), name))
    return sorted(listed, key=_parts)


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden, or what operating systems leave beside pictures."""
    return name.startswith(".") or name.lower() in LITTER


def entries(walk: Walk, folder: Path | str, refused: list[Refused]) -> list["os.DirEntry[str]"]:
    """What is in a folder, by name, without litter and without links that lead out of it."""
    with _scanned(folder) as found:
        kept = sorted((entry for entry in found if not is_litter(entry.name)), key=lambda entry: entry.name)
    return [entry for entry in kept if not _is_refused(walk, entry, refused)]


def files_in(walk: Walk, folder: str, refused: list[Refused], above: tuple[str, ...] = ()) -> list[str]:
    """The paths of the files in a folder, by name; with ``walk.recursive``, then those of its folders."""
    paths: list[str] = []
    others: list[os.DirEntry[str]] = []
    with _scanned(folder) as found:
        for entry in found:  # perhaps a million: what is true of nearly all comes first
            if entry.is_file(follow_symlinks=False):
                name = entry.name
                if name[0] != "." and name.lower() not in LITTER:
                    paths.append(entry.path)
            else:
                others.append(entry)
    inner: list[str] = []
    for entry in others:
        if not is_litter(entry.name) and not _is_refused(walk, entry, refused):
            (inner if entry.is_dir() else paths).append(entry.path)
    paths.sort()
    inner.sort()
    if inner and not walk.recursive:
        reason = "a folder inside the folder of a class; dataset.recursive=true takes what it holds"
        refused += [Refused(Path(path), reason) for path in inner]
    elif inner:
        here = (*above, os.path.realpath(folder))
        for path in inner:
            if os.path.realpath(path) in here:
                refused.append(Refused(Path(path), "a loop of links: it leads to a folder that it is in"))
            else:
                paths += files_in(walk, path, refused, here)
    return paths


@contextmanager
def _scanned(folder: Path | str) -> Iterator[Iterator["os.DirEntry[str]"]]:
    try:
        with os.scandir(folder) as found:
            yield found
    except OSError as error:
        raise DataError(f"cannot read the folder {shown(Path(folder))}: {error.strerror or error}") from error


def _is_refused(walk: Walk, entry: "os.DirEntry[str]", refused: list[Refused]) -> bool:
    """Whether an entry is a link that is not followed; then it is added to those that are refused."""
    if not entry.is_symlink():
        return False
    path = Path(entry.path)
    if not path.exists():
        refused.append(Refused(path, "a link to nothing"))
        return True
    if walk.follow_links or path.resolve().is_relative_to(walk.top):
        return False
    reason = f"a link that leads out of {walk.top}; copy what it points to, or add dataset.follow_links=true"
    refused.append(Refused(path, reason))
    return True


def is_picture(name: str) -> bool:
    """Whether a file's name ends as that of a picture."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _parts(name: str) -> tuple[list[str | int], str]:
    parts = _DIGITS.split(name)  # text and digits in turn
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def _folders(walk: Walk, folder: Path, refused: list[Refused]) -> list[Path]:
    """The folders in ``folder`` in natural order; pictures that lie beside them belong to no class."""
    names = []
    for entry in entries(walk, folder, refused):
        if entry.is_dir():
            names.append(entry.name)
        elif is_picture(entry.name):
            refused.append(Refused(Path(entry.path), "lies in no folder of a class"))
    return [folder / name for name in natural_order(names)]


def _split_folders(walk: Walk, folders: Sequence[Path]) -> dict[str, Path]:
    """The folders of the splits, where all are called so; under other names than ours they must hold folders."""
    splits: dict[str, Path] = {}
    for folder in folders:
        name = folder.name.lower()
        split = folder.name if folder.name in SPLITS else OTHER_SPLIT_NAMES.get(name, name)
        if split not in SPLITS or split in splits:
            return {}
        splits[split] = folder
    plain = all(folder.name in SPLITS for folder in folders)
    if "train" not in splits or not (plain or any(_inner(walk, folder) for folder in folders)):
        return {}
    return splits


def _inner(walk: Walk, folder: Path) -> int:
    """How many folders a folder holds."""
    return sum(entry.is_dir() for entry in entries(walk, folder, []))


def _names_a_file_of(table: Path, folder: Path) -> bool:
    """Whether the beginning of a table has the name of a file of the folder."""
    try:
        with table.open("rb") as stream:
            begin = stream.read(MOST_READ)
        return any(os.fsencode(path.name) in begin for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError:
        return False


def _too_few(walk: Walk, place: Path, folders: Sequence[Path], number: int, refused: Sequence[Refused]) -> str:
    hint = "".join(f"; {shown(item.path)}: {item.reason}" for item in refused[:1] if item.path.is_symlink())
    if len(folders) == 1 and _inner(walk, folders[0]):
        hint += f". The only folder there holds folders: {typed('root', str(folders[0]))}"
    tables = [*sorted(place.glob("*.csv")), *sorted(place.parent.glob("*.csv"))] if not folders else []
    if tables := [table for table in tables if _names_a_file_of(table, place)]:
        hint += f". Where a table says their labels: {typed('labels', str(tables[0]))}"
    return (
        f"{place} must hold a folder of pictures for each of 2 classes at least, and holds {number or 'none'}: "
        f"{place.name}/CLASS/PICTURE or {place.name}/train/CLASS/PICTURE{hint}"
    )


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) if not name.isprintable() else name for name in names[:most]) + more


def shown(path: Path) -> str:
    """A path for a message, escaped where a terminal should not see it."""
    text = str(path)
    return text if text.isprintable() else ascii(text)
