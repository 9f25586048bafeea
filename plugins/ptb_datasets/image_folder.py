"""Your own pictures, one folder for each class: decoded once and kept, or read when they are needed if they do not fit.

FOLDER/cat/1.png              or    FOLDER/train/cat/1.png      or    FOLDER/1.png    and a table    file,label
FOLDER/dog/1.jpg                    FOLDER/val/cat/2.png              FOLDER/2.png                   1.png,cat
                                    FOLDER/test/cat/3.png                                            2.png,dog
"""

import warnings
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from ptb import ConfigError, DataBundle, DataError, DataSpec
from ptb_datasets.folder_files import ClassFiles
from ptb_datasets.folder_labels import LabelFile, scan_labels
from ptb_datasets.folder_scan import SPLITS, Refused, Scan, Walk, find_folder, is_picture, listed, scan, shown
from ptb_datasets.folder_splits import fractions_to_draw, report
from ptb_datasets.mapped import machine_memory
from ptb_datasets.picture_augment import Augment
from ptb_datasets.picture_cache import Decoded, cached, in_threads, keep
from ptb_datasets.picture_describe import Describe
from ptb_datasets.picture_file import SUFFIXES, BadPicture, check_name, opencv, read_bytes, read_picture
from ptb_datasets.picture_form import BLACK, Form, form_of
from ptb_datasets.picture_mix import Mix
from ptb_datasets.picture_normalize import normalizer
from ptb_datasets.picture_preprocessor import PicturePreprocessor
from ptb_datasets.picture_warnings import Seen
from ptb_datasets.splits import class_counts, keep_classes, stratified_split
from ptb_datasets.subsets import subsets
from ptb_datasets.typed import typed

# Of the machine's memory: as long as the decoded pictures need no more, they are kept there.
KEPT_SHARE = 0.25
_ENDINGS = frozenset(SUFFIXES)


class PictureFolder(Dataset[tuple[Tensor, int]]):
    """Pictures that are read and decoded when they are asked for.

    Args:
        paths: the files.
        labels: the numbers of their classes, int64 ``[N]``.
        form: what they are made into.
    """

    def __init__(self, paths: Sequence[str], labels: np.ndarray, form: Form) -> None:
        self.paths = paths
        self.targets = labels  # by this name loader.balance finds the classes
        self.form = form

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = self.paths[index]
        try:
            return torch.from_numpy(read_picture(path, self.form)), int(self.targets[index])
        except BadPicture as error:
            raise DataError(f"{shown(Path(path))}: {error}; dataset.check=decode finds this at the start") from error


class _Part(NamedTuple):
    """The rows of a split among all files, int64 ``[n]``, and their classes."""

    rows: np.ndarray
    labels: np.ndarray


