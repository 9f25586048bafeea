"""Pictures of clothes: the size of MNIST, but hard enough that a good network shows."""

from pathlib import Path

import numpy as np
import platformdirs
import torch
from torch.utils.data import TensorDataset

from ptb import DataBundle, DataError, DataSpec
from ptb_datasets.idx import read_idx
from ptb_datasets.images import Normalize, stratified_split

CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
# Mean and standard deviation of the 60,000 training pictures, as fractions of 255.
MEAN, STD = 0.2860, 0.3530
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
PROJECT_PAGE = "https://github.com/zalandoresearch/fashion-mnist"


def fashion_mnist(*, root: str | None = None, val_size: int = 5000, split_seed: int = 0) -> DataBundle:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747), from its four IDX files.

    Args:
        root: the folder with the files, each plain or with ``.gz``; without it, the user's data folder and the one of
            Debian's package ``dataset-fashion-mnist`` are searched.
        val_size: training pictures for validation, as many of each class; 0 makes no validation split.
        split_seed: chooses which these are.

    Returns:
        uint8 inputs ``[N, 1, 28, 28]``, int64 targets ``[N]`` in 0..9.

    Raises:
        DataError: the files are not there, are damaged, or do not belong together.
    """
    folder = _find(root)
    pictures, labels = _read_pair(folder, "train")
    test_pictures, test_labels = _read_pair(folder, "t10k")
    if pictures.shape[1:] != test_pictures.shape[1:]:
        sizes = f"{pictures.shape[1:]} for training, {test_pictures.shape[1:]} for the test"
        raise DataError(f"the pictures in {folder} are of two sizes (channels, height, width): {sizes}")
    if val_size >= len(labels):
        raise DataError(
            f"{folder} has {len(labels)} training pictures; dataset.val_size={val_size} leaves none to train on"
        )
    train, val = _train_val(pictures, labels, val_size, split_seed)
    spec = DataSpec(tuple(pictures.shape[1:]), "image", "class", len(CLASS_NAMES), class_names=CLASS_NAMES)
    test = TensorDataset(torch.from_numpy(test_pictures), torch.from_numpy(test_labels))
    return DataBundle(spec, train, val, test, prepare=Normalize(MEAN, STD))


def _train_val(
    pictures: np.ndarray, labels: np.ndarray, val_size: int, seed: int
) -> tuple[TensorDataset, TensorDataset | None]:
    if val_size == 0:
        return TensorDataset(torch.from_numpy(pictures), torch.from_numpy(labels)), None
    train, val = (
        TensorDataset(torch.from_numpy(pictures[part]), torch.from_numpy(labels[part]))
        for part in stratified_split(labels, (val_size,), seed)
    )
    return train, val


def _find(root: str | None) -> Path:
    if root is not None:
        try:
            return Path(root).expanduser()
        except RuntimeError as error:  # a home that does not exist
            raise DataError(f"dataset.root={root}: {error}") from error
    user_folder = platformdirs.user_data_path("ptb") / "fashion-mnist"
    for folder in (user_folder, DEBIAN_FOLDER):
        if folder.is_dir():
            return folder
    raise DataError(
        "the files of fashion-mnist are not on this machine. Get them in one of two ways:\n"
        "  on Debian and Ubuntu: apt-get install dataset-fashion-mnist\n"
        f"  elsewhere: download the four .gz files from {PROJECT_PAGE} into {user_folder},\n"
        "  or into any folder and add dataset.root=FOLDER"
    )


def _read_pair(folder: Path, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    pictures_file = _file(folder, f"{prefix}-images-idx3-ubyte")
    labels_file = _file(folder, f"{prefix}-labels-idx1-ubyte")
    pictures = read_idx(pictures_file, dimensions=3)
    labels = read_idx(labels_file, dimensions=1)
    if len(pictures) != len(labels):
        raise DataError(f"{pictures_file} has {len(pictures)} pictures, {labels_file} has {len(labels)} labels")
    if labels.max() >= len(CLASS_NAMES):
        where = int(labels.argmax())
        raise DataError(f"{labels_file}: label {labels[where]} at place {where}; valid are 0 to {len(CLASS_NAMES) - 1}")
    return pictures[:, None], labels.astype(np.int64)  # (N, 1, H, W), (N,)


def _file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(
        f"{folder / name} is missing, and so is {name}.gz; dataset.root must be a folder with the four IDX files"
    )
