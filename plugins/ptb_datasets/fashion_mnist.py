"""Pictures of clothes: the size of MNIST, but hard enough that a good network shows."""

from pathlib import Path

from ptb import DataBundle
from ptb_datasets.idx_pictures import Archive, IdxSet, load

FASHION_MNIST = IdxSet(
    name="fashion-mnist",
    class_names=(
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    mean=0.2860,
    std=0.3530,
    address="https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    archives=(
        Archive(
            "train-images-idx3-ubyte", 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
        ),
        Archive("train-labels-idx1-ubyte", 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        Archive("t10k-images-idx3-ubyte", 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
        Archive("t10k-labels-idx1-ubyte", 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
    ),
    package=(Path("/usr/share/datasets/fashion-mnist"), "dataset-fashion-mnist"),
)


def fashion_mnist(
    *, root: str | None = None, download: bool = False, val_size: int = 5000, split_seed: int = 0
) -> DataBundle:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747), from its four IDX files.

    Args:
        root: the folder with the files, each plain or with ``.gz``; without it, the user's data folder and the one of
            Debian's package ``dataset-fashion-mnist`` are searched.
        download: fetch the files that are missing, 31 MB, into ``root`` or the user's data folder.
        val_size: training pictures for validation, as many of each class; 0 makes no validation split.
        split_seed: chooses which these are.

    Returns:
        uint8 inputs ``[N, 1, 28, 28]``, int64 targets ``[N]`` in 0..9.

    Raises:
        DataError: the files are not there or cannot be fetched, are damaged, or do not belong together.
    """
    return load(FASHION_MNIST, root, download, val_size, split_seed)
