"""Your own pictures with a mask for each, which says the class of every pixel: segmentation.

PICTURES/1.jpg   MASKS/1.png      or    PICTURES/train/1.jpg   MASKS/train/1.png
PICTURES/2.jpg   MASKS/2.png            PICTURES/val/2.jpg     MASKS/val/2.png
"""

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from ptb import DataBundle, DataError, DataSpec, SampleGenerator
from ptb_datasets.folder_files import MaskFiles, present
from ptb_datasets.folder_scan import SPLITS, Refused, find_folder, shown
from ptb_datasets.folder_splits import fractions_to_draw, report
from ptb_datasets.mapped import machine_memory
from ptb_datasets.mask_file import Labels, Value, inspect_pair, read_pair
from ptb_datasets.mask_pairs import Pair, Pairs, find_pairs
from ptb_datasets.picture_cache import in_threads
from ptb_datasets.picture_describe import Describe
from ptb_datasets.picture_file import BadPicture, Facts, opencv
from ptb_datasets.picture_form import Form, form_of
from ptb_datasets.picture_normalize import normalizer
from ptb_datasets.picture_preprocessor import PicturePreprocessor
from ptb_datasets.picture_warnings import Seen
from ptb_datasets.splits import stratified_split
from ptb_datasets.subsets import subsets
from ptb_datasets.typed import typed

# Of the machine's memory: as long as pictures and masks need no more, they are kept there.
KEPT_SHARE = 0.25
TARGET_BYTES = 8  # of a pixel's class, int64


class MaskedPictures(Dataset[tuple[Tensor, Tensor]]):
    """Pictures and masks that are read and decoded when they are asked for.

    Args:
        pairs: the files.
        form: what the pictures are made into.
        labels: what the pixels of the masks mean.
    """

    def __init__(self, pairs: Sequence[Pair], form: Form, labels: Labels) -> None:
        self.pairs = list(pairs)
        self.form = form
        self.labels = labels

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        try:
            picture, classes = read_pair(self.pairs[index], self.form, self.labels)
        except BadPicture as error:
            raise DataError(f"{shown(self.pairs[index].picture)}: {error}; it was another one at the start") from error
        return torch.from_numpy(picture), torch.from_numpy(classes.astype(np.int64))


@dataclass(frozen=True)
class FlipTogether:
    """``augment`` for pictures and masks: half of the samples, with their masks, are turned left to right."""

    def __call__(self, inputs: Tensor, targets: Tensor, generator: SampleGenerator) -> tuple[Tensor, Tensor]:
        """``[B, C, H, W]`` and ``[B, H, W]``."""
        turned = generator.uniform(1, 1) < 0.5  # [B, 1, 1]
        return torch.where(turned.unsqueeze(1), inputs.flip(-1), inputs), torch.where(turned, targets.flip(-1), targets)


