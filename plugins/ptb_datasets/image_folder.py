"""Your own pictures, one folder for each class: decoded once and kept, or read when they are needed if they do not fit.

FOLDER/cat/1.png              or    FOLDER/train/cat/1.png
FOLDER/dog/1.jpg                    FOLDER/val/cat/2.png
                                    FOLDER/test/cat/3.png
"""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from ptb import ConfigError, DataBundle, DataError, DataSpec
from ptb_datasets.folder_scan import SPLITS, Refused, Sample, Scan, find_folder, scan, shown
from ptb_datasets.folder_splits import fractions_to_draw, report
from ptb_datasets.images import Normalize
from ptb_datasets.mapped import machine_memory
from ptb_datasets.picture_cache import cached, decoded, in_threads, keep
from ptb_datasets.picture_file import BadPicture, Form, opencv, read_bytes, read_picture
from ptb_datasets.splits import class_counts, stratified_split
from ptb_datasets.subsets import subsets

# Of the machine's memory: as long as the decoded pictures need no more, they are kept there.
KEPT_SHARE = 0.25


class PictureFolder(Dataset[tuple[Tensor, int]]):
    """Pictures that are read and decoded when they are asked for.

    Args:
        samples: the files and their classes.
        form: what they are made into.
    """

    def __init__(self, samples: Sequence[Sample], form: Form) -> None:
        self.samples = list(samples)
        self.form = form

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label, _ = self.samples[index]
        try:
            return torch.from_numpy(read_picture(path, self.form)), label
        except BadPicture as error:
            raise DataError(f"{shown(path)}: {error}; dataset.check=decode finds this at the start") from error


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
    cache: bool = False,
) -> DataBundle:
    """Pictures in one folder for each class, or in ``train``, ``val`` and ``test`` folders of such folders.

    Every file is looked at before the training begins. Hidden files and those of file managers are ignored. A link is
    followed only if it leads to a place inside the folder.

    Pictures are decoded once, by a thread for each core, and kept in memory as long as they need at most a quarter of
    it; else they are read anew whenever they are needed, by worker processes if that is worth it. ``cache`` keeps them
    on disk. Their pixels are the same in each of these ways.

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
        check: ``"decode"`` decodes every picture at the start, ``"header"`` only reads its size there, and keeps none.
        max_pixels: the most pixels that a picture may have.
        cache: keep the decoded pictures in a file, which is mapped and may be larger than the memory; later runs decode
            nothing. It is in the folder ``ptb/image-folder`` of the user's caches, on Linux ``~/.cache``. Another size
            or colour, another OpenCV, or a file that is added, removed or changed by its size or time, makes another
            one; old ones stay until you delete them.

    Returns:
        uint8 inputs ``[N, 3 or 1, height, width]``, int64 targets ``[N]``; classes in the order of their names.
        ``transform`` is ``(inputs / 255 - 0.5) / 0.5``: the true mean would cost a pass over all pictures.

    Raises:
        ConfigError: a fraction is given for a split that has a folder, a seed and no split is drawn, or ``cache`` and
            ``check="header"``.
        DataError: there is no such folder, it holds too little, or files are no good.
        StorageError: the decoded pictures cannot be kept on disk.
    """
    if cache and check == "header":
        raise ConfigError("dataset.cache decodes every picture, and dataset.check=header none: leave one of them out")
    height, width = (size, size) if isinstance(size, int) else size
    form = Form(height, width, colour == "colour", max_pixels)
    top = find_folder(root)
    opencv(max_pixels)
    found = scan(top)
    every = [sample for members in found.samples.values() for sample in members]
    pixels, reasons = _read([sample.path for sample in every], top, form, check, cache)
    if refused := found.refused + [Refused(every[row].path, reason) for row, reason in reasons.items()]:
        report(top, refused, len(every) - len(reasons), on_bad_sample)
    good = {split: [s for s in members if s.row not in reasons] for split, members in found.samples.items()}
    parts = _splits(found._replace(samples=good), {"val": val_fraction, "test": test_fraction}, split_seed)
    splits: list[Dataset[Any] | None]
    if pixels is None:
        splits = [PictureFolder(parts[split], form) if parts.get(split) else None for split in SPLITS]
    else:
        together = TensorDataset(
            torch.from_numpy(pixels), torch.tensor([sample.label for sample in every], dtype=torch.int64)
        )
        rows = [np.array([sample.row for sample in parts.get(split, ())], dtype=np.int64) for split in SPLITS]
        splits = [*subsets(together, rows)]
    train, val, test = splits
    assert train is not None
    names = found.class_names
    counts = class_counts(np.array([sample.label for sample in parts["train"]]), len(names))
    spec = DataSpec(form.shape, "image", "class", len(names), class_names=names, class_counts=counts)
    return DataBundle(spec, train, val, test, transform=Normalize(0.5, 0.5))


def _read(
    paths: list[Path], top: Path, form: Form, check: str, cache: bool
) -> tuple[np.ndarray | None, dict[int, str]]:
    """The pixels of all files if they are kept, uint8 ``[N, C, H, W]``, and why some of them are refused."""
    if cache and paths:
        return cached(top, paths, form)
    if check == "decode" and len(paths) * prod(form.shape) <= KEPT_SHARE * machine_memory():
        return keep(paths, form)
    answers = decoded(paths, form) if check == "decode" else in_threads(lambda path: _fault(path, form), paths)
    return None, {row: answer for row, answer in enumerate(answers) if isinstance(answer, str)}


def _fault(path: Path, form: Form) -> str | None:
    """What is wrong with a file as far as its header shows."""
    try:
        read_bytes(path, form.max_pixels)
    except BadPicture as error:
        return str(error)
    return None


def _splits(found: Scan, fractions: dict[str, float | None], seed: int) -> dict[str, list[Sample]]:
    """The samples of each split: those of its folder, or drawn from those of train."""
    parts = dict(found.samples)
    to_draw = fractions_to_draw(found.top, parts, found.has_split_folders, fractions, seed)
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
