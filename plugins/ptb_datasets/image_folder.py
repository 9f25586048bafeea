"""Your own pictures, one folder for each class: read from disk when they are needed, so any number of them fits.

FOLDER/cat/1.png              or    FOLDER/train/cat/1.png
FOLDER/dog/1.jpg                    FOLDER/val/cat/2.png
                                    FOLDER/test/cat/3.png
"""

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ptb import ConfigError, DataBundle, DataError, DataSpec
from ptb_datasets.images import Normalize
from ptb_datasets.picture_file import SUFFIXES, BadPicture, decode, opencv, read_bytes, resized
from ptb_datasets.splits import class_counts, stratified_split

SPLITS = ("train", "val", "test")
DEFAULT_FRACTION = 0.15
CHECKING_THREADS = 2
CHECKED_AT_ONCE = 1024
SHOWN = 10


class Sample(NamedTuple):
    """A picture's file, and the number of its class."""

    path: Path
    label: int


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


class PictureFolder(Dataset[tuple[Tensor, int]]):
    """Pictures that are read and decoded when they are asked for.

    Args:
        samples: the files and their classes.
        size: height and width.
        colour: red, green and blue, else grey.
        max_pixels: the most that a file may hold.
    """

    def __init__(self, samples: Sequence[Sample], size: tuple[int, int], colour: bool, max_pixels: int) -> None:
        self.samples = list(samples)
        self.size = size
        self.colour = colour
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        try:
            pixels = decode(read_bytes(path, self.max_pixels), self.colour, self.max_pixels)
        except BadPicture as error:
            raise DataError(f"{_shown(path)}: {error}") from error
        pixels = resized(pixels, *self.size, self.max_pixels)
        planes = pixels.transpose(2, 0, 1) if self.colour else pixels[None]  # (C, H, W)
        return torch.from_numpy(np.ascontiguousarray(planes)), label


def image_folder(
    *,
    root: str,
    size: int | tuple[int, int] = 32,
    colour: Literal["grey", "colour"] = "colour",
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    split_seed: int = 0,
    on_bad_sample: Literal["error", "skip"] = "error",
    check: Literal["decode", "header"] = "decode",
    max_pixels: int = 64_000_000,
) -> DataBundle:
    """Pictures in one folder for each class, or in ``train``, ``val`` and ``test`` folders of such folders.

    Every file is looked at before the training begins. Hidden files are ignored. A link is followed only if it leads to
    a place inside the folder.

    Args:
        root: the folder. Where all its folders are called train, val or test, and train is one of them, they are the
            splits; else each of them is a class.
        size: height and width to which the pictures are stretched; one number is both.
        colour: ``"colour"`` gives red, green and blue, ``"grey"`` one channel.
        val_fraction: part of each class for validation, 0 for none; left out, 0.15, or none where there are split
            folders. With split folders it is taken from train, and there must be no val folder.
        test_fraction: the same for the test.
        split_seed: chooses which pictures go where.
        on_bad_sample: ``"error"`` lists the files that are no good and stops; ``"skip"`` trains on the others.
        check: ``"decode"`` decodes every picture at the start, ``"header"`` only reads its size there.
        max_pixels: the most pixels that a picture may have.

    Returns:
        uint8 inputs ``[N, 3 or 1, height, width]``, int64 targets ``[N]``; classes in the order of their names.
        ``prepare`` is ``(inputs / 255 - 0.5) / 0.5``: the true mean would cost a pass over all pictures.

    Raises:
        ConfigError: a fraction is given for a split that has a folder.
        DataError: there is no such folder, it holds too little, or files are no good.
    """
    in_colour, height_width = colour == "colour", (size, size) if isinstance(size, int) else size
    top = _folder(root)
    opencv(max_pixels)

    def inspect(path: Path) -> None:
        data = read_bytes(path, max_pixels)
        if check == "decode":
            decode(data, in_colour, max_pixels)

    found = _scan(top)
    good, bad = _inspect(found.samples, inspect)
    if refused := found.refused + bad:
        _report(top, refused, sum(map(len, good.values())), on_bad_sample)
    parts = _splits(found._replace(samples=good), {"val": val_fraction, "test": test_fraction}, split_seed)
    names = found.class_names
    train, val, test = (
        PictureFolder(parts[split], height_width, in_colour, max_pixels) if parts.get(split) else None
        for split in SPLITS
    )
    assert train is not None
    counts = class_counts(np.array([sample.label for sample in train.samples]), len(names))
    shape = (3 if in_colour else 1, *height_width)
    spec = DataSpec(shape, "image", "class", len(names), class_names=names, class_counts=counts)
    return DataBundle(spec, train, val, test, prepare=Normalize(0.5, 0.5))


def _folder(root: str) -> Path:
    try:
        top = Path(root).expanduser().resolve()
        if not top.is_dir():
            raise DataError(f"dataset.root={root} is {'no folder' if top.exists() else 'not there'}")
    except (OSError, RuntimeError, ValueError) as error:  # no such home, a loop of links, a NUL in the name
        raise DataError(f"dataset.root={root}: {error}") from error
    return top