def image_masks(
    *,
    images: str,
    masks: str,
    mask_suffix: str = "",
    size: int | tuple[int, int] = 128,
    colour: Literal["grey", "colour"] = "colour",
    fit: Literal["stretch", "crop", "letterbox"] = "stretch",
    interpolation: Literal["auto", "nearest", "linear", "cubic", "area", "lanczos"] = "auto",
    background: tuple[int, int, int] | None = None,
    value_range: tuple[float, float] | None = None,
    decode: Literal["full", "reduced"] = "full",
    normalize: Literal["half", "imagenet", "data"] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    follow_links: bool = False,
    values: Sequence[Value] | None = None,
    unlabelled: Value | None = None,
    class_names: Sequence[str] | None = None,
    flip: bool = False,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    split_seed: int = 0,
    on_bad_sample: Literal["error", "skip"] = "error",
    max_pixels: int = 64_000_000,
) -> DataBundle:
    """Pictures in one folder and their masks, of the same names, in another; or in ``train``, ``val``, ``test`` there.

    All are decoded at the start, by a thread for each core, and kept in memory as long as they need at most a quarter
    of it; else they are read anew whenever they are needed, by worker processes if that is worth it.

    Args:
        images: the folder of the pictures.
        masks: the folder of the masks: PNG or another format that keeps pixels as they are, as large as the pictures.
        mask_suffix: what the name of a mask has after that of its picture: ``"_mask"`` of ``1.jpg`` and ``1_mask.png``.
        size: height and width of both; one number is both. Masks take the nearest pixel.
        colour: ``"colour"`` gives red, green and blue, ``"grey"`` one channel.
        fit: how both get that size, see ``image_folder``; around a letterbox nobody labelled.
        interpolation: of the pictures, see ``image_folder``.
        background: see ``image_folder``.
        value_range: of the pictures, see ``image_folder``.
        decode: see ``image_folder``.
        normalize: see ``image_folder``.
        mean: see ``image_folder``.
        std: see ``image_folder``.
        follow_links: links may lead out of the folders.
        values: the pixel value of each class in the order of their numbers, as ``[0, 255]``, or its colour (red, green,
            blue); PNG files with a palette have colours. None: the values are the numbers, from 0 without gaps.
        unlabelled: the value or colour of pixels that nobody labelled, which neither loss nor metrics see; often 255.
        class_names: of the classes, in the order of their numbers.
        flip: turn half of the training samples left to right, anew in each epoch.
        val_fraction: part of the pictures for validation, 0 for none; left out, 0.15, or none where there are split
            folders. With split folders it is taken from train, and there must be no val folder.
        test_fraction: the same for the test.
        split_seed: chooses which pictures go where.
        on_bad_sample: ``"error"`` lists the files that are no good and stops; ``"skip"`` trains on the others.
        max_pixels: the most pixels that a picture may have.

    Returns:
        uint8 inputs ``[N, 3 or 1, height, width]``, int64 targets ``[N, height, width]``, -100 where nobody labelled.
        ``transform`` is ``(inputs / 255 - mean) / std``, with 0.5 for both unless another is asked for.

    Raises:
        ConfigError: a fraction is given for a split that has a folder, or a seed and no split is drawn.
        DataError: there is no such folder, it holds too little, or files are no good.
    """
    form = form_of(size, colour, max_pixels, fit, interpolation, background, value_range, decode)
    labels = Labels(None if values is None else tuple(values), unlabelled)
    top = find_folder(images, "images")
    opencv(max_pixels)
    found = find_pairs(top, find_folder(masks, "masks"), mask_suffix, follow_links)
    every = [pair for pairs in found.samples.values() for pair in pairs]
    pixels, reasons = _read(every, form, labels)
    refused = found.refused + [Refused(every[row].picture, reason) for row, reason in reasons.items()]
    if refused:
        report(top, refused, len(every) - len(reasons), on_bad_sample)
    for sentence in pixels.seen.warnings():
        warnings.warn(sentence, UserWarning, stacklevel=2)
    rows = _splits(top, found, reasons, {"val": val_fraction, "test": test_fraction}, split_seed)
    classes = _number_of_classes(_total(pixels.counts.values()), labels, class_names)
    counts = _total([np.zeros(classes, np.int64), *(pixels.counts[row] for row in rows[0].tolist())])
    splits: list[Dataset[Any] | None]
    if pixels.pictures is None or pixels.classes is None:
        splits = [MaskedPictures([every[row] for row in part], form, labels) if len(part) else None for part in rows]
    else:
        together = TensorDataset(torch.from_numpy(pixels.pictures), torch.from_numpy(pixels.classes))
        splits = [*subsets(together, rows)]
    train, val, test = splits
    assert train is not None
    spec = DataSpec(
        form.shape,
        "image",
        "class",
        classes,
        class_names=tuple(class_names or ()),
        class_counts=tuple(counts.tolist()),
        positions=form.sides,
    )
    augment = FlipTogether() if flip else None
    transform = normalizer(normalize, mean, std, train)
    files = MaskFiles(top, every, mask_suffix, present(rows))

    def describe() -> dict[str, Any]:
        good = [str(pair.picture) for row, pair in enumerate(every) if row not in reasons]
        return Describe(top, good, None, class_names or (), refused, form, transform)()

    return DataBundle(
        spec,
        train,
        val,
        test,
        transform=transform,
        augment=augment,
        preprocessor=PicturePreprocessor.fit(spec, form, transform),
        describe=describe,
        names=files.names,
        write_splits=files.write,
    )


