"""Turns pictures of one channel, from files and arrays, into samples as ``mnist``, ``digits`` and ``idx`` have them."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptb import DataError, DataSpec, Preprocessor, Sample
from ptb_datasets.array_targets import TargetForm, WrongTarget
from ptb_datasets.idx import read_idx, read_labels
from ptb_datasets.images import Normalize
from ptb_datasets.npy import BadNpy, map_npy, read_npz
from ptb_datasets.picture_file import SUFFIXES, BadPicture, Form, planes, read_picture

MAX_PIXELS = 64_000_000
DARK, BRIGHT = 0.4, 0.6  # means of pixels, of 1: training pictures below, and another picture above, are negatives


class GreyPreprocessor(Preprocessor):
    """Reads picture files and folders of them, ``.npy`` and IDX files and arrays: grey, stretched to the size.

    Nothing is inverted: where the training pictures are bright on dark, as MNIST's are, so must be these.
    """

    def __init__(self) -> None:
        self.mean = 0.0
        self.std = 1.0
        self.transposed = False
        self.target: dict[str, Any] = {}
        self.smoothing: float | None = None

    @classmethod
    def fit(
        cls,
        spec: DataSpec,
        normalize: Normalize,
        target: TargetForm,
        transposed: bool = False,
        smoothing: float | None = None,
    ) -> "GreyPreprocessor":
        """One for pictures that are normalised so.

        Args:
            spec: of the data set.
            normalize: what its ``transform`` is, with one mean and one standard deviation.
            target: how labels become targets.
            transposed: IDX files hold the pictures column by column.
            smoothing: what makes classes into distributions, if anything does.
        """
        mean, std = normalize.mean, normalize.std
        if isinstance(mean, tuple) or isinstance(std, tuple):
            raise ValueError("pictures of one channel have one mean and one standard deviation")
        made = cls()
        made.spec, made.mean, made.std = spec, mean, std
        made.transposed, made.target, made.smoothing = transposed, target.state(), smoothing
        return made

    @property
    def transform(self) -> Callable[[Tensor], Tensor]:  # type: ignore[override]  # follows from the state
        """``(pixels / 255 - mean) / std``."""
        return Normalize(self.mean, self.std)

    def describe(self) -> dict[str, Any]:
        """What is done to the pixels, for `ptb data show`."""
        said = f"pixels: (value / 255 - {self.mean:.4g}) / {self.std:.4g}"
        return {"transforms": ["rows and columns are exchanged", said] if self.transposed else [said]}

    def read(self, sources: Iterable[Any]) -> Iterator[Sample]:
        """Yield the samples of each source.

        A source is a picture file, a folder of them (a sub-folder with the name of a class gives the target), a
        ``.npy`` file or an array, uint8 ``[N, H, W]``, ``[N, 1, H, W]`` or one such picture, an IDX file, a dict
        ``{"inputs": ..., "targets": ...}`` of pictures and their labels, or a ``.npz`` file with arrays of these names.
        """
        warned = False
        for source in sources:
            for name, pixels, target in self._pictures(source):
                if not isinstance(pixels, np.ndarray):
                    yield Sample(name, error=pixels)
                    continue
                inputs = torch.from_numpy(pixels)
                if not warned and self.mean < DARK and pixels.mean() > 255 * BRIGHT:
                    warned = True
                    warnings.warn(
                        f"{name} is mostly bright, and the training pictures are mostly dark; nothing is inverted: "
                        "invert such pictures (255 - value) before you read them",
                        UserWarning,
                        stacklevel=2,
                    )
                yield Sample(name, inputs, *((None, target) if isinstance(target, str) else (target,)))

    def _pictures(self, source: Any) -> Iterator[tuple[str, np.ndarray | str, Tensor | str | None]]:
        """Names, and uint8 ``[1, H, W]`` or why there is none, and targets if there are any or what is wrong."""
        targets = source.get("targets") if isinstance(source, Mapping) else None
        source = source.get("inputs") if isinstance(source, Mapping) else source
        name = str(source) if isinstance(source, str | Path) else ""
        try:
            if name and (path := Path(source).expanduser()).is_dir():
                yield from self._folder(path)
            elif name and path.suffix.lower() in SUFFIXES:
                yield name, read_picture(path, self._form()), None
            else:
                if name.lower().endswith(".npz"):
                    source, targets = map(read_npz(path).get, ("inputs", "targets"))
                rows = self._rows(_array(source, self.transposed))
                labels = None if targets is None else _labels(targets)
                if labels is not None and len(labels) != len(rows):
                    raise ValueError(f"holds {len(rows)} pictures and {len(labels)} labels")
                for row, picture in enumerate(rows):
                    target = None if labels is None else self._target(labels[row : row + 1])
                    yield f"{name}[{row}]", planes(picture, self._form()).copy(), target
        except (BadNpy, BadPicture, DataError, ValueError, TypeError, OSError, RuntimeError) as error:
            yield name or "array", str(error), None

    def _folder(self, folder: Path) -> Iterator[tuple[str, np.ndarray | str, Tensor | str | None]]:
        names = self.spec.class_names
        for path in sorted(folder.rglob("*")):
            if "idx3" in path.name and path.parent == folder:  # as the files of MNIST are called
                yield from self._pictures(path)
            if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
                continue
            named = names.index(path.parent.name) if path.parent != folder and path.parent.name in names else None
            codes = self.target["codes"]
            label = None if named is None else np.array([codes[named] if codes else named])
            try:
                picture: np.ndarray | str = read_picture(path, self._form())
            except BadPicture as error:
                picture = str(error)
            yield str(path), picture, None if label is None else self._target(label)

    def _target(self, labels: np.ndarray) -> Tensor | str:
        try:
            encoded = torch.from_numpy(TargetForm(**self.target).encode(labels))
        except WrongTarget as error:
            return f"the label {error}"
        return (encoded if self.smoothing is None else smoothed(encoded, self.spec.target_size, self.smoothing))[0]

    def _form(self) -> Form:
        _, height, width = self.spec.input_shape
        return Form(height, width, colour=False, max_pixels=MAX_PIXELS)

    def _rows(self, values: np.ndarray) -> np.ndarray:
        """``[N, H, W]``."""
        if values.dtype != np.uint8:
            raise ValueError(f"holds {values.dtype}; pictures are uint8, 0 (black) to 255")
        if values.ndim == 2:
            values = values[None]
        if values.ndim == 4 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 3:
            raise ValueError(f"holds {list(values.shape)}; grey pictures are [N, H, W] or [N, 1, H, W]")
        return values


def smoothed(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Labels as distributions: ``1 - s`` on the class, and ``s / classes`` on every class (itself too).

    Label smoothing of Szegedy et al., 2016, arXiv:1512.00567, section 7.

    Args:
        labels: int64 ``[N]``.
        classes: how many there are.
        smoothing: s, above 0 and below 1.

    Returns:
        float32 ``[N, classes]``, rows sum to 1.
    """
    spread = torch.full((len(labels), classes), smoothing / classes, dtype=torch.float32)
    return spread.scatter_(1, labels[:, None], 1 - smoothing + smoothing / classes)


def _array(source: Any, transposed: bool) -> np.ndarray:
    if not isinstance(source, str | Path):
        return np.asarray(source)
    path = Path(source).expanduser()
    if path.suffix.lower() == ".npy":
        return map_npy(path)
    pictures = read_idx(path, dimensions=3)
    return pictures.transpose(0, 2, 1) if transposed else pictures


def _labels(source: Any) -> np.ndarray:
    if not isinstance(source, str | Path):
        return np.atleast_1d(np.asarray(source))
    path = Path(source).expanduser()
    return map_npy(path) if path.suffix.lower() == ".npy" else read_labels(path)