def _scan(top: Path) -> Scan:
    refused: list[Refused] = []
    folders = _inside(top, top, refused)
    by_name = {folder.name: folder for folder in folders}
    has_split_folders = "train" in by_name and set(by_name) <= set(SPLITS)
    if has_split_folders:
        classes = {split: _inside(top, folder, refused) for split, folder in by_name.items()}
    else:
        classes = {"train": folders}
    names = tuple(folder.name for folder in classes["train"])
    if len(names) < 2:
        raise DataError(
            f"{by_name['train'] if has_split_folders else top} must hold a folder of pictures for each of 2 classes at "
            f"least, and holds {len(names) or 'none'}: {top.name}/CLASS/PICTURE or {top.name}/train/CLASS/PICTURE"
        )
    for split, class_folders in classes.items():
        if strange := [folder for folder in class_folders if folder.name not in names]:
            raise DataError(f"the split '{split}' has the class {_shown(strange[0])}, which 'train' does not have")
    numbers = {name: number for number, name in enumerate(names)}
    samples = {
        split: [Sample(path, numbers[f.name]) for f in class_folders for path in _files(top, f, refused)]
        for split, class_folders in classes.items()
    }
    return Scan(top, names, samples, refused, has_split_folders)


def _entries(top: Path, folder: Path, refused: list[Refused]) -> Iterable[Path]:
    """What is in a folder, by name, without hidden files and without links that lead out of ``top``."""
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read the folder {_shown(folder)}: {error.strerror or error}") from error
    for path in map(folder.joinpath, names):
        if not path.is_symlink():
            yield path
        elif not path.exists():
            refused.append(Refused(path, "a link to nothing"))
        elif not path.resolve().is_relative_to(top):
            refused.append(Refused(path, f"a link that leads out of {top}; copy what it points to"))
        else:
            yield path


def _inside(top: Path, folder: Path, refused: list[Refused]) -> list[Path]:
    """The folders in ``folder``; pictures that lie beside them belong to no class."""
    folders = []
    for path in _entries(top, folder, refused):
        if path.is_dir():
            folders.append(path)
        elif path.suffix.lower() in SUFFIXES:
            refused.append(Refused(path, "lies in no folder of a class"))
    return folders


def _files(top: Path, folder: Path, refused: list[Refused]) -> Iterable[Path]:
    for path in _entries(top, folder, refused):
        if path.is_dir():
            refused.append(Refused(path, "a folder inside the folder of a class"))
        else:
            yield path


def _inspect(
    samples: dict[str, list[Sample]], inspect: Callable[[Path], None]
) -> tuple[dict[str, list[Sample]], list[Refused]]:
    """Sorts the samples into those that ``inspect`` takes and those that it refuses."""

    def reason(sample: Sample) -> str | None:
        try:
            inspect(sample.path)
        except BadPicture as error:
            return str(error)
        return None

    good: dict[str, list[Sample]] = {split: [] for split in samples}
    refused = []
    with ThreadPoolExecutor(CHECKING_THREADS) as pool:  # OpenCV decodes without holding the interpreter
        for split, members in samples.items():
            for start in range(0, len(members), CHECKED_AT_ONCE):
                block = members[start : start + CHECKED_AT_ONCE]
                for sample, why in zip(block, pool.map(reason, block), strict=True):
                    if why is None:
                        good[split].append(sample)
                    else:
                        refused.append(Refused(sample.path, why))
    return good, refused


def _report(top: Path, refused: list[Refused], good: int, on_bad_sample: str) -> None:
    lines = [f"{_shown(item.path.relative_to(top))}: {item.reason}" for item in refused[:SHOWN]]
    if len(refused) > SHOWN:
        lines.append(f"and {len(refused) - SHOWN} more")
    total = good + len(refused)
    count = f"{len(refused)} of {total} file{'s' * (total != 1)} in {top}"
    if on_bad_sample == "skip":
        warnings.warn(f"left out {count}: {'; '.join(lines)}", UserWarning, stacklevel=3)
        return
    remedy = "mend or remove them, or add dataset.on_bad_sample=skip to train on the rest"
    raise DataError("\n  ".join([f"{count} cannot be used:", *lines]) + f"\n{remedy}")


def _splits(found: Scan, fractions: dict[str, float | None], seed: int) -> dict[str, list[Sample]]:
    """The samples of each split: those of its folder, or drawn from those of train."""
    parts = dict(found.samples)
    to_draw = {}
    for split, fraction in fractions.items():
        if split not in parts:
            to_draw[split] = (0.0 if found.has_split_folders else DEFAULT_FRACTION) if fraction is None else fraction
        elif fraction is not None:
            raise ConfigError(f"dataset.{split}_fraction: {found.top / split} is that split; leave the fraction out")
        elif not parts[split]:
            raise DataError(f"{found.top / split} holds no pictures that can be used")
    pool = parts["train"]
    labels = np.array([sample.label for sample in pool], dtype=np.int64)
    _check_classes(found.class_names, labels, np.arange(len(labels)), "train")
    drawn = stratified_split(labels, tuple(to_draw.values()), seed)
    for split, members in zip(("train", *to_draw), drawn, strict=True):
        if split == "train" or to_draw[split] > 0:
            _check_classes(found.class_names, labels, members, split)
        parts[split] = [pool[index] for index in members]
    return parts


def _check_classes(names: tuple[str, ...], labels: np.ndarray, members: np.ndarray, split: str) -> None:
    have, left = np.bincount(labels, minlength=len(names)), np.bincount(labels[members], minlength=len(names))
    if left.min() == 0:
        number = int(left.argmin())
        raise DataError(
            f"the class '{names[number]}' has too few pictures that can be used, {have[number]} in all, for the "
            f"{split} split: add pictures, or change dataset.val_fraction and dataset.test_fraction (0: no such split)"
        )


def _shown(path: Path) -> str:
    text = str(path)
    return text if text.isprintable() else ascii(text)
