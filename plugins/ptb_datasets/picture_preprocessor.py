"""Turns pictures that a model has not seen into samples as training saw them."""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptb import DataError, DataSpec, Preprocessor, Sample
from ptb_datasets.folder_scan import Refused, Walk, files_in
from ptb_datasets.images import Normalize
from ptb_datasets.picture_cache import in_threads
from ptb_datasets.picture_file import BadPicture, pixels_of_array, planes, read_picture
from ptb_datasets.picture_form import Form

SOURCES = "a file, a folder, or a NumPy array of uint8 [H, W], [H, W, C] or [N, H, W, C]"


class PicturePreprocessor(Preprocessor):
    """Reads files, folders and arrays as the data sets of pictures read theirs."""

    def __init__(self) -> None:
        self.form: dict[str, Any] = {}
        self.mean: Any = 0.5
        self.std: Any = 0.5

    @classmethod
    def fit(cls, spec: DataSpec, form: Form, normalize: Normalize) -> "PicturePreprocessor":
        """One that makes pictures of this form and normalises them so."""
        made = cls()
        made.spec = spec
        made.form = {name: list(part) if isinstance(part, tuple) else part for name, part in form._asdict().items()}
        made.mean, made.std = (list(n) if isinstance(n, tuple) else n for n in (normalize.mean, normalize.std))
        return made

    @property
    def transform(self) -> Normalize:  # type: ignore[override]  # built from what is saved
        """``(inputs / 255 - mean) / std``."""
        mean, std = (tuple(n) if isinstance(n, list) else n for n in (self.mean, self.std))
        return Normalize(mean, std)

    def read(self, sources: Iterable[Any]) -> Iterator[Sample]:
        """Yields uint8 pictures ``[C, H, W]``, read by a thread for each core.

        A folder gives the files in it and in its folders; where one of these has the name of a class, that is the
        target. What cannot be used gives a sample with the reason.

        Args:
            sources: paths of files and folders, and NumPy arrays ``[H, W]``, ``[H, W, C]`` or ``[N, H, W, C]`` with the
                channels red, green, blue and perhaps opacity.
        """
        yield from in_threads(lambda read: read(), self._reads(sources))

    def _reads(self, sources: Iterable[Any]) -> Iterator[Callable[[], Sample]]:
        """What reads each of them, in order."""
        form = self._form()
        for number, source in enumerate(sources):
            if isinstance(source, np.ndarray):
                rows = source if source.ndim == 4 else source[None]
                for row, pixels in enumerate(rows):
                    yield partial(_sample, f"[{row if source.ndim == 4 else number}]", _of_array, pixels, form)
            elif not isinstance(source, str | os.PathLike):
                yield partial(Sample, f"[{number}]", error=f"is of type {type(source).__name__}; valid is {SOURCES}")
            elif os.path.isdir(path := str(Path(source))):
                yield from self._reads_of_folder(path, form)
            elif os.path.exists(path):
                yield partial(self._of_file, path, path, os.path.abspath(path), form)
            else:
                yield partial(Sample, path, error="is not there")

    def _reads_of_folder(self, path: str, form: Form) -> Iterator[Callable[[], Sample]]:
        refused: list[Refused] = []
        top = Path(path).resolve()
        try:
            files = files_in(Walk(top, recursive=True, follow_links=True), str(top), refused)
        except DataError as error:
            yield partial(Sample, path, error=str(error))
            return
        for file in files:
            name = os.path.relpath(file, top).replace(os.sep, "/")
            yield partial(self._of_file, f"{path}/{name}", file, f"{top.name}/{name}", form)
        for item in refused:
            yield partial(Sample, f"{path}/{os.path.relpath(item.path, top)}", error=item.reason)

    def _of_file(self, name: str, path: str, below: str, form: Form) -> Sample:
        sample = _sample(name, read_picture, path, form)
        return sample if sample.error else sample._replace(targets=self._target(below))

    def _target(self, name: str) -> Tensor | None:
        """The class whose folder a file is in; the outermost but the folder itself counts first."""
        classes = () if self.spec.positions else self.spec.class_names
        itself, *folders = name.split("/")[:-1]
        found = [folder for folder in (*folders, itself) if folder in classes]
        return torch.tensor(classes.index(found[0])) if found else None

    def _form(self) -> Form:
        parts: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in self.form.items()}
        return Form(**parts)


def _sample(name: str, read: Callable[..., np.ndarray], *arguments: Any) -> Sample:
    try:
        return Sample(name, torch.from_numpy(read(*arguments)))
    except BadPicture as error:
        return Sample(name, error=str(error))


def _of_array(pixels: np.ndarray, form: Form) -> np.ndarray:
    return planes(pixels_of_array(pixels, form), form)