class _Pixels(NamedTuple):
    """Pictures and classes of all pairs if they are kept, and how many pixels of each class a good mask has."""

    pictures: np.ndarray | None
    classes: np.ndarray | None
    counts: dict[int, np.ndarray]
    seen: Seen


def _read(pairs: Sequence[Pair], form: Form, labels: Labels) -> tuple[_Pixels, dict[int, str]]:
    """All pairs, and why some of them are refused."""

    def read(pair: Pair) -> tuple[np.ndarray, np.ndarray, Facts] | str:
        try:
            return inspect_pair(pair, form, labels)
        except BadPicture as error:
            return str(error)

    sides = (form.height, form.width)
    keep = len(pairs) * (prod(form.shape) + TARGET_BYTES * prod(sides)) <= KEPT_SHARE * machine_memory()
    pictures = np.zeros((len(pairs), *form.shape), np.uint8) if keep else None
    classes = np.zeros((len(pairs), *sides), np.int64) if keep else None
    counts, reasons, seen = {}, {}, Seen()
    for row, answer in enumerate(in_threads(read, pairs)):
        if isinstance(answer, str):
            reasons[row] = answer
            continue
        picture, targets, facts = answer
        seen.add(str(pairs[row].picture), facts)
        counts[row] = np.bincount(targets[targets >= 0])
        if pictures is not None and classes is not None:
            pictures[row], classes[row] = picture, targets
    return _Pixels(pictures, classes, counts, seen), reasons


def _splits(
    top: Path, found: Pairs, reasons: Collection[int], fractions: dict[str, float | None], seed: int
) -> list[np.ndarray]:
    """The rows of train, val and test, int64 ``[n]`` each; empty where there is no such split."""
    rows, start = {}, 0
    for split, pairs in found.samples.items():
        rows[split] = np.array([row for row in range(start, start + len(pairs)) if row not in reasons], dtype=np.int64)
        start += len(pairs)
    to_draw = fractions_to_draw(top, rows, found.has_split_folders, fractions, seed)
    pool = rows["train"]
    parts = tuple(to_draw.values())
    drawn = stratified_split(np.zeros(len(pool), np.int64), parts, seed) if len(pool) else [pool] * (1 + len(parts))
    for split, members in zip(("train", *to_draw), drawn, strict=True):
        if not len(members) and (split == "train" or to_draw[split] > 0):
            raise DataError(
                f"{top} has too few pictures that can be used, {len(pool)} in all, for the {split} split: add some, or "
                "change dataset.val_fraction and dataset.test_fraction (0: no such split)"
            )
        rows[split] = pool[members]
    return [rows.get(split, np.zeros(0, np.int64)) for split in SPLITS]


def _total(counts: Collection[np.ndarray]) -> np.ndarray:
    """The sum of counts ``[n]`` of different lengths."""
    total = np.zeros(max((len(each) for each in counts), default=0), np.int64)
    for each in counts:
        total[: len(each)] += each
    return total


def _number_of_classes(seen: np.ndarray, labels: Labels, names: Sequence[str] | None) -> int:
    """How many classes there are, from how many pixels of each value all masks have."""
    there = [int(number) for number in seen.nonzero()[0]]
    classes = len(labels.values or names or ()) or (there[-1] + 1 if there else 0)
    gaps = labels.values is None and names is None and len(there) < classes
    if classes < 2 or gaps or (there and there[-1] >= classes):
        listed = ", ".join(map(str, there[:8])) + (" and more" if len(there) > 8 else "") or "nothing"
        wanted = (
            f"0 to {classes - 1}, as there are {classes} class_names" if names else "0 to C - 1 without gaps, C > 1"
        )
        raise DataError(
            f"the masks hold {listed}; valid are {wanted}. If these are the values of the classes, list them: "
            f"{typed('values', there[:8])}; if one of them says that nobody labelled a pixel: "
            f"{typed('unlabelled', there[-1] if there else 255)}"
        )
    return classes