def image_folder(
    *,
    root: str,
    classes: Sequence[str] | None = None,
    recursive: bool = False,
    follow_links: bool = False,
    labels: str | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    size: int | tuple[int, int] = 32,
    colour: Literal["grey", "colour"] = "colour",
    fit: Literal["stretch", "crop", "letterbox"] = "stretch",
    interpolation: Literal["auto", "nearest", "linear", "cubic", "area", "lanczos"] = "auto",
    background: tuple[int, int, int] | None = None,
    value_range: tuple[float, float] | None = None,
    decode: Literal["full", "reduced"] = "full",
    normalize: Literal["half", "imagenet", "data"] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    split_seed: int = 0,
    on_bad_sample: Literal["error", "skip"] = "error",
    check: Literal["decode", "header", "none"] = "decode",
    max_pixels: int = 64_000_000,
    cache: bool = False,
    flip: bool = False,
    pad_crop: int | None = None,
    rotate: float | None = None,
    colour_jitter: float | None = None,
    mixup: float | None = None,
    cutmix: float | None = None,
) -> DataBundle:
    """Pictures in one folder for each class, in ``train``, ``val`` and ``test`` folders of such folders, or in a table.

    Every file is looked at before the training begins. Hidden files and what operating systems leave behind
    (``__MACOSX``, ``Thumbs.db``) are passed over.

    Pictures are decoded once, by a thread for each core, and kept in memory as long as they need at most a quarter of
    it; else they are read anew whenever they are needed, by worker processes if that is worth it. ``cache`` keeps them
    on disk. Their pixels are the same in each of these ways.

    Args:
        root: the folder. Where all its folders are called train, val (valid, validation, dev) or test, and train is one
            of them, they are the splits; else each of them is a class.
        classes: their names in the order of their numbers; others are left out. None: all, as people count: 1, 2, 10.
        recursive: folders inside the folder of a class belong to it.
        follow_links: links may lead out of ``root``; else they are refused.
        labels: a CSV file that names each file below ``root`` and its label, instead of folders of classes.
        file_column: its column of names, with their endings or without; None: ``file``.
        label_column: its column of labels; None: ``label``.
        split_column: its column of ``train``, ``val`` and ``test``; None: the splits are drawn.
        size: height and width of the pictures; one number is both.
        colour: ``"colour"`` gives red, green and blue, ``"grey"`` one channel.
        fit: how a picture gets that size: stretched, its centre cropped, or in the middle of a letterbox.
        interpolation: ``"auto"`` is the mean of areas where a picture shrinks, else linear between pixels.
        background: red, green and blue on which transparent pictures are composed, and of a letterbox. None: opacity is
            ignored, with a warning, and a letterbox is black.
        value_range: the stored values that become 0 and 255. None: 16-bit values lose their lower 8 bits.
        decode: ``"reduced"`` decodes JPEG files at a half, a quarter or an eighth where that is large enough still.
        normalize: see ``picture_normalize.normalizer``.
        mean: of each channel, or of all, where values are from 0 to 1.
        std: the standard deviation that goes with it.
        val_fraction: part of each class for validation, 0 for none; left out, 0.15, or none where there are split
            folders. With split folders it is taken from train, and there must be no val folder.
        test_fraction: the same for the test.
        split_seed: chooses which pictures go where.
        on_bad_sample: ``"error"`` lists the files that are no good and stops; ``"skip"`` trains on the others.
        check: ``"decode"`` decodes every picture at the start; ``"header"`` only reads its size there, and keeps none;
            ``"none"`` looks at its name.
        max_pixels: the most pixels that a picture may have.
        cache: keep the decoded pictures in a file, which is mapped and may be larger than the memory; later runs decode
            nothing. It is in the folder ``ptb/image-folder`` of the user's caches, on Linux ``~/.cache``. Other
            settings of the pixels, another OpenCV, or a file that is added, removed or changed by its size or time,
            makes another one; old ones stay until you delete them.
        flip: in training, turn half of the pictures left to right.
        pad_crop: in training, shift pictures by so many pixels at most.
        rotate: in training, rotate them by so many degrees at most.
        colour_jitter: in training, change brightness, contrast and saturation by this share at most.
        mixup: in training, mix pictures and targets with others; see ``picture_mix``.
        cutmix: in training, put boxes of other pictures into them.

    Returns:
        uint8 inputs ``[N, 3 or 1, height, width]``, int64 targets ``[N]``. ``transform`` is
        ``(inputs / 255 - mean) / std``, with 0.5 for both unless another is asked for.

    Raises:
        ConfigError: a fraction is given for a split that has a folder, a seed and no split is drawn, or ``cache`` and
            another ``check`` than ``"decode"``.
        DataError: there is no such folder, it holds too little, or files are no good.
        StorageError: the decoded pictures cannot be kept on disk.
    """
    if cache and check != "decode":
        raise ConfigError(f"dataset.cache decodes every picture, and dataset.check={check} none: leave one of them out")
    form = form_of(size, colour, max_pixels, fit, interpolation, background, value_range, decode)
    walk = Walk(find_folder(root), recursive, follow_links)
    opencv(max_pixels)
    if labels is None:
        found = scan(walk, classes)
    else:
        table = LabelFile(labels, file_column or "file", label_column or "label", split_column)
        found = scan_labels(walk, table, classes)
    paths = [path for files in found.files.values() for path in files.paths]
    read = _read(paths, walk.top, form, check, cache)
    if refused := found.refused + [Refused(Path(paths[row]), reason) for row, reason in read.refused.items()]:
        report(walk.top, refused, len(paths) - len(read.refused), on_bad_sample)
    for sentence in read.seen.warnings():
        warnings.warn(sentence, UserWarning, stacklevel=2)
    parts = _splits(found, read.refused, {"val": val_fraction, "test": test_fraction}, split_seed)
    train, val, test = _datasets(paths, found, read, parts, form)
    assert train is not None
    names = found.class_names
    spec = DataSpec(
        form.shape,
        "image",
        "class",
        len(names),
        class_names=names,
        class_counts=class_counts(parts["train"].labels, len(names)),
    )
    transform = normalizer(normalize, mean, std, train)
    mix = Mix(train, transform, len(names), mixup, cutmix) if mixup or cutmix else None
    augment = Augment(transform, flip, pad_crop, rotate, colour_jitter, form.background or BLACK, mix)

    every = np.concatenate([files.labels for files in found.files.values()])
    rows = {split: parts[split].rows for split in SPLITS if split in parts and len(parts[split].rows)}
    files = ClassFiles(walk.top, paths, every, names, rows)

    def describe() -> dict[str, Any]:
        good = [row for row in range(len(paths)) if row not in read.refused]
        used = [paths[row] for row in good]
        return Describe(walk.top, used, every[good], names, refused, form, transform)()

    return DataBundle(
        spec,
        train,
        val,
        test,
        transform=transform,
        augment=augment if augment.sentences() else None,
        preprocessor=PicturePreprocessor.fit(spec, form, transform),
        notes=(f"classes in this order: {listed(names)}", *found.notes),
        describe=describe,
        names=files.names,
        write_splits=files.write,
    )


