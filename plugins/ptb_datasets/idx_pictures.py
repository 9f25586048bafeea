"""The data sets that come as four IDX files: MNIST and those made in its likeness."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch
from torch.utils.data import TensorDataset

from ptb import DataBundle, DataError, DataSpec
from ptb_datasets.array_targets import TargetForm
from ptb_datasets.download import fetch
from ptb_datasets.grey_preprocessor import GreyPreprocessor
from ptb_datasets.idx import read_idx
from ptb_datasets.images import Normalize
from ptb_datasets.mapped import expect_random_reads
from ptb_datasets.splits import class_counts, stratified_split
from ptb_datasets.subsets import Split, subsets


@dataclass(frozen=True)
class Archive:
    """One of the four files as it is published: gzipped.

    Args:
        name: without ``.gz``.
        size: of the gzipped file in bytes.
        sha256: of the gzipped file.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class IdxSet:
    """A data set of four IDX files.

    Args:
        name: of the component, and of its folder in the user's data folder.
        class_names: of the labels.
        mean: of the training pixels, as a fraction of 255.
        std: their standard deviation, as a fraction of 255.
        address: https address of the folder with the gzipped files; ends in a slash.
        archives: the four files.
        package: the folder of a Debian package that holds them, and the package's name, if there is one.
    """

    name: str
    class_names: tuple[str, ...]
    mean: float
    std: float
    address: str
    archives: tuple[Archive, ...]
    package: tuple[Path, str] | None = None


def load(data: IdxSet, root: str | None, download: bool, val_size: int, split_seed: int) -> DataBundle:
    """Reads the four files of ``data``, fetching those that are missing if ``download`` says so.

    Args:
        data: what is to be read.
        root: the folder with the files, each plain or with ``.gz``; without it, the user's data folder and the one of
            the Debian package are searched.
        download: fetch the files that are missing, into ``root`` or the user's data folder.
        val_size: training pictures for validation, as many of each class; 0 makes no validation split.
        split_seed: chooses which these are.

    Returns:
        uint8 inputs ``[N, 1, H, W]``, mapped from plain files; int64 targets ``[N]``. Training and validation share one
        ``TensorDataset``.

    Raises:
        DataError: the files are not there or cannot be fetched, are damaged, or do not belong together.
    """
    folder = _find(data, root, download)
    pictures, labels = _read_pair(folder, "train", len(data.class_names))
    test_pictures, test_labels = _read_pair(folder, "t10k", len(data.class_names))
    if pictures.shape[1:] != test_pictures.shape[1:]:
        sizes = f"{pictures.shape[1:]} for training, {test_pictures.shape[1:]} for the test"
        raise DataError(f"the pictures in {folder} are of two sizes (channels, height, width): {sizes}")
    if val_size >= len(labels):
        raise DataError(
            f"dataset.val_size={val_size} leaves none of the training pictures in {folder}, {len(labels)} in all, to "
            "train on"
        )
    together = TensorDataset(torch.from_numpy(pictures), torch.from_numpy(labels))
    train: Split | None = together
    val: Split | None = None
    if val_size:
        parts = stratified_split(labels, (val_size,), split_seed)
        train, val = subsets(together, parts)
        labels = labels[parts[0]]
    assert train is not None
    classes = len(data.class_names)
    counts = class_counts(labels, classes)
    spec = DataSpec(tuple(pictures.shape[1:]), "image", "class", classes, data.class_names, class_counts=counts)
    test = TensorDataset(torch.from_numpy(test_pictures), torch.from_numpy(test_labels))
    form = TargetForm("class", classes=classes)
    preprocessor = GreyPreprocessor.fit(spec, Normalize(data.mean, data.std), form)
    return DataBundle(
        spec,
        train,
        val,
        test,
        transform=preprocessor.transform,
        preprocessor=preprocessor,
        describe=preprocessor.describe,
    )


def user_folder(data: IdxSet) -> Path:
    """Where downloads go, and where files are looked for first."""
    return platformdirs.user_data_path("ptb") / data.name


def _find(data: IdxSet, root: str | None, download: bool) -> Path:
    """The folder to read from: the one that is named, else the first that is whole, else one that holds a part."""
    usual = [user_folder(data), *([data.package[0]] if data.package else [])]
    folders = usual if root is None else [_named(root)]
    for folder in folders:
        if not _missing(data, folder):
            return folder
    if download:
        for archive in _missing(data, folders[0]):
            name = f"{archive.name}.gz"
            fetch(data.address + name, archive.sha256, archive.size, folders[0] / name)
        return folders[0]
    for folder in folders:
        missing = _missing(data, folder)
        if root is not None or len(missing) < len(data.archives):
            name = missing[0].name
            raise DataError(f"{folder / name} is missing, and so is {name}.gz; {_ways(data, folder)}")
    raise DataError(f"the files of {data.name} are not on this machine; {_ways(data, folders[0])}")


def _named(root: str) -> Path:
    try:
        return Path(root).expanduser()
    except RuntimeError as error:  # a home that does not exist
        raise DataError(f"dataset.root={root}: {error}") from error


def _missing(data: IdxSet, folder: Path) -> list[Archive]:
    return [archive for archive in data.archives if _file(folder, archive.name) is None]


def _ways(data: IdxSet, folder: Path) -> str:
    ways = [f"let ptb fetch them into {folder}: dataset.download=true"]
    if data.package:
        ways.append(f"on Debian and Ubuntu: apt-get install {data.package[1]}")
    ways.append(f"put the four .gz files of {data.address} into any folder and add dataset.root=FOLDER")
    return "\n  ".join(["get them in one of these ways:", *ways])


def _read_pair(folder: Path, prefix: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    pictures_file = _file(folder, f"{prefix}-images-idx3-ubyte")
    labels_file = _file(folder, f"{prefix}-labels-idx1-ubyte")
    assert pictures_file is not None
    assert labels_file is not None
    pictures = read_idx(pictures_file, dimensions=3)
    labels = read_idx(labels_file, dimensions=1)
    if len(pictures) != len(labels):
        raise DataError(
            f"{pictures_file} and {labels_file} do not belong together: pictures {len(pictures)}, labels {len(labels)}"
        )
    if labels.max() >= classes:
        where = int(labels.argmax())
        raise DataError(f"{labels_file}: label {labels[where]} at place {where}; valid are 0 to {classes - 1}")
    expect_random_reads(pictures)
    return pictures[:, None], labels.astype(np.int64)  # (N, 1, H, W), (N,)


def _file(folder: Path, name: str) -> Path | None:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None
