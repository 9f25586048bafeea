"""Your own IDX files: a file of pictures and one of labels, as MNIST and EMNIST come."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import TensorDataset

from ptb import ConfigError, DataBundle, DataError, DataSpec
from ptb_datasets.array_inputs import chunks
from ptb_datasets.array_targets import TargetForm, WrongTarget, form_of
from ptb_datasets.grey_preprocessor import GreyPreprocessor
from ptb_datasets.idx import read_idx, read_labels
from ptb_datasets.images import Normalize
from ptb_datasets.mapped import expect_random_reads
from ptb_datasets.splits import class_counts, keep_classes, stratified_split
from ptb_datasets.subsets import subsets

DEFAULT_FRACTION = 0.15


class Pair(NamedTuple):
    """uint8 pictures ``[N, 1, H, W]``, and labels ``[N]`` as in their file."""

    pictures: np.ndarray
    labels: np.ndarray


def idx_files(
    *,
    images: str,
    labels: str,
    test_images: str | None = None,
    test_labels: str | None = None,
    class_names: Sequence[str] | None = None,
    transposed: bool = False,
    val_fraction: float = DEFAULT_FRACTION,
    test_fraction: float | None = None,
    split_seed: int = 0,
) -> DataBundle:
    """Pictures and labels in IDX files, plain (mapped: they may be larger than the memory) or gzipped.

    The labels may be any whole numbers: EMNIST's letters are 1 to 26. Each that occurs is a class, in their order.

    Args:
        images: the file of pictures, uint8 of three dimensions.
        labels: the file of their labels, whole numbers of one dimension.
        test_images: pictures for the test alone.
        test_labels: and their labels.
        class_names: of the classes in the order of their labels; without them the labels are the names.
        transposed: the pictures are stored column by column, as EMNIST's are.
        val_fraction: part of each class for validation; 0: none.
        test_fraction: the same for the test; None is 0.15, or none of these where there are test files.
        split_seed: chooses which samples go where.

    Returns:
        uint8 inputs ``[N, 1, H, W]``, which ``transform`` gives mean 0 and standard deviation 1; int64 targets ``[N]``.

    Raises:
        DataError: a file cannot be used, or they do not belong together.
        ConfigError: ``class_names`` are not as many as the classes.
    """
    pair = _pair(images, labels, transposed)
    if len(np.unique(pair.labels)) == len(pair.labels) > 2:
        raise DataError(f"{labels}: every label is another number, and a class needs several pictures")
    form = form_of(Path(labels), pair.labels, "class", np.arange(len(pair.labels)))
    names = tuple(class_names) if class_names is not None else tuple(map(str, form.codes or range(form.classes)))
    if len(names) != form.classes:
        raise ConfigError(
            f"dataset.class_names has {len(names)} names, and {labels} has {form.classes} different labels: "
            f"{', '.join(map(str, (form.codes or range(form.classes))[:30]))}"
        )
    targets = form.encode(pair.labels)
    if test_fraction is None:
        test_fraction = 0 if test_images else DEFAULT_FRACTION
    fractions = (val_fraction, test_fraction)
    parts = keep_classes(targets, stratified_split(targets, fractions, split_seed), names, fractions)
    counts = class_counts(targets[parts[0]], form.classes)
    for name, part, fraction in zip(("val", "test"), parts[1:], fractions, strict=True):
        if fraction and not len(part):
            raise DataError(
                f"{labels} has too few samples for dataset.{name}_fraction={fraction}, {len(targets)} in all"
            )
    train, val, test = subsets(TensorDataset(*map(torch.from_numpy, (pair.pictures, targets))), parts)
    assert train is not None
    spec = DataSpec(pair.pictures.shape[1:], "image", "class", form.classes, names, class_counts=counts)
    preprocessor = GreyPreprocessor.fit(spec, normalize(pair.pictures, parts[0]), form, transposed)
    return DataBundle(
        spec,
        train,
        val,
        test if test_images is None else _test(test_images, str(test_labels), form, transposed, spec),
        transform=preprocessor.transform,
        preprocessor=preprocessor,
        describe=preprocessor.describe,
        notes=(f"{form.classes} classes, labels {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}",),
    )


def normalize(pictures: np.ndarray, rows: np.ndarray) -> Normalize:
    """The normalising that gives these pictures of uint8 ``[N, 1, H, W]`` mean 0 and standard deviation 1."""
    counts = np.zeros(256, dtype=np.int64)
    for _, chunk in chunks(pictures, rows):
        counts += np.bincount(chunk.reshape(-1), minlength=256)
    values = np.arange(256) / 255
    mean = float(np.average(values, weights=counts))
    std = float(np.sqrt(np.average(np.square(values - mean), weights=counts)))
    return Normalize(mean, std or 1.0)


def _pair(images: str, labels: str, transposed: bool) -> Pair:
    pictures, numbers = read_idx(_path(images), dimensions=3), read_labels(_path(labels))
    if len(pictures) != len(numbers):
        raise DataError(
            f"{images} and {labels} do not belong together: pictures {len(pictures)}, labels {len(numbers)}"
        )
    expect_random_reads(pictures)
    if transposed:
        pictures = pictures.transpose(0, 2, 1)
    return Pair(pictures[:, None], numbers)


def _test(images: str, labels: str, form: TargetForm, transposed: bool, spec: DataSpec) -> TensorDataset:
    pair = _pair(images, labels, transposed)
    if pair.pictures.shape[1:] != spec.input_shape:
        raise DataError(
            f"{images} has pictures of {pair.pictures.shape[1:]}, those for training are {spec.input_shape}"
        )
    try:
        return TensorDataset(*map(torch.from_numpy, (pair.pictures, form.encode(pair.labels))))
    except WrongTarget as error:
        raise DataError(f"{labels}: label {error.row}, counted from 0, {error}, those of the training file") from error


def _path(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:  # a home that does not exist
        raise DataError(f"{name}: {error}") from error
