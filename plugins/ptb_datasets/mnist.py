"""Handwritten digits, the classic: to compare with what others report; nearly every network gets 98 % right."""

from ptb import DataBundle
from ptb_datasets.idx_pictures import Archive, IdxSet, load

MNIST = IdxSet(
    name="mnist",
    class_names=tuple("0123456789"),
    mean=0.1307,
    std=0.3081,
    address="https://storage.googleapis.com/cvdf-datasets/mnist/",
    archives=(
        Archive("train-images-idx3-ubyte", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        Archive("train-labels-idx1-ubyte", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        Archive("t10k-images-idx3-ubyte", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        Archive("t10k-labels-idx1-ubyte", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
)


def mnist(*, root: str | None = None, download: bool = False, val_size: int = 5000, split_seed: int = 0) -> DataBundle:
    """MNIST (LeCun, Bottou, Bengio and Haffner, 1998, doi:10.1109/5.726791), from its four IDX files.

    Args:
        root: the folder with the files, each plain or with ``.gz``; without it, the user's data folder is searched.
        download: fetch the files that are missing, 12 MB, into ``root`` or the user's data folder.
        val_size: training pictures for validation, as many of each class; 0 makes no validation split.
        split_seed: chooses which these are.

    Returns:
        uint8 inputs ``[N, 1, 28, 28]``, int64 targets ``[N]`` in 0..9.

    Raises:
        DataError: the files are not there or cannot be fetched, are damaged, or do not belong together.
    """
    return load(MNIST, root, download, val_size, split_seed)