def _read(paths: list[str], top: Path, form: Form, check: str, cache: bool) -> Decoded:
    """The pixels of all files if they are kept, and why some of them are refused."""
    if cache and paths:
        return cached(top, paths, form)
    if check == "decode":
        kept = len(paths) * prod(form.shape) <= KEPT_SHARE * machine_memory()
        return keep(paths, form, np.zeros((len(paths), *form.shape), np.uint8) if kept else None)

    if check == "header":
        answers = dict(enumerate(in_threads(lambda path: _wrong(path, form), paths)))
    else:  # without a call for most of what may be millions
        odd = [row for row, path in enumerate(paths) if path[-4:] not in _ENDINGS and not is_picture(path)]
        answers = {row: _wrong(paths[row]) for row in odd}
    return Decoded(None, {row: answer for row, answer in answers.items() if answer is not None}, Seen())


def _wrong(path: str, form: Form | None = None) -> str | None:
    """What is wrong with a file as far as its name and, with a form, its header show."""
    try:
        check_name(path) if form is None else read_bytes(path, form.max_pixels)
    except BadPicture as error:
        return str(error)
    return None


def _splits(found: Scan, reasons: Mapping[int, str], fractions: dict[str, float | None], seed: int) -> dict[str, _Part]:
    """The files of each split: those of its folder, or drawn from those of train."""
    parts: dict[str, _Part] = {}
    start = 0
    bad = np.fromiter(reasons, np.int64, len(reasons))
    for split, (_, labels) in found.files.items():
        rows = np.arange(start, start + len(labels))
        good = ~np.isin(rows, bad)
        parts[split] = _Part(rows[good], labels[good])
        start += len(labels)
    sizes = {split: part.rows for split, part in parts.items()}
    to_draw = fractions_to_draw(found.top, sizes, found.has_split_folders, fractions, seed)
    pool = parts["train"]
    _check_classes(found.class_names, pool.labels)
    drawn = stratified_split(pool.labels, tuple(to_draw.values()), seed)
    drawn = keep_classes(pool.labels, drawn, found.class_names, tuple(to_draw.values()))
    for split, members in zip(("train", *to_draw), drawn, strict=True):
        if split != "train" and to_draw[split] > 0 and not len(members):
            raise DataError(
                f"{found.top} has too few pictures that can be used for dataset.{split}_fraction={to_draw[split]}, "
                f"{len(pool.rows)} in all; dataset.{split}_fraction=0 makes no such split"
            )
        parts[split] = _Part(pool.rows[members], pool.labels[members])
    return parts


def _check_classes(names: tuple[str, ...], labels: np.ndarray) -> None:
    have = np.bincount(labels, minlength=len(names))
    if have.min() == 0:
        number = int(have.argmin())
        rest = [name for name in names if name != names[number]]
        without = f", or leave it out with {typed('classes', rest)}" if len(rest) > 1 else ""
        raise DataError(f"the class '{names[number]}' has no picture that can be used: add pictures{without}")


def _datasets(
    paths: list[str], found: Scan, read: Decoded, parts: Mapping[str, _Part], form: Form
) -> list[Dataset[Any] | None]:
    """Train, val and test; None where there is none."""
    there = [parts.get(split) for split in SPLITS]
    if read.pixels is None:
        return [
            PictureFolder([paths[row] for row in part.rows.tolist()], part.labels, form)
            if part is not None and len(part.rows)
            else None
            for part in there
        ]
    labels = np.concatenate([files.labels for files in found.files.values()])
    together = TensorDataset(torch.from_numpy(read.pixels), torch.from_numpy(labels))
    return [*subsets(together, [np.zeros(0, np.int64) if part is None else part.rows for part in there])]
